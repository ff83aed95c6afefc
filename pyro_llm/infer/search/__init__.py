"""Searches over the executions of a program: best-of-N, self-consistency, beam search and their like."""

from pyro_llm.infer.search.beam_search import BeamSearch
from pyro_llm.infer.search.best_of_n import BestOfN
from pyro_llm.infer.search.dvts import DVTS
from pyro_llm.infer.search.entropic_smc import EntropicSMC
from pyro_llm.infer.search.greedy import Greedy
from pyro_llm.infer.search.self_consistency import SelfConsistency

__all__ = ["DVTS", "BeamSearch", "BestOfN", "EntropicSMC", "Greedy", "SelfConsistency"]
