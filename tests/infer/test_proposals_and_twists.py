"""Proposals, twists, tempering and look-ahead under the engine: what programs may do, and what is refused."""

import numpy as np
import pyro
import pyro.distributions as dist
import pyro.poutine as poutine
import pytest
import torch

import pyro_llm
from pyro_llm.distributions import LLM
from pyro_llm.errors import DuplicateSiteError, NonFiniteWeightError, OptionError, PlateNestingError, ProposalError
from pyro_llm.infer import SMC, AdaptiveTempering, Importance
from pyro_llm.lm import TableLM

ONE = torch.tensor(1.0)
PARTICLES = pytest.mark.parametrize("particles", ["vectorized", "scalar"])


def run(model, *args, **options):
    pyro.set_rng_seed(0)
    return SMC(model, **{"num_particles": 6, "ess_threshold": 1.0, "progress": False, **options}).run(*args)


def steps(proposal=None, distribution=None, between=lambda t, x: None):
    distribution = distribution or dist.Normal(0.0, 1.0)

    def model():
        for t in range(3):
            x = pyro.sample(f"x_{t}", distribution, infer={"proposal": proposal})
            between(t, x)
            pyro.factor(f"y_{t}", -(x**2))

    return model


class NoDensity(dist.Normal):
    def log_prob(self, value):
        raise NotImplementedError


@PARTICLES
@pytest.mark.parametrize(
    ("proposal", "distribution", "message"),
    [
        (3.0, None, r"proposal of site 'x_0' is 3.0. Give a distribution, or a function"),
        (lambda prior: "text", None, "proposal of site 'x_0' is 'text'"),
        (dist.Normal(torch.zeros(2), 1.0).to_event(1), None, r"event_shape \(2,\), its distribution \(\)"),
        (dist.Normal(torch.zeros(4, 6), 1.0), None, r"batch_shape \(4, 6\), which does not expand to"),
        (dist.Poisson(2.0), None, "proposal of site 'x_0' is discrete, its distribution continuous"),
        (NoDensity(0.0, 1.0), None, "proposal of site 'x_0', NoDensity, has no log_prob"),
        (dist.Normal(0.0, 1.0), NoDensity(0.0, 1.0), "distribution of site 'x_0', NoDensity, has no log_prob"),
        (
            dist.Normal(-9.0, 1.0),
            dist.HalfNormal(1.0),
            "Normal, drew values outside the support of its distribution HalfNormal",
        ),
    ],
)
def test_wrong_proposals(proposal, distribution, message, particles):
    with pytest.raises(ProposalError, match=message):
        run(steps(proposal, distribution), particles=particles)


def test_proposals_are_made_only_for_fresh_values():
    given = []

    def proposal(prior):
        given.append(prior)
        return dist.Normal(prior.mean + 0.1, 1.2)

    posterior = run(steps(proposal))
    assert posterior.stats.resampled[:, :-1].all()
    assert len(given) == 3
    assert all(prior.batch_shape == (6,) for prior in given)


@PARTICLES
def test_weights_are_those_of_the_ratio(particles):
    posterior = run(steps(dist.Normal(0.4, 2.0)), particles=particles, ess_threshold=0)
    values = torch.stack([posterior.samples[f"x_{t}"] for t in range(3)], -1)
    log_prior = dist.Normal(0.0, 1.0).log_prob(values).double().sum(-1)
    log_proposal = dist.Normal(0.4, 2.0).log_prob(values).double().sum(-1)
    torch.testing.assert_close(posterior.log_prior, log_prior)
    torch.testing.assert_close(posterior.log_likelihood, -(values.double() ** 2).sum(-1))
    unnormalised = log_prior - log_proposal + posterior.log_likelihood
    torch.testing.assert_close(posterior.log_weights, unnormalised.log_softmax(-1))
    torch.testing.assert_close(posterior.log_evidence, unnormalised.exp().mean(-1).log())


def test_masks_and_scales_do_not_touch_the_ratio():
    """They say what a value counts, and it is drawn by its distribution all the same."""

    def model(proposal):
        with poutine.mask(mask=torch.tensor(False)), poutine.scale(scale=3.0):
            x = pyro.sample("x", dist.Normal(0.0, 1.0), infer={"proposal": proposal})
        pyro.sample("y", dist.Normal(x, 1.0), obs=ONE)

    posterior = run(model, dist.Normal(2.0, 1.0), num_particles=20_000)
    assert (posterior.log_prior == 0).all()
    mean = (posterior.log_weights.exp() * posterior.samples["x"]).sum().item()
    assert mean == pytest.approx(0.5, abs=0.05)


