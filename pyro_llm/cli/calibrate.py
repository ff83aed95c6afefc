"""`pyro-llm calibrate data.jsonl`."""

from __future__ import annotations

from pathlib import Path

import torch
from rich import box
from rich.table import Table

from pyro_llm.cli.console import output
from pyro_llm.cli.labels import read_labels
from pyro_llm.cli.outputs import check_outputs, tell_written
from pyro_llm.diagnostics.before_after import Interval, calibration_change
from pyro_llm.files import written_whole
from pyro_llm.rewards import fit_calibration, held_out_log_odds
from pyro_llm.rewards.calibration import CalibrationMethod


def calibrate_file(
    data: Path,
    method: CalibrationMethod,
    out: Path | None,
    plot: Path | None,
    reward: str | None,
    folds: int,
    seed: int,
) -> None:
    """Fit a calibration, show what it changes on held-out rows, write what was asked for.

    Raises:
        OutputPathError: an output path cannot be written to; found before the work begins.
        ProblemFileError: a line of the data is no labelled score.
        CalibrationError: nothing can be fitted: labels of one class only, say.
    """
    check_outputs(out, plot=plot)
    scores = read_labels(data, allow_certain=method == "isotonic")
    calibration = fit_calibration(scores.log_odds, scores.labels, method)
    before = torch.tensor(scores.log_odds).sigmoid().numpy()
    held_out = held_out_log_odds(scores.log_odds, scores.labels, method, groups=scores.groups, folds=folds, seed=seed)
    after = torch.tensor(held_out).sigmoid().numpy()

    accepted, rows = int(scores.labels.sum()), scores.labels.size
    output.print(f"{rows:,} rows, {accepted:,} of them accepted ({accepted / rows:.1%})", highlight=False)
    output.print(repr(calibration), markup=False, highlight=False, soft_wrap=True)
    title = f"On held-out rows ({folds} folds), with 95% bootstrap intervals"
    table = Table("", "before", "after", "difference", title=title, title_justify="left", box=box.SIMPLE_HEAD)
    changes = calibration_change(before, after, scores.labels, groups=scores.groups, seed=seed + 1)
    for name, intervals in changes.items():
        table.add_row(name, *(_written(interval) for interval in intervals))
    output.print(table)
    output.print(
        "Errors in bins are larger in resamples than in the sample: their intervals may lie above the estimate.",
        style="dim", highlight=False, soft_wrap=True,
    )  # fmt: skip

    if out is not None:
        calibration.save(out, reward)
        tell_written("Calibration", out)
    if plot is not None:
        from pyro_llm.diagnostics.figure import new_figure
        from pyro_llm.diagnostics.reliability import plot_reliability

        figure = new_figure(5, 5)
        plot_reliability({"before": before, "after": after}, scores.labels, figure.subplots())
        with written_whole(plot) as temporary:
            figure.savefig(temporary, dpi=150)
        tell_written("Figure", plot)


def _written(interval: Interval) -> str:
    return f"{interval.value:.3f}\n[dim]{interval.low:.3f} to {interval.high:.3f}[/]"
