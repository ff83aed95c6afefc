"""What lower precision costs in accuracy, and what it saves in time: fp32 against bf16 and dynamic int8."""

from __future__ import annotations

import copy
import warnings
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from benchmarks.runtime.plan import Plan
from benchmarks.runtime.results import Comparison
from benchmarks.runtime.timing import Work
from pyro_llm.lm import Decoding, HFLanguageModel, SamplingKey, TextState, load_lm

PROBLEM = (
    "Mia has 47 marbles. Mia buys 48 more. 7 children take 6 marbles each. Tom has 15 fewer than Mia and gives Mia "
    "all of them. How many marbles does Mia have in the end?"
)
EXACT = "fp32"


def compare(plan: Plan) -> Comparison:
    """Texts that the fp32 model has written, scored by the others: no token is drawn in lower precision."""
    seconds: dict[str, list[float]] = {}
    rows, used = [], {}
    for lm, prompt in ((load_lm("abacus", plan.workload.device, "float32"), PROBLEM), _of_workload(plan)):
        lms = {EXACT: lm, **lower_precisions(lm)}
        text = written(lm, prompt, plan)
        timed = plan.alternate({name: partial(forwarded, other, text) for name, other in lms.items()})
        used[lm.name] = timed.equal_work()
        for name, other in lms.items():
            seconds[f"{lm.name}, {name}"] = timed.seconds[name]
            if name != EXACT:
                found = {"model": lm.name, "precision": name, **errors(lm, other, text)}
                rows.append({**found, "time_ratio": median(timed.ratios(name, EXACT))})
    return Comparison([], work=used, seconds=seconds, details={"rows": rows})


def _of_workload(plan: Plan) -> tuple[HFLanguageModel, str]:
    return plan.workload.lm, plan.workload.prompt


def lower_precisions(lm: HFLanguageModel) -> dict[str, HFLanguageModel]:
    """The same model in bf16 and, on a CPU, with the weights of its linear layers in int8."""
    made: dict[str, Any] = {"bf16": copy.deepcopy(lm.model).bfloat16()}
    if lm.device.type == "cpu":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says that torchao is to replace it
            made["dynamic int8"] = torch.ao.quantization.quantize_dynamic(
                copy.deepcopy(lm.model), {torch.nn.Linear}, dtype=torch.qint8
            )
    return {name: HFLanguageModel(model, lm.tokenizer, name=f"{lm.name}, {name}") for name, model in made.items()}


def written(lm: HFLanguageModel, prompt: str, plan: Plan) -> TextState:
    """What the model writes after a prompt. Batch shape `[particles]`."""
    workload = plan.workload
    state = lm.prompt(prompt).expand((workload.particles,))
    slots = torch.arange(workload.particles, device=lm.device)
    length = min(workload.steps * workload.step_tokens, 64)
    return state.append(state.session.sample(state.prefix(), Decoding(length), SamplingKey(0, slots)).tokens)


@torch.no_grad()
def forwarded(lm: HFLanguageModel, text: TextState) -> Work:
    """Forward the tokens of texts one by one, as they are forwarded when they are drawn."""
    cache = DynamicCache(config=lm.model.config)
    tokens = text.tokens.clamp(min=0)
    for column in tokens.unbind(-1):
        lm.model(column.unsqueeze(-1), past_key_values=cache, use_cache=True)
    return {"texts": len(tokens), "tokens": tokens.numel()}


@torch.no_grad()
def errors(exact: HFLanguageModel, other: HFLanguageModel, text: TextState) -> dict[str, float]:
    """Absolute differences, in nats: of all next-token log-probabilities, and of the log-probabilities of the texts."""
    prompt = text.prompt_tokens.expand(len(text.tokens), -1)
    rows = torch.cat([prompt, text.tokens], -1)[:, :-1]

    def law(lm: HFLanguageModel) -> Tensor:
        logits = lm.model(rows.clamp(min=0)).logits[:, prompt.shape[-1] - 1 :]
        return logits.float().log_softmax(-1)[text.tokens >= 0]

    def of_texts(lm: HFLanguageModel) -> Tensor:
        begin = lm.prompt(text.prompt).expand(text.batch_shape)
        return lm.session().score(begin.prefix(), text.tokens, Decoding(text.tokens.shape[-1]))

    tokens, texts = ((of(other) - of(exact)).abs() for of in (law, of_texts))
    return {
        "token_max": float(tokens.max()),
        "token_mean": float(tokens.mean()),
        "text_max": float(texts.max()),
        "text_mean": float(texts.mean()),
    }


def table(comparison: Comparison) -> str:
    """In Markdown, for the documentation."""
    head = (
        "model",
        "precision",
        "next token, max",
        "next token, mean",
        "whole text, max",
        "whole text, mean",
        "time over fp32",
    )
    keys = ("token_max", "token_mean", "text_max", "text_mean", "time_ratio")
    rows = [
        (row["model"], row["precision"], *(f"{row[key]:.2g}" for key in keys)) for row in comparison.details["rows"]
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ("---",) * len(head), *rows])
