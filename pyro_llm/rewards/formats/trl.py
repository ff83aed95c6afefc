"""TRL's process reward models: token classifiers with a separator after each step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyro_llm.errors import ModelFolderError, RewardFormatError
from pyro_llm.rewards.steps import StepReward, Steps

if TYPE_CHECKING:
    from pyro_llm.rewards.formats.checkpoint import Checkpoint


class TRLProcessReward(StepReward):
    r"""What `PRMTrainer` of TRL trains: `AutoModelForTokenClassification` with two labels, 1 being "right".

    The beginning-of-sequence token if the tokenizer has one, the problem, and each step with the separator, all
    tokenised for themselves and without a chat template. A step is scored at the last token of its separator, by the
    difference of the two logits.

    The trainer puts nothing between the problem and the first step, while the script in its documentation joins them
    with the separator: `problem_separator="\n"` does as the script does.

    Source: `PRMTrainer.tokenize_row` and `PRMConfig.step_separator` of TRL (trl.experimental.prm), and the PRM Trainer
    page of its documentation.

    Args:
        model: a token classifier with two labels. Its head computes in fp32 then.
        tokenizer: its tokenizer.
        name: for messages.
        problem_separator: written between the problem and the first step.
        options: of `StepReward`. `step_separator` ends the steps of the text, and is also what the model was trained
            to score at: a line break by TRL's default.

    Raises:
        ModelFolderError: the model has not two labels.
        RewardFormatError: the tokenizer has no tokens for the separator.
    """

    format = "trl"
    looked_for = "a token classifier with two labels"
    separator = "\n"

    def __init__(
        self, model: Any, tokenizer: Any, name: str = "trl", problem_separator: str = "", **options: Any
    ) -> None:
        from pyro_llm.rewards.formats.heads import head_in_float32

        head_in_float32(model)
        super().__init__(model, tokenizer, name, **options)
        if model.config.num_labels != 2:
            raise ModelFolderError(
                f"The model {name!r} has {model.config.num_labels} labels; a process reward of TRL is a token "
                "classifier with two: wrong (0) and right (1)."
            )
        self.problem_separator = problem_separator
        self._end = tokenizer.encode(self.step_separator, add_special_tokens=False)
        if not self._end or tokenizer.unk_token_id in self._end:
            raise RewardFormatError(
                f"The tokenizer of {name!r} has no tokens for the step separator {self.step_separator!r}, at which "
                "steps are scored; give the one that the model was trained with as step_separator"
            )

    @classmethod
    def recognises(cls, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint is in this format."""
        labels = len(checkpoint.config.get("id2label") or (0, 1))  # a config says nothing of two labels, the default
        return checkpoint.is_a("ForTokenClassification") and labels == 2

    @classmethod
    def load(cls, checkpoint: Checkpoint, **options: Any) -> TRLProcessReward:
        """The reward of a checkpoint."""
        return cls(checkpoint.token_classifier(), checkpoint.tokenizer, checkpoint.name, **options)

    def encode(self, part: Steps) -> list[int]:
        """The tokens up to the separator of the last step."""
        texts = [part.problem + self.problem_separator, *part.steps]
        problem, *steps = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        begin = [] if self.tokenizer.bos_token_id is None else [self.tokenizer.bos_token_id]
        return [*begin, *problem, *(token for step in steps for token in (*step, *self._end))]
