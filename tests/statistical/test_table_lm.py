"""SMC on language models that can be enumerated, with rewards as observed Bernoulli factors."""

import math

import pyro
import pytest
import torch

from pyro_llm.distributions import LLM, NextToken, accept
from pyro_llm.handlers.loop import loop
from pyro_llm.infer import SMC, Importance
from pyro_llm.lm import TableLM
from pyro_llm.lm.state import PAD
from pyro_llm.rewards import FunctionReward

THRESHOLDS = pytest.mark.parametrize("ess_threshold", [0, 0.5, 1.0])
PARTICLES = pytest.mark.parametrize("num_particles", [1, 2, 5])

ROWS = {"": [0.5, 0.2, 0.2, 0.1], "a": [0.1, 0.4, 0.2, 0.3], "b": [0.3, 0.3, 0.3, 0.1], "c": [0.6, 0.1, 0.1, 0.2]}


def table_lm():
    vocabulary = ["a", "b", "c", "<eos>"]
    return TableLM(lambda tokens: ROWS[vocabulary[tokens[-1]] if tokens else ""], vocabulary, eos_token_id=3)


def acceptance(text):
    """Asymmetric, never 0 or 1, and dependent on the whole text."""
    return 0.15 + 0.7 * ((3 * text.count("a") + 5 * text.count("b") + 2 * len(text)) % 7) / 7


def outcome(text):
    return 0.9 if text.endswith("b") else 0.2


def exact_posterior(lm, steps_of, max_tokens):
    """Evidence, and the posterior probability of each sequence of tokens: factors after each of its steps."""
    joint = {}
    for tokens, log_prob in lm.enumerate(max_tokens):
        factors = [acceptance(lm.decode(tokens[:end])) for end in steps_of(lm, tokens)]
        joint[tokens] = math.exp(log_prob) * math.prod(factors)
    evidence = sum(joint.values())
    return evidence, {tokens: probability / evidence for tokens, probability in joint.items()}


def each_token(lm, tokens):
    return range(1, len(tokens) + 1)


def each_b(lm, tokens):
    """Ends of steps that a "b", EOS or a second token ends."""
    ends, start = [], 0
    for position, token in enumerate(tokens, start=1):
        if token in (1, 3) or position - start == 2 or position == len(tokens):
            ends.append(position)
            start = position
    return ends


def token_by_token(lm, reward):
    state = lm.prompt("say")
    for t in range(5):
        state = state.append_token(pyro.sample(f"token_{t}", NextToken(lm, state)))
        accept(f"accept_{t}", reward, state)
        if state.finished.all():
            break
    return state


def token_loop(lm, reward):
    program = {"text": lm.prompt("say")}
    for t in loop("tokens", 5, program):
        program["text"] = program["text"].append_token(pyro.sample(f"token_{t}", NextToken(lm, program["text"])))
        accept(f"accept_{t}", reward, program["text"])
    return program["text"]


def check_against(posterior, exact, assert_mean, assert_posterior_mean, max_tokens):
    """Evidence, lengths and first tokens against the enumeration."""
    evidence, probabilities = exact
    assert_mean(posterior.log_evidence.exp(), evidence)
    lengths, firsts = torch.zeros(max_tokens + 1).double(), torch.zeros(4).double()
    for tokens, probability in probabilities.items():
        lengths[len(tokens)] += probability
        firsts[tokens[0]] += probability
    state = posterior.returns
    one_hot = torch.nn.functional.one_hot
    assert_posterior_mean(posterior, one_hot(state.lengths, max_tokens + 1), lengths)
    assert_posterior_mean(posterior, one_hot(state.tokens[..., 0], 4), firsts)


@PARTICLES
@THRESHOLDS
@pytest.mark.parametrize("program", [token_by_token, token_loop])
def test_tokens(program, num_particles, ess_threshold, assert_mean, assert_posterior_mean):
    """Null: E[Z-hat] = Z, and the posterior is the enumerated one. Four tokens, five steps, 2,000 runs.

    At most 11 comparisons by 4 standard errors: false alarms 7e-4 a case at most.
    """
    lm = table_lm()
    posterior = SMC(program, num_particles, num_runs=2000, ess_threshold=ess_threshold, progress=False).run(
        lm, FunctionReward(acceptance)
    )
    exact = exact_posterior(lm, each_token, 5)
    check_against(posterior, exact, assert_mean, assert_posterior_mean, max_tokens=5)


