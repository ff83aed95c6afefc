"""Tokens that go through a process reward model, against encoding every prefix anew at each step."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForTokenClassification

from benchmarks.runtime.model_use import watch
from benchmarks.runtime.plan import Plan
from benchmarks.runtime.reasoning import run_smc, text_work
from benchmarks.runtime.results import Comparison, Figure
from benchmarks.runtime.timing import Work
from benchmarks.runtime.workload import ModelSize, Workload, tokenizer
from pyro_llm import TextState
from pyro_llm.infer import Posterior
from pyro_llm.rewards import ProcessReward
from pyro_llm.rewards.reward_model import TextReward
from pyro_llm.run_scope import current_cost


class Reencoding(TextReward):
    """Reads each distinct text from the first token of its prompt to its last, in one batch a step."""

    dtype = torch.float32

    def __init__(self, model: Qwen2ForTokenClassification) -> None:
        self.model, self.tokenizer = model, tokenizer()

    def items(self, state: TextState) -> Sequence[Hashable]:
        """The texts, prompt included; all are equally long here."""
        return [state.prompt + text for text in state.texts.flat]

    @torch.no_grad()
    def score(self, items: Sequence[Any]) -> list[float]:
        """Log-odds of label 1 at the last token."""
        tokens = torch.tensor([self.tokenizer.encode(text) for text in items], device=self.model.device)
        logits = self.model(input_ids=tokens).logits[:, -1].float()
        current_cost().reward_calls += 1
        current_cost().reward_tokens += tokens.numel()
        return (logits[:, 1] - logits[:, 0]).tolist()


def reward_model(size: ModelSize, device: str) -> Qwen2ForTokenClassification:
    """A token classifier of the size of the language model, with seeded random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        config = Qwen2Config(**size.config())
        config.num_labels, config.initializer_range = 2, 0.1  # scores that tell texts apart
        return Qwen2ForTokenClassification(config).eval().to(device)


def compare(plan: Plan) -> Comparison:
    """Tokens forwarded by re-encoding over those forwarded by `ProcessReward`, in runs that are otherwise the same."""
    workload = plan.workload
    model = reward_model(workload.model_size, workload.device)
    rewards = {"ProcessReward": ProcessReward(model, tokenizer()), "re-encoding": Reencoding(model)}
    last: dict[str, Posterior] = {}

    def contender(name: str) -> Work:
        with watch(workload.lm.model) as use, watch(model) as judged:
            posterior = last[name] = run_smc(workload, rewards[name])
        return _work(workload, posterior, use) | {
            "reward_model": f"{type(model).__name__} of the same size",
            "used_reward_tokens": posterior.cost.reward_tokens,
            "used_reward_tokens_with_padding": judged.tokens,
            "used_reward_calls": judged.calls,
        }

    timed = plan.alternate({name: partial(contender, name) for name in rewards})
    ours, theirs = (last[name] for name in rewards)
    if not torch.equal(ours.returns.tokens, theirs.returns.tokens):
        raise AssertionError("the two rewards led the same particles to different texts: their scores differ")
    torch.testing.assert_close(ours.log_evidence, theirs.log_evidence, rtol=0, atol=1e-3)

    ratio = theirs.cost.reward_tokens / ours.cost.reward_tokens
    measure = f"Tokens through the reward model, {workload.describe()}: re-encoding each prefix over `ProcessReward`"
    return Comparison(
        figures=[Figure(measure, [ratio], target=4.0, bound="at least")],
        work=timed.equal_work(),
        used=timed.used(),
        seconds=timed.seconds,
    )


def _work(workload: Workload, posterior: Posterior, use: Any) -> Work:
    text = posterior.returns
    steps = sum(name.startswith("step_") for name in posterior.samples)
    prompt, sampled = text.prompt_tokens.tolist(), posterior.cost.lm_tokens_sampled
    return text_work(workload, use, prompt, text.lengths.numel(), steps, sampled)
