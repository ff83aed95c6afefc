import itertools

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_llm.diagnostics import load
from pyro_llm.errors import AllParticlesDeadError, CapabilityError, DeadRunWarning, OptionError, ReplayError
from pyro_llm.infer import ParallelTempering, ParticleGibbs
from pyro_llm.lm import TableLM
from pyro_llm.models import ReasoningSSM
from pyro_llm.rewards import FunctionReward

ONE = torch.tensor(1.0)


def chain(num_steps=3):
    x = torch.tensor(0.0)
    for t in range(num_steps):
        x = pyro.sample(f"x_{t}", dist.Normal(x, 1.0))
        pyro.sample(f"y_{t}", dist.Normal(x, 1.0), obs=ONE)
    return x


def reasoning():
    lm = TableLM(lambda tokens: [0.4, 0.3, 0.3], ["a", "b", "."], eos_token_id=2)
    return ReasoningSSM(
        lm, FunctionReward(lambda text: 0.2 + 0.3 * min(len(text), 2)), max_steps=3, max_tokens=1, stop=None
    )


@pytest.fixture(params=[ParticleGibbs, ParallelTempering])
def posterior(request):
    pyro.set_rng_seed(0)
    options = {"num_chains": 3, "warmup": 4, "ancestor_sampling": True, "progress": False}
    if request.param is ParallelTempering:
        options["num_rungs"] = 3
    return request.param(reasoning(), 4, 15, **options).run("write")


def test_draws_are_equally_weighted_and_consistent(posterior):
    assert (posterior.num_runs, posterior.num_particles) == (3, 15)
    assert posterior.texts.shape == (3, 15)
    torch.testing.assert_close(posterior.log_weights.exp(), torch.full((3, 15), 1 / 15).double())
    assert posterior.log_evidence.isfinite().all() and len(set(posterior.log_evidence.tolist())) > 1
    for run, draw in itertools.product(range(3), range(15)):
        text, tokens = posterior.texts[run, draw], int(posterior.written.lengths[run, draw])
        prefixes = [text[:end] for end in range(1, len(text) + 1)] + [text] * (tokens - len(text))
        expected = sum(np.log(0.2 + 0.3 * min(len(prefix), 2)) for prefix in prefixes)
        assert float(posterior.log_likelihood[run, draw]) == pytest.approx(expected)
        law = {"a": 0.4, "b": 0.3}
        prior = sum(np.log(law[letter]) for letter in text) + (tokens - len(text)) * np.log(0.3)
        assert float(posterior.log_prior[run, draw]) == pytest.approx(prior)
    assert posterior.cost.lm_tokens_sampled > 0


def test_chains_are_pooled_equally(posterior):
    posterior.log_evidence[0] += 50  # what the first iteration found has no say in it
    assert "error bars" not in repr(posterior)
    texts = posterior.texts.flatten().tolist()
    marginal = posterior.marginal()
    assert marginal == {text: pytest.approx(texts.count(text) / 45) for text in set(texts)}
    torch.testing.assert_close(posterior.pooled_log_weights.exp(), torch.full((3, 15), 1 / 45).double())
    first = [list(row).count(texts[0]) / 15 for row in posterior.texts]
    assert marginal.standard_errors[texts[0]] == pytest.approx(np.std(first, ddof=1) / 3**0.5)


def test_arviz_storage_and_figure(posterior, tmp_path):
    tree = posterior.to_datatree()
    assert dict(tree["posterior"].sizes)["draw"] == 15
    assert tree["sample_stats"]["resamplings"].dims == ("chain", "draw")
    posterior.to_arviz()
    posterior.save(tmp_path / "chains.nc")
    loaded = load(tmp_path / "chains.nc")
    assert repr(loaded) == repr(posterior)
    assert "3 chains × 15 draws" in repr(posterior) and "updates" in repr(posterior)
    np.testing.assert_array_equal(loaded.chains.lowest_ess, posterior.chains.lowest_ess)
    np.testing.assert_array_equal(loaded.chains.resamplings, posterior.chains.resamplings)
    torch.testing.assert_close(loaded.pooled_log_weights, posterior.pooled_log_weights)
    tempering = posterior.chains.tempering
    assert (tempering is None) == (loaded.chains.tempering is None)
    if tempering is not None:
        for name in ("inverse_temperatures", "swap_rates", "round_trips", "log_likelihood"):
            np.testing.assert_array_equal(getattr(loaded.chains.tempering, name), getattr(tempering, name))
    posterior.plot(run=1).savefig(tmp_path / "chains.png")
    assert posterior.resample(5).chains is None


