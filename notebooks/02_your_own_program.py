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
# # A program of your own
#
# The library has no "task". Whatever you can say in Pyro, with text among the random variables, is a model. Four small
# programs: two language-model sites, a continuous latent value, a constraint on tokens, a reward of one's own.

# %%
import re

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pyro
import pyro.distributions as dist
import torch

import pyro_llm
from pyro_llm.distributions import LLM
from pyro_llm.infer import SMC
from pyro_llm.models import ConstrainedText
from pyro_llm.rewards import FunctionReward

lm, prm = pyro_llm.load_lm("abacus"), pyro_llm.load_reward("abacus")
problem = "Mia has 47 marbles. Mia buys 48 more. Mia gives 6 to each of 7 friends. How many marbles?"


def write(name, problem, max_steps=12):
    """A whole solution, a step at a time."""
    state = lm.prompt(problem)
    for t in range(max_steps):
        state = state.append(pyro.sample(f"{name}_{t}", LLM(lm, state, stop="\n", max_tokens=32)))
        if state.finished.all():
            break
    return state


# %% [markdown]
# ## Two language-model sites: what if two solvers agree?
#
# Two solutions are written independently, and observed to have the same answer. The posterior of the answer $a$ then is
# in proportion to $p(a)^2$: agreement sharpens, without any reward. Majority voting is the limit of many solvers.


# %%
def two_solvers(problem):
    ann, bob = write("ann", problem), write("bob", problem)
    answers = [np.vectorize(pyro_llm.answer, otypes=[object])(state.texts) for state in (ann, bob)]
    agree = torch.as_tensor((answers[0] == answers[1]) & (answers[0] != None))  # noqa: E711
    pyro.factor("agree", torch.where(agree, 0.0, -torch.inf))
    return ann


pyro.set_rng_seed(0)
alone = SMC(lambda problem: write("step", problem), num_particles=256, num_runs=4, progress=False).run(problem)
agreed = SMC(two_solvers, num_particles=256, num_runs=4, progress=False).run(problem)

prior = dict(alone.marginal(pyro_llm.answer))
squared = {a: p**2 for a, p in prior.items() if a is not None}
expected = {a: p / sum(squared.values()) for a, p in squared.items()}
for a, p in list(agreed.marginal(pyro_llm.answer).items())[:4]:
    print(f"{a:>4}  alone {prior.get(a, 0):.3f}   if two agree {p:.3f}   p² says {expected.get(a, 0):.3f}")

# %% [markdown]
# ## A continuous latent value: how far is the reward to be trusted?
#
# The power that the reward's judgements are raised to has a prior. Its posterior is about *this* problem: where the
# reward and the language model go together, trust costs nothing.


# %% tags=["picture"]
def doubtful(problem, max_steps=12):
    trust = pyro.sample("trust", dist.Beta(2.0, 2.0))
    state = lm.prompt(problem)
    for t in range(max_steps):
        state = state.append(pyro.sample(f"step_{t}", LLM(lm, state, stop="\n", max_tokens=32)))
        pyro_llm.accept(f"accept_{t}", prm, state, inverse_temperature=trust)
        if state.finished.all():
            break
    return state


pyro.set_rng_seed(0)
posterior = SMC(doubtful, num_particles=256, num_runs=4, progress=False).run(problem)
draws = posterior.resample(2000)
grid = torch.linspace(0.001, 0.999, 200)
plt.figure(figsize=(6, 3))
plt.hist(draws.samples["trust"].flatten(), bins=30, density=True, alpha=0.6, label="posterior")
plt.plot(grid, dist.Beta(2.0, 2.0).log_prob(grid).exp(), "k--", label="prior")
plt.xlabel("trust in the reward")
plt.legend()
az.summary(draws.to_arviz(), var_names=["trust"], kind="stats")

# %% [markdown]
# ## A constraint on tokens: solve it in exactly two lines
#
# Greedy masking of forbidden tokens distorts the distribution: it walks into corners. Here the *posterior*, given that
# the whole text matches, is sampled; the factors say how much of the model's probability each mask took away. This
# problem needs three lines: held to two, the model forgets the seven friends.

# %%
pattern = r"\d{1,3} [-+*] \d{1,3} = \d{1,3}\n\d{1,3} [-+*] \d{1,3} = \d{1,3}\nanswer: \d{1,3}"
pyro.set_rng_seed(0)
short = SMC(ConstrainedText(lm, pattern), num_particles=64, num_runs=4, progress=False).run(problem)
print("log-probability that a solution has two lines:", short.pooled_log_evidence())
short.marginal()

# %% [markdown]
# ## A reward of one's own
#
# Any function from a text to a probability. This one recomputes the last line; two `accept` statements are two
# observations.


# %%
def recomputed(text):
    line = text.splitlines()[-1] if text.strip() else ""
    found = re.fullmatch(r"(\d+) ([-+*]) (\d+) = (-?\d+)", line)
    if found is None:
        return 0.9
    a, sign, b, result = found.groups()
    right = {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b)}[sign]
    return 0.99 if right == int(result) else 0.05


checked = FunctionReward(recomputed)


def reason(problem, max_steps=12):
    state = lm.prompt(problem)
    for t in range(max_steps):
        state = state.append(pyro.sample(f"step_{t}", LLM(lm, state, stop="\n", max_tokens=32)))
        pyro_llm.accept(f"plausible_{t}", prm, state)
        pyro_llm.accept(f"computed_{t}", checked, state)
        if state.finished.all():
            break
    return state


pyro.set_rng_seed(0)
SMC(reason, num_particles=64, num_runs=4, progress=False).run(problem)

# %% [markdown]
# Next: [swap the algorithm](03_swap_the_algorithm.ipynb).
