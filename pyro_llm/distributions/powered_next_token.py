"""The next token under a power of the language model's law."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from pyro_llm.distributions.tilted_next_token import TiltedNextToken
from pyro_llm.errors import OptionError
from pyro_llm.lm.language_model import LanguageModel
from pyro_llm.lm.state import TextState


class PoweredNextToken(TiltedNextToken):
    r"""The next token with probability $p(v)^\alpha / C$, $C = \sum_v p(v)^\alpha$; `normaliser(value)` is C.

    The law is that of sampling at temperature $1/\alpha$, which taken alone is *not* a power of the law of texts: it is
    short-sighted. With the factors C it is. Of all proposals that look at the prefix alone this one has the least noisy
    weights (Azizi et al., "Power-SMC", arXiv 2602.10273).

    Args:
        lm: the language model.
        state: the texts to continue.
        alpha: the power. Greater than 0; above 1 it favours what is probable.
        temperature: as in `NextToken`: part of the law whose power is taken.
        top_p: as in `NextToken`.
        top_k: as in `NextToken`.
        validate_args: as in `NextToken`.

    Raises:
        OptionError: `alpha` is not positive and finite.
        ValueError: as for `NextToken`.

    Examples:
        >>> import torch
        >>> from pyro_llm.lm import TableLM
        >>> lm = TableLM(lambda tokens: [0.6, 0.4], ["a", "."], eos_token_id=1)
        >>> law = PoweredNextToken(lm, lm.prompt(""), alpha=2)
        >>> law.normaliser(torch.tensor(0)).log_factor.exp()
        tensor(0.5200, dtype=torch.float64)
    """

    def __init__(
        self,
        lm: LanguageModel,
        state: TextState,
        alpha: float,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        validate_args: bool | None = None,
    ) -> None:
        check_power(alpha)
        super().__init__(lm, state, temperature, top_p, top_k, validate_args)
        self.alpha = float(alpha)

    def expand(self, batch_shape: Any, _instance: Any = None) -> PoweredNextToken:
        """The distribution broadcast on the left to `batch_shape`; runs nothing."""
        new = super().expand(batch_shape, _instance)
        new.alpha = self.alpha
        return new

    def replay_key(self) -> dict[str, Any]:
        """What a replay is compared by: the power too."""
        return {**super().replay_key(), "alpha": self.alpha}

    @property
    def tilt(self) -> float:
        """The power."""
        return self.alpha

    def same_tilt(self, tilt: Any) -> bool:
        """Whether `tilt` is the same power."""
        return isinstance(tilt, float) and tilt == self.alpha

    def tilted(self, log_probs: Tensor, rows: Tensor) -> Tensor:
        """The power of the law."""
        return self.alpha * log_probs


def check_power(alpha: Any) -> None:
    """Raise OptionError if `alpha` is not a positive, finite number."""
    is_number = isinstance(alpha, int | float) and not isinstance(alpha, bool)
    if not is_number or not (alpha > 0 and math.isfinite(alpha)):
        raise OptionError(f"alpha={alpha!r}: give a positive, finite number, the power of the language model's law.")
