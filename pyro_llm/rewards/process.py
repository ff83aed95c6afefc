"""Process reward models of Hugging Face: a prefix of a solution to the log-odds that it is right so far."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, NamedTuple

import torch

from pyro_llm.errors import CapabilityError, ContextLengthError, ModelFolderError, RewardError
from pyro_llm.lm.state import TextState
from pyro_llm.rewards.batching import BatchLimits
from pyro_llm.rewards.reward_model import TextReward, distinct_texts
from pyro_llm.run_scope import current_run_scope

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pyro_llm.lm.kv.transformer import CachedTransformer
    from pyro_llm.rewards.readers import Reader


class Solution(NamedTuple):
    """What a process reward model reads: a problem, what has been written, and whether the writer ended it."""

    problem: str
    text: str
    ended: bool


class ProcessReward(TextReward):
    """The last token's score of a token classifier with two labels, label 1 being "right so far".

    It reads the problem (by the tokenizer's chat template as a user's message, or as it is where there is none), what
    has been written since, and the end-of-sequence token of its own where the language model ended the text with its.

    A causal classifier reads only what is new in a run: it keeps the keys and values of the texts it has read, and
    starts each text from the longest beginning, in tokens of its own tokenizer, that it shares with one of them. So the
    steps of a particle cost their own tokens, through forks and resampling, and the problem is read once. A classifier
    that is bidirectional or recurrent, or has no such cache, reads each text whole.

    In one program the forward passes of a step's reward cannot run beside those of the language model: they read the
    step that it has drawn, and it draws the next one for particles that the reward has helped to select. The host waits
    for the device once a call, when all scores are there.

    Args:
        model: a token classifier with two labels, from `AutoModelForTokenClassification`.
        tokenizer: its tokenizer.
        name: for messages.
        batch_size: the most texts in one forward pass; texts of like lengths go together.
        batch_tokens: the most tokens read in one forward pass, padding included; a longer text goes alone.
        cache_bytes: the most memory for keys and values that a run keeps from one call to the next. Beyond it, the
            texts that were not asked for the longest are forgotten, and read anew if they come back.

    Raises:
        ModelFolderError: the model has not two labels.
        ValueError: a limit is out of its range.
        ContextLengthError: when it scores, if a text does not fit the model's context.
        RewardError: when it scores, if a score is NaN, or there is nothing to read.
    """

    dtype = torch.float32

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        name: str = "process reward",
        batch_size: int = 64,
        batch_tokens: int = 1 << 14,
        cache_bytes: int = 1 << 32,
    ) -> None:
        if model.config.num_labels != 2:
            raise ModelFolderError(
                f"The model {name!r} has {model.config.num_labels} labels. A process reward is read from a token "
                "classifier with two: wrong (0) and right (1)."
            )
        if cache_bytes < 0:
            raise ValueError(f"cache_bytes must not be negative, and is {cache_bytes!r}; 0 keeps nothing")
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name
        self.limits, self.cache_bytes = BatchLimits(batch_size, batch_tokens), cache_bytes

    @property
    def context_length(self) -> int | None:
        """Positions of the model, or None if its config names no limit."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    def items(self, state: TextState) -> list[Solution]:
        """Problem, text since the prompt, and whether EOS ended it."""
        eos = state.tokens.new_tensor(state.lm.eos_token_ids)
        ended = torch.isin(state.tokens, eos).any(-1).reshape(-1).tolist()
        return [Solution(state.prompt, *row) for row in zip(distinct_texts(state), ended, strict=True)]

    @torch.no_grad()
    def score(self, items: Sequence[Solution]) -> list[float]:
        """Log-odds, in fp32, that each solution is right so far."""
        rows: dict[tuple[int, ...], Solution] = {}
        of_item = [tuple(row) for row in self._encode(items)]
        for row, item in zip(of_item, items, strict=True):
            rows.setdefault(row, item)
        problems = [Solution(item.problem, "", ended=False) for item in rows.values()]
        logits = self._reader().last_logits(list(rows), [tuple(row) for row in self._tokens(problems)])
        log_odds = dict(zip(rows, (logits[:, 1] - logits[:, 0]).tolist(), strict=True))
        for row, item in rows.items():
            if log_odds[row] != log_odds[row]:
                raise RewardError(
                    f"The reward model {self.name!r} gives NaN for the text {item.text!r} (problem: {item.problem!r}). "
                    "In half precision this is an overflow: load it with dtype=torch.float32."
                )
        return [log_odds[row] for row in of_item]

    def encode(self, solution: Solution) -> list[int]:
        """The token ids that the model reads for a solution; its score is read at the last."""
        return self._encode([solution])[0]

    def _encode(self, solutions: Sequence[Solution]) -> list[list[int]]:
        return [self._ended(row, solution) for row, solution in zip(self._tokens(solutions), solutions, strict=True)]

    def _tokens(self, solutions: Sequence[Solution]) -> list[list[int]]:
        """The tokens of problem and text."""
        templated = self.tokenizer.chat_template is not None
        problems = {solution.problem: solution.problem for solution in solutions}
        if templated:
            problems = {problem: self._rendered(problem) for problem in problems}
        texts = [problems[solution.problem] + solution.text for solution in solutions]
        return list(self.tokenizer(texts, add_special_tokens=not templated)["input_ids"])

    def _rendered(self, problem: str) -> str:
        messages = [{"role": "user", "content": problem}]
        return str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def _ended(self, tokens: list[int], solution: Solution) -> list[int]:
        """The tokens with EOS where it belongs, checked."""
        if solution.ended and self.tokenizer.eos_token_id is not None and tokens[-1:] != [self.tokenizer.eos_token_id]:
            tokens = [*tokens, self.tokenizer.eos_token_id]
        limit = self.context_length
        if limit is not None and len(tokens) > limit:
            raise ContextLengthError(
                f"The reward model {self.name!r} reads at most {limit} tokens; problem and text have {len(tokens)} "
                f"(text: {solution.text!r}). Shorten the problem, or allow fewer or shorter steps."
            )
        if not tokens:
            raise RewardError(f"The reward model {self.name!r} was given an empty problem and an empty text to judge.")
        return tokens

    @cached_property
    def _cached_model(self) -> CachedTransformer | None:
        """The model with a key-value cache, if it is one that can have it."""
        from pyro_llm.lm.kv.transformer import CachedTransformer
        from pyro_llm.rewards.causal import is_causal

        try:
            cached = CachedTransformer(self.model, self.context_length)
        except CapabilityError:
            return None
        return cached if is_causal(self.model) and not cached.recurrent else None

    def _reader(self) -> Reader:
        """The reader of the run in progress; outside any, one that remembers nothing from one call to the next."""
        from pyro_llm.rewards.readers import CachedReader, WholeReader

        cached = self._cached_model
        if cached is None:
            return WholeReader(self.model, self.tokenizer.pad_token_id or 0, self.limits)
        reader = partial(CachedReader, cached, self.limits, self.cache_bytes, self.model.device)
        scope = current_run_scope()
        return reader() if scope is None else scope.resource(cached, reader)

    def __repr__(self) -> str:
        return f"ProcessReward({self.name!r})"
