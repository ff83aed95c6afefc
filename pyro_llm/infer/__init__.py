"""Inference algorithms, the posterior that they return, and the errors that they raise."""

from pyro_llm.errors import (
    AllParticlesDeadError,
    BatchedBranchError,
    DeadRunWarning,
    DuplicateSiteError,
    FailedRunsError,
    HiddenRandomnessError,
    NoChainsError,
    NoModeError,
    NonFiniteWeightError,
    NoScoresError,
    NoTextError,
    NoWeightsError,
    OptionError,
    OuterHandlerError,
    PlateNestingError,
    PosteriorFileError,
    ProposalError,
    PyroLLMError,
    ReplayError,
)
from pyro_llm.infer.concurrent_runs import Outcome
from pyro_llm.infer.importance import Importance
from pyro_llm.infer.marginal import Marginal
from pyro_llm.infer.markov_chains import MarkovChains, Tempering
from pyro_llm.infer.parallel_tempering import ParallelTempering
from pyro_llm.infer.particle_gibbs import ParticleGibbs
from pyro_llm.infer.posterior import Posterior
from pyro_llm.infer.search import DVTS, BeamSearch, BestOfN, EntropicSMC, Greedy, SelfConsistency
from pyro_llm.infer.searched import Searched
from pyro_llm.infer.smc import SMC
from pyro_llm.infer.stats import StepStats
from pyro_llm.ops.steps import StepReport
from pyro_llm.ops.tempering import AdaptiveTempering

__all__ = [
    "DVTS",
    "SMC",
    "AdaptiveTempering",
    "AllParticlesDeadError",
    "BatchedBranchError",
    "BeamSearch",
    "BestOfN",
    "DeadRunWarning",
    "DuplicateSiteError",
    "EntropicSMC",
    "FailedRunsError",
    "Greedy",
    "HiddenRandomnessError",
    "Importance",
    "Marginal",
    "MarkovChains",
    "NoChainsError",
    "NoModeError",
    "NoScoresError",
    "NoTextError",
    "NoWeightsError",
    "NonFiniteWeightError",
    "OptionError",
    "Outcome",
    "OuterHandlerError",
    "ParallelTempering",
    "ParticleGibbs",
    "PlateNestingError",
    "Posterior",
    "PosteriorFileError",
    "ProposalError",
    "PyroLLMError",
    "ReplayError",
    "Searched",
    "SelfConsistency",
    "StepReport",
    "StepStats",
    "Tempering",
]
