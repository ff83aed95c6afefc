"""Implicit process rewards: a scaled log-ratio of two language models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from pyro_llm.errors import OptionError, RewardError, RewardFormatError
from pyro_llm.lm.decoding import Decoding
from pyro_llm.lm.language_model import LanguageModel, Prefix
from pyro_llm.lm.prefixes import padded
from pyro_llm.lm.state import TextState
from pyro_llm.rewards.counts import check_count
from pyro_llm.rewards.head import Solution, solutions
from pyro_llm.rewards.lm_cost import charged_to_reward
from pyro_llm.rewards.reward_model import TextReward
from pyro_llm.run_scope import current_run_scope, run_scope

if TYPE_CHECKING:
    from pyro_llm.rewards.formats.checkpoint import Checkpoint

_PROBE = "Step 1: 3 + 4 = 7\n\n"


class ImplicitReward(TextReward):
    r"""The log-ratio of a language model trained on outcomes to its reference, as a process reward.

    $$q_t = \beta \sum_{i \le t} \log \frac{\pi_\phi(y_i \mid y_{<i})}{\pi_\mathrm{ref}(y_i \mid y_{<i})}$$

    is the log-odds of the prefix $y_{1:t}$: trained by cross-entropy, such a model has $P(\text{right}) =
    \sigma(q_T)$ at the end of a text, and $q_t$ is then the value of a prefix (their proposition). The reward of a
    single step, $q_t - q_{t-1}$, is what `emission="potential"` makes of it, up to the sigmoid: no aggregation of steps
    applies.

    The sum runs over the tokens of the text, and the end-of-sequence token if the writer ended it. The released scripts
    find the ends of steps by counting the tokens of rendered chats, and so take in a token or two of the template
    besides; the formula is followed here, not they.

    Each model reads only what is new since a prefix that it has scored before in the run.

    Source: Yuan et al., "Free Process Rewards without Process Labels", arXiv 2412.01981; Cui et al. (PRIME), arXiv
    2502.01456; the model card of PRIME-RL/EurusPRM-Stage2 and `eval/processbench.py` of PRIME-RL/ImplicitPRM, from
    which the default of `beta` is.

    Args:
        policy: the model that was trained, $\pi_\phi$. Problems are rendered as its prompts.
        reference: the model that it started from, $\pi_\mathrm{ref}$, of the same vocabulary.
        beta: the scale. 0.001 is that of the released evaluation; a probability is meant with the one of training.
        batch_size: the most texts in one forward pass.

    Raises:
        RewardFormatError: the two models have not the same tokenizer.
        OptionError: `beta` is not positive, or `batch_size` not.
        RewardError: when it scores, if both models give a text probability 0.
    """

    format = "implicit"
    looked_for = "a causal language model with eurusprm or implicitprm in its name, to which reference= must be given"

    def __init__(
        self, policy: LanguageModel, reference: LanguageModel, beta: float = 0.001, batch_size: int = 64
    ) -> None:
        if not beta > 0:
            raise OptionError(f"beta={beta!r}: give a positive number.")
        check_count("batch_size", batch_size)
        if policy.encode(_PROBE) != reference.encode(_PROBE):
            raise RewardFormatError(
                f"{policy.name!r} and {reference.name!r} read {_PROBE!r} as different tokens, and the ratio of their "
                "probabilities means nothing; give as reference the model that the first was trained from"
            )
        self.policy, self.reference, self.beta, self.batch_size = policy, reference, beta, batch_size
        self._memory, *self._sessions = (object() for _ in range(3))  # own what a run remembers

    @classmethod
    def recognises(cls, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint is in this format: a name is all there is, the configuration being a plain one."""
        called = checkpoint.is_called("eurusprm") or checkpoint.is_called("implicitprm")
        return checkpoint.is_a("ForCausalLM") and called

    @classmethod
    def load(cls, checkpoint: Checkpoint, reference: Any = None, **options: Any) -> ImplicitReward:
        """The reward of a checkpoint and its reference, a language model or the name of one.

        A reference that is named is loaded as the checkpoint is: dtype, device or device map, quantisation.

        Raises:
            RewardFormatError: there is no reference.
        """
        from pyro_llm.lm.huggingface import HFLanguageModel
        from pyro_llm.lm.load import load_lm

        if reference is None:
            raise RewardFormatError(
                f"{checkpoint.name!r} is one half of an implicit reward; give the model that it was trained from as "
                "reference=, Qwen/Qwen2.5-Math-7B-Instruct for EurusPRM"
            )
        if not isinstance(reference, LanguageModel):
            dtype = None if checkpoint.dtype == "auto" else checkpoint.dtype
            reference = load_lm(reference, device=checkpoint.device, dtype=dtype, **checkpoint.placed)
        policy = HFLanguageModel(checkpoint.causal_lm(), checkpoint.tokenizer, name=checkpoint.name)
        return cls(policy, reference, **options)

    def items(self, state: TextState) -> list[Solution]:
        """Problem, text since the prompt, and whether EOS ended it."""
        return solutions(state)

    def score(self, items: Sequence[Solution]) -> list[float]:
        """The scaled log-ratio of each solution."""
        scope = current_run_scope()
        if scope is None:
            with run_scope():
                return self.score(items)
        known: dict[tuple[str, tuple[int, ...]], float] = scope.resource(self._memory, dict)
        rows = [(item.problem, self._tokens(item)) for item in items]
        with charged_to_reward():
            for problem in dict.fromkeys(item.problem for item in items):
                new = dict.fromkeys(row for of, row in rows if of == problem and (problem, row) not in known)
                for begin in range(0, len(new), self.batch_size):
                    self._extend(problem, list(new)[begin : begin + self.batch_size], known)
        return [self._checked(item, self.beta * known[row]) for item, row in zip(items, rows, strict=True)]

    def _tokens(self, item: Solution) -> tuple[int, ...]:
        tokenizer = getattr(self.policy, "tokenizer", None)
        eos = self.policy.eos_token_ids[0] if tokenizer is None else tokenizer.eos_token_id
        return (*self.policy.encode(item.text), *([eos] if item.ended and eos is not None else []))

    def _extend(self, problem: str, rows: list[tuple[int, ...]], known: dict[Any, float]) -> None:
        """Score what follows the longest scored beginning of each row."""
        lengths = sorted({len(row) for of, row in known if of == problem}, reverse=True)
        begun = [next((n for n in lengths if n < len(row) and (problem, row[:n]) in known), 0) for row in rows]
        prompt = self.policy.prompt(problem).prompt_tokens
        before = [row[:length] for row, length in zip(rows, begun, strict=True)]
        after = [row[length:] for row, length in zip(rows, begun, strict=True)]
        width = max(1, *map(len, after))
        ratio = torch.zeros(len(rows), dtype=torch.float64)
        scope = current_run_scope()
        assert scope is not None
        for sign, lm, owner in zip((1, -1), (self.policy, self.reference), self._sessions, strict=True):
            prefix = Prefix(prompt.to(lm.device), padded(before, lm.device), torch.tensor(begun, device=lm.device))
            session = scope.resource(owner, lm.session)
            ratio += sign * session.score(prefix, padded(after, lm.device), Decoding(max_tokens=width)).cpu()
        for row, start, term in zip(rows, before, ratio.tolist(), strict=True):
            known[problem, row] = known.get((problem, start), 0.0) + term

    def _checked(self, item: Solution, log_odds: float) -> float:
        if log_odds != log_odds:
            raise RewardError(
                f"Both {self.policy.name!r} and {self.reference.name!r} give probability 0 to the text {item.text!r} "
                f"(problem: {item.problem!r}), so that their ratio is not defined."
            )
        return log_odds

    def _key(self) -> tuple[object, ...]:
        return self.policy, self.reference, self.beta

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ImplicitReward) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"ImplicitReward({self.policy.name!r}, {self.reference.name!r}, beta={self.beta!r})"