@PARTICLES
def test_event_dimensions_and_plates(particles):
    """Null: E[x] = 1/2 for unit normals, by proposals of any shape; 4 standard errors of 0.7 / sqrt(ESS)."""

    def model():
        with pyro.plate("data", 2):
            proposal = dist.Normal(torch.tensor([[0.5], [-0.5]]), 1.5).expand([2, 3]).to_event(1)
            x = pyro.sample("x", dist.Normal(torch.zeros(3), 1.0).to_event(1), infer={"proposal": proposal})
            pyro.sample("y", dist.Normal(x, 1.0).to_event(1), obs=torch.ones(2, 3))

    num_particles = 5_000 if particles == "vectorized" else 300
    nesting = 1 if particles == "vectorized" else 0
    posterior = run(model, particles=particles, max_plate_nesting=nesting, num_particles=num_particles)
    mean = (posterior.log_weights.exp()[..., None, None] * posterior.samples["x"]).sum((0, 1))
    assert (mean - 0.5).abs().max() < 4 * 0.7 / posterior.ess().item() ** 0.5


def test_importance_takes_proposals():
    def model(proposal):
        x = pyro.sample("x", dist.Normal(0.0, 1.0), infer={"proposal": proposal})
        pyro.sample("y", dist.Normal(x, 1.0), obs=ONE)

    optimal = dist.Normal(0.5, 0.5**0.5)
    posterior = Importance(model, 10, progress=False).run(optimal)
    assert posterior.ess().item() == pytest.approx(10, abs=1e-3)
    exact = dist.Normal(0.0, 2.0**0.5).log_prob(ONE).item()
    assert posterior.log_evidence.item() == pytest.approx(exact, abs=1e-6)


def test_conditioned_values_need_no_proposal():
    model = poutine.condition(steps(dist.Normal(4.0, 1.0)), {"x_1": torch.tensor(0.3)})
    posterior = run(model, ess_threshold=0)
    assert set(posterior.samples) == {"x_0", "x_2"}


def test_programs_with_proposals_and_twists_run_in_stock_pyro():
    model = steps(dist.Normal(4.0, 1.0), between=lambda t, x: pyro_llm.twist(f"psi_{t}", no_one_asks))
    trace = poutine.trace(model).get_trace()
    trace.compute_log_prob()
    assert not [name for name in trace.nodes if name.startswith("psi")]
    pyro.infer.Predictive(model, num_samples=3, parallel=True)()


def no_one_asks():
    raise AssertionError("outside the engine a twist does nothing")


@PARTICLES
def test_twists_are_evaluated_once(particles):
    asked = []

    def between(t, x):
        pyro_llm.twist(f"psi_{t}", lambda: asked.append(t) or x)

    run(steps(between=between), particles=particles)
    assert asked == [t for t in range(3) for _ in range(1 if particles == "vectorized" else 6)]


@PARTICLES
def test_a_twist_chooses_the_particles(particles):
    """By psi alone, as the factors do not tell them apart; and is then divided out."""

    def model():
        x = pyro.sample("x", dist.Bernoulli(0.5))
        pyro.factor("even", torch.zeros(()))
        pyro_llm.twist("psi", 30 * x)
        y = pyro.sample("y", dist.Normal(0.0, 1.0))
        pyro.factor("again", torch.zeros(()) * y)

    posterior = run(model, particles=particles, num_particles=20)
    assert (posterior.samples["x"] == 1).all()
    ones = posterior.log_evidence.exp().item()  # of runs that lost the zeros: the share of ones at first
    assert ones == pytest.approx(round(ones * 20) / 20, abs=1e-9) and 0 < ones < 1


@PARTICLES
def test_a_twist_stays_until_another_takes_its_place(particles):
    """Over two resamplings of particles that nothing else tells apart, each keeps the weight 1 / psi."""

    def model():
        x = pyro.sample("x", dist.Bernoulli(0.5))
        pyro_llm.twist("psi", 1.0 * x)
        for t in range(3):
            pyro.factor(f"even_{t}", torch.zeros(()))
            pyro.sample(f"noise_{t}", dist.Normal(0.0, 1.0))

    posterior = run(model, particles=particles, num_particles=20)
    x = posterior.samples["x"]
    assert 0 < x.mean() < 1 and posterior.stats.resampled.all()
    torch.testing.assert_close(posterior.log_weights, (-1.0 * x).double().log_softmax(-1))


