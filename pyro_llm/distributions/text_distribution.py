"""What `LLM` and `NextToken` share: a lazy distribution over what follows each text of a state."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch
from pyro.distributions import TorchDistribution
from pyro.ops.provenance import detach_provenance, get_provenance, track_provenance
from torch import Size, Tensor

from pyro_llm.distributions.arguments import check_language_model, check_state
from pyro_llm.distributions.provenance import detach_state, state_provenance
from pyro_llm.distributions.replay_key import replay_key
from pyro_llm.distributions.sampled import recall_log_prob
from pyro_llm.distributions.together import draw_together, state_rows
from pyro_llm.lm.decoding import Decoding
from pyro_llm.lm.language_model import LanguageModel, Session
from pyro_llm.lm.state import TextState
from pyro_llm.run_scope import current_run_scope

Self = TypeVar("Self", bound="TextDistribution")


class TextDistribution(TorchDistribution):
    """Tokens that a language model writes after each text of a state; finished texts get nothing but padding.

    Neither constructing nor expanding runs the model, and rows that are finished never enter its batch. Subclasses say
    what the law of a row is, on values in their flattened form `[rows, tokens]`.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's own declaration)

    def __init__(
        self,
        lm: LanguageModel,
        state: TextState,
        decoding: Decoding,
        event_shape: Iterable[int],
        validate_args: bool | None = None,
    ) -> None:
        check_language_model(lm, type(self).__name__)
        check_state(state, type(self).__name__)
        if lm is not state.lm and (lm.vocabulary_size, lm.eos_token_ids) != (
            state.lm.vocabulary_size,
            state.lm.eos_token_ids,
        ):
            raise ValueError(
                f"The language model {lm.name!r} cannot continue a text of {state.lm.name!r}: the vocabularies differ. "
                "Begin the text with the `prompt` of the model that is to continue it."
            )
        self.lm, self.state, self.decoding = lm, state, decoding
        super().__init__(Size(state.batch_shape), Size(event_shape), validate_args=validate_args)

    def expand(self: Self, batch_shape: Size | list[int] | tuple[int, ...], _instance: Self | None = None) -> Self:
        """The distribution broadcast on the left to `batch_shape`; runs nothing, and copies no state."""
        new = self._get_checked_instance(type(self), _instance)
        new.lm, new.state, new.decoding = self.lm, self.state, self.decoding
        super(TextDistribution, new).__init__(Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def decode(self) -> Callable[[Sequence[int]], str]:
        """From tokens of a value to text. Algorithms that find it keep what particles wrote that died out later."""
        return self.lm.decode

    def replay_key(self) -> dict[str, Any]:
        """By name, what the law of this site is made of, for an engine to compare when it replays a program.

        Values are equal (`==`) if they are the same; those with a row for each text have `map_tensors`. Runs no model.
        """
        return replay_key(self.lm, self.decoding, self.state)

    @property
    def tilt(self) -> Any:
        """What makes this another law than the language model's own; None if nothing does."""
        return None

    def same_tilt(self, tilt: Any) -> bool:
        """Whether `tilt` is that of this law."""
        return tilt is None

    @torch.no_grad()
    def sample(self, sample_shape: Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draw tokens for every text; int64, of shape `sample_shape + batch_shape + event_shape`.

        One number is drawn from torch's generator. It keys the draw of each token, with the flattened index of its row
        in the batch and its place in the row, so no result depends on how the rows are batched in the model.
        """
        return self._draw([self], [Size(sample_shape) + self.batch_shape])[0]

    @property
    def mode(self) -> Tensor:
        """What greedy decoding writes after each text: each token the most probable one after those before it.

        Of equally probable tokens the first. For a single token this is the mode; of longer steps there may be more
        probable ones. Draws no random numbers; int64, of shape `batch_shape + event_shape`.
        """
        with torch.no_grad():
            return self._draw([self], [self.batch_shape], greedy=True)[0]

    @classmethod
    @torch.no_grad()
    def sample_together(cls, distributions: Sequence[TextDistribution]) -> list[Tensor]:
        """Draw a value of each of several distributions, in one batch of the model as far as their laws agree."""
        return cls._draw(distributions, [distribution.batch_shape for distribution in distributions])

    @classmethod
    def _draw(cls, distributions: Sequence[Any], batch_shapes: Sequence[Size], greedy: bool = False) -> list[Tensor]:
        """Draw from each distribution a batch of values; see `draw_together`."""
        return draw_together(distributions, batch_shapes, greedy=greedy)

    @torch.no_grad()
    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of `value` in float64. Shape: the batch shapes of `value` and of this, broadcast.

        For the very tensor that was sampled it is the one it was sampled with, and no model runs.

        Raises:
            ValueError: `value` is outside the support (under validation; without it such rows get `-inf`).
        """
        provenance = state_provenance(self.state) | get_provenance(value)
        value = detach_provenance(value)
        log_prob = recall_log_prob(value, self)
        if log_prob is None:
            if self._validate_args:
                self._validate_sample(value)
            batch_shape = torch.broadcast_shapes(value.shape[: value.dim() - self.event_dim], self.batch_shape)
            value = value.expand(batch_shape + self.event_shape).to(self.state.tokens.device)
            state, tokens = detach_state(self.state), value.reshape(batch_shape.numel(), self.decoding.max_tokens)
            log_prob = self._score(state, state_rows(state, batch_shape), tokens).reshape(batch_shape)
        return track_provenance(log_prob, provenance)

    def log_prob_of_draw(self, value: Tensor) -> Tensor:
        """Log-probability that a draw is exactly `value`: that of `log_prob`, or `-inf` where it can be no draw.

        Inference algorithms that put a value drawn after one text behind another need it. Shape as in `log_prob`.
        """
        return self.log_prob(value)

    def _count(self, tokens: Tensor) -> None:
        """Note in the cost of the run what was drawn, `[rows, max_tokens]`, for texts that were still writing."""

    @abstractmethod
    def _score(self, state: TextState, rows: Tensor, tokens: Tensor) -> Tensor:
        """Log-probability of flattened values `tokens`, `[rows, max_tokens]`, after the rows `rows` of `state`."""

    @property
    def session(self) -> Session:
        """The session that knows the state's texts, if there is one."""
        if self.lm is self.state.lm:
            return self.state.session
        scope = current_run_scope()
        return scope.resource(self.lm, self.lm.session) if scope is not None else self.lm.session()

    def __repr__(self) -> str:
        defaults = Decoding(max_tokens=1)
        options = {name: getattr(self.decoding, name) for name in ("stop", "temperature", "top_p", "top_k")}
        changed = "".join(f", {name}={value!r}" for name, value in options.items() if value != getattr(defaults, name))
        length = f", max_tokens={self.decoding.max_tokens}" if self.event_dim else ""
        return f"{type(self).__name__}({self.lm.name!r}, batch_shape={tuple(self.batch_shape)}{length}{changed})"
