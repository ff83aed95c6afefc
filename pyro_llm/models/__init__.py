"""Ready-made Pyro programs."""

from pyro_llm.models.reasoning import ReasoningSSM

__all__ = ["ReasoningSSM"]
