"""The mathematics of weighted particles: weights, resampling, genealogy. Pure torch, no Pyro."""
