"""Powers of a language model's law, without a verifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyro

from pyro_llm.distributions import LLM
from pyro_llm.distributions.arguments import check_language_model
from pyro_llm.distributions.lazy_factor import LazyFactor
from pyro_llm.distributions.powered_next_token import PoweredNextToken, check_power
from pyro_llm.errors import OptionError
from pyro_llm.lm.language_model import LanguageModel
from pyro_llm.lm.state import TextState
from pyro_llm.validation import as_integer

PowerProposal = Literal["model", "tempered"]


@dataclass(frozen=True)
class PowerText:
    r"""What a language model writes, under a power of its law: Power-SMC (Azizi et al., arXiv 2602.10273, equation 1).

    A Pyro program from a problem to a `TextState`, with the target

    $$ \pi(x) = p_M(x)^\alpha / Z, \qquad Z = \sum_x p_M(x)^\alpha, $$

    over whole texts of at most `max_steps` steps; those that have not ended then are kept as they are, and weigh
    $p_M(x)^\alpha$ of what they have. Above $\alpha = 1$ it sharpens the model towards what it holds for likely as a
    whole, which a low temperature, short-sighted, does not.

    Proposals: with `"model"`, step t is drawn from the model, a latent site `step_t`, and weighs
    $p_M(x_t)^{\alpha - 1}$, by the log-probability kept from its sampling: no pass of the model is made for the weight.
    With `"tempered"`, a step is a token, drawn from $p_M(v)^\alpha / C_t$, and weighs $C_t = \sum_v p_M(v)^\alpha$: the
    least noisy weights of all proposals that know no future. Either way the factor is an observed site `power_t`.

    Costs the tokens that are written, each forwarded once, and no reward.

    Args:
        lm: the language model.
        alpha: the power. Greater than 0.
        max_steps: the most steps that are written.
        stop: as in `LLM`, what ends a step; a `"tempered"` step is one token.
        max_tokens: the most tokens of one step; must be 1 where the proposal is `"tempered"`.
        proposal: what steps are drawn from.
        temperature: as in `LLM`: of the law whose power is taken.
        top_p: as in `LLM`.
        top_k: as in `LLM`.

    Raises:
        OptionError: an option has a value that it cannot have.

    Examples:
        >>> from pyro_llm.infer import SMC
        >>> from pyro_llm.lm import TableLM
        >>> lm = TableLM(lambda tokens: [0.5, 0.3, 0.2], ["a", "b", "."], eos_token_id=2)
        >>> model = PowerText(lm, alpha=2, max_steps=1, stop=None, max_tokens=1, proposal="tempered")
        >>> posterior = SMC(model, num_particles=10, progress=False).run("")
        >>> round(posterior.log_evidence.exp().item(), 4)  # 0.25 + 0.09 + 0.04
        0.38
    """

    lm: LanguageModel
    alpha: float = 4.0
    max_steps: int = 12
    stop: str | Sequence[str] | None = "\n"
    max_tokens: int = 32
    proposal: PowerProposal = "model"
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0

    def __post_init__(self) -> None:
        check_language_model(self.lm, type(self).__name__)
        check_power(self.alpha)
        for name, value in (("max_steps", self.max_steps), ("max_tokens", self.max_tokens)):
            if (integer := as_integer(value)) is None or integer < 1:
                raise OptionError(f"{name}={value!r}: give an integer of at least 1.")
        if self.proposal not in ("model", "tempered"):
            raise OptionError(f"proposal={self.proposal!r}: choose 'model' or 'tempered'.")
        if self.proposal == "tempered" and (self.max_tokens != 1 or self.stop is not None):
            raise OptionError('With proposal="tempered" a step is a single token: give max_tokens=1 and stop=None.')

    def __call__(self, problem: str) -> TextState:
        """Write texts after `problem`, one for each element of the batch of the plates around."""
        state = self.lm.prompt(problem)
        law = {"temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k}
        for t in range(self.max_steps):
            state = self._tempered(t, state, law) if self.proposal == "tempered" else self._from_model(t, state, law)
            if state.finished.all():
                break
        return state

    def _from_model(self, t: int, state: TextState, law: dict[str, float]) -> TextState:
        transition = LLM(self.lm, state, stop=self.stop, max_tokens=self.max_tokens, **law)  # type: ignore[arg-type]
        step = pyro.sample(f"step_{t}", transition)
        state = state.append(step)
        weigh(f"power_{t}", LazyFactor(lambda: (self.alpha - 1) * transition.log_prob(step), state.batch_shape))
        return state

    def _tempered(self, t: int, state: TextState, law: dict[str, float]) -> TextState:
        proposal = PoweredNextToken(self.lm, state, self.alpha, **law)  # type: ignore[arg-type]
        token = pyro.sample(f"step_{t}", proposal)
        weigh(f"power_{t}", proposal.normaliser(token))
        return state.append_token(token)


def weigh(name: str, factor: LazyFactor) -> None:
    """Multiply the joint density by a factor."""
    pyro.sample(name, factor, obs=factor.sample(), infer={"is_auxiliary": True})
