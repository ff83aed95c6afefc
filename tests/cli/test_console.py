"""What the command line says besides results."""

import warnings

import pyro
import pytest
import torch

from pyro_llm.cli.console import warnings_told
from pyro_llm.cli.options import SolveOptions
from pyro_llm.cli.solver import Solver
from pyro_llm.errors import DeadRunWarning

OPTIONS = SolveOptions(
    lm="abacus", reward="abacus", max_steps=2, max_tokens=8, temperature=1.0, top_p=1.0, top_k=0, stop="\n",
    device=None, dtype=None, particles=4, runs=2, ess_threshold=0.5, seed=0, seed_was_given=True,
)  # fmt: skip


def test_a_dead_run_is_told_in_a_line(capsys):
    solver = Solver(OPTIONS)
    model = solver.model

    def program(problem):
        state = model(problem)
        pyro.factor("kills_a_run", torch.where(torch.arange(8) < 4, -torch.inf, 0.0))
        return state

    solver.model = program
    posterior = solver.solve("What is 34 - 12?", 0)
    assert posterior.log_evidence.isneginf().tolist() == [True, False]
    said = " ".join(capsys.readouterr().err.split())
    assert "Warning: At step" in said and "site 'kills_a_run', all particles of 1 of 2 runs have weight zero" in said
    assert "DeadRunWarning" not in said and ".py" not in said


def test_other_warnings_are_left_alone(capsys):
    with warnings_told(), pytest.warns(UserWarning, match="something else"):
        warnings.warn("something else", stacklevel=1)
    assert capsys.readouterr().err == ""
    with pytest.raises(DeadRunWarning):  # an error again, as it is in these tests
        warnings.warn("died", DeadRunWarning, stacklevel=1)
