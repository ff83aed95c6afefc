"""SMC against `ParticleFiltering` of its-hub, whose language model is an adapter that batches `generate`."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.runtime.model_use import plain_attention, watch
from benchmarks.runtime.plan import Plan
from benchmarks.runtime.reasoning import smc_work, text_work
from benchmarks.runtime.results import Comparison, Figure
from benchmarks.runtime.timing import Work
from benchmarks.runtime.workload import Workload, acceptance

PEERS = ("its_hub",)
TARGETS = (6.0, 25.0)


def filter_work(workload: Workload) -> Work:
    """Run its-hub's particle filter, and say what it did."""
    from its_hub.api import AbstractLanguageModel, AbstractProcessRewardModel
    from its_hub.core.algorithms.particle_gibbs import ParticleFiltering
    from its_hub.core.lms.step_generation import StepGeneration

    tokens_sampled = 0
    prompts: set[tuple[int, ...]] = set()

    class BatchedGenerate(AbstractLanguageModel):
        """Continues all texts of a step in one batch. They are equally long, so nothing is padded."""

        @torch.no_grad()
        async def agenerate(self, messages: Any, stop: str | None = None, **options: Any) -> Any:
            nonlocal tokens_sampled
            texts = ["".join(message.content for message in conversation) for conversation in messages]
            rows = torch.tensor([workload.lm.encode(text) for text in texts], device=workload.lm.device)
            prompts.update(tuple(row) for row in rows[:, : workload.prompt_length].tolist())
            written = workload.lm.model.generate(
                rows,
                attention_mask=torch.ones_like(rows),
                do_sample=True,
                temperature=options["temperature"],
                top_k=0,
                max_new_tokens=options["max_completion_tokens"],
            )[:, rows.shape[1] :]
            tokens_sampled += written.numel()
            return [{"role": "assistant", "content": workload.lm.decode(row)} for row in written.tolist()]

    class Acceptance(AbstractProcessRewardModel):
        def score(self, prompt_or_messages: Any, steps: list[str]) -> list[float]:
            return [acceptance(text) for text in steps]

        async def ascore(self, prompt_or_messages: Any, steps: list[str]) -> list[float]:
            return self.score(prompt_or_messages, steps)

    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(0)
    # It stops a step later than it is told.
    steps = StepGeneration(workload.steps - 1, tokens_per_step=workload.step_tokens, temperature=1.0)
    algorithm = ParticleFiltering(steps, Acceptance())
    with plain_attention(workload.lm.model), watch(workload.lm.model) as use:
        run = algorithm.ainfer(BatchedGenerate(), workload.prompt, workload.particles, return_response_only=False)
        result = asyncio.run(run)
    (prompt,) = prompts
    (taken,) = set(result.steps_used_lst)
    return text_work(workload, use, list(prompt), len(result.responses), taken, tokens_sampled)


def compare(plan: Plan) -> Comparison:
    """Wall time of its-hub over ours, at two lengths of the prompt."""
    figures: list[Figure] = []
    work: dict[str, Any] = {}
    used: dict[str, Any] = {}
    seconds: dict[str, list[float]] = {}
    for length, target in zip((plan.workload.prompt_length, plan.long_prompt), TARGETS, strict=True):
        workload = plan.workload.with_(prompt_length=length)
        contenders = {"pyro_llm": partial(smc_work, workload), "its-hub": partial(filter_work, workload)}
        timed = plan.alternate(contenders, warm_up=not figures)
        measure = f"The same at prompt {length}: wall time of its-hub's `ParticleFiltering` over ours"
        figures.append(Figure(measure, timed.ratios("its-hub", "pyro_llm"), target, "at least"))
        work[f"prompt {length}"], used[f"prompt {length}"] = timed.equal_work(), timed.used()
        seconds |= {f"{name}, prompt {length}": times for name, times in timed.seconds.items()}
    return Comparison(figures, work=work, used=used, seconds=seconds)
