"""Best-of-N against its closed form, and weighted best-of-N against all tuples of texts.

Each null is that runs are independent and decide by the exact law; Pearson's test, false alarms 1e-4 a case.
"""

import pytest

from pyro_llm.infer import BestOfN

from .conftest import REWARDS

RUNS = 4000


@pytest.mark.parametrize("size", [1, 2, 5])
def test_the_chosen_text_has_its_closed_form(size, model, law, decisions_by_run, assert_law):
    """P(chosen = x) = F(s)^N - F(s-)^N, F the distribution of the scores, no two of which are equal."""
    closed_form, below = {}, 0.0
    for text in sorted(law, key=REWARDS.__getitem__):
        closed_form[text] = (below + law[text]) ** size - below**size
        below += law[text]
    posterior = BestOfN(model, size, num_runs=RUNS, progress=False).run("")
    if size == 5:
        closed_form = {text: p for text, p in closed_form.items() if p * RUNS > 5}
    decided = [text for text in decisions_by_run(posterior) if text in closed_form]
    assert len(decided) > 0.99 * RUNS
    assert_law(decided, {text: p / sum(closed_form.values()) for text, p in closed_form.items()})


def first_letter(text):
    return text[:1] or None


@pytest.mark.parametrize("score", ["last", "min"])
def test_weighted_by_summed_scores(score, model, law_of_decisions, decisions_by_run, assert_law):
    def scored(text):
        prefixes = [text[:1], text] if len(text) else [""]
        return REWARDS[text] if score == "last" else min(REWARDS[prefix] for prefix in prefixes)

    def decide(texts):
        sums = {}
        for text in texts:
            sums[first_letter(text)] = sums.get(first_letter(text), 0.0) + scored(text)
        sums = {value: amount for value, amount in sums.items() if value is not None} or {None: 1.0}
        return max(sums, key=sums.get)

    posterior = BestOfN(model, 3, weighted=True, score=score, num_runs=RUNS, progress=False).run("")
    assert_law(decisions_by_run(posterior, first_letter), law_of_decisions(3, decide))
