"""A reward that a program makes anew in each step is still the same to `accept`: a finished row is judged once."""

import pytest
import torch

from pyro_llm.lm import TableLM
from pyro_llm.rewards import (
    ArithmeticReward,
    ChatEndpoint,
    ConfidenceReward,
    FunctionReward,
    ImplicitReward,
    JudgeReward,
    RemoteReward,
)

LM, OTHER = (TableLM(lambda tokens: [0.5, 0.3, 0.2], ["a", "b", "."], eos_token_id=2) for _ in range(2))
PAIRS = {
    "confidence": (lambda: ConfidenceReward("entropy"), lambda: ConfidenceReward("entropy", lm=LM)),
    "judge": (lambda: JudgeReward(LM), lambda: JudgeReward(LM, both_orders=True)),
    "implicit": (lambda: ImplicitReward(LM, OTHER, beta=0.1), lambda: ImplicitReward(OTHER, LM, beta=0.1)),
    "remote": (lambda: RemoteReward("http://x"), lambda: RemoteReward("http://x", ChatEndpoint("judge"))),
    "verifier": (lambda: ArithmeticReward(wrong=0.1), lambda: ArithmeticReward()),
    "function": (lambda: FunctionReward(len), lambda: FunctionReward(id)),
    "composed": (lambda: ConfidenceReward().with_error(0.1), lambda: ConfidenceReward().with_error(0.2)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_same_to_a_state(name, monkeypatch):
    monkeypatch.setattr("pyro_llm.rewards.formats.implicit._PROBE", "ab")
    make, other = PAIRS[name]
    assert make() == make() != other()
    before = LM.prompt("").append(torch.tensor([[0, 2], [1, -1]]))
    before.record_judgement(make())
    after = before.append(torch.tensor([[-1], [0]]))
    assert after.judged(make()).tolist() == [True, False]
    assert after.judged(other()).tolist() == [False, False]
