import pyro
import pyro.distributions as dist
import torch

from pyro_llm.infer import SMC, Importance


def coin(heads):
    p = pyro.sample("p", dist.Uniform(0.0, 1.0))
    pyro.sample("heads", dist.Binomial(10, p), obs=heads)
    return pyro.sample("next", dist.Bernoulli(p))


def test_it_is_smc_without_resampling():
    pyro.set_rng_seed(0)
    importance = Importance(coin, 30, num_runs=2, progress=False).run(torch.tensor(7.0))
    pyro.set_rng_seed(0)
    smc = SMC(coin, 30, num_runs=2, ess_threshold=0, progress=False).run(torch.tensor(7.0))
    assert not importance.stats.resampled.any()
    assert torch.equal(importance.log_evidence, smc.log_evidence)
    assert torch.equal(importance.samples["next"], smc.samples["next"])


def test_weights_are_the_normalised_likelihood():
    pyro.set_rng_seed(0)
    posterior = Importance(coin, 30, progress=False).run(torch.tensor(7.0))
    likelihood = dist.Binomial(10, posterior.samples["p"]).log_prob(torch.tensor(7.0)).double()
    torch.testing.assert_close(posterior.log_weights, likelihood.log_softmax(-1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(posterior.log_evidence.exp(), likelihood.exp().mean(-1), rtol=1e-4, atol=1e-6)


def test_evidence_of_the_beta_binomial_model():
    """Null: E[Z-hat] = 1/11 exactly. 400 runs of 50 particles; 4 standard errors, false alarms 6e-5."""
    pyro.set_rng_seed(1)
    evidence = Importance(coin, 50, num_runs=400, progress=False).run(torch.tensor(7.0)).log_evidence.exp()
    assert abs(evidence.mean() - 1 / 11) < 4 * evidence.std() / 20


def test_settings_and_repr_name_only_what_it_has():
    posterior = Importance(coin, 3, progress=False).run(torch.tensor(7.0))
    assert posterior.settings["algorithm"] == "Importance" and "ess_threshold" not in posterior.settings
    assert repr(Importance(coin, 3)) == (
        "Importance(coin, num_particles=3, num_runs=1, particles='vectorized', max_plate_nesting=0)"
    )
