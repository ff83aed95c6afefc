"""What `reward:` and `split:` of a configuration mean."""

import pytest

from pyro_llm.errors import StudyConfigError
from pyro_llm.rewards import ArithmeticReward, Disturbed
from pyro_llm.study import parse_config
from pyro_llm.study.grid import make_grid
from pyro_llm.study.models import load_study_reward
from pyro_llm.study.split import DoesNotFit, sizes_for
from pyro_llm.study.work import program

GIBBS = ["num_particles", "num_iterations", "num_chains"]


def config(**changes):
    return parse_config(
        {"algorithms": {"PF": {"algorithm": "SMC"}}, "budgets": {"generations": [8]}, "seeds": [0, 1]} | changes
    )


def test_a_verifier_is_a_reward():
    assert load_study_reward({"load": "arithmetic", "wrong": 0.1}) == ArithmeticReward(wrong=0.1)
    with pytest.raises(StudyConfigError, match=r"reward: arithmetic: .*wrog"):
        load_study_reward({"load": "arithmetic", "wrog": 0.1})


def test_each_repetition_has_another_disturbance_of_the_same_reward():
    disturbance = {"kind": "gaussian", "size": 1.0}
    cells, _ = make_grid(config(reward={"load": "arithmetic", "disturbance": disturbance}))
    rewards = [program(cell.setting, cell.seed).reward for cell in cells]
    assert rewards == [Disturbed(ArithmeticReward(), **disturbance, seed=seed) for seed in (0, 1)]
    assert rewards[0].reward is rewards[1].reward


@pytest.mark.parametrize(
    ("disturbance", "message"),
    [
        ("gaussian", "is no mapping"),
        ({"kind": "gaussian"}, "size"),
        ({"kind": "loud", "size": 1.0}, "There is no kind='loud'"),
    ],
)
def test_bad_disturbances(disturbance, message):
    with pytest.raises(StudyConfigError, match=message):
        load_study_reward({"load": "arithmetic", "disturbance": disturbance})


def test_schedules_are_scaled_to_the_budget():
    schedule = {"num_particles": [2, 1, 1]}
    assert sizes_for(64, GIBBS, schedule, {}) == {"num_particles": [32, 16, 16], "num_iterations": 3}
    assert sizes_for(64, GIBBS, schedule, {}, warmup=1) == {"num_particles": [32, 16, 16], "num_iterations": 2}
    assert sizes_for(64, GIBBS, schedule | {"num_chains": 2}, {}) == {
        "num_chains": 2,
        "num_particles": [16, 8, 8],
        "num_iterations": 3,
    }
    with pytest.raises(DoesNotFit, match="no multiple of the 4"):
        sizes_for(62, GIBBS, schedule, {})
    for fixed, warmup in ((schedule | {"num_iterations": 3}, 0), (schedule, 3)):
        with pytest.raises(StudyConfigError, match="a schedule is of an algorithm with iterations"):
            sizes_for(64, GIBBS, fixed, {}, warmup)
    with pytest.raises(StudyConfigError, match="a schedule is of"):
        sizes_for(64, ["num_particles", "num_runs"], schedule, {})


def test_a_schedule_in_a_study():
    gibbs = {"algorithm": "ParticleGibbs", "split": {"num_particles": [2, 1, 1]}, "warmup": 0, "keep": "population"}
    cells, skipped = make_grid(config(algorithms={"wide first": gibbs}, budgets={"generations": [2, 16]}))
    assert [cell.options["num_particles"] for cell in cells] == [[8, 4, 4]] * 2
    assert [one.budget for one in skipped] == [2]


def test_an_algorithm_that_fits_no_budget_says_why_for_each():
    raw = {"algorithms": {"Gibbs": {"algorithm": "ParticleGibbs", "split": {"num_particles": 4}}}}
    with pytest.raises(StudyConfigError) as raised:
        make_grid(parse_config(raw | {"budgets": {"generations": [1, 4, 6]}}))
    assert str(raised.value) == (
        "algorithms: Gibbs: it fits no budget of the study: 1 generation is fewer than the 4 that are fixed; "
        "4 generations are 1 iteration of 4, and 1 is warm-up: none is left; it takes 8 or more; "
        "6 generations are no multiple of the 4 that are fixed."
    )
    assert [cell.budget for cell in make_grid(parse_config(raw | {"budgets": {"generations": [4, 8]}}))[0]] == [8]
