"""Rewards that are wrong on purpose, to find out what an algorithm makes of an imperfect reward."""

from pyro_llm.rewards.disturbance.disturbed import TRIVIAL_STEP, DisturbanceKind, Disturbed
from pyro_llm.rewards.disturbance.keyed_noise import keyed_uniforms

__all__ = ["TRIVIAL_STEP", "DisturbanceKind", "Disturbed", "keyed_uniforms"]
