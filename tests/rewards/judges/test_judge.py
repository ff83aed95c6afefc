"""Judges: the mass of every spelling, order and phrasing averaged out, on tables and on random transformers."""

import math
from contextlib import nullcontext

import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pyro_llm import load_lm
from pyro_llm.budget import Budget
from pyro_llm.errors import CapabilityError, OptionError, RewardError
from pyro_llm.lm import HFLanguageModel, TableLM
from pyro_llm.rewards import JudgeReward
from pyro_llm.rewards.judges.verbaliser import Verbaliser
from pyro_llm.run_scope import BudgetSpent, RunScope, run_scope

WORDS = ["Yes", " yes", "YES", "No", " no", "Maybe", "\n", "Yesterday", "."]
LAW = [0.2, 0.1, 0.05, 0.1, 0.05, 0.2, 0.1, 0.1, 0.1]
RUBRIC = "Problem: {problem}\nSolution: {solution}\nIs it right? {options}:"


@pytest.fixture(scope="module")
def judge_lm():
    """Letters and whole words; weights drawn so that what is asked matters."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary, merges = {letter: id for id, letter in enumerate(letters)}, []
    for word in ("Yes", "No", "ĠYes", "ĠNo"):
        for end in range(2, len(word) + 1):
            if word[:end] not in vocabulary:
                vocabulary[word[:end]] = len(vocabulary)
                merges.append((word[: end - 1], word[end - 1]))
    backend = Tokenizer(BPE(vocab=vocabulary, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        config = LlamaConfig(
            vocab_size=len(vocabulary), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=4, max_position_embeddings=256, initializer_range=0.3,
            bos_token_id=None, eos_token_id=None,
        )  # fmt: skip
        return HFLanguageModel(LlamaForCausalLM(config), tokenizer)


@pytest.fixture
def state():
    writer = TableLM(lambda tokens: [0.25] * 4, ["a", "bc", "d ", "."], eos_token_id=3)
    return writer.prompt("6 * 7?").append(torch.tensor([[0, 1, -1], [0, 1, 2], [2, 2, 2], [0, 1, -1]]))


@torch.no_grad()
def asked(lm, prompt):
    """Log-odds from a forward pass of its own: the first tokens of the spellings, written out by hand."""
    vocabulary = lm.tokenizer.get_vocab()
    log_probs = lm.model(torch.tensor([lm.tokenizer.encode(prompt)])).logits[0, -1].log_softmax(-1)
    # " YES" begins with " Y" here. Blanks, marks and line breaks before a word are tokens, and say nothing.
    yes = [vocabulary[token] for token in ("Yes", "ĠYes", "y", "Y", "ĠY")]
    no = [vocabulary[token] for token in ("No", "ĠNo", "n", "N", "ĠN")]
    return (log_probs[yes].logsumexp(-1) - log_probs[no].logsumexp(-1)).item()


def test_masses_of_all_spellings():
    lm = TableLM(lambda tokens: LAW, WORDS, eos_token_id=8)
    verbaliser = Verbaliser.of(lm, ["Yes"], ["No"])
    assert [WORDS[id] for id in verbaliser.yes] == ["Yes", " yes", "YES"]
    assert [WORDS[id] for id in verbaliser.no] == ["No", " no"]
    reward = JudgeReward(lm, RUBRIC)
    assert reward(lm.prompt("?").append(torch.tensor([[5, 8]]))).item() == pytest.approx(math.log(0.35 / 0.15))


def test_what_both_answers_begin_with_counts_for_neither():
    lm = TableLM(lambda tokens: [0.1] * 9 + [0.1], [*"YNesoyn ", "E", "."], eos_token_id=9)
    verbaliser = Verbaliser.of(lm, ["Yes"], ["No"])
    assert verbaliser.yes.tolist() == [0, 5] and verbaliser.no.tolist() == [1, 6]
    pieces = TableLM(lambda tokens: [0.5, 0.5], ["No", "pe"], eos_token_id=None)
    with pytest.raises(CapabilityError, match=r"begins one of \['Nope'\] and none of \['No'\]"):
        Verbaliser.of(pieces, ["Nope"], ["No"])


def test_a_forward_pass_for_each_prompt_gives_the_same(judge_lm, state):
    reward = JudgeReward(judge_lm, RUBRIC, batch_size=2)
    expected = [asked(judge_lm, f"Problem: 6 * 7?\nSolution: {text}\nIs it right? Yes or No:") for text in state.texts]
    assert len({round(value, 4) for value in expected}) == 3
    assert reward(state).tolist() == pytest.approx(expected, abs=1e-4)


def test_orders_and_phrasings_are_averaged(judge_lm, state):
    other = "{solution} - an answer to {problem}. Good? {options} {{}}"
    reward = JudgeReward(judge_lm, [RUBRIC, other], both_orders=True)
    for text, score in zip(state.texts, reward(state).tolist(), strict=True):
        ways = [
            f"Problem: 6 * 7?\nSolution: {text}\nIs it right? Yes or No:",
            f"Problem: 6 * 7?\nSolution: {text}\nIs it right? No or Yes:",
            f"{text} - an answer to 6 * 7?. Good? Yes or No {{}}",
            f"{text} - an answer to 6 * 7?. Good? No or Yes {{}}",
        ]
        assert score == pytest.approx(sum(asked(judge_lm, way) for way in ways) / 4, abs=1e-4)


def test_the_policy_as_judge_keeps_its_own_session_and_costs_as_a_reward(judge_lm):
    state = judge_lm.prompt("6 * 7?").append(torch.tensor([judge_lm.encode(text) for text in ("42", "43")]))
    reward = JudgeReward(judge_lm, RUBRIC)
    with run_scope() as scope:
        first = reward(state)
        spent = scope.cost.reward_tokens
        assert scope.cost.lm_calls == scope.cost.lm_tokens_forwarded == 0 < scope.cost.reward_calls
        assert reward(state).equal(first) and scope.cost.reward_tokens == spent
        reward(state.append(torch.tensor([judge_lm.encode("."), judge_lm.encode("!")])))
        shared = len(judge_lm.encode("Problem: 6 * 7?\nSolution: "))
        assert scope.cost.reward_tokens - spent <= spent - shared + 2  # the beginning is not read again
    assert first.tolist() == pytest.approx(reward(state).tolist(), abs=1e-4)


def test_bad_rubrics_and_answers(judge_lm, state):
    with pytest.raises(OptionError, match=r"has no \{solution\}"):
        JudgeReward(judge_lm, "Is {problem} solved?")
    with pytest.raises(OptionError, match=r"has fields \['answer'\]"):
        JudgeReward(judge_lm, "{answer} {solution}")
    with pytest.raises(OptionError, match="both_orders needs"):
        JudgeReward(judge_lm, "{solution} Yes or No?", both_orders=True)
    with pytest.raises(OptionError, match="cannot be read"):
        JudgeReward(judge_lm, "{solution")
    with pytest.raises(OptionError, match="words for both"):
        JudgeReward(judge_lm, RUBRIC, yes=())
    with pytest.raises(ValueError, match="batch_size"):
        JudgeReward(judge_lm, RUBRIC, batch_size=0)
    silent = TableLM(lambda tokens: [0.0] * 5 + [1.0] + [0.0] * 3, WORDS, eos_token_id=8)
    with pytest.raises(RewardError, match="probability 0, or NaN, to both answers"):
        JudgeReward(silent, RUBRIC)(state)


def test_what_a_judge_reads_is_claimed_as_the_reward_s(judge_lm, state):
    judge = JudgeReward(judge_lm, RUBRIC, both_orders=True, batch_size=2)
    with run_scope() as scope:
        judge(state)
    assert scope.cost.lm_tokens == 0
    for item, limits in (
        ("reward_calls", range(1, scope.cost.reward_calls + 1)),
        ("reward_tokens", range(20, 500, 23)),
    ):
        top = getattr(scope.cost, item)
        for limit in [*limits, top]:
            budget = Budget(lm_tokens=1, **{item: limit})  # no token of the judge is one of the language model's
            stops = pytest.raises(BudgetSpent) if limit < top else nullcontext()
            with run_scope(RunScope(budget=budget)) as limited, stops:
                judge(state)
            assert getattr(limited.cost, item) <= limit
            assert limited.stopped_by == (item if limit < top else None)
            assert limited.cost.lm_tokens == limited.cost.lm_calls == 0 and limited.kept_from_reward is None


def test_a_text_is_asked_for_once_whether_it_has_ended_or_not():
    lm = load_lm("abacus")
    judge, ids = JudgeReward(lm), lm.encode("3 + 4 = 7\n")
    state = lm.prompt("What is 3 + 4?").append(torch.tensor(ids))
    with run_scope() as scope:
        before = judge(state)
        calls = scope.cost.reward_calls
        assert judge(state.append(torch.tensor([lm.eos_token_ids[0]]))).equal(before)
        assert scope.cost.reward_calls == calls > 0
