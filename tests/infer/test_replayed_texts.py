"""Replays of sites of text: what must be as it was at first, and what all particles share, and of whom it is made."""

import random
import time
from functools import partial
from itertools import count

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_llm.distributions import LLM, ConstrainedNextToken, NextToken, PoweredNextToken, accept
from pyro_llm.errors import BatchedBranchError, NoDistributionError, ReplayError
from pyro_llm.infer import SMC, Importance, ParticleGibbs, SelfConsistency
from pyro_llm.lm import TableLM
from pyro_llm.rewards import FunctionReward

WORDS = ["a", "b", "."]
LM, OTHER = (TableLM(lambda tokens: [0.5, 0.3, 0.2], WORDS, eos_token_id=2) for _ in range(2))
REWARD = FunctionReward(lambda text: 0.1 + 0.8 * text.count("a") / (1 + len(text)))
MODES = pytest.mark.parametrize("particles", ["vectorized", "scalar"])


def run(model, particles="vectorized", algorithm=SMC, seed=0, **options):
    pyro.set_rng_seed(seed)
    options = {"ess_threshold": 1.0, **options} if algorithm is SMC else options
    return algorithm(model, 6, particles=particles, progress=False, **options).run()


def steps(law, prompt=lambda: "q", append="append", num_steps=3):
    def model():
        state = LM.prompt(prompt())
        for t in range(num_steps):
            state = getattr(state, append)(pyro.sample(f"s{t}", law(state)))
            accept(f"a{t}", REWARD, state)
        return state

    return model


def changing(make, append="append_token"):
    """A program whose law has another value of something in each execution."""
    counter = count(1)

    def model():
        change = next(counter)
        return steps(lambda state: make(state, change), append=append)()

    return model


MASKS = torch.tensor([[True, True, True], [True, True, False]])


@MODES
@pytest.mark.parametrize(
    ("append", "parameter", "make"),
    [
        ("append", "temperature", lambda state, n: LLM(LM, state, max_tokens=1, temperature=1.0 + n)),
        ("append", "top_p", lambda state, n: LLM(LM, state, max_tokens=1, top_p=1 / n)),
        ("append", "stop", lambda state, n: LLM(LM, state, max_tokens=1, stop="ab"[int(n > 1)])),
        ("append", "lm", lambda state, n: LLM([LM, OTHER][int(n > 1)], state, max_tokens=1)),
        ("append", "max_tokens", lambda state, n: LLM(LM, state, max_tokens=n)),
        ("append_token", "temperature", lambda state, n: NextToken(LM, state, temperature=1.0 + n)),
        ("append_token", "top_k", lambda state, n: NextToken(LM, state, top_k=int(n > 1))),
        ("append_token", "alpha", lambda state, n: PoweredNextToken(LM, state, alpha=1.0 + n)),
        ("append_token", "allowed", lambda state, n: ConstrainedNextToken(LM, state, MASKS[int(n > 1)])),
        ("append_token", "temperature", lambda state, n: NextToken(LM, state, temperature=1.0 + n).mask(True)),
    ],
)
def test_a_law_that_changes_on_replay(append, parameter, make, particles):
    with pytest.raises(ReplayError, match=f"parameter '{parameter}' of site 's0' was not what it was at first"):
        run(changing(make, append), particles)


@MODES
@pytest.mark.parametrize(
    "number",
    [
        np.random.default_rng(0).random,
        random.Random(0).random,
        partial(torch.rand, (), generator=torch.Generator().manual_seed(0)),
        time.perf_counter,
    ],
    ids=["numpy generator", "random", "torch generator", "clock"],
)
def test_a_prompt_that_changes_on_replay(number, particles):
    """Private generators, and the clock, which no watch over the global ones sees."""
    with pytest.raises(ReplayError, match=r"parameter 'prompt' of site 's0' .*\('q[\d.e-]+', and 'q[\d.e-]+' at first"):
        run(steps(lambda state: LLM(LM, state, max_tokens=1), prompt=lambda: f"q{float(number())}"), particles)


def test_texts_that_are_not_those_of_the_ancestors():
    kept = []

    def model():
        state = LM.prompt("q")
        state = state.append(pyro.sample("s0", LLM(LM, state, max_tokens=1)))
        accept("a0", REWARD, state)
        kept.append(state)  # of the first execution: other particles, once these are resampled
        pyro.sample("s1", LLM(LM, kept[0], max_tokens=1))
        accept("a1", REWARD, kept[0])
        pyro.factor("f", torch.where(torch.as_tensor(kept[0].texts == "a"), 0.0, -3.0))
        pyro.sample("s2", LLM(LM, state, max_tokens=1))

    with pytest.raises(ReplayError, match=r"parameter 'state' of site 's1'.*its rows differ"):
        run(model)


@MODES
def test_another_kind_of_distribution_on_replay(particles):
    counter = count()

    def drift(state):
        return LLM(LM, state, max_tokens=1) if next(counter) < 1 else NextToken(LM, state)

    with pytest.raises(ReplayError, match=r"distribution of site 's0' was NextToken, and LLM at first"):
        run(steps(drift), particles)


@MODES
@pytest.mark.parametrize(
    ("append", "law"),
    [
        ("append", lambda state: LLM(LM, state, max_tokens=2, temperature=0.7, top_k=2)),
        ("append_token", lambda state: NextToken(LM, state, top_p=0.9)),
        ("append_token", lambda state: PoweredNextToken(LM, state, 2)),
        ("append_token", lambda state: ConstrainedNextToken(LM, state, torch.tensor([True, False, True]))),
    ],
)
def test_programs_that_repeat_themselves_run(append, law, particles):
    """Whatever the padding of the texts that are left, and however often they are resampled."""
    for seed in range(5):
        posterior = run(steps(law, append=append, num_steps=5), particles, seed=seed, num_runs=2)
        assert posterior.stats.resampled.any()


