"""A reward from a Python function that may hang or crash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyro_llm.errors import RewardError
from pyro_llm.rewards.function import same_function
from pyro_llm.rewards.isolation.isolated_reward import IsolatedReward


@dataclass(frozen=True, eq=False)
class IsolatedFunctionReward(IsolatedReward):
    """A `FunctionReward` whose function runs in another process, with a time limit.

    Nothing else can stop a Python function: threads cannot be ended, and signals reach no C code, nor any other thread
    than the main one. The process stays for the texts to come, and is replaced when it hangs or crashes. The function
    is sent to it by value (cloudpickle), with the variables that it captures: lambdas and notebooks will do.

    Args:
        fn: maps the text since the prompt to the probability, in [0, 1], that it is accepted; a function of the text
            alone.
        timeout: seconds for a text; None for no limit.
        on_failure: probability of a text on which the function runs out of time or its process ends; None: an error.
        workers: processes, each with one text at a time.

    Raises:
        OptionError: an option is out of its range.
        RewardError: `fn` cannot be called; when it scores: it cannot be sent, or returns no number in [0, 1].
        RewardFunctionError: when it scores: out of time, or a process that ended; it names the text. Exceptions of the
            function come as they are, with a note.

    Examples:
        >>> import time
        >>> from pyro_llm.lm import TableLM
        >>> state = TableLM(lambda tokens: [0.9, 0.1], ["a", "."], eos_token_id=1).prompt("")
        >>> IsolatedFunctionReward(lambda text: time.sleep(60), timeout=0.1, on_failure=0.5)(state)
        tensor(0., dtype=torch.float64)
    """

    fn: Callable[[str], float]

    def __post_init__(self) -> None:
        if not callable(self.fn):
            raise RewardError(f"A reward needs a function from a text to a probability, not {self.fn!r}.")
        super().__post_init__()

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, IsolatedFunctionReward)
            and same_function(self.fn, other.fn)
            and self._options() == other._options()
        )

    def __hash__(self) -> int:
        return hash((getattr(self.fn, "__code__", self.fn), *self._options()))

    def _options(self) -> tuple[float | None, float | None, int]:
        return self.timeout, self.on_failure, self.workers

    def make(self) -> Callable[[], Callable[[str], Any]]:
        """The function, which is made already."""
        fn = self.fn
        return lambda: fn
