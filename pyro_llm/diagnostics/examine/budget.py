"""Whether a budget, or a reward that failed, ended the run."""

from __future__ import annotations

from pyro_llm.diagnostics.examine.examination import Examination


def examine_budget(case: Examination) -> None:
    """Findings `reward-failed`, and `budget-spent` where `unfinished-texts` does not say it: after `examine_texts`."""
    posterior, item = case.posterior, case.posterior.stopped_by
    told = any(finding.name == "unfinished-texts" for finding in case.findings)
    if item is None or (told and item != "reward"):
        return
    if posterior.chains is not None:
        missing = "the chains are shorter than they were to be"
    elif posterior.is_search:
        missing = "the search chose from what it had written by then"
    else:
        missing = "particles were weighed by the factors that they had met by then"
    if item == "reward":
        case.find(
            "reward-failed", "warning", 1.0, 0.0,
            f"A reward failed and ended the run, not the program: {missing}.",
            "See to the reward, and run again.",
        )  # fmt: skip
        return
    limit = posterior.settings["budget"][item]  # it is reported together with `stopped_by`
    case.find(
        "budget-spent", "note", limit, limit,
        f"The budget ended the run ({item}), not the program: {missing}.",
        "Raise the budget, or take fewer particles.",
    )  # fmt: skip
