import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.poutine.runtime import _DIM_ALLOCATOR, _PYRO_STACK

from pyro_llm.infer import SMC, BestOfN, OuterHandlerError, ParticleGibbs

ONE = torch.tensor(1.0)


def model():
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(x, 1.0), obs=ONE)
    return x


@pytest.fixture(autouse=True)
def clean_stack():
    yield
    assert not _PYRO_STACK and not _DIM_ALLOCATOR._stack


@pytest.mark.parametrize(
    ("handler", "name"),
    [
        (lambda: poutine.condition(data={"x": ONE}), "condition"),
        (lambda: poutine.do(data={"x": ONE}), "do"),
        (lambda: poutine.replay(params={"x": ONE}), "replay"),
        (lambda: poutine.scale(scale=2.0), "scale"),
        (lambda: poutine.mask(mask=False), "mask"),
        (lambda: poutine.infer_config(config_fn=lambda msg: {}), "infer_config"),
        (lambda: pyro.plate("data", 3), "plate"),
    ],
)
@pytest.mark.parametrize(
    "algorithm", [lambda: SMC(model, 3), lambda: ParticleGibbs(model, 3, 2), lambda: BestOfN(model, 3)]
)
def test_what_does_not_reach_the_program(handler, name, algorithm):
    with handler(), pytest.raises(OuterHandlerError, match=rf"was run inside `\w+\.{name}`.*Put it (around|inside)"):
        algorithm().run()


@pytest.mark.parametrize(
    "handler", [poutine.trace, lambda: poutine.seed(rng_seed=1), poutine.block, lambda: poutine.block(hide=["x"])]
)
def test_what_changes_nothing(handler):
    with handler():
        assert SMC(model, 3, progress=False).run().num_particles == 3


def test_a_block_keeps_handlers_away():
    with poutine.scale(scale=2.0), poutine.block():
        SMC(model, 3, progress=False).run()
    with poutine.scale(scale=2.0), poutine.block(hide=["x"]), pytest.raises(OuterHandlerError):
        SMC(model, 3, progress=False).run()


def test_a_run_inside_the_program_of_another():
    def outer():
        pyro.sample("z", dist.Normal(0.0, 1.0))
        with poutine.scale(scale=2.0), torch.random.fork_rng():
            inner = SMC(model, 3, progress=False).run()
        pyro.factor("f", torch.zeros(()))
        return inner.num_particles

    SMC(poutine.condition(outer, {"z": ONE}), 2, particles="scalar", progress=False).run()
