"""The head of ArmoRM: objectives and the weights that a gating network gives them, at every token."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from pyro_llm.rewards.formats.heads import DecoderWithHead, Float32Linear


class DecoderWithObjectives(DecoderWithHead):
    """A decoder with `regression_layer`, `reward_transform_matrix` and `gating`; see `ArmoReward`."""

    def add_head(self, config: PreTrainedConfig) -> None:
        """Make the head."""
        width, objectives = config.get_text_config().hidden_size, config.num_objectives
        self.regression_layer = Float32Linear(width, objectives, bias=False)
        self.reward_transform_matrix = nn.Parameter(torch.eye(objectives))
        self.gating = Gating(width, objectives, config)

    def head(self, hidden: Tensor) -> Tensor:
        """Objectives, then their weights. `[..., hidden_size]` -> `[..., 2 * objectives]`."""
        objectives = self.regression_layer(hidden) @ self.reward_transform_matrix.float()
        return torch.cat([objectives, self.gating(hidden)], -1)


class Gating(nn.Module):
    """Weights of objectives: a multilayer perceptron with a softmax.

    Args:
        width: of what it reads.
        objectives: how many it weighs.
        config: may name `gating_hidden_dim`, `gating_n_hidden` and `gating_temperature`.
    """

    def __init__(self, width: int, objectives: int, config: PreTrainedConfig) -> None:
        super().__init__()
        hidden = getattr(config, "gating_hidden_dim", 1024)
        sizes = [width, *[hidden] * getattr(config, "gating_n_hidden", 3), objectives]
        self.temperature = float(getattr(config, "gating_temperature", 10))
        self.logit_scale = nn.Parameter(torch.ones(1))
        self.layers = nn.ModuleList(Float32Linear(*pair) for pair in pairwise(sizes))

    def forward(self, hidden: Tensor) -> Tensor:
        """`[..., width]` -> `[..., objectives]`."""
        for layer in self.layers[:-1]:
            hidden = layer(hidden).relu()
        return (self.layers[-1](hidden) / self.temperature).softmax(-1) * self.logit_scale.float()
