"""Where things are, and writing them whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[2]
ZOO = ROOT / "pyro_llm" / "zoo" / "abacus"
LM, REWARD = ZOO / "lm", ZOO / "reward"
TEST, CARD, CARD_PAGE = ZOO / "test.jsonl", ZOO / "card.json", ZOO / "CARD.md"
BUILD = ROOT / "build" / "abacus"
"""What lies between the parts of the training; not published."""

TOKENIZER, FIGURES = BUILD / "tokenizer", BUILD / "figures"
PRACTISED = BUILD / "practised.pt"
ROLLOUTS, HELD_OUT, SAMPLES = (BUILD / f"{n}.jsonl" for n in ("rollouts", "held_out", "samples"))
THREADS = 2


def fast_arithmetic() -> torch.autocast:
    """Matrix products in bfloat16 where the CPU has instructions for it (twice as fast), weights in float32 always."""
    return torch.autocast("cpu", torch.bfloat16, enabled=torch.ops.mkldnn._is_mkldnn_bf16_supported())


def start(seed: int) -> None:
    """Fixed threads and a fixed seed, at the start of each part."""
    torch.set_num_threads(THREADS)
    torch.manual_seed(seed)
    BUILD.mkdir(parents=True, exist_ok=True)


def write_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Has `write` make a file beside `path`, and moves it there once it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    write(beside)
    beside.replace(path)


def write_folder(path: Path, write: Callable[[Path], Any]) -> None:
    """Has `write` fill a folder beside `path`, and puts it in the place of `path` once it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside, before = path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.before")
    for folder in (beside, before):
        shutil.rmtree(folder, ignore_errors=True)
    beside.mkdir()
    write(beside)
    for file in beside.iterdir():
        file.chmod(0o644)  # safetensors makes files that only their owner can read.
    if path.exists():
        path.rename(before)
    beside.rename(path)
    shutil.rmtree(before, ignore_errors=True)


def write_lines(path: Path, rows: list[Any]) -> None:
    """One JSON value a line."""
    write_file(
        path, lambda p: p.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    )


def read_lines(path: Path) -> list[Any]:
    """What `write_lines` wrote."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def write_figures(name: str, figures: Any) -> None:
    """The figures of one part, for the card."""
    write_file(FIGURES / f"{name}.json", lambda p: p.write_text(json.dumps(figures, indent=1) + "\n", "utf-8"))


def read_figures(name: str) -> Any:
    """What `write_figures` wrote."""
    return json.loads((FIGURES / f"{name}.json").read_text("utf-8"))
