"""The state-space model of step-by-step reasoning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyro
import torch
from torch import Tensor

from pyro_llm.distributions import LLM, accept
from pyro_llm.distributions.arguments import check_language_model
from pyro_llm.distributions.emission import EmissionName, check_emission
from pyro_llm.errors import OptionError
from pyro_llm.lm.language_model import LanguageModel
from pyro_llm.lm.state import PAD, TextState
from pyro_llm.rewards.composition.derived import check_reward
from pyro_llm.rewards.reward_model import RewardModel
from pyro_llm.validation import as_integer


@dataclass(frozen=True)
class ReasoningSSM:
    r"""A solution written a step at a time, each step accepted or not, as in Puri et al. (arXiv 2502.01618, eq. 1).

    With the problem $c$, steps $x_t$ drawn from the language model $M$, and acceptances $o_t$ given by the reward $r$,

    $$ p(x_{1:T}, o_{1:T} \mid c) = \prod_t p_M(x_t \mid c, x_{<t}) \; \mathrm{Bernoulli}(o_t; r(c, x_{1:t})), $$

    conditioned on $o_{1:T} = 1$. A solution that ends at step $T$ (by EOS) has $T$ factors, however long others go on.
    So the posterior is proportional to $p_M(x) \prod_t r(c, x_{1:t})$. Other emissions have other factors, and an
    inverse temperature $\beta$ raises any to that power: `"potential"` targets $p_M(x)\, r(c, x_{1:T})^\beta$, the
    reward of the whole solution alone, and `"odds"` targets $p_M(x) \prod_t (r_t / (1 - r_t))^\beta$, as the paper's
    released code does. See `accept`.

    The object is a Pyro program from a problem to a `TextState`: a latent site `step_t`, an `LLM`, and an observed one,
    `accept_t`, for each step $t = 0, 1, \dots$. It ends when every solution has, or after `max_steps`; solutions that
    have not ended then are kept as they are. Under the algorithms of `pyro_llm.infer` its evidence is the probability
    that every step is accepted (with the default emission). One execution forwards each token that it writes once and
    asks the reward about the text after each step, `"potential"` about the step before as well if the reward does not
    remember.

    Args:
        lm: the language model $M$.
        reward: the reward $r$, as log-odds of acceptance.
        max_steps: the most steps that are written.
        stop: the string, or strings, that end a step; None: a step is the whole text.
        max_tokens: the most tokens of one step.
        finish_at: a string, or strings, that end a solution with the step that they stand in, as EOS does: `\boxed` in
            the paper. None: only EOS ends one.
        temperature: of the language model, as in `LLM`.
        top_p: as in `LLM`.
        top_k: as in `LLM`.
        emission: what a judgement multiplies the weight by, `"bernoulli"`, `"potential"` or `"odds"`.
        inverse_temperature: the power that this factor is raised to. Greater than 0.
        observe: what else is observed of a step: called with its number $t$ and the solution so far after each
            `accept_t`, to state further observed sites, people's votes say (`pyro_llm.observe_votes`), or a second
            `accept`. Their names must differ from step to step. None: nothing else.

    Raises:
        OptionError: `lm` is no language model, `max_steps` is not a positive integer, there is no such emission, the
            inverse temperature is not a positive number, what ends a solution is no text, or `observe` cannot be
            called; when it runs, another option is out of its range.
        RewardError: `reward` cannot be called.

    Examples:
        Half of the texts are "a", and the reward does not think much of it:

        >>> import torch
        >>> from pyro.poutine import condition, trace
        >>> from pyro_llm.lm import TableLM
        >>> from pyro_llm.rewards import FunctionReward
        >>> table = {(): [0.5, 0.3, 0.2], (0,): [0.0, 0.0, 1.0], (1,): [0.0, 0.0, 1.0]}
        >>> lm = TableLM(table.get, ["a", "b", "."], eos_token_id=2)
        >>> reward = FunctionReward(lambda text: 0.1 if text == "a" else 0.9)
        >>> model = ReasoningSSM(lm, reward, stop=None, max_tokens=2)
        >>> steps = condition(model, {"step_0": torch.tensor([[0, 2], [1, 2], [2, -1]])})
        >>> steps("which?").texts.tolist()
        ['a', 'b', '']
        >>> nodes = trace(steps).get_trace("which?")
        >>> nodes.compute_log_prob()
        >>> (nodes.nodes["step_0"]["log_prob"] + nodes.nodes["accept_0"]["log_prob"]).exp()
        tensor([0.0500, 0.2700, 0.1800], dtype=torch.float64)
    """

    lm: LanguageModel
    reward: RewardModel
    max_steps: int = 12
    stop: str | Sequence[str] | None = "\n"
    max_tokens: int = 32
    finish_at: str | Sequence[str] | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    emission: EmissionName = "bernoulli"
    inverse_temperature: float = 1.0
    observe: Callable[[int, TextState], object] | None = None

    def __post_init__(self) -> None:
        check_language_model(self.lm, type(self).__name__)
        check_reward(self.reward)
        if (max_steps := as_integer(self.max_steps)) is None or max_steps < 1:
            raise OptionError(f"max_steps={self.max_steps!r}: give an integer of at least 1.")
        if self.finish_at is not None and not all(isinstance(text, str) and text for text in self._endings):
            raise OptionError(f"finish_at={self.finish_at!r}: give a string that is not empty, or several, or None.")
        check_emission(self.emission, self.inverse_temperature)
        if self.observe is not None and not callable(self.observe):
            raise OptionError(f"observe={self.observe!r}: give a function of a step's number and the text so far.")

    @property
    def _endings(self) -> tuple[str, ...]:
        return (self.finish_at,) if isinstance(self.finish_at, str) else tuple(self.finish_at or ())

    def __call__(self, problem: str) -> TextState:
        """Write solutions to `problem`, one for each element of the batch of the plates around."""
        state = self.lm.prompt(problem)
        for t in range(self.max_steps):
            transition = LLM(
                self.lm,
                state,
                stop=self.stop,
                max_tokens=self.max_tokens,
                temperature=self.temperature,
                top_p=self.top_p,
                top_k=self.top_k,
            )
            step = pyro.sample(f"step_{t}", transition)
            state = state.append(step)
            if self._endings:
                state = state.finish(contain(self.lm, step, self._endings))
            accept(f"accept_{t}", self.reward, state, self.emission, self.inverse_temperature)
            if self.observe is not None:
                self.observe(t, state)
            if state.finished.all():
                break
        return state


def contain(lm: LanguageModel, step: Tensor, strings: Sequence[str]) -> Tensor:
    """Which steps have one of the strings in their text.

    Args:
        lm: whose tokens they are.
        step: token ids padded with `PAD`. Shape `[..., length]`.
        strings: looked for.

    Returns:
        A mask of shape `[...]`.

    Examples:
        >>> from pyro_llm.lm import TableLM
        >>> lm = TableLM(lambda tokens: [0.5, 0.3, 0.2], ["a", "b", "."], eos_token_id=2)
        >>> contain(lm, torch.tensor([[0, 1, -1], [0, 0, 2]]), ["ab"])
        tensor([ True, False])
    """
    rows = [tuple(row) for row in step.reshape(-1, step.shape[-1]).tolist()]
    found = {row: any(text in lm.decode([id for id in row if id != PAD]) for text in strings) for row in set(rows)}
    mask = torch.tensor([found[row] for row in rows], dtype=torch.bool, device=step.device)
    return mask.reshape(step.shape[:-1])
