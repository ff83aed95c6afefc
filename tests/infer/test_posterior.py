import math

import numpy as np
import pytest
import torch

from pyro_llm.answers import answer
from pyro_llm.errors import AllParticlesDeadError, NoTextError
from pyro_llm.infer import Posterior
from pyro_llm.infer.readings import Texts
from pyro_llm.infer.stats import StepStats
from pyro_llm.run_scope import Cost


def make(weights, evidence, values=None, returns=None, log_likelihood=None, texts=None, **samples):
    log_weights = torch.tensor(weights, dtype=torch.float64).log().log_softmax(-1)
    shape = tuple(log_weights.shape)
    if values is not None:
        samples["x"] = torch.tensor(values)
    return Posterior(
        samples=samples,
        returns=returns,
        log_weights=log_weights,
        log_evidence=torch.tensor(evidence, dtype=torch.float64).log(),
        log_prior=torch.arange(math.prod(shape)).reshape(shape).double() * -1.0,
        log_likelihood=torch.zeros(shape) if log_likelihood is None else torch.tensor(log_likelihood),
        stats=StepStats.empty(*shape),
        observed={},
        cost=Cost(),
        settings={"algorithm": "test"},
        written=None if texts is None else Texts(None, np.array(texts, dtype=object), np.zeros(shape, dtype=np.int64)),
    )


def test_marginal_pools_runs_by_evidence():
    posterior = make([[1.0, 3.0], [1.0, 1.0]], evidence=[1.0, 3.0], values=[[7, 8], [7, 9]])
    marginal = posterior.marginal(of="x")
    # Run 0 has a quarter of the evidence: p(7) = 0.25 * 0.25 + 0.75 * 0.5.
    assert dict(marginal) == pytest.approx({7: 0.4375, 9: 0.375, 8: 0.1875})
    assert list(marginal) == [7, 9, 8]
    # R / (R - 1) * sum of W_j^2 (p_j - p)^2, by hand.
    by_hand = math.sqrt(2 * (0.25**2 * (0.25 - 0.4375) ** 2 + 0.75**2 * (0.5 - 0.4375) ** 2))
    assert marginal.standard_errors[7] == pytest.approx(by_hand)
    assert marginal.num_runs == 2
    assert repr(marginal).startswith("Marginal({7: 0.4375 ± ")


def test_the_most_probable_values():
    marginal = make([[1.0, 2.0, 3.0, 4.0]], [1.0], [[0, 1, 2, 3]]).marginal(of="x")
    assert marginal.most_probable(2) == [3, 2]
    assert marginal.most_probable(9, at_least=0.25) == [3, 2]
    assert marginal.most_probable(2, at_least=0.9) == [3]


def test_marginal_of_a_single_run_has_no_error():
    marginal = make([[1.0, 3.0]], [2.0], [[0, 1]]).marginal(of="x")
    assert dict(marginal) == pytest.approx({1: 0.75, 0: 0.25})
    assert all(math.isnan(error) for error in marginal.standard_errors.values())
    assert repr(marginal) == "Marginal({1: 0.75, 0: 0.25})"


def test_marginal_of_texts_returns_and_functions():
    calls = []

    def last(text):
        calls.append(text)
        return text[-1] if text else None

    posterior = make([[1.0, 1.0, 2.0]], [1.0], values=[[4, 5, 6]], texts=[["a b", "c b", ""]])
    assert dict(posterior.marginal(last)) == pytest.approx({None: 0.5, "b": 0.5})
    assert sorted(calls) == ["", "a b", "c b"]
    assert dict(posterior.marginal()) == pytest.approx({"": 0.5, "a b": 0.25, "c b": 0.25})
    assert dict(posterior.marginal(lambda x: x > 4, of="x")) == pytest.approx({True: 0.75, False: 0.25})

    returns = {"pair": (torch.tensor([[[1, 2], [1, 2], [3, 4]]]), "the same for all")}
    posterior = make([[1.0, 1.0, 2.0]], [1.0], returns=returns)
    assert dict(posterior.marginal(lambda value: value["pair"][0])) == pytest.approx({(1, 2): 0.5, (3, 4): 0.5})
    assert list(posterior.marginal(lambda value: value["pair"][1])) == ["the same for all"]