def two_texts(written, first="s"):
    """A draft, and a critique whose prompt is made from it by `written`."""

    def model():
        draft = LM.prompt("q")
        draft = draft.append(pyro.sample(first, LLM(LM, draft, max_tokens=2)))
        critique = LM.prompt(f"review: {written(draft)}")
        critique = critique.append(pyro.sample("critique", LLM(LM, critique, max_tokens=1)))
        accept("accepted", REWARD, critique)
        return critique

    return model


@pytest.mark.parametrize("algorithm", [SMC, Importance, SelfConsistency])
@pytest.mark.parametrize(
    "written",
    [
        lambda draft: draft.texts.tolist(),
        lambda draft: draft.tokens.tolist(),
        lambda draft: draft.texts.flat[0],
        lambda draft: str(draft.texts[0]),
        lambda draft: int(draft.lengths[0]),
    ],
)
def test_a_prompt_made_from_some_particles_where_nothing_is_resampled(written, algorithm):
    options = {} if algorithm is SelfConsistency else {"particles": "vectorized"}
    pyro.set_rng_seed(4)
    with pytest.raises(ReplayError, match=r"prompt of site 'critique' is one for all(.|\n)*particles=\"scalar\""):
        algorithm(two_texts(written), 12, progress=False, **options).run()


def test_a_prompt_made_from_some_particles_after_many_replays():
    """When laws are no longer compared."""

    def model():
        draft = LM.prompt("q")
        for t in range(5):
            draft = draft.append(pyro.sample(f"s{t}", LLM(LM, draft, max_tokens=1)))
            pyro.factor(f"f{t}", torch.as_tensor(draft.lengths * 0.1))
            pyro.sample(f"n{t}", dist.Normal(0.0, 1.0))
        critique = LM.prompt(f"review: {draft.texts.tolist()}")
        return critique.append(pyro.sample("critique", LLM(LM, critique, max_tokens=1)))

    with pytest.raises(ReplayError, match="'critique'"):
        run(model)


@pytest.mark.parametrize("shared", [lambda x: float(x[0]), lambda x: x.abs().tolist()[0]])
def test_a_temperature_made_from_some_particles(shared):
    def model():
        x = pyro.sample("x", dist.Uniform(0.5, 1.5))
        state = LM.prompt("q")
        return state.append(pyro.sample("s", LLM(LM, state, max_tokens=2, temperature=shared(x))))

    with pytest.raises(ReplayError, match="The temperature of site 's'"):
        run(model)
    with pytest.raises(ReplayError, match="The temperature of site 's'"):
        pyro.set_rng_seed(0)
        ParticleGibbs(model, 6, 3, progress=False).run()


def test_several_prompts_that_all_particles_may_share():
    """They are looked at in other orders of the particles, and nothing comes of it; the model works no more."""
    executions, critiques = count(), two_texts(lambda draft: "it")

    def model():
        next(executions)
        return critiques()

    posterior = run(model, ess_threshold=0.0)
    assert posterior.returns.prompt == "review: it" and next(executions) == 1 + 3
    tokens = posterior.samples["s"], posterior.samples["critique"]
    assert posterior.cost.lm_tokens_sampled == sum(int((value != -1).sum()) for value in tokens)
    executions = count()
    plain = steps(lambda state: LLM(LM, state, max_tokens=1))

    def single():
        next(executions)
        return plain()

    run(single, ess_threshold=0.0)
    assert next(executions) == 1, "a program of one prompt is not executed again"


def test_each_particle_may_have_its_own_prompt():
    posterior = run(two_texts(lambda draft: draft.texts.item()), "scalar")
    prompts = [state.prompt for state in posterior.returns.flat]
    drafts = [LM.decode([token for token in row if token >= 0]) for row in posterior.samples["s"][0].tolist()]
    assert prompts == [f"review: {draft}" for draft in drafts] and len(set(prompts)) > 1


@pytest.mark.parametrize(
    "branch",
    [
        lambda texts: 1 if texts == "a" else 2,
        lambda texts: 1 if texts else 2,
        lambda texts: 1 if "a" in texts else 2,
        lambda texts: texts.item(),
        lambda texts: f"{texts}",
        lambda texts: "prompt: " + str(texts),
    ],
)
def test_branches_on_texts(branch):
    def model():
        state = LM.prompt("q")
        state = state.append(pyro.sample("s", LLM(LM, state, max_tokens=1)))
        branch(state.texts)
        return state

    for algorithm in (SMC, Importance):
        with pytest.raises(BatchedBranchError, match='particles="scalar"'):
            run(model, algorithm=algorithm)
        posterior = run(model, "scalar", algorithm=algorithm)
    assert "'" in f"{posterior.texts}" and posterior.texts[0, 0] in posterior.texts


@MODES
@pytest.mark.parametrize("observed", [None, torch.tensor(1.0)])
def test_a_function_is_no_distribution(particles, observed):
    class Draw:
        def __call__(self):
            return torch.tensor(1.0)

    with pytest.raises(NoDistributionError, match=r"Site 'x' is given .*no distribution.*log_prob"):
        run(lambda: pyro.sample("x", Draw(), obs=observed), particles)
