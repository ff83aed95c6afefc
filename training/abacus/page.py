"""The card's page in Markdown. Every figure in it comes from the card's JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any

ARCHITECTURE = (
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
)


def grid(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table."""
    lines = [list(head), *[list(map(cell, row)) for row in rows]]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cell(value: object) -> str:
    """A value as it stands in a table."""
    if isinstance(value, dict):
        return f"{value['mean']:.3f} ± {value['standard_error']:.3f}"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def accuracy(lm: dict[str, Any]) -> str:
    """Accuracies of the language model, over all problems and in parts."""
    names = list(lm["all"])
    parts = {"all": lm["all"], **lm["by_kind"], **{f"{n} steps": row for n, row in lm["by_steps"].items()}}
    rows = [[title, row[names[0]]["problems"], *(row[name] for name in names)] for title, row in parts.items()]
    return grid(["problems", "number", *(name.replace("_", " ") for name in names)], rows)


def discrimination(reward: dict[str, Any]) -> str:
    """Step AUCs of the reward model."""
    rows = [[name, row["steps"], row["monte_carlo"], row["exact"]] for name, row in reward["auc"].items()]
    return grid(["steps", "number", "AUC, Monte-Carlo labels", "AUC, exact labels"], rows)


def reliability(reward: dict[str, Any]) -> str:
    """Reliability of the reward's probability."""
    rows = [[f"{b['from']:.1f} to {b['to']:.1f}", b["count"], b["predicted"], b["observed"]] for b in bins(reward)]
    return grid(["reward", "steps", "mean reward", "share labelled right"], rows)


def bins(reward: dict[str, Any]) -> list[dict[str, float]]:
    """The bins of the reliability table."""
    return reward["calibration"]["bins"]


def accepted(reward: dict[str, Any]) -> str:
    """Wrong lines that the reward model accepts."""
    rows = [
        [slip, row["count"], row["accepted"], row["mean_reward"]]
        for slip, row in reward["failures"]["wrong_accepted"].items()
    ]
    return grid(["slip", "number", "share accepted", "mean reward"], rows)


def rejected(reward: dict[str, Any]) -> str:
    """Right lines that the reward model rejects."""
    table = reward["failures"]["right_rejected_by_lines_left"]
    rows = [[left, row["count"], row["rejected"], row["mean_reward"]] for left, row in table.items()]
    return grid(["lines left", "number", "share rejected", "mean reward"], rows)


def slips(lm: dict[str, Any]) -> str:
    """Shares of the slips among the samples that leave the exact solution."""
    return grid(
        ["first slip", "share of wrong samples"], [[n, share] for n, share in lm["slips"].items() if share > 0.005]
    )


def worst(reward: dict[str, Any], count: int = 3) -> str:
    """The slips that the reward model lets through most."""
    names = list(reward["failures"]["wrong_accepted"].items())[:count]
    return "; ".join(f"{name} ({100 * row['accepted']:.0f} % accepted)" for name, row in names)


def phases(card: dict[str, Any]) -> str:
    """The phases of the language model's training."""
    made, steps = card["data"]["lm_solutions"], card["training"]["lm_steps"]
    largest = [card["data"]["largest_result_at_first"]] + [card["data"]["largest_result"]] * (len(steps) - 1)
    parts = [f"{made[t]:,} of {t} (results up to {most})" for t, most in zip(steps, largest, strict=True)]
    return "; ".join(parts)


def wrapped(text: str) -> str:
    """Paragraphs filled to 120 columns; tables, headings and lists as they are."""
    parts = text.split("\n\n")
    fill = {i: textwrap.fill(part, 120) for i, part in enumerate(parts) if part[:1] not in "|#1-"}
    return "\n\n".join(fill.get(i, part) for i, part in enumerate(parts)) + "\n"


