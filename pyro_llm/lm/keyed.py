"""Keyed randomness: the uniform that draws a token is a pure function of seed, particle slot and token index.

So a draw does not depend on which other rows are in the batch, on their order, or on how many have finished. The
mixing function is the finaliser of splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014), applied once for each part of the key: a bijection of 64 bits in which every input bit
changes every output bit with probability near a half.
"""

from __future__ import annotations

import torch
from torch import Tensor

_MODULUS = 1 << 64
_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, odd
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_SHIFTS = (30, 27, 31)


def uniforms(seed: int, slots: Tensor, index: int) -> Tensor:
    """Uniforms in [0, 1), one for each slot, by the key (seed, slot, token index).

    Args:
        seed: any integer; taken modulo 2^64.
        slots: int64, any shape, any device.
        index: the index of the token within its step.

    Returns:
        float64 multiples of 2^-53, of the shape of `slots`.

    Example:
        >>> uniforms(0, torch.tensor([2, 0, 1]), 5) == uniforms(0, torch.arange(3), 5)[[2, 0, 1]]
        tensor([True, True, True])
    """
    return token_uniforms(slot_keys(seed, slots), torch.full_like(slots, index))


def slot_keys(seed: int, slots: Tensor) -> Tensor:
    """The part of the key that all tokens of a row share, mixed. int64, of the shape of `slots`."""
    return _mix(slots * _signed(_GOLDEN) + _signed(_mix_int(seed) + _GOLDEN))


def token_uniforms(keys: Tensor, index: Tensor) -> Tensor:
    """Uniforms in [0, 1) from the keys that `slot_keys` gives and the index of each row's token; see `uniforms`."""
    by_token = _mix(keys + (index + 1) * _signed(_GOLDEN))
    return _shift(by_token, 11).double() * 2.0**-53


def draw(log_probs: Tensor, uniform: Tensor) -> Tensor:
    """Draw a token for each row by inverting the cumulative distribution in float64.

    Args:
        log_probs: normalised up to rounding. Shape `[rows, vocabulary_size]`.
        uniform: in [0, 1). Shape `[rows]`.

    Returns:
        int64 tokens, never one of probability zero. Shape `[rows]`. Where the log-probabilities are NaN, so is that of
        the token returned.
    """
    mass = log_probs.exp()
    cumulative = mass.cumsum(-1, dtype=torch.float64)
    if cumulative.device.type != "cpu":  # where sums are taken one after another
        # A parallel scan may round a zero-mass token's sum an ulp above its neighbour's: levels must not rise there.
        cumulative = torch.where(mass > 0, cumulative, 0.0).cummax(-1).values
    total = cumulative[:, -1:]
    target = torch.minimum(uniform.double().unsqueeze(-1) * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1).clamp(max=log_probs.shape[-1] - 1)


def _mix(bits: Tensor) -> Tensor:
    bits = (bits ^ _shift(bits, _SHIFTS[0])) * _signed(_MULTIPLIERS[0])
    bits = (bits ^ _shift(bits, _SHIFTS[1])) * _signed(_MULTIPLIERS[1])
    return bits ^ _shift(bits, _SHIFTS[2])


def _mix_int(bits: int) -> int:
    bits %= _MODULUS
    bits = (bits ^ bits >> _SHIFTS[0]) * _MULTIPLIERS[0] % _MODULUS
    bits = (bits ^ bits >> _SHIFTS[1]) * _MULTIPLIERS[1] % _MODULUS
    return bits ^ bits >> _SHIFTS[2]


def _shift(bits: Tensor, count: int) -> Tensor:
    """Shift to the right, filling with zeros as for an unsigned integer."""
    return (bits >> count) & ((1 << (64 - count)) - 1)


def _signed(bits: int) -> int:
    """The int64 with the same 64 bits."""
    bits %= _MODULUS
    return bits - _MODULUS if bits >= _MODULUS // 2 else bits
