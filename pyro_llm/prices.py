"""What tokens and time cost in money."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pyro_llm.errors import OptionError

if TYPE_CHECKING:
    from pyro_llm.run_scope import Cost


_Name = Literal["lm_input", "lm_output", "reward_input", "hour"]


@dataclass(frozen=True)
class Prices:
    """Hosted prices for a million tokens, or what an hour of one's own machine costs; any of them, added up.

    A language model's input is what it read without having written it (`Cost.lm_tokens_input`), a prompt once for all
    texts that begin with it, as a host bills that keeps prefixes; its output is what was sampled.

    Args:
        lm_input: dollars for a million tokens that language models read.
        lm_output: dollars for a million tokens that language models wrote.
        reward_input: dollars for a million tokens that reward models read.
        hour: dollars for an hour of wall-clock time.

    Raises:
        OptionError: a price is negative or no finite number, or all are 0.

    Examples:
        >>> from pyro_llm.run_scope import Cost
        >>> prices = Prices(lm_input=0.1, lm_output=0.4, reward_input=0.1)
        >>> prices.dollars(Cost(lm_tokens_read=1_000_000, lm_tokens_sampled=2_000_000, reward_tokens=4_000_000))
        1.3
        >>> Prices(hour=1.8).dollars(Cost(seconds=200))
        0.1
    """

    lm_input: float = 0.0
    lm_output: float = 0.0
    reward_input: float = 0.0
    hour: float = 0.0

    def __post_init__(self) -> None:
        for name, price in asdict(self).items():
            if isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < math.inf:
                raise OptionError(f"{name}={price!r} is no price: give dollars, a finite number that is not negative.")
        if not any(asdict(self).values()):
            raise OptionError(f"By these prices all is free: give some of {', '.join(asdict(self))}.")

    def dollars(self, cost: Cost) -> float:
        """The price of what a run has spent."""
        tokens = (
            self.lm_input * cost.lm_tokens_input
            + self.lm_output * cost.lm_tokens_sampled
            + self.reward_input * cost.reward_tokens
        )
        return tokens / 1e6 + self.hour * cost.seconds / 3600

    def settings(self) -> dict[str, float]:
        """The prices that are not 0."""
        return {name: price for name, price in asdict(self).items() if price}

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Prices:
        """Read prices from a JSON file, an object whose keys are the arguments of `Prices`.

        Raises:
            OptionError: there is no such file, or it does not hold prices.
        """
        from pydantic import ConfigDict, TypeAdapter, ValidationError

        from pyro_llm.validation import reason

        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise OptionError(f"Cannot read the prices {str(path)!r}: {error.strerror or error}.") from error
        try:
            prices = TypeAdapter(dict[_Name, float], config=ConfigDict(strict=True)).validate_json(content)
        except ValidationError as error:
            raise OptionError(
                f"{str(path)!r} holds no prices ({reason(error, 'file')}): write a JSON object such as "
                '{"lm_input": 0.1, "lm_output": 0.4}, dollars for a million tokens.'
            ) from error
        return Prices(**prices)
