"""Every combination of variant, algorithm, budget and seed that a study runs, and the key of each result."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from pyro_llm.budget import Budget
from pyro_llm.errors import OptionError, StudyConfigError
from pyro_llm.prices import Prices
from pyro_llm.study.advice import unknown
from pyro_llm.study.algorithms import check_spec, make_algorithm, parameters
from pyro_llm.study.config import AlgorithmSpec, StudyConfig, program_of
from pyro_llm.study.dry_program import dry_program
from pyro_llm.study.problem import Problem
from pyro_llm.study.split import SIZES, DoesNotFit, sizes_for, warmup_of
from pyro_llm.study.variants import resolve_variants
from pyro_llm.study.words import counted


@dataclass(frozen=True)
class Setting:
    """The program of a variant, and how what comes out of it is judged.

    Attributes:
        lm: what `load_lm` is given, its name under `"load"`.
        reward: what `load_reward` is given, likewise.
        program: options of `ReasoningSSM`.
        answer: the name of what reads off an answer.
        grader: the name of what judges it.
    """

    lm: dict[str, Any]
    reward: dict[str, Any]
    program: dict[str, Any]
    answer: str
    grader: str


@dataclass(frozen=True)
class Cell:
    """One algorithm with one budget and one seed, in one variant: what is run on every problem.

    Attributes:
        variant: its label.
        algorithm: its label.
        kind: of the budget.
        budget: its size.
        seed: of the repetition.
        method: the algorithm's name in `pyro_llm.infer`.
        options: what it is made with.
        setting: the program.
        prices: of a budget in dollars.
        decide: how the answer is chosen, if not as the algorithm does.
    """

    variant: str
    algorithm: str
    kind: str
    budget: float
    seed: int
    method: str
    options: dict[str, Any]
    setting: Setting
    prices: dict[str, float] | None = None
    decide: str | None = None

    @cached_property
    def _identity(self) -> str:
        parts = asdict(self)
        if self.decide is None:  # rows from before there was a choice keep their keys
            del parts["decide"]
        return json.dumps(parts, sort_keys=True)

    def key(self, problem: Problem) -> str:
        """Names the result on a problem: another for whatever it depends on."""
        return _digest(self._identity, json.dumps(asdict(problem), sort_keys=True))

    def seed_of(self, problem: Problem) -> int:
        """The seed of torch's generator: that of the repetition and the problem, shared by all algorithms."""
        return int(_digest(str(self.seed), problem.source_id)[:8], 16)

    @property
    def limit(self) -> Budget | None:
        """What `budget=` of the algorithm is; None for generations, which its sizes make."""
        return None if self.kind == "generations" else make_budget(self.kind, self.budget, self.prices)

    @property
    def weight(self) -> float:
        """How much work it is beside the others, roughly: its population."""
        sizes = [size for name in SIZES if isinstance(size := self.options.get(name), int)]
        return float(self.budget if self.kind == "generations" else max(sizes, default=1))


@dataclass(frozen=True)
class Skipped:
    """A combination that is not run.

    Attributes:
        variant: its label.
        algorithm: its label.
        kind: of the budget.
        budget: its size.
        reason: why not.
    """

    variant: str
    algorithm: str
    kind: str
    budget: float
    reason: str


def skipped_in_words(skipped: Iterable[Skipped], variants: Collection[str] = ()) -> list[str]:
    """A sentence for each algorithm: the budgets that it was not run with, and why not with the largest of them.

    Variants that one sentence is true of share it; it names them, unless it is true of all variants of the study.

    Args:
        skipped: the combinations.
        variants: the labels of all variants.

    Examples:
        >>> skipped_in_words([Skipped("", "PG", "generations", n, f"{n:g} is odd.") for n in (1.0, 3.0, 5.0)])
        ['PG was not run with 1, 3 and 5 generations: 5 is odd.']
        >>> odd = [Skipped(variant, "PG", "generations", 1.0, "1 is odd.") for variant in ("a", "b")]
        >>> skipped_in_words(odd, ["a", "b"]) + skipped_in_words(odd, ["a", "b", "c"])
        ['PG was not run with 1 generation: 1 is odd.', 'a, b: PG was not run with 1 generation: 1 is odd.']
    """
    grouped: dict[tuple[str, str, str], list[Skipped]] = defaultdict(list)
    for one in skipped:
        grouped[one.variant, one.algorithm, one.kind].append(one)
    told: dict[str, list[str]] = defaultdict(list)
    for (variant, algorithm, kind), some in grouped.items():
        largest = max(some, key=lambda one: one.budget)
        budgets = [f"{budget:g}" for budget in sorted({one.budget for one in some})]
        listed = f"{', '.join(budgets[:-1])} and {budgets[-1]} {kind}" if budgets[1:] else counted(largest.budget, kind)
        told[f"{algorithm} was not run with {listed}: {largest.reason.rstrip('.')}."].append(variant)
    return [
        sentence if set(those) >= set(variants) else f"{', '.join(those)}: {sentence}"
        for sentence, those in told.items()
    ]


