"""A reward that is known to err."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pyro_llm.rewards.composition.derived import Derived, check_probability, written
from pyro_llm.rewards.log_odds import of_noisy


@dataclass(frozen=True, repr=False)
class WithError(Derived):
    r"""The noise-aware likelihood $P(\text{accept}) = (1 - f_r)\, r + f_a\, (1 - r)$, `reward.with_error(f_a, f_r)`.

    A text that deserves acceptance, which $r$ gives the probability of, is accepted unless it is falsely rejected, and
    one that does not is accepted only falsely: the channel of Dawid & Skene (1979) for one rater and two classes. So
    a verifier of 0 or 1 kills no particle if $f_a > 0$, and a score that is high by mistake gains at most a factor of
    $(1 - f_r) / f_a$ over one that is low.

    Args:
        reward: the reward, $r$.
        false_accept: $f_a$, the probability that what should be rejected is accepted, in [0, 1].
        false_reject: $f_r$, the probability that what should be accepted is rejected, in [0, 1]. With $f_a + f_r > 1$
            the evaluator is worse than chance, and its reward is turned round.

    Raises:
        OptionError: an error is no number in [0, 1].

    Examples:
        >>> from pyro_llm.lm import TableLM
        >>> from pyro_llm.rewards import FunctionReward
        >>> state = TableLM(lambda tokens: [0.9, 0.1], ["a", "."], eos_token_id=1).prompt("")
        >>> FunctionReward(lambda text: 0).with_error(false_accept=0.05, false_reject=0.1)(state).sigmoid()
        tensor(0.0500, dtype=torch.float64)
    """

    false_accept: float = 0.0
    false_reject: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_probability("false_accept", self.false_accept)
        check_probability("false_reject", self.false_reject)

    def transform(self, log_odds: Tensor) -> Tensor:
        """Log-odds of acceptance by the evaluator that errs."""
        return of_noisy(log_odds, self.false_accept, self.false_reject)

    def __repr__(self) -> str:
        errors = f"false_accept={self.false_accept!r}, false_reject={self.false_reject!r}"
        return f"{written(self.reward)}.with_error({errors})"
