"""The statement that a reward accepted a text."""

from __future__ import annotations

from typing import cast

import pyro
import pyro.poutine as poutine
import torch

from pyro_llm.distributions.acceptance import Acceptance
from pyro_llm.errors import RewardError
from pyro_llm.lm.state import TextState
from pyro_llm.rewards.reward_model import RewardModel


def accept(name: str, reward: RewardModel, state: TextState) -> None:
    r"""Observe that `reward` accepts the texts of `state`: the factor $r(c, x_{1:t})$.

    The same as `pyro.sample(name, Acceptance(reward, state), obs=torch.tensor(1.0))`, but that texts which have not
    advanced since this very reward judged them are masked. So a particle that has finished is absorbing: it gets no
    further factors while others still write. A different reward (one on outcomes, after the loop) counts for every
    text, and so does the same reward in another run, or at another site of the very same state.

    Args:
        name: name of the site.
        reward: log-odds of acceptance; a `RewardModel`. Make it once, outside the program: it is recognised by
            equality.
        state: the texts to judge.

    Raises:
        RewardError: `reward` cannot be called or hashed; when it scores, if it returns NaN or a wrong shape.
    """
    try:
        hash(reward)
    except TypeError as error:
        raise RewardError(f"The reward {reward!r} cannot be hashed, so that later steps cannot know it.") from error
    emission = Acceptance(reward, state)
    with poutine.mask(mask=cast(torch.BoolTensor, ~state.judged(reward))):
        pyro.sample(name, emission, obs=torch.tensor(1.0, device=state.tokens.device))
    state.record_judgement(reward)
