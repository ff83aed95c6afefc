"""`pyro-llm models`: the figures of the embedded models' cards."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.table import Table

from pyro_llm import zoo
from pyro_llm.cli.console import output


def show_cards() -> None:
    """A table of figures for each embedded model."""
    for name in zoo.names():
        output.print(card_table(name, zoo.card(name)))
        output.print(
            f"All figures, and the command that gives each: {zoo.path(name).parent / 'CARD.md'}",
            style="dim",
            highlight=False,
            soft_wrap=True,
        )


def card_table(name: str, card: dict[str, Any]) -> Table:
    """The figures of one card: sizes, accuracy, the reward model's AUC and calibration, where it fails."""
    training, lm, reward = card["training"], card["lm"], card["reward"]
    table = Table(
        title=f"{name}: a language model and a process reward model", title_justify="left", box=box.SIMPLE_HEAD,
        show_header=False,
    )  # fmt: skip
    table.add_row("parameters", f"{training['lm_parameters']:,} and {training['reward_parameters']:,}")
    for key, value in lm["all"].items():
        table.add_row(f"accuracy, {key.replace('_', ' ')}", _with_error(value))
    steps = list(lm["by_steps"])
    by_steps = "  ".join(f"{row['one_sample']['mean']:.2f}" for row in lm["by_steps"].values())
    table.add_row(f"  one sample, {steps[0]} to {steps[-1]} steps", by_steps)
    auc = reward["auc"]["all"]
    table.add_row("reward, step AUC", f"{auc['monte_carlo']:.3f} (against exact labels {auc['exact']:.3f})")
    table.add_row("reward, calibration error", f"{reward['calibration']['expected_error']:.3f}")
    wrong = reward["failures"]["wrong_accepted"]
    worst = sorted(wrong, key=lambda slip: -wrong[slip]["accepted"])[:3]
    fooled = "\n".join(f"{wrong[slip]['accepted']:.0%} of: {slip} ({wrong[slip]['count']} steps)" for slip in worst)
    table.add_row("reward, wrong steps accepted", fooled)
    return table


def _with_error(figure: dict[str, float]) -> str:
    return f"{figure['mean']:.3f} ± {figure['standard_error']:.3f} ({figure['problems']} problems)"
