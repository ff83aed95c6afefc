"""How a posterior shows itself in a terminal and in a notebook."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

import numpy as np
import torch

from pyro_llm.answers import answer
from pyro_llm.infer.decision import tally_of_search
from pyro_llm.infer.markov_chains import Tempering
from pyro_llm.infer.posterior import Posterior
from pyro_llm.infer.runs import evidence_of_families, spread_is_known

MAX_ANSWERS = 5
MAX_RUNS = 8
MIN_PROBABILITY = 0.001
MAX_WIDTH = 60

NO_ANSWER = "(no answer)"


def to_text(posterior: Posterior) -> str:
    """A few plain lines: what ran, evidence, effective sample size, ancestry, answers, cost."""
    lines = [title(posterior)]
    for label, values in rows(posterior):
        for position, value in enumerate(values):
            lines.append(f"  {label if position == 0 else '':<14}{value}")
    return "\n".join(lines)


def to_html(posterior: Posterior) -> str:
    """The same as a table."""
    body = "".join(
        f"<tr><th style='text-align:left;vertical-align:top'>{escape(label)}</th>"
        f"<td style='text-align:left'>{'<br>'.join(escape(value) for value in values)}</td></tr>"
        for label, values in rows(posterior)
    )
    return f"<table><caption><b>{escape(title(posterior))}</b></caption><tbody>{body}</tbody></table>"


def title(posterior: Posterior) -> str:
    """Algorithm and size."""
    kind = "Search" if posterior.is_search else "Posterior"
    run = "run" if posterior.chains is None else "chain"
    particles = "particles" if posterior.chains is None or posterior.has_populations else "draws"
    runs = f"{posterior.num_runs} {run}{'s' if posterior.num_runs > 1 else ''}"
    algorithm = posterior.settings.get("algorithm", "inference")
    return f"{kind} by {algorithm}: {runs} × {posterior.num_particles} {particles}"


def rows(posterior: Posterior) -> list[tuple[str, list[str]]]:
    """Labelled lines of a summary."""
    table = _of_search(posterior) if posterior.is_search else _of_evidence(posterior)
    if posterior.has_populations or (posterior.chains is None and not posterior.is_search):
        table.append(("ESS", [f"{_by_run(posterior.ess().tolist(), '.1f', only=True)} of {posterior.num_particles}"]))
    elif posterior.chains is not None:
        table.append(("updates", _updates(posterior)))
        if posterior.chains.tempering is not None:
            table.append(("swaps", _swaps(posterior.chains.tempering)))
    stats = posterior.stats
    if stats.num_steps:
        done, times = "selected" if posterior.is_search else "resampled", _range(stats.resampled.sum(-1))
        table.append(("steps", [f"{stats.num_steps}, {done} after {times} of them"]))
        founders = _range(stats.unique_ancestors[:, 0])
        table.append(("ancestors", [f"{founders} of the {posterior.num_particles} first particles have descendants"]))
    if shows_answers(posterior):
        table.append(("answers", _answers(posterior)))
    sites = list(posterior.samples)
    table.append(
        ("sites", [shorten(", ".join(sites) if len(sites) < 4 else f"{sites[0]} … {sites[-1]} ({len(sites)})")])
    )
    table.append(("cost", [cost_line(posterior)]))
    if (stop := stop_line(posterior)) is not None:
        table.append(("stopped", [stop]))
    return table


def _of_evidence(posterior: Posterior) -> list[tuple[str, list[str]]]:
    return [
        ("log-evidence", [f"{posterior.pooled_log_evidence()}{_by_run(posterior.log_evidence.tolist(), '.2f')}"]),
        *([("runs", [note])] if (note := no_error_bars(posterior)) else []),
    ]


def _of_search(posterior: Posterior) -> list[tuple[str, list[str]]]:
    assert posterior.searched is not None
    table: list[tuple[str, list[str]]] = [("decides by", [posterior.searched.decides_by])]
    if posterior.searched.scores is not None:
        scores = posterior.scores
        table.append(("log-scores", [f"{float(scores.min()):.3g} to {float(scores.max()):.3g}"]))
    return table


def _updates(posterior: Posterior) -> list[str]:
    rates = {site: float(rate.mean()) for site, rate in posterior.update_rates().items()}
    if not rates or posterior.num_particles == 1:
        return ["none, for a single draw"]
    least = min(rates, key=rates.__getitem__)
    return [f"{rates[least]:.0%} of draws renew {shorten(least)}, other sites more often"]


def _swaps(tempering: Tempering) -> list[str]:
    rates = "  ".join("untried" if np.isnan(rate) else f"{rate:.0%}" for rate in tempering.swap_rates)
    trips = "  ".join(str(trips) for trips in tempering.round_trips[:MAX_RUNS])
    return [f"{rates} between {len(tempering.inverse_temperatures)} rungs", f"round trips by chain: {trips}"]


def shows_answers(posterior: Posterior) -> bool:
    """Whether there is an answer to each particle: it has one text, and some run is alive."""
    return (
        posterior.has_texts
        and posterior.written.single
        and (posterior.is_search or bool(posterior.log_evidence.isfinite().any()))
    )


def no_error_bars(posterior: Posterior) -> str | None:
    """Why there are no error bars although there are several runs, and what to do; None where there are."""
    if posterior.is_search:
        return "a search has no error bars" if posterior.num_runs > 1 else None
    families = evidence_of_families(posterior.pooling, posterior.stats.founders)
    if posterior.num_runs == 1 or spread_is_known(families):
        return None
    alive = int(families.isfinite().sum())
    if alive == 0:
        return None
    share = float(torch.softmax(families, 0).max())
    part = "all" if alive == 1 else "over 99 %" if share > 0.99 else f"{100 * share:.0f} %"
    if posterior.stats.num_exchanges:
        return f"the descendants of one run hold {part} of the evidence: error bars need more runs"
    return f"one run holds {part} of the evidence: error bars need more particles or runs"


def _answers(posterior: Posterior) -> list[str]:
    if posterior.is_search:
        return _tally(posterior)
    marginal = posterior.marginal(answer)
    shown = marginal.most_probable(MAX_ANSWERS, MIN_PROBABILITY)
    lines = [(label(value, 32), with_error(marginal[value], marginal.standard_errors[value])) for value in shown]
    if others := len(marginal) - len(shown):
        rest = 1 - sum(marginal[value] for value in shown)
        lines.append((f"{others} other{'s' if others > 1 else ''}", f"{max(rest, 0.0):.3f}"))
    width = max(len(text) for text, _ in lines)
    return [f"{text:<{width}}  {probability}" for text, probability in lines]


def _tally(posterior: Posterior) -> list[str]:
    tally = tally_of_search(posterior, answer)
    lines = [(label(value, 32), with_error(np.exp(log), np.nan)) for value, log in [*tally.items()][:MAX_ANSWERS]]
    if others := len(tally) - len(lines):
        lines.append((f"{others} other{'s' if others > 1 else ''}", ""))
    width = max(len(text) for text, _ in lines)
    return [f"{text:<{width}}  {amount}".rstrip() for text, amount in lines]


def label(value: Any, width: int = MAX_WIDTH) -> str:
    """A value in one short line; None is an absent answer."""
    return NO_ANSWER if value is None else shorten(str(value), width)


def shorten(text: str, width: int = MAX_WIDTH) -> str:
    """A text in one line of at most `width` characters, unprintable ones replaced."""
    line = "".join(character if character.isprintable() else "�" for character in " ".join(text.split()))
    return line if len(line) <= width else line[: width - 1] + "…"


def with_error(value: float, standard_error: float, digits: int = 3) -> str:
    """A number with its standard error, if there is one."""
    return f"{value:.{digits}f}" + ("" if np.isnan(standard_error) else f" ± {standard_error:.{digits}f}")


def cost_line(posterior: Posterior) -> str:
    """What was spent, as a sentence."""
    cost = posterior.cost
    parts = []
    if cost.lm_calls or cost.lm_tokens_sampled:
        parts.append(f"{cost.lm_tokens_sampled:,} tokens sampled, {cost.lm_tokens_forwarded:,} forwarded")
    if cost.reward_calls:
        tokens = f" ({cost.reward_tokens:,} tokens)" if cost.reward_tokens else ""
        parts.append(f"{cost.reward_calls:,} reward call{'s' if cost.reward_calls != 1 else ''}{tokens}")
    if held := max(cost.peak_memory_bytes, cost.peak_device_bytes):
        parts.append(f"{'device ' if cost.peak_device_bytes else ''}memory {_bytes(held)}")
    return "; ".join([*parts, f"{cost.seconds:.1f} s"])


def stop_line(posterior: Posterior) -> str | None:
    """What ended the run before its end; None if nothing did."""
    item = posterior.stopped_by
    if item is None:
        return None
    if item == "reward":
        return "a reward failed: this is what there was before"
    return f"the budget of {posterior.settings['budget'][item]:,} {item.replace('_', ' ')} is spent"


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _by_run(values: list[float], form: str, only: bool = False) -> str:
    if len(values) == 1:
        return f"{values[0]:{form}}" if only else ""
    shown = "  ".join(f"{value:{form}}" for value in values[:MAX_RUNS]) + ("  …" if len(values) > MAX_RUNS else "")
    return shown if only else f"   by run: {shown}"


def _range(counts: Iterable[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high}"
