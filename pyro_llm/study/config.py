"""What a study is: problems, algorithms, budgets and seeds, from a YAML file or from options."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_type_hints

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    create_model,
    field_validator,
    model_serializer,
    model_validator,
)

from pyro_llm.errors import PyroLLMError, StudyConfigError
from pyro_llm.lm.decoding import Decoding
from pyro_llm.models import ReasoningSSM
from pyro_llm.prices import Prices
from pyro_llm.study.advice import faults, unknown
from pyro_llm.study.deciding import Decide
from pyro_llm.study.dry_program import dry_program

BudgetKind = Literal[
    "generations", "lm_tokens", "lm_tokens_sampled", "lm_tokens_forwarded", "reward_tokens", "reward_calls", "seconds",
    "dollars",
]  # fmt: skip


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSpec(BaseModel):
    """A language model or a reward: what is loaded, and the options of `load_lm` or `load_reward`.

    Attributes:
        load: the name.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    load: str

    @property
    def options(self) -> dict[str, Any]:
        """All but the name."""
        return dict(self.model_extra or {})


_Size = Annotated[int, Field(ge=1)]


class AlgorithmSpec(BaseModel):
    """An algorithm with its options.

    Attributes:
        algorithm: its name in `pyro_llm.infer`.
        split: how a budget is divided: sizes such as `num_particles` that are fixed; what remains of the budget goes
            to the size that is not. A list of particles is a schedule, scaled to the budget.
        decide: how its answer is chosen, see `pyro_llm.study.deciding`; None: as `Posterior.decision` does.
        program: options of the program that it has in place of the study's.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    algorithm: str
    split: dict[str, _Size | Annotated[list[_Size], Field(min_length=1)]] = Field(default_factory=dict)
    decide: Decide | None = None
    program: dict[str, Any] = Field(default_factory=dict)

    @model_serializer(mode="wrap")
    def _as_written(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        dumped: dict[str, Any] = serialize(self)
        return {name: value for name, value in dumped.items() if name not in ("decide", "program") or value}

    @property
    def options(self) -> dict[str, Any]:
        """The options of the algorithm as they are written."""
        return dict(self.model_extra or {})


def _program_fields() -> dict[str, Any]:
    hints = get_type_hints(ReasoningSSM)
    not_in_yaml = ("lm", "reward", "observe")
    fields = [field for field in dataclasses.fields(ReasoningSSM) if field.name not in not_in_yaml]
    return {field.name: (hints[field.name], field.default) for field in fields}


ProgramSpec: type[BaseModel] = create_model("ProgramSpec", __base__=_Part, **_program_fields())
"""The options of `ReasoningSSM`."""


def _by_name(value: Any) -> Any:
    return {"load": value} if isinstance(value, str) else value


Model = Annotated[ModelSpec, BeforeValidator(_by_name)]


class StudyConfig(_Part):
    """A study.

    Attributes:
        name: of the study, and of the folder of its results where no other is given.
        problems: their source, see `load_problems`.
        lm: the language model, by name or as `{load: name, ...}` with options of `load_lm`.
        reward: the same for the reward.
        program: options of `ReasoningSSM`.
        answer: how a text's answer is read off, see `load_answer`.
        grader: what judges a decision, see `load_grader`; None: what fits the source of the problems.
        algorithms: by the label that they are to have.
        budgets: sizes by kind.
        seeds: of the repetitions.
        variants: by label, other values of the parts above that each is the study of in turn: `{noisy: {reward: ...}}`.
            Mappings are merged; null takes an entry away.
        concurrent: how many problems one process works on at a time. More is quicker where populations are small; a
            row then depends in its last digits, and in its share of common passes, on what ran beside it. Not with
            budgets of time (seconds, or dollars by the hour): a run would be stopped by the time of the others.
        reference: the label of the algorithm that the others are held against; the first one if None.
        reference_variant: the label of the variant that the others are held against; the first one if None.
        prices: those of `Prices`; they give the costs in dollars, and budgets in dollars need them.
    """

    name: str = Field(default="study", pattern=r"^[\w][\w .+-]*$")
    problems: dict[str, Any] = Field(default_factory=lambda: {"set": "abacus"})
    lm: Model = ModelSpec(load="abacus")
    reward: Model = ModelSpec(load="abacus")
    program: ProgramSpec = Field(default_factory=ProgramSpec)  # type: ignore[valid-type]
    answer: str = "answer"
    grader: str = "same-answer"
    algorithms: dict[str, AlgorithmSpec] = Field(min_length=1)
    budgets: dict[BudgetKind, Annotated[list[float], Field(min_length=1)]] = Field(min_length=1)
    seeds: list[Annotated[int, Field(ge=0)]] = Field(default=[0], min_length=1)
    variants: dict[str, dict[str, Any]] = Field(default_factory=dict)
    concurrent: int = Field(default=1, ge=1)
    reference: str | None = None
    reference_variant: str | None = None
    prices: dict[str, float] | None = None

    @field_validator("budgets")
    @classmethod
    def _sizes(cls, budgets: dict[str, list[float]]) -> dict[str, list[float]]:
        for kind, sizes in budgets.items():
            if any(not 0 < size < float("inf") for size in sizes):
                raise ValueError(f"{kind}: budgets are greater than 0, not {sizes}")
            if kind == "generations" and any(size != int(size) for size in sizes):
                raise ValueError(f"generations are whole numbers, not {sizes}")
        return budgets

    @field_validator("program")
    @classmethod
    def _can_be_run(cls, program: Any) -> Any:
        check_program(program)
        return program

    @field_validator("prices")
    @classmethod
    def _are_prices(cls, prices: dict[str, float] | None) -> dict[str, float] | None:
        for name in prices or ():
            if name not in Prices.__dataclass_fields__:
                raise ValueError(unknown("price", name, Prices.__dataclass_fields__))
        if prices is not None:
            Prices(**prices)
        return prices

    @model_validator(mode="after")
    def _times_are_of_one_problem(self) -> Self:
        by_the_clock = [kind for kind in self.budgets if kind == "seconds" or (kind == "dollars" and self._by_the_hour)]
        if by_the_clock and self.concurrent > 1:
            raise ValueError(
                f"budgets: {by_the_clock[0]}: with concurrent: {self.concurrent} a run's clock goes on while those "
                "beside it are worked on, so that it would be stopped by their time; give concurrent: 1 to a study "
                "whose budgets are times"
            )
        return self

    @property
    def _by_the_hour(self) -> bool:
        return bool((self.prices or {}).get("hour"))

    @property
    def price_table(self) -> Prices | None:
        """The prices, if there are any."""
        return None if self.prices is None else Prices(**self.prices)


def check_program(program: Any) -> None:
    """Raise PyroLLMError or ValueError for a `ProgramSpec` with which no program can be run."""
    options = dict(program)
    dry_program(options)
    Decoding(**{field.name: options[field.name] for field in dataclasses.fields(Decoding)})


def program_of(spec: AlgorithmSpec, config: StudyConfig) -> Any:
    """The options of the program under an algorithm: the study's, with those that the algorithm has of its own.

    Raises:
        StudyConfigError: there is no such option, or it has a value that it cannot have.
    """
    program: Any = config.program
    if not spec.program:
        return program
    try:
        program = ProgramSpec.model_validate({**program.model_dump(), **spec.program})
        check_program(program)
    except ValidationError as error:
        raise StudyConfigError(f"program: {faults(error, ProgramSpec)}") from error
    except (PyroLLMError, ValueError) as error:
        raise StudyConfigError(f"program: {error}") from error
    return program


def parse_config(raw: Mapping[str, Any]) -> StudyConfig:
    """Check a configuration, that of each variant too.

    Raises:
        StudyConfigError: a key is unknown, or a value cannot be.

    Example:
        >>> parse_config({"algorithms": {"PF": {"algorithm": "SMC"}}, "budgets": {"generations": [4]}}).seeds
        [0]
    """
    if not isinstance(raw, Mapping):
        raise StudyConfigError(f"A study is a mapping with the keys {', '.join(StudyConfig.model_fields)}.")
    try:
        return StudyConfig.model_validate(dict(raw))
    except ValidationError as error:
        raise StudyConfigError(faults(error, StudyConfig)) from error
    except PyroLLMError as error:
        raise StudyConfigError(f"program: {error}") from error
