"""Latent sites under `poutine.scale` count by p to the power of the scale, as Pyro's own inference counts them."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from pyro_llm import accept
from pyro_llm.distributions import LLM
from pyro_llm.errors import CapabilityError
from pyro_llm.infer import SMC, BestOfN, Importance, ParallelTempering, ParticleGibbs
from pyro_llm.lm import TableLM
from pyro_llm.rewards import FunctionReward

ALPHA, STEPS = 2.5, 3
ALGORITHMS = {
    "SMC": lambda model: SMC(model, 20_000, ess_threshold=1.0, progress=False),
    "Importance": lambda model: Importance(model, 20_000, progress=False),
    "scalar": lambda model: SMC(model, 500, particles="scalar", ess_threshold=1.0, progress=False),
    "ParticleGibbs": lambda model: ParticleGibbs(model, 12, 60, num_chains=40, warmup=5, progress=False),
    "ancestors": lambda model: ParticleGibbs(
        model, 6, 60, num_chains=40, warmup=5, ancestor_sampling=True, ess_threshold=1.0, progress=False
    ),
    "ParallelTempering": lambda model: ParallelTempering(
        model, 8, 60, num_chains=20, warmup=5, inverse_temperatures=[1.0, 0.4], progress=False
    ),
}
WITH_EVIDENCE = {"SMC", "Importance", "scalar"}


def scaled_normal(alpha=4.0, proposal=None):
    with poutine.scale(scale=alpha):
        x = pyro.sample("x", dist.Normal(0.0, 1.0), infer={"proposal": proposal} if proposal else {})
    pyro.sample("y", dist.Normal(x, 1.0), obs=torch.tensor(2.0))


def mean_of(posterior, name="x"):
    return float((posterior.pooled_log_weights.exp() * posterior.samples[name].double()).sum())


@pytest.mark.parametrize("proposal", [None, dist.Normal(0.5, 1.0)])
@pytest.mark.parametrize("particles", ["vectorized", "scalar"])
def test_a_scaled_normal(particles, proposal):
    """Null: p^4 is a normal of precision 4, and so the mean 2/5, the precision 5. 5 standard errors of the ESS."""
    pyro.set_rng_seed(0)
    size = 20_000 if particles == "vectorized" else 1_000
    posterior = SMC(scaled_normal, size, particles=particles, progress=False).run(proposal=proposal)
    error = 5 / (5 * posterior.ess().item()) ** 0.5
    assert mean_of(posterior) == pytest.approx(0.4, abs=error)
    z = (2 * math.pi) ** -2.5 * math.sqrt(2 * math.pi / 5) * math.exp(-1.6)
    assert posterior.log_evidence.item() == pytest.approx(math.log(z), abs=error)
    x = posterior.samples["x"].double()
    lp = 4 * dist.Normal(0.0, 1.0).log_prob(x) + dist.Normal(x, 1.0).log_prob(torch.tensor(2.0))
    torch.testing.assert_close(posterior.lp, lp, rtol=1e-5, atol=1e-5)


def next_token(tokens):
    return [0.6, 0.3, 0.1] if not tokens or tokens[-1] == 0 else [0.2, 0.3, 0.5]


@pytest.fixture
def lm():
    return TableLM(next_token, ["a", "b", "."], 2)


def judge(text):
    return 0.2 + 0.7 * text.count("b") / (1 + len(text))


def powered(lm, reward, alpha=ALPHA):
    state = lm.prompt("")
    for t in range(STEPS):
        with poutine.scale(scale=alpha):
            state = state.append(pyro.sample(f"step_{t}", LLM(lm, state, max_tokens=1)))
        accept(f"accept_{t}", reward, state)
        if state.finished.all():
            break
    return state


def exact_weights(lm):
    weights = {}
    for tokens, log_prob in lm.enumerate(STEPS):
        factors = math.prod(judge(lm.decode(tokens[:k])) for k in range(1, len(tokens) + 1))
        text = lm.decode(tokens)
        weights[text] = weights.get(text, 0.0) + math.exp(ALPHA * log_prob) * factors
    return weights


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_scaled_text(lm, name):
    """Null: p^alpha times the rewards, enumerated. The bounds are 5 standard errors at the effective sizes there are.

    Without the scale's factor the text "aa." has 0.3 times, "aaa" 0.5 times its weight.
    """
    pyro.set_rng_seed(1)
    posterior = ALGORITHMS[name](lambda: powered(lm, FunctionReward(judge))).run()
    weights = exact_weights(lm)
    z = sum(weights.values())
    draws = 400 if name == "scalar" else 1_200 if name == "ParallelTempering" else 2_400
    draws = (
        4_000 if name in ("SMC", "Importance") else draws if name == "scalar" else draws / 3
    )  # draws of chains depend on each other
    marginal = posterior.marginal()
    for text, weight in weights.items():
        p = weight / z
        assert marginal.get(text, 0.0) == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / draws) + 1e-3), text
    if name in WITH_EVIDENCE:
        assert posterior.log_evidence.item() == pytest.approx(math.log(z), abs=5 / draws**0.5)


def test_the_weight_of_a_scaled_text_costs_no_pass_of_the_model(lm):
    costs = []
    for alpha in (1.0, ALPHA):
        pyro.set_rng_seed(0)
        costs.append(SMC(lambda: powered(lm, FunctionReward(judge), alpha), 20, ess_threshold=0).run().cost)  # noqa: B023
    assert costs[0].lm_tokens_forwarded == costs[1].lm_tokens_forwarded > 0
    assert costs[0].lm_tokens_sampled == costs[1].lm_tokens_sampled > 0


def test_ancestor_sampling_keeps_the_density_of_a_draw_its_own(lm):
    pyro.set_rng_seed(2)
    options = {"num_chains": 2, "ancestor_sampling": True, "ess_threshold": 1.0, "progress": False}
    posterior = ParticleGibbs(lambda: powered(lm, FunctionReward(judge)), 6, 20, **options).run()
    log_probs = dict(lm.enumerate(STEPS))
    for run in range(2):
        for draw in range(20):
            rows = [posterior.samples[f"step_{t}"][run, draw, 0].item() for t in range(STEPS)]
            tokens = tuple(token for token in rows if token >= 0)
            assert posterior.log_prior[run, draw].item() == pytest.approx(log_probs[tokens])


def test_a_scaled_site_that_only_samples():
    class Sampled(dist.TorchDistribution):
        arg_constraints = {}  # noqa: RUF012
        support = dist.constraints.real

        def __init__(self, batch_shape=()):
            super().__init__(torch.Size(batch_shape), torch.Size())

        def expand(self, batch_shape, _instance=None):
            return Sampled(batch_shape)

        def sample(self, sample_shape=()):
            return torch.randn(torch.Size(sample_shape) + self.batch_shape)

    def model(scale):
        with poutine.scale(scale=scale):
            pyro.sample("x", Sampled())

    for particles in ("vectorized", "scalar"):
        assert SMC(model, 4, particles=particles, progress=False).run(1.0).samples["x"].shape == (1, 4)
        with pytest.raises(CapabilityError, match=r"'x' stands in a `poutine\.scale`.*Sampled has no log_prob"):
            SMC(model, 4, particles=particles, progress=False).run(2.0)


def test_masks_hide_the_factor_of_a_scale():
    def model():
        with poutine.scale(scale=3.0), poutine.mask(mask=torch.tensor(False)):
            pyro.sample("x", dist.Normal(0.0, 1.0))
        with poutine.scale(scale=3.0), poutine.mask(mask=False):
            pyro.sample("z", dist.Normal(0.0, 1.0))

    for particles in ("vectorized", "scalar"):
        posterior = SMC(model, 4, particles=particles, progress=False).run()
        assert posterior.log_evidence.item() == 0 and (posterior.lp == 0).all()


def test_searches_go_by_their_scores():
    assert BestOfN(scaled_normal, 4, progress=False).run().stats.names == ["y"]