@PARTICLES
@THRESHOLDS
def test_ragged_steps(num_particles, ess_threshold, assert_mean, assert_posterior_mean):
    """Null: as above, with steps of one or two tokens. False alarms 7e-4 a case at most.

    Two steps of at most two tokens: the program may end after 1 to 4 tokens, so the enumeration is by steps.
    """
    lm = table_lm()

    def program(reward):
        state = lm.prompt("")
        for t in range(2):
            state = state.append(pyro.sample(f"step_{t}", LLM(lm, state, stop="b", max_tokens=2)))
            accept(f"accept_{t}", reward, state)
        return state

    joint = {}

    def extend(tokens, log_prob, steps):
        if steps == 2 or (tokens and tokens[-1] == 3):
            factors = [acceptance(lm.decode(tokens[:end])) for end in each_b(lm, tokens)]
            joint[tokens] = math.exp(log_prob) * math.prod(factors)
            return
        for step, step_log_prob in steps_after(lm, tokens):
            extend(tokens + step, log_prob + step_log_prob, steps + 1)

    extend((), 0.0, 0)
    evidence = sum(joint.values())
    exact = evidence, {tokens: probability / evidence for tokens, probability in joint.items()}
    posterior = SMC(program, num_particles, num_runs=2000, ess_threshold=ess_threshold, progress=False).run(
        FunctionReward(acceptance)
    )
    check_against(posterior, exact, assert_mean, assert_posterior_mean, max_tokens=4)


def steps_after(lm, tokens):
    """Steps of at most two tokens that "b" or EOS ends, with their log-probabilities."""
    for first, log_first in enumerate(lm.log_probs(tokens).tolist()):
        if first in (1, 3):
            yield (first,), log_first
            continue
        for second, log_second in enumerate(lm.log_probs((*tokens, first)).tolist()):
            yield (first, second), log_first + log_second


def short_or_long(tokens):
    """Half of the texts end at step 1, the others at step 5."""
    if not tokens:
        return [0.4, 0.6, 0.0]
    return [0.0, 1.0, 0.0] if tokens[-1] == 1 and len(tokens) < 5 else [0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("particles", "num_particles", "num_runs", "ess_threshold"),
    [("vectorized", n, 2000, threshold) for n in (1, 2, 5) for threshold in (0, 0.5, 1.0)]
    + [("scalar", 3, 60, 0), ("scalar", 3, 60, 0.8), ("scalar", 3, 60, 1.0)],
)
def test_early_finishers(particles, num_particles, num_runs, ess_threshold, assert_mean, assert_posterior_mean):
    """Null: a text that ends at step 1 has one factor, however many steps others take.

    The long texts are accepted with probability 0.8 at each of five steps, the short one with 0.5 at its only step;
    then all are judged once more by their outcome. False alarms 1.3e-4 a case.
    """
    lm = TableLM(short_or_long, ["s", "l", "<eos>"], eos_token_id=2)
    process = FunctionReward(lambda text: 0.5 if text == "s" else 0.8)
    final = FunctionReward(lambda text: 0.3 if text == "s" else 0.7)

    def program():
        state = lm.prompt("")
        for t in range(5):
            state = state.append(pyro.sample(f"step_{t}", LLM(lm, state, max_tokens=1)))
            state = state.finish((state.tokens == 0).any(-1))
            accept(f"accept_{t}", process, state)
        accept("outcome", final, state)
        return state

    short, long = 0.4 * 0.5 * 0.3, 0.6 * 0.8**5 * 0.7
    options = {"num_runs": num_runs, "ess_threshold": ess_threshold, "particles": particles, "progress": False}
    posterior = SMC(program, num_particles, **options).run()
    assert_mean(posterior.log_evidence.exp(), short + long)
    assert_posterior_mean(posterior, posterior.samples["step_0"][..., 0] == 0, short / (short + long))


def test_program_that_ends_when_all_texts_have(assert_mean):
    """Null: E[Z-hat] = Z when replays end earlier than the execution before; 150 single runs of two particles.

    In a batch some run always goes on; runs by themselves end early, also on replay. False alarms 6e-5.
    """
    lm, reward = table_lm(), FunctionReward(acceptance)
    evidence, _ = exact_posterior(lm, each_token, 5)
    runs = [SMC(token_by_token, 2, ess_threshold=1.0, progress=False).run(lm, reward) for _ in range(150)]
    assert min(posterior.returns.tokens.shape[-1] for posterior in runs) == 1
    assert_mean(torch.cat([posterior.log_evidence for posterior in runs]).exp(), evidence)


