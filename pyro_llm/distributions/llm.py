"""A language model as a distribution over steps of text: the transition of the paper's state-space model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pyro.distributions import constraints
from torch import Tensor

from pyro_llm.distributions.text_distribution import TextDistribution
from pyro_llm.distributions.token_sequence import token_sequence
from pyro_llm.errors import ObservedTextError
from pyro_llm.lm.decoding import Decoding, stop_strings
from pyro_llm.lm.language_model import LanguageModel
from pyro_llm.lm.state import PAD, TextState
from pyro_llm.lm.stopping import terminator
from pyro_llm.run_scope import current_cost


class LLM(TextDistribution):
    r"""What a language model writes next: tokens until a stop string, EOS or `max_tokens`.

    The transition $p_M(x_t \mid c, x_{<t})$ of Puri et al. (arXiv 2502.01618, Section 3). A value is a row of token ids
    padded on the right with `PAD` (-1); the token that ends it, EOS or the one in which a stop string is completed, is
    part of it. Texts that are finished get a row of padding, with probability 1.

    `log_prob` is the log-probability that what the model writes *begins* with the value. For a value that has ended, or
    has `max_tokens` tokens, this is its log-probability, and over all of these the probabilities sum to 1. For a
    shorter one it sums over all that may follow. Temperature, top-p and top-k are part of the law: it is renormalised
    and scored.

    Lazy: constructing, expanding, replaying and pickling run no model, only `sample` does, and `log_prob` of values
    that were not sampled here.

    Args:
        lm: the language model.
        state: the texts to continue. Its batch shape is that of the distribution; the event shape is `[max_tokens]`.
        stop: a string, or several, that end the step once written. They may span tokens or end inside one. None: EOS
            only.
        max_tokens: the length of the longest step.
        temperature: divides the logits. Greater than 0.
        top_p: keeps the smallest set of most probable tokens whose mass reaches it. In (0, 1].
        top_k: keeps the most probable tokens, so many. 0 keeps all.
        validate_args: whether to check values against `support`. As Pyro's validation by default.

    Raises:
        OptionError: an argument is of another kind than it should be, a reward in place of a language model, say.
        ValueError: an option out of its range, or a model whose vocabulary is not that of the state.
        UnknownStopError: a stop string is empty, or one that the vocabulary cannot produce.
        ContextLengthError: when it runs the model, if a text outgrows the context.

    Examples:
        >>> from pyro_llm.lm import TableLM
        >>> lm = TableLM(lambda tokens: [0.5, 0.3, 0.2], ["a", "b", "."], eos_token_id=2)
        >>> step = LLM(lm, lm.prompt(""), stop="b", max_tokens=4)
        >>> step.batch_shape, step.event_shape
        (torch.Size([]), torch.Size([4]))
        >>> value = step.encode("aab")
        >>> value, step.log_prob(value).exp()
        (tensor([ 0,  0,  1, -1]), tensor(0.0750, dtype=torch.float64))
    """

    def __init__(
        self,
        lm: LanguageModel,
        state: TextState,
        stop: str | Sequence[str] | None = None,
        max_tokens: int = 256,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        validate_args: bool | None = None,
    ) -> None:
        strings = stop_strings(stop)
        decoding = Decoding(max_tokens=max_tokens, stop=strings, temperature=temperature, top_p=top_p, top_k=top_k)
        super().__init__(lm, state, decoding, (max_tokens,), validate_args)
        if strings:
            terminator(lm, strings)  # here, so that a stop that cannot be is found where it is written

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> constraints.Constraint:
        """Rows of tokens with nothing but padding after their end."""
        return token_sequence(self.lm.vocabulary_size, terminator=terminator(self.lm, self.decoding.stop))

    def log_prob_of_draw(self, value: Tensor) -> Tensor:
        """Log-probability that the model writes `value` and stops there; `-inf` for beginnings of longer steps.

        So nothing but padding has probability 1 after a finished text, and 0 after any other. Shape as in `log_prob`.
        """
        tokens = value.reshape(-1, value.shape[-1])
        ending = terminator(self.lm, self.decoding.stop)
        complete = ending.ended(ending.states(tokens)).any(-1) | (tokens != PAD).all(-1)
        complete = complete.reshape(value.shape[:-1]) | self.state.finished
        return self.log_prob(value).masked_fill(~complete, -torch.inf)

    def encode(self, text: str, eos: bool = False) -> Tensor:
        """A text as a value of this distribution, to observe it, say. Shape `[max_tokens]`.

        Args:
            text: the text of one step, with its stop string if it has one.
            eos: whether the end-of-sequence token follows.

        Raises:
            ObservedTextError: the text has more than `max_tokens` tokens, or runs on after its end.
        """
        tokens = [*self.lm.encode(text), *(self.lm.eos_token_ids[:1] if eos else ())]
        if len(tokens) > self.decoding.max_tokens:
            raise ObservedTextError(
                f"The text {text!r} has {len(tokens)} tokens, the distribution max_tokens={self.decoding.max_tokens}. "
                "Raise max_tokens, or observe the text step by step."
            )
        value = torch.tensor(tokens + [PAD] * (self.decoding.max_tokens - len(tokens)), device=self.state.tokens.device)
        if not self.support.check(value):
            raise ObservedTextError(
                f"The text {text!r} runs on after its end: a step ends with the token that completes a stop string "
                f"({', '.join(map(repr, self.decoding.stop)) or 'none'}) or with EOS. Observe the rest at the next."
            )
        return value

    def _count(self, tokens: Tensor) -> None:
        # Without a stop string, reaching `max_tokens` is how a text is written in blocks, and nothing amiss.
        if self.decoding.stop and tokens.numel():
            full = tokens[tokens[:, -1] != PAD]
            ending, cost = terminator(self.lm, self.decoding.stop), current_cost()
            cost.steps_sampled += tokens.shape[0]
            if full.numel():
                cost.steps_truncated += int((~ending.ended(ending.states(full)[:, -1])).sum())

    def _score(self, state: TextState, rows: Tensor, tokens: Tensor) -> Tensor:
        finished, empty = state.finished.reshape(-1)[rows], (tokens == PAD).all(-1)
        log_prob = torch.zeros(rows.shape, dtype=torch.float64, device=rows.device)
        log_prob = log_prob.masked_fill(finished & ~empty, -torch.inf)
        written = (~finished & ~empty).nonzero().squeeze(-1)
        if written.numel():
            prefix, continuation = state.prefix(rows[written]), tokens[written].long()
            log_prob[written] = self.session.score(prefix, continuation, self.decoding)
        return log_prob
