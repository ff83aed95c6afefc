"""`pyro-llm review run.nc`: people vote on prefixes, and the posterior is conditioned on what they say."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from pathlib import Path

from rich import box
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pyro_llm.answers import answer
from pyro_llm.cli.console import errors, output
from pyro_llm.cli.outputs import check_outputs, tell_written
from pyro_llm.cli.votes import KnownVotes
from pyro_llm.diagnostics.display import label
from pyro_llm.errors import LowSampleSizeWarning, OptionError, VoteFileError
from pyro_llm.infer.marginal import Marginal
from pyro_llm.infer.posterior import Posterior
from pyro_llm.raters import (
    Question,
    Vote,
    VoteLikelihood,
    Votes,
    append_vote,
    condition_on_votes,
    informative_prefixes,
    load_votes,
    without_votes,
)
from pyro_llm.raters.conditioning import check_without_votes, pooled_ess
from pyro_llm.raters.review import votes_within_lines
from pyro_llm.raters.votes import check_columns

WORDS = {"y": "yes", "yes": "yes", "n": "no", "no": "no", "s": "skip", "skip": "skip", "q": "quit", "quit": "quit"}
NOTHING_LEFT = 1e-6
MAX_ANSWERS = 8


def review(
    run: Path,
    votes_file: Path | None,
    rater: str,
    count: int,
    reliability: float,
    raters: Path | None,
    out: Path | None,
) -> None:
    """Ask about the most informative prefixes of a saved run, write each vote at once, show what they make of it.

    Votes that the run was made with, by `solve --votes` or a former review, count once: what is shown as "before" is
    the posterior without any.

    Raises:
        PosteriorFileError: a file holds no posterior.
        NoTextError: the run wrote no texts.
        OptionError: the rater has no name; or the run's own program observed votes, which are not known here, or that
            cannot be taken off, as the run was stopped.
        VoteFileError: the file of votes holds lines that are none; or it is not there, and no vote is asked for; or it
            has no columns for what a vote is to say.
        RatingsError: nothing is known of somebody who voted.
        ResultsMismatchError: what was known of those who voted before is no longer to be had.
        OutputPathError: votes or the posterior cannot be written.
    """
    if not rater:
        raise OptionError("--rater is empty: say who votes, such as --rater Ann, or leave it out.")
    votes_path = votes_file or run.with_suffix(".votes.jsonl")
    check_outputs(votes_path, posterior=out)
    if votes_file is not None and not votes_path.exists():
        if count == 0:
            raise VoteFileError(f"There is no file of votes {str(votes_path)!r}, and with --count 0 none is asked for.")
        errors.print(
            f"There is no {votes_path} yet: the first vote begins it.", style="yellow", markup=False, soft_wrap=True
        )
    posterior = Posterior.load(run)
    votes = load_votes(votes_path) if votes_path.exists() else Votes()
    if count:
        check_columns(votes_path, rater, posterior.written.prompt)
    if (given := posterior.settings.get("command", {}).get("votes")) is not None:
        already = KnownVotes.of_settings(given)
        posterior, votes = without_votes(posterior, already.likelihood()), already.beside(votes)
    check_without_votes(posterior)  # of a program of the user's, whose votes are not known here
    known = KnownVotes(votes, reliability, raters, (rater,))
    likelihood = _ask_all(posterior, known.likelihood(), votes_path, rater, count)

    conditioned, warning = _condition(posterior, likelihood)
    output.print(_comparison(posterior, conditioned))
    concerned = conditioned.settings["votes"]
    output.print(
        f"{concerned} vote{'' if concerned == 1 else 's'} on this problem, ESS of all runs "
        f"{pooled_ess(posterior):.1f} before and {pooled_ess(conditioned):.1f} after",
        highlight=False,
    )
    for told in (warning, _unmatched(posterior, likelihood.votes)):
        if told is not None:
            errors.print("[bold yellow]Warning:[/]", end=" ")
            errors.print(told, style="yellow", markup=False, highlight=False, soft_wrap=True)
    if out is not None:
        known = replace(known, votes=likelihood.votes)
        conditioned.settings["command"] = conditioned.settings.get("command", {}) | {"votes": known.settings}
        conditioned.save(out)
        tell_written("Posterior", out)


def _ask_all(
    posterior: Posterior, likelihood: VoteLikelihood, votes_path: Path, rater: str, count: int
) -> VoteLikelihood:
    problem = posterior.written.prompt
    if count:
        output.print(Panel(Text(problem or ""), title="problem", title_align="left", expand=False))
    for asked in range(count):
        questions = informative_prefixes(posterior, likelihood, rater, count=1)
        if not questions or questions[0].information < NOTHING_LEFT:
            output.print("No vote on any prefix would tell more about the answer.", highlight=False)
            break
        choice = _ask(questions[0], asked + 1, count)
        if choice == "quit":
            break
        vote = Vote.model_validate({"prefix": questions[0].prefix, "vote": choice, "rater": rater, "problem": problem})
        append_vote(votes_path, vote)
        likelihood = likelihood.with_vote(vote)
        if choice != "skip":
            conditioned, _ = _condition(posterior, likelihood)
            leading = [f"{label(value, 20)} {p:.3f}" for value, p in list(conditioned.marginal(answer).items())[:3]]
            output.print(f"{', '.join(leading)}; ESS {pooled_ess(conditioned):.1f}", style="bold", highlight=False)
    return likelihood


def _ask(question: Question, number: int, count: int) -> str:
    """Yes, no, skip or quit; the end of the input is quit."""
    title = f"prefix {number} of at most {count}"
    output.print(Panel(Text(question.prefix.rstrip("\n")), title=title, title_align="left", expand=False))
    output.print(
        f"{question.share:.0%} of the posterior begins so; a vote takes {question.information:.3f} nats off the "
        "entropy of the answer on average",
        style="dim",
        highlight=False,
    )
    while True:
        try:
            said = output.input(r"All of it right so far? \[y]es, \[n]o, \[s]kip, \[q]uit: ").strip().lower()
        except EOFError:
            output.print()
            return "quit"
        if said in WORDS:
            return WORDS[said]
        output.print("Answer y, n, s or q.", highlight=False)


def _condition(posterior: Posterior, likelihood: VoteLikelihood) -> tuple[Posterior, str | None]:
    """The posterior given the votes, and the warning that came with it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LowSampleSizeWarning)
        conditioned = condition_on_votes(posterior, likelihood)
    return conditioned, next((str(warning.message) for warning in caught), None)


def _unmatched(posterior: Posterior, votes: Votes) -> str | None:
    """What is to be said of votes on prefixes of none of the texts; None if there are none."""
    prefixes = votes_within_lines(posterior, votes)
    if not prefixes:
        return None
    named = ", ".join(map(repr, prefixes[:MAX_ANSWERS]))
    return (
        f"These prefixes end within a line of the texts of this run, and votes on them count for none of its texts: "
        f"{named}. A prefix is whole lines, or a whole text."
    )


def _comparison(before: Posterior, after: Posterior) -> Table:
    then, now = before.marginal(answer), after.marginal(answer)
    table = Table("answer", box=box.SIMPLE_HEAD)
    for heading in ("before", "after the votes"):
        table.add_column(heading, justify="right")
    for value in now.most_probable(MAX_ANSWERS):
        table.add_row(Text(label(value, 36)), f"{then[value]:.3f}", f"{now[value]:.3f}")
    table.add_section()
    table.add_row(Text("entropy, nats", style="dim"), f"{_entropy(then):.3f}", f"{_entropy(now):.3f}")
    return table


def _entropy(marginal: Marginal) -> float:
    return -sum(p * math.log(p) for p in marginal.values() if p > 0)
