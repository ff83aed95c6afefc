import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from pyro_llm.infer import Posterior
from pyro_llm.infer.readings import Texts
from pyro_llm.infer.stats import StepStats
from pyro_llm.ops.step_texts import StepTexts
from pyro_llm.run_scope import Cost


def load_driver():
    spec = importlib.util.spec_from_file_location("report_driver", Path(__file__).with_name("driver.py"))
    driver = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(driver)
    return driver


@pytest.fixture(scope="session")
def browser():
    driver = load_driver()
    if reason := driver.missing():
        pytest.skip(reason)
    page = driver.Page()
    yield page
    page.close()


@pytest.fixture(scope="session")
def make_run():
    """A posterior whose history is given, or drawn at random: a word a step, every run resampled after every step."""

    def make(num_runs=1, num_particles=64, num_steps=40, words=("so 1 + 2 = 3\n", "then 4\n", "answer: 7\n"), seed=0):
        rng = np.random.default_rng(seed)
        shape = (num_runs, num_steps, num_particles)
        log_factor = np.log(rng.uniform(0.05, 0.95, shape))
        texts = rng.choice(np.array(words, dtype=object), shape)
        ancestors = np.sort(rng.integers(num_particles, size=shape), -1)
        ancestors[:, -1] = np.arange(num_particles)
        log_weights = log_factor - np.logaddexp.reduce(log_factor, -1, keepdims=True)
        stats = StepStats(
            names=[f"accept_{step}" for step in range(num_steps)],
            ess=1 / np.exp(2 * log_weights).sum(-1),
            log_evidence_increment=np.logaddexp.reduce(log_factor, -1) - np.log(num_particles),
            resampled=np.broadcast_to(np.arange(num_steps) < num_steps - 1, shape[:2]).copy(),
            ancestors=ancestors,
            log_factor=log_factor,
            log_weights=log_weights,
            texts=StepTexts(kept=texts),
        )
        whole = np.empty((num_runs, num_particles), dtype=object)
        for run, particle in np.ndindex(whole.shape):
            slots = stats.lineages[run, :, particle]
            whole[run, particle] = "".join(texts[run, step, slot] for step, slot in enumerate(slots))
        zeros = torch.zeros(num_runs, num_particles)
        return Posterior(
            samples={},
            returns=None,
            log_weights=torch.from_numpy(log_weights[:, -1]),
            log_evidence=torch.from_numpy(stats.log_evidence_increment.sum(-1)),
            log_prior=zeros,
            log_likelihood=zeros,
            stats=stats,
            observed={name: torch.tensor(1.0) for name in stats.names},
            cost=Cost(lm_calls=3, seconds=1.5),
            settings={"algorithm": "SMC", "ess_threshold": 1.0, "versions": {"python": "3.11"}},
            written=Texts("How many?", whole, np.ones(whole.shape, dtype=np.int64)),
        )

    return make
