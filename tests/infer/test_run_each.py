"""Several runs at a time: the same posteriors as one by one, and nothing lost or left behind."""

import os
import random
import signal
import threading
import time

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.poutine.runtime import _DIM_ALLOCATOR, _PYRO_STACK

import pyro_llm
from pyro_llm.distributions import LLM
from pyro_llm.errors import ContextLengthError, FailedRunsError, OptionError
from pyro_llm.infer import SMC, AllParticlesDeadError, Importance, ParallelTempering, ParticleGibbs
from pyro_llm.lm import TableLM
from pyro_llm.rewards import FunctionReward

PROBLEMS = ["a", "ab", "abc", "abcd", "abcde", "b"]


def table_lm(seed=0):
    laws = {}

    def conditional(tokens):
        if tokens not in laws:
            laws[tokens] = torch.rand(4, generator=torch.Generator().manual_seed(hash((seed, tokens)) % 2**31)).tolist()
        weights = laws[tokens]
        return [weight / sum(weights) for weight in weights]

    return TableLM(conditional, vocabulary=["a", "b", "\n", "<eos>"], eos_token_id=3)


LM, OTHER = table_lm(), table_lm(1)
FAVOURITE = FunctionReward(lambda text: (1 + text.count("a")) / (2 + len(text)))


def reason(problem):
    """Steps, and their number, depend on the problem; a program with several language models, plates and rewards."""
    state = LM.prompt(problem)
    for t in range(1 + len(problem)):
        step = pyro.sample(f"step_{t}", LLM(LM, state, stop="\n", max_tokens=1 + len(problem)))
        state = state.append(step)
        with pyro.plate(f"plate_{t}", 2):
            pyro.sample(f"x_{t}", dist.Normal(0.0, 1.0))
        pyro_llm.accept(f"accept_{t}", FAVOURITE, state)
        if state.finished.all():
            break
    pyro.sample("verdict", LLM(OTHER, OTHER.prompt(problem).expand(state.batch_shape), max_tokens=2))
    return state


ALGORITHMS = {
    "smc": SMC(reason, 6, num_runs=2, ess_threshold=1, max_plate_nesting=1),
    "scalar": SMC(reason, 4, particles="scalar", ess_threshold=1),
    "importance": Importance(reason, 5, max_plate_nesting=1),
    "gibbs": ParticleGibbs(reason, 3, num_iterations=3, ess_threshold=1, max_plate_nesting=1),
    "tempering": ParallelTempering(
        reason, 2, num_iterations=2, warmup=1, inverse_temperatures=[1, 0.3], max_plate_nesting=1
    ),
}


def assert_same(posterior, other):
    assert posterior.samples.keys() == other.samples.keys()
    for name, value in posterior.samples.items():
        torch.testing.assert_close(value, other.samples[name], rtol=0, atol=0, equal_nan=True)
    assert torch.equal(posterior.log_evidence, other.log_evidence)
    assert torch.equal(posterior.log_weights, other.log_weights)
    assert posterior.texts.tolist() == other.texts.tolist()
    # A pass that serves others too counts here as well, and the last of a step serves nobody if all rows end with EOS.
    assert other.cost.lm_calls <= posterior.cost.lm_calls <= other.cost.lm_calls + 4 * len(posterior.samples)
    cost, others = (dict(vars(each.cost), seconds=0, lm_calls=0) for each in (posterior, other))
    assert cost == others


@pytest.mark.parametrize("name", ALGORITHMS)
def test_results_are_those_of_runs_one_by_one(name):
    algorithm = ALGORITHMS[name]
    seeds = range(10, 10 + len(PROBLEMS))
    together = algorithm.run_each(PROBLEMS, concurrent=4, seeds=seeds)
    for problem, seed, posterior in zip(PROBLEMS, seeds, together, strict=True):
        pyro.set_rng_seed(seed)
        assert_same(posterior, algorithm.run(problem))
        assert posterior.settings["initial_seed"] == seed


def test_without_seeds_results_depend_on_one_draw_and_the_place_only():
    smc = ALGORITHMS["smc"]
    pyro.set_rng_seed(3)
    posteriors = smc.run_each(PROBLEMS)
    after = torch.rand(())
    pyro.set_rng_seed(3)
    one_by_one = smc.run_each(PROBLEMS, concurrent=1)
    assert torch.equal(torch.rand(()), after)
    pyro.set_rng_seed(3)
    torch.randint(2**63 - 1, ())
    assert torch.equal(torch.rand(()), after), "one draw is taken from the caller's generator"
    for posterior, other in zip(posteriors, one_by_one, strict=True):
        assert_same(posterior, other)
        pyro.set_rng_seed(posterior.settings["initial_seed"])
        assert_same(posterior, smc.run(posterior.returns.prompt))
    assert len({posterior.settings["initial_seed"] for posterior in posteriors}) == len(PROBLEMS)


def test_tuples_are_positional_and_mappings_keyword_arguments():
    def model(first, second=2):
        pyro.sample("x", dist.Delta(torch.tensor(float(first + 10 * second))))

    posteriors = Importance(model, 1).run_each([1, (3,), (3, 4), {"first": 5}, {"second": 1, "first": 0}])
    assert [posterior.samples["x"].item() for posterior in posteriors] == [21, 23, 43, 25, 10]


def failing(problem):
    state = LM.prompt(problem)
    state = state.append(pyro.sample("step", LLM(LM, state, max_tokens=2)))
    if problem == "abc":
        raise ContextLengthError("too long")
    pyro_llm.accept("accept", FunctionReward(lambda text: 0.0 if problem == "ab" else 0.5), state)


