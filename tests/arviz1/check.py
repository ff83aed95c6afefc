"""Opens under ArviZ 1.x, without torch or this package, what `write.py` saved, and compares the summaries.

Usage: python tests/arviz1/check.py FOLDER
"""

from __future__ import annotations

import json
import math
import sys
from importlib.util import find_spec
from pathlib import Path

TOLERANCE = 1e-6


def check(path: Path) -> list[str]:
    """Opens one file, summarises and plots it; returns where the summaries of the two versions differ."""
    import arviz
    import xarray
    from arviz_stats.base import array_stats

    tree = xarray.open_datatree(path, engine="h5netcdf")
    written = json.loads(path.with_suffix(".json").read_text())
    before, k_hat = written["summary"], written.get("pareto_k")
    summary = arviz.summary(tree, round_to="none")  # of all variables
    differences = []
    if list(summary.index) != list(before):
        differences.append(f"{path.name}: the variables were {list(before)} and are {list(summary.index)}")
    for variable, row in before.items():
        for statistic, value in row.items():
            now = float(summary.loc[variable, statistic])
            if not math.isclose(now, value, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
                differences.append(f"{path.name}: {statistic} of {variable} was {value} and is {now}")
    if k_hat is not None:
        # From version 1 on it takes the negated logarithms of weights.
        now = float(array_stats.psislw(-tree["sample_stats"]["log_weight"].values[0])[1])
        if not math.isclose(now, k_hat, rel_tol=0.01):
            differences.append(f"{path.name}: Pareto k-hat was {k_hat} and is {now}")
    for plot in (arviz.plot_trace, arviz.plot_rank, arviz.plot_ess):
        plot(tree, backend="matplotlib")
    print(f"{path.name}: {len(before)} variables summarised and plotted by ArviZ {arviz.__version__}")
    return differences


def main(folder: Path) -> int:
    """Checks every file; 1 if anything differs."""
    import matplotlib

    matplotlib.use("agg")
    if unwanted := [name for name in ("torch", "pyro", "pyro_llm") if find_spec(name)]:
        print(f"{', '.join(unwanted)} can be imported: this must run where they are not.")
        return 1
    differences = [line for path in sorted(folder.glob("*.nc")) for line in check(path)]
    print("\n".join(differences) or "The summaries agree.")
    return bool(differences)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
