"""Runs the parts of the training in order: all of them from nothing, or those that are named."""

from __future__ import annotations

import shutil
import sys
import time
from importlib import import_module

from rich import print

from training.abacus import files

PARTS = ("publish", "tokenizer", "train_lm", "rollouts", "train_reward", "evaluate_lm", "evaluate_reward", "card")


def main(names: list[str]) -> int:
    """Runs parts, and notes how many seconds each took."""
    if unknown := [name for name in names if name not in PARTS]:
        print(f"There is no part {', '.join(unknown)}. The parts, in order: {', '.join(PARTS)}.")
        return 2
    if not names:
        shutil.rmtree(files.BUILD, ignore_errors=True)
    for name in names or PARTS:
        began = time.monotonic()
        import_module(f"training.abacus.{name}").main()
        seconds = files.read_figures("seconds") if (files.FIGURES / "seconds.json").exists() else {}
        seconds[name] = round(time.monotonic() - began)
        files.write_figures("seconds", seconds)
        print(f"{name}: {seconds[name]} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
