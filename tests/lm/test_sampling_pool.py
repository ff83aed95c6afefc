"""Rows of several requests in one token loop: nothing depends on who is in the batch, or on what is forgotten."""

import copy
from contextlib import contextmanager
from weakref import WeakSet

import numpy as np
import pyro
import pytest
import torch

import pyro_llm
from pyro_llm.distributions import LLM
from pyro_llm.errors import LogitsError, OptionError, OutOfMemoryError
from pyro_llm.infer import SMC, Importance
from pyro_llm.lm import Decoding, HFLanguageModel, SamplingKey, TableLM
from pyro_llm.lm import memory as memory_of_models
from pyro_llm.lm.memory import Memory, free_bytes, is_out_of_memory
from pyro_llm.lm.reading_desk import ReadingDesk, ReadRequest
from pyro_llm.models import PowerText
from pyro_llm.rewards import FunctionReward
from pyro_llm.run_scope import run_scope

PROBLEMS = ["tom has 4 pens", "7", "anna 3", "b b b b b b b b 12", "90"]
FAVOURITE = FunctionReward(lambda text: (1 + text.count("a") + text.count("7")) / (2 + len(text)))


@pytest.fixture
def model(double_model):
    return double_model


def program(lm):
    """Steps of unequal lengths that stop at a digit; their number depends on the problem."""

    def reason(problem):
        state = lm.prompt(problem)
        for t in range(2 + len(problem) % 3):
            state = state.append(pyro.sample(f"step_{t}", LLM(lm, state, stop=("1", "5", "e"), max_tokens=6)))
            pyro_llm.accept(f"accept_{t}", FAVOURITE, state)
            if state.finished.all():
                break
        return state

    return reason


