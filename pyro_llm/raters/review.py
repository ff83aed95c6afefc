"""People in the loop of a finished run: which prefixes to ask about."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_llm.answers import answer
from pyro_llm.infer.posterior import Posterior
from pyro_llm.raters.conditioning import texts_of
from pyro_llm.raters.vote_likelihood import VoteLikelihood
from pyro_llm.raters.votes import Votes, canonical, matched_prefixes


@dataclass(frozen=True)
class Question:
    """A prefix that somebody may vote on.

    Attributes:
        prefix: the text since the prompt.
        information: what the vote is expected to take off the entropy of the answer, in nats.
        share: how much of the posterior begins so.
        yes: the probability of "yes".
    """

    prefix: str
    information: float
    share: float
    yes: float


def informative_prefixes(
    posterior: Posterior,
    likelihood: VoteLikelihood,
    rater: str,
    fn: Callable[[str], Hashable] = answer,
    count: int | None = None,
) -> list[Question]:
    r"""The prefixes whose vote is expected to tell most about the answer, given the votes there are.

    Ranked by the mutual information of the vote $v$ and the answer $A$, the expected fall of the answer's entropy,

    $$ I(v; A) = H(v) - \sum_A P(A) H(v \mid A), \qquad P(v = \text{yes} \mid A) = \sum_i w_i p_i / \sum_i w_i , $$

    the sums running over the particles $i$ of answer $A$, with weights $w_i$ that include the votes so far, and with
    $p_i$ the probability that `rater` says "yes": to a prefix of particle $i$ and to any other, as in `VoteLikelihood`,
    over the errors given the votes so far. (Lindley, Annals of Mathematical Statistics 27(4), 1956.)

    Args:
        posterior: a run, as it was before any votes: see `without_votes`.
        likelihood: the votes so far.
        rater: who is to be asked. Prefixes that they voted on, or skipped, are left out.
        fn: the answer of a text.
        count: the most questions; all by default.

    Returns:
        The most informative first. Ends of lines and whole texts are asked about.
    """
    texts = texts_of(posterior)
    place = {text: index for index, text in enumerate(dict.fromkeys(texts))}
    index = torch.tensor([place[text] for text in texts])
    prior = torch.zeros(len(place), dtype=torch.float64)
    prior.index_add_(0, index, posterior.pooled_log_weights.reshape(-1).exp())
    joint = prior.log()[:, None] + likelihood.log_ratio_by_draw(list(place), posterior.written.prompt)
    weights = joint.sub(joint.logsumexp((0, 1))).exp()  # of texts and draws of the errors together

    problem = posterior.written.prompt
    right, unknown, voted = likelihood.probability_of_yes(rater, problem)
    spelt, matches = _matches(list(place), likelihood, rater, problem)
    prefixes = list(spelt)
    if not prefixes:
        return []
    # All of these times the share of the text in the posterior. [texts, 1], [texts, prefixes]
    if_right = (weights @ right)[:, None]
    if_unknown = (weights @ unknown)[:, None].repeat(1, len(prefixes))
    for u, prefix in enumerate(prefixes):
        if prefix in voted:
            if_unknown[:, u] = weights @ voted[prefix]
    says_yes, share = torch.where(matches, if_right, if_unknown), weights.sum(1)
    answers = list(dict.fromkeys(map(fn, place)))
    of_answer = torch.tensor([[float(fn(text) == value) for text in place] for value in answers], dtype=torch.float64)
    by_answer, answer_share = of_answer @ says_yes, (of_answer @ share)[:, None]
    yes = by_answer.sum(0)
    of_one = torch.where(answer_share > 0, by_answer / answer_share, 0.0)
    information = (_entropy(yes) - (answer_share * _entropy(of_one)).sum(0)).clamp(min=0)
    begins_so = share @ matches.double()
    order = sorted(range(len(prefixes)), key=lambda u: (-round(float(information[u]), 12), len(prefixes[u])))
    chosen = order if count is None else order[:count]
    return [Question(spelt[prefixes[u]], float(information[u]), float(begins_so[u]), float(yes[u])) for u in chosen]


def votes_within_lines(posterior: Posterior, votes: Votes) -> list[str]:
    """The prefixes voted on that texts of a run begin with, but go on within the line: votes on them count for none.

    Raises:
        NoTextError: the particles are no texts.
        OptionError: they are several texts each.
    """
    texts = list(dict.fromkeys(texts_of(posterior)))
    ends = {prefix for text in texts for prefix in matched_prefixes(text)}
    prefixes = dict.fromkeys(vote.prefix for vote in votes.on(posterior.written.prompt))
    return [p for p in prefixes if canonical(p) not in ends and any(text.startswith(canonical(p)) for text in texts)]


def _matches(
    texts: list[str], likelihood: VoteLikelihood, rater: str, problem: str | None
) -> tuple[dict[str, str], Tensor]:
    """The prefixes that can be asked about, as they are spelt in a text, and which texts begin with each.

    Returns:
        Spellings by canonical prefix, and bool `[texts, prefixes]`.
    """
    asked = {
        canonical(vote.prefix)
        for vote in likelihood.votes.votes
        if vote.rater == rater and (vote.problem is None or problem is None or vote.problem == problem)
    }
    rows = [matched_prefixes(text) for text in texts]
    spelt: dict[str, str] = {}
    for text, row in zip(texts, rows, strict=True):
        for prefix in row:
            if prefix not in asked and prefix.strip():
                goes_on = text[len(prefix) :].startswith("\n")
                spelt.setdefault(prefix, prefix + "\n" if goes_on else prefix)
    place = {prefix: u for u, prefix in enumerate(spelt)}
    matches = torch.zeros(len(texts), len(spelt), dtype=torch.bool)
    for x, row in enumerate(rows):
        matches[x, [place[prefix] for prefix in row if prefix in place]] = True
    return spelt, matches


def _entropy(probability: Tensor) -> Tensor:
    """Of a Bernoulli variable, in nats."""
    return torch.special.entr(probability) + torch.special.entr(1 - probability)
