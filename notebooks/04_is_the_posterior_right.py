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
# # Is the posterior right?
#
# Where every text can be enumerated, one can see how far the estimates are off. Then runs are made sick on purpose, to
# see which illnesses the diagnostics name, and one that they cannot.

# %%
import math
import warnings

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyro

from pyro_llm.diagnostics import plot_ancestry, plot_ess
from pyro_llm.errors import UnhealthyRunWarning
from pyro_llm.infer import SMC, ParticleGibbs
from pyro_llm.lm import TableLM
from pyro_llm.models import ReasoningSSM
from pyro_llm.rewards import FunctionReward

DAYS = 7
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7"]  # which the colour-blind can tell apart
TOMORROW = {  # after this day: sun, rain, snow, the end
    "start": [0.4, 0.4, 0.2, 0.0],
    "sun": [0.7, 0.25, 0.05, 0.0],
    "rain": [0.3, 0.5, 0.2, 0.0],
    "snow": [0.1, 0.4, 0.5, 0.0],
}


def forecast(days):
    """The probabilities of the next token, given those so far: a week of weather, then the end."""
    if len(days) == DAYS:
        return [0.0, 0.0, 0.0, 1.0]
    return TOMORROW[["sun", "rain", "snow"][days[-1]] if days else "start"]


lm = TableLM(forecast, ["sun ", "rain ", "snow ", "<end>"], eos_token_id=3)


def pleasant(text):
    """The reward: the probability that the last day is accepted."""
    return {"sun": 0.9, "rain": 0.4, "snow": 0.2}[text.split()[-1]]


def suns(text):
    return text.split().count("sun")


# %% [markdown]
# ## The exact posterior
#
# There are 3⁷ = 2,187 weeks. The posterior is proportional to the probability of a week times its rewards, one for each
# step, that of the end included.


# %% tags=["picture"]
def enumerated(reward, fn=suns):
    """The exact posterior of `fn`, and the log-evidence."""
    mass = {}
    for tokens, log_prob in lm.enumerate(max_tokens=DAYS + 1):
        prefixes = [lm.decode(tokens[:length]) for length in range(1, len(tokens) + 1)]
        weight = math.exp(log_prob) * math.prod(map(reward, prefixes))
        value = fn(prefixes[-1])
        mass[value] = mass.get(value, 0.0) + weight
    evidence = sum(mass.values())
    return {value: mass[value] / evidence for value in sorted(mass)}, math.log(evidence)


def program(reward, lm=lm, temperature=1.0):
    judge = FunctionReward(reward)
    return ReasoningSSM(lm, judge, max_steps=DAYS + 1, stop=None, max_tokens=1, temperature=temperature)


def solve(model, num_particles=32, num_runs=1, seed=0):
    pyro.set_rng_seed(seed)
    return SMC(model, num_particles, num_runs=num_runs, progress=False).run("The weather")


exact, log_evidence = enumerated(pleasant)
posterior = solve(program(pleasant), num_particles=64, num_runs=4)
estimated = posterior.marginal(suns)

figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
days = np.array(list(exact))
ax.bar(days - 0.2, list(exact.values()), width=0.4, color="#9A9A9A", label="exact")
heights, errors = zip(*((estimated.get(day, 0), estimated.standard_errors.get(day, 0)) for day in exact), strict=True)
ax.bar(days + 0.2, heights, yerr=errors, width=0.4, color="#0072B2", capsize=3, label="SMC, 4 runs × 64 particles")
ax.set(xlabel="sunny days of the week", ylabel="posterior probability")
ax.legend(frameon=False)
print(f"log-evidence: exact {log_evidence:.3f}, estimated {posterior.pooled_log_evidence()}")

# %% [markdown]
# ## Are the error bars honest?
#
# The same a hundred times, 4 runs × 32 particles each. An error over four runs is itself uncertain: by Student's law
# with 3 degrees of freedom, 61 percent of the estimates should lie within one standard error of the truth, 86 percent
# within two.

