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
# # When the reward is wrong
#
# A reward model errs, always in the same places. A search for the highest score finds these places; a posterior gives
# them no more than their share. Here a reward is made wrong on purpose, to see both, and what can be done.

# %%
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

import pyro_llm
from pyro_llm import zoo
from pyro_llm.diagnostics import plot_reliability
from pyro_llm.infer import SMC, BeamSearch, BestOfN, Importance, SelfConsistency
from pyro_llm.models import ReasoningSSM
from pyro_llm.rewards import Disturbed, fit_calibration
from pyro_llm.rewards.disturbance import TRIVIAL_STEP
from pyro_llm.study.bootstrap import mean_interval

lm, prm = pyro_llm.load_lm("abacus"), pyro_llm.load_reward("abacus")
problems = zoo.problems("abacus")[:16]

# %% [markdown]
# ## A reward with a flaw
#
# `Disturbed` adds an error that is a function of the text alone: asking again gives the same wrong score, as a reward
# model would. `"exploitable"` is a recognisable flaw: whoever computes a number with itself (7 - 7 = 0, almost never
# right) gets 8 more in log-odds. `"corrupted"` is none that one could recognise: one text in five, at random, is found
# excellent.

# %%
rewards = {
    "as it is": prm,
    "exploitable": Disturbed(prm, "exploitable", size=8.0),
    "corrupted 20%": Disturbed(prm, "corrupted", size=0.2),
}


def scores(prompt, texts, reward):
    """The probabilities of acceptance that a reward gives to texts."""
    state = lm.prompt(prompt).expand((len(texts),))
    rows = [lm.encode(text) for text in texts]
    width = max(map(len, rows))
    state = state.append(torch.tensor([row + [-1] * (width - len(row)) for row in rows]))
    return reward(state).sigmoid().tolist()


steps = ["47 + 48 = 95\n", "47 + 48 = 85\n", "47 - 47 = 0\n"]
prompt = "Mia has 47 marbles. Mia buys 48 more. How many marbles?"
pd.DataFrame({name: scores(prompt, steps, reward) for name, reward in rewards.items()}, index=steps).round(3)

# %% [markdown]
# The reward that comes with the package is imperfect as it is: it finds 85 as good as 95, and knows the trivial step
# for bad. The flaw makes that a good one. Of these three texts the corrupted reward has none to its liking; it is
# another fifth for each problem.
#
# ## Right answers
#
# Sixteen problems, 32 generations for each. Self-consistency asks no reward, so that none misleads it.

# %%
algorithms = {"SMC": SMC, "best of N": BestOfN, "beam search": BeamSearch, "majority": SelfConsistency}
texts, answers = [one["problem"] for one in problems], [one["answer"] for one in problems]


def solve(algorithm, reward):
    model = ReasoningSSM(lm, reward)
    return algorithm(model, 32, progress=False).run_each(texts, seeds=range(len(texts)))


def right(runs):
    """Whether each problem is answered right, 1 or 0."""
    return np.array([float(run.decision(pyro_llm.answer) == answer) for run, answer in zip(runs, answers, strict=True)])


runs = {
    (name, label): solve(algorithm, reward)
    for name, algorithm in algorithms.items()
    for label, reward in rewards.items()
    if label == "as it is" or name != "majority"
}
results = {key: right(some) for key, some in runs.items()}
table = pd.Series({key: f"{value.sum():.0f} of {len(value)}" for key, value in results.items()}).unstack(sort=False)
table.fillna("(same)")

# %% [markdown]
# What the fault has cost, paired by problem, with 95 percent intervals:

# %%
rows = {}
for (name, label), value in results.items():
    if label != "as it is":
        rows[name, label] = str(mean_interval(value - results[name, "as it is"], -1, 1))
pd.Series(rows, name="change in the share of right answers").unstack(sort=False)

# %% [markdown]
# SMC loses least, best-of-n and beam search more, and beam search under the corrupted reward most: it asks at every
# step, and at every step keeps the overrated. **That is what sixteen problems show: little.** But for that last one the
# intervals reach to 0 or beyond it. A study of its own has 40 problems, six rewards, five algorithms and three budgets
# (`studies/robustness.yaml`, run by `pyro-llm bench`); take figures from there, and from here how to look.
#
# ## The more one looks, the more one finds
#
# The flaw itself is easier to count than wrong answers. Of n solutions best-of-n returns the one with the highest score
# at the end: how often has it the flaw? Beside it the share of the flaw by weight, each solution counted in proportion
# to its score, rather than one of them taken. (The 32 solutions above, in 200 random orders.)

