"""Reward models that vLLM serves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pyro_llm.errors import OptionError
from pyro_llm.rewards.counts import set_counts
from pyro_llm.rewards.remote.endpoint import (
    Answer,
    Endpoint,
    Item,
    Scale,
    as_log_odds,
    as_number,
    check_scale,
    check_score_for_each,
    check_template,
    tokens_of,
)
from pyro_llm.rewards.steps import split_steps


@dataclass(frozen=True)
class PoolingEndpoint(Endpoint):
    r"""Reward models behind vLLM's `/pooling` and `/classify`: `{"model": ..., "input": [...]}`, `{"data": [...]}`.

    The score of a text is the last of its data (process reward models give a row for each step, or token): of two
    numbers the second, the probability of "right" with the first as its complement; of one number that one.

    A process reward model that is read at a token after each step needs that token in the text, and problem and steps
    in the form that it was trained with: vLLM gives rows at these tokens alone. For such a model give `step_separator`
    and `step_tag`, and as `template` the chat as it is written; `PoolingEndpoint.qwen_prm` has those of
    Qwen2.5-Math-PRM.

    Args:
        model: the model's name on the server.
        template: the text that is judged, with `{problem}` and `{text}`; other braces are doubled.
        scale: what numbers are: probabilities, or logits (of two, their difference is the log-odds).
        path: `"/pooling"` or `"/classify"`.
        batch_size: the most texts in a request.
        step_separator: what ends a step in the language model's text; it is left out of what is judged. None: the text
            is judged as it is.
        step_tag: written after each step; goes with `step_separator`.

    Raises:
        OptionError: there is no such scale, the template cannot be filled, `batch_size` is no whole number of at least
            1, or only one of `step_separator` and `step_tag` is given.

    Source: the "OpenAI-Compatible Server" and "Pooling Models" pages of vLLM's documentation.

    Example:
        >>> prm = PoolingEndpoint("prm", template="{problem}{text}", step_separator="\n", step_tag="<end>")
        >>> prm.payload([Item("6 * 7?", "3 * 7 = 21\n2 * 21 = 42\n")])["input"]
        ['6 * 7?3 * 7 = 21<end>2 * 21 = 42<end>']
    """

    model: str
    template: str = "{problem}{text}"
    scale: Scale = "probability"
    path: str = "/pooling"
    batch_size: int = 32
    step_separator: str | None = None
    step_tag: str = ""

    @classmethod
    def qwen_prm(
        cls, model: str, step_separator: str | None = None, system_prompt: str | None = None, **options: Any
    ) -> PoolingEndpoint:
        """For Qwen2.5-Math-PRM and others of its format, as `QwenProcessReward` writes: a chat, a tag after each step.

        Args:
            model: the model's name on the server.
            step_separator: what ends a step in the language model's text; by default a blank line, as in the card.
            system_prompt: the card's by default.
            options: others of `PoolingEndpoint`.
        """
        from pyro_llm.rewards.formats.qwen_prm import SYSTEM_PROMPT, TAG, QwenProcessReward

        system = (SYSTEM_PROMPT if system_prompt is None else system_prompt).replace("{", "{{").replace("}", "}}")
        turns = (("system", system), ("user", "{problem}"), ("assistant", "{text}"))
        template = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns)
        separator = QwenProcessReward.separator if step_separator is None else step_separator
        return cls(model, template, step_separator=separator, step_tag=TAG, **options)

    def __post_init__(self) -> None:
        check_scale(self.scale)
        set_counts(self, batch_size=1)
        check_template(self.template)
        if self.step_separator == "" or (self.step_separator is None) != (self.step_tag == ""):
            raise OptionError(
                f"step_separator={self.step_separator!r}, step_tag={self.step_tag!r}: give both, what ends a step "
                "in the text and what the model is read at, or neither."
            )

    def payload(self, items: Sequence[Item]) -> Any:
        """The model and the texts."""
        return {"model": self.model, "input": [self._rendered(item) for item in items]}

    def _rendered(self, item: Item) -> str:
        text = item.text
        if self.step_separator is not None:
            text = "".join(step + self.step_tag for step in split_steps(text, self.step_separator))
        return self.template.format(problem=item.problem, text=text)

    def read(self, items: Sequence[Item], answer: Any) -> Answer:
        """The last scores of each text, by its index."""
        rows = sorted(answer["data"], key=lambda row: row["index"])
        check_score_for_each(rows, items)
        if [row["index"] for row in rows] != list(range(len(rows))):
            raise ValueError(f"the indices are {[row['index'] for row in rows]}")
        return Answer([self._score(row["probs"] if "probs" in row else row["data"]) for row in rows], tokens_of(answer))

    def _score(self, data: Any) -> float:
        while isinstance(data, list) and data and isinstance(data[-1], list):
            data = data[-1]
        values = data if isinstance(data, list) else [data]
        if len(values) == 1:
            return as_log_odds(values[0], self.scale)
        if len(values) != 2:
            raise ValueError(f"{len(values)} numbers for a text; a reward has one, or two classes")
        wrong, right = (as_number(value) for value in values)
        if self.scale == "log_odds":
            return right - wrong
        if not (wrong >= 0 and right >= 0 and abs(wrong + right - 1) < 1e-2):
            raise ValueError(f"the probabilities of two classes are {wrong} and {right}")
        return (math.log(right) if right else -math.inf) - (math.log(wrong) if wrong else -math.inf)
