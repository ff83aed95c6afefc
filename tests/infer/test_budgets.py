"""Runs that may spend so much: they stay under it to the token, and what they give is what they were by then."""

import contextlib
import time
import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_llm
from pyro_llm import Budget, Prices
from pyro_llm.distributions import LLM
from pyro_llm.errors import BudgetWarning, OptionError
from pyro_llm.infer import (
    DVTS,
    SMC,
    BeamSearch,
    BestOfN,
    EntropicSMC,
    Greedy,
    Importance,
    ParallelTempering,
    ParticleGibbs,
    Posterior,
    SelfConsistency,
)
from pyro_llm.lm import TableLM
from pyro_llm.models import ReasoningSSM
from pyro_llm.rewards import FunctionReward

# The law depends on the past, so that a wrong count of what has been read shows.
LM = TableLM(
    lambda tokens: [0.35, 0.3, 0.2, 0.15] if len(tokens) % 2 else [0.3, 0.35, 0.3, 0.05],
    ["a", "b", "\n", "."],
    eos_token_id=3,
)
REWARD = FunctionReward(lambda text: (1 + text.count("a")) / (2 + len(text)))
PRICES = Prices(lm_input=1000.0, lm_output=3000.0, reward_input=10.0)


def reason(steps=5):
    return ReasoningSSM(LM, REWARD, max_steps=steps, max_tokens=4)


ALGORITHMS = {
    "smc": lambda **o: SMC(reason(), 6, num_runs=2, ess_threshold=0.8, **o),
    "scalar": lambda **o: SMC(reason(), 6, particles="scalar", ess_threshold=0.8, **o),
    "importance": lambda **o: Importance(reason(), 6, num_runs=2, **o),
    "gibbs": lambda **o: ParticleGibbs(reason(), 4, 3, num_chains=2, ess_threshold=0.8, **o),
    "ancestors": lambda **o: ParticleGibbs(reason(3), 3, 2, ancestor_sampling=True, ess_threshold=0.8, **o),
    "best": lambda **o: BestOfN(reason(), 6, num_runs=2, **o),
    "votes": lambda **o: SelfConsistency(reason(), 6, **o),
    "beam": lambda **o: BeamSearch(reason(), 6, beam_width=2, **o),
    "dvts": lambda **o: DVTS(reason(), 6, beam_width=2, num_runs=2, **o),
    "entropic": lambda **o: EntropicSMC(reason(), 6, **o),
    "greedy": lambda **o: Greedy(reason(), **o),
    "tempering": lambda **o: ParallelTempering(reason(3), 3, 2, num_rungs=2, warmup=1, ess_threshold=0.8, **o),
}
LEAST = {"smc": 12, "importance": 12, "gibbs": 8, "ancestors": 3, "best": 12, "dvts": 12, "greedy": 1}
ITEMS = ["generations", "lm_tokens", "lm_tokens_sampled", "lm_tokens_forwarded", "reward_calls", "dollars"]


def run(algorithm, *args, seed=3):
    """The posterior, and whether a warning of the budget was given."""
    pyro.set_rng_seed(seed)
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always", BudgetWarning)
        posterior = algorithm.run(*(args or ("which?",)))
    return posterior, given


def budget(item, limit):
    return Budget(dollars=limit, prices=PRICES) if item == "dollars" else Budget(**{item: limit})


def spent(posterior, item):
    return PRICES.dollars(posterior.cost) if item == "dollars" else getattr(posterior.cost, item)


def limits(least, top):
    """Over the range of what can be spent, the edges among them."""
    inside = np.linspace(least, top, 5)[:-1]
    return [*sorted({type(top)(limit) for limit in inside}), top * 0.999 if isinstance(top, float) else top - 1]


