"""Regular expressions, JSON schemas, and reference answers."""

import math
import sys
import threading

import pytest
import torch

from pyro_llm.errors import MissingExtraError, OptionError, RewardError, RewardFunctionError
from pyro_llm.lm import TableLM
from pyro_llm.rewards import JsonSchemaReward, MathVerifyReward, RegexReward
from pyro_llm.run_scope import run_scope


def state_of(*texts):
    lm = TableLM(lambda tokens: [1 / (len(texts) + 1)] * (len(texts) + 1), [*texts, "<end>"], eos_token_id=len(texts))
    return lm.prompt("").append(torch.arange(len(texts)).unsqueeze(-1))


def accepted(reward, *texts):
    return [value == math.inf for value in reward(state_of(*texts)).tolist()]


def test_regex():
    import re

    assert accepted(RegexReward(r"\d+"), "95", "so 95.", "none") == [True, True, False]
    assert accepted(RegexReward(r"\d+", whole=True), "95", "so 95.") == [True, False]
    assert accepted(RegexReward("SO", flags=re.IGNORECASE), "so 95.") == [True]
    soft = RegexReward("a", found=0.75, absent=0.25)
    assert soft(state_of("a", "b")).sigmoid().tolist() == pytest.approx([0.75, 0.25])
    assert soft == RegexReward("a", found=0.75, absent=0.25) != RegexReward("a")
    with pytest.raises(OptionError, match=r"'\(' is no regular expression: missing \)"):
        RegexReward("(")
    with pytest.raises(OptionError, match="absent"):
        RegexReward("a", absent=-1)


SCHEMA = {
    "type": "object",
    "properties": {"answer": {"$ref": "#/$defs/count"}},
    "required": ["answer"],
    "$defs": {"count": {"type": "integer", "minimum": 0}},
}


def test_json_schema():
    pytest.importorskip("jsonschema")
    reward = JsonSchemaReward(SCHEMA)
    assert accepted(reward, '{"answer": 95}', ' {"answer": 0, "why": "x"}\n', '{"answer": -1}', '{"answer": 9') == [
        True,
        True,
        False,
        False,
    ]
    deep = "[" * 100_000
    assert accepted(JsonSchemaReward(True), "1", "NaN", "-Infinity", "", deep, "'a'") == [True] + [False] * 5
    assert reward == JsonSchemaReward(dict(reversed(SCHEMA.items())))
    assert hash(reward) == hash(JsonSchemaReward(SCHEMA))
    assert reward != JsonSchemaReward(SCHEMA, invalid=0.1)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "objekt"}, r"no JSON schema: 'objekt'.*\(at type\)"),
        ({"$ref": "https://example.com/schema.json"}, "'https://example.com/schema.json', which is not in it"),
        ({"$ref": "#/$defs/nothing"}, "which is not in it"),
        ({"a": {1, 2}}, "is no JSON"),
        ({"minimum": math.nan}, "is no JSON"),
    ],
)
def test_what_is_no_schema(schema, message):
    pytest.importorskip("jsonschema")
    with pytest.raises(OptionError, match=message):
        JsonSchemaReward(schema)


def test_missing_packages(monkeypatch):
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    with pytest.raises(MissingExtraError, match=r"pyro-llm\[verifiers\]"):
        JsonSchemaReward(True)
    monkeypatch.setattr(sys.modules[MathVerifyReward.__module__], "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pyro-llm\[verifiers\]"):
        MathVerifyReward("95")


RIGHT = {
    "95": ["answer: 95", "47 + 48 = 95\nanswer: 95 marbles", r"So \boxed{95.0}", "#### 95", r"\boxed{x = 95}"],
    "1/2": ["answer: 0.5", r"\boxed{\frac{1}{2}}", "answer: 2/4", r"answer: $\frac12$"],
    "(x+1)^2": ["answer: x^2 + 2x + 1"],
}
WRONG = {"95": ["answer: 85", "so it is 95", "", "answer: none", "answer: 95x", "answer: 95 sin x", "answer: 95^{1/2}"]}


def test_math_verify():
    pytest.importorskip("math_verify")
    for reference, texts in RIGHT.items():
        reward, wrong = MathVerifyReward(reference, timeout=30), WRONG.get(reference, [])
        assert accepted(reward, *texts, *wrong) == [True] * len(texts) + [False] * len(wrong), reference


def test_math_verify_in_a_thread_and_each_answer_once():
    pytest.importorskip("math_verify")
    reward = MathVerifyReward("95", no_answer=0.5, timeout=30)
    results = []

    def judge():
        with run_scope() as scope:
            results.append(reward(state_of("answer: 95", "so\nanswer: 95", "47 +", "48 ")).tolist())
            results.append(scope.cost.reward_calls)

    thread = threading.Thread(target=judge)
    thread.start()
    thread.join()
    assert results == [[math.inf, math.inf, 0.0, 0.0], 1]


def test_math_verify_has_our_time_limit():
    pytest.importorskip("math_verify")
    endless = r"answer: 9^{9^{9^{9}}}"  # SymPy never ends on it
    assert MathVerifyReward("95", timeout=0.5)(state_of(endless)).tolist() == [-math.inf]
    with pytest.raises(RewardFunctionError, match=r"the text '9\^.*more than 0\.5 s"):
        MathVerifyReward("95", timeout=0.5, on_failure=None)(state_of(endless))


def test_math_verify_refuses_what_is_no_reference():
    pytest.importorskip("math_verify")
    for reference in ("", "  ", 95):
        with pytest.raises(OptionError, match="right answer as a text"):
            MathVerifyReward(reference)
    assert MathVerifyReward("95") == MathVerifyReward("95") != MathVerifyReward("95", no_answer=1.0)
    with pytest.raises(RewardError, match="cannot read the reference"):
        MathVerifyReward("$")(state_of("answer: 1"))
