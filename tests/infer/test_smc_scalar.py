import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_llm.distributions import LLM, accept
from pyro_llm.errors import BatchedBranchError, PromptError
from pyro_llm.infer import SMC, Importance, Posterior
from pyro_llm.lm import load_lm
from pyro_llm.rewards import FunctionReward

ONE = torch.tensor(1.0)


def run(model, *args, seed=0, **options):
    pyro.set_rng_seed(seed)
    options = {"num_particles": 6, "num_runs": 2, "ess_threshold": 1.0, "particles": "scalar", **options}
    return SMC(model, progress=False, **options).run(*args)


class Together(dist.Bernoulli):
    """A distribution that can be sampled and scored for many particles in one call, and counts its calls."""

    sampled: list[int] = []  # noqa: RUF012
    scored: list[int] = []  # noqa: RUF012

    @staticmethod
    def sample_together(distributions):
        Together.sampled.append(len(distributions))
        return [torch.bernoulli(distribution.probs) for distribution in distributions]

    @staticmethod
    def log_prob_together(distributions, values):
        Together.scored.append(len(distributions))
        return [distribution.log_prob(value) for distribution, value in zip(distributions, values, strict=True)]


def geometric():
    count = 0
    while pyro.sample(f"go_on_{count}", dist.Bernoulli(0.5)):
        pyro.sample(f"y_{count}", dist.Bernoulli(0.6), obs=ONE)
        count += 1
    return {"count": count, "parity": "odd" if count % 2 else "even"}


def test_programs_of_different_lengths():
    posterior = run(geometric, num_particles=50)
    count = posterior.returns["count"]
    assert count.shape == (2, 50) and count.max() > 1
    for t in range(3):
        present = posterior.samples[f"go_on_{t}"]
        assert torch.equal(present.isnan(), count < t)
        assert torch.equal(present == 1, count > t)
    assert posterior.returns["parity"].shape == (2, 50)
    assert ((posterior.returns["parity"] == "odd") == (count % 2 == 1).numpy()).all()
    words = run(lambda: geometric()["parity"], num_particles=50)
    odd = ((count % 2 == 1) * words.pooled_log_weights.exp()).sum().item()
    assert words.marginal()["odd"] == pytest.approx(odd)


def test_values_that_are_integers_or_ragged():
    def model():
        if pyro.sample("coin", dist.Bernoulli(0.5)) == 1:
            pyro.sample("die", dist.Categorical(torch.ones(6)))
        size = 1 + int(pyro.sample("size", dist.Categorical(torch.ones(3))))
        pyro.sample("vector", dist.Normal(torch.zeros(size), 1.0).to_event(1))

    samples = run(model, num_particles=20).samples
    assert torch.equal(samples["die"] == -1, samples["coin"] == 0)
    assert torch.equal(samples["vector"].isnan().sum(-1), 2 - samples["size"])


def test_calls_are_batched_over_particles():
    Together.sampled, Together.scored = [], []

    def model():
        for t in range(3):
            flip = pyro.sample(f"flip_{t}", Together(0.5))
            pyro.sample(f"y_{t}", Together(0.9 if flip else 0.3), obs=ONE)

    run(model)
    assert Together.sampled == [12, 12, 12] and Together.scored == [12, 12, 12]


def test_batched_calls_do_not_change_the_law_of_a_run():
    """The same draws in the same order give the same run, however they were batched."""

    class Alone(dist.Bernoulli):
        @staticmethod
        def sample_together(distributions):
            return [torch.bernoulli(distribution.probs) for distribution in distributions]

    def model(family):
        for t in range(3):
            flip = pyro.sample(f"flip_{t}", family(torch.tensor(0.5)))
            pyro.sample(f"y_{t}", dist.Bernoulli(0.9 if flip else 0.3), obs=ONE)

    alone, one_by_one = run(model, Alone), run(model, dist.Bernoulli)
    assert torch.equal(alone.log_evidence, one_by_one.log_evidence)
    assert torch.equal(alone.log_prior, one_by_one.log_prior)
    assert all(torch.equal(alone.samples[name], one_by_one.samples[name]) for name in alone.samples)


