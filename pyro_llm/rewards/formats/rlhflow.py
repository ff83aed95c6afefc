"""RLHFlow's process reward models: the logits of "+" and "-" where the assistant is to answer a step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyro_llm.errors import RewardFormatError
from pyro_llm.rewards.formats.checkpoint import single_token
from pyro_llm.rewards.steps import StepReward, Steps

if TYPE_CHECKING:
    from pyro_llm.rewards.formats.checkpoint import Checkpoint


class RLHFlowReward(StepReward):
    r"""Llama3.1-8B-PRM-Mistral-Data and -Deepseek-Data: a conversation in which each step is a user's turn.

    The first turn is the problem, a blank and the first step; the assistant answered "+" to all earlier steps, and the
    score of the last is read from what predicts its answer: the published probability is the softmax of the logits
    of "+" and "-", and the log-odds are their difference. Steps lose white space at both ends.

    Only the two rows of the language model's output layer that are needed are kept.

    Source: RLHFlow/RLHF-Reward-Modeling on GitHub, `math-rm/prm_evaluate.py`, which reads the third position from
    the end of a conversation with the answer: that before "+", as Llama 3.1 closes a turn with one token.

    Args:
        model: a causal language model with its two logits left, "-" and "+", by `keep_two_logits`.
        tokenizer: one with a chat template.
        name: for messages.
        options: of `StepReward`. Steps end with a blank line (of the Deepseek data; the Mistral data tags them with
            `ки` and a line break, for which give `step_separator="\n"` if the text has no tags).

    Raises:
        RewardFormatError: the tokenizer has no chat template, or one that does not write the answer right after the
            opening of the assistant's turn.
    """

    format = "rlhflow"
    looked_for = "a causal language model with rlhflow and prm, or llama3.1-8b-prm, in its name"
    separator = "\n\n"

    def __init__(self, model: Any, tokenizer: Any, name: str = "rlhflow", **options: Any) -> None:
        super().__init__(model, tokenizer, name, **options)
        if not tokenizer.chat_template:
            raise RewardFormatError(
                f"The tokenizer of {name!r} has no chat template, and RLHFlow's models read steps as turns of a chat; "
                "give another format=."
            )
        opened = self._rendered(["step"], answered=False)
        if not self._rendered(["step"], answered=True).startswith(opened + "+"):
            raise RewardFormatError(
                f"The chat template of {name!r} does not write an answer right after the opening of the assistant's "
                "turn, so that the place where '+' is predicted cannot be found; give another format=."
            )

    @classmethod
    def recognises(cls, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint is in this format: a name is all there is, the configuration being a plain one."""
        called = checkpoint.is_called("rlhflow", "prm") or checkpoint.is_called("llama3.1-8b-prm")
        return checkpoint.is_a("ForCausalLM") and called

    @classmethod
    def load(cls, checkpoint: Checkpoint, **options: Any) -> RLHFlowReward:
        """The reward of a checkpoint."""
        from pyro_llm.rewards.formats.heads import keep_two_logits

        right, wrong = (
            single_token(checkpoint.tokenizer, answer, checkpoint.name, "an answer to a step") for answer in "+-"
        )
        model = keep_two_logits(checkpoint.causal_lm(), wrong, right)
        return cls(model, checkpoint.tokenizer, checkpoint.name, **options)

    def encode(self, part: Steps) -> list[int]:
        """The tokens up to where the answer to the last step is predicted."""
        first, *others = (step.strip() for step in part.steps)
        turns = [f"{part.problem} {first}", *others]
        return self.tokenizer.encode(self._rendered(turns, answered=False), add_special_tokens=False)

    def _rendered(self, turns: list[str], answered: bool) -> str:
        messages = []
        for turn in turns:
            messages += [{"role": "user", "content": turn}, {"role": "assistant", "content": "+"}]
        rendered = self.tokenizer.apply_chat_template(
            messages if answered else messages[:-1], tokenize=False, add_generation_prompt=not answered
        )
        return str(rendered)
