"""A process reward with a key-value cache equals fresh float32 forward passes, whatever happens in between."""

import random
from itertools import pairwise

import pytest
import torch

from pyro_llm import zoo
from pyro_llm.errors import OptionError, OutOfMemoryError
from pyro_llm.infer import SMC
from pyro_llm.lm import PAD, load_lm
from pyro_llm.lm.memory import unique_bytes
from pyro_llm.models import ReasoningSSM
from pyro_llm.rewards import load_reward
from pyro_llm.rewards.head import Solution
from pyro_llm.run_scope import run_scope

TOLERANCE = 1e-4
PROBLEM = "abca.cab?bacca.abba?accab.abca"
CACHED = ["qwen2", "llama", "gpt2", "gemma2", "gemma3"]
WHOLE = ["bert", "bidirectional gemma3", "lfm2"]  # encoders, and a model with recurrent states


def gather(state, rows):
    return state.map_tensors(lambda tensor, event_dim: tensor[torch.as_tensor(rows)])


def random_steps(lm, rng, steps=8, rows=7):
    """States of ragged steps, some ended by EOS, resampled after each; clones and fresh forks among them."""
    state = lm.prompt(PROBLEM).expand((rows,))
    for _ in range(steps):
        step = torch.full((len(state.finished), 6), PAD)
        for row in (~state.finished).nonzero().squeeze(-1).tolist():
            letters = rng.choices(range(5), k=rng.choice([0, 1, 1, 2, 5]))
            step[row, : len(letters)] = torch.tensor(letters, dtype=torch.long)
            if letters and rng.random() < 0.1:
                step[row, len(letters)] = lm.eos_token_ids[0]
        state = state.append(step)
        yield state
        writing = (~state.finished).nonzero().squeeze(-1).tolist() or [0]
        parents = rng.choices(range(len(state.finished)), k=rng.randint(3, 9))
        state = gather(state, [*parents, rng.choice(writing)])


def expected(reward, fresh, state):
    return torch.tensor([fresh(reward, item) for item in reward.items(state)])


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("architecture", CACHED + WHOLE)
def test_scores_are_those_of_fresh_forward_passes(architecture, rewards_of, letter_lm, fresh, seed):
    reward, rng, re_encoded, scored = rewards_of(architecture, batch_size=3), random.Random(seed), 0, set()
    with run_scope() as scope:
        for state in random_steps(letter_lm, rng):
            new = set(reward.items(state)) - scored
            scored |= new
            re_encoded += sum(map(len, {tuple(reward.encode(item)) for item in new}))
            torch.testing.assert_close(reward(state), expected(reward, fresh, state), rtol=0, atol=TOLERANCE)
    assert any(item.ended for item in scored) and not all(item.ended for item in scored)
    assert len({round(fresh(reward, item), 2) for item in scored}) > 10
    if architecture in WHOLE:
        assert scope.cost.reward_tokens == re_encoded
    else:
        assert scope.cost.reward_tokens * 4 < re_encoded


def test_what_is_appended_may_change_the_tokens_before_it(rewards_of, letter_lm, fresh):
    """`...a` then `...ab`: the last token of the first text is none of the second's."""
    reward = rewards_of("llama")
    with run_scope() as scope:
        before, rows = 0, []
        for text in ("cc.a", "cc.ab", "cc.abca", "cc.abc", "cc.abcc", "b", "bb", "ba"):
            solution = Solution(PROBLEM, text, ended=False)
            rows.append(reward.encode(solution))
            (value,) = reward.score([solution])
            assert abs(value - fresh(reward, solution)) < TOLERANCE
            shared = max((common(rows[-1], row) for row in rows[:-1]), default=0)
            assert scope.cost.reward_tokens - before == len(rows[-1]) - min(shared, len(rows[-1]) - 1)
            before = scope.cost.reward_tokens
    changed = [common(row, after) < len(row) for row, after in pairwise(rows)]
    assert changed == [True, True, True, False, True, False, True]
    assert common(rows[4], rows[5]) < len(reward.encode(Solution(PROBLEM, "", False))), "within the problem"


