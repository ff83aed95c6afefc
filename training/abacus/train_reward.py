"""The process reward model: the language model's trunk with two outputs, trained on the labels of its rollouts.

Labels from the model's own rollouts are dear, and a few thousand teach which problems are hard rather than which
lines are wrong. So it first practises on a pupil's solutions, of which there are as many as one likes, with a label
for each token: whether all so far is right. What counts in the end, and what its probabilities mean, are the
Monte-Carlo labels. Label 1 is right, label 0 wrong; the score of a prefix is read at its last token (the newline of a
step, or the end token).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from random import Random

import torch
from rich import print
from rich.progress import track
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForTokenClassification, PreTrainedTokenizerFast

from training.abacus import files, tokenizer
from training.abacus.problems import draw

BATCH = 48
PRACTICE_STEPS, PRACTICE_RATE = 1_600, 3e-3
PRACTICE_FIRST, WILD = 3 * 10**6, 0.12
"""First problem of the practice in the training split, and the chance of a wrong digit in a line of it."""

EPOCHS, RATE = 3, 6e-4
"""The labelled rollouts: how often, and how fast they are learnt."""

NOT_SCORED = -100


NEW_LAYERS = 2
"""Layers on top of the language model's: what it expects of a token is complete only at its own last layer, so that one
layer is needed to compare it with the token that came, and one to gather the comparisons at the end of the step."""


def initial() -> LlamaForTokenClassification:
    """The language model's trunk, `NEW_LAYERS` layers that at first change nothing, and an output of two classes."""
    lm = AutoModelForCausalLM.from_pretrained(files.LM)
    settings = lm.config.to_dict()
    settings.update(
        num_hidden_layers=lm.config.num_hidden_layers + NEW_LAYERS,
        architectures=["LlamaForTokenClassification"],
        id2label={0: "wrong", 1: "right"},
        label2id={"wrong": 0, "right": 1},
        classifier_dropout=0.0,
        # What a loader must know to use the model as a process reward.
        pyro_llm={"step_separator": "\n", "score": "logit of label 1 less that of label 0, at the prefix's last token"},
    )
    model = LlamaForTokenClassification(LlamaConfig(**settings))
    model.model.load_state_dict(lm.model.state_dict(), strict=False)
    with torch.no_grad():
        for layer in model.model.layers[lm.config.num_hidden_layers :]:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    return model


def collate(rows: list[dict], pad: int) -> tuple[Tensor, Tensor]:
    """Token ids `[batch, width]`, padded on the right, and the labels at the same places."""
    width = max(len(row["prompt"]) + len(row["solution"]) for row in rows)
    ids = torch.full((len(rows), width), pad)
    labels = torch.full_like(ids, NOT_SCORED)
    for i, row in enumerate(rows):
        tokens = [*row["prompt"], *row["solution"]]
        ids[i, : len(tokens)] = torch.tensor(tokens)
        places = torch.tensor(row["ends"]) + len(row["prompt"]) - 1
        labels[i, places] = torch.tensor(row["labels"])
    return ids, labels


def practice(tok: PreTrainedTokenizerFast, first: int, steps: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of pupils' solutions, each token labelled by whether the solution is exact up to there."""
    rng, pool = Random(seed), 40
    for done in range(0, steps, pool):
        problems = [draw("train", first + done * BATCH + i) for i in range(min(pool, steps - done) * BATCH)]
        prompts = tok([f"{p.text}\n" for p in problems])["input_ids"]
        attempts = tok([p.attempt(rng, wild=WILD) for p in problems])["input_ids"]
        exact = tok([p.solution for p in problems])["input_ids"]
        rows = []
        for prompt, attempt, right in zip(prompts, attempts, exact, strict=True):
            attempt, right = [*attempt, tok.eos_token_id], [*right, tok.eos_token_id]
            same = [a == b for a, b in zip(attempt, right, strict=False)]
            good = same.index(False) if False in same else len(same)
            labels = [int(i < good) for i in range(len(attempt))]
            rows.append(
                {"prompt": prompt, "solution": attempt, "ends": [*range(1, len(attempt) + 1)], "labels": labels}
            )
        yield from batches(rows, tok.pad_token_id, epochs=1, seed=rng.randrange(2**32))


def batches(rows: list[dict], pad: int, epochs: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """All rows once an epoch, in batches of like lengths."""
    rng = Random(seed)
    for _ in range(epochs):
        order = sorted(rows, key=lambda row: (len(row["prompt"]) + len(row["solution"]), rng.random()))
        chunks = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
        rng.shuffle(chunks)
        for chunk in chunks:
            yield collate(chunk, pad)


def teach(
    model: LlamaForTokenClassification, data: Iterator[tuple[Tensor, Tensor]], steps: int, rate: float, title: str
) -> None:
    """Minimises the cross-entropy of the labels, with a warm-up and a cosine to nothing."""
    learnt = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learnt, lr=rate, betas=(0.9, 0.98), weight_decay=0.05, fused=True)
    model.train()
    model.set_attn_implementation("eager")  # Faster than the fused kernel at these widths on a CPU.
    total = 0.0
    for step, (ids, labels) in enumerate(track(data, total=steps, description=title), 1):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, step / 100) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        scored = labels != NOT_SCORED
        with files.fast_arithmetic():
            hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        loss = functional.cross_entropy(model.score(hidden[scored].float()), labels[scored])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learnt, 1.0)
        optimizer.step()
        total += loss.item()
        if step % 200 == 0:
            print(f"{title}: step {step}, mean loss {total / 200:.4f}")
            total = 0.0
    model.eval()


def save(model: LlamaForTokenClassification, tok: PreTrainedTokenizerFast) -> None:
    """The published folder."""

    def write(folder: Path) -> None:
        model.save_pretrained(folder)
        tokenizer.save(tok, folder)

    files.write_folder(files.REWARD, write)


def main() -> None:
    """Trains the reward model: practice, or what is left of it from an earlier run, then the labelled rollouts.

    In the practice the language model's layers stand still, so that the new ones can learn to read what it expects.
    """
    files.start(seed=7)
    tok, model = tokenizer.load(), initial()
    if files.PRACTISED.exists():
        model.load_state_dict(torch.load(files.PRACTISED))
    else:
        trunk = [model.model.embed_tokens, *model.model.layers[:-NEW_LAYERS]]
        for part in trunk:
            part.requires_grad_(False)
        data = practice(tok, PRACTICE_FIRST, PRACTICE_STEPS, seed=8)
        teach(model, data, PRACTICE_STEPS, PRACTICE_RATE, "practice")
        for part in trunk:
            part.requires_grad_(True)
        files.write_file(files.PRACTISED, lambda path: torch.save(model.state_dict(), path))
    rows = files.read_lines(files.ROLLOUTS)
    steps = EPOCHS * math.ceil(len(rows) / BATCH)
    teach(model, batches(rows, tok.pad_token_id, EPOCHS, seed=9), steps, RATE, "labelled rollouts")
    save(model, tok)


if __name__ == "__main__":
    main()
