"""People's votes for `solve` and `review`: those of a file, and what is known of who cast them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyro_llm.errors import ResultsMismatchError
from pyro_llm.raters import RaterPosterior, RaterPrior, Vote, VoteLikelihood, Votes

RELIABILITY = 0.9


@dataclass(frozen=True)
class KnownVotes:
    """Votes, how reliable their voters are on average, or a file that says it of each.

    Attributes:
        votes: the votes.
        reliability: of voters of whom no file says more.
        raters: a file of `RaterPosterior.save`.
        voters: who may vote besides.
    """

    votes: Votes
    reliability: float = RELIABILITY
    raters: Path | None = None
    voters: tuple[str, ...] = ()

    @classmethod
    def of_settings(cls, settings: Mapping[str, Any]) -> KnownVotes:
        """From what `settings` gave, so that a saved run tells which votes it was made with.

        Raises:
            ResultsMismatchError: the file of raters is another by now.
        """
        raters = settings["raters"]
        if raters is not None and _digest(Path(raters["file"])) != raters["sha256"]:
            raise ResultsMismatchError(
                f"The run was made with the raters of {raters['file']!r}, and that file has changed or is gone since."
            )
        votes = Votes(tuple(Vote.model_validate(vote) for vote in settings["votes"]))
        file = None if raters is None else Path(raters["file"])
        return cls(votes, settings["reliability"], file, tuple(settings["voters"]))

    @property
    def settings(self) -> dict[str, Any]:
        """All that the likelihood depends on, as JSON has it."""
        raters = None if self.raters is None else {"file": str(self.raters), "sha256": _digest(self.raters)}
        votes = [vote.model_dump() for vote in self.votes.votes]
        return {"votes": votes, "reliability": self.reliability, "raters": raters, "voters": list(self.voters)}

    def likelihood(self) -> VoteLikelihood:
        """The likelihood of the votes, by what is known of their voters.

        Raises:
            PosteriorFileError: the file of raters holds none.
            RatingsError: it says nothing of somebody who voted.
            OptionError: the reliability is no probability between 0 and 1.
        """
        if self.raters is not None:
            return VoteLikelihood(self.votes, RaterPosterior.load(self.raters))
        everybody = tuple(dict.fromkeys([*self.votes.raters, *self.voters]))
        return VoteLikelihood(
            self.votes, RaterPosterior.from_prior(everybody, RaterPrior.of_reliability(self.reliability))
        )

    def beside(self, further: Votes) -> Votes:
        """These votes, and of `further` those that are not among them: a vote in both is the same vote."""
        known = Counter(self.votes.votes)
        added = []
        for vote in further.votes:
            if known[vote]:
                known[vote] -= 1
            else:
                added.append(vote)
        return Votes((*self.votes.votes, *added))


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None
