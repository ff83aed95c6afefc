"""Keyed uniforms and the tokens they draw.

Where a test is statistical its seed is fixed, so that it passes or fails for good; its false-alarm rate is the
probability that another seed would have failed although the code is right.
"""

import pytest
import torch
from scipy import stats

from pyro_llm.lm.keyed import draw, uniforms

FALSE_ALARM = 1e-4


def chi_squared_p(observed, expected):
    return stats.chisquare(observed, expected).pvalue


def grid(seeds, slots, tokens):
    """Uniforms `[seeds, slots, tokens]`."""
    return torch.stack(
        [
            torch.stack([uniforms(seed, torch.arange(slots), index) for index in range(tokens)], -1)
            for seed in range(seeds)
        ]
    )


def test_uniforms_lie_in_the_unit_interval():
    u = grid(5, 1000, 20)
    assert u.dtype == torch.float64
    assert u.min() >= 0 and u.max() < 1
    assert u.unique().numel() == u.numel()


@pytest.mark.parametrize("along", ["slots", "tokens", "seeds"])
def test_uniforms_are_uniform_along_each_part_of_the_key(along):
    """Null: 100,000 draws are uniform over 256 bins; false-alarm rate 1e-4."""
    if along == "slots":
        u = uniforms(7, torch.arange(100_000), 0)
    elif along == "tokens":
        u = torch.stack([uniforms(7, torch.arange(10), index) for index in range(10_000)])
    else:
        u = torch.stack([uniforms(seed, torch.arange(10), 3) for seed in range(10_000)])
    counts = torch.histc(u.flatten(), bins=256, min=0, max=1)
    assert chi_squared_p(counts.numpy(), [100_000 / 256] * 256) > FALSE_ALARM


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_neighbouring_keys_are_independent(dim):
    """Null: pairs of neighbours along seeds, slots or tokens are uniform over 16 x 16 cells; false-alarm rate 1e-4."""
    u = grid(20, 100, 50)
    size = u.shape[dim]
    first, second = u.narrow(dim, 0, size - 1).flatten(), u.narrow(dim, 1, size - 1).flatten()
    cells = (first * 16).long() * 16 + (second * 16).long()
    counts = torch.bincount(cells, minlength=256)
    assert chi_squared_p(counts.numpy(), [cells.numel() / 256] * 256) > FALSE_ALARM


def test_every_bit_is_fair():
    """Null: each of the 53 bits is fair over 20,000 draws; false-alarm rate 1e-4 over all (Bonferroni)."""
    bits = (uniforms(3, torch.arange(20_000), 1) * 2.0**53).long()
    ones = torch.stack([(bits >> place & 1).sum() for place in range(53)]).double()
    z = (ones - 10_000) / 20_000**0.5 * 2
    assert z.abs().max() < stats.norm.isf(FALSE_ALARM / 2 / 53)


def test_the_key_alone_matters():
    slots = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    everyone = uniforms(5, torch.arange(64), 9)
    assert torch.equal(uniforms(5, slots, 9), everyone[slots])
    assert torch.equal(uniforms(5, slots[:7], 9), everyone[slots[:7]])


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1, 2**63, 2**64 - 1, -1, -(2**63)])
def test_any_integer_is_a_seed(seed):
    u = uniforms(seed, torch.arange(1000), 0)
    assert abs(float(u.mean()) - 0.5) < 0.05
    assert not torch.equal(u, uniforms(seed + 1, torch.arange(1000), 0))


def test_the_published_splitmix64_sequence():
    """The mixing function is that of splitmix64: reference outputs of the published C code for the state 0."""
    from pyro_llm.lm.keyed import _GOLDEN, _mix, _mix_int, _signed

    states = [_GOLDEN * step for step in (1, 2, 3)]
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [_mix_int(state) for state in states] == published
    assert _mix(torch.tensor([_signed(state) for state in states])).tolist() == [_signed(bits) for bits in published]


def test_draws_follow_the_probabilities():
    """Null: 50,000 draws follow the stated law; false-alarm rate 1e-4."""
    law = torch.tensor([0.05, 0.0, 0.4, 0.0, 0.25, 0.3, 0.0], dtype=torch.float64)
    tokens = draw(law.log().expand(50_000, -1), uniforms(11, torch.arange(50_000), 2))
    counts = torch.bincount(tokens, minlength=7)
    assert counts[law == 0].sum() == 0
    assert chi_squared_p(counts[law > 0].numpy(), (law[law > 0] * 50_000).numpy()) > FALSE_ALARM


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_ends_of_the_unit_interval_draw_possible_tokens(dtype):
    law = torch.tensor([0.0, 0.0, 0.1, 0.0, 0.2, 0.7, 0.0, 0.0], dtype=dtype)
    ends = torch.tensor([0.0, 1 - 2.0**-53], dtype=torch.float64)
    assert draw(law.log().expand(2, -1), ends).tolist() == [2, 5]


def test_a_sure_token_is_drawn_always():
    log_probs = torch.full((1000, 9), -torch.inf)
    log_probs[:, 8] = 0.0
    assert (draw(log_probs, uniforms(0, torch.arange(1000), 0)) == 8).all()


def test_no_token_of_probability_zero_is_drawn_from_a_large_vocabulary():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 30_000, generator=generator)
    logits[torch.rand(200, 30_000, generator=generator) < 0.9] = -torch.inf
    log_probs = logits.log_softmax(-1)
    tokens = draw(log_probs, uniforms(1, torch.arange(200), 0))
    assert (log_probs.gather(-1, tokens.unsqueeze(-1)) > -torch.inf).all()
