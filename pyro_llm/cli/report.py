"""A posterior in the terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pyro_llm.answers import answer
from pyro_llm.diagnostics.display import (
    MIN_PROBABILITY,
    cost_line,
    label,
    no_error_bars,
    stop_line,
    title,
    with_error,
)
from pyro_llm.infer.posterior import Posterior

MAX_ANSWERS = 8
BAR = 24


def show_posterior(console: Console, posterior: Posterior) -> None:
    """The answers with their probabilities, the quality of the sample, and a good text."""
    console.print(Text(title(posterior), style="bold"))
    console.print(_answers(posterior))
    console.print(_figures(posterior))
    leading, text = leading_text(posterior)
    heading = "best text without an answer" if leading is None else f"best text with answer {label(leading, 36)}"
    console.print(Panel(Text(text.strip()), title=Text(heading), title_align="left", expand=False))


def leading_text(posterior: Posterior) -> tuple[str | None, str]:
    """The most probable stated answer, None if none is stated, and the most rewarded text that states it."""
    leading = next((value for value in posterior.marginal(answer) if value is not None), None)
    return leading, str(posterior.best(where=lambda text: answer(text) == leading).text)


def _answers(posterior: Posterior) -> Table:
    marginal = posterior.marginal(answer)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("answer")
    table.add_column("probability", justify="right")
    note = no_error_bars(posterior)
    if with_errors := posterior.num_runs > 1 and note is None:
        table.add_column("± s.e.", justify="right")
    table.add_column("")
    shown = marginal.most_probable(MAX_ANSWERS, MIN_PROBABILITY)
    for rank, value in enumerate(shown):
        probability, error = marginal[value], marginal.standard_errors[value]
        cells = [f"{probability:.3f}"] + ([f"{error:.3f}"] if with_errors else [])
        bar = Text("█" * round(BAR * probability), style="cyan" if rank == 0 else "bright_black")
        table.add_row(Text(label(value, 36), style="bold" if rank == 0 else ""), *cells, bar)
    if others := len(marginal) - len(shown):
        rest = max(0.0, 1 - sum(marginal[value] for value in shown))
        table.add_row(Text(f"{others} other{'s' if others > 1 else ''}", style="dim"), f"{rest:.3f}")
    return table


def _figures(posterior: Posterior) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    stats = posterior.stats
    evidence = posterior.pooled_log_evidence()
    ess = "  ".join(f"{value:.1f}" for value in posterior.ess().tolist())
    table.add_row("log-evidence", with_error(evidence.estimate, evidence.standard_error, 2))
    if note := no_error_bars(posterior):
        table.add_row("runs", note)
    table.add_row("ESS by run", f"{ess}  of {posterior.num_particles}")
    if stats.num_steps:
        table.add_row("first ancestors", "  ".join(map(str, stats.unique_ancestors[:, 0])) + "  with descendants")
        table.add_row("resamplings", "  ".join(map(str, stats.resampled.sum(-1))) + f"  in {stats.num_steps} steps")
    table.add_row("cost", cost_line(posterior))
    if (stop := stop_line(posterior)) is not None:
        table.add_row("stopped", stop)
    table.add_row("seed", str(posterior.settings["seed"]))
    return table
