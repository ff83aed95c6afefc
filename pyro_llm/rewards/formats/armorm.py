"""ArmoRM: several objectives, weighted by a gating network that has read the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from pyro_llm.errors import RewardFormatError
from pyro_llm.rewards.formats.outcome import OutcomeReward
from pyro_llm.rewards.head import Solution

if TYPE_CHECKING:
    from pyro_llm.rewards.formats.checkpoint import Checkpoint

_OPENING = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"


class Prompt(NamedTuple):
    """The conversation up to the end of the user's turn."""

    problem: str


class ArmoReward(OutcomeReward):
    """ArmoRM-Llama3-8B-v0.1: objectives at the last token, weights of theirs at the end of the prompt.

    A linear map of the last token's hidden state gives the objectives, a fixed matrix takes their correlation with
    length out, and a multilayer perceptron with a softmax, at the token that ends the user's turn, gives their weights.
    The score is the weighted sum. It is small (a tenth or so), and its level and scale are not those of log-odds:
    calibrate it before it is used as a probability.

    The repository brings all of this as code of its own (`LlamaForRewardModelWithGating`), which is not run: it is made
    here, from the weights `regression_layer`, `reward_transform_matrix` and `gating`. Variants that predict quantiles
    (QRM) have other weights, and are refused.

    Source: the modelling file of RLHFlow/ArmoRM-Llama3-8B-v0.1, and Wang et al., arXiv 2406.12845.

    Args:
        model: from `on_decoder(config, DecoderWithObjectives)`.
        tokenizer: that of Llama 3.
        name: for messages.
        options: of `OutcomeReward`.

    Raises:
        RewardFormatError: the chat template does not open the assistant's turn as that of Llama 3 does.
    """

    format = "armorm"
    looked_for = "architectures ending in ForRewardModelWithGating"

    def __init__(self, model: Any, tokenizer: Any, name: str = "armorm", **options: Any) -> None:
        super().__init__(model, tokenizer, name, **options)
        self._opening = tokenizer.encode(_OPENING, add_special_tokens=False)
        if self._opened("problem")[-len(self._opening) :] != self._opening:
            raise RewardFormatError(
                f"The chat template of {name!r} does not open the assistant's turn with {_OPENING!r}, before which "
                "ArmoRM reads the weights of its objectives; take the tokenizer of its own repository"
            )

    @classmethod
    def recognises(cls, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint is in this format."""
        return checkpoint.is_a("ForRewardModelWithGating")

    @classmethod
    def load(cls, checkpoint: Checkpoint, **options: Any) -> ArmoReward:
        """The reward of a checkpoint."""
        from pyro_llm.rewards.formats.heads import on_decoder
        from pyro_llm.rewards.formats.objectives import DecoderWithObjectives

        model = checkpoint.load(on_decoder(checkpoint.model_config, DecoderWithObjectives))
        return cls(model, checkpoint.tokenizer, checkpoint.name, **options)

    def parts(self, solution: Solution) -> Sequence[Any]:
        """The prompt and the conversation."""
        return [Prompt(solution.problem), *super().parts(solution)]

    def encode(self, part: Any) -> list[int]:
        """The tokens of the conversation, or of the prompt with the token that ends the user's turn."""
        if isinstance(part, Prompt):
            return self._opened(part.problem)[: 1 - len(self._opening)]
        return super().encode(part)

    def combine(self, outputs: Tensor) -> float:
        """The objectives at the last token, weighted as the end of the prompt says."""
        of_prompt, of_conversation = (output.chunk(2) for output in outputs)
        return float((of_prompt[1] * of_conversation[0]).sum())

    def _opened(self, problem: str) -> list[int]:
        messages = [{"role": "user", "content": problem}]
        if self.system_prompt is not None:
            messages.insert(0, {"role": "system", "content": self.system_prompt})
        rendered = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return self.tokenizer.encode(rendered, add_special_tokens=False)
