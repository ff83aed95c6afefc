"""Outcome reward models: sequence classifiers that read a whole conversation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor

from pyro_llm.errors import RewardFormatError
from pyro_llm.rewards.head import HeadReward, Solution

if TYPE_CHECKING:
    from pyro_llm.rewards.formats.checkpoint import Checkpoint


class OutcomeReward(HeadReward):
    """Skywork-Reward, Qwen2.5-Math-RM and others: the score of a problem and an answer as a conversation.

    The problem is the user's message and the text the assistant's, by the tokenizer's chat template; the head is read
    at the last token, or the last that is not the padding token of the config, as transformers does it. A single
    logit is the log-odds as it is: these models are trained by the Bradley-Terry likelihood, so that only differences
    between answers to one problem mean anything, and the level is arbitrary. Calibrate it where the level matters. Of
    two labels, the second is "right", and the log-odds are the difference.

    A text that is still being written is scored as if it were the answer. The model was not trained on such;
    `emission="potential"` keeps this from mattering to the target.

    Qwen2.5-Math-RM brings its head of two layers as code of its own (`Qwen2ForRewardModel`), which is not run: the head
    is made here, from the weights `score.0` and `score.2`.

    Source: the model cards of Skywork/Skywork-Reward-Llama-3.1-8B-v0.2 and Qwen/Qwen2.5-Math-RM-72B;
    `GenericForSequenceClassification` of transformers.

    Args:
        model: from `decoder_with_head(config, "score", ...)`, with one or two labels.
        tokenizer: one with a chat template.
        name: for messages.
        system_prompt: the system's message, if any.
        options: of `HeadReward`.

    Raises:
        RewardFormatError: the model has more than two labels, or the tokenizer no chat template.
    """

    format = "outcome"
    looked_for = "architectures ending in ForSequenceClassification or ForRewardModel, with one or two labels"

    def __init__(
        self, model: Any, tokenizer: Any, name: str = "outcome", system_prompt: str | None = None, **options: Any
    ) -> None:
        if model.config.num_labels > 2:
            raise RewardFormatError(
                f"{name!r} has {model.config.num_labels} labels. Which of them make a probability of acceptance, and "
                "how, its config does not say; take a model with one or two, or one that gates its objectives."
            )
        if not tokenizer.chat_template:
            raise RewardFormatError(
                f"The tokenizer of {name!r} has no chat template, so that it is not known how the model reads a "
                "problem and an answer; set tokenizer.chat_template to what it was trained with"
            )
        self.system_prompt = system_prompt
        super().__init__(model, tokenizer, name, **options)

    @classmethod
    def recognises(cls, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint is in this format."""
        return checkpoint.is_a("ForSequenceClassification") or checkpoint.is_a("ForRewardModel")

    @classmethod
    def load(cls, checkpoint: Checkpoint, **options: Any) -> OutcomeReward:
        """The reward of a checkpoint."""
        from pyro_llm.rewards.formats.heads import decoder_with_head, linear_head, mlp_head

        head: Callable[[Any], Any] = linear_head
        if "score.0.weight" in checkpoint.weight_names:
            head = partial(mlp_head, labels=checkpoint.rows_of("score.2.weight"))
        model = checkpoint.load(decoder_with_head(checkpoint.model_config, "score", head))
        return cls(model, checkpoint.tokenizer, checkpoint.name, **options)

    def parts(self, solution: Solution) -> Sequence[Solution]:
        """The conversation; whether the writer ended it plays no part."""
        return [solution._replace(ended=True)]

    def encode(self, part: Solution) -> list[int]:
        """The tokens of the conversation, to the last that is not padding."""
        messages = [{"role": "user", "content": part.problem}, {"role": "assistant", "content": part.text}]
        if self.system_prompt is not None:
            messages.insert(0, {"role": "system", "content": self.system_prompt})
        rendered = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False)
        tokens: list[int] = self.tokenizer.encode(rendered, add_special_tokens=False)
        padding = self.model.config.get_text_config().pad_token_id
        while padding is not None and tokens[-1:] == [padding]:
            tokens.pop()
        return tokens

    def combine(self, outputs: Tensor) -> float:
        """The logit, or the difference of two."""
        logits = outputs[0]
        return float(logits[0] if len(logits) == 1 else logits[1] - logits[0])
