"""Token classifiers that score the last token they read: the format of the embedded process reward model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pyro_llm.errors import ModelFolderError
from pyro_llm.rewards.head import Solution
from pyro_llm.rewards.steps import StepReward, split_steps

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pyro_llm.rewards.formats.checkpoint import Checkpoint


class ProcessReward(StepReward):
    """The last token's score of a token classifier with two labels, label 1 being "right so far".

    It reads the problem (by the tokenizer's chat template as a user's message, or as it is where there is none), what
    has been written since, and the end-of-sequence token of its own where the language model ended the text with its.

    In one program the forward passes of a step's reward cannot run beside those of the language model: they read the
    step that it has drawn, and it draws the next one for particles that the reward has helped to select. The host waits
    for the device once a call, when all scores are there.

    Args:
        model: a token classifier with two labels, from `AutoModelForTokenClassification`. Its head then
            computes in fp32.
        tokenizer: its tokenizer.
        name: for messages.
        options: of `StepReward` and `HeadReward`. Steps end with a line break unless `step_separator` says otherwise,
            which matters to aggregations of several steps only.

    Raises:
        ModelFolderError: the model has not two labels.
        OptionError: a limit is out of its range.
        ContextLengthError: when it scores, if a text does not fit the model's context.
        RewardError: when it scores, if a score is NaN, or there is nothing to read.
    """

    format = "last-token"
    looked_for = 'a token classifier whose config has a "pyro_llm" entry'
    separator = "\n"

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        name: str = "process reward",
        **options: Any,
    ) -> None:
        if model.config.num_labels != 2:
            raise ModelFolderError(
                f"The model {name!r} has {model.config.num_labels} labels. A process reward is read from a token "
                "classifier with two: wrong (0) and right (1)."
            )
        from pyro_llm.rewards.formats.heads import head_in_float32

        head_in_float32(model)
        super().__init__(model, tokenizer, name, **options)

    @classmethod
    def recognises(cls, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint is in this format."""
        return checkpoint.is_a("ForTokenClassification") and "pyro_llm" in checkpoint.config

    @classmethod
    def load(cls, checkpoint: Checkpoint, **options: Any) -> ProcessReward:
        """The reward of a checkpoint."""
        return cls(checkpoint.token_classifier(), checkpoint.tokenizer, checkpoint.name, **options)

    def parts(self, solution: Solution) -> Sequence[Solution]:
        """The prefixes that end with each step that counts."""
        if self.aggregation in ("last", "model"):
            return [solution]
        steps = split_steps(solution.text, self.step_separator)
        ends = [self.step_separator.join(steps[:count]) + self.step_separator for count in range(1, len(steps))]
        return [*(Solution(solution.problem, text, False) for text in ends), solution]

    def encode(self, part: Solution) -> list[int]:
        """The token ids that the model reads for a solution; its score is read at the last."""
        return self.encode_all([part])[0]

    def encode_all(self, parts: Sequence[Solution]) -> list[list[int]]:
        """The token ids of several solutions."""
        templated = self.tokenizer.chat_template is not None
        problems = {part.problem: part.problem for part in parts}
        if templated:
            problems = {problem: self._rendered(problem) for problem in problems}
        texts = [problems[part.problem] + part.text for part in parts]
        rows = self.tokenizer(texts, add_special_tokens=not templated)["input_ids"]
        return [self._ended(tokens, part) for tokens, part in zip(rows, parts, strict=True)]

    def _rendered(self, problem: str) -> str:
        messages = [{"role": "user", "content": problem}]
        return str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def _ended(self, tokens: list[int], solution: Solution) -> list[int]:
        """The tokens with EOS where it belongs."""
        eos = self.tokenizer.eos_token_id
        return [*tokens, eos] if solution.ended and eos is not None and tokens[-1:] != [eos] else tokens
