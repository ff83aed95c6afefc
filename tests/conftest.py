"""What all tests share: one thread (the models are tiny), clean Pyro state, a stated seed."""

import pyro
import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def clean_pyro_state():
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    yield
    assert not pyro.poutine.runtime._PYRO_STACK, "a test left a handler on Pyro's stack"
    pyro.poutine.runtime._PYRO_STACK.clear()
