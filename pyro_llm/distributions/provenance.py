"""Provenance of texts: which sample sites a state was written by.

Pyro finds the edges of a program (`pyro.render_model`) by tensors that carry the names of the sites they came from.
Language models and rewards work on texts, where such tensors would end; so the distributions take the names off what
they hand on, and put them on what comes back.
"""

from __future__ import annotations

from typing import Any

from pyro.ops.provenance import detach_provenance, get_provenance

from pyro_llm.lm.state import TextState


def state_provenance(state: TextState) -> frozenset[Any]:
    """The names of the sites that `state` depends on; empty unless Pyro tracks them."""
    return get_provenance([state.tokens, state.finished])


def detach_state(state: TextState) -> TextState:
    """The same state in plain tensors. `state` itself where there is nothing to take off."""
    if not state_provenance(state):
        return state
    return state.map_tensors(lambda tensor, event_dim: detach_provenance(tensor))
