"""The next token of a language model as a distribution: a categorical whose logits are asked for when needed."""

from __future__ import annotations

import torch
from pyro.distributions import constraints
from torch import Tensor

from pyro_llm.distributions.text_distribution import TextDistribution
from pyro_llm.lm.decoding import Decoding
from pyro_llm.lm.language_model import LanguageModel
from pyro_llm.lm.state import PAD, TextState


class NextToken(TextDistribution):
    """The next token of each text. For texts that are finished the value is `PAD` (-1), with probability 1.

    `TextState.append_token` takes the value. The support can be enumerated, so Pyro's exact algorithms apply where the
    vocabulary is small. Lazy as `LLM` is.

    Args:
        lm: the language model.
        state: the texts to continue. Its batch shape is that of the distribution; the event shape is empty.
        temperature: divides the logits. Greater than 0.
        top_p: keeps the smallest set of most probable tokens whose mass reaches it. In (0, 1].
        top_k: keeps the most probable tokens, so many. 0 keeps all.
        validate_args: whether to check values against `support`. As Pyro's validation by default.

    Raises:
        ValueError: an option out of its range, or a model whose vocabulary is not that of the state.
        CapabilityError: when its log-probabilities are asked for, if the model gives no logits.

    Examples:
        >>> from pyro_llm.lm import TableLM
        >>> lm = TableLM(lambda tokens: [0.5, 0.3, 0.2], ["a", "b", "."], eos_token_id=2)
        >>> token = NextToken(lm, lm.prompt(""), top_k=2)
        >>> token.log_prob(token.enumerate_support()).exp()
        tensor([0.0000, 0.6250, 0.3750, 0.0000], dtype=torch.float64)
    """

    has_enumerate_support = True

    def __init__(
        self,
        lm: LanguageModel,
        state: TextState,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        validate_args: bool | None = None,
    ) -> None:
        decoding = Decoding(max_tokens=1, temperature=temperature, top_p=top_p, top_k=top_k)
        super().__init__(lm, state, decoding, (), validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> constraints.Constraint:
        """Token ids, and `PAD`."""
        return constraints.integer_interval(PAD, self.lm.vocabulary_size - 1)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """`PAD` and all tokens along a new leftmost dimension, `[1 + vocabulary_size, ...]`. Runs no model."""
        values = torch.arange(PAD, self.lm.vocabulary_size, device=self.state.tokens.device)
        values = values.reshape((-1,) + (1,) * len(self.batch_shape))
        return values.expand(values.shape[:1] + self.batch_shape) if expand else values

    def _score(self, state: TextState, rows: Tensor, tokens: Tensor) -> Tensor:
        tokens, finished = tokens.squeeze(-1), state.finished.reshape(-1)
        log_probs = torch.full((finished.numel(), 1 + self.lm.vocabulary_size), -torch.inf, dtype=torch.float64)
        log_probs = log_probs.to(rows.device)  # its column 0 is for PAD
        log_probs[finished, 0] = 0.0
        writing = (~finished).nonzero().squeeze(-1)
        if writing.numel():
            log_probs[writing, 1:] = self.session.next_log_probs(state.prefix(writing), self.decoding).double()
        possible = self.support.check(tokens)
        column = torch.where(possible, tokens - PAD, 0).long()
        return log_probs[rows, column].masked_fill(~possible, -torch.inf)
