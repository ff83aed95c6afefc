"""A reward trusted less, or more."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from pyro_llm.errors import OptionError
from pyro_llm.rewards.composition.derived import Derived, written
from pyro_llm.rewards.log_odds import from_log_surprisal, log_surprisal


@dataclass(frozen=True, repr=False)
class Power(Derived):
    r"""The reward with probability of acceptance $r^\beta$, written `reward ** beta`.

    That is the likelihood of an acceptance raised to the power $\beta$, a tempered likelihood, and for an integer
    $\beta$ that of being accepted by so many independent judges. `accept(..., reward ** beta, state)` is therefore the
    same factor as `accept(..., reward, state, inverse_temperature=beta)` with the emissions `"bernoulli"` and
    `"potential"`, but not with `"odds"`, which raises the odds to the power; and only the inverse temperature may be a
    tensor, learnt or sampled. Multiplying the log-odds by $\beta$ is another thing, it makes a score more or less
    confident about both outcomes: `TemperatureScaling(temperature=1 / beta)` of `Calibrated` does it.

    Args:
        reward: the reward, $r$.
        exponent: $\beta > 0$, finite.

    Raises:
        OptionError: the exponent is not a positive, finite number.

    Examples:
        >>> from pyro_llm.lm import TableLM
        >>> from pyro_llm.rewards import FunctionReward
        >>> state = TableLM(lambda tokens: [0.9, 0.1], ["a", "."], eos_token_id=1).prompt("")
        >>> (FunctionReward(lambda text: 0.25) ** 0.5)(state).sigmoid()
        tensor(0.5000, dtype=torch.float64)
    """

    exponent: float

    def __post_init__(self) -> None:
        super().__post_init__()
        number = isinstance(self.exponent, int | float) and not isinstance(self.exponent, bool)
        if not (number and self.exponent > 0 and math.isfinite(self.exponent)):
            raise OptionError(
                f"A reward to the power of {self.exponent!r}: give a positive, finite number. For a power that is "
                "sampled or learnt, take accept(..., inverse_temperature=...)."
            )

    def transform(self, log_odds: Tensor) -> Tensor:
        r"""Log-odds of $r^\beta$."""
        return from_log_surprisal(log_surprisal(log_odds) + math.log(self.exponent))

    def __repr__(self) -> str:
        return f"{written(self.reward)} ** {self.exponent!r}"
