"""Beam search that is wide enough finds the true maximum; DVTS is beam search in subtrees that are independent."""

import math

import pytest
import torch
from scipy.stats import chi2_contingency

from pyro_llm.infer import DVTS, BeamSearch
from pyro_llm.lm import TableLM
from pyro_llm.models import ReasoningSSM
from pyro_llm.rewards import FunctionReward

FALSE_ALARM = 1e-4
DEEP = {(): [0.5, 0.3, 0.2], (0,): [0.2, 0.7, 0.1], (1,): [0.25, 0.25, 0.5]}


def probability(text):
    """Misleading: what begins well does not end well."""
    return 0.15 + 0.7 * ((3 * text.count("a") + 5 * text.count("b") + 2 * len(text)) % 7) / 7


def without_ties(text):
    """Another for each text."""
    return 0.1 + 0.8 * (int("1" + text.replace("a", "0").replace("b", "1"), 2) * 0.6180339887 % 1)


def exact_scores(lm, max_tokens, score, probability=probability):
    """The logarithm of the score of each sequence of tokens."""
    scores = {}
    for tokens, log_prob in lm.enumerate(max_tokens):
        factors = [probability(lm.decode(tokens[: end + 1])) for end in range(len(tokens))]
        scores[tokens] = {
            "last": math.log(factors[-1]),
            "product": math.log(math.prod(factors)),
            "min": math.log(min(factors)),
            "mean": math.log(sum(factors) / len(factors)),
            "lp": math.log(math.prod(factors)) + log_prob,
        }[score]
    return scores


@pytest.mark.parametrize("score", ["lp", "product", "last", "min", "mean"])
def test_wide_enough_it_finds_the_maximum(score):
    """40 prefixes are kept, more than there are (3, 7, 15 before steps 2, 3, 4): each is continued 133 times or more.

    It fails only if a step of the best path is drawn by none of its continuations. The best paths take their second
    step with probability 0.1 at least, of 666 continuations, later ones with 0.2 at least: 1e-12 in all.
    """
    lm = TableLM(lambda tokens: DEEP[tokens[-1:]], ["a", "b", "."], eos_token_id=2)
    model = ReasoningSSM(lm, FunctionReward(probability), max_steps=4, stop=None, max_tokens=1)
    exact = exact_scores(lm, 4, score)
    best = max(exact, key=exact.get)
    posterior = BeamSearch(model, 2000, beam_width=50, score=score, progress=False).run("")
    found = posterior.best()
    assert posterior.scores.max().item() == pytest.approx(exact[best])
    tokens = tuple(posterior.returns.tokens[found.run, found.particle].tolist())
    assert exact[tuple(token for token in tokens if token >= 0)] == pytest.approx(exact[best])


def beam_by_hand(lm, max_tokens, score, kept):
    """The scores that a beam search has in the end which keeps so many prefixes and continues them by all tokens."""
    beams = {(): 0.0}
    exact = {length: exact_scores(lm, length, score, without_ties) for length in range(1, max_tokens + 1)}
    for length in range(1, max_tokens + 1):
        children = {}
        for tokens in beams:
            finished = tokens[-1:] == (2,)
            for child in [tokens] if finished else [(*tokens, token) for token in range(3)]:
                children[child] = exact[min(length, len(child))][child]
        beams = dict(sorted(children.items(), key=lambda item: -item[1])[:kept])
        if all(tokens[-1] == 2 for tokens in beams) or length == max_tokens:
            return max(children.values())


@pytest.mark.parametrize("kept", [1, 2, 3])
@pytest.mark.parametrize("score", ["lp", "product", "last"])
def test_narrow_beams_keep_what_they_should(score, kept):
    """Each prefix is continued 300 times or more, so that all its continuations are there but with probability
    27 * 0.9^300 = 5e-13: the result is that of a beam search by hand.
    """
    lm = TableLM(lambda tokens: DEEP[tokens[-1:]], ["a", "b", "."], eos_token_id=2)
    model = ReasoningSSM(lm, FunctionReward(without_ties), max_steps=4, stop=None, max_tokens=1)
    posterior = BeamSearch(model, 300 * kept, beam_width=300, score=score, progress=False).run("")
    assert posterior.scores.max().item() == pytest.approx(beam_by_hand(lm, 4, score, kept))


def test_a_narrow_beam_is_misled():
    """The test above would tell: one prefix at a time does not find the text of the highest last factor."""
    lm = TableLM(lambda tokens: DEEP[tokens[-1:]], ["a", "b", "."], eos_token_id=2)
    model = ReasoningSSM(lm, FunctionReward(probability), max_steps=4, stop=None, max_tokens=1)
    exact = exact_scores(lm, 4, "last")
    posterior = BeamSearch(model, 50, beam_width=50, score="last", progress=False).run("")
    assert posterior.scores.max().item() < max(exact.values()) - 0.1


def best_of_subtrees(posterior, width):
    """Whether the best text of each subtree is one of those that end in "b". `[R, N / width]`."""
    slots = posterior.scores.unflatten(-1, (-1, width)).argmax(-1)
    first = torch.arange(slots.shape[1]) * width
    runs = torch.arange(len(slots))[:, None]
    return torch.tensor([[str(text).endswith("b") for text in row] for row in posterior.texts[runs, slots + first]])


def test_subtrees_are_independent_searches(model):
    """Null: two subtrees are independent of each other, and each has the law of a beam search of one beam.

    Two chi-square tests on 3,000 runs, false alarms 1e-4 each.
    """
    posterior = DVTS(model, 6, beam_width=3, num_runs=3000, progress=False).run("")
    subtree = torch.from_numpy(posterior.stats.lineages) // 3
    assert (subtree == torch.arange(6) // 3).all()
    ends = best_of_subtrees(posterior, 3)
    table = [[int((ends[:, 0] == a).logical_and(ends[:, 1] == b).sum()) for a in (False, True)] for b in (False, True)]
    assert chi2_contingency(table, correction=False).pvalue > FALSE_ALARM
    alone = best_of_subtrees(BeamSearch(model, 3, beam_width=3, num_runs=3000, progress=False).run(""), 3)
    counts = [[int(each.sum()), len(each) - int(each.sum())] for each in (ends[:, 0], alone[:, 0])]
    assert min(map(min, counts)) > 100
    assert chi2_contingency(counts, correction=False).pvalue > FALSE_ALARM


def test_beams_of_one_run_do_compete(model):
    """What the test above would see if subtrees competed: with beam search, slots descend from other blocks."""
    posterior = BeamSearch(model, 6, beam_width=3, num_runs=300, progress=False).run("")
    blocks = torch.from_numpy(posterior.stats.lineages)[:, 0] // 3
    assert not (blocks == torch.arange(6) // 3).all()