def test_importance_and_two_rewards(assert_mean, assert_posterior_mean):
    """Null: with another reward on the whole text, the posterior is the enumerated one. False alarms 7e-4."""
    lm, reward, last = table_lm(), FunctionReward(acceptance), FunctionReward(outcome)

    def program():
        state = token_by_token(lm, reward)
        accept("outcome", last, state)
        return state

    evidence_of_steps, probabilities = exact_posterior(lm, each_token, 5)
    joint = {
        tokens: evidence_of_steps * probability * outcome(lm.decode(tokens))
        for tokens, probability in probabilities.items()
    }
    evidence = sum(joint.values())
    exact = evidence, {tokens: probability / evidence for tokens, probability in joint.items()}
    for algorithm in (
        Importance(program, 4, num_runs=2000, progress=False),
        SMC(program, 4, num_runs=2000, progress=False),
    ):
        check_against(algorithm.run(), exact, assert_mean, assert_posterior_mean, max_tokens=5)


def test_log_prior_is_that_of_the_language_model():
    lm = table_lm()
    posterior = SMC(token_by_token, 5, num_runs=4, ess_threshold=1.0, progress=False).run(
        lm, FunctionReward(acceptance)
    )
    exact = dict(lm.enumerate(5))
    for run in range(4):
        for particle in range(5):
            tokens = tuple(token for token in posterior.returns.tokens[run, particle].tolist() if token != PAD)
            assert posterior.log_prior[run, particle].item() == pytest.approx(exact[tokens])
            factors = sum(math.log(acceptance(lm.decode(tokens[:end]))) for end in each_token(lm, tokens))
            assert posterior.log_likelihood[run, particle].item() == pytest.approx(factors)


def test_a_reward_made_in_the_loop_is_the_same_reward():
    """Texts that have ended have their factors once: a constant reward of a half gives Z = E[2^-steps] exactly."""
    lm = table_lm()

    def model():
        state = lm.prompt("")
        for t in range(3):
            state = state.append(pyro.sample(f"step_{t}", LLM(lm, state, max_tokens=1)))
            accept(f"accept_{t}", FunctionReward(lambda text: 0.5), state)
        return state

    evidence = sum(math.exp(log_prob) * 0.5 ** len(tokens) for tokens, log_prob in lm.enumerate(3))
    posterior = Importance(model, num_particles=1, num_runs=20_000, progress=False).run()
    estimates = posterior.log_evidence.exp()
    assert abs(estimates.mean() - evidence) < 4 * estimates.std() / 20_000**0.5


def test_a_second_program_on_the_returned_texts_has_its_factors():
    lm = table_lm()
    reward = FunctionReward(lambda text: 0.5)

    def write():
        state = lm.prompt("")
        for t in range(2):
            state = state.append(pyro.sample(f"step_{t}", LLM(lm, state, max_tokens=1)))
            accept(f"accept_{t}", reward, state)
        return state

    texts = SMC(write, num_particles=4, progress=False).run().returns.map_tensors(lambda tensor, _: tensor[0])
    rescored = Importance(lambda: accept("again", reward, texts), num_particles=4, progress=False).run()
    assert rescored.log_evidence.item() == pytest.approx(math.log(0.5))


def test_scalar_programs_may_return_texts_of_several_models():
    other = TableLM(lambda tokens: [0.5, 0.3, 0.2], ["x", "y", "<eos>"], eos_token_id=2)
    lms = [table_lm(), other]

    def choose():
        lm = lms[int(pyro.sample("which", pyro.distributions.Bernoulli(0.5)))]
        state = lm.prompt("")
        return state.append(pyro.sample("step", LLM(lm, state, max_tokens=3)))

    posterior = Importance(choose, num_particles=40, particles="scalar", progress=False).run()
    chosen = posterior.samples["which"][0]
    for state, which in zip(posterior.returns[0], chosen, strict=True):
        assert set(str(state.texts)) <= set("xy" if which else "abc")
    assert posterior.texts.tolist() == [[str(state.texts) for state in posterior.returns[0]]]
    marginal = posterior.marginal(lambda text: set(text) <= set("xy"))
    assert marginal[True] >= float(chosen.mean()) - 1e-6, "an empty text is of both"
    assert sum(marginal.values()) == pytest.approx(1.0)
