"""What the distributions and programs are given, checked: arguments are easily swapped."""

from __future__ import annotations

from pyro_llm.errors import OptionError
from pyro_llm.lm.state import TextState


def check_language_model(lm: object, where: str) -> None:
    """Raise OptionError for what is no language model.

    Args:
        lm: what was given.
        where: the name of what it was given to.

    >>> check_language_model("abacus", "LLM")
    Traceback (most recent call last):
        ...
    pyro_llm.errors.OptionError: LLM takes a language model as lm, such as load_lm('abacus'), not the str 'abacus'.
    """
    if isinstance(lm, TextState):
        raise OptionError(f"{where} takes a language model as lm, and was given a TextState; its own is `state.lm`.")
    if not hasattr(lm, "session"):
        raise OptionError(f"{where} takes a language model as lm, such as load_lm('abacus'), not {described(lm)}.")


def check_state(state: object, where: str) -> None:
    """Raise OptionError for what is no `TextState`; `where` is the name of what it was given to."""
    if not isinstance(state, TextState):
        raise OptionError(f"{where} takes a TextState as state, such as lm.prompt(...), not {described(state)}.")


def described(value: object) -> str:
    """A value with its type."""
    return f"the {type(value).__name__} {value!r}"
