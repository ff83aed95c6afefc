# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Swap the algorithm
#
# The program says what is to be known, the algorithm how it is found out. Here is one program under twelve algorithms,
# with one budget for all of them, in one table.

# %%
import warnings

import matplotlib.pyplot as plt
import pandas as pd
import pyro

import pyro_llm
from pyro_llm import Budget
from pyro_llm.diagnostics import plot_answers
from pyro_llm.distributions import LLM
from pyro_llm.errors import BudgetWarning
from pyro_llm.infer import (
    DVTS,
    SMC,
    BeamSearch,
    BestOfN,
    EntropicSMC,
    Greedy,
    Importance,
    ParallelTempering,
    ParticleGibbs,
    SelfConsistency,
)

lm, prm = pyro_llm.load_lm("abacus"), pyro_llm.load_reward("abacus")
problem = (
    "Mia has 47 marbles. Mia buys 48 more. 7 children take 6 marbles each. Tom has 15 fewer than Mia and gives Mia all "
    "of them. How many marbles does Mia have in the end?"
)


def reason(problem, max_steps=12):
    state = lm.prompt(problem)
    for t in range(max_steps):
        state = state.append(pyro.sample(f"step_{t}", LLM(lm, state, stop="\n", max_tokens=32)))
        pyro_llm.accept(f"accept_{t}", prm, state)
        if state.finished.all():
            break
    return state


# %% [markdown]
# ## Two families
#
# **Inference** estimates the posterior of the program. **Searches** return what a rule of theirs selects: the highest
# score, the most votes. Both take the same program and the same options, and return a `Posterior`; that of a search has
# scores in place of weights, and says so if it is asked for what it has not.
#
# All are sized for 64 *generations*, texts begun: 64 particles, 4 runs of 16, 4 iterations of 16, or 2 rungs × 4
# iterations of 8. Greedy decoding has no use for more than one.


