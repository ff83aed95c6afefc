"""Tokens that a language model read without having drawn them: the prompt once, given text, what is read once more."""

import pyro
import pytest
import torch

from pyro_llm import Budget, Prices
from pyro_llm.distributions import LLM, PoweredNextToken
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
    SelfConsistency,
)
from pyro_llm.lm import HFLanguageModel
from pyro_llm.models import ReasoningSSM
from pyro_llm.rewards import FunctionReward, JudgeReward
from pyro_llm.run_scope import RunScope, run_scope

PROMPT = "tom has 4 pens and 5"  # a token for each character
REWARD = FunctionReward(lambda text: (1 + text.count("a")) / (2 + len(text)))
ALGORITHMS = {
    "SMC": SMC,
    "islands": lambda model, n: SMC(model, n, num_runs=3, ess_threshold=1.0),
    "Importance": Importance,
    "SelfConsistency": SelfConsistency,
    "BestOfN": BestOfN,
    "BeamSearch": lambda model, n: BeamSearch(model, n, beam_width=1 if n < 4 else 4),
    "DVTS": lambda model, n: DVTS(model, n, beam_width=1 if n < 4 else 4),
    "EntropicSMC": lambda model, n: EntropicSMC(model, n, max_steps=3),
}


def reasoning(lm, **options):
    return ReasoningSSM(lm, REWARD, **{"max_steps": 3, "stop": "a", "max_tokens": 6} | options)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("particles", [1, 8, 64, 128])
def test_a_prompt_is_read_once_whatever_the_number_of_texts(llama_lm, table_lm, algorithm, particles):
    for lm in (llama_lm, table_lm):
        prompt = len(lm.prompt(PROMPT).prompt_tokens)
        assert prompt == (len(PROMPT) if lm is llama_lm else 0)  # a table does not read its prompt
        posterior = ALGORITHMS[algorithm](reasoning(lm), particles).run(PROMPT)
        cost = posterior.cost
        assert cost.lm_tokens_read == prompt
        assert cost.lm_tokens == prompt + cost.lm_tokens_sampled
        if particles == 128:
            assert cost.lm_tokens_forwarded < prompt + cost.lm_tokens_sampled, "some texts ended with EOS"


def test_greedy(llama_lm):
    cost = Greedy(reasoning(llama_lm)).run(PROMPT).cost
    assert cost.lm_tokens_read == len(PROMPT) < cost.lm_tokens


def test_problems_in_one_batch_read_their_own_prompts(llama_lm):
    problems = ["abc", PROMPT, "q", "abc"]
    for posterior, problem in zip(SMC(reasoning(llama_lm), 9).run_each(problems, concurrent=4), problems, strict=True):
        assert posterior.cost.lm_tokens_read == len(problem)


def test_the_money_for_a_prompt(llama_lm):
    for particles in (1, 128):
        cost = SMC(reasoning(llama_lm), particles).run(PROMPT).cost
        assert Prices(lm_input=1e6).dollars(cost) == len(PROMPT)
        expected = 2 * len(PROMPT) + 3 * cost.lm_tokens_sampled
        assert Prices(lm_input=2e6, lm_output=3e6).dollars(cost) == pytest.approx(expected)


@pytest.mark.parametrize("item", ["lm_tokens", "dollars"])
def test_budgets_count_the_prompt(llama_lm, item):
    prices = Prices(lm_input=1e6, lm_output=1e6) if item == "dollars" else None
    with run_scope(RunScope(budget=Budget(**{item: len(PROMPT) + 8}, prices=prices))) as scope:
        state = llama_lm.prompt(PROMPT).expand((8,))
        state.session.next_log_probs(state.prefix(), LLM(llama_lm, state, max_tokens=1).decoding)
        assert scope.allows(lm_tokens_sampled=8) and not scope.allows(lm_tokens_sampled=9)
    with pytest.warns(match="budget"):
        posterior = SMC(reasoning(llama_lm), 64, budget=Budget(**{item: 300}, prices=prices)).run(PROMPT)
    assert posterior.stopped_by == item
    assert posterior.cost.lm_tokens_read == len(PROMPT)
    assert 300 - 64 < posterior.cost.lm_tokens <= 300


