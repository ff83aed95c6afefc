import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_llm.diagnostics import compare, loo, plot_cost, plot_evidence
from pyro_llm.diagnostics.arviz import import_arviz
from pyro_llm.errors import CapabilityError, NoWeightsError, OptionError
from pyro_llm.infer import SMC, BestOfN, Importance, ParticleGibbs

DATA = torch.tensor([0.3, -0.2, 0.5, 0.1])


def model(scale, mean=0.0):
    """Data around an unknown mean."""
    x = pyro.sample("x", dist.Normal(mean, scale))
    for t, y in enumerate(DATA):
        pyro.sample(f"y_{t}", dist.Normal(x, 1.0), obs=y)
    return x


def log_density(kept, of, scale, mean=0.0):
    """Log of p(of | kept), all normal."""

    def evidence(data):
        size = len(data)
        covariance = torch.eye(size) + scale**2
        return float(dist.MultivariateNormal(torch.full((size,), mean), covariance).log_prob(data)) if size else 0.0

    return evidence(torch.cat([kept, of])) - evidence(kept)


@pytest.fixture(scope="module")
def posteriors():
    pyro.set_rng_seed(0)
    return {
        name: Importance(model, 2000, num_runs=8).run(*args)
        for name, args in {"far": (1.0, 3.0), "near": (1.0,), "wide": (10.0,)}.items()
    }


def test_programs_by_their_evidence(posteriors):
    """Against the exact evidence: within four standard errors, which are right to a factor of two."""
    table = compare(posteriors)
    exact = {"near": log_density(DATA[:0], DATA, 1.0), "wide": log_density(DATA[:0], DATA, 10.0)}
    exact["far"] = log_density(DATA[:0], DATA, 1.0, 3.0)
    assert list(table.index) == sorted(exact, key=lambda name: -exact[name])
    assert table["rank"].tolist() == [0, 1, 2]
    for name, value in exact.items():
        row = table.loc[name]
        assert abs(row["log_evidence"] - value) < 4 * row["se"] < 0.4
        assert row["log_bayes_factor"] == pytest.approx(row["log_evidence"] - table.loc["near", "log_evidence"])
    total = sum(math.exp(value) for value in exact.values())
    for name, value in exact.items():
        assert table.loc[name, "probability"] == pytest.approx(math.exp(value) / total, abs=0.02)
    assert table.loc["near", "dse"] == 0
    assert table.loc["wide", "dse"] == pytest.approx(math.hypot(table.loc["wide", "se"], table.loc["near", "se"]))


def test_prior_odds(posteriors):
    two = {name: posteriors[name] for name in ("near", "wide")}
    even, odd = compare(two)["probability"], compare(two, prior={"near": 1, "wide": 9})["probability"]
    assert odd["wide"] / odd["near"] == pytest.approx(9 * even["wide"] / even["near"])
    for prior in ({"near": 1}, {"near": 1, "wide": 0}, {"near": 1, "wide": math.inf}):
        with pytest.raises(OptionError, match="positive number for each of 'near', 'wide'"):
            compare(two, prior=prior)
    with pytest.raises(OptionError, match="no posterior"):
        compare({})


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # of pandas, by ArviZ 0.23
def test_a_datum_left_out(posteriors):
    """Against the exact leave-one-out density, and two programs in `az.compare`."""
    found = {name: loo(posteriors[name]) for name in ("near", "wide")}
    for name, scale in (("near", 1.0), ("wide", 10.0)):
        left_out = [log_density(torch.cat([DATA[:t], DATA[t + 1 :]]), DATA[t : t + 1], scale) for t in range(4)]
        np.testing.assert_allclose(
            np.asarray(found[name].loo_i if hasattr(found[name], "loo_i") else found[name].elpd_i), left_out, atol=0.05
        )
    table = import_arviz().compare(found)
    assert set(table.index) == {"near", "wide"}


def test_where_leaving_out_means_nothing(posterior, posteriors):
    with pytest.raises(CapabilityError, match="acceptances of texts"):
        loo(posterior)
    chains = ParticleGibbs(model, 5, num_iterations=4).run(1.0)
    for without in (chains, posteriors["near"].resample(10)):
        with pytest.raises(CapabilityError, match="no record of the factor"):
            loo(without)
    search = BestOfN(model, 4).run(1.0)
    for fn in (loo, plot_evidence, lambda one: compare({"a": one})):
        with pytest.raises(NoWeightsError):
            fn(search)


def test_evidence_by_step(posterior):
    ax = plot_evidence(posterior, run=1)
    assert len(ax.lines) == posterior.num_runs
    for line, evidence in zip(ax.lines, posterior.log_evidence, strict=True):
        assert line.get_ydata()[-1] == pytest.approx(float(evidence))
    assert plot_evidence(posterior, ax) is ax
    assert "no observed sites" in plot_evidence(SMC(lambda: None, 2).run()).texts[0].get_text()


def test_cost(posterior, posteriors):
    ax = plot_cost(posterior)
    assert [text.get_text() for text in ax.texts[:2]] == [
        f"{posterior.cost.lm_tokens_forwarded:,}", f"{posterior.cost.lm_tokens_sampled:,}"
    ]  # fmt: skip
    both = plot_cost({"a": posterior, "$b$": posteriors["near"]}, ax)
    assert both is ax
    assert [label.get_text().split("\n")[0] for label in both.get_yticklabels()] == ["a", "$b$"]
    both.figure.canvas.draw()
