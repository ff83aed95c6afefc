"""Our own contender in most comparisons: SMC over steps of text."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import pyro

from benchmarks.runtime.model_use import ModelUse, watch
from benchmarks.runtime.timing import Work
from benchmarks.runtime.workload import Workload, acceptance
from pyro_llm.infer import SMC, Posterior
from pyro_llm.models import ReasoningSSM
from pyro_llm.rewards import FunctionReward

REWARD = FunctionReward(acceptance)


def run_smc(workload: Workload, reward: Any = REWARD, seed: int = 0) -> Posterior:
    """SMC on a workload, resampling after every step, as the peers do."""
    pyro.set_rng_seed(seed)
    program = ReasoningSSM(workload.lm, reward, max_steps=workload.steps, stop=None, max_tokens=workload.step_tokens)
    smc = SMC(program, workload.particles, ess_threshold=1.0, resampling="multinomial", progress=False)
    return smc.run(workload.prompt)


def smc_work(workload: Workload, reward: Any = REWARD) -> Work:
    """Run SMC, and say what it did."""
    with watch(workload.lm.model) as use:
        posterior = run_smc(workload, reward)
    text = posterior.returns
    steps = sum(name.startswith("step_") for name in posterior.samples)
    if not bool((text.lengths == steps * workload.step_tokens).all()):
        raise AssertionError(f"texts have {text.lengths.unique().tolist()} tokens after {steps} steps")
    prompt = text.prompt_tokens.tolist()
    return text_work(workload, use, prompt, text.lengths.numel(), steps, posterior.cost.lm_tokens_sampled)


def text_work(
    workload: Workload, use: ModelUse, prompt_tokens: list[int], particles: int, steps: int, tokens_sampled: int
) -> Work:
    """What was done, as facts to compare.

    Args:
        workload: what it was done on.
        use: of the model that all contenders share, as seen by that model.
        prompt_tokens: of the prompt that was continued.
        particles: texts that were written.
        steps: that each took.
        tokens_sampled: by all of them.
    """
    if use.calls == 0:
        raise AssertionError(f"the model {workload.lm.name!r} was not called: another one has done the work")
    return {
        "model": workload.lm.name,
        "prompt_length": len(prompt_tokens),
        "prompt_digest": blake2b(str(prompt_tokens).encode(), digest_size=8).hexdigest(),
        "particles": particles,
        "steps": steps,
        "tokens_sampled": tokens_sampled,
        "used_forward_passes": use.calls,
        "used_tokens_forwarded": use.tokens,
    }
