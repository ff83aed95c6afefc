"""A factor of the joint density that is computed when it is asked for, and not when the program is replayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor


class _Answer:
    """The value of a factor, computed at most once; shared by the expanded copies of a distribution."""

    def __init__(self, compute: Callable[[], Tensor]) -> None:
        self._compute = compute
        self._value: Tensor | None = None

    @property
    def value(self) -> Tensor:
        if self._value is None:
            self._value = self._compute()
        return self._value


class LazyFactor(TorchDistribution):
    """What `pyro.factor` is by `Unit`, but that its logarithm is computed when `log_prob` is asked for.

    Observe it with its only value, an empty one: `pyro.sample(name, factor, obs=factor.sample())`. An engine that
    replays a program has the factors of the past in its weights, and asks for none of them again.

    Args:
        log_factor: gives the logarithm of the factor, of shape `batch_shape` or one that broadcasts to it.
        batch_shape: of the distribution. The event shape is `[0]`.
        device: where the (empty) values lie.

    Examples:
        >>> LazyFactor(lambda: torch.tensor([0.5, 2.0]).log(), (2,)).log_prob(torch.empty(2, 0)).exp()
        tensor([0.5000, 2.0000])
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's own declaration)
    support = constraints.independent(constraints.real, 1)

    def __init__(
        self,
        log_factor: Callable[[], Tensor],
        batch_shape: Size | tuple[int, ...],
        device: torch.device | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self._answer, self._device = _Answer(log_factor), device
        super().__init__(Size(batch_shape), Size([0]), validate_args=validate_args)

    @property
    def log_factor(self) -> Tensor:
        """The logarithm of the factor, computed when first asked for. Shape `batch_shape`."""
        return self._answer.value.expand(self.batch_shape)

    def expand(
        self, batch_shape: Size | list[int] | tuple[int, ...], _instance: LazyFactor | None = None
    ) -> LazyFactor:
        """The factor broadcast on the left to `batch_shape`; computes nothing."""
        new = cast(LazyFactor, self._get_checked_instance(type(self), _instance))
        new.__dict__.update(self.__dict__)
        super(LazyFactor, new).__init__(Size(batch_shape), Size([0]), validate_args=False)
        new._validate_args = self._validate_args
        return new

    def sample(self, sample_shape: Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """The only value, an empty one. Shape `sample_shape + batch_shape + [0]`."""
        return torch.empty(Size(sample_shape) + self.batch_shape + self.event_shape, device=self._device)

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the factor. Shape: the batch shapes of `value` and of this, broadcast."""
        return self.log_factor.expand(torch.broadcast_shapes(value.shape[:-1], self.batch_shape))
