"""The language model and the reward that a configuration names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pyro_llm.errors import PyroLLMError, StudyConfigError
from pyro_llm.lm import load_lm
from pyro_llm.rewards import ArithmeticReward, Disturbed, RegexReward, RewardModel, load_reward

VERIFIERS: dict[str, Callable[..., RewardModel]] = {"arithmetic": ArithmeticReward, "regex": RegexReward}
"""Rewards without a model, by the name that stands in place of one's."""


def load_language_model(spec: Mapping[str, Any]) -> Any:
    """The language model of `lm:`, `{load: name, ...}` with the options of `load_lm`.

    Raises:
        PyroLLMError: it cannot be loaded.
    """
    options = dict(spec)
    return load_lm(options.pop("load"), **options)


def load_study_reward(spec: Mapping[str, Any], seed: int = 0) -> RewardModel:
    r"""The reward of `reward:`.

    Args:
        spec: `{load: name, ...}` with the options of `load_reward`; the name may be that of a verifier, `arithmetic` or
            `regex`, with its options. Under `disturbance`, the options of `Disturbed`: `{kind: gaussian, size: 1.0}`.
        seed: of a disturbance that gives none: that of the repetition, so that each has another wrong reward.

    Raises:
        StudyConfigError: there is no such option.
        PyroLLMError: it cannot be loaded, or an option has a value that it cannot have.

    Examples:
        >>> load_study_reward({"load": "arithmetic", "wrong": 0.1})
        ArithmeticReward(right=1.0, wrong=0.1, no_equation=1.0, separator='\n')
    """
    options = dict(spec)
    name, disturbance = options.pop("load"), options.pop("disturbance", None)
    try:
        reward = VERIFIERS[name](**options) if name in VERIFIERS else load_reward(name, **options)
    except TypeError as error:
        raise StudyConfigError(f"reward: {name}: {error}.") from error
    return reward if disturbance is None else disturbed(reward, disturbance, seed)


def disturbed(reward: RewardModel, disturbance: Any, seed: int = 0) -> Disturbed:
    """A reward with the fault that a configuration says.

    Raises:
        StudyConfigError: it says none that there is.
    """
    if not isinstance(disturbance, Mapping):
        raise StudyConfigError(
            f"reward.disturbance: {disturbance!r} is no mapping; give {{kind: gaussian, size: 1.0}}."
        )
    options = dict(disturbance)
    if options.get("kind") != "exploitable":
        options.setdefault("seed", seed)
    try:
        return Disturbed(reward, **options)
    except (TypeError, PyroLLMError) as error:
        raise StudyConfigError(f"reward.disturbance: {error}") from error
