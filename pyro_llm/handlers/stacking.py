"""Stacking what particles hold one by one, ragged or missing as it may be, into one batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def stack_structures(values: Sequence[Any], shape: tuple[int, ...]) -> Any:
    """One structure with a batch of `shape`, as many as there are values, on the left of every tensor.

    Tensors are stacked, shorter ones padded as by `stack_ragged`; numbers become a tensor; dictionaries, lists and
    tuples that are alike are stacked item by item; objects with `map_tensors` whose type has `stack(list)`, giving a
    batch of shape `[len(list)]` or a ValueError if they do not go together, by that. Anything else (strings, say, or a
    mixture) becomes an object array.
    """
    first = values[0]
    if all(isinstance(value, bool | int | float | Tensor) for value in values):
        return stack_ragged([torch.as_tensor(value, dtype=_dtype_of(value)) for value in values]).unflatten(0, shape)
    if all(value is None for value in values):
        return None
    alike = all(type(value) is type(first) for value in values)
    if alike and hasattr(first, "map_tensors") and hasattr(type(first), "stack"):
        try:
            stacked = type(first).stack(list(values))
        except ValueError:
            return _as_objects(values, shape)
        return stacked.map_tensors(lambda tensor, event_dim: tensor.unflatten(0, shape))
    if alike and isinstance(first, dict) and all(value.keys() == first.keys() for value in values):
        return {key: stack_structures([value[key] for value in values], shape) for key in first}
    if alike and isinstance(first, list | tuple) and all(len(value) == len(first) for value in values):
        items = [stack_structures(item, shape) for item in zip(*values, strict=True)]
        return type(first)(*items) if hasattr(first, "_fields") else type(first)(items)
    return _as_objects(values, shape)


def stack_ragged(tensors: Sequence[Tensor | None]) -> Tensor:
    """Stack tensors of one number of dimensions, each padded on the right, a missing one all padding.

    The padding is NaN in floating-point tensors and -1 in integer ones; booleans become integers where any is needed.

    >>> stack_ragged([torch.tensor([1, 2]), None, torch.tensor([3])])
    tensor([[ 1,  2],
            [-1, -1],
            [ 3, -1]])
    """
    present = [tensor for tensor in tensors if tensor is not None]
    dims = {tensor.dim() for tensor in present}
    if len(dims) > 1:
        raise ValueError(
            "A value has different numbers of dimensions in different particles "
            f"({', '.join(sorted(str(tuple(tensor.shape)) for tensor in present))}), so it cannot be stacked."
        )
    dtype = present[0].dtype
    for other in present[1:]:
        dtype = torch.promote_types(dtype, other.dtype)
    shape = torch.Size(max(sizes) for sizes in zip(*(tensor.shape for tensor in present), strict=True))
    complete = all(tensor is not None and tensor.shape == shape for tensor in tensors)
    if dtype == torch.bool and not complete:
        dtype = torch.int64
    padding = torch.nan if dtype.is_floating_point or dtype.is_complex else -1
    stacked = torch.full((len(tensors), *shape), 0 if complete else padding, dtype=dtype, device=present[0].device)
    for position, tensor in enumerate(tensors):
        if tensor is not None:
            stacked[position][tuple(slice(size) for size in tensor.shape)] = tensor
    return stacked


def _as_objects(values: Sequence[Any], shape: tuple[int, ...]) -> np.ndarray:
    objects = np.empty(len(values), dtype=object)
    for position, value in enumerate(values):
        objects[position] = value
    return objects.reshape(shape)


def _dtype_of(value: bool | int | float | Tensor) -> torch.dtype:
    if isinstance(value, Tensor):
        return value.dtype
    if isinstance(value, bool):
        return torch.bool
    return torch.int64 if isinstance(value, int) else torch.float64
