"""Search over particles: scores instead of weights, and rules that select whose past is continued."""

from pyro_llm.ops.search.annealing import AnnealedResampling, Annealing, temperature
from pyro_llm.ops.search.keep_best import KeepBest, KeepBestOfSubtrees
from pyro_llm.ops.search.population import SearchPopulation
from pyro_llm.ops.search.scores import ScoreName, Scores, check_score
from pyro_llm.ops.search.selection import Candidates, Selected, SelectionRule

__all__ = [
    "AnnealedResampling",
    "Annealing",
    "Candidates",
    "KeepBest",
    "KeepBestOfSubtrees",
    "ScoreName",
    "Scores",
    "SearchPopulation",
    "Selected",
    "SelectionRule",
    "check_score",
    "temperature",
]