def test_distinct_texts_are_handed_over_once():
    calls = []
    posterior = make([[1.0, 1.0], [1.0, 1.0]], [1.0, 1.0], texts=[["a", "a"], ["b", "a"]])
    posterior.marginal(lambda text: calls.append(text))
    assert calls == ["a", "b"]


def test_dead_particles_and_dead_runs_weigh_nothing():
    posterior = make([[0.0, 1.0], [1.0, 1.0]], evidence=[3.0, 0.0], values=[[1, 2], [3, 4]])
    posterior.log_weights[1] = torch.nan
    assert dict(posterior.marginal(of="x")) == {2: 1.0}
    assert posterior.best("log_weight").run == 0
    assert set(posterior.resample(50).samples["x"].flatten().tolist()) == {2}
    dead = make([[1.0, 1.0]], evidence=[0.0], values=[[1, 2]])
    for use in (lambda: dead.marginal(of="x"), dead.best, lambda: dead.resample(3)):
        with pytest.raises(AllParticlesDeadError, match="no posterior"):
            use()


def test_what_marginal_refuses():
    posterior = make([[1.0, 1.0]], [1.0], values=[[1, 2]])
    with pytest.raises(NoTextError, match="returned nothing"):
        posterior.marginal()
    with pytest.raises(KeyError, match="no latent site 'y'; there are 'x'"):
        posterior.marginal(of="y")
    with pytest.raises(TypeError, match="set is not"):
        posterior.marginal(lambda value: {1}, of="x")


def test_effective_sample_size():
    posterior = make([[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0], [2.0, 1.0, 1.0, 0.0]], [1.0, 1.0, 1.0])
    torch.testing.assert_close(posterior.ess(), torch.tensor([4.0, 2.0, 16 / 6], dtype=torch.float64))


def test_pooled_log_evidence():
    evidence = make([[1.0]] * 3, [1.0, 2.0, 6.0]).pooled_log_evidence()
    assert evidence.estimate == pytest.approx(math.log(3))
    assert evidence.standard_error == pytest.approx(np.std([1, 2, 6], ddof=1) / math.sqrt(3) / 3)
    assert str(evidence) == "1.10 ± 0.51"
    assert str(make([[1.0]], [1.0]).pooled_log_evidence()) == "0.00"
    assert str(make([[1.0]] * 2, [0.0, 0.0]).pooled_log_evidence()) == "-inf"
    far = make([[1.0]] * 2, [1.0, 1.0])
    far.log_evidence -= 5000.0
    assert far.pooled_log_evidence().estimate == pytest.approx(-5000)


def test_best():
    posterior = make(
        [[1.0, 8.0], [1.0, 1.0]],
        evidence=[1.0, 9.0],
        log_likelihood=[[-1.0, -5.0], [-2.0, -0.5]],
        texts=[["a", "b"], ["c", "d"]],
    )
    assert posterior.best().text == posterior.best().value == "d"
    assert posterior.best("lp").text == "a"  # priors are 0, -1, -2, -3
    particle = posterior.best("log_weight")
    assert (particle.run, particle.particle) == (1, 0)
    assert particle.log_weight == pytest.approx(math.log(0.45))
    assert particle.lp == pytest.approx(-4.0)
    with pytest.raises(ValueError, match="choose one of 'log_likelihood', 'log_weight', 'lp'"):
        posterior.best("reward")


def test_best_among_some():
    posterior = make(
        [[1.0, 8.0], [1.0, 0.0]],
        evidence=[1.0, 9.0],
        log_likelihood=[[-1.0, -5.0], [-2.0, -0.5]],
        texts=[["a1", "b"], ["a2", "c"]],
    )
    assert posterior.best(where=lambda text: text.startswith("a")).text == "a1"
    assert posterior.best("log_weight", where=lambda text: text.startswith("a")).text == "a2"
    with pytest.raises(ValueError, match="no particle of positive weight"):
        posterior.best(where=lambda text: text == "c")
    numbers = make([[1.0, 1.0]], [1.0], returns=torch.tensor([[1.0, 2.0]]), log_likelihood=[[0.0, -1.0]])
    assert numbers.best(where=lambda value: value > 1).value == 2.0


