"""A server that comes to refuse in the middle of a run: the run keeps what it has."""

import pickle

import pytest
import torch

from pyro_llm.budget import Budget
from pyro_llm.diagnostics.display import stop_line
from pyro_llm.errors import FailedRunsError, RemoteRewardError
from pyro_llm.infer import SMC, BestOfN, Importance, Posterior
from pyro_llm.models import ReasoningSSM
from pyro_llm.rewards import HttpOptions, RemoteReward


@pytest.fixture
def refusing(serve):
    """Scores texts of two tokens at most, and refuses those that are longer, of problems that are not easy."""

    def behave(number, path, payload):
        hard = "easy" not in payload["problems"]
        if hard and any(len(text) > 2 for text in payload["texts"]):
            return 503, {}, b"overloaded"
        return serve.scored(number, path, payload)

    return serve(behave)


def program(lm, server, max_steps=5):
    reward = RemoteReward(server.url, http=HttpOptions(timeout=5, retries=1, backoff=0.01))
    return ReasoningSSM(lm, reward, max_steps=max_steps, max_tokens=1, stop=None)


def failed(algorithm):
    torch.manual_seed(3)
    with pytest.raises(RemoteRewardError, match="HTTP 503") as error:
        algorithm.run("hard")
    return error.value


@pytest.mark.parametrize("options", [{}, {"ess_threshold": 1.0}, {"num_runs": 3}, {"budget": Budget(reward_calls=100)}])
def test_what_is_left_is_the_run_up_to_the_failed_judgement(serve, refusing, lm, options, tmp_path):
    error = failed(SMC(program(lm, refusing), num_particles=20, progress=False, **options))
    left = error.posterior
    assert left.stopped_by == "reward"
    assert left.stats.num_steps == 2
    assert set(error.texts) <= set(left.texts.flat)
    torch.manual_seed(3)
    whole = SMC(program(lm, serve(), max_steps=2), num_particles=20, progress=False, **options).run("hard")
    torch.testing.assert_close(left.log_evidence, whole.log_evidence)
    assert left.cost.reward_calls == whole.cost.reward_calls == 2
    assert "reward-failed" in left.diagnose().names and "unfinished-texts" not in left.diagnose().names
    assert "a reward failed" in stop_line(left)
    left.save(tmp_path / "left.nc")
    assert Posterior.load(tmp_path / "left.nc").stopped_by == "reward"


def test_weights_are_those_before(serve, refusing, lm):
    left = failed(Importance(program(lm, refusing), num_particles=20, progress=False)).posterior
    torch.manual_seed(3)
    whole = Importance(program(lm, serve(), max_steps=2), num_particles=20, progress=False).run("hard")
    torch.testing.assert_close(left.log_weights, whole.log_weights)
    assert [text[:2] for text in left.texts.flat] == [text[:2] for text in whole.texts.flat]
    assert max(map(len, left.texts.flat)) == 3


def test_a_search_keeps_what_it_has_too(refusing, lm):
    left = failed(BestOfN(program(lm, refusing), num_particles=8, progress=False)).posterior
    assert left.is_search and left.stopped_by == "reward"


def test_beside_others_that_go_on(refusing, lm):
    smc = SMC(program(lm, refusing), num_particles=10, progress=False)
    with pytest.raises(FailedRunsError) as error:
        smc.run_each(["easy", "hard", "easy"], seeds=[1, 2, 3])
    easy, hard, other = error.value.outcomes
    assert easy.posterior.stopped_by is other.posterior.stopped_by is None
    assert easy.posterior.stats.num_steps > 2
    assert hard.posterior is None
    assert hard.error.posterior.stopped_by == "reward" and hard.error.posterior.stats.num_steps == 2


def test_errors_travel_between_processes_without_it(refusing, lm):
    error = failed(SMC(program(lm, refusing), num_particles=10, progress=False))
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.texts, copy.posterior) == (str(error), error.texts, None)
    assert copy.__notes__ == error.__notes__


def test_before_the_first_judgement_all_weigh_the_same(serve, lm):
    server = serve(lambda *request: (503, {}, b"no"))
    left = failed(SMC(program(lm, server), num_particles=4, progress=False)).posterior
    assert left.stats.num_steps == 0
    assert left.ess().tolist() == [4.0]
    assert failed(BestOfN(program(lm, server), num_particles=4, progress=False)).posterior.is_search
