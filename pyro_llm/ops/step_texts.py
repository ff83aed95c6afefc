"""What every particle wrote at each step, those that died out included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, eq=False)
class StepTexts:
    """The texts that slots wrote at each step, decoded when they are first asked for. R runs, S steps, N particles.

    A step's text is what its tokens add to the text of the lineage before it. So what a tokenizer writes differently at
    the beginning of a text, or over two tokens, comes out as in the whole text.

    Attributes:
        tokens: what was drawn between the step before and each step, padded with -1. Int64 `[R, N, L]` by step.
        ancestors: the slot at each step from which each slot after it descends. Int64 `[R, S, N]`.
        decode: from token ids to text.
        kept: texts as they were read from a file, in the place of the other three. Object array `[R, S, N]`.

    Examples:
        >>> import torch
        >>> steps = [torch.tensor([[[0], [1]]]), torch.tensor([[[1, -1], [0, 0]]])]
        >>> ancestors = np.array([[[1, 1], [0, 1]]])
        >>> StepTexts(steps, ancestors, lambda ids: "".join("ab"[i] for i in ids)).values.tolist()
        [[['a', 'b'], ['b', 'aa']]]
    """

    tokens: Sequence[Tensor] = ()
    ancestors: NDArray[np.int64] | None = None
    decode: Callable[[list[int]], str] | None = None
    kept: NDArray[Any] | None = field(default=None, repr=False)

    @cached_property
    def values(self) -> NDArray[Any]:
        """The texts, as an object array of `str`. `[R, S, N]`."""
        if self.kept is not None or self.ancestors is None or self.decode is None:
            return np.empty((0, 0, 0), dtype=object) if self.kept is None else self.kept
        values = np.empty(self.ancestors.shape, dtype=object)
        decode = self.decode
        known: dict[tuple[int, ...], str] = {(): ""}
        num_runs, _, num_particles = self.ancestors.shape
        for run in range(num_runs):
            lineages: list[tuple[int, ...]] = [()] * num_particles
            for step, tokens in enumerate(self.tokens):
                if step:
                    lineages = [lineages[slot] for slot in self.ancestors[run, step - 1]]
                for slot, row in enumerate(tokens[run].tolist()):
                    before = lineages[slot]
                    after = lineages[slot] = before + tuple(token for token in row if token >= 0)
                    if after not in known:
                        known[after] = decode(list(after))
                    values[run, step, slot] = _added(known[before], known[after])
        return values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.values, dtype=dtype)


def _added(before: str, after: str) -> str:
    """What comes after what both texts begin with: half a character at the end of `before` is written again."""
    if after.startswith(before):
        return after[len(before) :]
    shared = next(
        (i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after))
    )
    return after[shared:]
