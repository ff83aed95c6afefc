"""Calibrations as JSON files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pyro_llm.errors import CalibrationFileError
from pyro_llm.files import written_whole
from pyro_llm.rewards.calibration.calibration import Calibration
from pyro_llm.rewards.calibration.maps import BetaCalibration, IsotonicCalibration, PlattScaling, TemperatureScaling
from pyro_llm.validation import reason

AnyCalibration = Annotated[
    TemperatureScaling | PlattScaling | BetaCalibration | IsotonicCalibration, Field(discriminator="method")
]


class CalibrationFile(BaseModel):
    """What the file of a calibration holds.

    Attributes:
        format: what the file is, and the version of its format.
        reward: the name of the reward that was calibrated, if it was given.
        calibration: the map.
    """

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="strings")

    format: Literal["pyro_llm calibration 1"] = "pyro_llm calibration 1"
    reward: str | None = None
    calibration: AnyCalibration


def save_calibration(calibration: Calibration, path: str | os.PathLike[str], reward: str | None = None) -> None:
    """Write a calibration; see `Calibration.save`."""
    content = CalibrationFile(reward=reward, calibration=calibration)  # type: ignore[arg-type]
    with written_whole(path) as temporary:
        temporary.write_text(content.model_dump_json(indent=2) + "\n", "utf-8")


def load_calibration(path: str | os.PathLike[str], reward: str | None = None) -> Calibration:
    """Read a calibration that `Calibration.save` or `pyro-llm calibrate` wrote.

    Args:
        path: of the JSON file.
        reward: the name of the reward that it is to be applied to. A file that names another one is refused.

    Raises:
        CalibrationFileError: there is no such file, it holds no calibration, or that of another reward.
    """
    try:
        content = CalibrationFile.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise CalibrationFileError(f"Cannot read the calibration {str(path)!r}: {error.strerror or error}.") from error
    except ValidationError as error:
        raise CalibrationFileError(
            f"{str(path)!r} holds no calibration that this version can read ({reason(error, 'file')}). "
            "`pyro-llm calibrate` and `calibration.save` write such files."
        ) from error
    if reward is not None and content.reward not in (None, reward):
        raise CalibrationFileError(
            f"The calibration {str(path)!r} was fitted for the reward {content.reward!r}, not for {reward!r}: "
            "another reward errs in other ways. Fit one for it with `pyro-llm calibrate`."
        )
    return content.calibration
