"""Saying what is wrong with a posterior."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import xarray as xr

from pyro_llm.diagnostics.display import title
from pyro_llm.diagnostics.examine.budget import examine_budget
from pyro_llm.diagnostics.examine.chains import examine_chains
from pyro_llm.diagnostics.examine.examination import Examination
from pyro_llm.diagnostics.examine.genealogy import examine_genealogy
from pyro_llm.diagnostics.examine.rewards import examine_rewards
from pyro_llm.diagnostics.examine.texts import examine_texts
from pyro_llm.diagnostics.examine.weights import examine_weights
from pyro_llm.diagnostics.functionals import check_functionals
from pyro_llm.diagnostics.storage import from_datatree
from pyro_llm.errors import OptionError
from pyro_llm.infer.diagnosis import Diagnosis
from pyro_llm.infer.posterior import Posterior
from pyro_llm.infer.thresholds import Thresholds


def diagnose(
    posterior: Posterior | xr.DataTree,
    functionals: Mapping[str, Callable[[str], Any]] | None = None,
    thresholds: Thresholds | None = None,
) -> Diagnosis:
    """What is wrong with a posterior, in plain words, and what to change, as Stan's `diagnose` says it.

    No finding does not prove a posterior right: what no particle has met, no figure shows. docs/diagnostics.md says
    how to read each figure and where its threshold comes from.

    Of a search, which has no weights, only what concerns its texts and its scores is looked at; of draws that were
    resampled from a posterior only their texts, the history being that posterior's.

    Args:
        posterior: what to examine, or the tree of one.
        functionals: functions of a text by name, whose R-hat and ESS over four runs or more are looked at besides
            those of the length, the log-reward, the log-probability and the latent sites that are real numbers.
        thresholds: what the figures are held against.

    Raises:
        OptionError: `thresholds` are no `Thresholds`; or there are functionals, and not one text for each particle, or
            what they give is no number.
        PosteriorFileError: the tree is not that of a posterior.

    Example:
        Two particles are too few:

        >>> import torch, pyro, pyro.distributions as dist
        >>> from pyro_llm.infer import SMC
        >>> def coin():
        ...     p = pyro.sample("p", dist.Uniform(0.0, 1.0))
        ...     pyro.sample("heads", dist.Binomial(10, p), obs=torch.tensor(7.0))
        >>> SMC(coin, num_particles=2).run().diagnose().names
        ['few-particles']
    """
    if isinstance(posterior, xr.DataTree):
        posterior = from_datatree(posterior)
    if not isinstance(thresholds, Thresholds | None):
        raise OptionError(
            f"thresholds={thresholds!r}: give a `Thresholds`, such as pyro_llm.diagnostics.Thresholds(ess=3), or None."
        )
    check_functionals(posterior, functionals, of_one_text=True)
    case = Examination(posterior, thresholds or Thresholds(), functionals or {})
    for examine in (examine_weights, examine_genealogy, examine_rewards, examine_chains, examine_texts, examine_budget):
        examine(case)
    return Diagnosis(title(posterior), case.findings, case.figures)
