"""Runs the parts of the training in order: all of them from nothing, or those that are named."""

from __future__ import annotations

import shutil
import sys
import time
from importlib import import_module

from rich import print

from training.abacus import files

PARTS = ("publish", "tokenizer", "train_lm", "rollouts", "train_reward", "evaluate_lm", "evaluate_reward", "card")


def note(figure: str, name: str, seconds: float) -> int:
    """Keeps how many seconds a part took, beside those of the other parts."""
    noted = files.read_figures(figure) if (files.FIGURES / f"{figure}.json").exists() else {}
    noted[name] = round(seconds)
    files.write_figures(figure, noted)
    return noted[name]


def main(names: list[str]) -> int:
    """Runs parts, and notes how many seconds each took: of wall time, and of processor time over all cores."""
    if unknown := [name for name in names if name not in PARTS]:
        print(f"There is no part {', '.join(unknown)}. The parts, in order: {', '.join(PARTS)}.")
        return 2
    if not names:
        shutil.rmtree(files.BUILD, ignore_errors=True)
    for name in names or PARTS:
        began, processor = time.monotonic(), time.process_time()
        import_module(f"training.abacus.{name}").main()
        seconds = note("seconds", name, time.monotonic() - began)
        note("processor_seconds", name, time.process_time() - processor)
        print(f"{name}: {seconds} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
