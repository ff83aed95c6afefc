"""The next token of a language model under a tilted law, and the factor that makes up for the tilt."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Size, Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from pyro_llm.distributions.lazy_factor import LazyFactor
from pyro_llm.distributions.next_token import NextToken
from pyro_llm.distributions.provenance import detach_state
from pyro_llm.distributions.sampled import recall_log_prob
from pyro_llm.distributions.together import _Draw, draw_together, joined_rows, state_rows
from pyro_llm.lm.keyed import draw, uniforms
from pyro_llm.lm.state import PAD, TextState
from pyro_llm.run_scope import claim, current_cost

_log_normalisers: WeakTensorKeyDictionary = WeakTensorKeyDictionary()  # of each row, by the value that was drawn


class TiltedNextToken(NextToken):
    r"""The next token v with probability $q(v) = p(v)\,\phi(v) / C$, where $C = \sum_v p(v)\,\phi(v)$.

    Followed by the factor C (see `normaliser`) it contributes $p(v)\,\phi(v)$ to the joint density: the model's
    law p times a tilt, drawn from in the way that leaves the weights least noisy (the locally optimal proposal,
    Doucet, Godsill & Andrieu, 2000). C does not depend on the token that was drawn.

    Where C = 0 nothing can be drawn: the value is `PAD`, and the factor is 0.
    """

    @property
    @abstractmethod
    def tilt(self) -> Any:
        """What the tilt is made from, to tell whether two laws are one."""

    @abstractmethod
    def tilted(self, log_probs: Tensor, rows: Tensor) -> Tensor:
        """Logarithm of p(v) phi(v) from that of p(v), `[rows, vocabulary_size]`, for flattened rows of the state."""

    @abstractmethod
    def same_tilt(self, tilt: Any) -> bool:
        """Whether `tilt` is that of this law."""

    def normaliser(self, value: Tensor) -> LazyFactor:
        """The factor C that goes with a draw `value`; computed when asked for, from the pass that drew it if it was.

        Observe it: `factor = law.normaliser(value)`, `pyro.sample(name, factor, obs=factor.sample())`.
        """
        batch_shape = torch.broadcast_shapes(self.batch_shape, value.shape)
        return LazyFactor(lambda: self._log_normaliser(value, batch_shape), batch_shape, self.state.tokens.device)

    @classmethod
    def _draw(cls, distributions: Sequence[Any], batch_shapes: Sequence[Size], greedy: bool = False) -> list[Tensor]:
        return _draw_tilted(distributions, batch_shapes, greedy)

    def _log_normaliser(self, value: Tensor, batch_shape: Size) -> Tensor:
        drawn = _log_normalisers.get(value)
        if drawn is not None and recall_log_prob(value, self) is not None:
            return drawn
        state = detach_state(self.state)
        rows = state_rows(state, batch_shape)
        log_normaliser = torch.zeros(rows.numel(), dtype=torch.float64, device=rows.device)
        writing = (~state.finished.reshape(-1)[rows]).nonzero().squeeze(-1)
        if writing.numel():
            log_probs = self.session.next_log_probs(state.prefix(rows[writing]), self.decoding)
            log_normaliser[writing] = self.tilted(log_probs.double(), rows[writing]).logsumexp(-1)
        return log_normaliser.reshape(batch_shape)

    def _score(self, state: TextState, rows: Tensor, tokens: Tensor) -> Tensor:
        tokens, finished = tokens.squeeze(-1), state.finished.reshape(-1)[rows]
        log_prob = torch.where(tokens == PAD, 0.0, -torch.inf).double()  # of texts that have ended, or cannot go on
        writing = (~finished).nonzero().squeeze(-1)
        if writing.numel():
            log_probs = self.session.next_log_probs(state.prefix(rows[writing]), self.decoding)
            law, stuck = _normalised(self.tilted(log_probs.double(), rows[writing]))
            possible = (tokens[writing] >= 0) & (tokens[writing] < self.lm.vocabulary_size)
            column = torch.where(possible, tokens[writing], 0).long().unsqueeze(-1)
            going = torch.where(possible & ~stuck, law.gather(-1, column).squeeze(-1), -torch.inf)
            log_prob[writing] = torch.where(stuck & (tokens[writing] == PAD), 0.0, going)
        return log_prob


def _normalised(tilted: Tensor) -> tuple[Tensor, Tensor]:
    """The law of each row (anything where nothing is possible), and where nothing is possible."""
    stuck = tilted.amax(-1) == -torch.inf
    return tilted.masked_fill(stuck.unsqueeze(-1), 0.0).log_softmax(-1), stuck


def _draw_tilted(
    distributions: Sequence[TiltedNextToken], batch_shapes: Sequence[Size], greedy: bool = False
) -> list[Tensor]:
    """Draw from each distribution a batch of values, and remember what the factors that go with them are."""
    normalisers: dict[int, Tensor] = {}

    def draw_batch(batch: Sequence[_Draw], seed: int | None) -> None:
        prefix, key = joined_rows(batch, seed)
        log_probs = batch[0].session.next_log_probs(prefix, batch[0].distribution.decoding).double()
        claim(lm_tokens_sampled=len(prefix))
        uniform = torch.zeros(len(prefix)) if key.seed is None else uniforms(key.seed, key.slots, 0)
        sizes = [len(part.prefix) for part in batch]
        for part, terms, place in zip(batch, log_probs.split(sizes), uniform.split(sizes), strict=True):
            distribution = cast(TiltedNextToken, part.distribution)
            state_row = state_rows(distribution.state, part.batch_shape)[part.writing]
            tilted = distribution.tilted(terms, state_row)
            law, stuck = _normalised(tilted)
            token = law.argmax(-1) if greedy else draw(law, place)
            part.tokens[part.writing] = torch.where(stuck, PAD, token).unsqueeze(-1)
            log_prob = law.gather(-1, token.unsqueeze(-1)).squeeze(-1)
            part.log_prob[part.writing] = torch.where(stuck, 0.0, log_prob)
            normalisers[part.first_slot] = torch.zeros_like(part.log_prob).index_put(
                (part.writing,), tilted.logsumexp(-1)
            )
        current_cost().lm_tokens_sampled += len(prefix)
        if hasattr(batch[0].session, "note_drawn"):
            drawn = torch.cat([part.tokens[part.writing, 0] for part in batch])
            batch[0].session.note_drawn(prefix, drawn)

    values = draw_together(distributions, batch_shapes, draw_batch, greedy)
    slot = 0
    for value, batch_shape in zip(values, batch_shapes, strict=True):
        nothing = torch.zeros(batch_shape.numel(), dtype=torch.float64, device=value.device)
        log_normaliser = normalisers.get(slot, nothing) if batch_shape.numel() else nothing
        _log_normalisers[value] = log_normaliser.reshape(batch_shape)
        slot += batch_shape.numel()
    return values
