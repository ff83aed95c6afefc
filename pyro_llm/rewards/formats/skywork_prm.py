"""Skywork-o1-Open-PRM: a value head at the line break that ends each step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from pyro_llm.rewards.formats.checkpoint import single_token
from pyro_llm.rewards.steps import StepReward, Steps

if TYPE_CHECKING:
    from pyro_llm.rewards.formats.checkpoint import Checkpoint

_WEIGHT = "v_head.summary.weight"


class SkyworkProcessReward(StepReward):
    """Skywork-o1-Open-PRM-Qwen-2.5-1.5B and -7B.

    The beginning-of-sequence token, the problem and a line break, then each step, tokenised for itself, and the token
    of a line break, at which a value head gives the score. The published probability is the sigmoid of that value, so
    the value itself is the log-odds.

    The value head is TRL's (`v_head.summary`), on a causal language model whose own head is not used.

    Source: SkyworkAI/skywork-o1-prm-inference on GitHub, `model_utils/io_utils.py` and `model_utils/prm_model.py`, to
    which the model cards refer.

    Args:
        model: from `decoder_with_head(config, "v_head", ValueHead)`.
        tokenizer: its tokenizer.
        name: for messages.
        options: of `StepReward`. Steps end with a line break in the published code; whatever `step_separator` is, each
            is followed by the line break that the model knows.

    Raises:
        RewardFormatError: the tokenizer has no token for the line break.
    """

    format = "skywork-prm"
    looked_for = f"architectures ending in ForPrmModel, or a causal language model with the weight {_WEIGHT}"
    separator = "\n"

    def __init__(self, model: Any, tokenizer: Any, name: str = "skywork-prm", **options: Any) -> None:
        self._end = single_token(tokenizer, "\n", name, "at which each step is scored")
        super().__init__(model, tokenizer, name, **options)

    @classmethod
    def recognises(cls, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint is in this format."""
        return checkpoint.is_a("ForPrmModel") or (checkpoint.is_a("ForCausalLM") and _WEIGHT in checkpoint.weight_names)

    @classmethod
    def load(cls, checkpoint: Checkpoint, **options: Any) -> SkyworkProcessReward:
        """The reward of a checkpoint."""
        from pyro_llm.rewards.formats.heads import ValueHead, decoder_with_head

        model = checkpoint.load(decoder_with_head(checkpoint.model_config, "v_head", ValueHead))
        return cls(model, checkpoint.tokenizer, checkpoint.name, **options)

    def encode(self, part: Steps) -> list[int]:
        """The tokens up to the line break that ends the last step."""
        texts = [f"{self.tokenizer.bos_token or ''}{part.problem}\n", *part.steps]
        problem, *steps = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return [*problem, *(token for step in steps for token in (*step, self._end))]

    def step_log_odds(self, outputs: Tensor) -> Tensor:
        """The values."""
        return outputs[:, 0]
