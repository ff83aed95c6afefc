"""Rewards read from a model's head at the last token of rows of tokens, with keys and values kept for a run."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from pyro_llm.errors import CapabilityError, ContextLengthError, RewardError
from pyro_llm.lm.memory import Memory
from pyro_llm.lm.state import TextState
from pyro_llm.rewards.reading.batching import BatchLimits
from pyro_llm.rewards.reward_model import TextReward, distinct_texts
from pyro_llm.run_scope import current_run_scope

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pyro_llm.lm.kv.transformer import CachedTransformer
    from pyro_llm.rewards.reading.readers import Reader


class Solution(NamedTuple):
    """What a reward judges: a problem, what has been written, and whether the writer ended it."""

    problem: str
    text: str
    ended: bool


def solutions(state: TextState) -> list[Solution]:
    """The flattened rows of a state: its problem, each text since the prompt, and whether EOS ended it."""
    eos = state.tokens.new_tensor(state.lm.eos_token_ids)
    ended = torch.isin(state.tokens, eos).any(-1).reshape(-1).tolist()
    return [Solution(state.prompt, *row) for row in zip(distinct_texts(state), ended, strict=True)]


class HeadReward(TextReward):
    """Scores that the outputs of a model's head at some tokens make: the base of rewards that are models.

    A subclass says by `parts` what is read for a solution, by `encode` with which tokens, the head being read at the
    last of them, and by `combine` what log-odds the outputs make. Parts are read once in a run.

    A causal model reads only what is new in a run: it keeps the keys and values of the rows it has read, and starts
    each row from the longest beginning, in tokens of its own tokenizer, that it shares with one of them. So the steps
    of a particle cost their own tokens, through forks and resampling, and the problem is read once. A model that is
    bidirectional or recurrent, or has no such cache, reads each row whole.

    Args:
        model: one whose `logits` are the head's outputs at every token.
        tokenizer: its tokenizer.
        name: for messages.
        batch_size: the most rows in one forward pass; rows of like lengths go together.
        batch_tokens: the most tokens read in one forward pass, padding included; a longer row goes alone.
        memory_budget: bytes that keys, values and logits may take over all runs, weights and activations apart, as for
            `HFLanguageModel`. Rows beyond it wait their turn, and what was read the longest ago is forgotten and read
            anew if it comes back, with the same scores. None: half of what the device has free when it first reads.

    Raises:
        OptionError: a limit is out of its range, or the memory budget is no positive number of bytes.
        OutOfMemoryError: when it scores, if there is not enough memory for a single text.
        ContextLengthError: when it scores, if a text does not fit the model's context.
        RewardError: when it scores, if a score is NaN, or there is nothing to read.
    """

    dtype = torch.float32
    scores_together = True

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        name: str = "reward",
        batch_size: int = 64,
        batch_tokens: int = 1 << 14,
        memory_budget: int | None = None,
    ) -> None:
        from pyro_llm.lm.kv.transformer import input_device

        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name
        self.limits = BatchLimits(batch_size, batch_tokens)
        self.memory = Memory(memory_budget, input_device(model))
        self._outputs = object()  # owns the outputs of parts in a run

    @property
    def context_length(self) -> int | None:
        """Positions of the model, or None if its config names no limit."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    def items(self, state: TextState) -> list[Solution]:
        """Problem, text since the prompt, and whether EOS ended it."""
        return solutions(state)

    @abstractmethod
    def parts(self, solution: Solution) -> Sequence[Any]:
        """What is read for a solution, hashable, each with an attribute `problem`; equal parts are read once."""

    @abstractmethod
    def encode(self, part: Any) -> list[int]:
        """The token ids that the model reads for a part; its head is read at the last."""

    @abstractmethod
    def combine(self, outputs: Tensor) -> float:
        """The log-odds of a solution from the head's outputs for its parts, fp32 `[parts, width]`."""

    def encode_all(self, parts: Sequence[Any]) -> list[list[int]]:
        """The token ids of several parts."""
        return [self.encode(part) for part in parts]

    def encode_problem(self, problem: str) -> list[int]:
        """Tokens that begin as all rows on a problem do; how they go on does not matter."""
        return self.encode(self.parts(Solution(problem, "", ended=False))[-1])

    @property
    def scores_beside(self) -> bool:
        """Whether the model is on one CUDA device: its passes then go through a stream of their own."""
        spread = len(set(getattr(self.model, "hf_device_map", {}).values())) > 1
        return self.memory.device.type == "cuda" and torch.cuda.is_available() and not spread

    def score_beside(self, items: Sequence[Solution]) -> list[float]:
        """Log-odds, computed in a stream of their own; the host alone sees them, and waits for them."""
        with torch.cuda.stream(self._stream):
            return self.score(items)

    @cached_property
    def _stream(self) -> torch.cuda.Stream:
        stream = torch.cuda.Stream(self.memory.device)
        stream.wait_stream(torch.cuda.default_stream(self.memory.device))  # in which the weights were put there
        return stream

    @torch.no_grad()
    def score(self, items: Sequence[Solution]) -> list[float]:
        """Log-odds of each solution, from fp32 outputs of the head."""
        of_item = [list(self.parts(item)) for item in items]
        scope = current_run_scope()
        known: dict[Hashable, Tensor] = {} if scope is None else scope.resource(self._outputs, dict)
        reader = self._reader()
        for parts in self._waves(of_item, known):
            known.update(zip(parts, self._read(parts, reader), strict=True))
        return [
            self._combined(item, [known[part] for part in parts]) for item, parts in zip(items, of_item, strict=True)
        ]

    def _waves(self, of_item: Sequence[list[Any]], known: dict[Hashable, Tensor]) -> Iterator[list[Any]]:
        """Unknown parts, shorter ones first: what a part shares with the one before it is then read already."""
        for depth in range(max(map(len, of_item), default=0)):
            at_depth = dict.fromkeys(parts[depth] for parts in of_item if depth < len(parts))
            unknown = [part for part in at_depth if part not in known]
            if unknown:
                yield unknown

    def _read(self, parts: Sequence[Any], reader: Reader) -> list[Tensor]:
        rows: dict[tuple[int, ...], Any] = {}
        of_part = [tuple(self._checked(row, part)) for row, part in zip(self.encode_all(parts), parts, strict=True)]
        for row, part in zip(of_part, parts, strict=True):
            rows.setdefault(row, part)
        problems = {part.problem: tuple(self.encode_problem(part.problem)) for part in rows.values()}
        outputs = reader.last_logits(list(rows), [problems[part.problem] for part in rows.values()]).cpu()
        place = {row: index for index, row in enumerate(rows)}
        return [outputs[place[row]] for row in of_part]

    def _checked(self, tokens: list[int], part: Any) -> list[int]:
        limit = self.context_length
        if limit is not None and len(tokens) > limit:
            raise ContextLengthError(
                f"The reward model {self.name!r} reads at most {limit} tokens; problem and text have {len(tokens)} "
                f"({part!r}). Shorten the problem, or allow fewer or shorter steps."
            )
        if not tokens:
            raise RewardError(f"The reward model {self.name!r} was given an empty problem and an empty text to judge.")
        return tokens

    def _combined(self, item: Solution, outputs: Sequence[Tensor]) -> float:
        log_odds = self.combine(torch.stack(list(outputs)))
        if log_odds != log_odds:
            raise RewardError(
                f"The reward model {self.name!r} gives NaN for the text {item.text!r} (problem: {item.problem!r}). "
                "In half precision this is an overflow: load it with dtype=torch.float32."
            )
        return log_odds

    @cached_property
    def _cached_model(self) -> CachedTransformer | None:
        """The model with a key-value cache, if it is one that can have it."""
        from pyro_llm.lm.kv.transformer import CachedTransformer
        from pyro_llm.rewards.reading.causal import is_causal

        try:
            cached = CachedTransformer(self.model, self.context_length)
        except CapabilityError:
            return None
        return cached if is_causal(self.model) and not cached.recurrent else None

    def _reader(self) -> Reader:
        """The reader of the run in progress; outside any, one that remembers nothing from one call to the next."""
        from pyro_llm.rewards.reading.readers import CachedReader, WholeReader

        cached = self._cached_model
        if cached is None:
            return WholeReader(self.model, self.tokenizer.pad_token_id or 0, self.name, self.limits, self.memory)
        reader = partial(CachedReader, cached, self.name, self.limits, self.memory)
        scope = current_run_scope()
        return reader() if scope is None else scope.resource(cached, reader)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"