def test_seeds_make_chains_reproducible_and_chains_differ():
    def run(seed):
        pyro.set_rng_seed(seed)
        return ParticleGibbs(chain, 3, 10, num_chains=2, ancestor_sampling=True, progress=False).run().returns

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))
    assert not torch.equal(run(1)[0], run(1)[1])


def test_without_resampling_ancestor_sampling_is_never_needed():
    posterior = ParticleGibbs(chain, 3, 5, ancestor_sampling=True, ess_threshold=0, progress=False).run()
    assert (posterior.chains.resamplings == 0).all()


def test_one_iteration_is_plain_smc():
    posterior = ParticleGibbs(chain, 4, 1, warmup=0, progress=False).run()
    assert posterior.returns.shape == (1, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_particles": 1}, "num_particles=1"),
        ({"num_iterations": 0}, "num_iterations=0"),
        ({"num_chains": 0}, "num_chains=0"),
        ({"warmup": -1}, "warmup=-1"),
        ({"ancestor_sampling": "yes"}, "ancestor_sampling='yes'"),
        ({"ess_threshold": 2}, "ess_threshold=2"),
        ({"max_plate_nesting": -1}, "max_plate_nesting=-1"),
    ],
)
@pytest.mark.parametrize("algorithm", [ParticleGibbs, ParallelTempering])
def test_options(algorithm, options, message):
    extra = {"num_rungs": 2} if algorithm is ParallelTempering else {}
    with pytest.raises(OptionError, match=message):
        algorithm(chain, **{"num_particles": 4, "num_iterations": 5, **extra, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "Give either"),
        ({"num_rungs": 2, "inverse_temperatures": [1, 0]}, "Give either"),
        ({"num_rungs": 1}, "num_rungs=1"),
        ({"inverse_temperatures": [1]}, "descending"),
        ({"inverse_temperatures": [0.9, 0.1]}, "descending"),
        ({"inverse_temperatures": [1, 0.5, 0.5]}, "descending"),
        ({"inverse_temperatures": [1, -0.5]}, "descending"),
        ({"num_rungs": 2, "target_swap_rate": 1}, "target_swap_rate=1"),
    ],
)
def test_options_of_the_ladder(options, message):
    with pytest.raises(OptionError, match=message):
        ParallelTempering(chain, 4, 5, **options)


def test_a_model_is_a_function():
    for algorithm, options in ((ParticleGibbs, {}), (ParallelTempering, {"num_rungs": 2})):
        with pytest.raises(OptionError, match="must be a function"):
            algorithm("model", 4, 5, **options)


def test_a_chain_that_cannot_begin():
    def impossible_for_most():
        x = pyro.sample("x", dist.Bernoulli(0.2))
        pyro.factor("is_one", torch.where(x == 1, 0.0, -torch.inf))

    pyro.set_rng_seed(0)
    gibbs = ParticleGibbs(impossible_for_most, 2, 5, num_chains=20, progress=False)
    with pytest.warns(DeadRunWarning), pytest.raises(AllParticlesDeadError, match="next iteration could start"):
        gibbs.run()


def test_subsamples_are_refused():
    def subsampled():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 4, subsample_size=2) as index:
            pyro.sample("y", dist.Normal(x.unsqueeze(-1) if x.dim() else x, 1.0), obs=torch.ones(4)[index])

    with pytest.raises(ReplayError, match="subsample"):
        ParticleGibbs(subsampled, 4, 5, max_plate_nesting=1, progress=False).run()


def test_a_program_that_changes_between_iterations():
    calls = itertools.count()

    def changing():
        steps = 2 if next(calls) == 0 else 3
        chain(steps)

    with pytest.raises(ReplayError, match="y_2"):
        ParticleGibbs(changing, 4, 5, ess_threshold=0, progress=False).run()
    calls = itertools.count()

    def shrinking():
        chain(3 if next(calls) == 0 else 2)

    with pytest.raises(ReplayError, match="y_2"):
        ParticleGibbs(shrinking, 4, 5, ess_threshold=0, progress=False).run()


def test_a_value_that_changes_its_shape_between_iterations():
    calls = itertools.count()

    def changing():
        x = pyro.sample("x", dist.Normal(torch.zeros(2 + min(next(calls), 1)), 1.0).to_event(1))
        pyro.sample("y", dist.Normal(x.sum(-1), 1.0), obs=ONE)

    with pytest.raises(ReplayError, match="does not fit"):
        ParticleGibbs(changing, 4, 5, progress=False).run()


class OnlySampled(dist.Normal):
    def log_prob(self, value):
        raise NotImplementedError