@pytest.mark.parametrize("item", ITEMS)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_no_more_is_spent_than_the_budget(name, item):
    full, _ = run(ALGORITHMS[name]())
    top = spent(full, item)
    least = {"generations": LEAST.get(name, 6), "dollars": top / 1000}.get(item, 1)
    for limit in limits(least, top):
        if not least <= limit < top:
            continue
        posterior, given = run(ALGORITHMS[name](budget=budget(item, limit)))
        assert spent(posterior, item) <= limit
        assert posterior.stopped_by == item
        assert [warning.category for warning in given] == [BudgetWarning] and item in str(given[0].message)
        assert given[0].filename == __file__  # the line that called `run`
        assert posterior.texts.shape == (posterior.num_runs, posterior.num_particles)
        if posterior.is_search:
            assert posterior.decision() in posterior.texts
        else:
            assert posterior.log_weights.exp().sum(-1).numpy() == pytest.approx(1)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_budget_that_is_not_exceeded_changes_nothing(name):
    full, _ = run(ALGORITHMS[name]())
    for item in ITEMS:
        exactly = spent(full, item)
        if not exactly:  # a search that asks for no reward
            continue
        posterior, given = run(ALGORITHMS[name](budget=budget(item, exactly)))
        assert not given and posterior.stopped_by is None
        assert posterior.texts.tolist() == full.texts.tolist()
        if full.is_search:
            assert posterior.decision() == full.decision()
            assert full.searched.scores is None or torch.equal(posterior.scores, full.scores)
        else:
            assert torch.equal(posterior.log_weights, full.log_weights)
            assert torch.equal(posterior.log_evidence, full.log_evidence)
        assert all(torch.equal(value, full.samples[site]) for site, value in posterior.samples.items())
        assert dict(vars(posterior.cost), seconds=0) == dict(vars(full.cost), seconds=0)


