import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_llm.diagnostics import evidence_variance, load
from pyro_llm.errors import CapabilityError
from pyro_llm.infer import SMC, Importance


def two_coins():
    for toss in range(2):
        p = pyro.sample(f"p_{toss}", dist.Beta(2.0, 2.0))
        pyro.sample(f"heads_{toss}", dist.Bernoulli(p), obs=torch.tensor(1.0))


def run(**options):
    return SMC(two_coins, 20, **{"num_runs": 4, "progress": False, "resampling": "multinomial", **options}).run()


def test_it_is_given_for_multinomial_resampling_and_for_none():
    assert evidence_variance(run(ess_threshold=1)).shape == (4,)
    assert (evidence_variance(run(ess_threshold=0, resampling="systematic")) > 0).all()
    assert (evidence_variance(Importance(two_coins, 20, progress=False).run()) > 0).all()


@pytest.mark.parametrize("resampling", ["systematic", "ssp", "optimal"])
def test_it_is_refused_for_other_schemes(resampling):
    with pytest.raises(CapabilityError, match=f"by the '{resampling}' scheme.*multinomial resampling only"):
        evidence_variance(run(ess_threshold=1, resampling=resampling))


def test_it_is_refused_where_runs_were_exchanged():
    with pytest.raises(CapabilityError, match="runs were exchanged"):
        evidence_variance(run(ess_threshold=1, island_threshold=1))


def test_it_is_refused_without_a_history():
    with pytest.raises(CapabilityError, match="off SMC resampled posteriors"):
        evidence_variance(run().resample(10))


def test_exchanges_survive_in_a_file(tmp_path):
    posterior = run(ess_threshold=1, island_threshold=1)
    assert posterior.stats.num_exchanges == 1
    posterior.save(tmp_path / "run.nc")
    loaded = load(tmp_path / "run.nc")
    assert (loaded.stats.islands == posterior.stats.islands).all()
    assert loaded.stats.exchanged.tolist() == [True, False] and loaded.stats.exchanged.dtype == bool
    assert str(loaded.pooled_log_evidence()) == str(posterior.pooled_log_evidence())
    assert repr(loaded.marginal(of="p_0")) == repr(posterior.marginal(of="p_0"))
    assert loaded.settings["island_threshold"] == 1


def test_a_rule_is_named_in_the_settings():
    def always(log_weights):
        return torch.ones(len(log_weights), dtype=torch.bool)

    settings = run(resample_when=always).settings
    assert settings["resample_when"].endswith("always")
    assert "ess_threshold" not in settings and "island_threshold" not in settings
