"""The protocol of a reward, and the base of those that score texts: each distinct text once a run."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from pyro_llm.errors import RewardError
from pyro_llm.lm.batch_texts import row_by_row
from pyro_llm.lm.state import PAD, TextState
from pyro_llm.rendezvous import is_conducted, serve
from pyro_llm.rewards.reward import Reward
from pyro_llm.rewards.scoring_desk import ScoreRequest, ScoringDesk, scored_in_turns
from pyro_llm.run_scope import claim, current_run_scope

if TYPE_CHECKING:
    from pyro_llm.rewards.composition import Cached


@runtime_checkable
class RewardModel(Protocol):
    """What judges the texts of a state: any callable of this signature, a plain function too.

    It must be hashable, and equal throughout a program: the particles that have finished are told by it. Rewards of
    this package are equal if they are made of equal parts, those that hold a model of their own if they are the same.
    """

    def __call__(self, state: TextState) -> Tensor:
        """Log-odds that each text is accepted. A floating tensor of shape `state.batch_shape`; may be infinite."""
        ...


def ask(reward: RewardModel, state: TextState) -> Tensor:
    """What a reward says of the texts of `state`, checked. Shape `state.batch_shape`.

    Raises:
        RewardError: see `check_log_odds`; or a plain function raised a TypeError or an AttributeError, as one does that
            expects a text and is given a state.
    """
    try:
        with row_by_row():
            found = reward(state)
    except (TypeError, AttributeError) as error:
        if isinstance(reward, Reward) or type(state).__name__ not in str(error):
            raise
        raise RewardError(
            f"The reward {reward!r} raised {type(error).__name__} when given a TextState: {error}. "
            "A reward maps a TextState to log-odds; wrap a function from a text to a probability in `FunctionReward`."
        ) from error
    return check_log_odds(found, state, reward)


def check_log_odds(log_odds: Any, state: TextState, reward: object) -> Tensor:
    """Check what a reward returned.

    Args:
        log_odds: what `reward(state)` returned.
        state: the state that it judged.
        reward: for the message.

    Returns:
        `log_odds`, of shape `state.batch_shape`.

    Raises:
        RewardError: no floating tensor, a wrong shape, or NaN; the message names the text.
    """
    if not isinstance(log_odds, Tensor) or not log_odds.is_floating_point():
        what = f"a tensor of {log_odds.dtype}" if isinstance(log_odds, Tensor) else repr(log_odds)
        raise RewardError(
            f"The reward {reward!r} returned {what}; it must return log-odds, a floating tensor of shape "
            f"{tuple(state.batch_shape)}. Wrap a function from a text to a probability in `FunctionReward`."
        )
    if log_odds.shape != state.batch_shape:
        raise RewardError(
            f"The reward {reward!r} returned log-odds of shape {tuple(log_odds.shape)} for a state of batch shape "
            f"{tuple(state.batch_shape)}; it must return one for each text, the first being {_first(state)!r}."
        )
    nan = log_odds.isnan()
    if nan.any():
        text = state.texts.flat[int(nan.reshape(-1).nonzero()[0])]
        raise RewardError(f"The reward {reward!r} returned NaN for the text {text!r} (problem: {state.prompt!r}).")
    return log_odds


def _first(state: TextState) -> str:
    return state.texts.flat[0] if state.finished.numel() else ""


class TextReward(Reward):
    """A reward that depends on texts alone: it finds the distinct ones and scores each once in a run.

    Scores are kept in the scope of the run in progress (`pyro_llm.run_scope`), so a replayed program, cloned particles
    and rows that have finished cost nothing. Subclasses implement `items` and `score`.
    """

    dtype: ClassVar[torch.dtype] = torch.float64
    """Floating type of the log-odds."""

    scores_together: ClassVar[bool] = False
    """Whether the items of several runs, made together, are best scored in one call, and half of them at a time where
    memory runs out."""

    @property
    def scores_beside(self) -> bool:
        """Whether `score` may be called in another thread, while other runs made together go on.

        It shares nothing with them then: no language model of theirs, and no generator of random numbers.
        """
        return False

    def score_beside(self, items: Sequence[Any]) -> list[float]:
        """As `score`, called in another thread."""
        return self.score(items)

    @abstractmethod
    def items(self, state: TextState) -> Sequence[Hashable]:
        """What the score depends on, for each flattened row of `state`; equal items are scored once."""

    @abstractmethod
    def score(self, items: Sequence[Any]) -> list[float]:
        """Log-odds of distinct items. Raises `RewardError` for a score that is none.

        What it spends it first claims, then counts: `claim(reward_calls=1)`, and when the call has been made
        `current_cost().reward_calls += 1` (`pyro_llm.run_scope`).
        """

    def __call__(self, state: TextState) -> Tensor:
        """Log-odds that each text of `state` is accepted. Shape `state.batch_shape`."""
        scope = current_run_scope()
        scores: dict[Hashable, float] = scope.resource(self, dict) if scope is not None else {}
        items = self.items(state)
        new = [item for item in dict.fromkeys(items) if item not in scores]
        if new:
            scores.update(zip(new, self._scored(new), strict=True))
        log_odds = torch.tensor([scores[item] for item in items], dtype=self.dtype)
        return log_odds.reshape(state.batch_shape).to(state.tokens.device)

    def cached(self, size: int = 1_000_000) -> Cached:
        """The reward that keeps the scores of the last `size` texts from one run to the next; see `Cached`."""
        from pyro_llm.rewards.composition import Cached

        return Cached(self, size)

    def _scored(self, items: Sequence[Any]) -> list[float]:
        claim()  # a reward that counts, but claims nothing, is not asked again when the budget is exceeded
        beside = self.scores_beside and is_conducted()
        score = self.score_beside if beside else self.score
        if self.scores_together:
            score = partial(scored_in_turns, score)
        if not beside and not (self.scores_together and is_conducted()):
            return score(items)
        request = ScoreRequest(items)
        of_all = (ScoringDesk, id(self))
        desk = partial(ScoringDesk, score, beside=beside, single=not self.scores_together)
        return serve(of_all if self.scores_together else (*of_all, request), desk, request)


def distinct_texts(state: TextState) -> list[str]:
    """The texts since the prompt of the flattened rows of `state`, each distinct row of tokens decoded once."""
    texts: dict[tuple[int, ...], str] = {}
    rows = [tuple(row) for row in state.prefix().tokens.tolist()]
    for row in rows:
        if row not in texts:
            texts[row] = state.lm.decode([token for token in row if token != PAD])
    return [texts[row] for row in rows]


def not_a_probability(reward: object, value: str, text: str) -> RewardError:
    """The error of a function that is to return a probability, and returned `value` (written out) for a text."""
    return RewardError(
        f"The function of {reward!r} returned {value} for the text {text!r}; "
        "it must return a probability, a number in [0, 1]."
    )
