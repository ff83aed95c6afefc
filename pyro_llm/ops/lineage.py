"""The chain of resamplings of a population, and how anything recorded along it is carried to the present."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class Lineage:
    """Resamplings of a flat population of P particles, numbered by *generation*.

    Generation 0 lies before the first resampling. What was recorded in an early generation is carried to the present
    one only when asked for, by one composed index, instead of at every resampling.
    """

    def __init__(self) -> None:
        self._ancestors: list[Tensor] = []
        self._composed: dict[int, Tensor] = {}

    @property
    def generation(self) -> int:
        """The present generation: the number of resamplings so far."""
        return len(self._ancestors)

    def resample(self, ancestors: Tensor) -> None:
        """Begin a generation whose slot p descends from slot `ancestors[p]` of the one before. Shape `[P]`."""
        self._ancestors.append(ancestors)
        self._composed = {self.generation - 1: ancestors}

    def ancestors_in(self, generation: int) -> Tensor | None:
        """The slot of `generation` from which each present slot descends, `[P]`; None if that is the present."""
        if generation == self.generation:
            return None
        known = generation
        while known not in self._composed:
            known += 1
        for earlier in reversed(range(generation, known)):
            self._composed[earlier] = self._ancestors[earlier].index_select(0, self._composed[earlier + 1])
        return self._composed[generation]

    def carry(self, tensor: Tensor, generation: int) -> Tensor:
        """Values by slot of `generation` (leftmost dimension), at the present slots. `[P, ...]` -> `[P, ...]`.

        >>> lineage = Lineage()
        >>> lineage.resample(torch.tensor([1, 1, 2]))
        >>> lineage.resample(torch.tensor([2, 0, 0]))
        >>> lineage.carry(torch.tensor([10, 11, 12]), generation=0)
        tensor([12, 11, 11])
        """
        index = self.ancestors_in(generation)
        return tensor if index is None else torch.index_select(tensor, 0, index.to(tensor.device))

    def sum(self, recorded: Iterable[tuple[Tensor, int]]) -> Tensor:
        """The sum of what each present slot's ancestors have recorded, in float64. A scalar 0 if there is nothing.

        Args:
            recorded: values by slot, `[P]`, and the generation they were recorded in, which must not decrease.

        Returns:
            Float64 `[P]`.

        >>> lineage = Lineage()
        >>> lineage.resample(torch.tensor([1, 1, 2]))
        >>> lineage.sum([(torch.tensor([1.0, 2.0, 3.0]), 0), (torch.tensor([10.0, 20.0, 30.0]), 1)])
        tensor([12., 22., 33.], dtype=torch.float64)
        """
        total, reached = torch.zeros((), dtype=torch.float64), 0
        for values, generation in recorded:
            total, reached = self._descend(total, reached, generation) + values.double(), generation
        return self._descend(total, reached, self.generation)

    def _descend(self, total: Tensor, generation: int, to: int) -> Tensor:
        for ancestors in self._ancestors[generation:to] if total.dim() else ():
            total = total.index_select(0, ancestors)
        return total
