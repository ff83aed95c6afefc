"""What people's votes make of a finished run, and what it would be without them."""

from __future__ import annotations

import warnings
from copy import copy
from typing import Any

import torch
from torch import Tensor

from pyro_llm.errors import LowSampleSizeWarning, OptionError
from pyro_llm.infer.posterior import Posterior
from pyro_llm.ops.weights import effective_sample_size, normalise
from pyro_llm.raters.vote_likelihood import VoteLikelihood

LOW_SHARE, LOW_SIZE = 0.1, 10.0

_ON_WHOLE_TEXTS = "votes_on_whole_texts"
"""The setting of a posterior whose votes were put in its weights here, not step by step in its program."""


def condition_on_votes(posterior: Posterior, likelihood: VoteLikelihood) -> Posterior:
    r"""The posterior given votes as well: each particle's weight times $V$ of its text, as in `VoteLikelihood`.

    Importance weighting: the particles stay what they are. The log-evidence of each run gains the logarithm of the
    mean of $V$. The target is that of the program with `observe_votes`; which to run anew where the votes leave few
    particles.

    Raises:
        NoTextError: the particles are no texts.
        OptionError: they are draws of Markov chains, which have no weights to change, or several texts each; or votes
            are in the weights already, of which some would count twice: those that `observe_votes` observed in the
            program, or an earlier `condition_on_votes` put there. Votes that a program states in another way, as
            factors of its own, are not noticed. A run that was stopped can be conditioned if its program observed none.
        NoWeightsError: the posterior is that of a search.

    Warns:
        LowSampleSizeWarning: the pooled effective sample size falls below 10, or a tenth of what it was.
    """
    log_ratio = _log_ratio(posterior, likelihood)
    check_without_votes(posterior)
    conditioned = _reweighed(posterior, log_ratio, votes=len(likelihood.votes.on(posterior.written.prompt)))
    before, after = pooled_ess(posterior), pooled_ess(conditioned)
    if after < LOW_SHARE * before or after < LOW_SIZE <= before:
        warnings.warn(
            f"After the votes the {log_ratio.numel()} particles are worth {after:.1f} (before: {before:.1f}). Run the "
            "program anew with the votes in it, by pyro_llm.observe_votes or pyro-llm solve --votes.",
            LowSampleSizeWarning,
            stacklevel=2,
        )
    return conditioned


def check_without_votes(posterior: Posterior) -> None:
    """Raise OptionError if votes are in the weights already, as far as `condition_on_votes` notices."""
    _check_removable(posterior)
    if voted := posterior.settings.get("votes"):
        raise OptionError(
            f"The weights of this posterior hold {voted} votes already: take them off by without_votes, then condition "
            "on all votes together."
        )


def _check_removable(posterior: Posterior) -> None:
    """Raise OptionError if votes are in the weights that are not those on the texts."""
    settings = posterior.settings
    if settings.get("votes") and posterior.stopped_by is not None and not settings.get(_ON_WHOLE_TEXTS):
        raise OptionError(
            f"This run observed votes in its program and was stopped by {posterior.stopped_by!r}: its texts may hold "
            "steps whose votes are not in its weights, so that they cannot be taken off. Run the program without a "
            "budget, with a reward that does not fail; or run it without votes, and condition that run on them."
        )


def without_votes(posterior: Posterior, likelihood: VoteLikelihood) -> Posterior:
    """The posterior as it would be without the votes that its program observed: the reverse of `condition_on_votes`.

    Importance weighting: each particle's weight is divided by $V$ of its text. Particles that the votes ruled out do
    not come back. Weights without votes, by `settings["votes"]`, stay as they are.

    Args:
        posterior: a run of a program with `observe_votes` in it, or what `condition_on_votes` made.
        likelihood: the votes that it observed, all of them.

    Raises:
        NoTextError: the particles are no texts.
        OptionError: they are draws of Markov chains, or several texts each; or the run was stopped, by its budget or a
            reward that failed, when votes were in its weights: its texts may hold steps whose votes are not.
    """
    _check_removable(posterior)
    log_ratio = _log_ratio(posterior, likelihood)
    if not posterior.settings.get("votes"):
        log_ratio = torch.zeros_like(log_ratio)
    return _reweighed(posterior, torch.where(log_ratio == -torch.inf, 0.0, -log_ratio), votes=0)


def _log_ratio(posterior: Posterior, likelihood: VoteLikelihood) -> Tensor:
    """The logarithm of $V$ of each particle's text. Float64 `[num_runs, num_particles]`."""
    if posterior.chains is not None:
        raise OptionError("The draws of Markov chains have no weights: run the program anew, with observe_votes in it.")
    texts = texts_of(posterior)
    distinct = list(dict.fromkeys(texts))
    by_text = dict(zip(distinct, likelihood.log_ratio(distinct, posterior.written.prompt).tolist(), strict=True))
    log_ratio = torch.tensor([by_text[text] for text in texts], dtype=torch.float64)
    return log_ratio.reshape(posterior.log_weights.shape)


def _reweighed(posterior: Posterior, log_ratio: Tensor, votes: int) -> Posterior:
    """A posterior with each particle's weight times a ratio, and with so many votes in it."""
    weighed = posterior.log_weights + log_ratio
    reweighed = copy(posterior)
    reweighed.log_weights = normalise(weighed)
    reweighed.log_evidence = posterior.log_evidence + torch.logsumexp(weighed, -1)
    reweighed.log_likelihood = posterior.log_likelihood + log_ratio
    reweighed.settings = posterior.settings | {"votes": votes, _ON_WHOLE_TEXTS: True}
    return reweighed


def pooled_ess(posterior: Posterior) -> float:
    """Kish's effective sample size of all runs pooled by their evidence."""
    return float(effective_sample_size(posterior.pooled_log_weights.reshape(-1)))


def texts_of(posterior: Posterior) -> list[str]:
    """The text of each particle, run by run.

    Raises:
        NoTextError: the particles are no texts.
        OptionError: they are several texts each.
    """
    if not posterior.written.single:
        raise OptionError("Each particle holds several texts; votes are on the texts of programs that write one.")
    texts: list[Any] = posterior.texts.reshape(-1).tolist()
    return texts
