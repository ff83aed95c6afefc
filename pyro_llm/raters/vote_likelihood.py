"""What votes on prefixes say about whole texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pyro_llm.errors import RatingsError
from pyro_llm.ops.weights import log_mean_exp
from pyro_llm.raters.channel import log_likelihoods
from pyro_llm.raters.posterior import RaterPosterior
from pyro_llm.raters.votes import Vote, Votes, canonical, matched_prefixes


@dataclass(frozen=True)
class VoteLikelihood:
    r"""The likelihood of all votes if a text is right, over that if nothing is known of the texts they are on.

    A vote is an observed Bernoulli variable: "yes" with probability $a$, the rater's sensitivity, on a prefix that is
    right, and $1 - b$ on one that is wrong. The text at hand is taken to be right, so its prefixes are. The truth of
    any other prefix $u$ is open, and summed out: all votes $v_u$ on it together have probability
    $P(v_u \mid \theta) = \rho P(v_u \mid \text{right}, \theta) + (1 - \rho) P(v_u \mid \text{wrong}, \theta)$.
    With $\theta$ all errors and $\rho$ the prevalence,

    $$ V(x) = \frac{\mathbb{E}_\theta \prod_{u \text{ begins } x} P(v_u \mid \text{right}, \theta)
              \prod_{\text{other } u} P(v_u \mid \theta)}{\mathbb{E}_\theta \prod_u P(v_u \mid \theta)} . $$

    A text that nobody voted on has $V = 1$: absent votes cost nothing. The errors are integrated over all votes
    together, so a person who contradicts the others, or himself, is trusted less. A vote is on a text that goes on
    after the end of a line, or ends, where the prefix does: "answer: 9" is no prefix of "answer: 95". Newlines at the
    end of a prefix do not matter: votes on "a" and on "a\n" are on the same one.

    Args:
        votes: the votes.
        raters: what is known of who voted; by default the prior, better than chance, for everybody.

    Raises:
        RatingsError: nothing is known of somebody who voted; when asked, votes that raters without error cannot cast.

    Examples:
        A vote for a text by somebody who errs in one case of ten makes it 1.8 times as probable as an unknown one:

        >>> ann = RaterPosterior.known({"Ann": 0.9}, {"Ann": 0.9})
        >>> yes = VoteLikelihood(Votes((Vote(prefix="a\n", vote="yes", rater="Ann"),)), ann)
        >>> yes.log_ratio(["a\nb", "b"]).exp()
        tensor([1.8000, 1.0000], dtype=torch.float64)
    """

    votes: Votes
    raters: RaterPosterior = field(default=None)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.raters is None:
            object.__setattr__(self, "raters", RaterPosterior.from_prior(self.votes.raters))
        self._check(self.votes.raters)

    def _check(self, names: Sequence[str]) -> None:
        unknown = [name for name in names if name not in self.raters.raters]
        if unknown:
            raise RatingsError(f"Nothing is known of the raters {unknown}; there are {list(self.raters.raters)}.")

    def with_vote(self, vote: Vote) -> VoteLikelihood:
        """The likelihood with a further vote."""
        return VoteLikelihood(self.votes.with_vote(vote), self.raters)

    def log_ratio(self, texts: Sequence[str], problem: str | None = None) -> Tensor:
        r"""$\log V$ of each text since the prompt `problem`. Float64 `[texts]`."""
        _, right, wrong = self._by_prefix(problem)
        return log_mean_exp(self.log_ratio_by_draw(texts, problem)) - self._log_any(self._unknown(right, wrong))

    def log_ratio_by_draw(self, texts: Sequence[str], problem: str | None = None) -> Tensor:
        """The logarithm of the numerator of $V$ for each draw of the errors. Float64 `[texts, D]`."""
        prefixes, right, wrong = self._by_prefix(problem)
        rows = [set(matched_prefixes(text)) for text in texts]
        matches = torch.tensor([[prefix in row for prefix in prefixes] for row in rows], dtype=torch.bool)
        matches = matches.reshape(len(texts), 1, len(prefixes))
        return torch.where(matches, right, self._unknown(right, wrong)).sum(-1)

    def probability_of_yes(self, rater: str, problem: str | None = None) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The probability that a further vote of `rater` is "yes", for each draw of the errors.

        Returns:
            On a prefix that is right, `[D]`; on an unknown one that nobody voted on, `[D]`; and on the unknown ones
            that somebody voted on, by prefix (as `canonical` has it), each `[D]`. Of a draw that the votes rule out,
            any probability.

        Raises:
            RatingsError: nothing is known of the rater, or votes that raters without error cannot cast.
        """
        self._check([rater])
        k = self.raters.raters.index(rater)
        if_right, if_wrong = self.raters.sensitivity[:, k], 1 - self.raters.specificity[:, k]
        prevalence = self.raters.prevalence
        prefixes, right, wrong = self._by_prefix(problem)
        unknown = self._unknown(right, wrong)
        self._log_any(unknown)
        posterior = (prevalence.log()[:, None] + right - unknown).exp()  # of "right" given the votes on it
        posterior = torch.where(unknown == -torch.inf, 0.0, posterior)
        voted = {
            prefix: posterior[:, u] * if_right + (1 - posterior[:, u]) * if_wrong for u, prefix in enumerate(prefixes)
        }
        return if_right, prevalence * if_right + (1 - prevalence) * if_wrong, voted

    def _by_prefix(self, problem: str | None) -> tuple[list[str], Tensor, Tensor]:
        """The prefixes voted on, and by draw the log-probability of all votes on each if right, if wrong. `[D, U]`."""
        votes = self.votes.on(problem)
        rater = torch.tensor([self.raters.raters.index(vote.rater) for vote in votes], dtype=torch.long)
        said = torch.tensor([float(vote.vote == "yes") for vote in votes], dtype=torch.float64)
        likelihoods = log_likelihoods(said, self.raters.sensitivity[:, rater], self.raters.specificity[:, rater])
        voted = [canonical(vote.prefix) for vote in votes]
        prefixes = list(dict.fromkeys(voted))
        place = torch.tensor([prefixes.index(prefix) for prefix in voted], dtype=torch.long)
        right, wrong = (one.new_zeros(len(one), len(prefixes)).index_add(1, place, one) for one in likelihoods)
        return prefixes, right, wrong

    @staticmethod
    def _log_any(unknown: Tensor) -> Tensor:
        """The log-probability of all votes on texts of which nothing is known."""
        of_any = log_mean_exp(unknown.sum(-1))
        if of_any == -torch.inf:
            raise RatingsError("The votes contradict each other, which they cannot if their raters never err.")
        return of_any

    def _unknown(self, right: Tensor, wrong: Tensor) -> Tensor:
        """Log-probability of all votes on a prefix whose truth is open."""
        prevalence = self.raters.prevalence[:, None]
        return torch.logaddexp(prevalence.log() + right, torch.log1p(-prevalence) + wrong)