def test_best_is_alive_and_has_the_return_value():
    returns = (torch.tensor([[10.0, 20.0]]), "shared")
    posterior = make([[0.0, 1.0]], [1.0], returns=returns, log_likelihood=[[5.0, -5.0]])
    best = posterior.best()
    assert (best.particle, best.text) == (1, None)
    assert best.value[0].item() == 20.0
    assert best.value[1] == "shared"


def test_resample_draws_in_proportion_to_pooled_weights():
    values = [[0, 1], [2, 3]]
    posterior = make([[1.0, 3.0], [1.0, 1.0]], [1.0, 4.0], values, texts=[["0", "1"], ["2", "3"]])
    draws = posterior.resample(20_000, torch.Generator().manual_seed(0))
    assert (draws.num_runs, draws.num_particles) == (1, 20_000)
    counts = torch.bincount(draws.samples["x"].flatten(), minlength=4)
    expected = 20_000 * torch.tensor([0.05, 0.15, 0.4, 0.4])
    # Null: multinomial with the pooled weights. Chi-squared with 3 degrees of freedom exceeds 21.1 once in 10,000.
    assert ((counts - expected) ** 2 / expected).sum() < 21.1
    assert draws.texts[0].tolist() == [str(value) for value in draws.samples["x"][0].tolist()]
    assert draws.ess().item() == pytest.approx(20_000)
    assert draws.pooled_log_evidence().estimate == pytest.approx(posterior.pooled_log_evidence().estimate)
    assert draws.stats.num_steps == 0
    assert draws.settings["resampled_from"] == {"runs": 2, "particles": 2}
    torch.testing.assert_close(draws.log_prior[0], posterior.log_prior.flatten()[draws.samples["x"][0]])
    same = posterior.resample(20_000, torch.Generator().manual_seed(0))
    assert torch.equal(same.samples["x"], draws.samples["x"])
    with pytest.raises(ValueError, match="at least 1"):
        posterior.resample(0)


def test_resample_gathers_return_values():
    posterior = make([[1.0, 0.0], [0.0, 1.0]], [1.0, 1.0], returns={"a": torch.tensor([[1, 2], [3, 4]]), "b": "kept"})
    draws = posterior.resample(100)
    assert draws.returns["a"].shape == (1, 100)
    assert set(draws.returns["a"].flatten().tolist()) == {1, 4}
    assert draws.returns["b"] == "kept"


def test_no_texts():
    posterior = make([[1.0, 1.0]], [1.0], returns=torch.tensor([[1.0, 2.0]]))
    assert not posterior.has_texts
    with pytest.raises(NoTextError, match=r"returned a Tensor.*Return the TextState"):
        _ = posterior.texts


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="'x' has shape"):
        make([[1.0, 1.0]], [1.0], values=[[1], [2]])
    with pytest.raises(ValueError, match=r"log_evidence \[R\]"):
        make([[1.0, 1.0]], [1.0, 1.0])
    with pytest.raises(ValueError, match=r"StepStats.ess has shape \(1, 2\), expected \(1, 1\)"):
        StepStats(
            names=["a"],
            ess=np.ones((1, 2)),
            log_evidence_increment=np.zeros((1, 1)),
            resampled=np.zeros((1, 1), dtype=bool),
            ancestors=np.zeros((1, 1, 3), dtype=np.int64),
            log_factor=np.zeros((1, 1, 3)),
        )


def test_lineages_and_unique_ancestors():
    stats = StepStats(
        names=["a", "b"],
        ess=np.ones((1, 2)),
        log_evidence_increment=np.zeros((1, 2)),
        resampled=np.array([[True, False]]),
        ancestors=np.array([[[2, 2, 0], [0, 1, 2]]]),
        log_factor=np.zeros((1, 2, 3)),
    )
    assert stats.lineages.tolist() == [[[2, 2, 0], [0, 1, 2]]]
    assert stats.unique_ancestors.tolist() == [[2, 3]]


@pytest.mark.parametrize("fn", [answer, lambda text: text.strip()])
def test_a_function_of_texts_where_there_are_none(fn):
    posterior = make([[1, 1, 1]], [1], returns=torch.zeros(1, 3))
    with pytest.raises(NoTextError, match=r"takes a text, and the particles have none.*is a tensor.*of=\"site\""):
        posterior.marginal(fn)
    with pytest.raises(AttributeError, match="bar"):  # an error of the function's own
        posterior.marginal(lambda value: value.bar)
