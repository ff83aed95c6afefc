"""What loading a pretrained model of any kind takes: where its name points to, its dtype, and quiet."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from pyro_llm.errors import MissingExtraError, ModelFolderError, OptionError, UnknownModelError

LOADING_FAILURES = (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError)
"""What transformers raises, from missing files to unknown architectures."""


def check_name(name: object) -> None:
    """Raise UnknownModelError for what cannot name a model: an empty text, or neither text nor path."""
    if not isinstance(name, str | os.PathLike) or not str(name):
        raise UnknownModelError(
            f"{name!r} names no model: give the name of an embedded one ('abacus'), a folder, or a Hugging Face id, as "
            "a string or a path"
        )


def local_folder(name: str | os.PathLike[str]) -> Path | None:
    """The folder of a model that is no embedded one, or None if `name` can only be an id of the Hugging Face hub.

    Raises:
        ModelFolderError: `name` is written as a path, or exists, and is no folder with a `config.json`.
    """
    path = Path(name).expanduser()
    written_as_path = not isinstance(name, str) or name.startswith((".", "/", "~")) or name.count("/") > 1
    if not path.exists() and not written_as_path:
        return None
    if not path.exists():
        raise ModelFolderError(f"there is no folder {str(name)!r}; give an existing one, or the name of a model")
    if not (path / "config.json").is_file():
        raise ModelFolderError(
            f"{str(name)!r} is no model folder: it has no config.json; give the folder that save_pretrained wrote"
        )
    return path


def floating_type(dtype: str | torch.dtype | None) -> torch.dtype | str:
    """A floating dtype by its name or itself; for None `"auto"`, the dtype of the checkpoint.

    Raises:
        ValueError: there is no such floating type.
    """
    if dtype is None:
        return "auto"
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f"dtype must be a floating type such as 'float32' or 'bfloat16', not {dtype!r}")
    return found


def placement(
    device: str | torch.device | None, device_map: str | Mapping[str, Any] | None, quantization_config: Any
) -> dict[str, Any]:
    """What transformers' `from_pretrained` is told of devices and quantisation.

    Raises:
        OptionError: both a device and a device map are given, or there is no such device.
        MissingExtraError: a device map is given, and accelerate is not installed.
    """
    if device is not None:
        check_device(device)
    options: dict[str, Any] = {}
    if device_map is not None:
        if device is not None:
            raise OptionError(f"Both device={device!r} and device_map={device_map!r} are given; give one of them.")
        if find_spec("accelerate") is None:
            raise MissingExtraError("device_map= needs the package accelerate: pip install accelerate")
        options["device_map"] = device_map if isinstance(device_map, str) else dict(device_map)
    if quantization_config is not None:
        options["quantization_config"] = quantization_config
    return options


def check_device(device: str | torch.device) -> None:
    """Raise OptionError for a device that torch does not know, or that is not there."""
    try:
        torch.empty(0, device=torch.device(device))
    except (AssertionError, RuntimeError, TypeError, NotImplementedError) as error:
        raise OptionError(
            f"device={str(device)!r} cannot be used here: {first_line(error)}. Leave device out for the CPU, or run "
            "where torch has such a device (of CUDA, where torch.cuda.is_available())."
        ) from error


def check_hub_id(name: str, embedded: Sequence[str]) -> None:
    """Ask the Hugging Face hub once, and briefly, whether it has a model; not if it is downloaded already.

    Args:
        name: the id.
        embedded: the names of the embedded models, for the message.

    Raises:
        UnknownModelError: it has not, or it cannot be reached.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache

    try:
        if not isinstance(try_to_load_from_cache(name, "config.json"), str):
            HfApi().model_info(name, timeout=10.0)
    except Exception as error:  # of the hub's client, of its HTTP library, or about the form of the id
        near = get_close_matches(name.casefold(), embedded, 1)
        raise UnknownModelError(
            f"{name!r} is not an embedded model ({', '.join(embedded)}), not a folder, and not to be had from the "
            f"Hugging Face hub either: there is no such id, or the hub cannot be reached ({first_line(error)})"
            + (f"; did you mean {near[0]!r}?" if near else "")
        ) from error


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without transformers' progress bars and advice while a model loads; its errors are raised all the same."""
    from transformers.utils import logging

    bar, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
