"""The next token among those that a hard constraint allows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyro_llm.distributions.replay_key import Allowed
from pyro_llm.distributions.tilted_next_token import TiltedNextToken
from pyro_llm.lm.language_model import LanguageModel
from pyro_llm.lm.state import TextState
from pyro_llm.lm.token_automaton import AllowedTokens


class ConstrainedNextToken(TiltedNextToken):
    r"""The next token, drawn from the language model's law restricted to the allowed tokens and renormalised.

    By itself it is the greedily masked law, which is *not* the language model conditioned on the constraint: masking
    forgets how much of the model's mass was allowed. That mass, $C = \sum_{v \text{ allowed}} p(v)$, is the factor
    `normaliser(value)`; with it the joint density is $p(v)\,1[v \text{ allowed}]$, and a particle filter over such
    steps targets the conditioned model, its evidence the probability of the constraint. (Loula et al., "Syntactic and
    semantic control of large language models via sequential Monte Carlo", arXiv 2504.13139.)

    Args:
        lm: the language model.
        state: the texts to continue.
        allowed: the tokens that may come next, `AllowedTokens` of an automaton, or a mask of shape
            `[..., vocabulary_size]` whose batch broadcasts to that of `state`.
        temperature: as in `NextToken`: part of the law that is conditioned.
        top_p: as in `NextToken`.
        top_k: as in `NextToken`.
        validate_args: as in `NextToken`.

    Raises:
        ValueError: as for `NextToken`; the mask does not fit the state and the vocabulary.

    Examples:
        >>> from pyro_llm.lm import TableLM
        >>> lm = TableLM(lambda tokens: [0.5, 0.3, 0.2], ["a", "b", "."], eos_token_id=2)
        >>> law = ConstrainedNextToken(lm, lm.prompt(""), torch.tensor([True, True, False]))
        >>> law.log_prob(law.enumerate_support()).exp()
        tensor([0.0000, 0.6250, 0.3750, 0.0000], dtype=torch.float64)
        >>> law.normaliser(torch.tensor(0)).log_factor.exp()
        tensor(0.8000, dtype=torch.float64)
    """

    def __init__(
        self,
        lm: LanguageModel,
        state: TextState,
        allowed: AllowedTokens | Tensor,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(lm, state, temperature, top_p, top_k, validate_args)
        if isinstance(allowed, Tensor):
            shape = (*state.batch_shape, lm.vocabulary_size)
            try:
                allowed = allowed.expand(shape)
            except RuntimeError as error:
                raise ValueError(
                    f"A mask of shape {tuple(allowed.shape)} does not fit texts of batch shape "
                    f"{tuple(state.batch_shape)} and a vocabulary of {lm.vocabulary_size} tokens."
                ) from error
        self.allowed = allowed

    def expand(self, batch_shape: Any, _instance: Any = None) -> ConstrainedNextToken:
        """The distribution broadcast on the left to `batch_shape`; runs nothing."""
        new = super().expand(batch_shape, _instance)
        new.allowed = self.allowed
        return new

    def replay_key(self) -> dict[str, Any]:
        """What a replay is compared by: what is allowed too."""
        return {**super().replay_key(), "allowed": Allowed(self.allowed)}

    @property
    def tilt(self) -> AllowedTokens | Tensor:
        """The allowed tokens."""
        return self.allowed

    def same_tilt(self, tilt: Any) -> bool:
        """Whether `tilt` allows the same tokens."""
        if tilt is self.allowed:
            return True
        if isinstance(tilt, Tensor) and isinstance(self.allowed, Tensor):
            return tilt.shape == self.allowed.shape and torch.equal(tilt, self.allowed)
        if isinstance(tilt, AllowedTokens) and isinstance(self.allowed, AllowedTokens):
            return self.allowed.agrees(tilt)
        return False

    def tilted(self, log_probs: Tensor, rows: Tensor) -> Tensor:
        """Log-probabilities with what is not allowed at minus infinity."""
        if isinstance(self.allowed, Tensor):
            mask = self.allowed.reshape(-1, self.lm.vocabulary_size)[rows]
        else:
            mask = self.allowed.mask(rows)
        return log_probs.masked_fill(~mask.to(log_probs.device), -torch.inf)