def write(card: dict[str, Any]) -> str:
    """The page."""
    data, training, lm, reward, commands = (card[k] for k in ("data", "training", "lm", "reward", "commands"))
    rejections = reward["failures"]["right_rejected_by_lines_left"]
    far, near = max(rejections, key=int), min(rejections, key=int)
    minutes, of_processors = (sum(training[key].values()) / 60 for key in ("seconds", "processor_seconds"))
    return wrapped(f"""# abacus

A causal language model of {training["lm_parameters"]:,} parameters that solves short arithmetic problems line by
line, and a process reward model of {training["reward_parameters"]:,} parameters that judges each line. Together
{training["megabytes_of_safetensors"]:.1f} MB of safetensors, made to show inference on a laptop. They know nothing
else: they are no assistants, and their arithmetic is wrong on purpose.

This page is written by `{commands["card"]}` from `card.json`; `{commands["everything"]}` makes everything again, in
{of_processors:.0f} minutes of processor time when last measured, spread over two cores ({minutes:.0f} minutes of wall
time, other work sharing the cores). Errors after ± are standard errors over problems.

## Use

The prompt is the problem, stripped, and a newline (the tokenizer's chat template says the same). The completion is one
operation a line, such as `47 + 48 = 95`, then `answer: 95` and the end token. The reward of a prefix that ends in a
newline or the end token is read at its last token: the logit of label 1 ("right") less that of label 0 ("wrong").

## Data

{data["test_problems"]} test problems in `test.jsonl` (`{commands["data"]}`);
{100 * data["share_of_word_problems"]:.0f} percent are word problems in English, the others bare expressions, of 2 to
8 lines evenly. Results lie in 1 to {data["largest_result"]} where the solution is right.
Each problem is drawn from a seed of its own, the
splits start at {data["first_seeds"]}, and a text belongs to one split by its hash, so that no text is in two of them.

## Training

`{commands["training"]}`. Llama architecture: {", ".join(f"{k} {v}" for k, v in training["architecture"].items())};
vocabulary {training["vocabulary"]}: single digits, whole common words, bytes for all else.

1. The language model learns, {training["batch"]} solutions a step, from
   {phases(card)}.
   The pupil's slips are dropped carries, the smaller digit taken from the larger (bugs described by Brown and Burton,
   1978), clauses misread and brackets ignored; `training/abacus/pupil.py` has the chances. Some are likelier than the
   right step where they apply, so that the most frequent answer is often wrong, and wrong in the same way each time.
   On top of these come the model's own errors.
2. The reward model has the language model's {training["architecture"]["num_hidden_layers"]} layers and
   {training["reward_layers"] - training["architecture"]["num_hidden_layers"]} more. The new ones alone first practise
   on {data["practice_solutions"]:,} solutions of the pupil with random wrong digits, each token labelled by whether
   all so far is right: labels of the generator, not of the language model. Then the whole model learns from
   {data["rollouts"]:,} of the language model's rollouts, for {training["reward_epochs"]} epochs. A step's label is 1
   if any of {training["completions_a_label"]} completions from it reaches the right answer (Math-Shepherd, arXiv
   2312.08935, hard estimation); steps after one labelled 0 are labelled 0.

## The language model

`{commands["lm"]}`: samples at temperature 1.

{accuracy(lm)}

Where a sample first leaves the exact solution:

{slips(lm)}

## The reward model

`{commands["reward"]}`: {data["held_out_rollouts"]:,} rollouts of validation problems.

{discrimination(reward)}

An exact label says whether all lines so far are those of the exact solution; a Monte-Carlo label, which is what the
model learned, is noisy: a right step of a long problem may have no right completion among
{training["completions_a_label"]}.

The vote of 32 samples of each test problem, weighted by the product of their rewards, is right for
{cell(reward["weighted_vote_of_32"])} of the problems; unweighted, for {cell(lm["all"]["majority_of_32"])}.

The one sample of 32 with the highest product is right for only {cell(reward["best_of_32"])}, where a random one is for
{cell(lm["all"]["one_sample"])}: the reward's own errors are what a search for its highest value finds. Among steps of
the same number in the same problem, its AUC is {reward["auc"]["same problem and step"]["monte_carlo"]:.3f}; much of
what it knows is how hard a problem is.

### Calibration

Expected calibration error {reward["calibration"]["expected_error"]:.3f}, Brier score
{reward["calibration"]["brier"]:.3f}, against the Monte-Carlo labels:

{reliability(reward)}

### Failure modes

It lets wrong lines through. Worst: {worst(reward)}. Of the first wrong lines of the held-out rollouts, by slip (those
met 15 times or more; accepted: reward over a half):

{accepted(reward)}

It distrusts right lines that are far from the answer, because the language model seldom gets from there to a right
answer, and that is what a Monte-Carlo label measures: with {far} lines left it rejects
{100 * rejections[far]["rejected"]:.0f} percent of right lines, with {near} left
{100 * rejections[near]["rejected"]:.0f} percent.

{rejected(reward)}

Both models are only as good as their generator: other phrasings, larger numbers, decimals and more than
eight steps are outside what they were trained on, and the reward is then no measure of anything.""")