def test_an_error_of_one_problem_does_not_stop_the_others():
    outcomes = {outcome.problem: outcome for outcome in SMC(failing, 3).iter_each(PROBLEMS)}
    assert [outcomes[problem].index for problem in PROBLEMS] == list(range(len(PROBLEMS)))
    assert isinstance(outcomes["abc"].error, ContextLengthError) and outcomes["abc"].posterior is None
    assert isinstance(outcomes["ab"].error, AllParticlesDeadError)
    for problem in ("a", "abcd", "abcde", "b"):
        assert outcomes[problem].error is None and outcomes[problem].posterior is not None
    with pytest.raises(FailedRunsError, match=r"2 of 6 runs failed, first that of problem 1: AllParticles") as caught:
        SMC(failing, 3).run_each(PROBLEMS)
    assert [outcome.error is None for outcome in caught.value.outcomes] == [True, False, False, True, True, True]


def test_an_error_of_the_problems_comes_after_the_results():
    def problems():
        yield "a"
        yield "abcde"
        raise OSError("no more")

    iterator = SMC(reason, 2, max_plate_nesting=1).iter_each(problems())
    assert {next(iterator).problem, next(iterator).problem} == {"a", "abcde"}
    with pytest.raises(OSError, match="no more"):
        next(iterator)
    with pytest.raises(OptionError, match="there are 1, and more problems"):
        SMC(reason, 2, max_plate_nesting=1).run_each(PROBLEMS, seeds=[1])
    with pytest.raises(OptionError, match="concurrent=0"):
        SMC(reason, 2).run_each(PROBLEMS, concurrent=0)
    assert SMC(reason, 2).run_each([]) == []


def threads():
    return [thread for thread in threading.enumerate() if thread is not threading.main_thread()]


def test_closing_leaves_nothing_behind():
    begun, ended = [], []

    def model(problem):
        begun.append(problem)
        try:
            return reason(problem)
        finally:
            ended.append(problem)

    before, states = threads(), (torch.get_rng_state(), random.getstate())
    iterator = SMC(model, 2, ess_threshold=0, max_plate_nesting=1).iter_each(PROBLEMS, concurrent=3, seeds=range(9))
    first = next(iterator)
    iterator.close()
    assert first.problem in ended and sorted(begun) == sorted(ended) and len(begun) >= 3
    assert threads() == before
    assert not _PYRO_STACK and not _DIM_ALLOCATOR._stack
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[1]


@pytest.fixture
def interrupt_key():
    """The interrupt key as a terminal has it: a process that a shell began in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("place", ["reward", "lm"])
def test_the_interrupt_key_leaves_nothing_behind(place, interrupt_key):
    done = []

    def slow(text):
        if len(done) > 1 and place == "reward":
            threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGINT]).start()
            for _ in range(1000):
                time.sleep(0.005)  # in the thread of the run
        return 0.5

    def model(problem):
        state = LM.prompt(problem)
        for t in range(4):
            state = state.append(pyro.sample(f"step_{t}", LLM(lm, state, max_tokens=2)))
            pyro_llm.accept(f"accept_{t}", FunctionReward(slow), state)
        done.append(problem)

    def conditional(tokens):
        if len(done) > 1 and place == "lm":
            signal.raise_signal(signal.SIGINT)
        return [0.3, 0.3, 0.3, 0.1]

    lm = TableLM(conditional, vocabulary=["a", "b", "\n", "<eos>"], eos_token_id=3)
    before, kept = threads(), []
    with pytest.raises(KeyboardInterrupt):
        for outcome in SMC(model, 4).iter_each([f"{number}" for number in range(20)], concurrent=2):
            assert outcome.error is None
            kept.append(outcome)
            lm._tree.__init__(lm.log_probs, 4)  # asks again
    assert 1 <= len(kept) < 10
    assert [thread for thread in threads() if thread not in before and not isinstance(thread, threading.Timer)] == []
    assert not _PYRO_STACK and not _DIM_ALLOCATOR._stack


def test_programs_without_a_language_model_and_other_generators():
    def model(scale):
        x = pyro.sample("x", dist.Normal(0.0, scale))
        pyro.sample("y", dist.Normal(x, 1.0), obs=torch.tensor(0.3))
        return x

    np.random.seed(1)
    state = np.random.get_state()[1].copy()
    posteriors = SMC(model, 3).run_each([0.5, 1.0], seeds=[1, 2])
    pyro.set_rng_seed(2)
    assert torch.equal(SMC(model, 3).run(1.0).log_weights, posteriors[1].log_weights)
    np.random.seed(1)
    assert (np.random.get_state()[1] == state).all()


def test_progress_names_the_problem():
    seen = []
    SMC(reason, 2, max_plate_nesting=1).run_each(PROBLEMS, progress=lambda index, report: seen.append((index, report)))
    assert {index for index, _ in seen} == set(range(len(PROBLEMS)))
    assert all(report.step >= 1 for _, report in seen)


def test_a_status_line(capsys):
    SMC(reason, 2, max_plate_nesting=1).run_each(PROBLEMS, progress=True)
    assert "SMC: 6 of 6 runs done" in capsys.readouterr().err


@pytest.mark.parametrize("problem", ["a problem", {"problem": "a problem"}])
def test_one_problem_is_no_list_of_problems(problem):
    with pytest.raises(OptionError, match="give a list of problems"):
        Importance(lambda text: None, num_particles=2).run_each(problem)
