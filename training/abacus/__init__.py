"""The embedded models `abacus`: how their problems are drawn, and how the two models are trained and measured.

`python -m training.abacus` does everything in order: `publish`, `tokenizer`, `train_lm`, `rollouts`, `train_reward`,
`evaluate_lm`, `evaluate_reward`, `card`. Each part reads the files of the parts before it and writes its own whole or
not at all, so that a broken run resumes at any part: `python -m training.abacus rollouts train_reward`.
"""

import os

# Two threads that spin while they wait lose most of their time where other programs share the cores: let them sleep.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
