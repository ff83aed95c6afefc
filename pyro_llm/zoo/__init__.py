"""The embedded models: small, honest about their faults, and there without a download.

`names()` lists them, `path(name, kind)` is a Hugging Face folder, `card(name)` the measured figures, and
`problems(name)` the problems on which they were measured. Nothing here imports torch.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pyro_llm.errors import UnknownModelError

__all__ = ["Kind", "card", "names", "path", "problems"]

Kind = Literal["lm", "reward"]
KINDS: tuple[Kind, ...] = ("lm", "reward")
CARD_SECTIONS = {"name", "data", "lm", "reward"}


@cache
def _folders() -> dict[str, Path]:
    """Every embedded model's folder, by name."""
    here = Path(str(files(__name__)))
    return {folder.name: folder for folder in sorted(here.iterdir()) if (folder / "lm" / "config.json").is_file()}


def _folder(name: str) -> Path:
    if name not in _folders():
        raise UnknownModelError(f"There is no embedded model {name!r}. The embedded models are: {', '.join(names())}.")
    return _folders()[name]


def names() -> tuple[str, ...]:
    """The names of the embedded models."""
    return tuple(_folders())


def path(name: str, kind: Kind = "lm") -> Path:
    """The folder of an embedded model's language model (`"lm"`) or process reward model (`"reward"`)."""
    if kind not in KINDS:
        raise UnknownModelError(f"An embedded model has the kinds {' and '.join(map(repr, KINDS))}, and not {kind!r}.")
    return _folder(name) / kind


def card(name: str) -> dict[str, Any]:
    """The figures of an embedded model: data, training, accuracy, calibration, failure modes, and their commands."""
    figures = json.loads((_folder(name) / "card.json").read_text("utf-8"))
    if missing := CARD_SECTIONS - figures.keys():
        raise ValueError(f"The card of {name!r} lacks {', '.join(sorted(missing))}. Make it again with `make zoo`.")
    return figures


def problems(name: str = "abacus", split: str = "test") -> list[dict[str, Any]]:
    """The published problems of an embedded model.

    Each has `id`, `problem`, `answer` (text), `steps` (lines before the answer), `kind` (`"words"` or `"expression"`)
    and `solution`.
    """
    source = _folder(name) / f"{split}.jsonl"
    if not source.is_file():
        raise UnknownModelError(f"{name!r} comes with no {split!r} problems; there is the split 'test'.")
    return [json.loads(line) for line in source.read_text("utf-8").splitlines()]
