"""What an engine does with a program after its end costs the run nothing, and a failed run keeps nothing alive."""

import gc
import weakref

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_llm.budget import Budget
from pyro_llm.distributions import LLM, accept
from pyro_llm.errors import OuterHandlerError, ReplayError, RewardError
from pyro_llm.infer import SMC, BestOfN, Importance, SelfConsistency
from pyro_llm.lm import TableLM
from pyro_llm.models import ReasoningSSM
from pyro_llm.run_scope import claim

LM = TableLM(lambda tokens: [0.5, 0.3, 0.2], ["a", "b", "."], eos_token_id=2)


def lengths(state):
    """A reward that takes texts one by one, and writes with them, as a judge of one's own does."""
    return torch.tensor([float(len(LM.prompt(f"Grade {state.prompt}: {text}").prompt)) for text in state.texts])


def judged_as_prompt(state):
    return torch.tensor([float(len(LM.prompt("Grade: " + text).prompt)) for text in state.texts])


@pytest.mark.parametrize("reward", [lengths, judged_as_prompt])
def test_a_reward_takes_texts_row_by_row(reward):
    model = ReasoningSSM(LM, reward, stop=None, max_tokens=2, max_steps=2)
    pyro.set_rng_seed(0)
    run = SMC(model, 4, progress=False).run("q")
    assert torch.isfinite(run.log_evidence).all()


def scheduled(executions, reward_calls=None, prompts=False):
    """A program whose sites have other options at each step, or another prompt, and a factor outside of `accept`."""

    def model():
        executions.append(None)
        state = LM.prompt("q")
        for t in range(3):
            if prompts:
                state = LM.prompt(f"q{t}")
            state = state.append(pyro.sample(f"s{t}", LLM(LM, state, temperature=1.0 - 0.1 * t, max_tokens=1 + t)))
            if reward_calls is not None:
                claim(reward_calls=1)
                reward_calls.append(None)
                pyro.factor(f"f{t}", torch.zeros(state.batch_shape))
        return state

    return model


@pytest.mark.parametrize("algorithm", [SMC, Importance, SelfConsistency])
def test_options_of_the_step_alone_do_not_execute_a_program_again(algorithm):
    executions = []
    algorithm(scheduled(executions), 4, progress=False).run()
    assert len(executions) == 1


def test_what_is_done_again_spends_nothing_of_the_run():
    executions, reward_calls = [], []
    model = scheduled(executions, reward_calls, prompts=True)
    run = SMC(model, 4, ess_threshold=0.0, budget=Budget(reward_calls=3), progress=False).run()
    assert len(executions) == 4 and len(reward_calls) == 12  # as nothing shows that its prompts are the steps'
    assert run.stopped_by is None


def test_no_failure_of_what_is_done_again_is_one_of_the_run():
    executions = []

    def model():
        executions.append(None)
        draft = pyro.sample("draft", LLM(LM, LM.prompt("q"), max_tokens=2))
        pyro.sample("review", LLM(LM, LM.prompt("review"), max_tokens=2))
        if len(executions) > 1:
            raise ConnectionError("server gone")
        return LM.prompt("q").append(draft)

    assert SMC(model, 4, ess_threshold=0.0, progress=False).run().texts.shape == (1, 4)
    assert len(executions) == 4


def test_a_prompt_of_one_particles_text_is_an_error():
    def model():
        draft = LM.prompt("q").append(pyro.sample("draft", LLM(LM, LM.prompt("q"), max_tokens=4)))
        state = LM.prompt(f"review {draft.texts[0]}")
        return state.append(pyro.sample("review", LLM(LM, state, max_tokens=2)))

    pyro.set_rng_seed(0)
    with pytest.raises(ReplayError, match=r"The prompt of site 'review'(.|\n)*particles=.scalar."):
        SMC(model, 8, progress=False).run()


class Held:
    pass


@pytest.mark.parametrize("algorithm", [SMC, BestOfN])
def test_a_failed_run_is_freed_with_its_error(algorithm):
    held = []

    def model():
        mine = Held()
        held.append(weakref.ref(mine))
        state = LM.prompt("q")
        state = state.append(pyro.sample("s", LLM(LM, state, max_tokens=2)))
        accept("a", fails, state)
        return state

    def fails(state):
        raise RewardError("no score")

    gc.collect()
    gc.disable()
    try:
        with pytest.raises(RewardError) as raised:
            algorithm(model, 4, progress=False).run()
        assert raised.value.posterior.stopped_by == "reward"
        del raised
        assert held[0]() is None
    finally:
        gc.enable()


def test_the_failure_is_told_where_nothing_can_be_made_of_the_run():
    def model():
        pyro.sample("x", dist.Normal(0.0, 1.0))
        raise RewardError("no score")

    with pytest.raises(RewardError, match="no score") as raised:
        SelfConsistency(model, 4, votes="normalised", progress=False).run()
    assert raised.value.posterior is None and "makes no posterior" in raised.value.__notes__[0]


def test_a_run_inside_a_program_of_all_particles():
    def inner():
        return pyro.sample("z", dist.Normal(0.0, 1.0))

    def outer():
        pyro.sample("x", dist.Normal(0.0, 1.0))
        return float(Importance(inner, 3, progress=False).run().log_evidence[0])

    with pytest.raises(OuterHandlerError, match=r'program of another run(.|\n)*particles="scalar"'):
        SMC(outer, 4, progress=False).run()
    assert SMC(outer, 4, particles="scalar", progress=False).run().num_particles == 4
