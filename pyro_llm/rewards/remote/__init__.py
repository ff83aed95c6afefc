"""Rewards that a server computes."""

from pyro_llm.rewards.remote.chat_endpoint import ChatEndpoint
from pyro_llm.rewards.remote.client import HttpOptions
from pyro_llm.rewards.remote.endpoint import Answer, Endpoint, Item
from pyro_llm.rewards.remote.json_endpoint import JsonEndpoint
from pyro_llm.rewards.remote.pooling_endpoint import PoolingEndpoint
from pyro_llm.rewards.remote.reward import RemoteReward

__all__ = [
    "Answer",
    "ChatEndpoint",
    "Endpoint",
    "HttpOptions",
    "Item",
    "JsonEndpoint",
    "PoolingEndpoint",
    "RemoteReward",
]