def make_budget(kind: str, size: float, prices: dict[str, float] | None) -> Budget:
    """A budget of one kind.

    Raises:
        OptionError: there is no such budget.
    """
    limit = int(size) if size == int(size) and kind not in ("seconds", "dollars") else size
    table = None if prices is None else Prices(**prices)
    return Budget(**{kind: limit}, prices=table)  # type: ignore[arg-type]


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def make_grid(config: StudyConfig) -> tuple[list[Cell], list[Skipped]]:
    """All cells of a study, and the combinations that do not fit.

    Every algorithm is made once with each budget, so that what is wrong with its options is found now.

    Raises:
        StudyConfigError: an algorithm or an option is unknown, an algorithm fits no budget at all, or two budgets or
            seeds are the same.
    """
    cells: list[Cell] = []
    skipped: list[Skipped] = []
    for variant, resolved in resolve_variants(config).items():
        for label, spec in resolved.algorithms.items():
            found, misfits = _of_algorithm(variant, label, spec, resolved)
            cells += found
            skipped += misfits
    if config.reference is not None and config.reference not in config.algorithms:
        raise StudyConfigError(f"reference: {unknown('algorithm', config.reference, config.algorithms)}")
    if (named := config.reference_variant) is not None and named not in config.variants:
        why = unknown("variant", named, config.variants) if config.variants else "the study has no variants."
        raise StudyConfigError(f"reference_variant: {why}")
    if len({cell._identity for cell in cells}) < len(cells):
        raise StudyConfigError("Two combinations are the same: a budget or a seed is given twice.")
    return cells, skipped


def _of_algorithm(
    variant: str, label: str, spec: AlgorithmSpec, config: StudyConfig
) -> tuple[list[Cell], list[Skipped]]:
    place = f"algorithms: {label}: " if not variant else f"variants: {variant}: algorithms: {label}: "
    cells, skipped = [], []
    try:
        check_spec(spec)
        program = program_of(spec, config)
        setting = _setting(config, program)
        for kind, sizes in config.budgets.items():
            prices = config.prices if kind == "dollars" else None
            for size in sizes:
                _check_budget(kind, size, prices)
                try:
                    options = options_for(spec, kind, size, dict(program))
                except (DoesNotFit, OptionError) as misfit:
                    skipped.append(Skipped(variant, label, kind, size, str(misfit)))
                    continue
                cells += [
                    Cell(variant, label, kind, size, seed, spec.algorithm, options, setting, prices, spec.decide)
                    for seed in config.seeds
                ]
    except StudyConfigError as error:
        raise StudyConfigError(place + str(error)) from error
    if not cells:
        reasons = "; ".join(dict.fromkeys(one.reason.rstrip(".") for one in skipped))
        raise StudyConfigError(f"{place}it fits no budget of the study: {reasons}.")
    return cells, skipped


def _check_budget(kind: str, size: float, prices: dict[str, float] | None) -> None:
    try:
        make_budget(kind, size, prices)
    except OptionError as error:
        raise StudyConfigError(f"budgets: {error}") from error


def options_for(spec: AlgorithmSpec, kind: str, size: float, program: dict[str, Any]) -> dict[str, Any]:
    """All options of an algorithm that is to spend a budget on a program with its own options.

    Raises:
        DoesNotFit: it cannot.
        OptionError: an option has a value that it cannot have, in itself or with this budget.
        StudyConfigError: the entry does not say enough.
    """
    algorithm = check_spec(spec)
    names = parameters(algorithm)
    sizes = [name for name in names if name in SIZES]
    known = inspect.signature(algorithm).parameters
    if kind == "generations":
        found = sizes_for(int(size), sizes, spec.split, spec.options, warmup_of(known, spec.options))
    else:
        found = spec.split
        missing = [name for name in sizes if known[name].default is inspect.Parameter.empty and name not in found]
        if missing:
            raise StudyConfigError(
                f"a budget in {kind} does not say how large the algorithm is: give {' and '.join(missing)} in split, "
                "large enough that the budget ends it."
            )
    options = {**spec.options, **found}
    make_algorithm(spec.algorithm, dry_program(program), options)
    return options


def _setting(config: StudyConfig, program: Any) -> Setting:
    dumped = config.model_dump(mode="json") | {"program": program.model_dump(mode="json")}
    return Setting(*(dumped[name] for name in ("lm", "reward", "program", "answer", "grader")))


def keys_of(cells: Sequence[Cell], problems: Sequence[Problem]) -> set[str]:
    """The keys of all results of a study."""
    return {cell.key(problem) for cell in cells for problem in problems}