def common(one, other):
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def test_each_problem_is_read_once_and_several_may_share_a_batch(rewards_of, fresh):
    reward, problems = rewards_of("qwen2"), [PROBLEM, "b" + PROBLEM, PROBLEM[::-1]]
    first = [Solution(problem, text, False) for problem in problems for text in ("a.", "b.", "c.")]
    with run_scope() as scope:
        scores = reward.score(first)
        assert scope.cost.reward_calls == 4  # each problem, and what follows them all
        assert scope.cost.reward_tokens <= sum(len(reward.encode(Solution(p, "", False))) + 3 * 3 for p in problems)
        second = [Solution(item.problem, item.text + "cc?", item.text == "a.") for item in first]
        before = scope.cost.reward_tokens
        scores += reward.score(second)
        assert scope.cost.reward_calls == 5
        assert scope.cost.reward_tokens - before <= 9 * 4 + 3
    torch.testing.assert_close(scores, [fresh(reward, item) for item in first + second], rtol=0, atol=TOLERANCE)


def test_runs_share_nothing_and_texts_with_equal_tokens_are_read_once(rewards_of, letter_lm):
    reward = rewards_of("llama")
    solutions = [Solution(PROBLEM, "a", False), Solution(PROBLEM + "a", "", False)]
    costs = []
    for _ in range(2):
        with run_scope() as scope:
            one, other = reward.score(solutions)
        costs.append(scope.cost.reward_tokens)
        assert one == other
    assert costs == [len(reward.encode(solutions[0]))] * 2


@pytest.mark.parametrize("memory_budget", [1, 40_000, 10**9])
def test_forgotten_texts_are_read_anew(rewards_of, letter_lm, fresh, memory_budget):
    reward = rewards_of("llama", batch_size=2, memory_budget=memory_budget)
    with run_scope() as scope:
        for state in random_steps(letter_lm, random.Random(3)):
            torch.testing.assert_close(reward(state), expected(reward, fresh, state), rtol=0, atol=TOLERANCE)
    unbounded = rewards_of("llama", batch_size=2)
    with run_scope() as roomy:
        for state in random_steps(letter_lm, random.Random(3)):
            unbounded(state)
    assert (scope.cost.reward_tokens > roomy.cost.reward_tokens) == (memory_budget < 10**9)


@pytest.fixture(scope="module")
def abacus():
    return load_lm("abacus"), load_reward("abacus")


def test_smc_of_eight_steps_forwards_four_times_fewer_tokens(abacus, fresh, monkeypatch):
    """The target of the requirement, on the embedded models: both counts are of one run."""
    lm, reward = abacus
    problem = max(zoo.problems(), key=lambda problem: problem["steps"])["problem"]
    scored = []
    score = reward.score
    monkeypatch.setattr(reward, "score", lambda items: scored.append((list(items), score(items))) or scored[-1][1])
    program = ReasoningSSM(lm, reward, max_steps=8, stop="\n", max_tokens=32)
    posterior = SMC(program, num_particles=16, ess_threshold=1.0).run(problem)
    assert len(scored) == 8
    assert posterior.stats.resampled.sum() >= 4
    re_encoded = sum(len(reward.encode(item)) for items, _ in scored for item in items)
    assert 4 * posterior.cost.reward_tokens < re_encoded
    for items, values in scored:
        torch.testing.assert_close(values, [fresh(reward, item) for item in items], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("architecture", "copies"), [("llama", 1), ("qwen2", 1), ("gemma3", 1), ("gemma2", 24)])
def test_a_problem_is_stored_once_where_the_attention_allows_it(rewards_of, architecture, copies):
    """Gemma 2 caps its scores, which a merge of two attentions cannot follow: there every row has its copy."""
    reward = rewards_of(architecture)
    solutions = [Solution(PROBLEM * 5, f"{one}.{other}.", False) for one in "abc?." for other in "abc?."]
    with run_scope():
        reward.score(solutions[:1])  # as when all particles begin alike
        reward.score(solutions)
        beginnings = reward._reader()._beginnings
        layers, heads, head_dim = reward.model.config.num_hidden_layers, 2, 8
        problem = len(reward.encode(solutions[0]._replace(text=""))) * 2 * 4 * layers * heads * head_dim
        held = beginnings.kv_bytes()
    assert copies * 0.9 < held / problem < copies + 5


