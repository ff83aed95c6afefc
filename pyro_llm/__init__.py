"""Language models as Pyro distributions: scale inference by posterior inference, and read it in ArviZ."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyro_llm import diagnostics, distributions, errors, handlers, infer, lm, models, ops, raters, rewards, zoo
    from pyro_llm.answers import answer
    from pyro_llm.budget import Budget
    from pyro_llm.distributions import accept
    from pyro_llm.handlers import loop, twist
    from pyro_llm.lm import TextState, load_lm
    from pyro_llm.prices import Prices
    from pyro_llm.raters import observe_votes
    from pyro_llm.rewards import load_reward

__version__ = "0.1.0"

__all__ = [
    "Budget",
    "Prices",
    "TextState",
    "__version__",
    "accept",
    "answer",
    "diagnostics",
    "distributions",
    "errors",
    "handlers",
    "infer",
    "lm",
    "load_lm",
    "load_reward",
    "loop",
    "models",
    "observe_votes",
    "ops",
    "raters",
    "rewards",
    "twist",
    "zoo",
]

_HOME = {
    "Budget": "budget",
    "Prices": "prices",
    "TextState": "lm",
    "accept": "distributions",
    "answer": "answers",
    "load_lm": "lm",
    "load_reward": "rewards",
    "loop": "handlers",
    "observe_votes": "raters",
    "twist": "handlers",
}


def __getattr__(name: str) -> Any:
    """Import on first use: `pyro-llm --help` need not wait for torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_HOME.get(name, name)}")
    value = getattr(module, name) if name in _HOME else module
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
