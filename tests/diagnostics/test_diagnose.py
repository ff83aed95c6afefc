"""Runs made sick on purpose, each with its illness named; healthy ones, with nothing found."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_llm
from pyro_llm import Budget, zoo
from pyro_llm.diagnostics import Diagnosis, Thresholds, diagnose
from pyro_llm.errors import BudgetWarning, PosteriorFileError, UnhealthyRunWarning
from pyro_llm.infer import SMC, BestOfN, Importance, ParallelTempering, ParticleGibbs, Posterior, SelfConsistency
from pyro_llm.lm import TableLM
from pyro_llm.models import ReasoningSSM
from pyro_llm.rewards import FunctionReward

VOCABULARY = ["good ", "bad ", "plain ", "answer: 1\n", "<eos>"]
ENDING = [0.0, 0.0, 0.0, 0.0, 1.0]


def writer(longest=8):
    """Writes words, one a step, and then ends."""
    law = [0.3, 0.3, 0.3, 0.1, 0.0]
    return TableLM(lambda tokens: law if len(tokens) < longest else ENDING, VOCABULARY, 4)


def judge(text):
    """Better texts are a little more probable."""
    return 0.5 + 0.4 * text.count("good ") / (1 + len(text.split()))


def solve(reward=judge, lm=None, num_particles=32, num_runs=1, seed=0, algorithm=SMC, **options):
    model_options = {name: options.pop(name) for name in ("temperature", "max_tokens", "stop") if name in options}
    model = ReasoningSSM(
        lm or writer(), FunctionReward(reward), max_steps=12, **{"stop": None, "max_tokens": 1, **model_options}
    )
    pyro.set_rng_seed(seed)
    if algorithm is SMC:
        options["num_runs"] = num_runs
    return algorithm(model, num_particles, **options).run("?")


@pytest.mark.parametrize("seed", range(5))
def test_two_particles(seed):
    diagnosis = solve(num_particles=2, seed=seed).diagnose()
    assert diagnosis.names == ["few-particles"]
    assert diagnosis.figures["particles"] == diagnosis[0].figure == 2


@pytest.mark.filterwarnings("ignore::pyro_llm.errors.UnhealthyRunWarning")
@pytest.mark.parametrize("seed", range(5))
def test_a_reward_that_saturates(seed):
    """Its log-odds are so high that good and bad are both accepted for certain."""

    def saturated(text):
        return 1 - 1e-6 * (1 + text.count("bad"))

    diagnosis = solve(saturated, seed=seed).diagnose()
    assert diagnosis.names == ["reward-saturated"]
    assert diagnosis[0].severity == "serious"
    assert diagnosis.figures["steps whose reward tells nothing, share"] == 1


@pytest.mark.filterwarnings("ignore::pyro_llm.errors.UnhealthyRunWarning")
@pytest.mark.parametrize("seed", range(5))
def test_a_constant_reward(seed):
    lm = TableLM(lambda tokens: [0.3, 0.2, 0.2, 0.1, 0.2] if len(tokens) < 8 else ENDING, VOCABULARY, 4)
    diagnosis = solve(lambda text: 0.4, lm=lm, seed=seed).diagnose()  # texts end at different steps
    assert "reward-constant" in diagnosis.names
    assert "reward-saturated" not in diagnosis.names
    assert diagnosis.figures["steps whose reward tells nothing, share"] == 1


@pytest.mark.filterwarnings("ignore::pyro_llm.errors.UnhealthyRunWarning")
@pytest.mark.parametrize("seed", range(5))
def test_a_reward_that_kills_all_but_one_lineage(seed):
    """Only the first of 32 particles that begins so is spared: one in 32 begins with it on average."""
    first = [1 / 32, 0.0, 31 / 32, 0.0, 0.0]
    lm = TableLM(
        lambda tokens: first if not tokens else [0.5, 0.5, 0, 0, 0] if len(tokens) < 8 else ENDING, VOCABULARY, 4
    )
    # The seed is the next for which exactly one particle begins well.
    seed = next(s for s in range(1000 * seed, 1000 * seed + 1000) if _survivors(lm, s) == 1)
    diagnosis = solve(lambda text: 0.9 if text.startswith("good") else 1e-9, lm=lm, seed=seed).diagnose()
    assert diagnosis.names[0] == "one-lineage"
    assert set(diagnosis.names) <= {"one-lineage", "reward-constant"}  # it tells nothing of one lineage's later steps
    assert diagnosis.figures["ancestors at the first step, lowest"] == 1
    assert "accept_0" in diagnosis[0].what


def _survivors(lm, seed):
    pyro.set_rng_seed(seed)
    model = ReasoningSSM(lm, FunctionReward(judge), max_steps=1, stop=None, max_tokens=1)
    return int((Importance(model, 32).run("?").texts == "good ").sum())


@pytest.mark.parametrize("seed", range(5))
def test_a_temperature_that_loops(seed):
    """At temperature 1 the text ends at each step with probability 0.4; at 0.02 never."""
    lm = TableLM(lambda tokens: [0.6, 0.0, 0.0, 0.0, 0.4], VOCABULARY, 4)
    assert "looping-texts" not in solve(lm=lm, seed=seed).diagnose().names
    with pytest.warns(UnhealthyRunWarning, match="reward-constant"):  # all write the same
        diagnosis = solve(lm=lm, temperature=0.02, seed=seed).diagnose()
    assert diagnosis.names == ["looping-texts"]
    assert diagnosis.figures["looping texts, share"] == diagnosis.figures["unfinished texts, share"] == 1


@pytest.mark.parametrize("seed", range(5))
def test_steps_that_are_cut_off(seed):
    """Words of a sentence, and room for two where two in five end it."""
    law = [0.2, 0.2, 0.2, 0.4, 0.0]
    lm = TableLM(lambda tokens: law if len(tokens) < 12 else ENDING, ["a ", "b ", "c ", ".", "<eos>"], 4)
    posterior = solve(lambda text: 0.5 + 0.1 * text.count("a ") / len(text), lm=lm, stop=".", max_tokens=2, seed=seed)
    share = posterior.cost.steps_truncated / posterior.cost.steps_sampled
    assert share == pytest.approx(0.6**2, abs=0.16)  # of 100 steps and more, dependent: sd about 0.04
    assert [finding.name for finding in posterior.diagnose()] == ["truncated-steps"]


def test_texts_that_do_not_end_are_noted_where_that_may_be_meant():
    lm = writer(longest=20)
    found = solve(lm=lm).diagnose()
    assert [(finding.name, finding.severity) for finding in found] == [("unfinished-texts", "note")]
    assert found.healthy
    lm = TableLM(lambda tokens: [0.32, 0.32, 0.32, 0.0, 0.04], VOCABULARY, 4)
    found = solve(lambda text: 0.9 + 0.01 * judge(text), lm=lm).diagnose()
    assert [(finding.name, finding.severity) for finding in found] == [("unfinished-texts", "warning")]


def test_dead_particles_and_dead_runs():
    def model():
        x = pyro.sample("x", dist.Uniform(0.0, 1.0))
        pyro.factor("y", torch.where(x < 0.01, 0.0, -torch.inf))

    pyro.set_rng_seed(1)
    with pytest.warns(RuntimeWarning, match="weight zero"):
        posterior = SMC(model, 100, num_runs=8).run()
    alive = posterior.log_evidence.isfinite()
    diagnosis = posterior.diagnose()
    assert {"dead-runs", "dead-particles"} <= set(diagnosis.names)
    dead = {finding.name: finding.figure for finding in diagnosis}
    assert dead["dead-runs"] == int((~alive).sum()) > 0
    assert dead["dead-particles"] == float((posterior.log_weights[alive] == -torch.inf).double().mean())


def test_runs_that_are_each_in_a_place_of_their_own():
    """Each run keeps one particle of a wide prior: evidence and values differ."""

    def model():
        x = pyro.sample("x", dist.Normal(0.0, 100.0))
        pyro.sample("y", dist.Normal(x, 0.01), obs=torch.tensor(0.0))
        pyro.sample("z", dist.Normal(x, 1.0))

    pyro.set_rng_seed(0)
    found = SMC(model, 20, num_runs=6).run().diagnose()
    assert found.names == ["one-lineage", "evidence-spread", "runs-disagree"]
    assert found[0].figure == 1


def test_chains_that_do_not_move():
    def model():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        for t in range(20):
            z = pyro.sample(f"z_{t}", dist.Normal(0.0, 1.0))
            pyro.sample(f"y_{t}", dist.Normal(x + z, 0.3), obs=torch.tensor(1.0))

    pyro.set_rng_seed(0)
    stuck = ParticleGibbs(model, 2, num_iterations=30, num_chains=4).run()
    assert {"chains-disagree", "slow-chains"} <= set(stuck.diagnose().names)


def test_chains_that_mix_and_swap():
    def model():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(x, 1.0), obs=torch.tensor(1.0))

    pyro.set_rng_seed(0)
    gibbs = ParticleGibbs(model, 20, num_iterations=100, num_chains=4).run().diagnose()
    assert list(gibbs) == []
    assert gibbs.figures["ESS of x"] > 200
    tempering = ParallelTempering(model, 10, num_iterations=60, inverse_temperatures=[1, 0.5, 0], num_chains=4)
    found = tempering.run().diagnose()
    assert list(found) == []
    assert found.figures["round trips"] > 0


def test_a_ladder_with_a_gap():
    def model():
        x = pyro.sample("x", dist.Normal(0.0, 30.0))
        pyro.sample("y", dist.Normal(x, 0.05), obs=torch.tensor(0.0))

    tempering = ParallelTempering(model, 2, num_iterations=60, inverse_temperatures=[1, 0.0], num_chains=1)
    posterior = tempering.run()
    finding = next(finding for finding in posterior.diagnose() if finding.name == "no-swaps")
    assert finding.figure == posterior.chains.tempering.swap_rates[0] < 0.05


@pytest.mark.filterwarnings("ignore::pyro_llm.errors.UnhealthyRunWarning")
def test_rewards_that_tell_nothing_are_found_in_chains_too():
    chain = {"algorithm": ParticleGibbs, "num_iterations": 10}
    assert solve(lambda text: 0.9999, **chain).diagnose().names == ["reward-saturated", "one-chain"]
    for certain in (solve(lambda text: 1.0), solve(lambda text: 1.0, **chain)):
        found = certain.diagnose()  # hard constraints that are met look like this
        assert [(finding.name, finding.severity) for finding in found][:1] == [("reward-saturated", "note")]
    assert solve(lambda text: 0.5, **chain).diagnose().names == ["reward-constant", "one-chain"]


def test_chains_that_are_too_short_or_alone():
    def found(num_iterations, num_particles=8, **options):
        return solve(algorithm=ParticleGibbs, num_particles=num_particles, num_iterations=num_iterations, **options)

    with pytest.warns(BudgetWarning):
        single = found(5, budget=Budget(generations=20)).diagnose()
    assert [(finding.name, finding.severity) for finding in single] == [
        ("few-draws", "serious"), ("one-chain", "note"), ("budget-spent", "note")
    ]  # fmt: skip
    assert single[0].figure == single.figures["draws"] == 1 and "There is 1 draw of" in single[0].what
    assert "(generations)" in single[2].what and single[2].figure == 20
    assert found(5).diagnose().names == ["few-draws", "one-chain"]
    assert found(5, keep="population").diagnose().figures["draws"] == 5
    assert found(10).diagnose().names == ["one-chain"]
    assert "few-draws" not in found(5, num_chains=2).diagnose().names
    assert found(2, num_chains=4).diagnose()[0].name == "few-draws"


@pytest.mark.parametrize("algorithm", [SMC, BestOfN])
def test_a_budget_is_named_even_where_all_texts_have_an_end(algorithm):
    full = solve(algorithm=algorithm)
    with pytest.warns(BudgetWarning):
        posterior = solve(algorithm=algorithm, budget=Budget(reward_calls=full.cost.reward_calls - 1))
    found = posterior.diagnose(thresholds=Thresholds(unfinished_texts=1.1))
    assert found.names == ["budget-spent"] and found.healthy
    assert "(reward_calls)" in found[0].what


@pytest.fixture(scope="module")
def healthy():
    """Ten problems of the embedded models, 32 particles each."""
    model = ReasoningSSM(pyro_llm.load_lm("abacus"), pyro_llm.load_reward("abacus"))
    problems = [problem["problem"] for problem in zoo.problems("abacus")[:10]]
    return SMC(model, num_particles=32).run_each(problems, seeds=range(10))


def test_nothing_is_found_on_ten_healthy_runs(healthy):
    assert [posterior.diagnose().names for posterior in healthy] == [[]] * 10
    assert all(posterior.diagnose().healthy for posterior in healthy)


def test_four_runs_are_compared():
    posterior = solve(num_runs=4)
    figures = posterior.diagnose({"good": lambda text: text.count("good")}).figures
    assert {f"R-hat of {name} over runs" for name in ("log_reward", "log_probability", "good")} <= set(figures)
    assert not any(name.startswith("R-hat") for name in solve(num_runs=3).diagnose().figures)


def test_a_file_and_a_tree_are_diagnosed_alike(healthy, tmp_path):
    posterior = healthy[3]
    posterior.save(tmp_path / "run.nc")
    expected = repr(posterior.diagnose())
    assert repr(Posterior.load(tmp_path / "run.nc").diagnose()) == expected
    assert repr(diagnose(posterior.to_datatree())) == expected
    tree = posterior.to_datatree()
    del tree.attrs["schema_version"]
    with pytest.raises(PosteriorFileError, match="The tree holds no posterior"):
        diagnose(tree)


def test_of_resampled_draws_only_the_texts_are_looked_at(healthy):
    figures = healthy[0].resample(100).diagnose().figures
    assert set(figures) == {
        "truncated steps, share", "looping texts, share", "unfinished texts, share", "distinct answers"
    }  # fmt: skip


def test_thresholds_can_be_set(healthy):
    ess = healthy[0].diagnose().figures["ess"]
    found = healthy[0].diagnose(thresholds=Thresholds(ess=ess + 1))
    assert [(finding.name, finding.figure, finding.threshold) for finding in found] == [("low-ess", ess, ess + 1)]


def test_how_it_shows_itself():
    diagnosis = solve(num_particles=2).diagnose()
    assert isinstance(diagnosis, Diagnosis)
    text = repr(diagnosis)
    assert text.startswith("Posterior by SMC: 1 run × 2 particles: 1 serious\n  SERIOUS few-particles\n")
    assert diagnosis[0].what in " ".join(text.split())
    assert not diagnosis.healthy
    html = Diagnosis("<script>", list(diagnosis), {"<b>": 1.0})._repr_html_()
    assert "<script>" not in html
    assert "&lt;b&gt;" in html


def test_searches_have_no_weights_to_look_at():
    model = ReasoningSSM(writer(), FunctionReward(judge), max_steps=12, stop=None, max_tokens=1)
    found = BestOfN(model, num_particles=8).run("?").diagnose()
    assert list(found) == []
    assert set(found.figures) == {
        "steps whose reward tells nothing, share", "looping texts, share", "unfinished texts, share", "distinct answers"
    }  # fmt: skip
    model = ReasoningSSM(writer(), FunctionReward(lambda text: 0.3), max_steps=12, stop=None, max_tokens=1)
    found = BestOfN(model, num_particles=8, num_runs=2).run("?").diagnose()
    assert found.names == ["reward-constant"]
    assert "the choice is that of chance" in found[0].what
    assert list(SelfConsistency(model, num_particles=8).run("?").diagnose()) == []  # it asks no reward


def test_a_budget_that_was_spent():
    model = ReasoningSSM(writer(), FunctionReward(judge), max_steps=12, stop=None, max_tokens=1)
    with pytest.warns(BudgetWarning):
        found = SMC(model, 32, budget=Budget(lm_tokens_sampled=100)).run("?").diagnose()
    assert found.names == ["unfinished-texts"]
    assert "when the budget was spent (lm_tokens_sampled)" in found[0].what


def test_one_particle_is_one():
    found = SMC(lambda: pyro.sample("x", dist.Normal(0.0, 1.0)), 1, progress=False).run().diagnose()
    assert found.names == ["few-particles"] and "There is 1 particle in all" in found[0].what


def test_chains_whose_sweeps_keep_their_populations():
    def model():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(x, 1.0), obs=torch.tensor(1.0))

    pyro.set_rng_seed(0)
    sweeps = ParticleGibbs(model, 20, num_iterations=60, num_chains=4, keep="population").run()
    found = sweeps.diagnose()
    assert list(found) == []
    assert 3000 < found.figures["ESS of x"] < 7000  # of 4,800 particles; the ESS has errors of its own
    assert list(ParticleGibbs(model, [20, 30], 60, num_chains=4, keep="population").run().diagnose()) == []
