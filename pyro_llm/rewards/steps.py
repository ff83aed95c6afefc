"""Texts as steps: where they are cut, and rewards that score each step and aggregate."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from torch import Tensor

from pyro_llm.errors import OptionError
from pyro_llm.rewards.aggregation import DEFAULT_AGGREGATION, Aggregation, aggregate, check_aggregation
from pyro_llm.rewards.head import HeadReward, Solution

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Steps(NamedTuple):
    """The steps of a solution up to the one that is scored, the last."""

    problem: str
    steps: tuple[str, ...]


def split_steps(text: str, separator: str) -> tuple[str, ...]:
    r"""The steps of a text, which the separator ends; what follows the last separator is a step too, if anything does.

    An empty text is one empty step.

    Example:
        >>> split_steps("3 + 4 = 7\n7 * 2 =", "\n")
        ('3 + 4 = 7', '7 * 2 =')
        >>> split_steps("3 + 4 = 7\n", "\n")
        ('3 + 4 = 7',)
    """
    return tuple(text.removesuffix(separator).split(separator))


class StepReward(HeadReward):
    """A process reward model: a head's score at the end of each step, aggregated.

    The score of a step is that of the prefix that ends with it, so a run remembers it, and a prefix that is one step
    longer costs one more. With `aggregation="last"`, the default, and `"model"` only the last one is asked for.

    `accept` at each step multiplies the weight by the *aggregated* score at each step. So the product of step scores is
    the target of `emission="bernoulli"` with `"last"`, and of `emission="potential"` with `"product"`; `"bernoulli"`
    with `"product"` would count the first step once for every step. docs/rewards.md has the table.

    Args:
        model: one whose `logits` are the head's outputs at every token.
        tokenizer: its tokenizer.
        name: for messages.
        aggregation: how the scores of steps make that of the text; see `pyro_llm.rewards.aggregation`.
        step_separator: what ends a step in the language model's text; the published one by default.
        options: of `HeadReward`.

    Raises:
        OptionError: there is no such aggregation; the separator is empty.
    """

    separator: ClassVar[str]
    """What ends a step in the texts that the model was published with."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        name: str = "process reward",
        aggregation: Aggregation = DEFAULT_AGGREGATION,
        step_separator: str | None = None,
        **options: Any,
    ) -> None:
        check_aggregation(aggregation)
        if step_separator == "":
            raise OptionError("step_separator is empty; give the string that ends each step, such as '\\n'")
        self.aggregation: Aggregation = aggregation
        self.step_separator = self.separator if step_separator is None else step_separator
        super().__init__(model, tokenizer, name, **options)

    def parts(self, solution: Solution) -> Sequence[Hashable]:
        """What is read for a solution: the steps up to each that counts."""
        problem, text, _ = solution
        if self.aggregation == "model":
            return [Steps(problem, (text.removesuffix(self.step_separator),))]
        steps = split_steps(text, self.step_separator)
        first = len(steps) if self.aggregation == "last" else 1
        return [Steps(problem, steps[:count]) for count in range(first, len(steps) + 1)]

    def combine(self, outputs: Tensor) -> float:
        """The aggregated log-odds."""
        return float(aggregate(self.step_log_odds(outputs), self.aggregation))

    def step_log_odds(self, outputs: Tensor) -> Tensor:
        """Log-odds of steps from the head's outputs, by default of two classes: wrong (0) and right (1)."""
        return outputs[:, 1] - outputs[:, 0]

    @abstractmethod
    def encode(self, part: Any) -> list[int]:
        """The token ids that the model reads; its head is read at the last."""