# %%
def algorithms(budget, size=64):
    def make(algorithm, *sizes, **options):
        return algorithm(reason, *sizes, progress=False, budget=budget, **options)

    chain = {"num_iterations": 4, "warmup": 0}
    return {
        "SMC": make(SMC, size),
        "SMC, 4 runs": make(SMC, size // 4, num_runs=4),
        "Importance": make(Importance, size),
        "ParticleGibbs": make(ParticleGibbs, size // 4, keep="population", **chain),
        "ParallelTempering": make(ParallelTempering, size // 8, inverse_temperatures=[1, 0.4], **chain),
        "EntropicSMC": make(EntropicSMC, size, max_steps=12),
        "BeamSearch": make(BeamSearch, size),
        "DVTS": make(DVTS, size),
        "BestOfN": make(BestOfN, size),
        "BestOfN, weighted": make(BestOfN, size, weighted=True),
        "SelfConsistency": make(SelfConsistency, size),
        "Greedy": make(Greedy),
    }


def run_all(budget):
    """The posterior of each, all from the same seed."""
    posteriors = {}
    for name, algorithm in algorithms(budget).items():
        pyro.set_rng_seed(0)
        posteriors[name] = algorithm.run(problem)
    return posteriors


def line(posterior):
    """A line of the table; what an algorithm does not have stays empty."""
    decision = posterior.decision(pyro_llm.answer)
    cells = {"decision": "(none)" if decision is None else decision, "probability": "", "ESS": "", "log-evidence": ""}
    if not posterior.is_search:
        cells["probability"] = f"{posterior.marginal(pyro_llm.answer)[decision]:.2f}"
        cells["log-evidence"] = f"{posterior.pooled_log_evidence().estimate:.2f}"
        if posterior.chains is None:
            cells["ESS"] = f"{posterior.ess().sum():.1f}"
    cost = posterior.cost
    return cells | {
        "generations": cost.generations,
        "LM tokens": f"{cost.lm_tokens:,}",
        "reward tokens": f"{cost.reward_tokens:,}",
        "reward calls": cost.reward_calls,
        "seconds": f"{cost.seconds:.1f}",
        "stopped by": posterior.stopped_by or "",
    }


def table(posteriors):
    return pd.DataFrame({name: line(posterior) for name, posterior in posteriors.items()}).T


# %% [markdown]
# ## One table
#
# A budget is given to all alike: at most 64 generations and 3,000 tokens of the language model, each counted once,
# whether read or written.

# %%
posteriors = run_all(Budget(generations=64, lm_tokens=3_000))
table(posteriors)

# %% [markdown]
# The right answer is 91. How to read it:
#
# - **Decision.** What the algorithm would answer. The language model by itself tends to 38, the last number but one of
#   the calculation: greedy decoding and the majority say so. All that follow the reward leave 38 behind.
# - **Probability**, where there is one. A search has scores, which are no probabilities, so its field is empty.
# - **ESS.** `Importance` weighs the same 64 texts as `BestOfN`, and never resamples: of 64 particles about 10 count.
#   SMC resampled, and 63 count. It paid with ancestors, which ESS does not see; the next notebook looks at both.
# - **Log-evidence.** All estimate the same number, from 64 particles or fewer: the scatter is their error. For the two
#   Markov chains it comes from the first iteration alone.
# - **Cost.** The generations are alike, the tokens nearly so. Majority and greedy ask no reward. Chains of iterations
#   take longer, as their batches are smaller. Seconds depend on the machine and on what else it does; the counts do
#   not.

# %% [markdown]
# ## What the probabilities are made of

# %% tags=["picture"]
figure, axes = plt.subplots(1, 3, figsize=(13, 3.2), layout="constrained", sharex=True)
for ax, name in zip(axes, ("SMC, 4 runs", "Importance", "ParallelTempering"), strict=True):
    plot_answers(posteriors[name], ax)
    ax.set(xlim=(0, 1.15), xlabel="posterior probability")
    ax.set_title(name, loc="left", fontsize="medium")

# %% [markdown]
# `ParallelTempering` keeps four draws, so its probabilities are quarters. Four runs of 16 particles have error bars; a
# single run has none.

# %% [markdown]
# ## Once is not enough
#
# Ten seeds, 16 generations each, all seeds of an algorithm in common batches.

# %%
counts = {}
for name, algorithm in algorithms(Budget(generations=16), size=16).items():
    runs = algorithm.run_each([problem] * 10, seeds=range(10))
    decisions = pd.Series([posterior.decision(pyro_llm.answer) for posterior in runs]).fillna("(none)")
    counts[name] = decisions.value_counts()
pd.DataFrame(counts).T.fillna(0).astype(int).sort_index(axis=1, key=lambda answers: answers != "91")

# %% [markdown]
# How many of ten seeds decide for each answer. On this problem whatever follows the reward is right in most seeds,
# while the majority mostly returns the language model's own mistake. More than that ten runs on one problem cannot say:
# 10 of 10 against 8 of 10 is well within chance, and on another problem the order is another. The stored studies
# compare the algorithms on many problems, with intervals: see [spending a budget](06_spending_a_budget.ipynb).

# %% [markdown]
# ## A budget that is too small
#
# Half of the tokens. A run that has spent its budget ends there, warns, and returns what it has; `stopped_by` names the
# item.

# %%
with warnings.catch_warnings():
    warnings.simplefilter("ignore", BudgetWarning)
    halved = run_all(Budget(generations=64, lm_tokens=1_500))
table(halved)

# %% [markdown]
# All that write 64 texts side by side have run out in the middle of all of them: no text states an answer yet, and they
# say so, rather than guess. What the weights say of the unfinished texts is still right, and so is the evidence, that
# of the steps made. The chains of iterations return the iterations that were complete. So the size has to fit the
# budget, or the budget comes in portions.
#
# What to use? For probabilities `SMC`, with several runs for error bars, and `ParticleGibbs` where memory holds too few
# particles; `SelfConsistency` where there is no reward; a search where one wants only its winner and trusts the reward.
# [Choosing an algorithm](../docs/choosing.md) has the details.
#
# Next: [is the posterior right?](04_is_the_posterior_right.ipynb)
