"""Token-level SMC against llamppl: a factor after each token."""

from __future__ import annotations

import asyncio

import numpy as np
import pyro
import torch

from benchmarks.runtime.model_use import plain_attention, watch
from benchmarks.runtime.plan import Plan
from benchmarks.runtime.reasoning import text_work
from benchmarks.runtime.results import Comparison, Figure
from benchmarks.runtime.timing import Work
from benchmarks.runtime.workload import VOCABULARY_SIZE, Workload
from pyro_llm import TextState, loop
from pyro_llm.distributions import NextToken
from pyro_llm.infer import SMC

PEERS = ("llamppl",)
LOG_FACTORS = torch.linspace(0.2, 1.0, 7).log()[torch.arange(VOCABULARY_SIZE) % 7]
"""The factor of each token."""


def ours(workload: Workload) -> Work:
    """Token-level SMC by `loop` and `NextToken`."""
    log_factors = LOG_FACTORS.to(workload.lm.device)

    def program(prompt: str) -> TextState:
        state = {"text": workload.lm.prompt(prompt)}
        for t in loop("token", workload.steps, state):
            token = pyro.sample(f"token_{t}", NextToken(workload.lm, state["text"]))
            pyro.factor(f"factor_{t}", log_factors[token])
            state["text"] = state["text"].append_token(token)
        return state["text"]

    pyro.set_rng_seed(0)
    smc = SMC(program, workload.particles, resampling="multinomial", progress=False)
    with watch(workload.lm.model) as use:
        posterior = smc.run(workload.prompt)
    lengths = posterior.returns.lengths
    steps = int(lengths.max())
    sampled = posterior.cost.lm_tokens_sampled
    work = text_work(workload, use, posterior.returns.prompt_tokens.tolist(), lengths.numel(), steps, sampled)
    return work | {"used_resamplings": int(posterior.stats.resampled.sum())}


class Llamppl:
    """Token-level SMC by llamppl, its queries batched over all particles and the prompt's keys and values cached."""

    def __init__(self, workload: Workload) -> None:
        from genlm.backend.llm import AsyncTransformer
        from llamppl import CachedCausalLM

        lm = workload.lm
        self.workload = workload
        self.lm = CachedCausalLM(AsyncTransformer(lm.model, lm.tokenizer, batch_size=workload.particles))

    def work(self) -> Work:
        """Run it, and say what it did."""
        from llamppl import LMContext, Model, smc_standard

        workload, log_factors = self.workload, LOG_FACTORS.tolist()
        sampled = 0

        class Program(Model):
            def __init__(self, context: LMContext) -> None:
                super().__init__()
                self.context = context

            async def step(self) -> None:
                nonlocal sampled
                token = await self.sample(self.context.next_token())
                sampled += 1
                self.score(log_factors[token.token_id])
                if self.context.token_count == workload.steps:
                    self.finish()

        np.random.seed(0)
        self.lm.clear_cache()
        model = workload.lm.model
        with plain_attention(model), watch(model) as use, torch.no_grad():
            self.lm.cache_kv(workload.prompt_tokens)
            context = LMContext(self.lm, workload.prompt)
            run = smc_standard(Program(context), workload.particles, ess_threshold=0.5)
            particles = asyncio.run(run)
        (steps,) = {particle.context.token_count for particle in particles}
        (prompt,) = {tuple(particle.context.tokens[: workload.prompt_length]) for particle in particles}
        return text_work(workload, use, [int(token) for token in prompt], len(particles), steps, sampled)


def compare(plan: Plan) -> Comparison:
    """Wall time of llamppl over ours."""
    workload = plan.workload.with_(steps=plan.tokens, step_tokens=1)
    timed = plan.alternate({"pyro_llm": lambda: ours(workload), "llamppl": Llamppl(workload).work})
    measure = (
        f"Token-level SMC, N={workload.particles}, prompt {workload.prompt_length}, {plan.tokens} tokens: "
        "wall time of llamppl over ours"
    )
    return Comparison(
        figures=[Figure(measure, timed.ratios("llamppl", "pyro_llm"), target=8.0, bound="at least")],
        work=timed.equal_work(),
        used=timed.used(),
        seconds=timed.seconds,
    )
