"""Random numbers that belong to texts: the same for a text in every run, process and machine."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import torch
from torch import Tensor


def keyed_uniforms(texts: Iterable[str], prompt: str, seed: int, stream: str) -> Tensor:
    """One uniform random number for each text, a function of the text, the prompt, the seed and the stream alone.

    The first 53 bits of a BLAKE2b digest, a number in (0, 1) that is neither bound; so texts that differ in one
    character have independent numbers for all that a statistical test can tell.

    Args:
        texts: since the prompt.
        prompt: that they continue.
        seed: another one gives other numbers.
        stream: so does another name, so that two uses of one seed are independent.

    Returns:
        Float64, one for each text.

    Examples:
        >>> keyed_uniforms(["a", "b", "a"], "", seed=0, stream="example")
        tensor([0.5427, 0.9605, 0.5427], dtype=torch.float64)
    """
    beginning = blake2b(f"{stream}|{seed}|{prompt}|".encode(errors="surrogatepass"), digest_size=8)
    numbers: dict[str, int] = {}
    drawn = []
    for text in texts:
        if text not in numbers:
            digest = beginning.copy()
            digest.update(text.encode(errors="surrogatepass"))
            numbers[text] = int.from_bytes(digest.digest(), "big") >> 11
        drawn.append(numbers[text])
    return (torch.tensor(drawn, dtype=torch.float64) + 0.5) * 2.0**-53