@PARTICLES
def test_masked_twists(particles):
    def model(mask):
        x = pyro.sample("x", dist.Bernoulli(0.5))
        pyro.factor("even", torch.zeros(()))
        with poutine.mask(mask=mask):
            pyro_llm.twist("psi", 30 * x)
        pyro.sample("y", dist.Normal(0.0, 1.0))

    for mask in (False, torch.tensor(False)):
        posterior = run(model, mask, particles=particles, num_particles=20)
        assert set(posterior.samples["x"].unique().tolist()) == {0.0, 1.0}
        assert posterior.log_evidence.item() == 0


@PARTICLES
def test_wrong_twists(particles):
    def twice(t, x):
        pyro_llm.twist("psi", x)

    with pytest.raises(DuplicateSiteError, match="'psi' occurs twice"):
        run(steps(between=twice), particles=particles)
    with pytest.raises(NonFiniteWeightError, match="twist 'psi_1' is nan for 6 of 6"):
        run(steps(between=lambda t, x: pyro_llm.twist(f"psi_{t}", x * torch.nan if t else x)), particles=particles)


def test_a_twist_of_the_wrong_shape():
    with pytest.raises(PlateNestingError, match=r"'psi_0' has a log-probability of shape \(3, 6\)"):
        run(steps(between=lambda t, x: pyro_llm.twist(f"psi_{t}", torch.zeros(3, 6))))


@PARTICLES
def test_look_ahead_is_asked_where_a_resampling_may_be_due(particles):
    asked = []

    def look_ahead(name, distribution):
        asked.append(name)
        return distribution.mean

    run(steps(), particles=particles, look_ahead=look_ahead)
    assert sorted(set(asked)) == ["x_1", "x_2"]
    assert len(asked) == (2 if particles == "vectorized" else 12)
    asked.clear()
    run(steps(), particles=particles, look_ahead=look_ahead, ess_threshold=0)
    assert not asked


def test_a_wrong_look_ahead():
    with pytest.raises(NonFiniteWeightError, match="look-ahead before site 'x_1' is -inf for 6 of 6"):
        run(steps(), look_ahead=lambda name, distribution: torch.full((6,), -torch.inf))
    with pytest.raises(PlateNestingError, match="'x_1'"):
        run(steps(), look_ahead=lambda name, distribution: torch.zeros(4))


@PARTICLES
def test_options(particles):
    with pytest.raises(OptionError, match=r"tempering=0.5: give an AdaptiveTempering"):
        SMC(steps(), 4, particles=particles, tempering=0.5)
    with pytest.raises(OptionError, match="look_ahead='x': give a function"):
        SMC(steps(), 4, particles=particles, look_ahead="x")


def test_settings_are_in_the_posterior(tmp_path):
    tempering = AdaptiveTempering(ess_target=0.9, num_steps=2)
    posterior = run(steps(), tempering=tempering, look_ahead=lambda name, distribution: distribution.mean)
    assert posterior.settings["tempering"] == {"ess_target": 0.9, "num_steps": 2}
    assert posterior.settings["look_ahead"] == "<lambda>"
    powers = posterior.stats.inverse_temperature
    assert (powers[0, :2] < 1).all() and np.isnan(powers[0, 2])
    posterior.save(tmp_path / "posterior.nc")
    loaded = pyro_llm.infer.Posterior.load(tmp_path / "posterior.nc")
    assert loaded.settings["tempering"]["num_steps"] == 2
    assert loaded.stats.islands is None
    np.testing.assert_array_equal(loaded.stats.inverse_temperature, powers)


@PARTICLES
def test_texts_that_end_too_early_for_their_site_weigh_nothing(particles):
    lm = TableLM(lambda tokens: [0.4, 0.3, 0.3], ["a", "b", "."], eos_token_id=2)

    def model():
        state = lm.prompt("")
        proposal = LLM(lm, state, stop="a", max_tokens=2)
        return state.append(pyro.sample("step", LLM(lm, state, stop=None, max_tokens=2), infer={"proposal": proposal}))

    posterior = run(model, particles=particles, num_particles=50)
    early = (posterior.samples["step"] == torch.tensor([0, -1])).all(-1)  # the site's own distribution would write on
    assert early.any() and not early.all()
    assert torch.equal(torch.isneginf(posterior.log_weights), early)


def test_tempering_keeps_more_particles():
    def peaked(t, x):
        pyro.factor(f"peak_{t}", -20 * (x - 1.0) ** 2)

    sharp = run(steps(between=peaked), num_particles=400)
    tempered = run(steps(between=peaked), num_particles=400, tempering=AdaptiveTempering(ess_target=0.8))
    assert tempered.stats.unique_ancestors[0, 1] > 1.5 * sharp.stats.unique_ancestors[0, 1]
