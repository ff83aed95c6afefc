"""The command line, a thin shell over the library: `pyro-llm solve` and `pyro-llm models`."""

from pyro_llm.cli.app import app, main

__all__ = ["app", "main"]
