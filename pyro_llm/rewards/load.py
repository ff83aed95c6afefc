"""Load a reward model by name: embedded, a folder, or a Hugging Face id, in any of the published formats."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, overload

import torch

from pyro_llm import zoo
from pyro_llm.errors import OptionError
from pyro_llm.lm.pretrained import check_hub_id, check_name, floating_type, local_folder, placement
from pyro_llm.rewards.calibration import Calibration, load_calibration
from pyro_llm.rewards.composition import Calibrated
from pyro_llm.rewards.remote import RemoteReward
from pyro_llm.rewards.reward_model import TextReward


@overload
def load_reward(
    name: str | os.PathLike[str],
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    format: str | None = None,
    device_map: str | Mapping[str, Any] | None = None,
    quantization_config: Any = None,
    calibration: None = None,
    **options: Any,
) -> TextReward: ...
@overload
def load_reward(
    name: str | os.PathLike[str], *, calibration: str | os.PathLike[str] | Calibration, **options: Any
) -> Calibrated: ...
def load_reward(
    name: str | os.PathLike[str],
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    format: str | None = None,
    device_map: str | Mapping[str, Any] | None = None,
    quantization_config: Any = None,
    calibration: str | os.PathLike[str] | Calibration | None = None,
    **options: Any,
) -> TextReward | Calibrated:
    """Load a reward model.

    Its format is recognised from its configuration, or for formats that are plain language models from its name;
    docs/rewards.md has the table. No code that comes with a model is run.

    Args:
        name: the address of a server that answers as `JsonEndpoint` says, `"http://..."`; else looked up in this
            order: an embedded model, such as `"abacus"`; a folder; a Hugging Face id.
        device: where to put it, such as `"cuda"`; the CPU by default.
        dtype: of its parameters, such as `"bfloat16"`; by default the one it was saved in. Scores are fp32 in any case.
        format: the name of the format, where it is not to be recognised: `"last-token"`, `"qwen-prm"`,
            `"skywork-prm"`, `"trl"`, `"math-shepherd"`, `"rlhflow"`, `"implicit"`, `"armorm"` or `"outcome"`.
        device_map: how to spread the model over devices, instead of `device`: `"auto"`, or the device of each module;
            see transformers. Needs accelerate.
        quantization_config: for transformers, a `BitsAndBytesConfig` say; the package that it names must be installed.
            A checkpoint that is quantised already needs none.
        calibration: what `fit_calibration` gave, or the file that it was saved in; the reward is then
            `reward.calibrated(calibration)`. A file that names another reward than `name` is refused.
        options: of the format's class, such as `aggregation` and `step_separator`, or `reference` and `beta`.

    Raises:
        UnknownModelError: there is no such model, or the hub cannot be reached.
        ModelFolderError: there is a model, and it cannot be loaded; a `RewardFormatError` if it is in no known format,
            or lacks what its format needs.
        OptionError: there is no such format, it has no such option, there is no such device, or a
            device and a device map are given both.
        MissingExtraError: a device map is given, and accelerate is not installed.
        CalibrationFileError: there is no such calibration, or it is that of another reward.
        ValueError: the dtype is unknown.

    Example:
        >>> load_reward("abacus")
        ProcessReward('abacus')
    """
    check_name(name)
    if calibration is not None:  # read first: a model takes longer
        if not isinstance(calibration, Calibration):
            calibration = load_calibration(calibration, str(name))
        return load_reward(
            name, device=device, dtype=dtype, format=format, device_map=device_map,
            quantization_config=quantization_config, **options,
        ).calibrated(calibration)  # fmt: skip
    from pyro_llm.rewards.formats import find_format, named_format
    from pyro_llm.rewards.formats.checkpoint import Checkpoint

    if str(name).startswith(("http://", "https://")):
        if any(option is not None for option in (device, dtype, format, device_map, quantization_config)):
            raise OptionError(
                f"The reward at {str(name)!r} is computed there: it takes no device, dtype or format, and no "
                "device map or quantisation."
            )
        _check_options("The reward at an address has", RemoteReward, options)
        return RemoteReward(str(name), **options)
    if isinstance(name, str) and name in zoo.names():
        folder: Path | None = zoo.path(name, "reward")
    else:
        folder = local_folder(name)
        if folder is None:
            check_hub_id(str(name), zoo.names())
    chosen = None if format is None else named_format(format)
    placed = placement(device, device_map, quantization_config)
    checkpoint = Checkpoint(str(name), str(folder or name), floating_type(dtype), folder is not None, device, placed)
    chosen = chosen or find_format(checkpoint)
    _check_options(f"Rewards of the format {chosen.format!r} have", chosen, options, chosen.load)
    return chosen.load(checkpoint, **options)


def _check_options(they_have: str, chosen: Any, options: dict[str, Any], *functions: Any) -> None:
    """Raise OptionError for an option that a reward has not, before anything is loaded."""
    known: set[str] = set()
    for function in (*functions, *(base.__init__ for base in chosen.__mro__ if "__init__" in vars(base))):
        known |= {
            parameter.name
            for parameter in inspect.signature(function).parameters.values()
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        }
    known -= {"self", "checkpoint", "model", "tokenizer", "name", "policy", "url"}
    wrong = sorted(set(options) - known)
    if wrong:
        raise OptionError(f"{they_have} no option {', '.join(map(repr, wrong))}; there are {', '.join(sorted(known))}.")
