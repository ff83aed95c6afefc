from copy import deepcopy

import pytest
import torch

from pyro_llm.rewards.reading.causal import is_causal


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_models_say_themselves_whether_they_are_causal(rewards_of, dtype):
    for architecture in ("qwen2", "llama", "gpt2", "gemma2", "gemma3"):
        assert is_causal(deepcopy(rewards_of(architecture).model).to(dtype)), architecture
    for architecture in ("bert", "bidirectional gemma3"):
        assert not is_causal(deepcopy(rewards_of(architecture).model).to(dtype)), architecture
