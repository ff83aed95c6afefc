"""The resumable loop: `for t in loop("t", T, state)`."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any, Protocol

from pyro.poutine.runtime import effectful


class LoopPosition(Protocol):
    """What an inference engine puts in the place of a plain loop's counter."""

    def checkpoint(self, t: int, state: MutableMapping[str, Any]) -> int:
        """Called before iteration `t`; may put another state in `state` and return the iteration to go on with."""
        ...

    def resample(self, state: MutableMapping[str, Any]) -> None:
        """Called between two iterations of an unbroken loop; may put what the particles' ancestors hold in `state`."""
        ...

    def close(self, broken: bool) -> None:
        """Called when the loop is left; `broken` if it is unbroken by declaration and has not come to its end."""
        ...


@effectful(type="loop")
def _enter_loop() -> LoopPosition | None:
    return None


def loop(name: str, num_iterations: int, state: MutableMapping[str, Any], *, unbroken: bool = False) -> Iterator[int]:
    """Iterate over `range(num_iterations)`, resumably: what SMC replays then stays short however long the loop is.

    Everything that one iteration hands to the next must be in `state`. Outside an inference engine this is
    `range(num_iterations)`. Under `SMC`, a program that is restarted after resampling does not replay the loop from
    its beginning: it re-enters one iteration before the last, `state` holding what it held then for the ancestors of
    each particle. So a program of T iterations costs O(T) site visits instead of O(T^2), with the same results to the
    bit. The first restart replays everything and checks that the state so restored is right.

    Going one iteration back is needed because an iteration may end the loop, by `break`, and might do so for the
    ancestors. If it never does, say `unbroken=True`: then resampling takes place between two iterations, without a
    restart and without replaying anything, as long as nothing but `state` can hold values of particles (no latent site
    comes before the loop) and the iteration before began with a latent site. Where all iterations do, results are those
    of replay to the bit; where only some do, resampling may precede a factor of the iteration that replay would await.

    A loop inside a loop is replayed with the iteration of the outer one; only the outermost is resumed.

    Args:
        name: unique among the loops of the program.
        num_iterations: T, the number of iterations; `break` ends the loop earlier.
        state: a dictionary of tensors with the particles on the left, of `TextState`s or other objects with
            `map_tensors`, of lists, tuples and dictionaries of those, and of values common to all particles. Tensors
            that all particles share stay outside.
        unbroken: a promise that all iterations always take place: none leaves the loop by `break`, `return` or an
            exception. Only makes inference faster.

    Yields:
        The number of the iteration.

    Raises:
        TypeError: `state` is no dictionary.
        DuplicateSiteError: under an engine, two loops have the same name.
        ReplayError: under an engine, an iteration depends on more than `state` and the arguments of the program.
        OptionError: under an engine, when the program has ended, an unbroken loop was left before its end.

    Examples:
        >>> import torch, pyro, pyro.distributions as dist
        >>> def random_walk(observations):
        ...     state = {"x": torch.tensor(0.0)}
        ...     for t in loop("time", len(observations), state):
        ...         state["x"] = pyro.sample(f"x_{t}", dist.Normal(state["x"], 1.0))
        ...         pyro.sample(f"y_{t}", dist.Normal(state["x"], 1.0), obs=observations[t])
        ...     return state["x"]
    """
    if not isinstance(state, MutableMapping):
        raise TypeError(f"loop({name!r}): state must be a dictionary, not {type(state).__name__}.")
    position = _enter_loop(name=name)
    if position is None:
        yield from range(num_iterations)
        return
    t = 0
    try:
        while True:
            t = position.checkpoint(t, state)
            if t >= num_iterations:
                return
            if unbroken:
                position.resample(state)
            yield t
            t += 1
    finally:
        position.close(broken=unbroken and t < num_iterations)
