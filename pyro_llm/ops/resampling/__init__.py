"""Resampling schemes: from the weights of N particles to the ancestors, and the weights, of M.

A scheme is unbiased if the weights of the offspring of particle n sum to M * W_n on average, W_n being its normalised
weight; each here is. Chopin & Papaspiliopoulos, "An Introduction to Sequential Monte Carlo", chapter 9.
"""

from pyro_llm.ops.resampling.inversion import ancestors_of_uniforms
from pyro_llm.ops.resampling.registry import RESAMPLING_SCHEMES, resampling_scheme
from pyro_llm.ops.resampling.scheme import Resampled, ResamplingScheme

__all__ = ["RESAMPLING_SCHEMES", "Resampled", "ResamplingScheme", "ancestors_of_uniforms", "resampling_scheme"]
