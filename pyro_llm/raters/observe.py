"""The statement that people voted on prefixes of a text."""

from __future__ import annotations

from functools import lru_cache
from typing import cast

import pyro
import pyro.poutine as poutine
import torch
from torch import Tensor

from pyro_llm.distributions import LazyFactor
from pyro_llm.lm.state import TextState
from pyro_llm.raters.vote_likelihood import VoteLikelihood
from pyro_llm.raters.votes import Votes
from pyro_llm.rewards.reward_model import distinct_texts
from pyro_llm.run_scope import current_run_scope


def observe_votes(name: str, votes: Votes | VoteLikelihood, state: TextState) -> None:
    r"""Observe votes on prefixes of the texts of `state`: the factor $V(x_{1:t}) / V(x_{1:t'})$.

    $V$ is the likelihood ratio of `VoteLikelihood`, and $x_{1:t'}$ the prefix at which these votes were observed last
    ($V = 1$ before). So the factors of all steps multiply to $V$ of the whole text: the target is that of the program
    without votes times $V$, whichever steps observe them, and votes steer the particles as soon as their prefix is
    written. It is the target that `condition_on_votes` reweights a finished run to. Where no vote concerns the problem
    there is no site at all. The posterior says in `settings["votes"]` how many votes its weights hold.

    Args:
        name: name of the site.
        votes: from `load_votes`; or their likelihood, with what is known of who voted. Votes alone are judged by the
            default prior.
        state: the texts.

    Raises:
        RatingsError: nothing is known of somebody who voted.

    Examples:
        >>> from pyro_llm.lm import TableLM
        >>> from pyro_llm.raters import RaterPosterior, Vote
        >>> said = Votes((Vote(prefix="a", vote="no", rater="Ann"),))
        >>> ann = VoteLikelihood(said, RaterPosterior.known({"Ann": 0.9}, {"Ann": 0.9}))
        >>> lm = TableLM(lambda tokens: [0.5, 0.3, 0.2], ["a", "b", "."], eos_token_id=2)
        >>> state = lm.prompt("").append(torch.tensor([[0], [1]]))
        >>> trace = poutine.trace(observe_votes).get_trace("votes", ann, state)
        >>> trace.compute_log_prob()
        >>> trace.nodes["votes"]["log_prob"].exp()
        tensor([0.2000, 1.0000], dtype=torch.float64)
    """
    likelihood = votes if isinstance(votes, VoteLikelihood) else _by_prior(votes)
    if not likelihood.votes.on(state.prompt):
        return
    before = state.judged_lengths(votes)

    def folded() -> Tensor:
        # Told here: a run that has been stopped passes the site too, and folds nothing.
        _note(votes, likelihood, state.prompt)
        return _log_factor(likelihood, state, before)

    factor = LazyFactor(folded, state.batch_shape, state.tokens.device)
    with poutine.mask(mask=cast(torch.BoolTensor, ~state.judged(votes))):
        pyro.sample(name, factor, obs=factor.sample(), infer={"is_auxiliary": True})
    state.record_judgement(votes)


def _note(votes: Votes | VoteLikelihood, likelihood: VoteLikelihood, problem: str) -> None:
    """Have the posterior tell how many votes its weights hold, all that are observed in the program together."""
    scope = current_run_scope()
    if scope is not None:
        observed: dict[object, int] = scope.resource(_note, dict)
        observed[votes] = len(likelihood.votes.on(problem))
        scope.noted["votes"] = sum(observed.values())


@lru_cache(maxsize=16)
def _by_prior(votes: Votes) -> VoteLikelihood:
    """The likelihood of these votes by the default prior, drawn once for all steps."""
    return VoteLikelihood(votes)


def _log_factor(likelihood: VoteLikelihood, state: TextState, before: Tensor) -> Tensor:
    now = _log_ratio(likelihood, state)
    if not bool((before > 0).any()):
        return now
    earlier = _log_ratio(likelihood, state.truncate(before.clamp(min=0)))
    earlier = torch.where(before < 0, 0.0, earlier)
    # After votes that leave no doubt, the weight is 0 for good.
    return torch.where(earlier == -torch.inf, -torch.inf, now - earlier)


def _log_ratio(likelihood: VoteLikelihood, state: TextState) -> Tensor:
    texts = distinct_texts(state)
    distinct = list(dict.fromkeys(texts))
    ratios = dict(zip(distinct, likelihood.log_ratio(distinct, state.prompt).tolist(), strict=True))
    log_ratio = torch.tensor([ratios[text] for text in texts], dtype=torch.float64)
    return log_ratio.reshape(state.batch_shape).to(state.tokens.device)
