"""Rewards made of other rewards: powers, errors, calibration, ensembles, caches. All of them are rewards again."""

from pyro_llm.rewards.composition.cached import Cached
from pyro_llm.rewards.composition.calibrated import Calibrated
from pyro_llm.rewards.composition.ensemble import Ensemble, EnsembleRule
from pyro_llm.rewards.composition.power import Power
from pyro_llm.rewards.composition.with_error import WithError

__all__ = ["Cached", "Calibrated", "Ensemble", "EnsembleRule", "Power", "WithError"]
