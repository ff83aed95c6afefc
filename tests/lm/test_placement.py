"""On an accelerator the token loop stays there, and the host never waits for it.

The meta device stands for an accelerator: it computes shapes and dtypes only, refuses operands on another device, and
raises when a number is read off a tensor. It cannot show the numbers right; the tests on the CPU do.
"""

import pytest
import torch
from transformers import PreTrainedModel

from pyro_llm.lm import Decoding
from pyro_llm.lm.cached_branches import CachedBranches
from pyro_llm.lm.cached_model import CachedModel
from pyro_llm.lm.decoding import restrict
from pyro_llm.lm.keyed import draw, uniforms
from pyro_llm.lm.kv.rows import KVRows, take_rows
from pyro_llm.lm.stopping import Terminator

META = torch.device("meta")


def forked_rows(cached: CachedModel, after_prompt: int) -> tuple[KVRows, torch.Tensor]:
    """Three ragged rows from two sources, and their pending logits."""
    one, logits = torch.ones(1, 1, dtype=torch.long, device=META), None
    rows = KVRows.empty(cached.kinds, 1, META)
    for index in range(5):
        logits = cached.logits(rows, one, rows.lengths)
        rows.lengths = rows.lengths + 1
        if index + 1 == 5 - after_prompt:
            rows = take_rows([(cached.settle_prompt(rows), [0, 0])], [0, 1], [index + 1] * 2)
            one = one.expand(2, 1)
    assert cached.shares_prompts
    last = 5 if after_prompt == 0 else 4
    return take_rows([(rows, [0, 0]), (rows, [0])], [0, 2, 1], [5, 5, last]), logits[:1, -1].expand(3, -1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("after_prompt", [0, 3])
@pytest.mark.parametrize("options", [{}, {"top_k": 5, "top_p": 0.9, "temperature": 0.7}])
@torch.no_grad()
def test_the_token_loop_stays_on_its_device(llama_model: PreTrainedModel, dtype, options, after_prompt):
    decoding = Decoding(4, **options)
    cached = CachedModel(llama_model.to(device=META, dtype=dtype), context_length=64)
    branches = CachedBranches(cached, *forked_rows(cached, after_prompt))
    ending = Terminator(torch.zeros(3, 40, dtype=torch.int32, device=META))
    states, active = ending.begin(3), torch.ones(3, dtype=torch.bool, device=META)
    for index in range(decoding.max_tokens):
        log_probs = restrict(branches.logits, decoding)
        token = draw(log_probs, uniforms(7, torch.arange(3, device=META), index))
        states = ending.advance(states, token)
        branches.advance(token, active & (states != ending.by_eos))
        active = active & ~ending.ended(states)
    assert {tensor.device for tensor in (branches.logits, branches.rows.lengths, token, states)} == {META}
    assert branches.logits.dtype == dtype
    assert branches.rows.cache.row_layers[0].keys.shape == (3, 2, after_prompt + 4, 8)
    assert log_probs.dtype == torch.float32


def test_the_stand_in_would_notice():
    """The meta device refuses what an accelerator would refuse or wait for."""
    with pytest.raises(RuntimeError, match="device"):
        torch.ones(3, device=META) + torch.ones(3)
    with pytest.raises(RuntimeError, match="meta"):
        bool(torch.ones(1, device=META).any())
