"""Loading a language model by name: embedded, a folder, a GGUF file, or a Hugging Face id."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pyro_llm.errors import ModelFolderError
from pyro_llm.lm.pretrained import (
    LOADING_FAILURES,
    check_hub_id,
    check_name,
    floating_type,
    local_folder,
    placement,
    quiet_transformers,
)

if TYPE_CHECKING:
    from pyro_llm.lm.huggingface import HFLanguageModel


def load_lm(
    name: str | Path,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    system_prompt: str | None = None,
    memory_budget: int | None = None,
    device_map: str | Mapping[str, Any] | None = None,
    quantization_config: Any = None,
    compile: bool | str = False,
) -> HFLanguageModel:
    """Load a language model.

    Args:
        name: looked up in this order: an existing folder (if written with a path separator, or as a `Path`) or a
            `.gguf` file; the name of an embedded model, such as `"abacus"`; an existing folder; a Hugging Face id.
        device: where to put it, such as `"cuda"`; the CPU by default.
        dtype: of its parameters, such as `"bfloat16"`; by default the one it was saved in (float32 for GGUF files,
            which are dequantised).
        system_prompt: for the chat template.
        memory_budget: bytes for keys, values and logits; see `HFLanguageModel`.
        device_map: how to spread the model over devices, instead of `device`: `"auto"`, or the device of each module;
            see transformers. Needs accelerate.
        quantization_config: for transformers, a `BitsAndBytesConfig` say; the package that it names must be installed.
            A checkpoint that is quantised already needs none.
        compile: compile the token loop's pass; see `HFLanguageModel`.

    Raises:
        UnknownModelError: there is no such model, or the hub cannot be reached.
        ModelFolderError: the folder or file holds no causal language model that can be loaded.
        CapabilityError: the model cannot be run with rows that fork and are resampled.
        OptionError: both a device and a device map are given, or there is no such device, or way to compile.
        MissingExtraError: a device map is given, and accelerate is not installed.
        ValueError: the dtype is unknown.

    Example:
        >>> load_lm("abacus").prompt("3 + 4").batch_shape
        torch.Size([])
    """
    check_name(name)
    from pyro_llm import zoo
    from pyro_llm.lm.huggingface import HFLanguageModel

    options = {"dtype": floating_type(dtype), **placement(device, device_map, quantization_config)}
    if Path(name).suffix == ".gguf":
        model, tokenizer = _load_gguf(Path(name), options)
    elif isinstance(name, str) and name in zoo.names():
        model, tokenizer = _load(str(zoo.path(name, "lm")), options | {"local_files_only": True})
    elif (folder := local_folder(name)) is not None:
        model, tokenizer = _load(str(folder), options | {"local_files_only": True})
    else:
        check_hub_id(str(name), zoo.names())
        model, tokenizer = _load(str(name), options)
    if device is not None:
        model = model.to(torch.device(device))
    options = {"system_prompt": system_prompt, "memory_budget": memory_budget, "compile": compile}
    return HFLanguageModel(model, tokenizer, name=str(name), **options)


def _load(source: str, options: dict[str, Any]) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        with quiet_transformers():
            loaded: Any = AutoModelForCausalLM.from_pretrained(source, output_loading_info=True, **options)
            model, report = loaded
            local_only = options.get("local_files_only", False)
            tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=local_only)
    except LOADING_FAILURES as error:
        raise ModelFolderError(
            f"no causal language model with a tokenizer could be loaded from {source!r}: {error}"
        ) from error
    # A classifier's body loads as a language model without complaint where input and output embeddings are tied.
    other_heads = [name for name in model.config.architectures or () if "Classification" in name]
    if report["missing_keys"] or other_heads:
        found = (
            f"it is a {other_heads[0]}"
            if other_heads
            else f"no weights for {', '.join(sorted(report['missing_keys']))}"
        )
        raise ModelFolderError(f"{source!r} is no causal language model: {found} (a reward is loaded with load_reward)")
    return model, tokenizer


def _load_gguf(path: Path, options: dict[str, Any]) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not path.is_file():
        raise ModelFolderError(f"there is no file {str(path)!r}; give the path of an existing .gguf file")
    absent = [package for package in ("gguf", "accelerate") if find_spec(package) is None]
    if absent:
        raise ModelFolderError(f"reading the file {str(path)!r} needs other packages: pip install {' '.join(absent)}")
    if options["dtype"] == "auto":
        options = options | {"dtype": torch.float32}
    try:
        with quiet_transformers():
            model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, **options)
            return model, AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    except LOADING_FAILURES as error:
        raise ModelFolderError(f"no language model could be loaded from the file {str(path)!r}: {error}") from error
