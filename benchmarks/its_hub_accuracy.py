"""its-hub's particle filtering beside ours: the same language model and reward, problems, seeds and budgets.

Usage: python -m benchmarks.its_hub_accuracy [--problems 40] [--budgets 4,16,32] [--seed 0]

its-hub 1.2.0 calls the embedded `abacus` in this process: its language model draws one step of all texts in a batch of
ours, and its reward scores all texts in one batch. What it sends is text, so each step reads all texts anew, as it
would be with a server without a prefix cache. Its filter resamples after every step and gives the text of the highest
last score; ours gives the most probable answer. A third contender is ours with its-hub's weights, the odds of the
reward at each step, and its resampling: what remains between the two is how the answer is chosen. Intervals are over
problems, differences paired.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Collection
from dataclasses import asdict
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


def state_of(problem: str, texts: list[str], ended: Collection[str] = ()) -> TextState:
    """The state in which these texts follow a problem; those among `ended` end with EOS, which the reward reads too."""
    lm = models()[0]
    eos = list(lm.eos_token_ids[:1])
    rows = [torch.tensor(lm.encode(text) + (eos if text in ended else []), dtype=torch.long) for text in texts]
    tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)
    return lm.prompt(problem).expand((len(texts),)).append(tokens)


def its_hub(problem: str, budget: int, seed: int) -> str | None:
    """The answer of its-hub's particle filter."""
    from its_hub.api import AbstractLanguageModel, AbstractProcessRewardModel
    from its_hub.core.algorithms.particle_gibbs import ParticleFiltering
    from its_hub.core.lms.step_generation import StepGeneration

    ended: set[str] = set()

    class Policy(AbstractLanguageModel):
        @torch.no_grad()
        async def agenerate(self, messages: Any, **options: Any) -> Any:
            many = isinstance(messages[0], list)
            texts = ["".join(one.content for one in talk[1:]) for talk in (messages if many else [messages])]
            lm = models()[0]
            with run_scope():
                state = state_of(problem, texts)
                step = LLM(lm, state, stop="\n", max_tokens=32).sample()
            finished = state.append(step).finished.tolist()
            written = [lm.decode([id for id in row if id != PAD]) for row in step.tolist()]
            ended.update(a + b for a, b, is_over in zip(texts, written, finished, strict=True) if is_over)
            replies = [
                {"role": "assistant", "content": text + (END if is_over else "")}
                for text, is_over in zip(written, finished, strict=True)
            ]
            return replies if many else replies[0]

    class Judge(AbstractProcessRewardModel):
        def score(self, prompt_or_messages: Any, steps: Any) -> Any:
            texts = [steps] if isinstance(steps, str) else list(steps)
            with torch.no_grad(), run_scope():
                scores = models()[1](state_of(problem, texts, ended)).double().sigmoid().tolist()
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
    return _ours(problem, seed, ReasoningSSM(*models(), max_steps=MAX_STEPS), num_particles=budget)


def ours_with_odds(problem: str, budget: int, seed: int) -> str | None:
    """The answer of our particle filter with its-hub's weights and resampling: the odds at each step, multinomially."""
    model = ReasoningSSM(*models(), max_steps=MAX_STEPS, emission="odds")
    return _ours(problem, seed, model, num_particles=budget, ess_threshold=1.0, resampling="multinomial")


def _ours(problem: str, seed: int, model: ReasoningSSM, **options: Any) -> str | None:
    pyro.set_rng_seed(seed)
    return SMC(model, progress=False, **options).run(problem).decision(pyro_llm.answer)


CONTENDERS = {"pyro_llm": ours, "pyro_llm, weights of its-hub": ours_with_odds, "its-hub": its_hub}


def compared(right: dict[str, list[float]], seconds: dict[str, float], cpu_seconds: dict[str, float]) -> dict[str, Any]:
    """The figures of one budget, by contender: right answers, its-hub's less, paired, and the time of a problem."""
    values = {name: np.array(rows) for name, rows in right.items()}
    return {
        name: {
            "right": asdict(mean_interval(rows, 0.0, 1.0)),
            "more_than_its_hub": asdict(mean_interval(rows - values["its-hub"], -1.0, 1.0)),
            "seconds_a_problem": seconds[name] / len(rows),
            "cpu_seconds_a_problem": cpu_seconds[name] / len(rows),
            "right_by_problem": "".join(str(int(one)) for one in rows),
        }
        for name, rows in values.items()
    }


def main(
    problems: Annotated[int, typer.Option(min=2, max=500, help="How many of the test problems.")] = 40,
    budgets: Annotated[str, typer.Option(help="Generations, with commas between them.")] = "4,16,32",
    seed: Annotated[int, typer.Option(help="Of the first problem; each has its own.")] = 0,
    out: Annotated[Path, typer.Option(help="Where the figures are written.")] = RESULTS,
) -> None:
    """Measure and print accuracy and wall time of all."""
    chosen, figures = zoo.problems("abacus")[:problems], {}
    for solve in CONTENDERS.values():
        solve(chosen[0]["problem"], 4, seed)  # what is loaded and compiled once does not count
    for budget in map(int, budgets.split(",")):
        right: dict[str, list[float]] = {name: [] for name in CONTENDERS}
        seconds, cpu_seconds = dict.fromkeys(CONTENDERS, 0.0), dict.fromkeys(CONTENDERS, 0.0)
        for index, problem in enumerate(chosen):
            for name, solve in CONTENDERS.items():  # by turns, so that what else the machine does slows both
                started, cpu_started = time.perf_counter(), time.process_time()
                found = solve(problem["problem"], budget, seed + index)
                seconds[name] += time.perf_counter() - started
                cpu_seconds[name] += time.process_time() - cpu_started
                right[name].append(float(found == problem["answer"]))
        figures[budget] = compared(right, seconds, cpu_seconds)
        print(budget, json.dumps(figures[budget]), flush=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps({"problems": len(chosen), "seed": seed, "budgets": figures}, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
