import random

import pyro
import pyro.distributions as dist
import pyro.poutine as poutine
import pytest
import torch

from pyro_llm.errors import DuplicateSiteError, HiddenRandomnessError, OptionError, ReplayError
from pyro_llm.handlers.loop import loop
from pyro_llm.handlers.particle_messenger import ParticleMessenger
from pyro_llm.infer import SMC, ParticleGibbs

OBSERVATIONS = torch.tensor([0.3, 1.4, -0.2, 2.0, 2.2, 1.0, 3.5, 0.2, -1.0, 0.4, 0.0, 1.1])


def step(t, x, y):
    x = pyro.sample(f"x_{t}", dist.Normal(0.9 * x, 1.0))
    pyro.sample(f"y_{t}", dist.Normal(x, 0.4), obs=y)
    return x


def plain(observations):
    x = torch.tensor(0.0)
    for t, y in enumerate(observations):
        x = step(t, x, y)
    return x


def resumable(observations):
    state = {"x": torch.tensor(0.0)}
    for t in loop("time", len(observations), state):
        state["x"] = step(t, state["x"], observations[t])
    return state["x"]


def unbroken(observations):
    state = {"x": torch.tensor(0.0)}
    for t in loop("time", len(observations), state, unbroken=True):
        state["x"] = step(t, state["x"], observations[t])
    return state["x"]


def run(model, *args, seed=0, **options):
    pyro.set_rng_seed(seed)
    return SMC(model, **{"num_particles": 20, "num_runs": 3, "progress": False, **options}).run(*args)


def assert_same_posterior(left, right):
    assert torch.equal(left.log_evidence, right.log_evidence)
    assert torch.equal(left.log_weights, right.log_weights)
    assert torch.equal(left.log_prior, right.log_prior)
    assert torch.equal(left.log_likelihood, right.log_likelihood)
    assert list(left.samples) == list(right.samples)
    assert all(torch.equal(left.samples[name], right.samples[name]) for name in left.samples)
    assert (left.stats.ancestors == right.stats.ancestors).all()


@pytest.fixture
def visits(monkeypatch):
    """The number of site visits, as a list of one number."""
    count = [0]
    original = ParticleMessenger._pyro_sample

    def counted(self, msg):
        count[0] += 1
        return original(self, msg)

    monkeypatch.setattr(ParticleMessenger, "_pyro_sample", counted)
    return count


def test_outside_inference_it_is_a_range():
    state = {"sum": 0}
    for t in loop("t", 4, state):
        state["sum"] += t
    assert state == {"sum": 6}
    trace = poutine.trace(resumable).get_trace(OBSERVATIONS)
    assert [name for name in trace.nodes if name.startswith("x_")] == [f"x_{t}" for t in range(len(OBSERVATIONS))]


@pytest.mark.parametrize("threshold", [0.3, 0.7, 1.0])
@pytest.mark.parametrize("model", [resumable, unbroken])
def test_results_are_those_of_plain_replay_to_the_bit(threshold, model):
    expected, found = (run(model, OBSERVATIONS, ess_threshold=threshold) for model in (plain, model))
    assert expected.stats.resampled.sum() > 2
    assert_same_posterior(expected, found)
    assert torch.equal(expected.returns, found.returns)


