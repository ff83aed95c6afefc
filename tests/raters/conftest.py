import pytest

from pyro_llm.lm import TableLM


@pytest.fixture
def lm():
    """Lines "a" or "b", and the end: 0 "a", 1 "b", 2 newline, 3 end of text."""
    return TableLM(lambda tokens: [0.3, 0.3, 0.2, 0.2], ["a", "b", "\n", "."], eos_token_id=3)
