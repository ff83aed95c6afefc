"""What goes through a model, counted and timed by the model itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from benchmarks.runtime.timing import now


@dataclass
class ModelUse:
    """What has gone through a model.

    Attributes:
        calls: forward passes.
        tokens: tokens forwarded, over all rows.
        seconds: spent in forward passes; on an accelerator only if it is waited for.
    """

    calls: int = 0
    tokens: int = 0
    seconds: float = 0.0


@contextmanager
def watch(model: PreTrainedModel) -> Iterator[ModelUse]:
    """Count, and time, the forward passes of a model while the block lasts."""
    use, started = ModelUse(), 0.0
    device = str(model.device)

    def before(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal started
        tokens = kwargs["input_ids"] if kwargs.get("input_ids") is not None else args[0]
        use.calls += 1
        use.tokens += tokens.numel()
        started = now(device)

    def after(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        use.seconds += now(device) - started

    hooks = [
        model.register_forward_pre_hook(before, with_kwargs=True),
        model.register_forward_hook(after, with_kwargs=True),
    ]
    try:
        yield use
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def plain_attention(model: PreTrainedModel) -> Iterator[None]:
    """With transformers' own attention for as long as the block lasts, in case that pyro_llm has put its own there."""
    before = model.config._attn_implementation
    model.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
