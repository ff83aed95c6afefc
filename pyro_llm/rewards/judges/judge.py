"""Judges: a language model's own probability of "Yes" to a question about a text."""

from __future__ import annotations

import string
from collections.abc import Hashable, Sequence
from functools import cached_property
from itertools import takewhile

import torch
from torch import Tensor

from pyro_llm.errors import OptionError, RewardError
from pyro_llm.lm.decoding import Decoding
from pyro_llm.lm.language_model import LanguageModel, Prefix
from pyro_llm.lm.prefixes import padded
from pyro_llm.lm.state import TextState
from pyro_llm.rewards.head import Solution, solutions
from pyro_llm.rewards.judges.rubric import RUBRIC
from pyro_llm.rewards.judges.verbaliser import Verbaliser
from pyro_llm.rewards.lm_cost import charged_to_reward
from pyro_llm.rewards.reading.batching import BatchLimits
from pyro_llm.rewards.reward_model import TextReward
from pyro_llm.run_scope import current_run_scope

_FIELDS = {"problem", "solution", "options"}


class JudgeReward(TextReward):
    r"""The probability that a language model says "Yes" rather than "No" to a rubric about the text.

    The rubric is one prompt (through the model's chat template, where it has one), and of the law of the next token
    the masses of all tokens that begin "Yes" and of all that begin "No", in any spelling, are compared: the log-odds
    are the logarithm of their ratio. No text is drawn and none parsed. The policy itself can be the judge.

    Where a judge leans to the option that is named first, or to a phrasing, ask in several ways and average: the
    log-odds of the ways are averaged, so that what a way adds to the logits cancels if another way subtracts it.

    What precedes the text in a rubric is read once in a run. A judge has a session of its own, also where the policy is
    the judge: keys and values of the one do not displace those of the other.

    Source: Kadavath et al., "Language Models (Mostly) Know What They Know", arXiv 2207.05221 (P(True)); Zheng et al.,
    arXiv 2306.05685, on position; Zhao et al., arXiv 2102.09690, on a prompt's own lean.

    Args:
        lm: the language model that judges.
        rubric: a question, or several phrasings of it, with `{problem}` and `{solution}` where these belong, and
            `{options}` where "Yes or No" does. Double braces are braces.
        yes: words for the first answer; `{options}` names the first of them.
        no: words for the second.
        both_orders: whether each phrasing is asked with "Yes or No" and with "No or Yes".
        batch_size: the most prompts in one forward pass.
        batch_tokens: the most tokens in one forward pass, padding included, beyond what the prompts share.

    Raises:
        OptionError: a rubric lacks `{solution}`, or has fields that do not exist, or lacks `{options}` where both
            orders are asked for; there are no words; or a limit is out of its range.
        CapabilityError: when it scores, if the vocabulary cannot tell the answers apart, or the model gives no logits.
        RewardError: when it scores, if the model gives both answers probability 0, or gives NaN.
        ContextLengthError: when it scores, if a prompt does not fit the model's context.
    """

    def __init__(
        self,
        lm: LanguageModel,
        rubric: str | Sequence[str] = RUBRIC,
        yes: Sequence[str] = ("Yes",),
        no: Sequence[str] = ("No",),
        both_orders: bool = False,
        batch_size: int = 64,
        batch_tokens: int = 1 << 14,
    ) -> None:
        self.lm, self.both_orders = lm, both_orders
        self.batch_size, self.batch_tokens = batch_size, batch_tokens
        self._session = object()  # owns the session of a run
        self.rubrics = (rubric,) if isinstance(rubric, str) else tuple(rubric)
        self.yes, self.no = ((words,) if isinstance(words, str) else tuple(words) for words in (yes, no))
        BatchLimits(batch_size, batch_tokens)
        if not self.rubrics or not self.yes or not self.no or not all(self.yes + self.no):
            raise OptionError("a judge needs a rubric, and words for both answers")
        for phrasing in self.rubrics:
            _check_rubric(phrasing, both_orders)

    @cached_property
    def verbaliser(self) -> Verbaliser:
        """The tokens of either answer."""
        return Verbaliser.of(self.lm, self.yes, self.no)

    def items(self, state: TextState) -> Sequence[Hashable]:
        """Problem and text since the prompt; whether EOS ended it is in no rubric."""
        return [solution._replace(ended=False) for solution in solutions(state)]

    @torch.no_grad()
    def score(self, items: Sequence[Solution]) -> list[float]:
        """Log-odds of "Yes", averaged over phrasings and orders."""
        known: dict[tuple[str, str], float] = {}
        with charged_to_reward():
            for problem in dict.fromkeys(item.problem for item in items):
                texts = list(dict.fromkeys(item.text for item in items if item.problem == problem))
                total = torch.zeros(len(texts), dtype=torch.float64)
                for rubric in self.rubrics:
                    total += self._asked(rubric, problem, texts)
                known |= {(problem, text): value for text, value in zip(texts, total.tolist(), strict=True)}
        return [known[item.problem, item.text] / len(self.rubrics) for item in items]

    def _asked(self, rubric: str, problem: str, texts: Sequence[str]) -> Tensor:
        """Log-odds of "Yes" to one phrasing, averaged over orders. float64 `[texts]`."""
        ways = [(text, order) for order in self._orders for text in texts]
        prompts = [_filled(rubric, problem, text, order) for text, order in ways]
        rows = [self.lm.prompt(prompt).prompt_tokens.tolist() for prompt in prompts]
        # What precedes the text is the same in every call, so that it is read once in a run.
        probes = [
            self.lm.prompt(_filled(rubric, problem, text, self._orders[0])).prompt_tokens.tolist() for text in "a7"
        ]
        shared = _shared_length([*rows, *probes])
        scope = current_run_scope()
        session = self.lm.session() if scope is None else scope.resource(self._session, self.lm.session)
        limits = BatchLimits(self.batch_size if shared else 1, self.batch_tokens)
        answers = torch.zeros(len(rows), dtype=torch.float64)
        for batch in limits.batches([len(row) - shared for row in rows]):
            begin = shared or len(rows[batch[0]])  # with nothing in common, a row is a prompt of its own
            prefix = _prefix([rows[index] for index in batch], begin, self.lm.device)
            log_odds = self.verbaliser.log_odds(session.next_log_probs(prefix, Decoding(max_tokens=1))).cpu()
            if bool(log_odds.isnan().any()):
                raise RewardError(
                    f"The judge {self.lm.name!r} gives probability 0, or NaN, to both answers to "
                    f"{prompts[batch[int(log_odds.isnan().nonzero()[0])]]!r}."
                )
            answers[batch] = log_odds
        return answers.reshape(len(self._orders), len(texts)).mean(0)

    @property
    def _orders(self) -> list[tuple[str, str]]:
        order = (self.yes[0], self.no[0])
        return [order, order[::-1]] if self.both_orders else [order]

    def _key(self) -> tuple[object, ...]:
        return self.lm, self.rubrics, self.yes, self.no, self.both_orders

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JudgeReward) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"JudgeReward({self.lm.name!r}, {len(self.rubrics)} phrasing(s), both_orders={self.both_orders})"


