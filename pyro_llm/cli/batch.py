"""`pyro-llm solve --file problems.jsonl`: results are written as they come, and kept."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from pyro_llm.cli.console import errors, output
from pyro_llm.cli.options import SolveOptions
from pyro_llm.cli.problems import Problem, read_problems
from pyro_llm.cli.results import (
    Result,
    append,
    check_problem,
    check_settings,
    file_name,
    finite,
    mend_results,
    read_results,
)
from pyro_llm.errors import OutputPathError, PyroLLMError
from pyro_llm.files import check_writable
from pyro_llm.study.grading import same_answer

if TYPE_CHECKING:
    from pyro_llm.infer import Outcome, Posterior

SOME_FAILED = 1


def solve_file(file: Path, options: SolveOptions, out: Path | None, concurrent: int) -> int:
    """Solve every problem of a file, so many at a time, and append each result to the output as soon as it is there.

    Problems whose result is in the output already are not solved again; it must be of the same text and options. A
    problem that cannot be solved (its prompt is too long, say) is recorded with its error, and the others go on.

    Returns:
        The exit code: 0, or 1 if a problem could not be solved.

    Raises:
        ProblemFileError: a line of the file is no problem; found before the work begins.
        ResultsMismatchError: a result in the output is of another text or other options.
        OutputPathError: the output cannot be written to; found before the work begins.
    """
    results_path, folder = _prepare(out)
    problems = [problem for _, problem in read_problems(file)]
    done = _done(results_path, options) if results_path else {}
    results: list[Result] = []
    begun: list[tuple[Problem, int]] = []

    def to_solve() -> Iterator[tuple[str, int]]:
        for problem in problems:
            seed = options.seed_of(problem.id)
            if problem.id in done and results_path is not None:
                check_problem(results_path, done[problem.id], problem, seed if options.seed_was_given else None)
                results.append(done[problem.id])
            else:
                begun.append((problem, seed))
                yield problem.problem, seed

    try:
        unsolved = to_solve()
        first = next(unsolved, None)
        if first is not None:
            from pyro_llm.cli.solver import Solver

            with closing(Solver(options).solve_each(chain([first], unsolved), concurrent)) as outcomes:
                for outcome in outcomes:
                    result = _result(outcome, *begun[outcome.index], options, folder)
                    if results_path is not None:
                        append(results_path, result)  # first: whoever reads what is shown may stop reading
                    results.append(result)
                    _show(result)
    finally:
        if results:
            _summarise(results, len([result for result in results if result.id in done]), results_path)
    return SOME_FAILED if any(result.error is not None for result in results) else 0


def _prepare(out: Path | None) -> tuple[Path | None, Path | None]:
    """The file of results and the folder of posteriors, if asked for."""
    if out is None:
        return None, None
    if out.suffix == ".jsonl":
        return check_writable(out), None
    try:
        if out.suffix in (".nc", ".json") or (out.exists() and not out.is_dir()):
            raise OutputPathError(f"--out {str(out)!r} does not fit --file: name a .jsonl file or a folder.")
        out.mkdir(exist_ok=True)
    except OutputPathError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputPathError(f"Cannot create the folder {str(out)!r}: {reason}.") from error
    return check_writable(out / "results.jsonl"), out


def _done(path: Path, options: SolveOptions) -> dict[str, Result]:
    """The results of former calls by id, less those that are to be done again: failed, or their posterior is gone."""
    if mend_results(path):
        errors.print(
            f"The last line of {path} was cut off, and is dropped.", style="yellow", markup=False, highlight=False,
            soft_wrap=True,
        )  # fmt: skip
    folder = path.parent
    done = {
        result.id: result
        for result in read_results(path)
        if result.error is None and (result.posterior is None or (folder / result.posterior).exists())
    }
    check_settings(path, done.values(), options.settings)
    return done


def _result(outcome: Outcome, problem: Problem, seed: int, options: SolveOptions, folder: Path | None) -> Result:
    from pyro_llm.answers import answer
    from pyro_llm.cli.report import leading_text

    found: dict[str, Any] = {
        "id": problem.id,
        "problem": problem.problem,
        "seed": seed,
        "settings": options.settings,
        "expected": problem.answer,
    }
    posterior = outcome.posterior
    if posterior is None:
        error = outcome.error
        if not isinstance(error, PyroLLMError):
            raise error or AssertionError
        return Result(**found, error=_describe(error), right=None if problem.answer is None else False)
    found |= _save(posterior, folder, problem)
    marginal = posterior.marginal(answer)
    errors_by_answer = dict(zip(marginal, finite(marginal.standard_errors.values()), strict=True))
    first, text = leading_text(posterior)
    return Result(
        **found,
        answer=first,
        probability=marginal.get(first),
        standard_error=errors_by_answer.get(first),
        answers=[(value, probability, errors_by_answer[value]) for value, probability in marginal.items()],
        log_evidence=finite(posterior.log_evidence.tolist()),
        ess=posterior.ess().tolist(),
        text=text,
        cost=asdict(posterior.cost),
        stopped_by=posterior.stopped_by,
        right=None if problem.answer is None else first is not None and same_answer(first, problem.answer),
    )


def _save(posterior: Posterior, folder: Path | None, problem: Problem) -> dict[str, str]:
    """Save the posterior if asked to: the name of its file, or why there is none."""
    if folder is None:
        return {}
    name = file_name(problem.id)
    try:
        posterior.save(folder / name)
    except (OSError, ValueError, RuntimeError) as error:  # what h5py raises besides OutputPathError
        return {"error": _describe(error)}
    return {"posterior": name}


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def wilson_interval(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """A confidence interval of a proportion, of 95 % by default, that is sound for few trials (Wilson, 1927).

    >>> [round(bound, 3) for bound in wilson_interval(0, 2)]
    [0.0, 0.658]
    """
    share, weight = successes / trials, z * z / trials
    centre = (share + weight / 2) / (1 + weight)
    half_width = z / (1 + weight) * math.sqrt((share * (1 - share) + weight / 4) / trials)
    return max(0.0, centre - half_width), min(1.0, centre + half_width)


def _show(result: Result) -> None:
    line = Text(f"{result.id}  ")
    if result.answers is None:
        output.print(line.append(result.error or "", style="red"))
        return
    line.append(result.answer if result.answer is not None else "(no answer)", style="bold")
    if result.probability is not None:
        error = "" if result.standard_error is None else f" ± {result.standard_error:.3f}"
        line.append(f"  {result.probability:.3f}{error}")
    if result.stopped_by is not None:
        line.append(f"  stopped by {result.stopped_by}", style="yellow")
    if result.right is not None:
        mark = ("  right", "green") if result.right else (f"  wrong, expected {result.expected}", "red")
        line.append(mark[0], style=mark[1])
    if result.error is not None:
        line.append(f"  not saved: {result.error}", style="red")
    output.print(line)


def _summarise(results: Sequence[Result], kept: int, path: Path | None) -> None:
    if kept:
        were = "result was" if kept == 1 else "results were"
        errors.print(f"{kept} {were} there already.", style="dim", highlight=False)
    if path is not None:
        errors.print(f"{len(results)} results in {path}", style="dim", markup=False, highlight=False, soft_wrap=True)
    verdicts = [result.right for result in results if result.right is not None]
    if verdicts:
        low, high = wilson_interval(sum(verdicts), len(verdicts))
        output.print(
            f"accuracy {sum(verdicts) / len(verdicts):.3f} ({sum(verdicts)} of {len(verdicts)}), "
            f"95 % interval {low:.3f} to {high:.3f}",
            highlight=False,
        )
