"""Qwen2.5-Math-PRM: a two-class head at a token that follows each step."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pyro_llm.rewards.formats.checkpoint import single_token
from pyro_llm.rewards.steps import StepReward, Steps

if TYPE_CHECKING:
    from pyro_llm.rewards.formats.checkpoint import Checkpoint

TAG = "<extra_0>"
SYSTEM_PROMPT = "Please reason step by step, and put your final answer within \\boxed{}."


class QwenProcessReward(StepReward):
    """Qwen2.5-Math-PRM-7B and -72B, Qwen2.5-Math-7B-PRM800K and others of the same format.

    A conversation of a system prompt, the problem and the steps, each followed by the token `<extra_0>`; the score is
    read there, from the logits of a head of two layers and two classes, the second being "right". Its log-odds are the
    difference of the two logits, which is what the published softmax is the sigmoid of.

    The repository brings the head as code of its own (`Qwen2ForProcessRewardModel`), which is not run: the head is made
    here, from the weights `score.0` and `score.2`.

    Source: the model card of Qwen/Qwen2.5-Math-PRM-7B, and Zhang et al., "The Lessons of Developing Process Reward
    Models in Mathematical Reasoning", arXiv 2501.07301.

    Args:
        model: from `decoder_with_head(config, "score", mlp_head)`.
        tokenizer: one that has the token `<extra_0>` and a chat template.
        name: for messages.
        system_prompt: the card's by default.
        options: of `StepReward`. Steps end with a blank line in the card.

    Raises:
        RewardFormatError: the tokenizer has no token `<extra_0>`.
    """

    format = "qwen-prm"
    looked_for = "architectures ending in ForProcessRewardModel"
    separator = "\n\n"

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        name: str = "qwen-prm",
        system_prompt: str = SYSTEM_PROMPT,
        **options: Any,
    ) -> None:
        self._tag = single_token(tokenizer, TAG, name, "at which each step is scored")
        self.system_prompt = system_prompt
        super().__init__(model, tokenizer, name, **options)

    @classmethod
    def recognises(cls, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint is in this format."""
        return checkpoint.is_a("ForProcessRewardModel")

    @classmethod
    def load(cls, checkpoint: Checkpoint, **options: Any) -> QwenProcessReward:
        """The reward of a checkpoint."""
        from pyro_llm.rewards.formats.heads import decoder_with_head, mlp_head

        head = partial(mlp_head, labels=checkpoint.rows_of("score.2.weight"))
        model = checkpoint.load(decoder_with_head(checkpoint.model_config, "score", head))
        return cls(model, checkpoint.tokenizer, checkpoint.name, **options)

    def encode(self, part: Steps) -> list[int]:
        """The tokens up to the `<extra_0>` of the last step; what the template writes after it is read by nobody."""
        messages = [
            {"role": "system", "content": self.system_prompt},
            {"role": "user", "content": part.problem},
            {"role": "assistant", "content": "".join(step + TAG for step in part.steps)},
        ]
        rendered = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False)
        tokens = self.tokenizer.encode(rendered, add_special_tokens=False)
        return tokens[: len(tokens) - tokens[::-1].index(self._tag)]
