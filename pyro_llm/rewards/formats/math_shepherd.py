"""Math-Shepherd: the logits of "+" and "-" at a step tag."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyro_llm.errors import RewardFormatError
from pyro_llm.rewards.steps import StepReward, Steps

if TYPE_CHECKING:
    from pyro_llm.rewards.formats.checkpoint import Checkpoint

_TAG = " ки"


class MathShepherdReward(StepReward):
    """math-shepherd-mistral-7b-prm: a causal language model that says "+" or "-" after the tag `ки`.

    The text is the problem, a blank, and the steps, each followed by a blank and the tag, and on lines of their own.
    Of the logits at the tag only those of "+" and "-" count, and the published probability is their softmax: the
    log-odds are the difference. The model was trained on steps that begin with "Step 1: " and so on; the text is given
    to it as it was written.

    Only the two rows of the language model's output layer that are needed are kept.

    Source: the model card of peiyi9979/math-shepherd-mistral-7b-prm, the data set peiyi9979/Math-Shepherd, and Wang et
    al., arXiv 2312.08935.

    Args:
        model: a causal language model with its two logits left, "-" and "+", by `keep_two_logits`.
        tokenizer: its tokenizer.
        name: for messages.
        options: of `StepReward`. Steps end with a line break in the data.

    Raises:
        RewardFormatError: the tokenizer has no single token for the tag.
    """

    format = "math-shepherd"
    looked_for = "a causal language model with math-shepherd in its name"
    separator = "\n"

    def __init__(self, model: Any, tokenizer: Any, name: str = "math-shepherd", **options: Any) -> None:
        self._tag = tokenizer.encode(_TAG, add_special_tokens=False)[-1:]
        if not self._tag or self._tag[0] == tokenizer.unk_token_id or "ки" not in tokenizer.decode(self._tag):
            raise RewardFormatError(
                f"The tokenizer of {name!r} has no single token for the step tag 'ки', at which Math-Shepherd scores "
                "a step. This is not the tokenizer that such a model was trained with; give another format=."
            )
        super().__init__(model, tokenizer, name, **options)

    @classmethod
    def recognises(cls, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint is in this format: a name is all there is, the configuration being a plain one."""
        return checkpoint.is_a("ForCausalLM") and checkpoint.is_called("math-shepherd")

    @classmethod
    def load(cls, checkpoint: Checkpoint, **options: Any) -> MathShepherdReward:
        """The reward of a checkpoint."""
        from pyro_llm.rewards.formats.heads import keep_two_logits

        candidates = checkpoint.tokenizer.encode("+ -", add_special_tokens=False)
        if len(candidates) != 2 or checkpoint.tokenizer.unk_token_id in candidates:
            raise RewardFormatError(
                f"The tokenizer of {checkpoint.name!r} reads '+ -' as {candidates}, not as the two tokens whose logits "
                "Math-Shepherd compares; give another format=."
            )
        right, wrong = candidates
        model = keep_two_logits(checkpoint.causal_lm(), wrong, right)
        return cls(model, checkpoint.tokenizer, checkpoint.name, **options)

    def encode(self, part: Steps) -> list[int]:
        """The tokens up to the tag of the last step."""
        text = f"{part.problem} " + "\n".join(step + _TAG for step in part.steps)
        tokens: list[int] = self.tokenizer.encode(text)
        # A tokenizer may close a text with a special token of its own.
        return tokens[: len(tokens) - tokens[::-1].index(self._tag[0])]
