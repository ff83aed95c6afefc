"""Rewards: what judges the texts of a state, as log-odds of acceptance."""

from pyro_llm.rewards.function import FunctionReward
from pyro_llm.rewards.load import load_reward
from pyro_llm.rewards.process import ProcessReward
from pyro_llm.rewards.reward_model import RewardModel, TextReward

__all__ = ["FunctionReward", "ProcessReward", "RewardModel", "TextReward", "load_reward"]
