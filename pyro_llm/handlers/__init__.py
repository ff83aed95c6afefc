"""Effect handlers: the particle messenger, the resumable loop, twists. Pyro and `ops`; knows no language model."""

from pyro_llm.handlers.loop import loop
from pyro_llm.handlers.twist import twist

__all__ = ["loop", "twist"]
