"""its-hub's particle filtering beside ours: the same language model and reward, problems, seeds and budgets.

Usage: python -m benchmarks.its_hub_accuracy [--problems 40] [--budgets 4,16,64] [--seed 0]

its-hub 1.2.0 calls the embedded `abacus` in this process: its language model draws one step of all texts in a batch of
ours, and its reward scores all texts in one batch. What it sends is text, so each step reads all texts anew, as it
would be with a server without a prefix cache. Its filter resamples after every step and gives the text of the highest
last score; ours gives the most probable answer. Intervals are over problems, differences paired.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyro
import torch
import typer

import pyro_llm
from benchmarks.corruption import MAX_STEPS, models
from pyro_llm import zoo
from pyro_llm.answers import answer
from pyro_llm.distributions import LLM
from pyro_llm.infer import SMC
from pyro_llm.lm import PAD, TextState
from pyro_llm.models import ReasoningSSM
from pyro_llm.run_scope import run_scope
from pyro_llm.study.bootstrap import mean_interval

RESULTS = Path(__file__).parent / "results" / "its_hub_accuracy.json"
END = "<end>"


def state_of(problem: str, texts: list[str]) -> TextState:
    """The state in which these texts follow a problem."""
    lm = models()[0]
    rows = [torch.tensor(lm.encode(text.removesuffix(END)), dtype=torch.long) for text in texts]
    tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)
    return lm.prompt(problem).expand((len(texts),)).append(tokens)


def its_hub(problem: str, budget: int, seed: int) -> str | None:
    """The answer of its-hub's particle filter."""
    from its_hub.api import AbstractLanguageModel, AbstractProcessRewardModel
    from its_hub.core.algorithms.particle_gibbs import ParticleFiltering
    from its_hub.core.lms.step_generation import StepGeneration

    class Policy(AbstractLanguageModel):
        @torch.no_grad()
        async def agenerate(self, messages: Any, **options: Any) -> Any:
            many = isinstance(messages[0], list)
            texts = ["".join(one.content for one in talk[1:]) for talk in (messages if many else [messages])]
            lm = models()[0]
            with run_scope():
                state = state_of(problem, texts)
                step = LLM(lm, state, stop="\n", max_tokens=32).sample()
            ended = state.append(step).finished.tolist()
            written = [lm.decode([id for id in row if id != PAD]) for row in step.tolist()]
            replies = [
                {"role": "assistant", "content": text + (END if is_over else "")}
                for text, is_over in zip(written, ended, strict=True)
            ]
            return replies if many else replies[0]

    class Judge(AbstractProcessRewardModel):
        def score(self, prompt_or_messages: Any, steps: Any) -> Any:
            texts = [steps] if isinstance(steps, str) else list(steps)
            with torch.no_grad(), run_scope():
                scores = models()[1](state_of(problem, texts)).double().sigmoid().tolist()
            return scores[0] if isinstance(steps, str) else scores

        async def ascore(self, prompt_or_messages: Any, steps: Any) -> Any:
            return self.score(prompt_or_messages, steps)

    for set_seed in (random.seed, np.random.seed, pyro.set_rng_seed):
        set_seed(seed)
    # It stops a step later than it is told.
    steps = StepGeneration(MAX_STEPS - 1, "\n", END, temperature=1.0, include_stop_str_in_output=True)
    run = ParticleFiltering(steps, Judge()).ainfer(Policy(), problem, budget)
    return answer(asyncio.run(run)["content"].removesuffix(END))


def ours(problem: str, budget: int, seed: int) -> str | None:
    """The answer of our particle filter."""
    pyro.set_rng_seed(seed)
    model = ReasoningSSM(*models(), max_steps=MAX_STEPS)
    return SMC(model, num_particles=budget, progress=False).run(problem).decision(pyro_llm.answer)


def main(
    problems: Annotated[int, typer.Option(min=2, max=500, help="How many of the test problems.")] = 40,
    budgets: Annotated[str, typer.Option(help="Generations, with commas between them.")] = "4,16,64",
    seed: Annotated[int, typer.Option(help="Of the first problem; each has its own.")] = 0,
    out: Annotated[Path, typer.Option(help="Where the figures are written.")] = RESULTS,
) -> None:
    """Measure and print accuracy and wall time of both."""
    chosen, figures = zoo.problems("abacus")[:problems], {}
    contenders = {"pyro_llm": ours, "its-hub": its_hub}
    for solve in contenders.values():
        solve(chosen[0]["problem"], 4, seed)  # what is loaded and compiled once does not count
    for budget in map(int, budgets.split(",")):
        right: dict[str, list[float]] = {name: [] for name in contenders}
        seconds = dict.fromkeys(contenders, 0.0)
        for index, problem in enumerate(chosen):
            for name, solve in contenders.items():
                started = time.perf_counter()
                found = solve(problem["problem"], budget, seed + index)
                seconds[name] += time.perf_counter() - started
                right[name].append(float(found == problem["answer"]))
        values = {name: np.array(rows) for name, rows in right.items()}
        difference = values["pyro_llm"] - values["its-hub"]
        figures[budget] = {
            "right": {name: str(mean_interval(rows, 0.0, 1.0)) for name, rows in values.items()},
            "difference": str(mean_interval(difference, -1.0, 1.0)),
            "seconds_a_problem": {name: spent / len(chosen) for name, spent in seconds.items()},
        }
        print(budget, json.dumps(figures[budget]))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"problems": len(chosen), "seed": seed, "budgets": figures}, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
