"""The tokens with which a language model may begin to say a word, whatever its spelling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_llm.errors import CapabilityError
from pyro_llm.lm.language_model import LanguageModel

_BEFORE = ("", " ", "\n", '"', "**")


@dataclass(frozen=True)
class Verbaliser:
    """Disjoint sets of first tokens for two answers.

    A token counts for an answer if it spells one of its words, white space and case apart, or if it is the first token
    of a spelling: the word as it is given, in small letters, in capitals and with a capital; bare, or after a blank, a
    line break, a quotation mark or two asterisks. What both answers may begin with (a lone blank, say) counts for
    neither.

    Attributes:
        yes: token ids of the first answer. Shape `[tokens]`.
        no: token ids of the second.
    """

    yes: Tensor
    no: Tensor

    @classmethod
    def of(cls, lm: LanguageModel, yes: Sequence[str], no: Sequence[str]) -> Verbaliser:
        """The sets of a language model.

        Args:
            lm: the language model.
            yes: words that mean the first answer.
            no: words that mean the second.

        Raises:
            CapabilityError: no token tells one answer from the other.
        """
        found = [_first_tokens(lm, words) for words in (yes, no)]
        both = found[0] & found[1]
        sets = [sorted(tokens - both) for tokens in found]
        for words, tokens in zip((yes, no), sets, strict=True):
            if not tokens:
                raise CapabilityError(
                    f"the vocabulary of {lm.name!r} has no token that begins one of {list(words)} and none "
                    f"of {list(no if words is yes else yes)}; choose words whose beginnings differ"
                )
        return cls(*(torch.tensor(tokens) for tokens in sets))

    def log_odds(self, log_probs: Tensor) -> Tensor:
        """Log-odds of the first answer against the second. `[..., vocabulary_size]` -> float64 `[...]`."""
        log_probs = log_probs.double()
        masses = [log_probs[..., ids.to(log_probs.device)].logsumexp(-1) for ids in (self.yes, self.no)]
        return masses[0] - masses[1]


def _first_tokens(lm: LanguageModel, words: Sequence[str]) -> set[int]:
    meant = {word.casefold().encode() for word in words}
    tokens = {id for id, spelt in enumerate(lm.token_bytes()) if spelt.strip().lower() in meant}
    for word in words:
        for spelling in {word, word.lower(), word.upper(), word.capitalize()}:
            for before in _BEFORE:
                ids = _encoded(lm, before + spelling)
                # The blank or the mark before the word may be a token of its own, and says nothing yet.
                tokens.update(ids[:1] if len(ids) == 1 or not before.startswith(lm.decode(ids[:1])) else ())
    return tokens


def _encoded(lm: LanguageModel, text: str) -> list[int]:
    try:
        return list(lm.encode(text))
    except ValueError:  # a vocabulary that cannot write it
        return []
