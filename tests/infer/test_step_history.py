"""What SMC keeps of every step: weights, and the texts of particles whether or not they have descendants."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_llm.distributions import LLM, NextToken, accept
from pyro_llm.infer import SMC, BeamSearch
from pyro_llm.lm import TableLM
from pyro_llm.rewards import FunctionReward

LM = TableLM(lambda tokens: [0.4, 0.4, 0.2] if len(tokens) < 4 else [0.0, 0.0, 1.0], ["a", "b", "."], eos_token_id=2)
REWARD = FunctionReward(lambda text: 0.9 if text.endswith("a") else 0.3)


def steps_of_two_sites(problem):
    """A tag that is no text, and two sites of text, before each judgement; a last judgement of the outcome."""
    state = LM.prompt(problem)
    for t in range(3):
        pyro.sample(f"tag_{t}", dist.Categorical(torch.ones(3)))
        state = state.append(pyro.sample(f"step_{t}", LLM(LM, state, max_tokens=1)))
        state = state.append_token(pyro.sample(f"token_{t}", NextToken(LM, state)))
        accept(f"accept_{t}", REWARD, state)
    accept("outcome", FunctionReward(lambda text: 0.5), state)
    return state


def particle_filter(**options):
    pyro.set_rng_seed(1)
    return SMC(steps_of_two_sites, num_particles=24, num_runs=3, ess_threshold=1.0, **options).run("?")


@pytest.mark.parametrize("options", [{}, {"island_threshold": 1.0}], ids=["runs", "islands"])
def test_the_steps_of_a_lineage_join_to_its_text(options):
    posterior = particle_filter(**options)
    stats, texts = posterior.stats, posterior.stats.texts.values
    assert stats.names == ["accept_0", "accept_1", "accept_2", "outcome"]
    assert stats.resampled.any()
    if options:
        assert stats.num_exchanges
    for run, particle in np.ndindex(posterior.log_weights.shape):
        slots = stats.lineages[run, :, particle]
        assert "".join(texts[run, step, slot] for step, slot in enumerate(slots)) == posterior.texts[run, particle]
    assert set(texts[:, 3].flat) == {""}, "nothing is written between the last judgement of a step and the outcome's"


def test_the_texts_of_those_that_died_out_are_what_was_judged():
    posterior = particle_filter()
    stats, texts = posterior.stats, posterior.stats.texts.values
    dead = 0
    for run in range(3):
        dead += len({*range(24)} - {*stats.lineages[run, 0].tolist()})
        for slot in range(24):
            text = texts[run, 0, slot]
            assert stats.log_factor[run, 0, slot] == pytest.approx(np.log(0.9 if text.endswith("a") else 0.3), abs=1e-6)
    assert dead > 10


def test_the_weights_of_each_step_have_its_effective_sample_size():
    posterior = particle_filter()
    weights = np.exp(posterior.stats.log_weights)
    np.testing.assert_allclose(weights.sum(-1), 1.0)
    np.testing.assert_allclose(1 / (weights**2).sum(-1), posterior.stats.ess)
    np.testing.assert_allclose(posterior.stats.log_weights[:, -1], posterior.log_weights)


def test_programs_without_text_have_none():
    def walk():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(x, 1.0), obs=torch.tensor(0.3))

    assert SMC(walk, num_particles=4).run().stats.texts is None

    def plated(problem):
        with pyro.plate("two", 2):
            state = LM.prompt(problem)
            state = state.append(pyro.sample("step", LLM(LM, state, max_tokens=2)))
            accept("accept", REWARD, state)
        return state

    assert SMC(plated, num_particles=4, max_plate_nesting=1).run("?").stats.texts is None


def test_a_search_keeps_what_was_not_selected():
    pyro.set_rng_seed(1)
    posterior = BeamSearch(steps_of_two_sites, num_particles=12, beam_width=3, num_runs=2).run("?")
    stats, texts = posterior.stats, posterior.stats.texts.values
    assert stats.resampled.any()
    for run, particle in np.ndindex(texts[:, 0].shape):
        slots = stats.lineages[run, :, particle]
        assert "".join(texts[run, step, slot] for step, slot in enumerate(slots)) == posterior.texts[run, particle]
