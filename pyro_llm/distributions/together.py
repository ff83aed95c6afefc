"""Several distributions sampled together, in as few batches of the language model as their laws allow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Size, Tensor
from torch.nn.functional import pad

from pyro_llm.distributions.provenance import detach_state
from pyro_llm.distributions.sampled import remember_log_prob
from pyro_llm.lm.language_model import Prefix, SamplingKey, Session
from pyro_llm.lm.state import PAD, TextState
from pyro_llm.run_scope import budget_is_spent

if TYPE_CHECKING:
    from pyro_llm.distributions.text_distribution import TextDistribution


@dataclass
class _Draw:
    """What is drawn from one distribution: its rows that are still writing, and where the draws go."""

    distribution: TextDistribution
    batch_shape: Size
    session: Session
    prefix: Prefix
    writing: Tensor
    first_slot: int
    tokens: Tensor
    log_prob: Tensor

    @classmethod
    def begin(cls, distribution: TextDistribution, batch_shape: Size, first_slot: int) -> _Draw:
        state = detach_state(distribution.state)
        rows = state_rows(state, batch_shape)
        tokens = state.tokens.new_full((rows.numel(), distribution.decoding.max_tokens), PAD)
        log_prob = torch.zeros(rows.numel(), dtype=torch.float64, device=tokens.device)
        writing = (~state.finished.reshape(-1)[rows]).nonzero().squeeze(-1)
        prefix = state.prefix(rows[writing])
        return cls(distribution, batch_shape, distribution.session, prefix, writing, first_slot, tokens, log_prob)

    def law(self) -> tuple[object, ...]:
        """Draws that agree in this can be made in one batch."""
        return id(self.session), self.distribution.decoding, self.prefix.prompt_tokens.cpu().numpy().tobytes()


def draw_together(
    distributions: Sequence[TextDistribution],
    batch_shapes: Sequence[Size],
    draw_batch: Callable[[Sequence[_Draw], int | None], None] | None = None,
    greedy: bool = False,
) -> list[Tensor]:
    """Draw from each distribution a batch of values, and remember their log-probabilities.

    Nothing is written in a run that has spent its budget: all is padding, of log-probability 0, as after a text's end.

    One number is drawn from torch's generator. It keys the draw of each token, with its place in the row and the slot
    of its row: the index among the rows of all batches, flattened, one after another.

    Args:
        distributions: what to draw from.
        batch_shapes: for each, the shape of the batch to draw, to which its own broadcasts.
        draw_batch: given draws of one law and the seed, fills in their tokens and log-probabilities; by default, as the
            model's session samples.
        greedy: whether to take the most probable token each time in place of a draw; the seed is None then.

    Returns:
        For each, int64 values of its batch shape followed by its event shape.
    """
    seed = None if greedy else int(torch.empty((), dtype=torch.int64).random_())
    draws: list[_Draw] = []
    slots = 0
    for distribution, batch_shape in zip(distributions, batch_shapes, strict=True):
        draws.append(_Draw.begin(distribution, batch_shape, slots))
        slots += batch_shape.numel()
    writing = [] if budget_is_spent() else [draw for draw in draws if draw.writing.numel()]
    batches: dict[tuple[object, ...], list[_Draw]] = {}
    for draw in writing:
        batches.setdefault(draw.law() if len(writing) > 1 else (), []).append(draw)
    for batch in batches.values():
        (draw_batch or _draw_batch)(batch, seed)
        for draw in batch:
            draw.distribution._count(draw.tokens[draw.writing])
    values = []
    for draw, batch_shape in zip(draws, batch_shapes, strict=True):
        value = draw.tokens.reshape(batch_shape + draw.distribution.event_shape)
        remember_log_prob(value, draw.distribution, draw.log_prob.reshape(batch_shape))
        values.append(value)
    return values


def state_rows(state: TextState, batch_shape: Size) -> Tensor:
    """The flattened row of a state behind each element of a batch of shape `batch_shape`, flattened too."""
    shape = Size(state.batch_shape)
    rows = torch.arange(shape.numel(), device=state.tokens.device)
    return rows.reshape(shape).expand(batch_shape).reshape(-1)


def joined_rows(batch: Sequence[_Draw], seed: int | None) -> tuple[Prefix, SamplingKey]:
    """The rows that are still writing of draws of one law, in one batch of the model."""
    width = max(draw.prefix.tokens.shape[-1] for draw in batch)
    prefix = Prefix(
        prompt_tokens=batch[0].prefix.prompt_tokens,
        tokens=torch.cat([pad(d.prefix.tokens, (0, width - d.prefix.tokens.shape[-1]), value=PAD) for d in batch]),
        lengths=torch.cat([draw.prefix.lengths for draw in batch]),
    )
    key = SamplingKey(seed, torch.cat([draw.first_slot + draw.writing for draw in batch]))
    return prefix, key


def _draw_batch(batch: Sequence[_Draw], seed: int | None) -> None:
    """Draw for all rows of draws of one law."""
    prefix, key = joined_rows(batch, seed)
    drawn = batch[0].session.sample(prefix, batch[0].distribution.decoding, key)
    sizes = [len(draw.prefix) for draw in batch]
    for draw, tokens, log_prob in zip(batch, drawn.tokens.split(sizes), drawn.log_prob.split(sizes), strict=True):
        draw.tokens[draw.writing] = tokens
        draw.log_prob[draw.writing] = log_prob
