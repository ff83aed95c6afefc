"""What the report says in numbers."""

from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_llm.answers import answer
from pyro_llm.diagnostics.report import report_data
from pyro_llm.infer import (
    SMC,
    BeamSearch,
    BestOfN,
    Importance,
    ParallelTempering,
    ParticleGibbs,
    Posterior,
    SelfConsistency,
)
from pyro_llm.lm import TableLM
from pyro_llm.models import ReasoningSSM
from pyro_llm.rewards import FunctionReward

WORDS = ["answer: 95\n", "answer: 94\n"]


def test_answers_have_intervals_over_runs(posterior):
    data = report_data(posterior)
    marginal = posterior.marginal(answer)
    assert [row.probability for row in data.answers] == pytest.approx(list(marginal.values()))
    assert data.answers[0].label == str(next(iter(marginal)))
    row, error = data.answers[0], marginal.standard_errors[next(iter(marginal))]
    half = 4.302652729911275 * error  # Student's t, two degrees of freedom, 97.5 %
    assert (row.low, row.high) == pytest.approx((max(0, row.probability - half), min(1, row.probability + half)))
    assert data.prompt == "47 + 48?"


def test_the_course(posterior):
    course = report_data(posterior).course
    assert course.names == posterior.stats.names
    np.testing.assert_allclose(course.ess, posterior.stats.ess)
    assert [row[-1] for row in course.log_evidence] == pytest.approx(posterior.log_evidence.tolist())
    assert course.unique_ancestors == posterior.stats.unique_ancestors.tolist()
    assert course.threshold == pytest.approx(0.7 * 16)


def test_a_loaded_file_gives_the_same_report(posterior, numeric_posterior, tmp_path):
    for one in (posterior, numeric_posterior):
        one.save(tmp_path / "run.nc")
        assert Posterior.load(tmp_path / "run.nc").report() == one.report()


def walk(observations):
    x = torch.tensor(0.0)
    for t, y in enumerate(observations):
        x = pyro.sample(f"x_{t}", dist.Normal(x, 1.0))
        pyro.sample(f"y_{t}", dist.Normal(x, 1.0), obs=y)
    return x


DATA = torch.tensor([0.5, 1.0])


def test_numbers_are_summarised_by_weight():
    posterior = Importance(walk, num_particles=4000).run(DATA)
    data = report_data(posterior)
    assert [site.name for site in data.sites] == ["x_0", "x_1"]
    # The Kalman filter: after 0.5 mean 0.25 and variance 0.5, so a gain of 1.5 / 2.5, which is the variance then too.
    last, mean = data.sites[-1], 0.25 + 0.6 * (1.0 - 0.25)
    assert (last.mean, last.standard_deviation) == pytest.approx((mean, 0.6**0.5), abs=0.06)
    assert (last.low, last.median, last.high) == pytest.approx((mean - 1.274, mean, mean + 1.274), abs=0.12)
    assert data.answers == []
    nodes = data.trees[0].nodes
    assert len(nodes) == 4000 + 2, "the 4000 heaviest of 8000, and for each step one that collects the others"
    assert [sum(nodes.particles[i] for i in range(4002) if nodes.step[i] == step) for step in (0, 1)] == [4000, 4000]


@pytest.mark.parametrize("algorithm", [ParticleGibbs, partial(ParallelTempering, num_rungs=2)])
def test_markov_chains_say_why_there_is_no_tree(algorithm):
    posterior = algorithm(walk, num_particles=4, num_iterations=5, num_chains=2, warmup=2).run(DATA)
    data = report_data(posterior)
    assert data.trees == []
    assert "Markov chains" in data.no_tree
    assert data.is_chain
    assert [len(trace) for trace in data.trace] == [posterior.num_particles] * posterior.num_runs
    assert posterior.report().startswith("<!doctype html>")


def test_dead_runs(make_run):
    posterior = make_run(num_runs=2, num_particles=4, num_steps=2)
    posterior.log_evidence[:] = -torch.inf
    posterior.log_weights[:] = -torch.inf
    data = report_data(posterior)
    assert data.answers == []
    assert data.log_evidence == (None, None)
    assert "dead" in data.note
    assert posterior.report()


def test_scalar_particles_and_resampled_draws(posterior):
    drawn = report_data(posterior.resample(5))
    assert drawn.trees == []
    assert "resampled afterwards" in drawn.no_tree
    assert drawn.answers
    scalar = report_data(SMC(walk, num_particles=5, particles="scalar").run(DATA))
    assert len(scalar.trees[0].nodes) == 10


@pytest.mark.parametrize("search", [BestOfN, SelfConsistency, partial(BeamSearch, beam_width=4)])
def test_searches_decide(search):
    found = search(reasoning(), num_particles=16, num_runs=2).run("47 + 48?")
    data = report_data(found)
    assert data.answers[0].label == found.decision(answer)
    assert data.decides_by == found.searched.decides_by
    total = sum(row.probability for row in data.answers) + data.other_answers[1]
    assert total == pytest.approx(1)
    share = np.mean([answer(text) == data.answers[0].label for text in found.texts.flat])
    assert data.answers[0].probability == pytest.approx(share)
    assert (data.ess, data.course.ess, data.log_evidence) == ([], [], (None, None))
    for tree in data.trees:
        assert sum(w for w, step in zip(tree.nodes.final, tree.nodes.step, strict=True) if step == 0) == pytest.approx(
            1
        )
    assert found.report()


def reasoning():
    lm = TableLM(lambda tokens: [0.3, 0.3, 0.3, 0.1] if len(tokens) < 3 else [0, 0, 0, 1.0], [*WORDS, "so ", "."], 3)
    return ReasoningSSM(lm, FunctionReward(lambda text: 0.9 if "95" in text else 0.2), stop=None, max_tokens=1)


def test_the_verdict_is_that_of_the_diagnostics(posterior):
    verdict, diagnosis = report_data(posterior).verdict, posterior.diagnose()
    assert verdict.healthy == diagnosis.healthy
    assert [(found.name, found.what, found.change) for found in verdict.findings] == [
        (found.name, found.what, found.change) for found in diagnosis
    ]
    assert list(verdict.figures) == list(diagnosis.figures)
