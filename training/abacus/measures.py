"""Measures of classification and calibration, on plain lists."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence


def auc(scores: Sequence[float], labels: Sequence[int]) -> float:
    """Probability that a random 1 has a higher score than a random 0 (ties count half)."""
    order = sorted(range(len(scores)), key=scores.__getitem__)
    ranks, i = [0.0] * len(order), 0
    while i < len(order):
        j = i
        while j + 1 < len(order) and scores[order[j + 1]] == scores[order[i]]:
            j += 1
        for k in range(i, j + 1):
            ranks[order[k]] = (i + j) / 2 + 1
        i = j + 1
    ones = sum(labels)
    total = sum(rank for rank, label in zip(ranks, labels, strict=True) if label)
    return (total - ones * (ones + 1) / 2) / (ones * (len(labels) - ones))


def paired_auc(groups: Iterable[tuple[Sequence[float], Sequence[int]]]) -> float:
    """The AUC over pairs of the same group only: the mean of the groups' AUCs, weighted by their numbers of pairs."""
    total = pairs = 0.0
    for scores, labels in groups:
        here = sum(labels) * (len(labels) - sum(labels))
        if here:
            total, pairs = total + here * auc(scores, labels), pairs + here
    return total / pairs


def brier(probabilities: Sequence[float], labels: Sequence[int]) -> float:
    """Mean squared error of the probabilities."""
    return mean([(p - y) ** 2 for p, y in zip(probabilities, labels, strict=True)])


def reliability(probabilities: Sequence[float], labels: Sequence[int], bins: int = 10) -> list[dict[str, float]]:
    """For each bin of equal width: its bounds, how many, their mean probability and their share of ones."""
    table = []
    for b in range(bins):
        inside = [i for i, p in enumerate(probabilities) if min(int(p * bins), bins - 1) == b]
        if inside:
            row = {"from": b / bins, "to": (b + 1) / bins, "count": len(inside)}
            row["predicted"] = mean([probabilities[i] for i in inside])
            row["observed"] = mean([labels[i] for i in inside])
            table.append(row)
    return table


def calibration_error(table: list[dict[str, float]]) -> float:
    """Expected calibration error: the bins' distances from the diagonal, weighted by their counts."""
    total = sum(row["count"] for row in table)
    return sum(row["count"] * abs(row["predicted"] - row["observed"]) for row in table) / total


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)


def with_error(values: Sequence[float]) -> dict[str, float]:
    """Mean, its standard error over independent values (problems), and their number."""
    centre = mean(values)
    spread = math.sqrt(sum((v - centre) ** 2 for v in values) / max(1, len(values) - 1))
    return {"mean": centre, "standard_error": spread / math.sqrt(len(values)), "problems": len(values)}
