"""Optimal resampling without replacement, which leaves unequal weights."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_llm.ops.resampling.inversion import ancestors_of_counts, ancestors_of_uniforms, whole_and_fractional
from pyro_llm.ops.resampling.scheme import Resampled, ResamplingScheme
from pyro_llm.ops.weights import normalise


def without_replacement(log_weights: Tensor, num_offspring: int, uniforms: Tensor) -> Resampled:
    r"""Keep M of N particles, none twice. `[R, N]`, uniforms `[R, 1]` -> `[R, M]`.

    With c the solution of $\sum_n \min(c W_n, 1) = M$, a particle with $W_n \ge 1/c$ is kept and keeps its weight; any
    other is kept with probability $c W_n$, by systematic resampling, and then weighs 1/c. Of all unbiased ways to leave
    no more than M weights positive, this has the least expected squared error of the weights. Meant for
    discrete particles which have all been extended in every way, so that none need be kept twice. Fearnhead &
    Clifford (2003), "On-line inference for hidden Markov models via particle filters".

    Where a run has fewer than M particles of positive weight it keeps all, and the slots to spare have weight zero.

    >>> kept = without_replacement(torch.tensor([[0.1, 0.6, 0.1, 0.2]]).log(), 2, torch.tensor([[0.4]]))
    >>> kept.ancestors, kept.log_weights.exp()  # weights of mean one: 0.6 and 0.4, times 2
    (tensor([[1, 3]]), tensor([[1.2000, 0.8000]], dtype=torch.float64))
    """
    weights = normalise(log_weights).exp()
    num_runs, num_particles = weights.shape
    # At least M + 1 columns: then what follows the last positive weight ends the search below.
    missing = max(0, num_offspring + 1 - num_particles)
    ordered, order = torch.cat([weights, weights.new_zeros(num_runs, missing)], -1).sort(
        dim=-1, descending=True, stable=True
    )
    columns = torch.arange(ordered.shape[-1], device=weights.device)
    rest = ordered.flip(-1).cumsum(-1).flip(-1)
    light = ordered * (num_offspring - columns).clamp(min=0) <= rest
    num_kept = light.long().argmax(-1, keepdim=True)  # the first of those that are not kept for sure
    num_drawn = num_offspring - num_kept
    rest = rest.gather(-1, num_kept)

    slots = columns[:num_offspring]
    points = (slots - num_kept + uniforms).clamp(min=0) / num_drawn.clamp(min=1)
    lottery = torch.where((columns >= num_kept) & (rest > 0), ordered, (rest == 0).double())
    drawn = ancestors_of_uniforms(lottery.log(), points)
    chosen = torch.where(slots < num_kept, slots, drawn)
    share = torch.where(slots < num_kept, ordered[:, :num_offspring], rest / num_drawn.clamp(min=1))
    ancestors = order.gather(-1, chosen)
    return Resampled(ancestors.clamp(max=num_particles - 1), (num_offspring * share).log())


def optimal(log_weights: Tensor, num_offspring: int, uniforms: Tensor) -> Resampled:
    """Split heavy particles, then keep M `without_replacement`. `[R, N]`, uniforms `[R, 1]` -> `[R, M]`.

    A particle that stands for its whole future, as one of a discrete sequence does not until it has ended, is worth
    keeping more than once: copies go on differently. So each with M W >= 1 is first split into floor(M W) copies of
    equal weight (one more for the heaviest, should slots be left), which adds no noise. Heavy particles thus keep their
    weight exactly; only light ones are drawn. Where all have M W < 2, so that none is split, this is the scheme of
    Fearnhead & Clifford. The weights are unequal afterwards, and the factors to come multiply them.

    Particles that happen to be equal, clones that have not parted yet for one, are not merged first: the scheme sees
    weights, not values, and stays unbiased; merging would only spare some of its noise.

    >>> result = optimal(torch.tensor([[0.65, 0.05, 0.3]]).log(), 3, torch.tensor([[0.5]]))
    >>> result.ancestors, result.log_weights.exp()
    (tensor([[0, 2, 1]]), tensor([[1.9500, 0.9000, 0.1500]], dtype=torch.float64))
    """
    log_weights = normalise(log_weights)
    alive = ~torch.isneginf(log_weights)
    copies, _ = whole_and_fractional(log_weights, num_offspring)
    copies = torch.where(alive, copies.clamp(min=1), 0)
    spare = (num_offspring - copies.sum(-1, keepdim=True)).clamp(min=0)
    rank = (
        (log_weights - copies.double().log())
        .masked_fill(~alive, -torch.inf)
        .argsort(dim=-1, descending=True, stable=True)
        .argsort(-1)
    )
    copies = copies + (rank < spare)
    split = ancestors_of_counts(copies, max(num_offspring, int(copies.sum(-1).max())))
    exists = torch.arange(split.shape[-1], device=split.device) < copies.sum(-1, keepdim=True)
    shares = (log_weights - copies.double().log()).gather(-1, split).masked_fill(~exists, -torch.inf)
    kept = without_replacement(shares, num_offspring, uniforms)
    return Resampled(split.gather(-1, kept.ancestors), kept.log_weights)


OPTIMAL = ResamplingScheme(optimal, lambda num_particles, num_offspring: 1)
