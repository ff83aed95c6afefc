"""A program without a language model, by `loop`, against Pyro's own `SMCFilter`."""

from __future__ import annotations

import math
from collections.abc import MutableMapping
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SMCFilter
from torch import Tensor

from benchmarks.runtime.plan import Plan
from benchmarks.runtime.results import Comparison, Figure
from benchmarks.runtime.timing import Work
from pyro_llm import loop
from pyro_llm.infer import SMC

DRIFT, STEP_SCALE, NOISE_SCALE = 0.9, 1.0, 0.8
ALLOWED = 8.0
"""Standard errors that the filtered mean may be off, resampling noise included."""


def observations(steps: int) -> Tensor:
    """Simulated from the model, with a fixed seed."""
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(2, steps, generator=generator)
    x, seen = 0.0, []
    for t in range(steps):
        x = DRIFT * x + STEP_SCALE * float(noise[0, t])
        seen.append(x + NOISE_SCALE * float(noise[1, t]))
    return torch.tensor(seen)


def exact_mean(seen: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of the last state given all observations, by the Kalman filter."""
    mean, variance = 0.0, 0.0
    for y in seen.tolist():
        mean, variance = DRIFT * mean, DRIFT**2 * variance + STEP_SCALE**2
        gain = variance / (variance + NOISE_SCALE**2)
        mean, variance = mean + gain * (y - mean), (1 - gain) * variance
    return mean, math.sqrt(variance)


def program(seen: Tensor) -> Tensor:
    """The model as a program."""
    state = {"x": torch.tensor(0.0)}
    for t in loop("time", len(seen), state, unbroken=True):
        state["x"] = pyro.sample(f"x_{t}", dist.Normal(DRIFT * state["x"], STEP_SCALE))
        pyro.sample(f"y_{t}", dist.Normal(state["x"], NOISE_SCALE), obs=seen[t])
    return state["x"]


class StateModel:
    """The model as `SMCFilter` takes it."""

    def __init__(self, particles: int) -> None:
        self.particles = particles

    def init(self, state: MutableMapping[str, Any]) -> None:
        """Start at 0."""
        self.t = 0
        state["x"] = torch.zeros(self.particles)

    def step(self, state: MutableMapping[str, Any], y: Tensor) -> None:
        """A transition and an observation."""
        state["x"] = pyro.sample(f"x_{self.t}", dist.Normal(DRIFT * state["x"], STEP_SCALE))
        pyro.sample(f"y_{self.t}", dist.Normal(state["x"], NOISE_SCALE), obs=y)
        self.t += 1


class StateGuide:
    """Proposes from the model, as ours does."""

    def init(self, state: MutableMapping[str, Any]) -> None:
        """Start at 0."""
        self.t = 0

    def step(self, state: MutableMapping[str, Any], y: Tensor) -> None:
        """A transition."""
        pyro.sample(f"x_{self.t}", dist.Normal(DRIFT * state["x"], STEP_SCALE))
        self.t += 1


def ours(seen: Tensor, particles: int) -> Work:
    """The program, by SMC."""
    pyro.set_rng_seed(0)
    posterior = SMC(program, particles, progress=False).run(seen)
    latent = sum(name.startswith("x_") for name in posterior.samples)
    resamplings = int(posterior.stats.resampled.sum())
    return _work(seen, posterior.returns[0], posterior.log_weights[0], latent, resamplings)


def theirs(seen: Tensor, particles: int) -> Work:
    """The same model, by `SMCFilter`."""
    pyro.set_rng_seed(0)
    guide, resamplings = StateGuide(), 0
    smc = SMCFilter(StateModel(particles), guide, particles, max_plate_nesting=0, ess_threshold=0.5)
    smc.init()
    for y in seen:
        smc.step(y)
        resamplings += int(not smc.state._log_weights.any())
    return _work(seen, smc.state["x"], smc.state._log_weights, guide.t, resamplings)


def _work(seen: Tensor, last: Tensor, log_weights: Tensor, latent: int, resamplings: int) -> Work:
    weights = log_weights.double().softmax(-1)
    mean, scale = exact_mean(seen)
    error = float(weights @ last.double()) - mean
    allowed = ALLOWED * scale / math.sqrt(1 / float(weights.square().sum()))
    if abs(error) > allowed:
        raise AssertionError(f"the filtered mean is off by {error:.3f}, more than {allowed:.3f}")
    return {
        "model": "linear-Gaussian state space, one dimension",
        "steps": latent,
        "observations": len(seen),
        "particles": len(last),
        "states_sampled": latent * len(last),
        "used_resamplings": resamplings,
    }


def compare(plan: Plan) -> Comparison:
    """Wall time of ours over that of `SMCFilter`."""
    seen, particles = observations(plan.filter_steps), plan.filter_particles
    contenders = {"pyro_llm": lambda: ours(seen, particles), "SMCFilter": lambda: theirs(seen, particles)}
    timed = plan.alternate(contenders)
    measure = (
        f"Kalman program with `loop` (no LM), T={plan.filter_steps}, N={particles}: wall time over Pyro's `SMCFilter`"
    )
    return Comparison(
        figures=[Figure(measure, timed.ratios("pyro_llm", "SMCFilter"), target=1.0, bound="at most")],
        work=timed.equal_work(),
        used=timed.used(),
        seconds=timed.seconds,
    )
