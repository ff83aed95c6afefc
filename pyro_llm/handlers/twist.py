"""The statement by which a program tells how promising its particles are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine.runtime import effectful
from torch import Tensor

LogPotential = Tensor | float | Callable[[], Tensor | float]


@effectful(type="twist")
def _declare_twist(log_potential: LogPotential) -> None:
    return None


def twist(name: str, log_potential: LogPotential) -> None:
    r"""Declare the twist of each particle: an estimate of the factors still to come, by which to resample.

    Under `SMC`, resampling goes by the weights times $\psi_t = \exp(\text{log\_potential})$, and so the factor that a
    step contributes to it is $g_t \psi_t / \psi_{t-1}$. The potential that a resampling used is divided out again of
    the weights, and the last one is in no estimate: so posterior and evidence are those of the program without its
    twists, $\hat Z$ stays unbiased whatever they are, and what they change is its variance. The optimal twist is
    the expectation of the product of all later factors given the particle's past; with it, and a proposal in proportion
    to $p \, g_t \psi_t$, each run has $\hat Z = Z$. Whiteley & Lee (2014), "Twisted particle filters"; for language
    models, Zhao et al. (2024), "Probabilistic inference in language models via twisted sequential Monte Carlo",
    arXiv 2404.17546.

    A twist takes the place of the one before. Outside the engine this statement does nothing. Handlers of
    `poutine.mask` around it mask it (to 0), and the elements of plates are added up.

    Args:
        name: unique among the sites of the program.
        log_potential: log of the potential of each particle, finite, in the batch shape of the program's sites; or a
            function of no arguments that returns it, called only when the engine needs it: not on replays, and not
            outside the engine.

    Raises:
        NonFiniteWeightError: under an engine, a log-potential is NaN or infinite. Zero potentials would remove
            particles that the target may need: bound it from below.
        PlateNestingError: under an engine, a shape that is not that of the particles and plates.
        DuplicateSiteError: under an engine, the name occurs twice.

    Examples:
        The last observation says most, so particles should be chosen by it from the start:

        >>> import torch, pyro, pyro.distributions as dist
        >>> from pyro_llm.infer import SMC
        >>> def model(y):
        ...     start = pyro.sample("start", dist.Normal(0.0, 1.0))
        ...     twist("promising", lambda: dist.Normal(start, 1.1).log_prob(y))
        ...     pyro.factor("weak", -0.1 * start.abs())
        ...     end = pyro.sample("end", dist.Normal(start, 0.5))
        ...     pyro.sample("y", dist.Normal(end, 0.1), obs=y)
        >>> pyro.set_rng_seed(0)
        >>> posterior = SMC(model, num_particles=1000, ess_threshold=1.0).run(torch.tensor(2.0))
    """
    _declare_twist(log_potential, name=name)


def evaluated(msg: Any) -> Tensor:
    """The log-potential of a twist's message, scaled and masked by the handlers of the program."""
    if msg["mask"] is False:
        return torch.zeros(())
    log_potential = msg["args"][0]
    if callable(log_potential):
        log_potential = log_potential()
    return scale_and_mask(torch.as_tensor(log_potential), msg["scale"], msg["mask"])
