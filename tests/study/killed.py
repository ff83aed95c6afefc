"""Kill a study again and again, at moments that are drawn, until it is complete. Run as a script: killed.py FOLDER.

The processes that are killed are forked from one that has imported everything already, so that there can be many.
"""

import importlib.util
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from pyro_llm.study import run_study


def load(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(folder, seed):
    small = load("conftest")
    small.use_small_models(pytest.MonkeyPatch())
    config = small.make_config(problems={"set": "abacus", "number": 12}, seeds=[0])
    run_study(config, folder / "whole", progress=False)
    (folder / "killed").mkdir()
    rows, draw, kills = folder / "killed" / "rows.jsonl", random.Random(seed), 0
    while True:
        child = os.fork()
        if child == 0:
            run_study(config, folder / "killed", progress=False)
            os._exit(0)
        # Either at any moment, or when a line has just begun to be there.
        after = rows.stat().st_size + draw.randrange(1, 3000) if rows.exists() and draw.random() < 0.5 else None
        until = time.monotonic() + draw.uniform(0.005, 0.15) if after is None else time.monotonic() + 5
        ended = 0
        while not ended and time.monotonic() < until and not (after and rows.stat().st_size >= after):
            ended, status = os.waitpid(child, os.WNOHANG)
        if not ended:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            sys.exit(0 if os.WEXITSTATUS(status) == 0 and kills >= 5 else f"{kills} kills, status {status}")
        kills += 1
        if draw.random() < 0.3 and rows.exists():  # what a crash of the machine would leave
            size = rows.stat().st_size
            os.truncate(rows, max(0, size - draw.randrange(1, 200)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
