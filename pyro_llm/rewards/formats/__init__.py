"""Published formats of reward models, one a file, and which of them a checkpoint is in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from pyro_llm.errors import OptionError, RewardFormatError
from pyro_llm.rewards.formats.armorm import ArmoReward
from pyro_llm.rewards.formats.implicit import ImplicitReward
from pyro_llm.rewards.formats.last_token import ProcessReward
from pyro_llm.rewards.formats.math_shepherd import MathShepherdReward
from pyro_llm.rewards.formats.outcome import OutcomeReward
from pyro_llm.rewards.formats.qwen_prm import QwenProcessReward
from pyro_llm.rewards.formats.rlhflow import RLHFlowReward
from pyro_llm.rewards.formats.skywork_prm import SkyworkProcessReward
from pyro_llm.rewards.formats.trl import TRLProcessReward
from pyro_llm.rewards.reward_model import TextReward

if TYPE_CHECKING:
    from pyro_llm.rewards.formats.checkpoint import Checkpoint


class Format(Protocol):
    """A reward class that can be loaded from checkpoints of its format."""

    format: str
    """Its name."""
    looked_for: str
    """What of a checkpoint it is recognised by."""

    def recognises(self, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint is in this format."""
        ...

    def load(self, checkpoint: Checkpoint, **options: Any) -> TextReward:
        """The reward of a checkpoint."""
        ...


FORMATS: dict[str, Format] = {
    reward.format: reward
    for reward in (
        ProcessReward,
        QwenProcessReward,
        TRLProcessReward,
        MathShepherdReward,
        RLHFlowReward,
        ImplicitReward,
        ArmoReward,
        OutcomeReward,
        SkyworkProcessReward,  # last, as it may look at the names of the weights
    )
}
"""By name, in the order in which they are tried."""


def find_format(checkpoint: Checkpoint) -> Format:
    """The format that a checkpoint is in.

    Raises:
        RewardFormatError: it is in none; the message lists what was looked for, and what there is.
    """
    for candidate in FORMATS.values():
        if candidate.recognises(checkpoint):
            return candidate
    looked_for = "; ".join(f"{candidate.looked_for} ({name})" for name, candidate in FORMATS.items())
    raise RewardFormatError(
        f"{checkpoint.name!r} is in no format of reward models that is known. It is {checkpoint.described()}. Looked "
        f"for, in this order: {looked_for}. If it is in one of these formats all the same, say so: "
        "load_reward(..., format='...'); a language model that is no reward is loaded with load_lm."
    )


def named_format(name: str) -> Format:
    """The format of a name.

    Raises:
        OptionError: there is none.
    """
    if name not in FORMATS:
        raise OptionError(f"There is no reward format {name!r}; choose one of {', '.join(map(repr, FORMATS))}.")
    return FORMATS[name]
