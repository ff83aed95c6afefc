"""Hard constraints on texts, as automata over the tokens of a language model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyro_llm.errors import ConstraintError, MissingExtraError
from pyro_llm.lm.language_model import LanguageModel
from pyro_llm.lm.token_automaton import TokenAutomaton

_START = "\x02"  # stands before the text: a pattern that begins with an assertion of its own has no one start state


@dataclass(frozen=True)
class Constraint:
    r"""The texts that match a regular expression as a whole.

    Attributes:
        pattern: in the syntax of Rust's `regex` crate (no back-references, no look-around). The whole text is matched:
            leave out `^` and `$`. `.` is any character but a newline, unless `(?s)` says otherwise.

    Examples:
        >>> Constraint(r"answer: \d+").pattern
        'answer: \\d+'
    """

    pattern: str

    def __post_init__(self) -> None:
        if not isinstance(self.pattern, str):
            raise ConstraintError(f"A pattern is a string, a regular expression, not {self.pattern!r}.")

    @classmethod
    def json_schema(cls, schema: Mapping[str, Any] | str) -> Constraint:
        """The texts that are JSON of a schema, on one line, properties in the order of the schema.

        Raises:
            MissingExtraError: `outlines-core` is not installed.
            ConstraintError: the schema is not valid, or uses what `outlines-core` does not support.
        """
        build = _outlines().json_schema.build_regex_from_schema
        text = schema if isinstance(schema, str) else json.dumps(schema)
        try:
            return cls(build(text))
        except (TypeError, ValueError) as error:
            raise ConstraintError(f"The JSON schema {text!r} cannot be made a constraint: {error}") from error

    def automaton(self, lm: LanguageModel) -> TokenAutomaton:
        """The automaton over the tokens of `lm`. Takes a moment with a large vocabulary: make it once.

        Raises:
            MissingExtraError: `outlines-core` is not installed.
            ConstraintError: the pattern is no regular expression, or the vocabulary cannot write a text that matches.
        """
        library = _outlines()
        if not lm.eos_token_ids:
            raise ConstraintError(f"{lm.name!r} has no end-of-sequence token, so that no text of it is ever complete.")
        size = lm.vocabulary_size
        start_token, end_token = size, size + 1  # ids of our own
        tokens: dict[bytes, list[int]] = {_START.encode(): [start_token]}
        for id, spelling in enumerate(lm.token_bytes()):
            if spelling and id not in lm.eos_token_ids:
                tokens.setdefault(spelling, []).append(id)
        # The library refuses a pattern where the vocabulary has a dead end; with a token for each byte it has none.
        # What can be completed without those tokens is for the distances of the automaton to say.
        for byte in range(256):
            tokens.setdefault(bytes([byte]), []).append(size + 2 + byte)
        # Without an assertion at its end the library would stop at the first match: "a|ab" would not match "ab".
        pattern = rf"{_START}(?:{self.pattern})\z"
        try:
            index = library.Index(pattern, library.Vocabulary(end_token, tokens))
        except ValueError as error:
            raise ConstraintError(
                f"The pattern {self.pattern!r} is no regular expression that can be used: {error}"
            ) from error
        transitions = index.get_transitions()
        initial = transitions[index.get_initial_state()].get(start_token, -1)
        rows = {state: {t: s for t, s in row.items() if t < size} for state, row in transitions.items()}
        accepting = {int(state) for state in index.get_final_states()}
        automaton = TokenAutomaton.from_transitions(rows, initial, accepting, size, lm.eos_token_ids, lm.device)
        if automaton.distance[0] == TokenAutomaton.never:
            raise ConstraintError(
                f"No text that the vocabulary of {lm.name!r} can write matches {self.pattern!r} as a whole (leave out "
                "`^` and `$`)."
            )
        return automaton


def _outlines() -> Any:
    try:
        import outlines_core
    except ImportError as error:
        raise MissingExtraError(
            "Constraints on texts need the package outlines-core. Install it with: pip install 'pyro-llm[constraints]'"
        ) from error
    return outlines_core
