"""A posterior in the terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pyro_llm.answers import answer
from pyro_llm.diagnostics.display import MIN_PROBABILITY, cost_line, label, title, with_error
from pyro_llm.infer.posterior import Posterior

MAX_ANSWERS = 8
BAR = 24


def show_posterior(console: Console, posterior: Posterior) -> None:
    """The answers with their probabilities, the quality of the sample, and the most rewarded text."""
    console.print(Text(title(posterior), style="bold"))
    console.print(_answers(posterior))
    console.print(_figures(posterior))
    best = posterior.best()
    console.print(Panel(Text((best.text or "").strip()), title="highest reward", title_align="left", expand=False))


def _answers(posterior: Posterior) -> Table:
    marginal = posterior.marginal(answer)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("answer")
    table.add_column("probability", justify="right")
    if posterior.num_runs > 1:
        table.add_column("± s.e.", justify="right")
    table.add_column("")
    shown = marginal.most_probable(MAX_ANSWERS, MIN_PROBABILITY)
    for rank, value in enumerate(shown):
        probability, error = marginal[value], marginal.standard_errors[value]
        cells = [f"{probability:.3f}"] + ([f"{error:.3f}"] if posterior.num_runs > 1 else [])
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
    table.add_row("ESS by run", f"{ess}  of {posterior.num_particles}")
    if stats.num_steps:
        table.add_row("first ancestors", "  ".join(map(str, stats.unique_ancestors[:, 0])) + "  with descendants")
        table.add_row("resamplings", "  ".join(map(str, stats.resampled.sum(-1))) + f"  in {stats.num_steps} steps")
    table.add_row("cost", cost_line(posterior))
    table.add_row("seed", str(posterior.settings["seed"]))
    return table