def test_visits_are_linear_in_the_number_of_iterations(visits):
    def count(model, length):
        visits[0] = 0
        run(model, OBSERVATIONS.repeat(length // len(OBSERVATIONS) + 1)[:length], ess_threshold=1.0)
        return visits[0]

    short, long = count(resumable, 20), count(resumable, 80)
    assert long < 5 * short and long < 5 * 2 * 80
    assert count(plain, 80) > 10 * long
    assert count(unbroken, 80) < 2 * 80 + 20  # each site once, but for the first restarts, which check the state


def test_an_early_end_is_that_of_plain_replay():
    """When the particles that go on have died, a replay ends at the end of an earlier iteration."""

    def body(t, state):
        go_on = pyro.sample(f"go_on_{t}", dist.Bernoulli(torch.where(state["done"], 0.0, 0.5)))
        state["done"] = state["done"] | (go_on == 0)
        pyro.sample(f"y_{t}", dist.Bernoulli(0.02 + 0.96 * (1 - go_on)).mask(~state["judged"]), obs=torch.tensor(1.0))
        state["judged"] = state["done"]

    def begin():
        return {"done": torch.tensor(False), "judged": torch.tensor(False)}

    def plain():
        state = begin()
        for t in range(10):
            body(t, state)
            if state["done"].all():
                break
        return state["done"]

    def resumable():
        state = begin()
        for t in loop("t", 10, state):
            body(t, state)
            if state["done"].all():
                break
        return state["done"]

    for seed in range(30):
        options = {"seed": seed, "num_particles": 6, "num_runs": 1, "ess_threshold": 0.9}
        assert_same_posterior(run(plain, **options), run(resumable, **options))


def test_two_loops_in_a_row_and_one_inside_another():
    def nested(observations):
        outer = {"x": torch.tensor(0.0)}
        for t in loop("outer", 3, outer):
            inner = {"x": outer["x"]}
            for s in loop(f"inner_{t}", 2, inner):
                inner["x"] = step(2 * t + s, inner["x"], observations[2 * t + s])
            outer["x"] = inner["x"]
        later = {"x": outer["x"]}
        for t in loop("later", 6, later):
            later["x"] = step(6 + t, later["x"], observations[6 + t])
        return later["x"]

    assert_same_posterior(run(plain, OBSERVATIONS), run(nested, OBSERVATIONS))


def test_state_changed_in_place_does_not_change_the_checkpoint():
    def in_place(observations):
        state = {"x": torch.tensor(0.0), "sum": torch.zeros(60)}
        for t in loop("time", len(observations), state):
            state["x"] = step(t, state["x"], observations[t])
            state["sum"] += state["x"]
        return state["sum"]

    posterior = run(in_place, OBSERVATIONS)
    total = sum(posterior.samples[f"x_{t}"] for t in range(len(OBSERVATIONS)))
    torch.testing.assert_close(posterior.returns, total)


def test_a_variable_outside_the_state_is_an_error():
    def forgetful(observations):
        state = {"x": torch.tensor(0.0)}
        trend = torch.tensor(0.0)
        for t in loop("time", len(observations), state):
            state["x"] = step(t, state["x"] + trend, observations[t])
            trend = trend + 0.1 * state["x"]

    with pytest.raises(ReplayError, match="must be in the loop's state"):
        run(forgetful, OBSERVATIONS)


def test_shared_data_that_looks_like_particles_is_an_error():
    def confusing(observations):
        state = {"x": torch.tensor(0.0), "data": observations}
        for t in loop("time", len(observations), state):
            state["x"] = step(t, state["x"], state["data"][t])

    with pytest.raises(ReplayError, match=r"state\['data'\].*outside `state`"):
        run(confusing, OBSERVATIONS, num_particles=4, num_runs=3)
    run(confusing, OBSERVATIONS, num_particles=5, num_runs=3)


def test_a_loop_name_twice():
    def twice():
        for _ in range(2):
            for t in loop("t", 1, {}):
                pyro.sample(f"x_{t}", dist.Normal(0.0, 1.0))

    with pytest.raises(DuplicateSiteError, match="loop 't' occurs twice"):
        run(twice)


def test_state_must_be_a_dictionary():
    with pytest.raises(TypeError, match="state must be a dictionary, not list"):
        next(loop("t", 3, [1]))


def test_scalar_particles_resume_too():
    def walk():
        state = {"x": torch.tensor(0.0), "up": 0}
        for t in loop("time", 8, state):
            state["x"] = pyro.sample(f"x_{t}", dist.Normal(state["x"], 1.0))
            if state["x"] > 0:
                state["up"] += 1
                pyro.sample(f"y_{t}", dist.Normal(state["x"], 1.0), obs=torch.tensor(1.0))
        return state["up"]

    posterior = run(walk, particles="scalar", num_particles=6, num_runs=1, ess_threshold=1.0)
    assert posterior.stats.resampled.any()
    ups = sum((posterior.samples[f"x_{t}"] > 0).long() for t in range(8))
    assert torch.equal(posterior.returns, ups)


def test_particle_gibbs_on_an_unbroken_loop():
    def chains(model, ancestor_sampling):
        pyro.set_rng_seed(0)
        options = {"num_chains": 3, "warmup": 1, "ess_threshold": 1.0, "ancestor_sampling": ancestor_sampling}
        return ParticleGibbs(model, 5, 4, **options, progress=False).run(OBSERVATIONS)

    for ancestor_sampling in (False, True):
        expected, found = (chains(model, ancestor_sampling) for model in (plain, unbroken))
        assert all(torch.equal(expected.samples[name], found.samples[name]) for name in expected.samples)


def test_what_comes_before_an_unbroken_loop_may_be_used_in_it():
    """A variable from before the loop holds values of particles, which only a restart replaces."""

    def drifting(iterate):
        drift = pyro.sample("drift", dist.Normal(0.0, 1.0))
        state = {"x": torch.tensor(0.0)}
        for t in iterate(state):
            state["x"] = step(t, state["x"] + drift, OBSERVATIONS[t])
        return state["x"]

    expected = run(lambda: drifting(lambda state: range(12)))
    assert_same_posterior(expected, run(lambda: drifting(lambda state: loop("t", 12, state, unbroken=True))))


def test_an_unbroken_loop_whose_iterations_begin_with_a_factor():
    """Before a factor no population is resampled, as it may be the last."""

    def factor_first(iterate):
        state = {"x": torch.zeros(60)}
        for t in iterate(state):
            pyro.sample(f"y_{t}", dist.Normal(state["x"], 0.4), obs=OBSERVATIONS[t])
            state["x"] = pyro.sample(f"x_{t}", dist.Normal(0.9 * state["x"], 1.0))
            pyro.factor(f"z_{t}", -state["x"].abs())

    expected = run(lambda: factor_first(lambda state: range(12)))
    assert expected.stats.resampled.sum() > 2
    assert_same_posterior(expected, run(lambda: factor_first(lambda state: loop("t", 12, state, unbroken=True))))


def test_an_unbroken_loop_that_is_left_is_an_error():
    def left():
        state = {"x": torch.tensor(0.0)}
        for t in loop("time", 12, state, unbroken=True):
            state["x"] = step(t, state["x"], OBSERVATIONS[t])
            if t == 8:
                break

    assert poutine.trace(left).get_trace().nodes["x_8"]
    for mode in ("vectorized", "scalar"):
        with pytest.raises(OptionError, match=r"loop\('time', unbroken=True\) was left before its last iteration"):
            run(left, particles=mode, num_particles=4)


def test_hidden_draws_in_an_unbroken_loop_are_noticed():
    def hidden():
        state = {"x": torch.tensor(0.0)}
        for t in loop("time", 12, state, unbroken=True):
            state["x"] = step(t, state["x"], OBSERVATIONS[t])
            if t > 8:
                torch.rand(())

    with pytest.raises(HiddenRandomnessError, match="between site 'y_9' and the next iteration of a loop"):
        run(hidden, ess_threshold=1.0)


@pytest.mark.parametrize("iterate", [lambda state: range(90), lambda state: loop("t", 90, state, unbroken=True)])
def test_a_hidden_draw_late_in_a_long_program_is_noticed(iterate):
    def hidden():
        state = {"x": torch.tensor(0.0)}
        for t in iterate(state):
            state["x"] = step(t, state["x"], torch.tensor(0.0))
            if t == 80:
                random.random()

    with pytest.raises(HiddenRandomnessError, match=r"\(random\)"):
        run(hidden, num_particles=3, num_runs=1)
