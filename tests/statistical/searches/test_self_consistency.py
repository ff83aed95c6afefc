"""The answer that self-consistency gives, against the multinomial law of its votes.

Each null is that runs are independent and decide by the exact law; Pearson's test, false alarms 1e-4 a case.
"""

from collections import Counter
from math import comb

import pytest

from pyro_llm.infer import SelfConsistency

RUNS = 4000


def first_letter(text):
    return text[:1] or None


@pytest.mark.parametrize("size", [1, 3, 4])
def test_majority(size, model, law_of_decisions, decisions_by_run, assert_law):
    """Ties go to the answer met first; texts without an answer do not vote."""

    def decide(texts):
        votes = Counter(value for value in map(first_letter, texts) if value is not None)
        return votes.most_common(1)[0][0] if votes else None

    posterior = SelfConsistency(model, size, num_runs=RUNS, progress=False).run("")
    assert_law(decisions_by_run(posterior, first_letter), law_of_decisions(size, decide))


def test_majority_of_two_answers_is_binomial(model, law, decisions_by_run, assert_law):
    """Of three votes on whether the text is empty, at least two: 3 p^2 (1 - p) + p^3."""
    p = law[""]
    empty = sum(comb(3, votes) * p**votes * (1 - p) ** (3 - votes) for votes in (2, 3))
    posterior = SelfConsistency(model, 3, num_runs=RUNS, progress=False).run("")
    assert_law(decisions_by_run(posterior, lambda text: text == ""), {True: empty, False: 1 - empty})


@pytest.mark.parametrize("votes", ["probability", "normalised"])
def test_votes_weighed_by_the_language_model(votes, model, lm, law, law_of_decisions, decisions_by_run, assert_law):
    tokens = {lm.decode(tokens): len(tokens) for tokens, _ in lm.enumerate(2)}

    def weight(text):
        return law[text] if votes == "probability" else law[text] ** (1 / tokens[text])

    def decide(texts):
        sums = {}
        for text in texts:
            sums[first_letter(text)] = sums.get(first_letter(text), 0.0) + weight(text)
        sums = {value: amount for value, amount in sums.items() if value is not None} or {None: 1.0}
        return max(sums, key=sums.get)

    posterior = SelfConsistency(model, 3, votes=votes, num_runs=RUNS, progress=False).run("")
    assert_law(decisions_by_run(posterior, first_letter), law_of_decisions(3, decide))
