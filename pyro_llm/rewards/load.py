"""Load a process reward model by name: embedded, a folder, or a Hugging Face id."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from pyro_llm import zoo
from pyro_llm.errors import ModelFolderError
from pyro_llm.lm.pretrained import LOADING_FAILURES, check_hub_id, floating_type, local_folder, quiet_transformers
from pyro_llm.rewards.process import ProcessReward


def load_reward(
    name: str | os.PathLike[str],
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> ProcessReward:
    """Load a process reward model.

    Args:
        name: looked up in this order: an embedded model, such as `"abacus"`; a folder; a Hugging Face id.
        device: where to put it, such as `"cuda"`; the CPU by default.
        dtype: of its parameters, such as `"bfloat16"`; by default the one it was saved in. Scores are fp32 in any case.

    Raises:
        UnknownModelError: there is no such model, or the hub cannot be reached.
        ModelFolderError: there is a model, and it is no token classifier with two labels that can be loaded.
        ValueError: the dtype is unknown.

    Example:
        >>> load_reward("abacus")
        ProcessReward('abacus')
    """
    if isinstance(name, str) and name in zoo.names():
        folder: Path | None = zoo.path(name, "reward")
    else:
        folder = local_folder(name)
        if folder is None:
            check_hub_id(str(name), zoo.names())
    options = {"dtype": floating_type(dtype), "local_files_only": folder is not None}
    try:
        model, tokenizer, missing = _load(str(folder or name), options)
    except LOADING_FAILURES as error:
        raise ModelFolderError(
            f"no token classifier with a tokenizer could be loaded from {str(folder or name)!r}: {error}"
        ) from error
    if missing:
        raise ModelFolderError(
            f"{str(name)!r} is no reward model: its checkpoint has no weights for {', '.join(sorted(missing))}; "
            "give a token classifier (a language model is loaded with load_lm)"
        )
    return ProcessReward(model if device is None else model.to(torch.device(device)), tokenizer, name=str(name))


def _load(source: str, options: dict[str, Any]) -> tuple[Any, Any, list[str]]:
    """The model, its tokenizer, and the parameters that the checkpoint lacks."""
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    with quiet_transformers():
        model, report = AutoModelForTokenClassification.from_pretrained(source, output_loading_info=True, **options)
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=options["local_files_only"])
    return model, tokenizer, list(report["missing_keys"])
