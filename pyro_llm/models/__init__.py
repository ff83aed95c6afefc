"""Ready-made Pyro programs."""

from pyro_llm.models.constrained import ConstrainedText
from pyro_llm.models.power import PowerText
from pyro_llm.models.reasoning import ReasoningSSM
from pyro_llm.models.state_space import StateSpace

__all__ = ["ConstrainedText", "PowerText", "ReasoningSSM", "StateSpace"]
