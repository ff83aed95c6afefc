"""What is wrong with a step: the first line in which a solution leaves the exact one, and by which slip."""

from __future__ import annotations

import re

from training.abacus.plan import Line, exact, perform
from training.abacus.problems import Problem
from training.abacus.pupil import smaller_from_larger, without_first_carry, without_units_carry

EQUATION = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)")


def right_steps(problem: Problem, solution: str) -> list[bool]:
    """For each line of a solution, whether it and all before it are those of the exact solution."""
    exact_lines = problem.solution.split("\n")
    lines = solution.split("\n")
    return [lines[: i + 1] == exact_lines[: i + 1] for i in range(len(lines))]


def first_slip(problem: Problem, solution: str) -> tuple[int, str] | None:
    """The number of the first wrong line and the name of its slip; None where all lines are right."""
    right = right_steps(problem, solution)
    if all(right):
        return None
    index = right.index(False)
    return index, name(problem, index, solution.split("\n")[index])


def name(problem: Problem, index: int, line: str) -> str:
    """The slip that makes `line` out of the exact line number `index`."""
    if line.startswith("answer:"):
        return "answer copied wrongly" if index == len(problem.lines) else "stopped early"
    match = EQUATION.fullmatch(line)
    if match is None:
        return "no equation"
    left, op, right, result = int(match[1]), match[2], int(match[3]), int(match[4])
    if exact(op, left, right) != result:
        return wrong_result(op, left, right, result)
    for kind, misread in misreadings(problem, index):
        if line == misread:
            return f"misread: {kind}"
    return "line left out" if line in map(str, problem.lines[index:]) else "another plan"


def wrong_result(op: str, left: int, right: int, result: int) -> str:
    """The name of an error of arithmetic."""
    if op == "+" and result == without_first_carry(left, right):
        return "dropped carry in a sum"
    if op == "-" and result == smaller_from_larger(left, right):
        return "smaller digit from larger"
    if op == "*" and result == without_units_carry(left, right):
        return "dropped carry in a product"
    return f"another wrong {dict(zip('+-*/', ('sum', 'difference', 'product', 'quotient'), strict=True))[op]}"


def misreadings(problem: Problem, index: int) -> list[tuple[str, str]]:
    """Clause kinds, and the line that a misreading of them would put at number `index`."""
    found: list[tuple[str, str]] = []
    amount, before = problem.start, 0
    for clause in problem.clauses:
        lines = list(perform(clause.moves, amount))
        misread = list(perform(clause.misread, amount))
        # A misreading may begin as the exact reading does, and differ in its second line or lack it.
        place = index - before
        if 0 <= place < len(misread):
            found.append((clause.kind, str(misread[place])))
        if place == len(misread) == len(lines) - 1:
            found.extend((clause.kind, str(line)) for line in following(problem, before + len(lines), misread[-1]))
        if lines:
            amount, before = lines[-1].result, before + len(lines)
    return found


def following(problem: Problem, count: int, last: Line) -> list[Line]:
    """The lines that may come after a clause of which only the first line was done."""
    done, amount = 0, problem.start
    for i, clause in enumerate(problem.clauses):
        lines = list(perform(clause.moves, amount))
        done += len(lines)
        amount = lines[-1].result if lines else amount
        if done == count and lines:
            return [line for later in problem.clauses[i + 1 : i + 3] for line in perform(later.moves, last.result)]
    return []
