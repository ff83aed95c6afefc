"""Effect handlers: the particle messenger and the resumable loop. Pyro and `ops`; knows no language model."""

from pyro_llm.handlers.loop import loop

__all__ = ["loop"]
