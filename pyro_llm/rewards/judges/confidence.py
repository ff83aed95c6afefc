"""Verifier-free rewards: what the law that wrote a text says of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from pyro_llm.errors import CapabilityError, OptionError, RewardError
from pyro_llm.lm.decoding import Decoding
from pyro_llm.lm.language_model import LanguageModel, Prefix, Session
from pyro_llm.lm.prefixes import padded
from pyro_llm.lm.state import PAD, TextState
from pyro_llm.rewards.lm_cost import charged_to_reward
from pyro_llm.rewards.log_odds import from_log_probability
from pyro_llm.rewards.reward_model import TextReward
from pyro_llm.run_scope import current_run_scope, run_scope

Measure = Literal["self_certainty", "mean_log_prob", "entropy"]


class Row(NamedTuple):
    """A text as the tokens that were written, and where they began."""

    lm: LanguageModel
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]


class ConfidenceReward(TextReward):
    r"""How sure a language model was of the text that it wrote, as a probability of acceptance.

    With $n$ tokens written since the prompt, the end-of-sequence token included, and $p_i$ the law of the $i$-th
    given those before it, at temperature 1 and over the vocabulary of $V$ tokens:

    - `"self_certainty"`: $c = \frac{1}{n} \sum_i \mathrm{KL}(\text{uniform} \,\|\, p_i) = -\frac{1}{nV} \sum_i \sum_j
      \log (V p_i(j))$, and $r = 1 - e^{-c}$;
    - `"mean_log_prob"`: $c = \frac{1}{n} \sum_i \log p_i(y_i)$, and $r = e^c$, the geometric mean of the probabilities;
    - `"entropy"`: $c = \frac{1}{n} \sum_i H(p_i)$, and $r = e^{-c}$, the reciprocal of the perplexity that is expected.

    All are increasing in confidence. What target each makes: with `accept(..., emission="potential",
    inverse_temperature=β)`, that of $p(x)\, r^\beta$ with the $r$ of the whole text. For `"mean_log_prob"` this is
    $p(x)^{1 + \beta/n}$, a power of the law that is normalised by length. The odds of `"self_certainty"` are $e^c - 1$,
    so that `emission="odds"` tilts by about $e^{\beta c}$; its probability is close to 1 for any fluent text (c is 10
    and more in a large vocabulary), and `"bernoulli"` hardly tells texts apart by it. Calibrate it for that.

    A session does not keep the laws that it drew from, so one pass scores the tokens since the last prefix that was
    scored in the run; it counts as the reward's cost.

    Source: Kang, Zhao & Song, "Scalable Best-of-N Selection for Large Language Models via Self-Certainty", arXiv
    2502.18581, and the README of backprop07/Self-Certainty, which has the formula.

    Args:
        measure: which.
        lm: whose law is meant; by default that of the model that wrote the text. Another must have the same tokens.

    Raises:
        OptionError: there is no such measure.
        CapabilityError: when it scores, if the model's session gives no laws of tokens (`"mean_log_prob"` needs none).
        RewardError: when it scores, if nothing has been written, or a value is NaN.

    Examples:
        >>> from pyro_llm.lm import TableLM
        >>> state = TableLM(lambda tokens: [0.5, 0.25, 0.25], ["a", "b", "."], eos_token_id=2).prompt("")
        >>> ConfidenceReward("mean_log_prob")(state.append(torch.tensor([0, 1]))).sigmoid()  # sqrt(0.5 * 0.25)
        tensor(0.3536, dtype=torch.float64)
    """

    def __init__(self, measure: Measure = "self_certainty", lm: LanguageModel | None = None) -> None:
        if measure not in get_args(Measure):
            known = ", ".join(map(repr, get_args(Measure)))
            raise OptionError(f"There is no measure of confidence {measure!r}; choose one of {known}.")
        self.measure: Measure = measure
        self.lm = lm
        self._memory, self._session = object(), object()  # own what a run remembers

    def items(self, state: TextState) -> Sequence[Hashable]:
        """The tokens of each text, and the prompt's."""
        prompt = tuple(state.prompt_tokens.tolist())
        rows = state.prefix().tokens.tolist()
        return [Row(self.lm or state.lm, prompt, tuple(token for token in row if token != PAD)) for row in rows]

    def score(self, items: Sequence[Row]) -> list[float]:
        """Log-odds of each text."""
        scope = current_run_scope()
        if scope is None:
            with run_scope():
                return self.score(items)
        totals: dict[Row, float] = scope.resource(self._memory, dict)
        with charged_to_reward():
            for of in dict.fromkeys((item.lm, item.prompt) for item in items):
                self._add([row for row in items if (row.lm, row.prompt) == of and row not in totals], totals)
        return [self._log_odds(row, totals[row]) for row in items]

    def _add(self, rows: list[Row], totals: dict[Row, float]) -> None:
        """Total the measure over the tokens of rows on one prompt, from the longest beginning that has a total."""
        if not rows:
            return
        lm, prompt, _ = rows[0]
        lengths = sorted({len(row.tokens) for row in totals if (row.lm, row.prompt) == (lm, prompt)}, reverse=True)
        begun = [next((n for n in lengths if row._replace(tokens=row.tokens[:n]) in totals), 0) for row in rows]
        before = padded([row.tokens[:n] for row, n in zip(rows, begun, strict=True)], lm.device)
        after = padded([row.tokens[n:] for row, n in zip(rows, begun, strict=True)], lm.device)
        prompt_tokens = torch.tensor(prompt, dtype=torch.long, device=lm.device)
        values = self._values(lm, Prefix(prompt_tokens, before, torch.tensor(begun, device=lm.device)), after)
        for row, n, value in zip(rows, begun, values.tolist(), strict=True):
            totals[row] = totals.get(row._replace(tokens=row.tokens[:n]), 0.0) + value

    def _values(self, lm: LanguageModel, prefix: Prefix, after: Tensor) -> Tensor:
        """The measure, summed over the tokens that follow. float64 `[rows]`."""
        scope = current_run_scope()
        assert scope is not None
        sessions: dict[int, Session] = scope.resource(self._session, dict)
        if id(lm) not in sessions:
            sessions[id(lm)] = lm.session()
        session = sessions[id(lm)]
        if self.measure == "mean_log_prob":
            return session.score(prefix, after, Decoding(max_tokens=max(1, after.shape[-1])))
        if not hasattr(session, "statistics"):
            raise CapabilityError(
                f"{lm.name!r} gives no laws of tokens, which {self.measure!r} is computed from; take 'mean_log_prob'"
            )
        return session.statistics(prefix, after, _STATISTICS[self.measure]).sum(-1)

    def _log_odds(self, row: Row, total: float) -> float:
        if not row.tokens:
            raise RewardError("Nothing has been written after the prompt, and no confidence can be read from nothing.")
        value = total / len(row.tokens)
        if value != value:
            raise RewardError(f"The {self.measure} of {row.lm.decode(row.tokens)!r} under {row.lm.name!r} is NaN.")
        if self.measure == "mean_log_prob":
            return from_log_probability(value)
        log_odds = from_log_probability(-value)
        return -log_odds if self.measure == "self_certainty" else log_odds

    def _key(self) -> tuple[object, ...]:
        return self.measure, self.lm

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConfidenceReward) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"ConfidenceReward({self.measure!r})"


def _self_certainty(log_probs: Tensor) -> Tensor:
    return -log_probs.double().mean(-1) - math.log(log_probs.shape[-1])


def _entropy(log_probs: Tensor) -> Tensor:
    log_probs = log_probs.double()
    return -(log_probs.exp() * log_probs.clamp(min=torch.finfo(torch.float64).min)).sum(-1)


_STATISTICS: dict[str, Callable[[Tensor], Tensor]] = {"self_certainty": _self_certainty, "entropy": _entropy}
