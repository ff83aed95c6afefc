"""Functions of text in processes of their own, which can be stopped."""

from pyro_llm.rewards.isolation.isolated_function import IsolatedFunctionReward
from pyro_llm.rewards.isolation.isolated_reward import IsolatedReward

__all__ = ["IsolatedFunctionReward", "IsolatedReward"]
