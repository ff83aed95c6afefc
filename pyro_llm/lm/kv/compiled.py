"""The token loop's forward pass, compiled: one graph of all the model but its attention, which is an opaque operator.

What changes from token to token (slots, room, prompts, how many of them) is Python's, and a graph that saw it would be
compiled again for each change. So the graph holds none of it: the operator finds the rows of the pass in a context
variable, appends the token's keys and values to their slots, and attends. What is left depends on the number of rows
alone, which is a dynamic dimension; torch makes one graph for a single row and one for several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from pyro_llm.errors import CapabilityError, OptionError
from pyro_llm.lm.kv.attention import SharedPromptPass

COMPILED = "compiled"
"""What the attention is told in place of the pass; the pass itself is in a context variable."""

BACKEND = "inductor"

CompileOption = bool | str
MODES = (False, True, "reduce-overhead")

_current: ContextVar[SharedPromptPass] = ContextVar("pyro_llm_compiled_pass")

# Tells torch to leave the operator out of CUDA graphs, which hold what lies between: its slots move.
_TAGS: dict[str, Any] = {"tags": (torch.Tag.cudagraph_unsafe,)} if hasattr(torch.Tag, "cudagraph_unsafe") else {}


@torch.library.custom_op("pyro_llm::attend", mutates_args=(), **_TAGS)
def attend(query: Tensor, key: Tensor, value: Tensor, layer: int, scaling: float) -> Tensor:
    """Append keys and values to the slots of the pass in progress, and attend to all of them.

    Shapes `[rows, heads, length, head_dim]`; the result is `[rows, length, heads, head_dim]`.
    """
    of_pass = _current.get()
    keys, values = of_pass.rows.cache.update(key, value, layer)
    return of_pass.attend(layer, query, keys, values, scaling).transpose(1, 2).contiguous()


@attend.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, layer: int, scaling: float) -> Tensor:
    rows, heads, length, _ = query.shape
    return query.new_empty(rows, length, heads, value.shape[-1])


class _NoCache(Cache):
    """Stands for the cache in the graph: hands keys and values on to the attention, which stores them."""

    is_compileable = True

    def __init__(self) -> None:
        super().__init__(layers=[])

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> Any:
        """The token's own keys and values."""
        return key_states, value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Nobody needs it: positions and the mask are given."""
        return 0


class CompiledPass:
    """A model's forward over one token a row whose prompt is stored apart.

    Args:
        model: its attention goes through `pyro_llm.lm.kv.interface`.
        mode: True, or `"reduce-overhead"` for CUDA graphs of what lies between the layers' attentions.

    Raises:
        OptionError: there is no such mode, or CUDA graphs are asked for where there is no CUDA device.
    """

    def __init__(self, model: PreTrainedModel, mode: CompileOption) -> None:
        self._model, self._cache = model, _NoCache()
        with _validation_kept():
            self._forward: Callable[..., Any] = torch.compile(
                model.forward, backend=BACKEND, dynamic=True, fullgraph=True, mode=None if mode is True else str(mode)
            )

    def __call__(self, of_pass: SharedPromptPass, **arguments: Any) -> Any:
        """What the model's forward gives; the rows' slots grow.

        Raises:
            CapabilityError: torch cannot compile the model.
        """
        token = _current.set(of_pass)
        try:
            with _validation_kept():
                return self._forward(past_key_values=self._cache, use_cache=True, **arguments)
        except (torch._dynamo.exc.TorchDynamoException, torch._dynamo.exc.BackendCompilerFailed) as error:
            raise CapabilityError(
                f"{type(self._model).__name__} cannot be compiled as one graph ({_first_line(error)}). Load it without "
                "compile=."
            ) from error
        finally:
            _current.reset(token)


@contextmanager
def _validation_kept() -> Iterator[None]:
    """Undo what torch does when it first compiles: it turns the validation of all distributions off."""
    validated = Distribution._validate_args
    try:
        yield
    finally:
        Distribution.set_default_validate_args(validated)


def check_compile_option(mode: object, device: torch.device) -> None:
    """Raise OptionError for a mode of compiling that there is not, or not on this device."""
    if not any(mode is known or (isinstance(mode, str) and mode == known) for known in MODES):
        raise OptionError(f"compile={mode!r}: choose True, 'reduce-overhead' (CUDA graphs), or False.")
    if mode == "reduce-overhead" and (device.type != "cuda" or not _TAGS):
        raise OptionError(
            f"compile='reduce-overhead' records CUDA graphs, and the model is on {str(device)!r}; take compile=True."
            if device.type != "cuda"
            else "compile='reduce-overhead' needs a torch that can leave operators out of CUDA graphs (2.8 or later)."
        )


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
