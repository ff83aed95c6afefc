"""Language models and rewards as Pyro distributions."""

from pyro_llm.distributions.accept import accept
from pyro_llm.distributions.acceptance import Acceptance
from pyro_llm.distributions.constrained_next_token import ConstrainedNextToken
from pyro_llm.distributions.emission import EmissionFactor
from pyro_llm.distributions.lazy_factor import LazyFactor
from pyro_llm.distributions.llm import LLM
from pyro_llm.distributions.next_token import NextToken
from pyro_llm.distributions.powered_next_token import PoweredNextToken
from pyro_llm.distributions.token_sequence import token_sequence

__all__ = [
    "LLM",
    "Acceptance",
    "ConstrainedNextToken",
    "EmissionFactor",
    "LazyFactor",
    "NextToken",
    "PoweredNextToken",
    "accept",
    "token_sequence",
]
