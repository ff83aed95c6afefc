"""The command line, a thin shell over the library: `pyro-llm solve` and `pyro-llm models`."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: threads that spin starve small models

from pyro_llm.cli.app import app, main

__all__ = ["app", "main"]
