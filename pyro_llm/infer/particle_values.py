"""Reaching into a program's return value, whatever it is made of, one particle at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

from torch import Tensor

from pyro_llm.errors import NoTextError
from pyro_llm.handlers.structures import map_structure

if TYPE_CHECKING:
    from pyro_llm.infer.posterior import Posterior


def gather_particles(value: Any, gather: Callable[[Tensor], Tensor], shape: tuple[int, int]) -> Any:
    """Apply `gather` to every tensor of a structure that is batched over `shape` = `(R, N)` on its left."""
    return map_structure(lambda tensor, _: gather(tensor) if tuple(tensor.shape[:2]) == shape else tensor, value)


def particle_value(value: Any, run: int, particle: int, shape: tuple[int, int]) -> Any:
    """The part of a structure that belongs to one particle."""
    return gather_particles(value, lambda tensor: tensor[run, particle], shape)


def particle_values(
    value: Any, shape: tuple[int, int], fn: Callable[[Any], Any] | None = None, missing: Tensor | None = None
) -> list[list[Hashable]]:
    """`fn` of each particle's part of a structure, tensors of results turned into numbers and tuples.

    None, without a call, for particles that are `missing`, bool `[R, N]`.
    """
    lacks = None if missing is None else missing.tolist()

    def result(run: int, particle: int) -> Hashable:
        if lacks is not None and lacks[run][particle]:
            return None
        part = particle_value(value, run, particle, shape)
        return hashable(part if fn is None else fn(part))

    return [[result(run, particle) for particle in range(shape[1])] for run in range(shape[0])]


def values_of(
    posterior: Posterior, fn: Callable[[Any], Hashable] | None = None, of: str | None = None
) -> list[list[Hashable]]:
    """`fn` of each particle's text, of its return value if there are no texts, or of its value at the site `of`.

    `fn` is called once for each distinct text. See `Posterior.marginal`.
    """
    check_function(fn, posterior.samples)
    if of is not None and of not in posterior.samples:
        raise KeyError(f"There is no latent site {of!r}; there are {', '.join(map(repr, posterior.samples))}.")
    if of is None and posterior.has_texts:
        texts = posterior.written.by_particle
        every = dict.fromkeys(chain.from_iterable(texts))
        distinct = {text: text if fn is None else hashable(fn(text)) for text in every}
        return [[distinct[text] for text in row] for row in texts]
    source = posterior.samples[of] if of is not None else posterior.returns
    if source is None:
        posterior.written  # noqa: B018 - raises
    with explained_reading(source, fn):
        missing = None if of is None else posterior.missing.get(of)
        return particle_values(source, (posterior.num_runs, posterior.num_particles), fn, missing)


def check_function(fn: Any, sites: Collection[str]) -> None:
    """Raise TypeError for what cannot be called, the name of a site say."""
    if fn is None or callable(fn):
        return
    meant = f", did you mean of={fn!r}?" if isinstance(fn, str) and fn in sites else ""
    raise TypeError(
        f"fn={fn!r} is no function of a particle's text (its return value, or its value at a site){meant or '.'} A "
        f"latent site is named by `of`; there are {', '.join(map(repr, sites)) or 'none'}."
    )


@contextmanager
def explained_reading(source: Any, fn: Callable[[Any], Any] | None) -> Iterator[None]:
    """Raise NoTextError where `fn`, called with what is no text, wants a string, as `pyro_llm.answer` does."""
    try:
        yield
    except (TypeError, AttributeError) as error:
        of_strings = isinstance(error, AttributeError) and error.name is not None and hasattr(str, error.name)
        wants_text = of_strings or isinstance(error, NoTextError) or "expected string or bytes-like" in str(error)
        if fn is None or not wants_text:
            raise
        name = getattr(fn, "__name__", repr(fn))
        raise NoTextError(
            f"{name} takes a text, and the particles have none: what there is of each is a {_kind(source)} ({error}). "
            "Return the TextState, and nothing else, from the model; or give a function of that value, or of a site's: "
            '`posterior.marginal(fn, of="site")`.'
        ) from error


def _kind(source: Any) -> str:
    return "tensor" if isinstance(source, Tensor) else type(source).__name__


def hashable(value: Any) -> Hashable:
    """Numbers and tuples in place of tensors, lists and dictionaries, so that equal values are one key.

    A text state becomes its text. NaN, which is not even equal to itself, becomes None: where particles are executed
    one by one it stands for a site that a particle has not met.
    """
    if hasattr(value, "map_tensors") and hasattr(value, "texts"):
        value = value.texts
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float | complex) and value != value:
        return None
    if isinstance(value, dict):
        return tuple((key, hashable(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return tuple(hashable(item) for item in value)
    try:
        hash(value)
    except TypeError:
        raise TypeError(
            f"A marginal needs hashable values, and {type(value).__name__} is not one: "
            "return a string, a number or a tuple."
        ) from None
    return value