@contextmanager
def passes(model):
    """The sizes of the batches that go through a model."""
    sizes = []
    hook = model.register_forward_pre_hook(
        lambda _, args, kwargs: sizes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    try:
        yield sizes
    finally:
        hook.remove()


def run_alone(lm, seeds, num_particles=6, make=program):
    posteriors = []
    for problem, seed in zip(PROBLEMS, seeds, strict=True):
        pyro.set_rng_seed(seed)
        posteriors.append(SMC(make(lm), num_particles, ess_threshold=0.9).run(problem))
    return posteriors


def assert_same(posteriors, others):
    for posterior, other in zip(posteriors, others, strict=True):
        assert posterior.texts.tolist() == other.texts.tolist()
        torch.testing.assert_close(posterior.log_evidence, other.log_evidence, rtol=0, atol=1e-5)
        torch.testing.assert_close(posterior.log_prior, other.log_prior, rtol=0, atol=1e-5)
        assert posterior.cost.lm_tokens_sampled == other.cost.lm_tokens_sampled


class TestTogether:
    def test_results_are_those_of_runs_alone_in_far_fewer_passes(self, model, tokenizer):
        lm, seeds = HFLanguageModel(model, tokenizer), range(5)
        with passes(model) as alone:
            one_by_one = run_alone(lm, seeds)
        with passes(model) as shared:
            together = SMC(program(lm), 6, ess_threshold=0.9).run_each(PROBLEMS, seeds=seeds)
        assert_same(together, one_by_one)
        longest = max(posterior.cost.lm_calls for posterior in one_by_one)
        # All problems' tokens are drawn in as many passes as those of the longest, but for a prompt of each.
        assert len(shared) <= longest + len(PROBLEMS) < 0.6 * len(alone)
        for posterior, other in zip(together, one_by_one, strict=True):
            assert posterior.cost.lm_tokens_forwarded == other.cost.lm_tokens_forwarded

    def test_no_run_waits_for_the_slowest_particle_of_another(self, model, tokenizer):
        """Continuous batching: the passes of the longest run alone, not those of the slowest run of each step."""
        lm = HFLanguageModel(model, tokenizer)
        tokens = {}  # forwarded for the slowest particle, by problem and step

        def steps(problem):
            state = lm.prompt(problem)
            for t in range(6):
                step = pyro.sample(f"step_{t}", LLM(lm, state, stop=tuple("135aceiqtmow"), max_tokens=12))
                written = (step >= 0).sum(-1) - (step == 2).sum(-1)
                tokens.setdefault(problem, []).append(int(written.max()))
                state = state.append(step)
            return state

        with passes(model) as sizes:
            Importance(steps, 3).run_each(PROBLEMS)
        of_runs = [sum(of_steps) for of_steps in tokens.values()]
        in_lockstep = sum(max(of_run[t] for of_run in tokens.values()) for t in range(6))
        prompts = len(PROBLEMS)
        assert max(of_runs) <= len(sizes) - prompts <= max(of_runs) + 6, "the last token of a step may end by EOS"
        assert len(sizes) - prompts < 0.9 * in_lockstep

    def test_a_run_that_is_done_makes_room_for_the_next(self, model, tokenizer):
        lm = HFLanguageModel(model, tokenizer)
        steps_of = {"a": 8, "b": 1, "c": 8, "d": 1, "4": 1, "f": 8, "90": 1, "7": 8}

        def steps(problem):
            state = lm.prompt(problem)
            for t in range(steps_of[problem]):
                state = state.append(pyro.sample(f"step_{t}", LLM(lm, state, max_tokens=3)))
            return state

        alone = {}
        for problem in steps_of:
            with passes(model) as sizes:
                Importance(steps, 3).run(problem)
            alone[problem] = len(sizes)
        with passes(model) as sizes:
            Importance(steps, 3).run_each(list(steps_of), concurrent=2)
        in_pairs = sum(max(alone[one], alone[other]) for one, other in ("ab", "cd", ("4", "f"), ("90", "7")))
        assert len(sizes) < 0.8 * in_pairs

    def test_token_level_programs_share_passes_too(self, model, tokenizer):
        lm, seeds = HFLanguageModel(model, tokenizer), range(5)

        def power(lm):
            return PowerText(lm, alpha=2.0, max_tokens=5, stop=None)

        with passes(model) as alone:
            one_by_one = run_alone(lm, seeds, 3, power)
        with passes(model) as shared:
            together = SMC(power(lm), 3, ess_threshold=0.9).run_each(PROBLEMS, seeds=seeds)
        for posterior, other in zip(together, one_by_one, strict=True):
            assert posterior.texts.tolist() == other.texts.tolist()
            torch.testing.assert_close(posterior.log_evidence, other.log_evidence, rtol=0, atol=1e-5)
        assert len(shared) <= 0.6 * len(alone)

    def test_requests_of_one_session_and_scores(self, model, tokenizer):
        """Through the services themselves: slots, prompts and lengths of all kinds at once."""
        lm = HFLanguageModel(model, tokenizer)
        given = torch.tensor([[5, 6, 7, 8], [9, 8, -1, -1], [5, -1, -1, -1]])
        alone, together = [], []

        def score(problem):
            state = lm.prompt(problem).expand((3,))
            state = state.append(
                state.session.sample(state.prefix(), Decoding(4), SamplingKey(3, torch.arange(3))).tokens
            )
            scores = state.session.score(state.prefix(), given[:, : 1 + len(problem) % 4], Decoding(4))
            pyro.deterministic("scores", scores)
            results.append((problem, scores))

        results = alone
        for problem in PROBLEMS:
            score(problem)
        results = together
        SMC(score, 1).run_each(PROBLEMS)
        together = dict(together)
        for problem, scores in alone:
            torch.testing.assert_close(together[problem], scores, rtol=0, atol=1e-5)


class TestBoundedMemory:
    @pytest.mark.parametrize("rows", [1, 3])
    def test_rows_that_take_turns(self, model, tokenizer, rows):
        lm, seeds = HFLanguageModel(model, tokenizer), range(5)
        expected = run_alone(lm, seeds)
        bounded = HFLanguageModel(model, tokenizer)
        bounded.memory.most_rows = rows
        with passes(model) as sizes:
            assert_same(run_alone(bounded, seeds), expected)
            assert_same(SMC(program(bounded), 6, ess_threshold=0.9).run_each(PROBLEMS, seeds=seeds), expected)
        assert max(size for size, _ in sizes) == rows

    def test_what_is_forgotten_is_read_again(self, model, tokenizer):
        lm, seeds = HFLanguageModel(model, tokenizer), range(5)
        expected = run_alone(lm, seeds)
        tiny = HFLanguageModel(model, tokenizer, memory_budget=1)
        assert_same(SMC(program(tiny), 6, ess_threshold=0.9).run_each(PROBLEMS, seeds=seeds), expected)
        assert tiny.memory.stored_bytes() == 0
        row = tiny._cached_model.row_size.bytes(40)
        small = HFLanguageModel(model, tokenizer, memory_budget=3 * row)
        with passes(model) as sizes:
            posteriors = SMC(program(small), 6, ess_threshold=0.9).run_each(PROBLEMS, seeds=seeds)
        assert_same(posteriors, expected)
        assert 1 <= max(size for size, _ in sizes) < 30
        read = sum(posterior.cost.lm_tokens_forwarded for posterior in posteriors)
        assert read > sum(posterior.cost.lm_tokens_forwarded for posterior in expected), "something was read again"

    def test_texts_that_are_read_in_one_pass_are_within_the_budget(self, model, tokenizer, monkeypatch):
        """Of long texts with little to read and of short ones with much: in one pass all get slots for the most."""
        lm, seen = HFLanguageModel(model, tokenizer), []
        lm.memory.most_rows = 1
        requests = []
        torch.manual_seed(0)
        for written, more in [(24, 1), (1, 24), (24, 2), (2, 24)]:
            state = lm.prompt("7").append(torch.randint(3, 9, (6, written)))
            given = torch.randint(3, 9, (6, more))
            request = ReadRequest(lm.session()._decoder, state.prefix(), given, torch.zeros(6, dtype=torch.bool))
            requests.append(request)
        for request in requests:
            request.decoder.starts(request.prefix)
        lm.memory.most_rows, stored = None, lm.memory.stored_bytes()
        row = lm._cached_model.row_size.bytes(24 + 24)
        monkeypatch.setattr(lm.memory, "_budget", stored + 5 * row)
        desk, decoder = ReadingDesk(lm, Decoding(max_tokens=30)), requests[0].decoder
        fork = type(decoder).fork

        def forked(*args, **kwargs):
            branches = fork(*args, **kwargs)
            seen.append((len(branches.rows), lm.memory.stored_bytes() + branches.kv_bytes()))
            return branches

        monkeypatch.setattr(type(decoder), "fork", forked)
        for request in requests:
            desk.admit(request)
        while not all(request.done for request in requests):
            desk.advance()
        assert 1 < seen[0][0] <= 5
        assert all(held <= lm.memory.budget for _, held in seen), "also where forgotten texts are read again"

    def test_an_out_of_memory_error_halves_the_rows_and_goes_on(self, model, tokenizer):
        seeds = range(5)
        expected = run_alone(HFLanguageModel(model, tokenizer), seeds)
        scarce = copy.deepcopy(model)
        failures = []

        def fail(_, args, kwargs):
            if kwargs["input_ids"].shape[0] > 4:
                failures.append(kwargs["input_ids"].shape[0])
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")

        scarce.model.layers[-1].register_forward_hook(lambda *_: None)
        scarce.model.register_forward_pre_hook(fail, with_kwargs=True)
        lm = HFLanguageModel(scarce, tokenizer)
        assert_same(SMC(program(lm), 6, ess_threshold=0.9).run_each(PROBLEMS, seeds=seeds), expected)
        assert failures and len(failures) <= 4, "it learns"
        assert lm.memory.most_rows in (3, 4)
        assert_same(run_alone(lm, seeds), expected)

    def test_an_error_in_the_middle_of_a_pass_leaves_no_trace(self, model, tokenizer):
        """Some layers have written their keys and values when memory runs out."""
        seeds = range(5)
        expected = run_alone(HFLanguageModel(model, tokenizer), seeds)
        scarce = copy.deepcopy(model)
        calls = []

        def fail(_, args, output):
            calls.append(None)
            if len(calls) == 9:
                raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate")

        scarce.model.layers[-1].register_forward_hook(fail)
        assert_same(run_alone(HFLanguageModel(scarce, tokenizer), seeds), expected)
        assert len(calls) > 9

    def test_one_row_that_does_not_fit(self, model, tokenizer):
        scarce = copy.deepcopy(model)

        def fail(_, args, kwargs):
            if kwargs["input_ids"].shape[1] > 10:
                raise torch.OutOfMemoryError("CUDA out of memory")

        scarce.model.register_forward_pre_hook(fail, with_kwargs=True)
        lm = HFLanguageModel(scarce, tokenizer, name="scarce")
        outcomes = {outcome.problem: outcome for outcome in SMC(program(lm), 3).iter_each(PROBLEMS)}
        fits = {problem: lm.prompt(problem).prompt_tokens.numel() <= 10 for problem in PROBLEMS}
        assert set(fits.values()) == {True, False}
        for problem, outcome in outcomes.items():
            assert (outcome.error is None) == fits[problem]
            if outcome.error is not None:
                assert isinstance(outcome.error, OutOfMemoryError)
                assert "'scarce' to go on with a single text. Load it with dtype='bfloat16'" in str(outcome.error)
        state = lm.prompt(PROBLEMS[0])
        with pytest.raises(OutOfMemoryError):
            state.expand((2,)).session.score(state.expand((2,)).prefix(), torch.tensor([[5], [6]]), Decoding(1))

    def test_other_errors_are_not_taken_for_it(self, model, tokenizer):
        broken = copy.deepcopy(model)

        def fail(*_):
            raise RuntimeError("shapes do not match")

        broken.model.register_forward_pre_hook(fail)
        lm = HFLanguageModel(broken, tokenizer)
        with pytest.raises(RuntimeError, match="shapes do not match"):
            SMC(program(lm), 3).run("7")
        assert lm.memory.most_rows is None

    def test_peak_memory(self, model, tokenizer):
        lm = HFLanguageModel(model, tokenizer)
        posterior = SMC(program(lm), 6).run(PROBLEMS[0])
        one = lm._cached_model.row_size.of_token
        longest = int(posterior.returns.lengths.max()) + posterior.returns.prompt_tokens.numel()
        assert one * longest <= posterior.cost.peak_memory_bytes < 100 * lm._cached_model.row_size.bytes(longest)
        assert posterior.cost.peak_device_bytes == 0
        more = SMC(program(lm), 60).run(PROBLEMS[0])
        assert more.cost.peak_memory_bytes > 3 * posterior.cost.peak_memory_bytes


def test_budgets(monkeypatch):
    with pytest.raises(OptionError, match="memory_budget=0"):
        Memory(0, torch.device("cpu"))
    with pytest.raises(OptionError, match="memory_budget='8GB'"):
        Memory("8GB", torch.device("cpu"))
    assert 2**20 < free_bytes(torch.device("cpu")) < 2**50
    memory = Memory(1000, torch.device("cpu"))
    assert [memory.rows_that_fit(bytes) for bytes in (10, 600, 5000)] == [100, 1, 1]
    memory.run_out(7)
    assert [memory.rows_that_fit(bytes) for bytes in (10, 600, 5000, 0)] == [3, 1, 1, 3]
    assert is_out_of_memory(MemoryError()) and not is_out_of_memory(ValueError())
    with pytest.raises(MemoryError) as caught:
        np.empty(1 << 60, dtype=np.int8)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"))

    def free_to(*budgets):
        others = [Memory(budget, torch.device("cpu")) for budget in budgets]
        mine, free = Memory(None, torch.device("cpu")), free_bytes(torch.device("cpu"))
        return mine.budget / free, len(others)

    free = free_bytes(torch.device("cpu"))
    monkeypatch.setattr(memory_of_models, "_memories", WeakSet())
    assert free_to()[0] == pytest.approx(0.5, rel=0.1)
    assert free_to(free // 2)[0] == pytest.approx(0.25, rel=0.1), "half of what a model beside it has not been promised"
    assert free_to(10 * free)[0] == pytest.approx(0.125, rel=0.1)
    limit = type("QuotaExceeded", (MemoryError,), {})
    assert not is_out_of_memory(limit()) and not is_out_of_memory(OutOfMemoryError("dealt with"))


def test_nan_is_an_error_of_its_own_run_only():
    """Logits of one text in a common batch are NaN."""

    class Broken(TableLM):
        def log_probs(self, tokens):
            law = super().log_probs(tokens)
            return law * torch.nan if tokens[:1] == (1,) else law

    lm = Broken(lambda tokens: [0.6, 0.3, 0.1], ["a", "b", "."], eos_token_id=2)

    def model(problem):
        first = torch.tensor([0 if problem == "good" else 1])
        state = lm.prompt("").append(first)
        return state.append(pyro.sample("step", LLM(lm, state, max_tokens=4)))

    outcomes = {outcome.problem: outcome for outcome in SMC(model, 4).iter_each(["good", "bad", "good"])}
    assert isinstance(outcomes["bad"].error, LogitsError)
    assert outcomes["good"].error is None


def test_sampling_with_a_scope_of_ones_own(table_lm):
    with run_scope() as scope:
        state = table_lm.prompt().expand((5,))
        drawn = state.session.sample(state.prefix(), Decoding(3), SamplingKey(0, torch.arange(5)))
    assert scope.cost.lm_tokens_sampled == int((drawn.tokens >= 0).sum())
