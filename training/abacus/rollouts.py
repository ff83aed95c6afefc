"""Rollouts of the language model, with a Monte-Carlo label for each step.

A step is labelled as in Math-Shepherd (Wang et al., arXiv 2312.08935, hard estimation): 1 if any of `TRIES`
completions from the end of the step reaches the right answer. A rollout that goes through the step is one of its
completions, further ones are only drawn until the first right one, and once a step is labelled 0 so are those that
follow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from rich import print
from rich.progress import Progress
from transformers import AutoModelForCausalLM, LlamaForCausalLM, PreTrainedTokenizerFast

from training.abacus import files, tokenizer
from training.abacus.diagnosis import right_steps
from training.abacus.problems import Problem, draw
from training.abacus.sampling import complete

TRIES = 8
ROUNDS = (1, 1, 2, 4)
"""Completions drawn from a step at a time."""

FIRST = 2 * 10**6
"""The rollouts' problems start here in the training split, after those of the language model."""

TRAIN_PROBLEMS, TRAIN_EACH = 7_000, 2
HELD_OUT_PROBLEMS, HELD_OUT_EACH = 500, 4


@dataclass
class Tally:
    """Completions from a prefix: how many were drawn, and whether one was right."""

    tries: int = 0
    right: bool = False

    @property
    def settled(self) -> bool:
        """Whether the label is known."""
        return self.right or self.tries >= TRIES


@dataclass
class Tree:
    """The rollouts of one problem, and a tally of each prefix of theirs that ends a step."""

    problem: Problem
    prompt: list[int]
    rollouts: list[list[int]]
    tallies: dict[tuple[int, ...], Tally] = field(default_factory=dict)


def step_ends(row: list[int], newline: int, end: int) -> list[int]:
    """Places just after the last token of each step: after each newline, and after the end token."""
    return [i + 1 for i, token in enumerate(row) if token in (newline, end)]


class Labeller:
    """Labels the steps of rollouts by completing them."""

    def __init__(self, model: LlamaForCausalLM, tok: PreTrainedTokenizerFast, seed: int) -> None:
        self.model, self.tok = model, tok
        self.generator = torch.Generator().manual_seed(seed)
        self.newline, self.end = tok("\n")["input_ids"][0], tok.eos_token_id

    def is_right(self, problem: Problem, row: list[int]) -> bool:
        """Whether a whole solution ends in the right answer."""
        return self.tok.decode(row).endswith(f"answer: {problem.answer}{tokenizer.END}")

    def record(self, tree: Tree, row: list[int]) -> None:
        """Counts a solution as a completion of each prefix in the tree that it goes through."""
        right = self.is_right(tree.problem, row)
        for i in step_ends(row, self.newline, self.end):
            tally = tree.tallies.get(tuple(row[:i]))
            if tally is not None and not tally.settled:
                tally.tries += 1
                tally.right |= right

    def grow(self, problems: list[Problem], each: int, show: Callable[[str, int], Callable[[int], None]]) -> list[Tree]:
        """Draws `each` rollouts of every problem and labels all their steps."""
        prompts = self.tok([f"{p.text}\n" for p in problems])["input_ids"]
        rows = complete(
            self.model,
            [prompt for prompt in prompts for _ in range(each)],
            self.generator,
            progress=show("rollouts", len(prompts) * each),
        )
        trees = [Tree(p, prompts[i], rows[each * i : each * (i + 1)]) for i, p in enumerate(problems)]
        for tree in trees:
            for row in tree.rollouts:
                for i in step_ends(row, self.newline, self.end):
                    # The end token leaves nothing to complete: that label is whether the answer is right.
                    ended = row[i - 1] == self.end
                    right = ended and self.is_right(tree.problem, row)
                    tree.tallies.setdefault(tuple(row[:i]), Tally(TRIES if ended else 0, right))
            for row in tree.rollouts:
                self.record(tree, row)
        for depth in range(max(len(step_ends(row, self.newline, self.end)) for t in trees for row in t.rollouts)):
            for count in ROUNDS:
                self.deepen(trees, depth, count, show)
        return trees

    def deepen(
        self, trees: list[Tree], depth: int, count: int, show: Callable[[str, int], Callable[[int], None]]
    ) -> None:
        """Draws `count` completions from each unsettled prefix of `depth` + 1 steps whose own prefixes are right."""
        wanted: list[tuple[Tree, tuple[int, ...]]] = []
        for tree in trees:
            open_ones = set()
            for row in tree.rollouts:
                ends = step_ends(row, self.newline, self.end)[: depth + 1]
                prefixes = [tuple(row[:i]) for i in ends]
                reached = len(ends) == depth + 1 and all(tree.tallies[p].right for p in prefixes[:-1])
                if reached and not tree.tallies[prefixes[-1]].settled:
                    open_ones.add(prefixes[-1])
            wanted.extend((tree, p) for p in sorted(open_ones) for _ in range(count))
        if not wanted:
            return
        starts = [[*tree.prompt, *prefix] for tree, prefix in wanted]
        rows = complete(
            self.model, starts, self.generator, progress=show(f"step {depth + 1}, {count} more", len(starts))
        )
        for (tree, prefix), row in zip(wanted, rows, strict=True):
            self.record(tree, [*prefix, *row])

    def rows(self, tree: Tree) -> list[dict]:
        """The rollouts of a tree, as they are stored."""
        stored = []
        for row in tree.rollouts:
            ends, labels = step_ends(row, self.newline, self.end), []
            for i in ends:
                labels.append(int(tree.tallies[tuple(row[:i])].right and all(labels)))
            text = self.tok.decode(row).removesuffix(tokenizer.END)
            stored.append(
                {
                    "problem": tree.problem.id,
                    "prompt": tree.prompt,
                    "solution": row,
                    "ends": ends,
                    "labels": labels,
                    "exact": [int(right) for right in right_steps(tree.problem, text)][: len(ends)],
                    "text": text,
                }
            )
        return stored


def labelled(split: str, first: int, count: int, each: int, seed: int) -> list[dict]:
    """Labelled rollouts of `count` problems."""
    model = AutoModelForCausalLM.from_pretrained(files.LM).eval()
    labeller = Labeller(model, tokenizer.load(), seed)
    with Progress() as bars:

        def show(title: str, total: int) -> Callable[[int], None]:
            bar = bars.add_task(f"{split}: {title}", total=total)
            return lambda rows: bars.advance(bar, rows)

        trees = labeller.grow([draw(split, first + i) for i in range(count)], each, show)
    return [row for tree in trees for row in labeller.rows(tree)]


def main() -> None:
    """Labels the rollouts that the reward model learns from, and those it is measured on."""
    files.start(seed=4)
    held_out = labelled("validation", 0, HELD_OUT_PROBLEMS, HELD_OUT_EACH, seed=5)
    files.write_lines(files.HELD_OUT, held_out)
    train = labelled("train", FIRST, TRAIN_PROBLEMS, TRAIN_EACH, seed=6)
    files.write_lines(files.ROLLOUTS, train)
    share = [label for row in train for label in row["labels"]]
    print(f"rollouts: {len(train):,} with {len(share):,} steps, {sum(share) / len(share):.3f} of them right")


if __name__ == "__main__":
    main()