# %%
many = SMC(program(pleasant), 32, num_runs=4, progress=False).run_each(["The weather"] * 100, seeds=range(100))
marginals = [one.marginal(suns) for one in many]
off = np.array([(marginal[7] - exact[7]) / marginal.standard_errors[7] for marginal in marginals])
print(f"within one standard error {np.mean(abs(off) < 1):.0%}, within two {np.mean(abs(off) < 2):.0%}")

# %% [markdown]
# ## More particles
#
# The error of a probability falls as one over the root of the number of particles. The log-evidence is too low on
# average (Jensen's inequality), though the evidence itself is not: the more particles, the less.

# %%
sizes = [4, 16, 64, 256]
root_mean_square, mean_ratio, mean_log = [], [], []
for size in sizes:
    runs = solve(program(pleasant), num_particles=size, num_runs=200)
    week = (np.vectorize(suns)(runs.texts) == 7) * runs.log_weights.exp().numpy()
    root_mean_square.append(math.sqrt(np.mean((week.sum(1) - exact[7]) ** 2)))
    offset = runs.log_evidence.numpy() - log_evidence
    mean_ratio.append(np.exp(offset).mean())
    mean_log.append(offset.mean())

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
left.loglog(sizes, root_mean_square, "o-", color="#0072B2", label="of 200 runs")
left.loglog(sizes, root_mean_square[0] * np.sqrt(sizes[0] / np.array(sizes)), "--", color="#9A9A9A", label="∝ 1/√N")
left.set(xlabel="particles N", ylabel="root mean square error\nof P(seven sunny days)")
right.semilogx(sizes, mean_ratio, "o-", color="#0072B2", label="mean of estimate / exact evidence")
right.semilogx(sizes, 1 + np.array(mean_log), "s-", color="#D55E00", label="1 + mean error of log-evidence")
right.axhline(1, color="#9A9A9A", linestyle="--")
right.set(xlabel="particles N")
for ax in (left, right):
    ax.set_xticks(sizes, map(str, sizes))
    ax.minorticks_off()
    ax.legend(frameon=False)
left.set_yticks([0.05, 0.1, 0.2, 0.4], ["0.05", "0.1", "0.2", "0.4"])
pd.DataFrame(
    {"error of P": root_mean_square, "evidence / exact": mean_ratio, "log-evidence - exact": mean_log}, sizes
).round(3)

# %% [markdown]
# ## Runs made sick on purpose
#
# `posterior.diagnose()` looks at a run as one would, and says in plain words what is wrong and what to change. Here is
# a healthy run, then what it finds on six that are not.

# %%
posterior.diagnose()

# %%
endless = TableLM(lambda days: [0.45, 0.15, 0.1, 0.3], ["sun ", "rain ", "snow ", "<end>"], eos_token_id=3)


def saturated(text):
    return 1 - 1e-6 * (1 + text.count("rain"))


def constant(text):
    return 0.4


def merciless(text):
    """Nothing but three days of snow will do."""
    begins_well = len(text.split()) < 3 or text.startswith("snow snow snow")
    return pleasant(text) if begins_well else 1e-9


with warnings.catch_warnings():
    warnings.simplefilter("ignore", UnhealthyRunWarning)  # some illnesses are told during the run, too
    sick = {
        "2 particles": solve(program(pleasant), num_particles=2),
        "a saturated reward": solve(program(saturated)),
        "a constant reward": solve(program(constant)),
        "a merciless reward": solve(program(merciless), seed=3),
        "a merciless reward, 4 runs": solve(program(merciless), num_runs=4),
        "temperature 0.02": solve(program(pleasant, lm=endless, temperature=0.02)),
    }
findings = [
    {"run": name, "finding": finding.name, "severity": finding.severity, "what": finding.what, "change": finding.change}
    for name, run in sick.items()
    for finding in run.diagnose()
]
with pd.option_context("display.max_colwidth", None):
    display(pd.DataFrame(findings).set_index("run"))  # noqa: F821 - a notebook has it

