"""Language models: torch and transformers, no Pyro."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pyro_llm.lm.decoding import Decoding
from pyro_llm.lm.language_model import Continuation, LanguageModel, Prefix, SamplingKey, Session
from pyro_llm.lm.load import load_lm
from pyro_llm.lm.state import PAD, TextState
from pyro_llm.lm.table import TableLM

if TYPE_CHECKING:
    from pyro_llm.lm.huggingface import HFLanguageModel

__all__ = [
    "PAD",
    "Continuation",
    "Decoding",
    "HFLanguageModel",
    "LanguageModel",
    "Prefix",
    "SamplingKey",
    "Session",
    "TableLM",
    "TextState",
    "load_lm",
]


def __getattr__(name: str) -> Any:
    # transformers takes seconds to import: only when a model of it is asked for.
    if name != "HFLanguageModel":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.huggingface").HFLanguageModel
