"""Rewards that a server computes."""

from pyro_llm.rewards.remote.client import HttpOptions
from pyro_llm.rewards.remote.endpoint import Answer, ChatEndpoint, Endpoint, Item, JsonEndpoint, PoolingEndpoint
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
