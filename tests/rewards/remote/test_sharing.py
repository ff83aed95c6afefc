"""One remote reward asked by many runs at once: one limit, each text once."""

import pickle
import threading
import time

import pytest
import torch

from pyro_llm.budget import Budget
from pyro_llm.errors import FailedRunsError, RemoteRewardError
from pyro_llm.infer import SMC
from pyro_llm.models import ReasoningSSM
from pyro_llm.rewards import HttpOptions, JsonEndpoint, RemoteReward
from pyro_llm.rewards.remote import Item
from pyro_llm.run_scope import BudgetSpent, RunScope, run_scope


def slow(serve, seconds=0.03):
    def behave(number, path, payload):
        time.sleep(seconds)
        return serve.scored(number, path, payload)

    return serve(behave)


def single(server, **http):
    return RemoteReward(server.url, JsonEndpoint(batch_size=1), HttpOptions(timeout=5, retries=0, **http))


def filter_of(lm, reward, **options):
    program = ReasoningSSM(lm, reward, max_steps=3, max_tokens=1, stop=None)
    return SMC(program, num_particles=4, progress=False, **options)


def test_runs_made_together_share_the_limit_and_the_texts(serve, lm):
    server = slow(serve)
    reward = single(server, max_concurrency=2)
    posteriors = filter_of(lm, reward).run_each(["1 + 1"] * 6, concurrent=6, seeds=range(6))
    assert server.most_at_once == 2
    assert len(server.texts) == len(set(server.texts)) >= 4
    assert sum(posterior.cost.reward_calls for posterior in posteriors) == len(server.texts)
    alone = filter_of(lm, single(serve())).run_each(["1 + 1"] * 6, concurrent=1, seeds=range(6))
    for one, other in zip(posteriors, alone, strict=True):
        assert one.texts.tolist() == other.texts.tolist()
        torch.testing.assert_close(one.log_weights, other.log_weights)


def test_who_waits_for_a_text_that_fails_fails_too_and_asks_no_more(serve, lm):
    def behave(number, path, payload):
        time.sleep(0.05)
        return 403, {}, b"no"

    server = serve(behave)
    with pytest.raises(FailedRunsError) as error:
        filter_of(lm, single(server)).run_each(["1 + 1"] * 3, concurrent=3, seeds=[0, 0, 0])
    failures = [outcome.error for outcome in error.value.outcomes]
    assert [type(failure) for failure in failures] == [RemoteRewardError] * 3
    assert failures[0].texts == failures[1].texts == failures[2].texts
    assert sorted(server.texts) == sorted(failures[0].texts)


def test_a_text_whose_asker_is_stopped_is_asked_for_by_who_waits(serve):
    """The first thread has the text to itself when its budget ends it; the second goes on and asks."""
    server = serve()
    reward = single(server)
    taken, go_on = threading.Event(), threading.Event()
    share_out = reward._scores.share_out

    def watched(items):
        shares = share_out(items)
        if shares.own and not taken.is_set():
            taken.set()
            go_on.wait(5)
        return shares

    reward._scores.share_out = watched
    stopped, found = [], []

    def first():
        with run_scope(RunScope(budget=Budget(reward_calls=1))):
            try:
                reward.score([Item("?", "a"), Item("?", "b")])
            except BudgetSpent as stop:
                stopped.append(stop)

    threads = [threading.Thread(target=first)]
    threads[0].start()
    assert taken.wait(5)
    threads.append(threading.Thread(target=lambda: found.append(reward.score([Item("?", "a")]))))
    threads[1].start()
    time.sleep(0.05)
    assert server.texts == []
    go_on.set()
    for thread in threads:
        thread.join(5)
    assert len(stopped) == 1
    assert found == [pytest.approx([torch.logit(torch.tensor(serve.probability("a"))).item()])]
    assert server.texts == ["a"]


def test_what_is_known_travels_and_who_waits_does_not(serve, lm):
    server = serve()
    reward = single(server)
    state = lm.prompt("?").append(torch.tensor([[0], [1]]))
    reward(state)
    reward._scores.share_out([Item("?", "ab")])  # somebody is asking for it, here
    other = pickle.loads(pickle.dumps(reward))
    torch.testing.assert_close(other(state), reward(state))
    assert len(other.score([Item("?", "ab")])) == 1
    assert sorted(server.texts) == ["a", "ab", "b"]
