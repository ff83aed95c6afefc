"""The language model: first exact solutions, which teach it to calculate, then a pupil's, which teach it to slip.

A fixed number of steps from a fixed seed, never a fixed time, so that the same weights come out again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from rich import print
from rich.progress import track
from torch import Tensor
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from training.abacus import files, tokenizer
from training.abacus.plan import LARGEST, WIDEST
from training.abacus.problems import draw

BATCH, POOL = 48, 40
"""Rows a step, and steps whose rows are drawn together to be sorted into batches of like lengths."""


@dataclass(frozen=True)
class Phase:
    """A part of the training: what is read, for how long, and how fast it is learnt."""

    title: str
    steps: int
    rate: float
    first: int
    """The first problem, in the training split."""
    largest: int
    scale: float
    """Of the pupil's chances of slips; a teacher makes none."""
    seed: int


PHASES = (
    Phase("a teacher", 3_000, 3e-3, 0, WIDEST, 0.0, seed=2),
    Phase("a pupil", 2_500, 2e-3, 10**6, LARGEST, 1.0, seed=3),
)


def architecture(vocabulary: int, end: int, pad: int) -> LlamaConfig:
    """About a million parameters."""
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=pad,
    )


def batches(tok: PreTrainedTokenizerFast, phase: Phase) -> Iterator[tuple[Tensor, Tensor]]:
    """Token ids `[BATCH, width]`, padded on the right, and which of them belong to a solution."""
    rng, index = Random(phase.seed), phase.first
    for done in range(0, phase.steps, POOL):
        problems = [draw("train", index + i, phase.largest) for i in range(BATCH * POOL)]
        index += len(problems)
        prompts = tok([f"{p.text}\n" for p in problems])["input_ids"]
        solutions = tok([p.attempt(rng, scale=phase.scale) for p in problems])["input_ids"]
        rows = sorted(zip(prompts, solutions, strict=True), key=lambda row: len(row[0]) + len(row[1]))
        chunks = [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
        rng.shuffle(chunks)
        for chunk in chunks[: phase.steps - done]:
            width = max(len(p) + len(s) for p, s in chunk) + 1
            ids = torch.full((BATCH, width), tok.pad_token_id)
            taught = torch.zeros_like(ids, dtype=torch.bool)
            for i, (prompt, solution) in enumerate(chunk):
                row = [*prompt, *solution, tok.eos_token_id]
                ids[i, : len(row)] = torch.tensor(row)
                taught[i, len(prompt) : len(row)] = True
            yield ids, taught


def teach(model: LlamaForCausalLM, data: Iterator[tuple[Tensor, Tensor]], steps: int, rate: float, title: str) -> None:
    """Minimises the cross-entropy of the solutions, with a warm-up and a cosine to a fiftieth of the rate."""
    decay = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)
    model.train()
    model.set_attn_implementation("eager")  # Faster than the fused kernel at these widths on a CPU.
    total = 0.0
    for step, (ids, taught) in enumerate(track(data, total=steps, description=title), 1):
        warm = min(1.0, step / 150)
        for group in optimizer.param_groups:
            group["lr"] = rate * warm * (0.51 + 0.49 * math.cos(math.pi * step / steps))
        # Padding is on the right, so the causal mask alone keeps it from being seen, and the output layer, the widest
        # of all, is only needed where a solution is predicted.
        wanted = taught[:, 1:]
        with files.fast_arithmetic():
            hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
            logits = model.lm_head(hidden[:, :-1][wanted])
        loss = functional.cross_entropy(logits.float(), ids[:, 1:][wanted])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total += loss.item()
        if step % 200 == 0:
            print(f"{title}: step {step}, mean loss {total / 200:.4f}")
            total = 0.0
    model.eval()


def save(model: LlamaForCausalLM, tok: PreTrainedTokenizerFast) -> None:
    """The published folder: no sampling settings in it, so that nothing but the caller decides how to sample."""

    def write(folder: Path) -> None:
        model.save_pretrained(folder)
        tokenizer.save(tok, folder)

    files.write_folder(files.LM, write)


def main() -> None:
    """Goes through the phases, from the last that an earlier run came to the end of."""
    files.start(seed=1)
    tok = tokenizer.load()
    model = LlamaForCausalLM(architecture(len(tok), tok.eos_token_id, tok.pad_token_id))
    print(f"language model: {model.num_parameters():,} parameters")
    for number, phase in enumerate(PHASES):
        after = files.BUILD / f"lm-{number}.pt"
        if after.exists():
            model.load_state_dict(torch.load(after))
        else:
            teach(model, batches(tok, phase), phase.steps, phase.rate, phase.title)
            files.write_file(after, lambda path: torch.save(model.state_dict(), path))
    save(model, tok)


if __name__ == "__main__":
    main()
