"""What compiling the token loop's pass costs and saves: `python -m benchmarks.compiled_pass`."""

from __future__ import annotations

import time
from functools import partial
from statistics import median

from benchmarks.runtime.reasoning import smc_work
from benchmarks.runtime.timing import alternate
from benchmarks.runtime.workload import ModelSize, Workload, language_model
from pyro_llm.lm import HFLanguageModel

REPEATS = 5


class Compiled(Workload):
    """The same work, by the same model compiled."""

    @property
    def lm(self) -> HFLanguageModel:
        """The compiled model, made once."""
        if self.model_size not in _compiled:
            lm = language_model(self.model_size, self.device)
            _compiled[self.model_size] = HFLanguageModel(lm.model, lm.tokenizer, name=lm.name, compile=True)
        return _compiled[self.model_size]


_compiled: dict[ModelSize, HFLanguageModel] = {}


def main() -> None:
    """Measure, and print."""
    for size in (ModelSize(hidden=128, layers=2), ModelSize()):
        plain, compiled = Workload(model_size=size), Compiled(model_size=size)
        started = time.perf_counter()
        smc_work(compiled)
        first = time.perf_counter() - started
        timed = alternate({"plain": partial(smc_work, plain), "compiled": partial(smc_work, compiled)}, REPEATS)
        ratios, seconds = timed.ratios("plain", "compiled"), timed.seconds["compiled"]
        print(
            f"{plain.lm.name}, {plain.describe()}: first run {first:.0f} s, then {median(seconds):.2f} s; "
            f"{median(ratios):.2f} times as fast as uncompiled ({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
