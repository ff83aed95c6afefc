"""Published sets of problems, by the fields they are published with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pyro_llm.errors import MissingExtraError, ProblemFileError, StudyConfigError
from pyro_llm.study.problem import Problem
from pyro_llm.study.problems.lines import read_records, text_field
from pyro_llm.study.problems.spec import ProblemSpec


@dataclass(frozen=True)
class PublishedSet:
    """Where a set is and what its fields are called; all have `problem`, `solution` and `answer`.

    Attributes:
        hub_id: on the Hugging Face hub.
        split: there.
        ids: fields that name the problem, the first that is there.
    """

    hub_id: str
    split: str
    ids: tuple[str, ...] = ("unique_id", "id")


PUBLISHED = {
    "math500": PublishedSet("HuggingFaceH4/MATH-500", "test"),
    "aime2024": PublishedSet("HuggingFaceH4/aime_2024", "train"),
}
"""MATH500: 500 problems of MATH (Hendrycks et al., 2021), chosen by Lightman et al. (2023). AIME 2024: 30 problems."""


class PublishedSpec(ProblemSpec):
    """A published set.

    Attributes:
        set: its name.
        path: a JSONL file that holds it, with the published fields; None: it is fetched from the Hugging Face hub.
    """

    set: Literal["math500", "aime2024"]
    path: Path | None = None


def problems_of_published(spec: Mapping[str, Any]) -> list[Problem]:
    """The problems of a published set, in its order.

    Raises:
        StudyConfigError: an option is wrong, or the hub does not give the set.
        ProblemFileError: the file cannot be read, or a line is no problem; it names the line.
        MissingExtraError: there is no path, and the package datasets is not installed.
    """
    options = PublishedSpec.of(spec)
    published = PUBLISHED[options.set]
    rows: Iterable[tuple[str, dict[str, Any]]] = (
        _of_hub(options.set, published)
        if options.path is None
        else ((place, record) for _, place, record in read_records(options.path))
    )
    problems = []
    for place, row in rows:
        prompt, answer = (text_field(row, field, place) for field in ("problem", "answer"))
        name = next((str(row[field]) for field in published.ids if row.get(field) is not None), None)
        if name is None:
            raise ProblemFileError(f"{place}: no field {' or '.join(map(repr, published.ids))} names the problem.")
        problems.append(Problem(prompt, answer, name))
    return options.choose(problems)


def _of_hub(name: str, published: PublishedSet) -> Iterable[tuple[str, dict[str, Any]]]:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise MissingExtraError(
            f"To fetch {name!r} from the Hugging Face hub needs the package datasets: pip install datasets. Or give "
            f"the path of a JSONL file with its fields: problems: {{set: {name}, path: {name}.jsonl}}."
        ) from error
    try:
        rows = load_dataset(published.hub_id, split=published.split)
    except Exception as error:  # what the hub's client raises has no common base
        raise StudyConfigError(
            f"problems: {published.hub_id!r} could not be had from the Hugging Face hub ({error}); give the path of a "
            f"JSONL file with its fields: {{set: {name}, path: {name}.jsonl}}."
        ) from error
    return ((f"{published.hub_id}[{index}]", dict(row)) for index, row in enumerate(rows))
