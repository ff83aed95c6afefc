"""Saves posteriors, and beside each what this environment's ArviZ (0.23) says of it: `check.py` compares under 1.x.

Usage: python tests/arviz1/write.py FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch

import pyro_llm
from pyro_llm.diagnostics.arviz import import_arviz
from pyro_llm.diagnostics.pareto import pareto_k
from pyro_llm.infer import Importance, ParticleGibbs
from pyro_llm.infer.posterior import Posterior
from pyro_llm.models import ReasoningSSM

PROBLEM = (
    "Mia has 47 marbles. Mia buys 48 more. 7 children take 6 marbles each. How many marbles does Mia have in the end?"
)
KEPT = ["mean", "sd", "ess_bulk", "r_hat"]
"""Not the ESS of the tails: 0.23 takes them at 5 and 95 percent, 1.x at the ends of its credible interval."""


def reasoning() -> Posterior:
    """Chains of particle Gibbs over texts of the embedded language model."""
    model = ReasoningSSM(pyro_llm.load_lm("abacus"), pyro_llm.load_reward("abacus"), max_steps=12)
    pyro.set_rng_seed(0)
    return ParticleGibbs(model, num_particles=8, num_iterations=25, num_chains=4).run(PROBLEM)


def random_walk() -> Posterior:
    """Chains of particle Gibbs over numbers."""

    def model() -> None:
        x = torch.zeros(())
        for t in range(3):
            x = pyro.sample(f"x_{t}", dist.Normal(x, 1.0))
            pyro.sample(f"y_{t}", dist.Normal(x, 0.5), obs=torch.tensor(float(t)))

    pyro.set_rng_seed(0)
    return ParticleGibbs(model, num_particles=16, num_iterations=100, num_chains=4).run()


def weighted() -> Posterior:
    """Particles whose weights have a tail."""

    def model() -> None:
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(x, 0.3), obs=torch.tensor(1.0))

    pyro.set_rng_seed(0)
    return Importance(model, num_particles=1000, num_runs=4).run()


def main(folder: Path) -> None:
    """Writes `NAME.nc` and `NAME.json` for each posterior."""
    arviz = import_arviz()
    folder.mkdir(parents=True, exist_ok=True)
    for name, posterior in (("reasoning", reasoning()), ("random_walk", random_walk()), ("weighted", weighted())):
        posterior.save(folder / f"{name}.nc")
        summary = arviz.summary(posterior.to_arviz(), round_to="none")  # of all variables: none is in the way
        before = {"summary": summary[KEPT].to_dict(orient="index")}
        if posterior.chains is None:
            before["pareto_k"] = pareto_k(posterior.log_weights[0])
        (folder / f"{name}.json").write_text(json.dumps(before))
        print(f"{name}: written, and summarised by ArviZ {arviz.__version__}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
