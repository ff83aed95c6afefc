"""Random sequences of fork, reindex, compact, repack and ragged append leave the cache equal to fresh forward passes.

Hypothesis draws the sequences. After each operation the pending law of every row is compared with a float32 pass over
that row alone, without a cache; what an operation breaks in older slots, the next tokens show. Rows of two prompts of
different lengths lie in one batch, whole and stored apart.
"""

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pyro_llm.lm import PAD, HFLanguageModel
from pyro_llm.lm.cached_branches import CachedBranches
from pyro_llm.lm.kv.rows import take_rows

TOLERANCE = 1e-4
PROMPTS = ("tom has 4 pens", "anna ate")
ROWS, LONGEST = 5, 70
token = st.integers(3, 39)
# 5 sequences of 14 operations for each of 7 models in 2 ways; seeds fixed, so that the same ones are tried every time
BOUNDED = settings(
    max_examples=5,
    stateful_step_count=14,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],  # no shrinking: a failure is to be seen at once
    suppress_health_check=list(HealthCheck),
)


class CacheMachine(RuleBasedStateMachine):
    """Rows of text beside the cache that should hold them."""

    lm: HFLanguageModel
    fresh: staticmethod

    def __init__(self):
        super().__init__()
        self.model = self.lm._cached_model
        self.texts: list[list[int]] = []
        self.older: list[tuple[CachedBranches, list[list[int]]]] = []

    def read(self, branches, tokens):
        width = max(map(len, tokens))
        branches.read(torch.tensor([row + [PAD] * (width - len(row)) for row in tokens]))

    def take(self, sources, order, texts, room=4):
        """New branches from rows of others; `texts` are in the order of the result."""
        lengths = [len(text) for text in texts]
        rows = take_rows([(branches.rows, chosen) for branches, chosen in sources], order, lengths, room)
        logits = torch.cat([branches.logits[chosen] for branches, chosen in sources])
        logits = logits[torch.tensor(order).argsort()]
        self.branches, self.texts = CachedBranches(self.model, rows, logits), [list(text) for text in texts]

    def settle(self):
        """A row that has stopped resumes in new branches only: this is where ragged rows are repacked."""
        ends = self.branches.rows.starts + self.branches.rows.lengths
        ends = ends - torch.tensor(
            [span.block.length for span in self.branches.rows.prompts for _ in range(span.rows)] or [0]
        )
        if (ends != self.branches.rows.used).any():
            self.repack(room=2)

    def repack(self, room):
        self.older.append((self.branches, self.texts))
        everyone = list(range(len(self.texts)))
        self.take([(self.branches, everyone)], everyone, self.texts, room)

    @initialize(counts=st.tuples(st.integers(1, 2), st.integers(1, 2)))
    @torch.no_grad()
    def begin(self, counts):
        sources, texts = [], []
        for prompt, count in zip(PROMPTS, counts, strict=True):
            text = self.lm.encode(prompt)
            branches = CachedBranches(self.model, self.model.empty(1, torch.device("cpu")), None)
            self.read(branches, [text])
            branches.rows = self.model.settle_prompt(branches.rows)
            sources.append((branches, [0] * count))
            texts += [text] * count
        self.take(sources, list(range(sum(counts))), texts)

    def fits(self, more):
        return max(map(len, self.texts)) + more <= LONGEST

    @precondition(lambda self: self.fits(5))
    @rule(data=st.data())
    @torch.no_grad()
    def append(self, data):
        """Given tokens, of unequal number, none for some rows."""
        self.settle()
        more = [data.draw(st.lists(token, max_size=5)) for _ in self.texts]
        more[data.draw(st.integers(0, len(more) - 1))] = [data.draw(token)]
        self.read(self.branches, more)
        self.texts = [text + tokens for text, tokens in zip(self.texts, more, strict=True)]

    @precondition(lambda self: self.fits(4))
    @rule(data=st.data())
    @torch.no_grad()
    def score(self, data):
        """Teacher forcing: one pass gives the log-probability of each given token."""
        self.settle()
        more = [data.draw(st.lists(token, min_size=1, max_size=4)) for _ in self.texts]
        tokens = torch.tensor([row + [PAD] * (4 - len(row)) for row in more])
        stated = self.branches.extend(tokens, torch.zeros(len(more), dtype=torch.bool), lambda x: x.log_softmax(-1))
        for row, (text, given) in enumerate(zip(self.texts, more, strict=True)):
            law = self.fresh(self.lm, text + given)[len(text) - 1 :]
            for place, one in enumerate(given):
                assert abs(float(law[place, one] - stated[row, place])) < TOLERANCE
            text += given

    @precondition(lambda self: self.fits(4))
    @rule(data=st.data())
    @torch.no_grad()
    def write(self, data):
        """The token loop: rows end one after another, and the batch is compacted in the middle of a step."""
        self.settle()
        writing = torch.ones(len(self.texts), dtype=torch.bool)
        for _ in range(data.draw(st.integers(1, 4))):
            tokens = data.draw(st.lists(token, min_size=len(self.texts), max_size=len(self.texts)))
            self.branches.advance(torch.tensor(tokens), writing)
            for text, one, on in zip(self.texts, tokens, writing.tolist(), strict=True):
                text += [one] * on
            writing &= torch.tensor([data.draw(st.booleans()) for _ in self.texts])
            if data.draw(st.booleans()) and 0 < writing.sum() < len(writing):
                self.compact(writing.nonzero().squeeze(-1).tolist())
                writing = torch.ones(len(self.texts), dtype=torch.bool)

    def compact(self, staying):
        leaving = [row for row in range(len(self.texts)) if row not in staying]
        self.older.append((self.branches.select(leaving, room=0), [self.texts[row] for row in leaving]))
        self.branches = self.branches.select(staying, room=2)
        self.texts = [self.texts[row] for row in staying]

    @rule(data=st.data())
    def resample(self, data):
        """Fork and reindex: ancestors with repetition, in any order; the rows taken from stay as they are."""
        chosen = data.draw(st.lists(st.integers(0, len(self.texts) - 1), min_size=1, max_size=ROWS))
        self.older.append((self.branches, self.texts))
        self.take([(self.branches, chosen)], list(range(len(chosen))), [self.texts[row] for row in chosen])

    @rule(room=st.integers(0, 3))
    def copy(self, room):
        """The same rows, right-aligned again, perhaps in the same buffer."""
        self.repack(room)

    @precondition(lambda self: self.older)
    @rule(data=st.data())
    def meet(self, data):
        """Rows of an older batch and of this one go on together."""
        other, texts = data.draw(st.sampled_from(self.older[-3:]))
        mine = data.draw(st.lists(st.integers(0, len(self.texts) - 1), min_size=1, max_size=3))
        its = data.draw(st.lists(st.integers(0, len(texts) - 1), min_size=1, max_size=2))
        order = data.draw(st.permutations(range(len(mine) + len(its))))
        taken = [self.texts[row] for row in mine] + [texts[row] for row in its]
        result = [text for _, text in sorted(zip(order, taken, strict=True), key=lambda pair: pair[0])]
        self.take([(self.branches, mine), (other, its)], order, result)

    @precondition(lambda self: self.older)
    @rule(data=st.data())
    def go_back(self, data):
        """An older batch goes on, while others hold some of its slots."""
        which = data.draw(st.integers(1, min(3, len(self.older))))
        self.older.append((self.branches, self.texts))
        self.branches, self.texts = self.older.pop(-1 - which)

    @precondition(lambda self: not self.model.recurrent)
    @rule(data=st.data())
    def cut(self, data):
        """Beginnings of the rows; their pending law is unknown until a token follows."""
        prompts = [self.lm.encode(text) for text in PROMPTS]
        shortest = [next(len(p) for p in prompts if text[: len(p)] == p) for text in self.texts]
        texts = [text[: data.draw(st.integers(n, len(text)))] for n, text in zip(shortest, self.texts, strict=True)]
        everyone = list(range(len(texts)))
        self.take([(self.branches, everyone)], everyone, texts)
        with torch.no_grad():
            self.read(self.branches, [[7]] * len(texts))
        self.texts = [[*text, 7] for text in texts]

    @invariant()
    def equals_fresh_passes(self):
        if self.texts:
            assert self.branches.rows.lengths.tolist() == [len(text) for text in self.texts]
            for text, logits in zip(self.texts, self.branches.logits, strict=True):
                law = self.fresh(self.lm, text)[-1]
                torch.testing.assert_close(logits.log_softmax(-1), law, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("shared_prompts", [True, False], ids=["prompt shared", "prompt in every row"])
def test_the_cache_equals_fresh_passes(any_lm, fresh_log_probs, shared_prompts):
    lm = HFLanguageModel(any_lm.model, any_lm.tokenizer, name=any_lm.name, shared_prompts=shared_prompts)
    members = {"lm": lm, "fresh": staticmethod(fresh_log_probs)}
    run_state_machine_as_test(type("Machine", (CacheMachine,), members), settings=BOUNDED)
    assert lm._cached_model.shares_prompts == shared_prompts
