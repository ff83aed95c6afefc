"""Structures of tensors with one entry per particle: gathering, splitting by run, comparing, copying.

A structure is a tensor, a NumPy array of objects, a dictionary, list or tuple of structures, or anything with a method
`map_tensors(fn)` that applies `fn(tensor, event_dim)` to each of its batched tensors (a `TextState`, say). All else in
it is left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_llm.errors import PlateNestingError

TensorMap = Callable[[Tensor, int | None], Tensor]


def map_structure(fn: TensorMap, value: Any) -> Any:
    """Apply `fn(tensor, event_dim)` to each tensor of a structure; `event_dim` is None where nothing declares it."""
    if isinstance(value, Tensor):
        return fn(value, None)
    if hasattr(value, "map_tensors"):
        return value.map_tensors(fn)
    if isinstance(value, dict):
        return {key: map_structure(fn, item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_structure(fn, item) for item in value))
    if isinstance(value, list | tuple):
        return type(value)(map_structure(fn, item) for item in value)
    if isinstance(value, np.ndarray) and value.dtype == object:  # what `fn` does to positions, done to the objects
        positions = fn(torch.arange(value.size).reshape(value.shape), None)
        return value.reshape(-1)[positions.numpy()]
    return value


def tensors_of(value: Any) -> list[Tensor]:
    """The tensors of a structure, in order."""
    found: list[Tensor] = []

    def note(tensor: Tensor, event_dim: int | None) -> Tensor:
        found.append(tensor)
        return tensor

    map_structure(note, value)
    return found


def copy_structure(value: Any) -> Any:
    """The structure with its own tensors, safe from changes in place."""
    return map_structure(lambda tensor, event_dim: tensor.clone(), value)


def agree(left: Tensor, right: Tensor) -> bool:
    """Whether two tensors are equal up to rounding; NaN equals NaN."""
    if left.shape != right.shape:
        return False
    if left.dtype.is_floating_point and right.dtype.is_floating_point:
        return torch.allclose(left.double(), right.double(), rtol=1e-4, atol=1e-6, equal_nan=True)
    return torch.equal(left, right)


@dataclass(frozen=True)
class ParticleAxis:
    """Where the particles are: a flat batch dimension of `size` = R * N, at `dim` counted from the right.

    Nothing stands to the left of it. Where a tensor's event dimensions are not declared, its leftmost dimension is
    taken for that of the particles if it has their size and lies far enough to the left; nothing more can be known of a
    plain tensor. Numbers and NumPy arrays of numbers are shared by all particles.
    """

    num_runs: int
    num_particles: int
    dim: int

    @property
    def size(self) -> int:
        """Particles of all runs together."""
        return self.num_runs * self.num_particles

    def find(self, tensor: Tensor, event_dim: int | None = None) -> int | None:
        """Index of the particle dimension of a tensor, None if it has none."""
        if event_dim is None:
            return 0 if tensor.dim() >= -self.dim and tensor.shape[0] == self.size else None
        index = tensor.dim() + self.dim - event_dim
        if index > 0 and (tensor.shape[index] != self.size or tensor.shape[:index].numel() > 1):
            # Only dimensions of size 1 may stand left of the particles. So those right of them are more than the
            # plates: several texts in one event, of a site `LLM(...).to_event(1)` say.
            index = 0
        return index if index >= 0 and tensor.shape[index] == self.size else None

    def gather(self, value: Any, slots: Tensor | None, value_event_dim: int | None = None) -> Any:
        """The structure with particle p replaced by particle `slots[p]`; unchanged where `slots` is None.

        Args:
            value: the structure.
            slots: shape `[P]`.
            value_event_dim: event dimensions of the tensors that declare none themselves, if known.
        """
        if slots is None:
            return value

        def gather(tensor: Tensor, event_dim: int | None) -> Tensor:
            event_dim = value_event_dim if event_dim is None else event_dim
            index = self.find(tensor, event_dim)
            return tensor if index is None else tensor.index_select(index, slots.to(tensor.device))

        return map_structure(gather, value)

    def split_runs(self, value: Any, value_event_dim: int | None = None) -> Any:
        """The structure with its particle dimension split into `[R, N]`, on the left of every tensor that has it.

        What declares its event dimensions is first expanded over the particles, if all of them share it.
        """

        def split(tensor: Tensor, event_dim: int | None) -> Tensor:
            event_dim = value_event_dim if event_dim is None else event_dim
            index = self.find(tensor, event_dim)
            if index is None and event_dim is not None:
                tensor, index = tensor.expand(self.size, *tensor.shape), 0
            if index is None:
                return tensor
            # Dimensions left of the particles have size 1, as no plate may stand there.
            return tensor.reshape(self.num_runs, self.num_particles, *tensor.shape[index + 1 :])

        return map_structure(split, value)

    def sum(self, name: str, log_prob: Tensor) -> Tensor:
        """The sum over all dimensions but that of the particles; what has no such dimension counts once for each.

        Args:
            name: of the site.
            log_prob: its log-probability, event dimensions summed out.

        Returns:
            Shape `[P]`.

        Raises:
            PlateNestingError: dimensions stand where the particles should, or left of them.
        """
        if log_prob.shape == (self.size,) and self.dim == -1:
            return log_prob
        dims = log_prob.dim()
        if dims > -self.dim or (dims == -self.dim and log_prob.shape[0] not in (1, self.size)):
            raise PlateNestingError(
                f"Site {name!r} has a log-probability of shape {tuple(log_prob.shape)}: the dimension of the "
                f"{self.size} particles is {self.dim}, and only plates may stand right of it. Declare independent "
                "dimensions by `pyro.plate` and count those that are nested in `max_plate_nesting`, or make them event "
                "dimensions by `.to_event`."
            )
        if dims < -self.dim or log_prob.shape[0] == 1:
            return log_prob.double().sum().expand(self.size)
        return log_prob.double().reshape(self.size, -1).sum(-1)
