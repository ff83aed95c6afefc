"""Evaluators as unknowns: raters whose errors are inferred, as rewards; people's votes."""

from pyro_llm.raters.conditioning import condition_on_votes, without_votes
from pyro_llm.raters.fit import fit_raters
from pyro_llm.raters.observe import observe_votes
from pyro_llm.raters.posterior import RaterPosterior
from pyro_llm.raters.program import RaterPrior, rater_program
from pyro_llm.raters.ratings import Ratings
from pyro_llm.raters.review import Question, informative_prefixes
from pyro_llm.raters.reward import RatersReward
from pyro_llm.raters.vote_likelihood import VoteLikelihood
from pyro_llm.raters.votes import Vote, Votes, append_vote, load_votes

__all__ = [
    "Question",
    "RaterPosterior",
    "RaterPrior",
    "RatersReward",
    "Ratings",
    "Vote",
    "VoteLikelihood",
    "Votes",
    "append_vote",
    "condition_on_votes",
    "fit_raters",
    "informative_prefixes",
    "load_votes",
    "observe_votes",
    "rater_program",
    "without_votes",
]
