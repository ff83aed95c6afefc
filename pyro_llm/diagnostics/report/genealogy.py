"""The genealogy of one run as a tree of nodes: particles that wrote the same after the same ancestor are one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_llm.infer.posterior import Posterior

MAX_NODES = 4000
"""Of one run; beyond it the lightest branches of each step are drawn as one."""

MAX_LOG_ODDS = 40.0
"""Where rewards of exactly 0 and 1 are put."""

MAX_ANSWERS_OF_NODE = 4


@dataclass
class Genealogy:
    """Nodes in the order of their steps, in columns of equal length.

    Attributes:
        step: of the node.
        parent: index of the node before it, -1 at the first step.
        text: what its particles wrote at the step, an index into the report's texts; None if they wrote no text, or it
            was not kept.
        particles: how many the node stands for.
        weight: their share of the run's weight at the step, after its factor (of its particles, where weights were not
            kept). Sums to 1 in each step, unless the run is dead.
        survivors: how many particles of the final population descend from it; 0: it died out.
        final: the final weight of those, in a search their share. Sums to 1 in each step, unless the run is dead.
        reward: the log-odds of acceptance, or the log-factor, at the step; None where nothing was judged.
        idle: whether its particles wrote nothing at the step, having finished.
        leads_to: the answers of its descendants, as (index into the report's answers, final weight), heaviest first.
        rest: whether the node collects what is too light to be drawn by itself; then it has no text and no reward.
    """

    step: list[int] = field(default_factory=list)
    parent: list[int] = field(default_factory=list)
    text: list[int | None] = field(default_factory=list)
    particles: list[int] = field(default_factory=list)
    weight: list[float] = field(default_factory=list)
    survivors: list[int] = field(default_factory=list)
    final: list[float] = field(default_factory=list)
    reward: list[float | None] = field(default_factory=list)
    idle: list[bool] = field(default_factory=list)
    leads_to: list[list[tuple[int, float]]] = field(default_factory=list)
    rest: list[bool] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.step)


@dataclass(frozen=True)
class Labels:
    """What nodes are labelled by: indices of texts `[R, S, N]` (-1: none), of answers `[R, N]`; which text is empty."""

    texts: NDArray[np.int64] | None
    answers: NDArray[np.int64] | None
    empty: int


def rewards(posterior: Posterior) -> tuple[NDArray[np.float64], bool]:
    """The colour of each slot at each step, `[R, S, N]`, and whether it is a log-odds; else it is the log-factor.

    It is where particles are texts and every step observes 1 under probabilities, as `accept` does: log r / (1 - r) of
    the factor r.
    """
    factors = np.asarray(posterior.stats.log_factor, dtype=np.float64)
    accepted = posterior.has_texts and all(_accepts(posterior, name) for name in posterior.stats.names)
    if not accepted or not bool((factors <= 0).all()):
        return np.clip(np.nan_to_num(factors, neginf=-np.inf), -1e6, 1e6), False
    with np.errstate(divide="ignore"):
        log_odds = factors - np.log(-np.expm1(factors))
    return np.clip(log_odds, -MAX_LOG_ODDS, MAX_LOG_ODDS), True


def _accepts(posterior: Posterior, name: str) -> bool:
    value = posterior.observed.get(name)
    return value is not None and value.numel() > 0 and bool((value == 1).all())


def genealogy(
    posterior: Posterior, run: int, labels: Labels, colours: NDArray[np.float64], max_nodes: int = MAX_NODES
) -> Genealogy:
    """The tree of one run.

    Args:
        posterior: its `stats` have the ancestors of each step.
        run: which one.
        labels: indices of texts and answers. Without texts every particle is a node of its own.
        colours: what `rewards` gives.
        max_nodes: the most nodes with a branch of their own; the lightest are collected in one for each step.
    """
    stats, size = posterior.stats, posterior.num_particles
    final = np.full(size, 1 / size) if posterior.is_search else posterior.log_weights[run].exp().numpy()
    tree = Genealogy()
    before = np.full(size, -1)
    for step in range(stats.num_steps):
        parents = before if step == 0 else before[stats.ancestors[run, step - 1]]
        texts = np.full(size, -1) if labels.texts is None else labels.texts[run, step]
        slots = np.where(texts < 0, np.arange(size), -1)
        _, first, inverse = np.unique(np.stack([parents, texts, slots]), axis=1, return_index=True, return_inverse=True)
        order = np.argsort(first, kind="stable")
        node_of = np.argsort(order)[inverse.reshape(-1)]
        _add_step(tree, step, first[order], node_of, parents, texts, labels, colours[run, step])
        count = len(first)
        weights = np.full(size, 1 / size) if stats.log_weights is None else np.exp(stats.log_weights[run, step])
        tree.weight += _sums(node_of, weights, count)
        tree.particles += np.bincount(node_of, minlength=count).tolist()
        surviving = node_of[stats.lineages[run, step]]
        tree.survivors += np.bincount(surviving, minlength=count).tolist()
        tree.final += _sums(surviving, final, count)
        tree.leads_to += _answers(surviving, final, None if labels.answers is None else labels.answers[run], count)
        before = node_of + len(tree) - count
    return tree if len(tree) <= max_nodes else _pruned(tree, max_nodes)


def _add_step(
    tree: Genealogy,
    step: int,
    first: NDArray[Any],
    node_of: NDArray[Any],
    parents: NDArray[Any],
    texts: NDArray[Any],
    labels: Labels,
    colours: NDArray[np.float64],
) -> None:
    count = len(first)
    idle = (texts[first] == labels.empty) & (texts[first] >= 0)
    means = np.bincount(node_of, weights=colours, minlength=count) / np.bincount(node_of, minlength=count)
    tree.step += [step] * count
    tree.parent += parents[first].tolist()
    tree.text += [index if index >= 0 else None for index in texts[first].tolist()]
    tree.idle += idle.tolist()
    tree.reward += [None if quiet else float(mean) for quiet, mean in zip(idle, means, strict=True)]
    tree.rest += [False] * count


def _sums(groups: NDArray[Any], values: NDArray[np.float64], count: int) -> list[float]:
    return np.bincount(groups, weights=values, minlength=count).tolist()


def _answers(
    node_of: NDArray[Any], final: NDArray[np.float64], answers: NDArray[np.int64] | None, count: int
) -> list[list[tuple[int, float]]]:
    result: list[list[tuple[int, float]]] = [[] for _ in range(count)]
    if answers is None:
        return result
    width = int(answers.max()) + 1
    shares = np.bincount(node_of * width + answers, weights=final)
    for place in np.argsort(-shares, kind="stable"):
        if shares[place] <= 0:
            break
        if len(result[place // width]) < MAX_ANSWERS_OF_NODE:
            result[place // width].append((int(place % width), float(shares[place])))
    return result


def _pruned(tree: Genealogy, max_nodes: int) -> Genealogy:
    """The branches that ever grow heaviest, whole from their roots, and one node a step for all others."""
    reach = np.maximum(tree.weight, tree.final)
    for node in range(len(tree) - 1, -1, -1):
        if tree.parent[node] >= 0:
            reach[tree.parent[node]] = max(reach[tree.parent[node]], reach[node])
    kept = np.zeros(len(tree), dtype=bool)
    kept[np.argsort(-reach, kind="stable")[:max_nodes]] = True  # parents come before their equals among children
    result, place, rest = Genealogy(), {-1: -1}, -1
    steps = np.asarray(tree.step)
    for step in range(steps[-1] + 1):
        members = np.flatnonzero(steps == step)
        for node in members[kept[members]].tolist():
            place[node] = len(result)
            for name, column in vars(result).items():
                column.append(place[tree.parent[node]] if name == "parent" else getattr(tree, name)[node])
        others = members[~kept[members]].tolist()
        if others:
            _collect(tree, result, step, others, rest)
            rest = len(result) - 1
    return result


def _collect(tree: Genealogy, result: Genealogy, step: int, others: list[int], parent: int) -> None:
    result.step.append(step)
    result.parent.append(parent)
    result.text.append(None)
    result.reward.append(None)
    result.idle.append(False)
    result.rest.append(True)
    result.leads_to.append([])
    result.particles.append(sum(tree.particles[node] for node in others))
    result.survivors.append(sum(tree.survivors[node] for node in others))
    result.weight.append(sum(tree.weight[node] for node in others))
    result.final.append(sum(tree.final[node] for node in others))
