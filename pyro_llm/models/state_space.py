"""Models written for Pyro's own particle filter, as programs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pyro_llm.errors import OptionError


class StateSpace:
    """A model object of `pyro.infer.SMCFilter`, with methods `init` and `step`, as a program that any algorithm runs.

    The program `StateSpace(model)(observations, ...)` calls `model.init(state, ...)` and then, for each observation y,
    `model.step(state, y)`, `state` being a dictionary; it returns that dictionary. So `SMCFilter`'s filter, calls to
    its `init` and `step`, becomes `SMC(StateSpace(model), num_particles).run(observations)`, with the evidence and the
    whole paths kept. Give `SMC` the same `max_plate_nesting` as the filter.

    The target is the posterior of the model's latent values given the observations. It costs a call of `step` for each
    observation on all particles, and the replays of the algorithm.

    Steps are proposed from the model itself; the guide that `SMCFilter` takes is not used. After a resampling the
    program is replayed from `init` on, so whatever the object counts must begin anew there, as Pyro's examples do.

    Args:
        model: the object.

    Raises:
        OptionError: `model` lacks one of the methods.

    Examples:
        >>> import torch, pyro, pyro.distributions as dist
        >>> from pyro_llm.infer import SMC
        >>> class RandomWalk:
        ...     def init(self, state):
        ...         self.t, state["x"] = 0, torch.tensor(0.0)
        ...     def step(self, state, y=None):
        ...         self.t += 1
        ...         state["x"] = pyro.sample(f"x_{self.t}", dist.Normal(state["x"], 1.0))
        ...         pyro.sample(f"y_{self.t}", dist.Normal(state["x"], 1.0), obs=y)
        >>> posterior = SMC(StateSpace(RandomWalk()), num_particles=100).run(torch.tensor([0.5, 1.0]))
        >>> posterior.returns["x"].shape
        torch.Size([1, 100])
    """

    def __init__(self, model: Any) -> None:
        for method in ("init", "step"):
            if not callable(getattr(model, method, None)):
                raise OptionError(
                    f"{model!r} has no method {method!r}: give an object such as `pyro.infer.SMCFilter` takes, with "
                    "`init(state, ...)` and `step(state, observation)`."
                )
        self.model = model

    def __call__(self, observations: Iterable[Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Run the model through the observations; further arguments go to `init`.

        Args:
            observations: one for each step; a tuple is given as several arguments.
            *args: for `init`.
            **kwargs: for `init`.

        Returns:
            The state after the last step.
        """
        state: dict[str, Any] = {}
        self.model.init(state, *args, **kwargs)
        for observation in observations:
            self.model.step(state, *(observation if isinstance(observation, tuple) else (observation,)))
        return state

    def __repr__(self) -> str:
        return f"StateSpace({self.model!r})"
