"""Arguments in the wrong order, or of another kind, are told apart where they are given."""

import pytest

from pyro_llm.distributions import LLM, Acceptance, NextToken, accept
from pyro_llm.errors import OptionError, RewardError
from pyro_llm.lm import TableLM
from pyro_llm.models import ConstrainedText, PowerText, ReasoningSSM
from pyro_llm.rewards import FunctionReward

LM = TableLM(lambda tokens: [0.5, 0.3, 0.2], ["a", "b", "."], eos_token_id=2)
PRM = FunctionReward(lambda text: 0.5)
STATE = LM.prompt("")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: accept("a", STATE, PRM), "the reward comes before the state"),
        (lambda: accept("a", PRM, LM), "accept takes a TextState as state.* not the TableLM"),
        (lambda: accept(3, PRM, STATE), "a string, not the int 3"),
        (lambda: accept(PRM, STATE, "a"), "a string, not the FunctionReward"),
        (lambda: Acceptance(PRM, "text"), "Acceptance takes a TextState as state.* not the str 'text'"),
        (lambda: LLM("abacus", STATE), "LLM takes a language model as lm.* not the str 'abacus'"),
        (lambda: LLM(STATE, LM), "was given a TextState"),
        (lambda: LLM(LM, LM), "LLM takes a TextState as state.* not the TableLM"),
        (lambda: LLM(LM, STATE, stop=3), "stop=3: give a string"),
        (lambda: NextToken(PRM, STATE), "NextToken takes a language model as lm"),
        (lambda: ReasoningSSM(PRM, LM), "ReasoningSSM takes a language model as lm.* not the FunctionReward"),
        (lambda: PowerText("abacus"), "PowerText takes a language model as lm"),
        (lambda: ConstrainedText("a", "a"), "ConstrainedText takes a language model as lm"),
    ],
)
def test_arguments_of_another_kind(make, reason):
    with pytest.raises(OptionError, match=reason):
        make()


def test_a_language_model_is_no_reward():
    with pytest.raises(RewardError, match="cannot be called"):
        ReasoningSSM(LM, LM)
