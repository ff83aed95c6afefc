"""A reward that another machine computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyro_llm.errors import RemoteRewardError
from pyro_llm.lm.state import TextState
from pyro_llm.rewards.counts import check_count
from pyro_llm.rewards.remote.client import HttpOptions, JsonClient
from pyro_llm.rewards.remote.endpoint import Answer, Endpoint, Item, checked
from pyro_llm.rewards.remote.json_endpoint import JsonEndpoint
from pyro_llm.rewards.remote.shared_scores import SharedScores
from pyro_llm.rewards.reward_model import TextReward, distinct_texts
from pyro_llm.run_scope import claim, current_cost

_NAMED = 5


class RemoteReward(TextReward):
    """The score that a server gives: a reward model of vLLM's, a judge behind a chat endpoint, a function of your own.

    Each distinct text is asked for once, by this object, and `max_concurrency` holds for all runs that it serves: a run
    that needs what another is asking for waits for that answer, and the call counts for the one that asked. Scores are
    kept beyond the run, up to `max_kept` of them. So when texts fail after all retries and end a run with an error, the
    scores that came in before and beside them are not lost: the same run again, with the same seed, asks only for those
    that are missing.

    It counts what is spent: answers as `reward_calls`, the tokens that the server tells as `reward_tokens`.

    Args:
        url: address of the server; the endpoint's path is added to it.
        endpoint: the format: `JsonEndpoint` (plain JSON, the default), `PoolingEndpoint` (vLLM), `ChatEndpoint` (a
            judge).
        http: time-outs, retries, concurrency, headers.
        max_kept: the most scores that are kept; those that were not asked for the longest go first.

    Raises:
        MissingExtraError: httpx is not installed.
        OptionError: the address is none, or `max_kept` is no whole number of at least 0.
        RemoteRewardError: when it scores, if texts could not be scored; it names them, and why.

    Example:
        >>> RemoteReward("http://127.0.0.1:8000", JsonEndpoint(scale="log_odds"), HttpOptions(timeout=5))
        RemoteReward('http://127.0.0.1:8000', JsonEndpoint)
    """

    def __init__(
        self,
        url: str,
        endpoint: Endpoint | None = None,
        http: HttpOptions | None = None,
        max_kept: int = 1_000_000,
    ) -> None:
        self.url, self.endpoint, self.http = url, endpoint or JsonEndpoint(), http or HttpOptions()
        self._client = JsonClient(url.rstrip("/") + self.endpoint.path if isinstance(url, str) else url, self.http)
        self._scores = SharedScores(check_count("max_kept", max_kept, at_least=0))

    @property
    def scores_beside(self) -> bool:
        """True: what other runs made together do need not wait for the server."""
        return True

    def items(self, state: TextState) -> list[Item]:
        """Problem and text since the prompt."""
        return [Item(state.prompt, text) for text in distinct_texts(state)]

    def score(self, items: Sequence[Item]) -> list[float]:
        """Log-odds of each item, those that are not known, nor asked for by another run just now, from the server."""
        distinct = list(dict.fromkeys(items))
        known: dict[Item, float] = {}
        failed: dict[Item, Exception] = {}
        missing = distinct
        while missing:
            shares = self._scores.share_out(missing)
            known |= shares.known
            self._ask(shares.own, known, failed)
            missing = []
            for item, awaited in shares.awaited.items():
                awaited.ended.wait()
                if awaited.score is not None:
                    known[item] = awaited.score
                elif awaited.failure is not None:
                    failed[item] = awaited.failure
                else:  # whoever asked was interrupted
                    missing.append(item)
        if failed:
            raise self._error([item for item in distinct if item in failed], failed, len(known))
        return [known[item] for item in items]

    def _ask(self, items: Sequence[Item], known: dict[Item, float], failed: dict[Item, Exception]) -> None:
        """Ask the server for items that are this thread's to ask for."""
        size = self.endpoint.batch_size
        batches = [items[start : start + size] for start in range(0, len(items), size)]

        def read(place: int, answer: Any) -> Answer:
            return checked(self.endpoint.read(batches[place], answer), batches[place])

        pending = dict.fromkeys(items)
        try:
            claim(reward_calls=len(batches))
            cost = current_cost()  # of the run, which the threads that post do not know
            for place, answer, failure in self._client.post_all(list(map(self.endpoint.payload, batches)), read):
                batch = batches[place]
                for item in batch:
                    del pending[item]
                if failure is not None:
                    self._scores.fail(batch, failure)
                    failed |= dict.fromkeys(batch, failure)
                    continue
                cost.reward_calls += 1
                cost.reward_tokens += answer.tokens
                scores = dict(zip(batch, answer.log_odds, strict=True))
                self._scores.settle(scores)
                known |= scores
        finally:
            self._scores.give_up(pending)

    def _error(self, items: Sequence[Item], failed: Mapping[Item, Exception], kept: int) -> RemoteRewardError:
        texts = tuple(item.text for item in items)
        named = ", ".join(map(repr, texts[:_NAMED])) + (
            f" and {len(texts) - _NAMED} more" if len(texts) > _NAMED else ""
        )
        error = RemoteRewardError(
            f"The reward at {self._client.url} gave no score for {len(texts)} texts: {named}. The first failure: "
            f"{failed[items[0]]}.",
            texts,
        )
        # A note, as it holds for as long as this object lives: not for the next call of a command.
        error.add_note(
            f"The scores of the {kept} others are kept: the same run again with this reward, from the same seed, asks "
            "for what is missing."
        )
        return error

    def __getstate__(self) -> dict[str, Any]:
        """Without the client's module."""
        return {name: value for name, value in self.__dict__.items() if name != "_client"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._client = JsonClient(self.url.rstrip("/") + self.endpoint.path, self.http)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemoteReward) and (self.url, self.endpoint) == (other.url, other.endpoint)

    def __hash__(self) -> int:
        return hash((self.url, type(self.endpoint)))

    def __repr__(self) -> str:
        return f"RemoteReward({self.url!r}, {type(self.endpoint).__name__})"
