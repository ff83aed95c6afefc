"""Process reward models of Hugging Face: a prefix of a solution to the log-odds that it is right so far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from pyro_llm.errors import ContextLengthError, ModelFolderError, RewardError
from pyro_llm.lm.state import TextState
from pyro_llm.rewards.reward_model import TextReward, distinct_texts
from pyro_llm.run_scope import current_cost

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Solution(NamedTuple):
    """What a process reward model reads: a problem, what has been written, and whether the writer ended it."""

    problem: str
    text: str
    ended: bool


class ProcessReward(TextReward):
    """The last token's score of a token classifier with two labels, label 1 being "right so far".

    It reads the problem (by the tokenizer's chat template as a user's message, or as it is where there is none), what
    has been written since, and the end-of-sequence token of its own where the language model ended the text with its.

    Args:
        model: a token classifier with two labels, from `AutoModelForTokenClassification`.
        tokenizer: its tokenizer.
        name: for messages.
        batch_size: the most texts in one forward pass; texts of like lengths go together.

    Raises:
        ModelFolderError: the model has not two labels.
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
    ) -> None:
        if model.config.num_labels != 2:
            raise ModelFolderError(
                f"The model {name!r} has {model.config.num_labels} labels. A process reward is read from a token "
                "classifier with two: wrong (0) and right (1)."
            )
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size!r}")
        self.model, self.tokenizer, self.name, self.batch_size = model.eval(), tokenizer, name, batch_size

    def items(self, state: TextState) -> list[Solution]:
        """Problem, text since the prompt, and whether EOS ended it."""
        eos = state.tokens.new_tensor(state.lm.eos_token_ids)
        ended = torch.isin(state.tokens, eos).any(-1).reshape(-1).tolist()
        return [Solution(state.prompt, *row) for row in zip(distinct_texts(state), ended, strict=True)]

    @torch.no_grad()
    def score(self, items: Sequence[Solution]) -> list[float]:
        """Log-odds, in fp32, that each solution is right so far."""
        rows = [self.encode(item) for item in items]
        log_odds = torch.empty(len(items), dtype=torch.float32)
        for batch in self._batches(rows):
            log_odds[batch] = self._forward([rows[index] for index in batch])
        for item, value in zip(items, log_odds.tolist(), strict=True):
            if value != value:
                raise RewardError(
                    f"The reward model {self.name!r} gives NaN for the text {item.text!r} (problem: {item.problem!r}). "
                    "In half precision this is an overflow: load it with dtype=torch.float32."
                )
        return log_odds.tolist()

    def encode(self, solution: Solution) -> list[int]:
        """The token ids that the model reads for a solution; its score is read at the last."""
        templated = self.tokenizer.chat_template is not None
        problem = solution.problem
        if templated:
            messages = [{"role": "user", "content": problem}]
            problem = str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        tokens = self.tokenizer(problem + solution.text, add_special_tokens=not templated)["input_ids"]
        if solution.ended and self.tokenizer.eos_token_id is not None and tokens[-1:] != [self.tokenizer.eos_token_id]:
            tokens = [*tokens, self.tokenizer.eos_token_id]
        limit = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        if limit is not None and len(tokens) > limit:
            raise ContextLengthError(
                f"The reward model {self.name!r} reads at most {limit} tokens; problem and text have {len(tokens)} "
                f"(text: {solution.text!r}). Shorten the problem, or allow fewer or shorter steps."
            )
        if not tokens:
            raise RewardError(f"The reward model {self.name!r} was given an empty problem and an empty text to judge.")
        return tokens

    def _batches(self, rows: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Indices of rows, in batches of like lengths."""
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        for start in range(0, len(order), self.batch_size):
            yield order[start : start + self.batch_size]

    def _forward(self, rows: Sequence[Sequence[int]]) -> Tensor:
        lengths = torch.tensor([len(row) for row in rows])
        width = int(lengths.max())
        padding = self.tokenizer.pad_token_id or 0
        tokens = torch.tensor([[*row, *[padding] * (width - len(row))] for row in rows])
        mask = torch.arange(width) < lengths.unsqueeze(-1)
        device = self.model.device
        logits = self.model(input_ids=tokens.to(device), attention_mask=mask.long().to(device)).logits
        last = logits[torch.arange(len(rows), device=device), (lengths - 1).to(device)].float()
        current_cost().reward_calls += 1
        current_cost().reward_tokens += int(lengths.sum())
        return (last[:, 1] - last[:, 0]).cpu()

    def __repr__(self) -> str:
        return f"ProcessReward({self.name!r})"
