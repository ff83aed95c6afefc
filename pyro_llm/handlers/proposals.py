"""Proposals: a latent value drawn from another distribution than the program's, and the weight that makes up for it.

A proposal q of a site with distribution p is given with the site, `infer={"proposal": q}`. The value is drawn from q
and the weight multiplied by p / q. This keeps every estimate right as long as q can draw whatever p can draw and the
later factors allow.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pyro_llm.errors import ProposalError


def proposal_of(msg: Any) -> Any:
    """The proposal of a latent site, in the batch shape of the site's distribution; None if it has none.

    Raises:
        ProposalError: what is given is no distribution, or not over values of the site's shape.
    """
    proposal, fn, name = msg["infer"].get("proposal"), msg["fn"], msg["name"]
    if proposal is None:
        return None
    if not _is_distribution(proposal) and callable(proposal):
        proposal = proposal(fn)
    if not _is_distribution(proposal):
        raise ProposalError(
            f"The proposal of site {name!r} is {proposal!r}. Give a distribution, or a function from the site's "
            "distribution to one."
        )
    if proposal.event_shape != fn.event_shape:
        raise ProposalError(
            f"The proposal of site {name!r} has event_shape {tuple(proposal.event_shape)}, its distribution "
            f"{tuple(fn.event_shape)}. They must be distributions over the same values: use `.to_event` alike."
        )
    if proposal.batch_shape != fn.batch_shape:
        try:
            proposal = proposal.expand(fn.batch_shape)
        except (RuntimeError, ValueError) as error:
            raise ProposalError(
                f"The proposal of site {name!r} has batch_shape {tuple(proposal.batch_shape)}, which does not expand "
                f"to that of its distribution, {tuple(fn.batch_shape)}."
            ) from error
    discrete = [getattr(_support(distribution), "is_discrete", None) for distribution in (proposal, fn)]
    if set(discrete) == {True, False}:
        kinds = ["discrete" if is_discrete else "continuous" for is_discrete in discrete]
        raise ProposalError(f"The proposal of site {name!r} is {kinds[0]}, its distribution {kinds[1]}.")
    return proposal


def weigh_draw(msg: Any, proposal: Any) -> tuple[Tensor, Tensor]:
    """Log-probability of a drawn value at its site, and the log-ratio of that to its proposal's. Float64.

    Neither is scaled or masked: these say what a value counts, not by which law it was drawn.

    Raises:
        ProposalError: a distribution has no `log_prob`, or values were drawn that are none of the site's distribution.
    """
    fn, value, name = msg["fn"], msg["value"], msg["name"]
    support = _support(fn)
    if support is not None:
        possible = support.check(value)
        if not bool(possible.all()):
            raise ProposalError(
                f"The proposal of site {name!r}, {_class(proposal)}, drew values outside the support of its "
                f"distribution {_class(fn)}, {support!r}: {int((~possible).sum())} of {possible.numel()}. Give a "
                "proposal over the same values, one that is truncated or transformed to them, say."
            )
    log_probs = []
    for what, distribution in (("proposal", proposal), ("distribution", fn)):
        try:
            # Where `log_prob` is of events that are more than one value (texts that begin so), this is of the value.
            log_prob = getattr(distribution, "log_prob_of_draw", distribution.log_prob)(value)
            log_probs.append(log_prob.double())
        except NotImplementedError as error:
            raise ProposalError(
                f"The {what} of site {name!r}, {_class(distribution)}, has no log_prob, so that a value that was drawn "
                "from a proposal cannot be weighed."
            ) from error
    log_q, log_p = log_probs
    return log_p, log_p - log_q


def _is_distribution(thing: Any) -> bool:
    return all(hasattr(thing, name) for name in ("sample", "log_prob", "expand", "batch_shape", "event_shape"))


def _support(distribution: Any) -> Any:
    try:
        return distribution.support
    except (AttributeError, NotImplementedError):
        return None


def _class(distribution: Any) -> str:
    while type(distribution).__name__ in ("ExpandedDistribution", "MaskedDistribution"):
        distribution = distribution.base_dist
    return type(distribution).__name__
