"""A language model conditioned on a hard constraint."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyro
import torch

from pyro_llm.distributions.arguments import check_language_model
from pyro_llm.distributions.constrained_next_token import ConstrainedNextToken
from pyro_llm.errors import ConstraintError
from pyro_llm.handlers import loop
from pyro_llm.lm.constraint import Constraint
from pyro_llm.lm.language_model import LanguageModel
from pyro_llm.lm.state import PAD, TextState
from pyro_llm.lm.token_automaton import TokenAutomaton
from pyro_llm.validation import as_integer


@dataclass(frozen=True)
class ConstrainedText:
    r"""What a language model writes, given that the whole text satisfies a constraint.

    A Pyro program from a problem to a `TextState`. With L the texts that match the constraint and end, by EOS, within
    `max_tokens` tokens (EOS included), its target is

    $$ p(x \mid x \in L) = p_M(x)\, 1[x \in L] / Z, \qquad Z = \Pr(x \in L), $$

    so the log-evidence is the log-probability that the model satisfies the constraint by itself. Each token is a latent
    site `token_t`, drawn from the model's law restricted to what the constraint still allows (tokens from which
    no text of L can be completed in time are left out), followed by an observed factor `allowed_t`, the mass that was
    allowed: see `ConstrainedNextToken`. Without the factors this would be the greedily masked model, another law.

    Costs one forward pass of the model for each token, on all particles at once, a table look-up for the constraint,
    and no reward. It runs in a resumable `loop`. Loula et al., "Syntactic and semantic control of large language models
    via sequential Monte Carlo", arXiv 2504.13139.

    Args:
        lm: the language model.
        constraint: a regular expression for the whole text, or a `Constraint` (`Constraint.json_schema(...)`, say).
        max_tokens: the most tokens of a text, EOS included.
        temperature: as in `NextToken`: of the law that is conditioned.
        top_p: as in `NextToken`.
        top_k: as in `NextToken`.

    Raises:
        ConstraintError: the constraint cannot be read, or no text of at most `max_tokens` tokens satisfies it.
        MissingExtraError: the package `outlines-core` is not installed (`pip install 'pyro-llm[constraints]'`).

    Examples:
        >>> from pyro_llm.infer import SMC
        >>> from pyro_llm.lm import TableLM
        >>> lm = TableLM(lambda tokens: [0.5, 0.3, 0.2], ["a", "b", "."], eos_token_id=2)
        >>> model = ConstrainedText(lm, "(a|b)a", max_tokens=3)
        >>> pyro.set_rng_seed(0)
        >>> posterior = SMC(model, num_particles=100, progress=False).run("")
        >>> round(posterior.log_evidence.exp().item(), 3)  # (0.5 + 0.3) * 0.5 * 0.2
        0.08
    """

    lm: LanguageModel
    constraint: str | Constraint
    max_tokens: int = 64
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0

    def __post_init__(self) -> None:
        check_language_model(self.lm, type(self).__name__)
        if (max_tokens := as_integer(self.max_tokens)) is None or max_tokens < 1:
            raise ValueError(f"max_tokens must be an integer of at least 1, not {self.max_tokens!r}")
        fewest = int(self.automaton.distance[0])
        if fewest >= self.max_tokens:
            need = f"the shortest has {fewest + 1}" if fewest < TokenAutomaton.never else "there is none of any length"
            raise ConstraintError(
                f"No text of at most {self.max_tokens} tokens, EOS included, satisfies {self.constraint!r}: {need}."
            )

    @cached_property
    def automaton(self) -> TokenAutomaton:
        """The constraint as an automaton over the tokens of the model."""
        constraint = self.constraint if isinstance(self.constraint, Constraint) else Constraint(self.constraint)
        return constraint.automaton(self.lm)

    def __call__(self, problem: str) -> TextState:
        """Write texts after `problem`, one for each element of the batch of the plates around."""
        automaton = self.automaton
        state: dict[str, Any] = {"text": self.lm.prompt(problem), "automaton": torch.tensor(0, device=self.lm.device)}
        for t in loop("tokens", self.max_tokens, state):
            text = state["text"]
            allowed = automaton.allowed(state["automaton"], self.max_tokens - t)
            law = ConstrainedNextToken(self.lm, text, allowed, self.temperature, self.top_p, self.top_k)
            token = pyro.sample(f"token_{t}", law)
            mass = law.normaliser(token)
            pyro.sample(f"allowed_{t}", mass, obs=mass.sample(), infer={"is_auxiliary": True})
            text = text.append_token(token)
            state["text"] = text.finish(token == PAD)  # where nothing could be drawn, the weight is 0
            state["automaton"] = automaton.advance(state["automaton"], token)
            if state["text"].finished.all():
                break
        final: TextState = state["text"]
        return final
