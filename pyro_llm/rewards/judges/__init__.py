"""Rewards that are a language model's own opinion: its answer to a question, or how sure it was."""

from pyro_llm.rewards.judges.confidence import ConfidenceReward, Measure
from pyro_llm.rewards.judges.judge import JudgeReward
from pyro_llm.rewards.judges.rubric import RUBRIC

__all__ = ["RUBRIC", "ConfidenceReward", "JudgeReward", "Measure"]