def test_what_is_kept_goes_when_memory_runs_out(rewards_of, letter_lm, fresh, monkeypatch):
    """The device holds so many bytes and no more: those of earlier texts must not keep a later one from being read."""
    reward = rewards_of("llama")
    with run_scope():
        states = list(random_steps(letter_lm, random.Random(0), steps=4))
        reward(states[0])
        reader = reward._reader()
        forward, kept = reader._model.forward, reader._beginnings.kv_bytes()
        assert kept > 0

        def scarce(*args):
            if reader._beginnings.kv_bytes() >= kept:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return forward(*args)

        monkeypatch.setattr(reader._model, "forward", scarce)
        torch.testing.assert_close(reward(states[1]), expected(reward, fresh, states[1]), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("architecture", ["llama", "bert"])
def test_an_out_of_memory_error_halves_the_rows_and_goes_on(rewards_of, letter_lm, fresh, architecture):
    reward = rewards_of(architecture)
    failures = []

    def fail(_, args, kwargs):
        tokens = kwargs.get("input_ids", *args[:1])
        if tokens.shape[0] > 3:
            failures.append(tokens.shape[0])
            raise torch.OutOfMemoryError("CUDA out of memory")

    states = list(random_steps(letter_lm, random.Random(0), steps=5))
    hook = reward.model.register_forward_pre_hook(fail, with_kwargs=True)
    try:
        with run_scope():
            for state in states:
                torch.testing.assert_close(reward(state), expected(reward, fresh, state), rtol=0, atol=TOLERANCE)
        assert 1 <= len(failures) <= 3, "it learns"
        assert reward.memory.most_rows in (2, 3)
    finally:
        hook.remove()
    hook = reward.model.register_forward_pre_hook(lambda *_: fail(None, (), {"input_ids": torch.empty(4, 1)}))
    try:
        with pytest.raises(OutOfMemoryError, match=f"'{architecture}' to go on with a single text"):
            reward(states[0])
    finally:
        hook.remove()


@pytest.fixture
def passes(monkeypatch):
    """The rows of each pass of a cached reader, and the bytes that were held in it: what is stored, rows and logits."""
    seen = []

    def watch(reader):
        forward = reader._model.forward

        def watched(kept, tokens, begin):
            output = forward(kept, tokens, begin)
            stored = [tensor for batch in reader._beginnings._batches for tensor in batch.rows.tensors()]
            seen.append((len(tokens), unique_bytes([*stored, *kept.tensors(), output.logits])))
            return output

        monkeypatch.setattr(reader._model, "forward", watched)
        return seen

    return watch


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_no_pass_holds_more_than_the_memory_budget(rewards_of, letter_lm, fresh, passes, architecture):
    """Of two rows at least: one is always read, beside what is stored, which has half of the budget."""
    states = list(random_steps(letter_lm, random.Random(1), steps=5))
    unbounded = rewards_of(architecture)
    unbounded(states[0])
    longest = max(len(unbounded.encode(item)) for state in states for item in unbounded.items(state))
    row, held_at_most = unbounded._cached_model.row_size.bytes(longest, longest), []
    for rows in (2, 3, 4, 1000):
        bounded = rewards_of(architecture, memory_budget=rows * row)
        with run_scope() as scope:
            seen = passes(bounded._reader())
            for state in states:
                torch.testing.assert_close(bounded(state), expected(bounded, fresh, state), rtol=0, atol=TOLERANCE)
            held = bounded.memory.stored_bytes()
        held_at_most.append(max(held for _, held in seen))
        assert held_at_most[-1] <= rows * row
        assert 0 < scope.cost.peak_memory_bytes <= held_at_most[-1]
        assert rows * row / 2 >= scope.held_bytes == held
    assert held > 0 and held_at_most[-1] > 4 * row, "without a bound they hold more"


def test_a_memory_budget_decides_how_many_rows_are_read_at_once(rewards_of, fresh, passes):
    rng = random.Random(2)
    solutions = [Solution("a.", "".join(rng.choices("abc.", k=20)), False) for _ in range(9)]  # too short to be apart
    most = []
    for rows in (1, 3, 1000):
        reward = rewards_of("llama")
        reward.score(solutions[:1])
        shortest = min(len(reward.encode(solution)) for solution in solutions)
        row = reward._cached_model.row_size.bytes(shortest, 0)
        bounded = rewards_of("llama", memory_budget=(rows + 1) * row - 1)
        with run_scope():
            seen = passes(bounded._reader())
            scores = bounded.score(solutions)
        torch.testing.assert_close(scores, [fresh(reward, item) for item in solutions], rtol=0, atol=TOLERANCE)
        most.append(max(count for count, _ in seen))
        assert most[-1] <= rows
    assert most == [1, 3, 9]


def test_a_budget_that_is_none(rewards_of):
    with pytest.raises(OptionError, match="memory_budget=0"):
        rewards_of("llama", memory_budget=0)
