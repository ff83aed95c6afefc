"""`pyro-llm solve --file problems.jsonl`: results are written as they come, and kept."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from pyro_llm.cli.console import errors, output
from pyro_llm.cli.options import SolveOptions
from pyro_llm.cli.problems import Problem, Result, read_problems, read_results, same_answer
from pyro_llm.diagnostics.files import check_writable
from pyro_llm.errors import OutputPathError, PyroLLMError

if TYPE_CHECKING:
    from pyro_llm.cli.solver import Solver

SOME_FAILED = 1


def solve_file(file: Path, options: SolveOptions, out: Path | None) -> int:
    """Solve every problem of a file and append each result to the output as soon as it is there.

    Problems whose result is in the output already are not solved again. A problem that cannot be solved (its prompt
    is too long, say) is recorded with its error, and the others go on.

    Returns:
        The exit code: 0, or 1 if a problem could not be solved.

    Raises:
        ProblemFileError: a line of the file is no problem; the results before it are kept.
        OutputPathError: the output cannot be written to; found before the work begins.
    """
    results_path, folder = _prepare(out)
    done = {result.id: result for result in read_results(results_path) if result.error is None} if results_path else {}
    results: list[Result] = []
    try:
        solver = None
        for number, problem in read_problems(file):
            if problem.id in done:
                results.append(done[problem.id])
                continue
            if solver is None:
                from pyro_llm.cli.solver import Solver

                solver = Solver(options)
            result = _solve(solver, problem, (options.seed + number) % 2**32, folder)
            results.append(result)
            _show(result)
            if results_path is not None:
                _append(results_path, result)
    finally:
        _summarise(results, len([result for result in results if result.id in done]), results_path)
    return SOME_FAILED if any(result.error is not None for result in results) else 0


def _prepare(out: Path | None) -> tuple[Path | None, Path | None]:
    """The file of results and the folder of posteriors, if asked for."""
    if out is None:
        return None, None
    if out.suffix == ".jsonl":
        return check_writable(out), None
    if out.suffix in (".nc", ".json") or (out.exists() and not out.is_dir()):
        raise OutputPathError(f"--out {str(out)!r} does not fit --file: give the name of a .jsonl file or of a folder.")
    try:
        out.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputPathError(f"Cannot create the folder {str(out)!r}: {error.strerror}.") from error
    return check_writable(out / "results.jsonl"), out


def _solve(solver: Solver, problem: Problem, seed: int, folder: Path | None) -> Result:
    from pyro_llm.answers import answer

    found: dict[str, Any] = {"id": problem.id, "problem": problem.problem, "seed": seed, "expected": problem.answer}
    try:
        posterior = solver.solve(problem.problem, seed)
    except OutputPathError:
        raise
    except PyroLLMError as error:
        return Result(
            **found, error=f"{type(error).__name__}: {error}", right=None if problem.answer is None else False
        )
    if folder is not None:
        posterior.save(folder / f"{_file_name(problem.id)}.nc")
    marginal = posterior.marginal(answer)
    errors_by_answer = {
        value: None if math.isnan(error) else error for value, error in marginal.standard_errors.items()
    }
    first = next((value for value in marginal if value is not None), None)
    return Result(
        **found,
        answer=first,
        probability=marginal.get(first),
        standard_error=errors_by_answer.get(first),
        answers=[(value, probability, errors_by_answer[value]) for value, probability in marginal.items()],
        log_evidence=posterior.log_evidence.tolist(),
        ess=posterior.ess().tolist(),
        text=posterior.best().text,
        cost=asdict(posterior.cost),
        right=None if problem.answer is None else first is not None and same_answer(first, problem.answer),
    )


def _file_name(identifier: str) -> str:
    return re.sub(r"[^\w.\-]", "_", identifier)


def _append(path: Path, result: Result) -> None:
    try:
        with path.open("a", encoding="utf-8") as lines:
            lines.write(result.model_dump_json() + "\n")
    except OSError as error:
        raise OutputPathError(f"Cannot append to {str(path)!r}: {error.strerror or error}.") from error


def _show(result: Result) -> None:
    line = Text(f"{result.id}  ")
    if result.error is not None:
        output.print(line.append(result.error, style="red"))
        return
    line.append(result.answer if result.answer is not None else "(no answer)", style="bold")
    if result.probability is not None:
        error = "" if result.standard_error is None else f" ± {result.standard_error:.3f}"
        line.append(f"  {result.probability:.3f}{error}")
    if result.right is not None:
        mark = ("  right", "green") if result.right else (f"  wrong, expected {result.expected}", "red")
        line.append(mark[0], style=mark[1])
    output.print(line)


def _summarise(results: Sequence[Result], kept: int, path: Path | None) -> None:
    if kept:
        were = "result was" if kept == 1 else "results were"
        errors.print(f"{kept} {were} there already.", style="dim", highlight=False)
    if path is not None:
        errors.print(f"{len(results)} results in {path}", style="dim", markup=False, highlight=False, soft_wrap=True)
    verdicts = [result.right for result in results if result.right is not None]
    if verdicts:
        share = sum(verdicts) / len(verdicts)
        error = math.sqrt(share * (1 - share) / max(len(verdicts) - 1, 1))
        output.print(f"accuracy {share:.3f} ± {error:.3f} ({sum(verdicts)} of {len(verdicts)})", highlight=False)
