"""What the language model can do: accuracy of one sample, of any of 64, of the majority of 32, and its slips."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable

import torch
from rich import print
from rich.progress import Progress
from transformers import AutoModelForCausalLM

from training.abacus import files, tokenizer
from training.abacus.diagnosis import first_slip
from training.abacus.measures import with_error
from training.abacus.problems import Problem, draw
from training.abacus.publish import TEST_PROBLEMS
from training.abacus.sampling import complete

SAMPLES, VOTERS = 64, 32


def answer(text: str) -> str | None:
    """The answer of a finished solution; None if it was cut off."""
    last = text.split("\n")[-1]
    return last.removeprefix("answer: ").removesuffix(tokenizer.END) if last.endswith(tokenizer.END) else None


def majority(answers: list[str | None]) -> str | None:
    """The most frequent answer, the first met among equals; None where there is none."""
    counts = Counter(a for a in answers if a is not None)
    return counts.most_common(1)[0][0] if counts else None


def sample() -> list[list[str]]:
    """`SAMPLES` solutions of each test problem at temperature 1."""
    model, tok = AutoModelForCausalLM.from_pretrained(files.LM).eval(), tokenizer.load()
    prompts = tok([f"{draw('test', i).text}\n" for i in range(TEST_PROBLEMS)])["input_ids"]
    starts = [prompt for prompt in prompts for _ in range(SAMPLES)]
    with Progress() as bars:
        bar = bars.add_task("samples of the test problems", total=len(starts))
        rows = complete(model, starts, torch.Generator().manual_seed(9), progress=lambda n: bars.advance(bar, n))
    texts = [tok.decode(row) for row in rows]
    return [texts[SAMPLES * i : SAMPLES * (i + 1)] for i in range(TEST_PROBLEMS)]


def accuracy(problem: Problem, texts: list[str]) -> dict[str, float]:
    """One problem's share of right samples, whether any is right, and the share of majorities that are."""
    answers = [answer(text) for text in texts]
    right = [a == problem.answer for a in answers]
    votes = [majority(answers[i : i + VOTERS]) == problem.answer for i in range(0, SAMPLES, VOTERS)]
    return {
        "one_sample": sum(right) / SAMPLES,
        f"any_of_{SAMPLES}": float(any(right)),
        f"majority_of_{VOTERS}": sum(votes) / len(votes),
    }


def table(problems: list[Problem], rows: list[dict[str, float]], key: Callable[[Problem], object]) -> dict[str, dict]:
    """The accuracies with their standard errors over problems, for each value of `key`."""
    groups: dict[object, list[dict[str, float]]] = defaultdict(list)
    for problem, row in zip(problems, rows, strict=True):
        groups[key(problem)].append(row)
    return {
        str(value): {name: with_error([row[name] for row in group]) for name in group[0]}
        for value, group in sorted(groups.items())
    }


def slips(problems: list[Problem], samples: list[list[str]]) -> dict[str, float]:
    """Of the samples that leave the exact solution, the share that does so by each slip."""
    counts: Counter[str] = Counter()
    for problem, texts in zip(problems, samples, strict=True):
        found = (first_slip(problem, text.removesuffix(tokenizer.END)) for text in texts)
        counts.update(slip[1] for slip in found if slip)
    return {name: count / counts.total() for name, count in counts.most_common()}


def main() -> None:
    """Measures the language model on the published test problems."""
    files.start(seed=9)
    problems, samples = [draw("test", i) for i in range(TEST_PROBLEMS)], sample()
    files.write_lines(files.SAMPLES, samples)
    rows = [accuracy(p, texts) for p, texts in zip(problems, samples, strict=True)]
    figures = {
        "all": table(problems, rows, lambda p: "all")["all"],
        "by_steps": table(problems, rows, lambda p: len(p.lines)),
        "by_kind": table(problems, rows, lambda p: p.kind),
        "slips": slips(problems, samples),
    }
    files.write_figures("lm", figures)
    print({name: round(value["mean"], 4) for name, value in figures["all"].items()})


if __name__ == "__main__":
    main()