def test_ancestor_sampling_needs_log_probabilities():
    def model():
        x = torch.tensor(0.0)
        for t in range(3):
            x = pyro.sample(f"x_{t}", OnlySampled(x, 1.0))
            pyro.sample(f"y_{t}", dist.Normal(x, 1.0), obs=ONE)

    options = {"ess_threshold": 1.0, "progress": False}
    assert ParticleGibbs(model, 4, 5, **options).run().log_prior.isnan().all()
    with pytest.raises(CapabilityError, match="ancestor_sampling=False"):
        ParticleGibbs(model, 4, 5, ancestor_sampling=True, **options).run()


def test_plates_inside_the_program():
    def series():
        with pyro.plate("series", 3):
            x = torch.tensor(0.0)
            for t in range(3):
                x = pyro.sample(f"x_{t}", dist.Normal(x, 1.0))
                pyro.sample(f"y_{t}", dist.Normal(x, 1.0), obs=ONE)

    options = {"max_plate_nesting": 1, "ess_threshold": 1.0, "ancestor_sampling": True, "progress": False}
    posterior = ParticleGibbs(series, 4, 20, num_chains=2, **options).run()
    assert posterior.samples["x_0"].shape == (2, 20, 3)
    x = torch.stack([posterior.samples[f"x_{t}"] for t in range(3)])
    before = torch.cat([torch.zeros(1, 2, 20, 3), x[:-1]])
    log_prior = dist.Normal(before, 1.0).log_prob(x).sum(0).sum(-1)
    torch.testing.assert_close(posterior.log_prior, log_prior.double(), rtol=1e-5, atol=1e-5)


def test_populations_hold_the_draws(tmp_path):
    options = {"num_chains": 2, "warmup": 1, "ess_threshold": 1.0, "progress": False}

    def run(keep):
        pyro.set_rng_seed(3)
        return ParticleGibbs(reasoning(), [6, 4, 3], 3, keep=keep, **options).run("write")

    draws, populations = run("draw"), run("population")
    assert (draws.num_particles, populations.num_particles) == (3, 4 + 3 + 3)
    torch.testing.assert_close(populations.log_weights.exp().sum(1), torch.ones(2).double())
    iterations = populations.chains.iterations
    assert iterations.tolist() == [0] * 4 + [1] * 3 + [2] * 3
    for run, draw in itertools.product(range(2), range(3)):
        texts = populations.texts[run, iterations == draw]
        assert draws.texts[run, draw] in texts
        weights = populations.log_weights[run].exp()[torch.from_numpy(iterations == draw)]
        assert float(weights.sum()) == pytest.approx([0.4, 0.3, 0.3][draw])
        slot = list(texts).index(draws.texts[run, draw])
        assert weights[slot] > 0
        position = int(np.flatnonzero(iterations == draw)[slot])
        assert populations.log_likelihood[run, position] == draws.log_likelihood[run, draw]
        assert populations.log_prior[run, position] == pytest.approx(float(draws.log_prior[run, draw]))
    assert torch.equal(draws.log_evidence, populations.log_evidence)
    assert populations.settings["schedule"] == (6, 4, 3) and populations.settings["num_particles"] == 6
    assert "2 chains × 10 particles" in repr(populations) and "ESS" in repr(populations)
    populations.plot().savefig(tmp_path / "populations.png")
    populations.to_arviz()
    populations.save(tmp_path / "populations.nc")
    loaded = load(tmp_path / "populations.nc")
    assert repr(loaded) == repr(populations) and loaded.has_populations
    np.testing.assert_array_equal(loaded.chains.iterations, iterations)
    assert loaded.marginal() == populations.marginal()


def test_a_schedule_of_one_number_is_that_number():
    def run(num_particles):
        pyro.set_rng_seed(1)
        return ParticleGibbs(chain, num_particles, 6, progress=False).run().returns

    assert torch.equal(run(4), run([4]))
    assert torch.equal(run(4), run([4] * 7))
    assert not torch.equal(run(4), run([4, 3]))


@pytest.mark.parametrize(
    ("num_particles", "options", "message"),
    [
        ([], {}, "num_particles="),
        ([8, 1], {}, "num_particles=1"),
        ([8, 2.0], {}, "num_particles=2.0"),
        ([8] * 7, {}, "1 \\+ 5 iterations"),
        (4, {"keep": "all"}, "keep='all'"),
    ],
)
def test_options_of_schedules(num_particles, options, message):
    with pytest.raises(OptionError, match=message):
        ParticleGibbs(chain, num_particles, 5, **options)
