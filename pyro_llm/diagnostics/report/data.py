"""What a report says of a posterior, as plain data: numbers and strings, nothing of their presentation."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from pyro_llm.answers import answer
from pyro_llm.diagnostics.display import MIN_PROBABILITY, NO_ANSWER, cost_line, no_error_bars, shows_answers
from pyro_llm.diagnostics.report.genealogy import Genealogy, Labels, genealogy, rewards
from pyro_llm.diagnostics.report.sites import SiteSummary, site_summaries
from pyro_llm.infer.decision import tally_of_search
from pyro_llm.infer.posterior import Posterior
from pyro_llm.infer.readings import LogEvidence

MAX_ANSWERS = 8
MAX_RUNS = 16
"""Runs whose genealogy is drawn: those of most evidence."""


@dataclass(frozen=True)
class Answer:
    """An answer, its posterior probability and, where runs give one, its 95 % interval.

    Of a search, which gives no probabilities, the share of the particles that have it, and the logarithm of what it
    comes to by the rule of the search.
    """

    label: str
    probability: float
    low: float | None
    high: float | None
    log_score: float | None = None


@dataclass(frozen=True)
class Trouble:
    """A finding: its name and severity, what is wrong, what to change, and the figure with its threshold."""

    name: str
    severity: str
    what: str
    change: str
    figure: float | None
    threshold: float | None


@dataclass(frozen=True)
class Verdict:
    """What `Posterior.diagnose` finds: the most serious first, and the figures it looked at, None where unknown."""

    healthy: bool
    findings: list[Trouble]
    figures: dict[str, float | None]


@dataclass(frozen=True)
class Course:
    """What each run recorded at each step, `[R][S]`; nothing of a run that recorded no steps."""

    names: list[str]
    ess: list[list[float]]
    log_evidence: list[list[float | None]]
    unique_ancestors: list[list[int]]
    resampled: list[list[bool]]
    threshold: float | None


@dataclass(frozen=True)
class Tree:
    """The genealogy of a run, with the share of the pooled posterior that the run has."""

    run: int
    share: float
    nodes: Genealogy


@dataclass(frozen=True)
class ReportData:
    """All that the page shows.

    Attributes:
        algorithm: its name.
        num_runs: R.
        num_particles: N.
        decides_by: the rule of a search; None of a posterior with weights.
        is_chain: whether runs are Markov chains and particles their draws.
        prompt: what was asked; None if unknown.
        answers: the most probable ones; of a search the best, the first being its decision.
        other_answers: how many more there are, and their probability together.
        note: why there are no intervals although there are several runs.
        verdict: of the diagnostics.
        sites: summaries of sites that are numbers.
        log_evidence: pooled, with its standard error if runs give one; None, None of a search.
        ess: effective sample size of the final weights by run; empty for Markov chains and searches.
        course: by step.
        trace: log joint density of each draw of each Markov chain.
        trees: one for each run that is drawn.
        no_tree: why there is none.
        texts: the texts that nodes refer to.
        node_answers: the answers that nodes refer to.
        colour: `"log-odds"` or `"log-factor"`.
        exact_widths: whether weights at each step were kept; else nodes show shares of particles.
        cost: a sentence.
        costs: what was counted.
        settings: by name, as text.
    """

    algorithm: str
    num_runs: int
    num_particles: int
    decides_by: str | None
    is_chain: bool
    prompt: str | None
    answers: list[Answer]
    other_answers: tuple[int, float]
    note: str | None
    verdict: Verdict
    sites: list[SiteSummary]
    log_evidence: tuple[float | None, float | None]
    ess: list[float]
    course: Course
    trace: list[list[float | None]]
    trees: list[Tree]
    no_tree: str | None
    texts: list[str]
    node_answers: list[str]
    colour: str
    exact_widths: bool
    cost: str
    costs: dict[str, float]
    settings: dict[str, str] = field(default_factory=dict)


def report_data(posterior: Posterior) -> ReportData:
    """Read a posterior for its report."""
    weighted = not posterior.is_search
    alive = weighted and bool(posterior.log_evidence.isfinite().any())
    answers, others = _answers(posterior) if shows_answers(posterior) else ([], (0, 0.0))
    trees, texts, node_answers, colour = _trees(posterior) if posterior.stats.num_steps else ([], [], [], "log-factor")
    evidence = posterior.pooled_log_evidence() if weighted else LogEvidence(math.nan, math.nan)
    chains = posterior.chains is not None
    return ReportData(
        algorithm=str(posterior.settings.get("algorithm", "inference")),
        num_runs=posterior.num_runs,
        num_particles=posterior.num_particles,
        decides_by=None if posterior.searched is None else posterior.searched.decides_by,
        is_chain=chains,
        prompt=posterior.written.prompt if posterior.has_texts else None,
        answers=answers,
        other_answers=others,
        note=no_error_bars(posterior) if alive or not weighted else "every run is dead: there is no posterior",
        verdict=_verdict(posterior),
        sites=site_summaries(posterior) if alive else [],
        log_evidence=(_finite(evidence.estimate), _finite(evidence.standard_error)),
        ess=posterior.ess().tolist() if weighted and not chains else [],
        course=_course(posterior),
        trace=[[_finite(value) for value in row] for row in posterior.lp.tolist()] if chains else [],
        trees=trees,
        no_tree=_no_tree(posterior),
        texts=texts,
        node_answers=node_answers,
        colour=colour,
        exact_widths=posterior.stats.log_weights is not None,
        cost=cost_line(posterior),
        costs={name: value for name, value in vars(posterior.cost).items() if isinstance(value, int | float)},
        settings=dict(_flat(posterior.settings)),
    )


def _verdict(posterior: Posterior) -> Verdict:
    diagnosis = posterior.diagnose()
    findings = [
        Trouble(each.name, each.severity, each.what, each.change, _finite(each.figure), _finite(each.threshold))
        for each in diagnosis
    ]
    return Verdict(diagnosis.healthy, findings, {name: _finite(value) for name, value in diagnosis.figures.items()})


def _answers(posterior: Posterior) -> tuple[list[Answer], tuple[int, float]]:
    if posterior.is_search:
        return _answers_of_search(posterior)
    marginal = posterior.marginal(answer)
    shown = marginal.most_probable(MAX_ANSWERS, MIN_PROBABILITY)
    rows = []
    for value in shown:
        low, high = marginal.interval(value) or (None, None)
        rows.append(Answer(_name(value), marginal[value], low, high))
    return rows, (len(marginal) - len(shown), max(0.0, 1 - sum(row.probability for row in rows)))


def _answers_of_search(posterior: Posterior) -> tuple[list[Answer], tuple[int, float]]:
    votes = Counter(answer(text) for text in posterior.texts.flat)
    tally = tally_of_search(posterior, answer)
    best_first = sorted(tally, key=lambda value: value is None)  # no answer is no decision while there is one
    rows = [
        Answer(_name(value), votes[value] / votes.total(), None, None, _finite(tally[value]))
        for value in best_first[:MAX_ANSWERS]
    ]
    return rows, (len(tally) - len(rows), max(0.0, 1 - sum(row.probability for row in rows)))


def _name(value: Any) -> str:
    return NO_ANSWER if value is None else str(value)


def _course(posterior: Posterior) -> Course:
    stats, threshold = posterior.stats, posterior.settings.get("ess_threshold")
    evidence = np.cumsum(stats.log_evidence_increment, axis=1)
    below = threshold if isinstance(threshold, int | float) and 0 < threshold <= 1 else None
    return Course(
        names=list(stats.names),
        ess=[] if posterior.is_search else np.nan_to_num(stats.ess).tolist(),
        log_evidence=[[_finite(value) for value in row] for row in evidence.tolist()],
        unique_ancestors=stats.unique_ancestors.tolist(),
        resampled=stats.resampled.tolist(),
        threshold=None if below is None else below * posterior.num_particles,
    )


def _trees(posterior: Posterior) -> tuple[list[Tree], list[str], list[str], str]:
    stats = posterior.stats
    index: dict[str, int] = {"": 0}
    texts = None
    if stats.texts is not None:
        texts = _indexed(stats.texts.values, index)
    elif posterior.has_texts and posterior.written.single:  # known of the last step alone, and then whole
        texts = np.full((posterior.num_runs, stats.num_steps, posterior.num_particles), -1)
        texts[:, -1] = _indexed(posterior.texts, index)
    known: dict[str, int] = {}
    answers = None
    if shows_answers(posterior):
        distinct = {text: answer(text) for text in dict.fromkeys(posterior.texts.flat)}
        named = {text: _name(value) for text, value in distinct.items()}
        answers = np.array([known.setdefault(named[text], len(known)) for text in posterior.texts.flat])
        answers = answers.reshape(posterior.texts.shape)
    colours, are_log_odds = rewards(posterior)
    pooling = torch.zeros(posterior.num_runs) if posterior.is_search else posterior.pooling
    shares = np.nan_to_num(pooling.softmax(0).numpy())
    runs = sorted(np.argsort(-shares, kind="stable")[:MAX_RUNS].tolist())
    labels = Labels(texts, answers, index[""])
    trees = [Tree(run, float(shares[run]), genealogy(posterior, run, labels, colours)) for run in runs]
    return trees, list(index), list(known), "log-odds" if are_log_odds else "log-factor"


def _indexed(texts: np.ndarray, index: dict[str, int]) -> np.ndarray:
    return np.array([index.setdefault(text, len(index)) for text in texts.flat]).reshape(texts.shape)


def _no_tree(posterior: Posterior) -> str | None:
    if posterior.stats.num_steps:
        return None
    if posterior.chains is not None:
        return (
            "The draws are successive states of Markov chains, one chosen from each sweep. The populations of the "
            "sweeps are not kept, so there is no genealogy to draw."
        )
    return (
        "No step was recorded (no observed sites, or draws that were resampled afterwards), so there is no genealogy."
    )


def _flat(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((prefix + str(name), "none" if value is None else str(value)))
    return rows


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
