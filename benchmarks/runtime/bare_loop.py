"""SMC against the bare loop that only decodes as many tokens in one batch with transformers' `DynamicCache`."""

from __future__ import annotations

import torch
from transformers import DynamicCache

from benchmarks.runtime.model_use import plain_attention, watch
from benchmarks.runtime.plan import Plan
from benchmarks.runtime.reasoning import smc_work, text_work
from benchmarks.runtime.results import Comparison, Figure
from benchmarks.runtime.timing import Work
from benchmarks.runtime.workload import Workload


@torch.no_grad()
def decode(workload: Workload) -> torch.Tensor:
    """Read the prompt once, copy its cache to all rows, then sample a token a row and forward it. `[N, tokens]`.

    No stopping, scoring, resampling or keyed draws; the last token is not forwarded.
    """
    model, particles = workload.lm.model, workload.particles
    torch.manual_seed(0)
    cache = DynamicCache(config=model.config)
    prompt = torch.tensor([workload.prompt_tokens], device=workload.lm.device)
    logits = model(prompt, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]
    cache.batch_repeat_interleave(particles)
    logits = logits.expand(particles, -1)
    tokens: list[torch.Tensor] = []
    for index in range(workload.steps * workload.step_tokens):
        if index > 0:
            logits = model(tokens[-1], past_key_values=cache, use_cache=True).logits[:, -1]
        tokens.append(torch.multinomial(logits.softmax(-1), 1))
    return torch.cat(tokens, -1)


def bare_work(workload: Workload) -> Work:
    """Run the bare loop, and say what it did."""
    with plain_attention(workload.lm.model), watch(workload.lm.model) as use:
        tokens = decode(workload)
    steps = tokens.shape[1] // workload.step_tokens
    return text_work(workload, use, workload.prompt_tokens, len(tokens), steps, tokens.numel())


def compare(plan: Plan) -> Comparison:
    """Wall time of SMC over that of the bare loop."""
    workload = plan.workload
    timed = plan.alternate({"pyro_llm": lambda: smc_work(workload), "bare loop": lambda: bare_work(workload)})
    measure = f"SMC, {workload.describe()}: wall time over a bare loop that decodes as many tokens with `DynamicCache`"
    return Comparison(
        figures=[Figure(measure, timed.ratios("pyro_llm", "bare loop"), target=1.0, bound="at most")],
        work=timed.equal_work(),
        used=timed.used(),
        seconds=timed.seconds,
    )
