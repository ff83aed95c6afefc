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
from pyro_llm.raters.votes import Vote, Votes, matched_prefixes


@dataclass(frozen=True)
class VoteLikelihood:
    r"""The likelihood of all votes if a text is right, over that if nothing is known of the texts they are on.

    A vote is an observed Bernoulli variable. On a prefix of the text at hand it is "yes" with the rater's sensitivity
    $a$: the text is taken to be right, so its prefixes are. On any other prefix $u$ it is "yes" with probability
    $\rho a + (1 - \rho)(1 - b)$, the truth of $u$ being open. With $\theta$ all errors,

    $$ V(x) = \frac{\mathbb{E}_\theta \prod_{u \text{ begins } x} P(v_u \mid \text{right}, \theta)
              \prod_{\text{other } u} P(v_u \mid \theta)}{\mathbb{E}_\theta \prod_u P(v_u \mid \theta)} . $$

    A text that nobody voted on has $V = 1$: absent votes cost nothing. The errors are integrated over all votes together, so
    a person who contradicts the others, or himself, is trusted less. A vote is on a text that goes on after the end
    of a line, or ends, where the prefix does: "answer: 9" is no prefix of "answer: 95".

    Args:
        votes: the votes.
        raters: what is known of who voted; by default the prior, better than chance, for everybody.

    Raises:
        RatingsError: nothing is known of somebody who voted.

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
        by_draw = self.log_ratio_by_draw(texts, problem)
        _, others = self._log_likelihoods(self.votes.on(problem))
        return log_mean_exp(by_draw) - log_mean_exp(others.sum(-1))

    def log_ratio_by_draw(self, texts: Sequence[str], problem: str | None = None) -> Tensor:
        """The logarithm of the numerator of $V$ for each draw of the errors. Float64 `[texts, D]`."""
        votes = self.votes.on(problem)
        right, others = self._log_likelihoods(votes)
        rows = [set(matched_prefixes(text)) for text in texts]
        matches = torch.tensor([[vote.prefix in row for vote in votes] for row in rows], dtype=torch.bool)
        matches = matches.reshape(len(texts), 1, len(votes))
        return torch.where(matches, right, others).sum(-1)

    def probability_of_yes(self, rater: str) -> tuple[Tensor, Tensor]:
        """Of each draw: the probability that `rater` says "yes" to a right prefix, and to an unknown one. Both `[D]`."""
        self._check([rater])
        k = self.raters.raters.index(rater)
        right, wrong = log_likelihoods(
            torch.tensor(1.0, dtype=torch.float64), self.raters.sensitivity[:, k], self.raters.specificity[:, k]
        )
        prevalence = self.raters.prevalence
        return right.exp(), prevalence * right.exp() + (1 - prevalence) * wrong.exp()

    def _log_likelihoods(self, votes: Sequence[Vote]) -> tuple[Tensor, Tensor]:
        """Of each draw and vote: log-probability if the prefix is right, and if it is unknown. Both `[D, votes]`."""
        place = torch.tensor([self.raters.raters.index(vote.rater) for vote in votes], dtype=torch.long)
        said = torch.tensor([float(vote.vote == "yes") for vote in votes], dtype=torch.float64)
        right, wrong = log_likelihoods(said, self.raters.sensitivity[:, place], self.raters.specificity[:, place])
        prevalence = self.raters.prevalence[:, None]
        return right, torch.logaddexp(prevalence.log() + right, torch.log1p(-prevalence) + wrong)