# %% [markdown]
# A reward that tells nothing leaves the posterior what the language model writes anyway; two particles are no
# distribution; the merciless reward leaves one survivor. With four runs of it, some runs have a survivor and some have
# none: then it is the runs that disagree.
#
# **Effective sample size and ancestors see different things.** On the left, how many particles carry weight; on the
# right, from which first particles the last ones descend. Under the merciless reward the ESS at the end is 17 of 32,
# which would do, but all 32 descend from a single particle: the first three days are one draw.

# %%
for name, run in {"healthy": posterior, "a merciless reward": sick["a merciless reward"]}.items():
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 3), layout="constrained")
    plot_ess(run, left, run=0).set_title("", loc="left")
    plot_ancestry(run, right)
    figure.suptitle(f"{name}: ESS at the end {run.ess()[0]:.0f} of {run.num_particles}", x=0.01, ha="left")

# %% [markdown]
# ## Markov chains, in ArviZ
#
# Four chains of particle Gibbs, with 2 particles and with 16.

# %%
chains = {}
for size in (2, 16):
    pyro.set_rng_seed(0)
    gibbs = ParticleGibbs(program(pleasant), size, num_iterations=100, num_chains=4, progress=False)
    chains[f"{size} particles"] = gibbs.run("The weather")
data = {name: run.to_arviz({"sunny_days": suns}) for name, run in chains.items()}
for name, run in chains.items():
    print(name, run.diagnose().names)
pd.concat({name: az.summary(one, var_names=["sunny_days", "log_probability"]) for name, one in data.items()})

# %%
figure, axes = plt.subplots(2, 2, figsize=(11, 5), layout="constrained")
for row, (name, one) in zip(axes, data.items(), strict=True):
    az.plot_trace(one, var_names=["sunny_days"], axes=row[None], chain_prop={"color": COLOURS})
    row[0].set(title=f"sunny days, {name}", xlabel="sunny days of the week", ylabel="share of draws")
    row[1].set(title=f"sunny days, {name}", xlabel="iteration", ylabel="sunny days")

# %%
figure, axes = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained", sharey=True)
for ax, (name, one) in zip(axes, data.items(), strict=True):
    az.plot_ess(one, var_names=["sunny_days"], kind="evolution", ax=ax, textsize=9)
    ax.set_title(f"sunny days, {name}")

# %% [markdown]
# With 2 particles a sweep mostly returns what it was given: the traces are long flat stretches, 400 draws are worth
# about 57, and R-hat says that the chains have not met. With 16 they are worth about 300. The averages agree with the
# exact posterior as far as that: the exact mean is computed below.

# %%
print(f"exact mean {sum(day * p for day, p in exact.items()):.2f} sunny days")

# %% [markdown]
# ## What no diagnostic sees
#
# This reward likes sunny beginnings a little, and a whole week of snow very much, which it says at the end of the week.

# %%


def late(text):
    words = text.split()
    if len(words) < DAYS:
        return 0.55 if words[-1] == "sun" else 0.5
    return 0.99 if words == ["snow"] * DAYS else 0.01 + 0.002 * suns(text)


exact_late, log_evidence_late = enumerated(late)
rows = {"exact": {"no sunny day": exact_late[0], "log-evidence": log_evidence_late, "findings": ""}}
for label, num_particles, num_runs in (("1 run × 32", 32, 1), ("4 runs × 32", 32, 4), ("4 runs × 4096", 4096, 4)):
    run = solve(program(late), num_particles, num_runs)
    rows[label] = {
        "no sunny day": run.marginal(suns).get(0, 0.0),
        "log-evidence": run.pooled_log_evidence().estimate,
        "findings": ", ".join(run.diagnose().names) or "none",
    }
pd.DataFrame(rows).T

# %% [markdown]
# A single run of 32 meets no week of snow, finds nothing wrong, and is wrong: nine tenths of the posterior are where it
# has never been. **No finding is no proof.** With four runs one of them happened to meet it, so they disagree, and the
# diagnosis says so; with enough particles the estimate is right. That is what several runs are for. Rewards that tell
# along the way, rather than all at the end, make such surprises rare.
#
# And whether the *reward* is right no run can tell. Next: [when the reward is
# wrong](05_when_the_reward_is_wrong.ipynb).