@pytest.mark.parametrize("item", ["lm_tokens_sampled", "reward_calls"])
@pytest.mark.parametrize("name", ["smc", "scalar", "importance"])
def test_a_filter_is_what_it_was_after_its_last_factor(name, item):
    """Against the same program with fewer steps: the same texts, weights and evidence, if resampled then so before."""
    full, _ = run(ALGORITHMS[name]())
    seen = set()
    for limit in range(1, spent(full, item), 1 if item == "reward_calls" else 5):
        stopped, _ = run(ALGORITHMS[name](budget=budget(item, limit)))
        steps = stopped.stats.num_steps
        seen.add(steps)
        if steps == 0:
            assert torch.equal(stopped.log_evidence, torch.zeros_like(stopped.log_evidence))
            continue
        algorithm = ALGORITHMS[name]()
        algorithm.model = reason(steps)
        shorter, _ = run(algorithm)
        torch.testing.assert_close(stopped.log_evidence, shorter.log_evidence, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(stopped.stats.ess, shorter.stats.ess)
        ancestors = torch.from_numpy(stopped.stats.ancestors[:, -1])
        texts = np.take_along_axis(shorter.texts, ancestors.numpy(), 1)
        unjudged = f"step_{steps}" in stopped.samples  # written and paid for, its factor was not
        for text, before in zip(stopped.texts.flat, texts.flat, strict=True):
            assert text.startswith(before) if unjudged else text == before
        kept = ~torch.from_numpy(stopped.stats.resampled[:, -1])
        assert torch.equal(stopped.log_weights[kept], shorter.log_weights[kept])
        likelihood = shorter.log_likelihood.gather(1, ancestors)
        torch.testing.assert_close(stopped.log_likelihood, likelihood, rtol=0, atol=1e-12)
    assert len(seen) >= 4


@pytest.mark.parametrize("name", ["gibbs", "ancestors", "tempering"])
def test_a_chain_has_the_iterations_that_were_complete(name):
    full, _ = run(ALGORITHMS[name]())
    lengths = set()
    for limit in range(1, full.cost.lm_tokens, full.cost.lm_tokens // 20):
        stopped, _ = run(ALGORITHMS[name](budget=Budget(lm_tokens=limit)))
        draws = stopped.num_particles
        lengths.add(draws)
        if draws > 1:
            assert stopped.texts.tolist() == full.texts[:, :draws].tolist()
            assert torch.equal(stopped.log_likelihood, full.log_likelihood[:, :draws])
            assert torch.equal(stopped.log_evidence, full.log_evidence)
    assert lengths == set(range(1, full.num_particles))


def test_of_a_chain_without_an_iteration_that_counts_the_last_of_warm_up_is_left():
    warm = lambda **o: ParticleGibbs(reason(), 4, 1, warmup=3, **o)  # noqa: E731
    every, _ = run(ParticleGibbs(reason(), 4, 4, warmup=0))
    stopped, given = run(warm(budget=Budget(generations=4 + 3)))
    assert given and stopped.num_particles == 1
    assert stopped.texts.tolist() == every.texts[:, 1:2].tolist()
    assert stopped.cost.generations == 7
    unfinished, _ = run(warm(budget=Budget(lm_tokens=12)))  # not even the first
    assert unfinished.num_particles == 1 and unfinished.texts[0, 0] is not None


@pytest.mark.parametrize("name", ALGORITHMS)
def test_time(name):
    posterior, given = run(ALGORITHMS[name](budget=Budget(seconds=1e-6)))
    assert posterior.stopped_by == "seconds" and len(given) == 1
    assert posterior.cost.lm_tokens == posterior.cost.generations == 0
    assert set(posterior.texts.flat) == {""}


def test_time_of_programs_without_texts():
    def walk(slow):
        x = torch.tensor(0.0)
        for t in range(30):
            x = pyro.sample(f"x_{t}", dist.Normal(x, 1.0))
            pyro.sample(f"y_{t}", dist.Normal(x, 1.0), obs=torch.tensor(0.1 * t))
            time.sleep(slow)
        return x

    for mode in ("vectorized", "scalar"):
        smc = SMC(walk, 5, particles=mode, budget=Budget(dollars=0.1, prices=Prices(hour=3600.0)))
        posterior, given = run(smc, 0.004)
        assert posterior.stopped_by == "dollars" and len(given) == 1
        steps = posterior.stats.num_steps
        assert 1 <= steps < 30
        assert posterior.returns.shape == (1, 5)
        assert f"x_{steps - 1}" in posterior.samples and f"x_{steps + 1}" not in posterior.samples
        free, _ = run(SMC(walk, 5, particles=mode), 0.0)
        assert torch.isfinite(posterior.log_evidence).all()
        np.testing.assert_allclose(posterior.stats.ess, free.stats.ess[:, :steps])


def test_programs_that_do_not_end_without_text(monkeypatch):
    for messenger in ("particle_messenger", "scalar_messenger"):
        monkeypatch.setattr(f"pyro_llm.handlers.{messenger}.MOST_SITES_AFTER_STOP", 200)

    def until_all_have_ended(problem):
        state, t = LM.prompt(problem), 0
        while not state.finished.all():
            state = state.append(pyro.sample(f"step_{t}", LLM(LM, state, stop="\n", max_tokens=2)))
            pyro_llm.accept(f"accept_{t}", REWARD, state)
            t += 1
        return state

    def fails_on_nothing(problem):
        state = reason()(problem)
        assert all(state.texts.flat), "an empty text"
        return state

    def asks_once_more(problem):
        return REWARD(reason()(problem))

    for program, message in (
        (until_all_have_ended, "as long as texts are unfinished"),
        (fails_on_nothing, "AssertionError: an empty text"),
        (asks_once_more, "outside its sample sites"),
    ):
        for mode in ("vectorized", "scalar"):
            posterior, given = run(SMC(program, 3, particles=mode, budget=Budget(lm_tokens=2 + 6 * (mode == "scalar"))))
            assert posterior.returns is None and message in str(given[0].message)
            assert posterior.log_weights.shape == (1, 3)


def test_a_program_cannot_swallow_the_signal():
    def stubborn(problem):
        state = LM.prompt(problem)
        for t in range(5):
            with contextlib.suppress(Exception):
                state = state.append(pyro.sample(f"step_{t}", LLM(LM, state, stop="\n", max_tokens=3)))
        return state

    posterior, _ = run(SMC(stubborn, 4, budget=Budget(lm_tokens=9)))
    assert posterior.stopped_by == "lm_tokens" and posterior.cost.lm_tokens <= 9


def test_proposals_and_loops_and_values_after_the_stop():
    def guided(problem):
        state = {"text": LM.prompt(problem)}
        for t in pyro_llm.loop("t", 6, state):
            text = state["text"]
            warmer = LLM(LM, text, stop="\n", max_tokens=3, temperature=2.0)
            law = LLM(LM, text, stop="\n", max_tokens=3)
            state["text"] = text.append(pyro.sample(f"step_{t}", law, infer={"proposal": warmer}))
            pyro_llm.accept(f"accept_{t}", REWARD, state["text"])
        pyro.sample("mood", dist.Normal(0.0, 1.0))
        return state["text"]

    full, _ = run(SMC(guided, 5, ess_threshold=1))
    for limit in range(1, full.cost.lm_tokens, 7):
        posterior, _ = run(SMC(guided, 5, ess_threshold=1, budget=Budget(lm_tokens=limit)))
        assert posterior.cost.lm_tokens <= limit and posterior.stopped_by == "lm_tokens"
        assert "mood" not in posterior.samples  # drawn for the return value, and no part of the posterior
        assert posterior.texts.shape == (1, 5)


@pytest.mark.parametrize("name", ["best", "beam", "dvts", "entropic"])
def test_a_search_has_the_scores_of_the_steps_that_were_judged(name):
    full, _ = run(ALGORITHMS[name]())
    seen = set()
    for limit in range(1, full.cost.reward_calls):
        stopped, _ = run(ALGORITHMS[name](budget=Budget(reward_calls=limit)))
        steps = stopped.stats.num_steps
        seen.add(steps)
        algorithm = ALGORITHMS[name]()
        algorithm.model = reason(max(steps, 1))
        shorter, _ = run(algorithm)
        if steps:
            ancestors = torch.from_numpy(stopped.stats.ancestors[:, -1])
            torch.testing.assert_close(stopped.scores, shorter.scores.gather(1, ancestors), rtol=0, atol=1e-12)
        assert stopped.decision() in stopped.texts
    assert len(seen) > 1


def test_each_of_several_runs_has_the_budget_for_itself():
    problems, seeds = ["a", "ab", "abc", "abcd"], [1, 2, 3, 4]
    for item, limit in (("lm_tokens", 25), ("reward_calls", 9), ("lm_tokens_forwarded", 40), ("generations", 12)):
        smc = SMC(reason(), 6, num_runs=2, budget=budget(item, limit))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BudgetWarning)
            together = smc.run_each(problems, concurrent=3, seeds=seeds)
        for problem, seed, posterior in zip(problems, seeds, together, strict=True):
            alone, _ = run(smc, problem, seed=seed)
            assert posterior.stopped_by == alone.stopped_by
            assert spent(posterior, item) == spent(alone, item) <= limit
            assert posterior.texts.tolist() == alone.texts.tolist()
            assert torch.equal(posterior.log_weights, alone.log_weights)


def test_the_posterior_says_so_and_remembers(tmp_path):
    posterior, _ = run(SMC(reason(), 6, budget=Budget(lm_tokens=20, seconds=60)))
    assert "budget of 20 lm tokens is spent" in repr(posterior)
    posterior.save(tmp_path / "run.nc")
    loaded = Posterior.load(tmp_path / "run.nc")
    assert loaded.stopped_by == "lm_tokens" and loaded.cost == posterior.cost
    assert loaded.settings["budget"] == {"lm_tokens": 20, "seconds": 60}
    assert loaded.texts.tolist() == posterior.texts.tolist()
    assert posterior.resample(3).stopped_by == "lm_tokens"
    unlimited, _ = run(SMC(reason(), 6))
    assert unlimited.stopped_by is None and "budget" not in unlimited.settings and "stopped" not in repr(unlimited)


def test_nothing_at_all_can_be_saved(tmp_path):
    posterior, _ = run(SMC(reason(), 6, budget=Budget(lm_tokens=1)))
    assert not posterior.samples and set(posterior.texts.flat) == {""}
    assert posterior.log_evidence.item() == 0.0 and "stopped" in repr(posterior)
    posterior.save(tmp_path / "run.nc")
    assert Posterior.load(tmp_path / "run.nc").stopped_by == "lm_tokens"


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "greedy"])  # which begins a single text
def test_what_is_no_budget(name):
    with pytest.raises(OptionError, match="give a Budget"):
        ALGORITHMS[name](budget=100)
    with pytest.raises(OptionError, match=r"2 generations, and .* begins"):
        ALGORITHMS[name](budget=Budget(generations=2))


def test_generations():
    counts = {name: run(make())[0].cost.generations for name, make in ALGORITHMS.items()}
    assert counts == {
        "smc": 12,
        "scalar": 6,
        "importance": 12,
        "gibbs": 2 * (4 + 3 * 3),  # two chains; a warm-up iteration, and three with the reference kept
        "ancestors": 3 + 2 * 2,
        "best": 12,
        "votes": 6,
        "beam": 6,
        "dvts": 12,
        "entropic": 6,
        "greedy": 1,
        "tempering": 2 * (3 + 2 * 2),
    }
