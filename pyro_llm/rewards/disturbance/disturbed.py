"""A reward with a fault of a known kind and size."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from pyro_llm.errors import OptionError
from pyro_llm.lm.state import TextState
from pyro_llm.rewards.composition.derived import check_probability, check_reward
from pyro_llm.rewards.disturbance.keyed_noise import keyed_uniforms
from pyro_llm.rewards.reward import Reward
from pyro_llm.rewards.reward_model import RewardModel, check_log_odds, distinct_texts
from pyro_llm.validation import as_integer

DisturbanceKind = Literal["gaussian", "heavy-tailed", "corrupted", "flipped", "exploitable"]

TRIVIAL_STEP = r"\b(\d+) [-+*/] \1 = "
"""A number computed with itself, 7 - 7 = 0: one text in twenty of `abacus` has it, almost none of them right."""

VERY_HIGH = 6.0
"""Log-odds of a prefix that a corrupted reward is wrong about: a probability of 0.9975."""

# The streams of the uniform numbers; results in benchmarks/results were drawn by the last two.
_STREAMS = {"gaussian": "gaussian", "heavy-tailed": "heavy-tailed", "corrupted": "high", "flipped": "flip"}


@dataclass(frozen=True)
class Disturbed(Reward):
    r"""A reward that is wrong, and always in the same way: its error is a function of the prompt and the text alone.

    So it is what an imperfect reward model is, not a noisy measurement: asking again gives the same score, in a replay,
    in another run, process or machine, and a search can find where it is wrong. The errors of different texts are
    independent, also of those of their own prefixes. With z the log-odds of the reward and s the size:

    - `"gaussian"`: z + s e, e standard normal;
    - `"heavy-tailed"`: z + s e, e of Student's t with 2 degrees of freedom: the quartiles are 1.2 times as far out as
      the normal ones, but the variance is infinite, and one score in a hundred is off by more than 10 s;
    - `"corrupted"`: for a share s of all texts, chosen at random, `log_odds` whatever the text is; else z;
    - `"flipped"`: for a share s of all texts -z; else z;
    - `"exploitable"`: z + s for the texts in which the regular expression `pattern` is found; else z. Nothing is random
      in it: a recognisable flaw, as a text that flatters the judge, which the more a search looks the surer it finds.

    An infinite z stays so under noise. Errors are exact in distribution: the quantile function of the law at a uniform
    number that a hash gives (`keyed_uniforms`).

    Args:
        reward: the reward, z.
        kind: of the fault.
        size: s: log-odds, or of `"corrupted"` and `"flipped"` a share in [0, 1]. With 0 the reward is as it was.
        seed: another one gives other errors; `"exploitable"` takes none but 0.
        log_odds: of `"corrupted"`; `VERY_HIGH` by default.
        pattern: of `"exploitable"`; `TRIVIAL_STEP` by default.

    Raises:
        OptionError: there is no such kind, the size is out of its range, the pattern is no regular expression, or an
            option is given that the kind does not have.
        RewardError: the reward cannot be called.

    Examples:
        >>> from pyro_llm.lm import TableLM
        >>> from pyro_llm.rewards import FunctionReward
        >>> state = TableLM(lambda tokens: [0.9, 0.1], ["a", "."], eos_token_id=1).prompt("")
        >>> fair = FunctionReward(lambda text: 0.5)
        >>> [round(Disturbed(fair, "gaussian", 1.0, seed)(state).item(), 3) for seed in (0, 1, 0)]
        [-0.803, 0.242, -0.803]
    """

    reward: RewardModel
    kind: DisturbanceKind
    size: float
    seed: int = 0
    log_odds: float | None = None
    pattern: str | None = None

    def __post_init__(self) -> None:
        check_reward(self.reward)
        if self.kind not in get_args(DisturbanceKind):
            raise OptionError(
                f"There is no kind={self.kind!r}; choose {', '.join(map(repr, get_args(DisturbanceKind)))}."
            )
        if self.kind in ("corrupted", "flipped"):
            check_probability("size", self.size)
        elif not _is_finite(self.size) or self.size < 0:
            raise OptionError(f"size={self.size!r}: give log-odds of at least 0.")
        if (seed := as_integer(self.seed)) is None:
            raise OptionError(f"seed={self.seed!r}: give an integer.")
        object.__setattr__(self, "seed", seed)
        self._check_own_options()

    def _check_own_options(self) -> None:
        if self.log_odds is not None and (self.kind != "corrupted" or not _is_finite(self.log_odds)):
            raise OptionError(f'log_odds={self.log_odds!r}: it is a finite number, of a "corrupted" reward alone.')
        if self.kind != "exploitable":
            if self.pattern is not None:
                raise OptionError(f'pattern={self.pattern!r}: only an "exploitable" reward has one.')
            return
        if self.seed != 0:
            raise OptionError(f'seed={self.seed!r}: nothing is random in an "exploitable" reward; leave it at 0.')
        try:
            re.compile(self._pattern)
        except (re.error, TypeError) as error:
            raise OptionError(f"pattern={self.pattern!r} is no regular expression: {error}.") from error

    @property
    def _pattern(self) -> str:
        return TRIVIAL_STEP if self.pattern is None else self.pattern

    def __call__(self, state: TextState) -> Tensor:
        """Log-odds that each text of `state` is accepted, disturbed. Shape `state.batch_shape`, float64."""
        log_odds = check_log_odds(self.reward(state), state, self.reward).double()
        flat = self.disturb(log_odds.reshape(-1), state.prompt, distinct_texts(state))
        return flat.reshape(state.batch_shape)

    def disturb(self, log_odds: Tensor, prompt: str, texts: Sequence[str]) -> Tensor:
        """What is said in place of log-odds that are known.

        Args:
            log_odds: of the reward, one for each text. Float64 `[len(texts)]`.
            prompt: that the texts continue.
            texts: since the prompt.
        """
        if self.kind == "exploitable":
            found = torch.tensor([re.search(self._pattern, text) is not None for text in texts])
            return torch.where(found.to(log_odds.device), log_odds + self.size, log_odds)
        uniforms = keyed_uniforms(texts, prompt, self.seed, _STREAMS[self.kind]).to(log_odds.device)
        if self.kind == "gaussian":
            return log_odds + self.size * torch.special.ndtri(uniforms)
        if self.kind == "heavy-tailed":  # the quantile function of t with 2 degrees of freedom is elementary
            return log_odds + self.size * (2 * uniforms - 1) / torch.sqrt(2 * uniforms * (1 - uniforms))
        very_high = VERY_HIGH if self.log_odds is None else self.log_odds
        wrong = -log_odds if self.kind == "flipped" else torch.full_like(log_odds, very_high)
        return torch.where(uniforms < self.size, wrong, log_odds)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