# %% tags=["picture"]
counts = [1, 2, 4, 8, 16, 32]
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained", sharey=True)
for ax, name in zip(axes, ("as it is", "exploitable"), strict=True):
    posteriors = runs["best of N", name]
    flawed = np.array([[bool(re.search(TRIVIAL_STEP, text)) for text in one.texts[0]] for one in posteriors])
    score = np.stack([one.scores[0].exp().numpy() for one in posteriors])
    rng = np.random.default_rng(0)
    best, weighed = np.zeros(len(counts)), np.zeros(len(counts))
    for _ in range(200):
        order = rng.permutation(32)
        for index, n in enumerate(counts):
            chosen, marked = score[:, order[:n]], flawed[:, order[:n]]
            best[index] += marked[np.arange(len(problems)), chosen.argmax(1)].mean() / 200
            weighed[index] += ((chosen * marked).sum(1) / chosen.sum(1)).mean() / 200
    ax.plot(counts, best, "o-", color="#D55E00", label="of the choice of best-of-n")
    ax.plot(counts, weighed, "s-", color="#0072B2", label="by weight")
    ax.axhline(flawed.mean(), color="#9A9A9A", linestyle="--", label="of all solutions")
    ax.set_xscale("log", base=2)
    ax.set_xticks(counts, map(str, counts))
    ax.set(title=f"reward {name}", xlabel="solutions n", ylabel="share with the flaw")
    print(f"{name}: with the flaw are {flawed.mean():.1%} of the solutions, {best[-1]:.0%} of the choices among 32")
legend = axes[0].legend(frameon=False)

# %% [markdown]
# ## What can be done
#
# **Say that the reward errs.** `with_error(false_accept, false_reject)` is the probability that an evaluator of these
# error rates accepts: a flattered text gains at most their ratio over another. **Or measure it**: solutions to other
# problems, labelled by whether they came to be right, calibrate the score.

# %%
corrupted = rewards["corrupted 20%"]
others = zoo.problems("abacus")[100:160]
sampled = Importance(ReasoningSSM(lm, corrupted), 8, progress=False).run_each(
    [other["problem"] for other in others], seeds=range(len(others))
)
log_scores, labels = [], []
for run, other in zip(sampled, others, strict=True):
    for text, factors in zip(run.texts[0], run.stats.log_factor[0].T, strict=True):
        steps = len(text.splitlines())
        log_scores += factors[:steps].tolist()
        labels += [float(pyro_llm.answer(text) == other["answer"])] * steps
log_scores, labels = torch.tensor(log_scores, dtype=torch.float64), torch.tensor(labels)
log_odds = log_scores - torch.log(-torch.expm1(log_scores))

half = len(labels) // 2  # fitted on the first thirty of these problems, looked at on the others
calibration = fit_calibration(log_odds[:half], labels[:half], "isotonic")
print(f"fitted on {half} judged steps")
plot_reliability(
    {"as given": log_odds[half:].sigmoid(), "calibrated": calibration(log_odds[half:]).sigmoid()}, labels[half:]
).figure

# %%
mended = {
    "as given": runs["SMC", "corrupted 20%"],
    "with_error(0.2, 0.05)": solve(SMC, corrupted.with_error(0.2, 0.05)),
    "calibrated": solve(SMC, corrupted.calibrated(calibration)),
}
rows = {
    label: {
        "right": f"{right(some).sum():.0f} of {len(some)}",
        "mean probability of the decision": np.mean([max(run.marginal(pyro_llm.answer).values()) for run in some]),
    }
    for label, some in mended.items()
}
pd.DataFrame(rows).T

# %% [markdown]
# Blue, on problems that the calibration has not seen: a score of 0.97 came from a right solution about half of the
# time, less often than one of 0.65. That is the corruption. A calibration cannot tell the overrated from the good, for
# they have the same score; it says that a high score means little, and the isotonic one levels the scores from there
# on.
#
# What it changed here: the probabilities a little, and hardly any decision; eleven right answers or ten of sixteen do
# not differ. Best-of-n would not change at all under `with_error`, nor under any other map that keeps the order of
# scores: it looks at the order alone. A posterior weighs, so that what the reward is worth matters to it.
#
# In short:
#
# - Prefer what weighs to what selects, the more so the more candidates there are and the less you know of the reward.
# - Look at what the highest scores are given to, and whether it is what you want.
# - State the error rates that you believe in, or measure them on labelled solutions; [raters](../docs/raters.md) infers
#   them.
# - A majority needs no reward. If yours does not beat it on problems with known answers, leave it out.
#
# Next: [spending a budget](06_spending_a_budget.ipynb).
