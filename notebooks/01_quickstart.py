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
# # Quickstart
#
# A language model as a distribution, a reward as an observation, a posterior to look at. Everything here runs on the
# two small models that come with the package, in seconds, on a laptop.

# %%
import pyro

import pyro_llm
from pyro_llm.distributions import LLM
from pyro_llm.infer import SMC

lm = pyro_llm.load_lm("abacus")  # solves word problems line by line, and is often wrong
prm = pyro_llm.load_reward("abacus")  # a process reward model: is this line right? It errs, too

# %% [markdown]
# ## One sample
#
# What the language model writes by itself, five times. About half of its solutions are right.

# %%
problem = (
    "Mia has 47 marbles. Mia buys 48 more. 7 children take 6 marbles each. Tom has 15 fewer than Mia and gives Mia all "
    "of them. How many marbles does Mia have in the end?"
)
pyro.set_rng_seed(1)
state = lm.prompt(problem).expand((5,))
state = state.append(LLM(lm, state, max_tokens=128).sample())
for text in state.texts:
    print(" | ".join(text.splitlines()))

# %% [markdown]
# ## The program
#
# A step is drawn from the language model, and *observed to be accepted* by the reward. Nothing says how to infer.


# %%
def reason(problem, max_steps=12):
    state = lm.prompt(problem)
    for t in range(max_steps):
        state = state.append(pyro.sample(f"step_{t}", LLM(lm, state, stop="\n", max_tokens=32)))
        pyro_llm.accept(f"accept_{t}", prm, state)
        if state.finished.all():
            break
    return state


# %% [markdown]
# ## The posterior
#
# Four independent particle filters of 64 particles each, in one batch.

# %%
pyro.set_rng_seed(0)
posterior = SMC(reason, num_particles=64, num_runs=4, progress=False).run(problem)
posterior

# %% [markdown]
# **The answers have probabilities**, with standard errors over the runs:

# %%
posterior.marginal(pyro_llm.answer)

# %% [markdown]
# **A picture**: the answers; the effective sample size by step, which says how many particles carried weight; the
# ancestry, which says how many of the first particles still have descendants.

# %% tags=["picture"]
posterior.plot()

# %% [markdown]
# **A text to read**, one that states the most probable answer:

# %%
first = posterior.marginal(pyro_llm.answer).most_probable(1)[0]
print(posterior.best(where=lambda text: pyro_llm.answer(text) == first).text)

# %% [markdown]
# **What it cost**, the reward model included, and the evidence: the logarithm of the probability that a solution is
# accepted at every step.

# %%
print(posterior.cost)
print(posterior.pooled_log_evidence())

# %% [markdown]
# **It goes to ArviZ and to a file.**

# %%
data = posterior.to_arviz()
posterior.save("quickstart.nc")
pyro_llm.infer.Posterior.load("quickstart.nc").marginal(pyro_llm.answer).most_probable(3)

# %% [markdown]
# Next: [a program of your own](02_your_own_program.ipynb).
