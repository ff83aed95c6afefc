"""The share of wall time that is not spent in forward passes of the model."""

from __future__ import annotations

from functools import partial

import torch

from benchmarks.runtime.model_use import watch
from benchmarks.runtime.plan import Plan
from benchmarks.runtime.reasoning import REWARD, smc_work
from benchmarks.runtime.results import Comparison, Figure
from benchmarks.runtime.timing import Work
from pyro_llm import TextState


def indifferent(state: TextState) -> torch.Tensor:
    """A reward that costs nothing: even odds for every text."""
    return torch.zeros(state.batch_shape, device=state.tokens.device)


def compare(plan: Plan) -> Comparison:
    """Everything but forward passes (drawing tokens, the program, the reward, resampling) over all."""
    workload = plan.workload
    in_model: dict[str, list[float]] = {"a function of text": [], "no reward": []}

    def contender(name: str) -> Work:
        with watch(workload.lm.model) as use:
            work = smc_work(workload, REWARD if name == "a function of text" else indifferent)
        in_model[name].append(use.seconds)
        return work

    timed = plan.alternate({name: partial(contender, name) for name in in_model})
    figures = []
    for name, seconds in in_model.items():
        pairs = zip(seconds[-plan.repeats :], timed.seconds[name], strict=True)  # the first was to warm up
        shares = [100 * (1 - model / wall) for model, wall in pairs]
        measure = f"Engine overhead on that work (reward: {name}): all but forward passes of the model, of wall time"
        figures.append(Figure(measure, shares, target=10.0, bound="at most", unit=" %"))
    return Comparison(
        figures,
        work=timed.equal_work(),
        used=timed.used(),
        seconds=timed.seconds,
        details={"seconds_in_forward_passes": {name: times[-plan.repeats :] for name, times in in_model.items()}},
    )