def test_masked_out_factors_are_not_asked_for():
    Together.sampled, Together.scored = [], []

    def model():
        flip = pyro.sample("flip", dist.Bernoulli(0.5))
        with pyro.poutine.mask(mask=flip == 1):
            pyro.sample("y", Together(0.9), obs=ONE)

    posterior = run(model, num_particles=20)
    flips = posterior.samples["flip"]
    assert Together.scored == [int(flips.sum())]
    torch.testing.assert_close(posterior.log_likelihood, flips.double() * torch.tensor(0.9).double().log())


def test_ended_runs_are_not_resampled():
    """A run whose particles have all ended keeps its final weights while other runs go on."""
    posterior = run(geometric, num_particles=1, num_runs=40)
    resampled = torch.from_numpy(posterior.stats.resampled)
    assert posterior.returns["count"].unique().numel() > 2
    assert torch.equal(resampled.sum(-1), posterior.returns["count"][:, 0])


def test_particles_that_copy_one_ancestor_go_on_by_themselves():
    def model():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(x, 0.01), obs=ONE)
        return pyro.sample("z", dist.Normal(x, 1.0))

    posterior = run(model, num_particles=30, num_runs=1)
    assert posterior.samples["x"].unique().numel() < 10
    assert posterior.samples["z"].unique().numel() == 30


def test_steps_are_named_by_their_sites():
    def model():
        if pyro.sample("coin", dist.Bernoulli(0.5)):
            pyro.sample("heads", dist.Bernoulli(0.5), obs=ONE)
        else:
            pyro.sample("tails", dist.Bernoulli(0.5), obs=ONE)
            pyro.sample("tails_too", dist.Bernoulli(0.5), obs=ONE)
        pyro.sample("z", dist.Normal(0.0, 1.0))

    names = run(model, num_particles=20).stats.names
    assert [set(name.split("|")) for name in names] == [{"heads", "tails+tails_too"}]


def test_subsamples_plates_and_deterministic_sites():
    def model():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 8, subsample_size=3) as index:
            pyro.sample("y", dist.Normal(x, 1.0), obs=torch.arange(8.0)[index])
        doubled = pyro.deterministic("doubled", 2 * x)
        pyro.sample("z", dist.Normal(doubled, 1.0))

    posterior = run(model)
    assert set(posterior.samples) == {"x", "doubled", "z"}
    torch.testing.assert_close(posterior.samples["doubled"], 2 * posterior.samples["x"])


@pytest.mark.parametrize("particles", ["scalar", "vectorized"])
def test_seeds(particles):
    def model():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(x, 1.0), obs=ONE)
        return pyro.sample("z", dist.Normal(x, 1.0))

    first, again = (run(model, particles=particles, seed=3) for _ in range(2))
    assert torch.equal(first.returns, again.returns)


def buying(lm, written):
    def program():
        n = pyro.sample("n", dist.Categorical(torch.ones(5)))
        state = lm.prompt(f"Mia buys {written(n)} more.")
        state = state.append(pyro.sample("step", LLM(lm, state, stop="\n", max_tokens=3)))
        accept("accepted", FunctionReward(lambda text: 0.5), state)
        return state

    return program


@pytest.mark.parametrize("algorithm", [SMC, Importance])
def test_a_prompt_that_depends_on_a_latent_value(algorithm, tmp_path):
    """Refused where all particles share one prompt; executed one by one, each has its own, and its text."""
    lm = load_lm("abacus")
    with pytest.raises(PromptError, match=r'share one prompt(.|\n)*particles="scalar"'):
        algorithm(buying(lm, str), 4, progress=False).run()
    with pytest.raises(BatchedBranchError, match='particles="scalar"'):
        algorithm(buying(lm, int), 4, progress=False).run()
    posterior = algorithm(buying(lm, int), 6, num_runs=2, particles="scalar", progress=False).run()
    assert len(posterior.samples["n"].unique()) > 1
    assert {state.prompt for state in posterior.returns.flat} == {
        f"Mia buys {n} more." for n in posterior.samples["n"].unique().tolist()
    }
    for run, particle in np.ndindex(2, 6):
        state = posterior.returns[run, particle]
        assert posterior.texts[run, particle] == state.texts.item()
        assert posterior.written.lengths[run, particle] == state.lengths
        assert posterior.written.finished[run, particle] == state.finished
    assert sum(posterior.marginal().values()) == pytest.approx(1)
    posterior.save(tmp_path / "run.nc")
    assert Posterior.load(tmp_path / "run.nc").texts.tolist() == posterior.texts.tolist()
    assert posterior.resample(3).texts.shape == (1, 3)
