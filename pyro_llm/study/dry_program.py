"""The program of a study before its models are loaded: what its options are checked on. It is never run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyro_llm.lm import TableLM
from pyro_llm.models import ReasoningSSM
from pyro_llm.rewards import FunctionReward


def dry_program(options: Mapping[str, Any]) -> ReasoningSSM:
    """A program with these options over a model that only ends texts.

    Raises:
        OptionError: an option does not exist, or has a value that it cannot have.
    """
    lm = TableLM(lambda tokens: [1.0], ["."], eos_token_id=0)
    return ReasoningSSM(lm, FunctionReward(lambda text: 1.0), **options)