@pytest.mark.parametrize("lm_name", ["llama_lm", "table_lm"])
def test_given_text_is_read(lm_name, request):
    lm = request.getfixturevalue(lm_name)
    prompt, given = len(lm.prompt("ab").prompt_tokens), torch.tensor(lm.encode("abab"))

    def observe():
        state = lm.prompt("ab")
        state = state.append(pyro.sample("given", LLM(lm, state, max_tokens=4), obs=given))
        return state.append(pyro.sample("drawn", LLM(lm, state, max_tokens=3)))

    for particles in (1, 16):
        assert Importance(observe, particles).run().cost.lm_tokens_read == prompt + 4


@pytest.mark.parametrize("lm_name", ["llama_lm", "table_lm"])
def test_tokens_drawn_from_logits_are_not_read_when_they_are_forwarded(lm_name, request):
    """As by `PoweredNextToken`, whose draws are forwarded by whatever asks for the next token's law."""
    lm = request.getfixturevalue(lm_name)
    prompt = len(lm.prompt("ab").prompt_tokens)

    def powered(scored=False):
        start = state = lm.prompt("ab").expand((4,))
        for index in range(3):
            state = state.append_token(pyro.sample(f"t_{index}", PoweredNextToken(lm, state, alpha=0.5)))
        begun = state
        state = state.append(pyro.sample("rest", LLM(lm, state, max_tokens=2)))
        if scored:  # by another law, from the beginning
            LLM(lm, start, max_tokens=3, temperature=2.0).log_prob(begun.tokens[..., :3])
        return state

    def cost(**options):
        pyro.set_rng_seed(3)
        with run_scope() as scope, pyro.plate("texts", 4):
            state = powered(**options)
        return state, scope.cost

    state, spent = cost()
    distinct = {tuple(row[:length]) for row in state.tokens.tolist() for length in (1, 2, 3) if row[length - 1] > 0}
    assert spent.lm_tokens_forwarded > prompt + len(distinct) / 2
    assert spent.lm_tokens_read == prompt
    state, again = cost(scored=True)
    rows = {tuple(token for token in row[:3] if token >= 0) for row in state.tokens.tolist()}
    once_more = sum(len(row) - (row[-1] in lm.eos_token_ids) for row in rows)
    assert again.lm_tokens_read == prompt + once_more


def test_what_was_forgotten_is_read(llama_model, tokenizer):
    """With hardly any memory, texts are forgotten after each step; a run without forgetting reads the prompt only."""
    free = SMC(reasoning(HFLanguageModel(llama_model, tokenizer)), 8, ess_threshold=0.9).run_each([PROMPT], seeds=[1])
    tiny = HFLanguageModel(llama_model, tokenizer, memory_budget=1)
    [cost] = [each.cost for each in SMC(reasoning(tiny), 8, ess_threshold=0.9).run_each([PROMPT], seeds=[1])]
    assert free[0].cost.lm_tokens_read == len(PROMPT)
    assert cost.lm_tokens_sampled == free[0].cost.lm_tokens_sampled
    more = cost.lm_tokens_forwarded - free[0].cost.lm_tokens_forwarded
    assert more > len(PROMPT)
    assert cost.lm_tokens_read == len(PROMPT) + more


def test_iterations_of_a_chain_read_the_prompt_once(llama_lm):
    for make in (
        lambda model: ParticleGibbs(model, 8, num_iterations=4, warmup=0),
        lambda model: ParallelTempering(model, 8, num_iterations=4, warmup=0, num_rungs=2),
    ):
        cost = make(reasoning(llama_lm, max_steps=2)).run(PROMPT).cost
        assert len(PROMPT) <= cost.lm_tokens_read < 4 * len(PROMPT)


def test_what_a_judge_reads_is_the_rewards(llama_lm):
    judge = JudgeReward(llama_lm, "{problem} {solution} {options}", yes=["y"], no=["n"])
    model = ReasoningSSM(llama_lm, judge, max_steps=2, stop="a", max_tokens=4)
    cost = SMC(model, 4).run(PROMPT).cost
    assert cost.lm_tokens_read == len(PROMPT) and cost.reward_tokens > 2 * len(PROMPT)
