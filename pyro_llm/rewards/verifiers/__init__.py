"""Verifiers: rewards that check texts by rule, most of them with 0 or 1; `with_error` allows for their errors."""

from pyro_llm.rewards.verifiers.arithmetic import ArithmeticReward
from pyro_llm.rewards.verifiers.json_schema import JsonSchemaReward
from pyro_llm.rewards.verifiers.math_verify import MathVerifyReward
from pyro_llm.rewards.verifiers.regex import RegexReward
from pyro_llm.rewards.verifiers.verifier import Verifier

__all__ = ["ArithmeticReward", "JsonSchemaReward", "MathVerifyReward", "RegexReward", "Verifier"]
