"""Rewards: what judges the texts of a state, as log-odds of acceptance."""

from pyro_llm.rewards.aggregation import DEFAULT_AGGREGATION, aggregate
from pyro_llm.rewards.calibration import (
    BetaCalibration,
    Calibration,
    IsotonicCalibration,
    PlattScaling,
    TemperatureScaling,
    fit_calibration,
    held_out_log_odds,
    load_calibration,
)
from pyro_llm.rewards.composition import Cached, Calibrated, Ensemble, Power, WithError
from pyro_llm.rewards.disturbance import Disturbed
from pyro_llm.rewards.formats.armorm import ArmoReward
from pyro_llm.rewards.formats.implicit import ImplicitReward
from pyro_llm.rewards.formats.last_token import ProcessReward
from pyro_llm.rewards.formats.math_shepherd import MathShepherdReward
from pyro_llm.rewards.formats.outcome import OutcomeReward
from pyro_llm.rewards.formats.qwen_prm import QwenProcessReward
from pyro_llm.rewards.formats.rlhflow import RLHFlowReward
from pyro_llm.rewards.formats.skywork_prm import SkyworkProcessReward
from pyro_llm.rewards.formats.trl import TRLProcessReward
from pyro_llm.rewards.function import FunctionReward
from pyro_llm.rewards.isolation import IsolatedFunctionReward
from pyro_llm.rewards.judges import ConfidenceReward, JudgeReward
from pyro_llm.rewards.load import load_reward
from pyro_llm.rewards.remote import ChatEndpoint, Endpoint, HttpOptions, JsonEndpoint, PoolingEndpoint, RemoteReward
from pyro_llm.rewards.reward import Reward
from pyro_llm.rewards.reward_model import RewardModel, TextReward
from pyro_llm.rewards.verifiers import ArithmeticReward, JsonSchemaReward, MathVerifyReward, RegexReward, Verifier

__all__ = [
    "DEFAULT_AGGREGATION",
    "ArithmeticReward",
    "ArmoReward",
    "BetaCalibration",
    "Cached",
    "Calibrated",
    "Calibration",
    "ChatEndpoint",
    "ConfidenceReward",
    "Disturbed",
    "Endpoint",
    "Ensemble",
    "FunctionReward",
    "HttpOptions",
    "ImplicitReward",
    "IsolatedFunctionReward",
    "IsotonicCalibration",
    "JsonEndpoint",
    "JsonSchemaReward",
    "JudgeReward",
    "MathShepherdReward",
    "MathVerifyReward",
    "OutcomeReward",
    "PlattScaling",
    "PoolingEndpoint",
    "Power",
    "ProcessReward",
    "QwenProcessReward",
    "RLHFlowReward",
    "RegexReward",
    "RemoteReward",
    "Reward",
    "RewardModel",
    "SkyworkProcessReward",
    "TRLProcessReward",
    "TemperatureScaling",
    "TextReward",
    "Verifier",
    "WithError",
    "aggregate",
    "fit_calibration",
    "held_out_log_odds",
    "load_calibration",
    "load_reward",
]
