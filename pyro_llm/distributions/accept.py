"""The statement that a reward accepted a text."""

from __future__ import annotations

from typing import cast

import pyro
import pyro.poutine as poutine
import torch
from torch import Tensor

from pyro_llm.distributions.acceptance import Acceptance
from pyro_llm.distributions.arguments import check_state, described
from pyro_llm.distributions.emission import EmissionFactor, EmissionName, check_emission
from pyro_llm.errors import OptionError, RewardError
from pyro_llm.lm.state import TextState
from pyro_llm.rewards.reward_model import RewardModel


def accept(
    name: str,
    reward: RewardModel,
    state: TextState,
    emission: EmissionName = "bernoulli",
    inverse_temperature: float | Tensor = 1.0,
) -> None:
    r"""Observe that `reward` accepts the texts of `state`: by default, the factor $r(c, x_{1:t})$.

    The same as `pyro.sample(name, Acceptance(reward, state), obs=torch.tensor(1.0))`, but that texts which have not
    advanced since this very reward judged them are masked. So a particle that has finished is absorbing: it gets no
    further factors while others still write. A different reward (one on outcomes, after the loop) counts for every
    text, and so does the same reward in another run, or at another site of the very same state.

    The other emissions, and inverse temperatures other than 1, are factors of their own (`EmissionFactor` says which):
    of `"bernoulli"` with the likelihood of every step's acceptance, of `"potential"` with the reward of the whole text
    alone, of `"odds"` with what the paper's released code weighs by. What each estimates is in `docs/emissions.md`.

    Args:
        name: name of the site.
        reward: log-odds of acceptance; a `RewardModel`. Make it once, outside the program: it is recognised by
            equality.
        state: the texts to judge.
        emission: the factor: `"bernoulli"`, $r_t$; `"potential"`, $r_t / r_{t-1}$ with this reward's last judgement of
            the same text; `"odds"`, $r_t / (1 - r_t)$.
        inverse_temperature: the factor is raised to this power. Greater than 0; may be a tensor that broadcasts with
            the batch of texts, such as a `pyro.param` or a sampled value.

    Raises:
        OptionError: the name is no string, `state` is no `TextState`, there is no such emission, or the inverse
            temperature is not positive.
        RewardError: `reward` cannot be called or hashed; when it scores, if it returns NaN or a wrong shape.
    """
    if not isinstance(name, str):
        raise OptionError(f"accept takes the name of the site first, a string, not {described(name)}.")
    if isinstance(reward, TextState):
        raise OptionError("accept(name, reward, state): the reward comes before the state, and here a TextState does.")
    check_state(state, "accept")
    try:
        hash(reward)
    except TypeError as error:
        raise RewardError(f"The reward {reward!r} cannot be hashed, so that later steps cannot know it.") from error
    check_emission(emission, inverse_temperature)
    with poutine.mask(mask=cast(torch.BoolTensor, ~state.judged(reward))):
        if emission == "bernoulli" and not isinstance(inverse_temperature, Tensor) and inverse_temperature == 1:
            pyro.sample(name, Acceptance(reward, state), obs=torch.tensor(1.0, device=state.tokens.device))
        else:
            factor = EmissionFactor(reward, state, emission, inverse_temperature)
            pyro.sample(name, factor, obs=factor.sample(), infer={"is_auxiliary": True})
    state.record_judgement(reward)
