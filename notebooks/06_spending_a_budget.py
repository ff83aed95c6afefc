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
# # Spending a budget
#
# A budget can buy width (particles), depth (iterations) or independent runs (islands). What it may be counted in, how
# it is kept, and how to find out which way of spending it is best for your problems.

# %%
import warnings

import matplotlib.pyplot as plt
import pandas as pd
import pyro

import pyro_llm
from pyro_llm import Budget, Prices
from pyro_llm.errors import BudgetWarning
from pyro_llm.infer import SMC, ParticleGibbs
from pyro_llm.models import ReasoningSSM
from pyro_llm.study import (
    parse_config,
    plot_accuracy,
    read_study,
    run_study,
    scaling_rate,
    summarise,
    tabulate,
)

lm, prm = pyro_llm.load_lm("abacus"), pyro_llm.load_reward("abacus")
model = ReasoningSSM(lm, prm)
problem = (
    "Mia has 47 marbles. Mia buys 48 more. 7 children take 6 marbles each. Tom has 15 fewer than Mia and gives Mia all "
    "of them. How many marbles does Mia have in the end?"
)

# %% [markdown]
# ## One budget, three ways to spend it
#
# Sixty-four generations (texts begun) as one wide filter, as four islands that are pooled by their evidence, and as
# four iterations of particle Gibbs. Prices are dollars for a million tokens; those here are made up.

# %%
prices = Prices(lm_input=0.10, lm_output=0.40, reward_input=0.10)
budget = Budget(generations=64)
ways = {
    "width: 64 particles": SMC(model, 64, budget=budget, progress=False),
    "islands: 4 × 16": SMC(model, 16, num_runs=4, budget=budget, progress=False),
    "iterations: 4 × 16": ParticleGibbs(
        model, 16, num_iterations=4, warmup=0, keep="population", budget=budget, progress=False
    ),
}
rows = {}
for name, algorithm in ways.items():
    pyro.set_rng_seed(0)
    posterior = algorithm.run(problem)
    answers = posterior.marginal(pyro_llm.answer)
    cost = posterior.cost
    rows[name] = {
        "answer": posterior.decision(pyro_llm.answer),
        "probability": f"{max(answers.values()):.2f}",
        "generations": cost.generations,
        "LM tokens": cost.lm_tokens,
        "reward tokens": cost.reward_tokens,
        "passes of the LM": cost.lm_calls,
        "memory, MiB": f"{cost.peak_memory_bytes / 2**20:.0f}",
        "dollars": f"{prices.dollars(cost):.6f}",
    }
pd.DataFrame(rows).T

# %% [markdown]
# Tokens and dollars are nearly the same: the budget is the same. What differs is how it is arranged. Iterations come
# one after another, so that they make more forward passes, each of fewer texts, and hold less in memory at a time.
#
# ## A budget that ends a run
#
# Any item can be limited, several together. Here it is money: a cent buys many of these runs, so the limit is a
# thousandth of a cent or so.

# %%
for cents in (0.02, 0.05, 0.2):
    pyro.set_rng_seed(0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", BudgetWarning)
        posterior = SMC(model, 64, budget=Budget(dollars=cents / 100, prices=prices), progress=False).run(problem)
    print(f"{cents} cents: spent {100 * prices.dollars(posterior.cost):.4f}, stopped by {posterior.stopped_by},")
    print(f"    answer {posterior.decision(pyro_llm.answer)}, {len(caught)} warning(s)")

# %% [markdown]
# A run is never over its budget: each forward pass is checked before it is made. A filter that is cut off has 64
# unfinished solutions, and no answer. So choose the width by the budget, not by hope.
#
# ## Which way is best? A study
#
# One problem tells nothing. `run_study` runs problems × algorithms × budgets, and goes on where it was interrupted.
# This one is small: 12 problems, 4 ways, 3 budgets.

# %%
config = parse_config(
    {
        "name": "ways to spend a budget",
        "problems": {"set": "abacus", "number": 12, "start": 200},
        "algorithms": {
            "width": {"algorithm": "SMC"},
            "4 islands": {"algorithm": "SMC", "split": {"num_runs": 4}},
            "2 iterations": {
                "algorithm": "ParticleGibbs",
                "split": {"num_iterations": 2},
                "warmup": 0,
                "keep": "population",
            },
            "majority": {"algorithm": "SelfConsistency"},
        },
        "budgets": {"generations": [4, 16, 32]},
        "concurrent": 12,
        "reference": "width",
    }
)
study = run_study(config, "ways", progress=False)
results = tabulate(study)
lines = [
    {
        "algorithm": line.algorithm,
        "generations": f"{line.budget:g}",
        "right answers": str(line.accuracy),
        "less width": "" if line.difference is None else str(line.difference),
        "LM and reward tokens": f"{line.costs['total_tokens']:,.0f}",
    }
    for line in summarise(results)
]
pd.DataFrame(lines).set_index(["algorithm", "generations"])

# %%
figure, axes = plt.subplots(1, 2, figsize=(12, 4), layout="constrained")
for ax, cost in zip(axes, ("generations", "total_tokens"), strict=True):
    plot_accuracy(results, cost, ax=ax)
    ax.set_title("")

# %% [markdown]
# The intervals are over problems, those of the second column of differences are paired. With twelve problems each is
# about half a unit wide: no two ways can be told apart here, and neither could a difference that matters. That is what
# the table says, and the reason why a study reports intervals.
#
# **The scaling rate** says how many times the budget the majority needs for the accuracy of the filter: here it does
# not know either.

# %%
ways_to_spend = {name: results.curves["", name, "generations"] for name in ("width", "majority")}
for at_budget in (4, 32):
    rate = scaling_rate(ways_to_spend["width"], ways_to_spend["majority"], cost="total_tokens", at_budget=at_budget)
    print(f"at the accuracy of a majority of {at_budget} ({rate.accuracy:.2f}): {rate}")

# %% [markdown]
# ## A stored study
#
# Larger studies are kept in `studies/results/`, with their configurations in `studies/`; `pyro-llm bench` runs them
# again or on, and [studies](../docs/studies.md) says what is in them. This is the first: nine algorithms, the filters
# with our rule for the answer and with the published one.

# %% tags=["picture"]
accuracy = tabulate(read_study("../studies/results/accuracy"))
print(f"{len(accuracy.problems)} problems that every combination has been run on")
figure, axes = plt.subplots(1, 2, figsize=(14, 5), layout="constrained", sharey=True)
for ax, cost in zip(axes, ("generations", "total_tokens"), strict=True):
    plot_accuracy(accuracy, cost, ax=ax)
    ax.set_title("")

# %% [markdown]
# The tokens (those of the reward counted) that the majority needs for the accuracy that it has at its best, over those
# that each other algorithm needs for the same accuracy. 4 means that a quarter is enough.

# %%
curves = {curve.algorithm: curve for curve in accuracy.of("", "generations")}
rates = {
    name: scaling_rate(curve, curves["majority"], cost="total_tokens")
    for name, curve in curves.items()
    if len(curve.budgets) > 1 and name != "majority"
}
pd.DataFrame(
    {name: {"times fewer tokens than the majority [95 % interval]": str(rate)} for name, rate in rates.items()}
).T

# %% [markdown]
# What to take from it: count the reward's tokens, they are not free; do not read single points, but curves with their
# intervals; and try a small study on your own problems before you choose. For those who pay there is [a notebook
# without code](07_for_managers.ipynb), which turns such a study into money.
