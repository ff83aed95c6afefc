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
# # For those who decide
#
# [日本語](07_for_managers_ja.ipynb). Hands-on, and nothing to read but tables and pictures: the code is folded away.
# The page without figures is [here](../docs/for_managers.md).
#
# All figures come from a stored study: every question was put to small models that come with the package, with 1 to 64
# candidates, and each answer was checked. They are word problems in arithmetic, and the models are tiny, so take from
# here how to decide, not your figures. Yours come from a pilot with your own questions.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
from pyro_llm.study import read_study, tabulate
from pyro_llm.study.return_views import ReturnViews
from pyro_llm.study.returns import Terms
from pyro_llm.study.thinning_view import thinning

names = {
    "particle filter": "this method, several candidates thinned out",
    "majority": "ask several times, take the majority",
    "best of N": "ask several times, take the reviewer's favourite",
}
results = tabulate(read_study("../studies/results/accuracy"))
views = ReturnViews(results, names, "en")
print(f"{len(results.problems)} questions, each with {len(results.curves)} methods")

# %% [markdown]
# ## What the method does
#
# Keep several candidates alive rather than bet on one. Below, 32 candidates write a solution step by step, and a second
# model, the reviewer, judges each step. Those that it doubts die out (pale lines end); promising ones are copied and go
# on (thick lines fork). At the end there is a tally rather than a winner: how likely each answer is.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
thinning(
    "Mia has 47 marbles. Mia buys 48 more. 7 children take 6 marbles each. Tom has 15 fewer than Mia and gives Mia all "
    "of them. How many marbles does Mia have in the end?"
)

# %% [markdown]
# The right answer is 91. Three habits are all there is to it: *wide first, then concentrate*; *the reviewer is
# fallible*, so no favourite is taken, but a tally; *start with a small pilot*.
#
# ## What it buys: accuracy
#
# The share of right answers by number of candidates. The bars are 95 percent intervals: where they overlap much, do not
# argue. The same questions were put to all three methods.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
views.accuracy()

# %% [markdown]
# ## What it is worth: your prices
#
# Assumed here, in dollars: a right answer is worth 1, a wrong one costs 2, a person answers for 0.80 (and is taken to
# be right), a million tokens cost 2, and your questions take a hundred times as many tokens as these. An answer goes to
# a person if there is none, or if its probability is below 60 percent; majority and favourite give no probabilities, so
# they pass on only what has no answer. **Change the numbers** in the cell below if you run this, or use the sliders at
# the end.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
terms = Terms(right_value=1.0, wrong_cost=2.0, price=2.0, person_cost=0.8, threshold=0.6, length=100)
views.verdict(terms)

# %% jupyter={"source_hidden": true} tags=["hide-input", "picture"]
views.value(terms)

# %% [markdown]
# Beyond the peak the candidates cost more than they bring. The dotted line is the alternative: every question to a
# person.
#
# The table is of this method. The bold line has the highest return. *Gain* compares with a single candidate on the same
# questions: an interval wholly above zero is more than chance. (The best line is chosen by the same questions that it
# is judged by, so it flatters a little; neighbours do about as well.) One candidate alone has no tally, so that nothing
# is passed to a person for doubt.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
views.table(terms)

# %% [markdown]
# ## When to pass a question to a person
#
# The higher the threshold, the more goes to people, and the surer are the answers that do not. Each line is taken at
# the number of candidates that is best for it.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
views.thresholds(terms)

# %% [markdown]
# ## How many candidates, at which prices
#
# The number of candidates with the highest return, and that return a question, by what a right answer is worth (the
# costs of a wrong one and of a person in proportion) and what a million tokens cost. Cheap tokens and valuable answers:
# more candidates. Where the return is negative even at the best number, do not do it at these prices.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
views.best_budgets(terms, prices=[0.2, 1, 5, 25], values=[0.1, 1, 10, 100])

# %% [markdown]
# ## Sliders

# %% jupyter={"source_hidden": true} tags=["hide-input"]
views.sliders(terms)

# %% [markdown]
# ## Before you decide
#
# - **The pilot.** Fifty questions of yours with known answers, at 1, 4, 16 and 64 candidates. `pyro-llm bench` runs it
#   and writes what this page reads ([studies](../docs/studies.md)).
# - **Is the reviewer in the price?** Here it is: its tokens are counted with the others.
# - **What if the reviewer is wrong?** [A notebook of its own](05_when_the_reward_is_wrong.ipynb) makes it wrong on
#   purpose.
# - **Does the simple majority do?** It is in the pictures above. If it is as good for your questions, take it.