def _filled(rubric: str, problem: str, text: str, order: tuple[str, str]) -> str:
    return rubric.format(problem=problem, solution=text, options=" or ".join(order))


def _shared_length(rows: Sequence[Sequence[int]]) -> int:
    """The number of tokens with which all rows begin alike."""
    columns = zip(*rows, strict=False)
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))


def _prefix(rows: Sequence[Sequence[int]], begin: int, device: torch.device) -> Prefix:
    """Rows that begin alike, as continuations of that beginning."""
    return Prefix(
        torch.tensor(rows[0][:begin], dtype=torch.long, device=device),
        padded([row[begin:] for row in rows], device),
        torch.tensor([len(row) - begin for row in rows], device=device),
    )


def _check_rubric(rubric: str, both_orders: bool) -> None:
    try:
        fields = {field for _, field, _, _ in string.Formatter().parse(rubric) if field is not None}
    except ValueError as error:
        raise OptionError(f"the rubric {rubric!r} cannot be read: {error}; write braces of its own twice") from error
    unknown = sorted(fields - _FIELDS)
    if unknown:
        raise OptionError(f"the rubric {rubric!r} has fields {unknown}; there are {', '.join(sorted(_FIELDS))}")
    if "solution" not in fields:
        raise OptionError(f"the rubric {rubric!r} has no {{solution}}, so that it would ask the same of every text")
    if both_orders and "options" not in fields:
        raise OptionError(f"both_orders needs {{options}} in the rubric {rubric!r}, where 'Yes or No' is written")
