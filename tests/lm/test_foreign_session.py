"""A language model of the user's own, whose session counts what it forwards but not what it reads."""

import pyro
import pytest

from pyro_llm import Budget, Prices
from pyro_llm.distributions import LLM
from pyro_llm.errors import BudgetWarning
from pyro_llm.infer import SMC, Posterior
from pyro_llm.lm import TableLM
from pyro_llm.run_scope import Cost, claim, current_cost, run_scope

PROMPT_TOKENS, PARTICLES, STEPS, DRAWN = 40, 4, 3, 2
SAMPLED = PARTICLES * STEPS * DRAWN


class ForeignSession:
    """It reads the prompt anew with each call, and says so as tokens forwarded alone."""

    def __init__(self, session, reading):
        self.session, self.reading = session, reading

    def sample(self, prefix, decoding, key):
        sampled = len(prefix) * DRAWN
        spent = {"lm_calls": 1, "lm_tokens_sampled": sampled, "lm_tokens_forwarded": PROMPT_TOKENS + sampled}
        spent |= {"lm_tokens_read": PROMPT_TOKENS} if self.reading else {}
        claim(**spent)
        with run_scope():  # what the table would count is not counted
            continuation = self.session.sample(prefix, decoding, key)
        for item, amount in spent.items():
            setattr(current_cost(), item, getattr(current_cost(), item) + amount)
        return continuation

    def score(self, prefix, continuation, decoding):
        return self.session.score(prefix, continuation, decoding)

    def next_log_probs(self, prefix, decoding):
        return self.session.next_log_probs(prefix, decoding)


class ForeignLM(TableLM):
    reading = False

    def session(self):
        return ForeignSession(super().session(), self.reading)


class ReadingLM(ForeignLM):
    reading = True


def program(lm):
    state = lm.prompt("")
    for t in range(STEPS):
        state = state.append(pyro.sample(f"step_{t}", LLM(lm, state, stop=None, max_tokens=DRAWN)))
    return state


@pytest.fixture(params=[ForeignLM, ReadingLM])
def lm(request):
    return request.param(lambda tokens: [0.5, 0.5, 0.0], ["a", "b", "."], eos_token_id=2)


def test_its_reading_is_paid_as_input(lm, tmp_path):
    posterior = SMC(program, PARTICLES).run(lm)
    read = STEPS * PROMPT_TOKENS
    cost = posterior.cost
    assert (cost.lm_tokens_read, cost.lm_tokens_sampled) == (read, SAMPLED)
    assert cost.lm_tokens == read + SAMPLED
    assert Prices(lm_input=1.0, lm_output=2.0).dollars(cost) == pytest.approx((read + 2 * SAMPLED) / 1e6)
    posterior.save(tmp_path / "run.nc")
    assert Posterior.load(tmp_path / "run.nc").cost.lm_tokens == cost.lm_tokens


@pytest.mark.parametrize("item", ["lm_tokens", "dollars"])
def test_budgets_hold_for_its_reading(lm, item):
    two_steps = 2 * (PROMPT_TOKENS + PARTICLES * DRAWN)
    prices = Prices(lm_input=1.0, lm_output=1.0)
    limit = {"lm_tokens": {"lm_tokens": two_steps}, "dollars": {"dollars": two_steps / 1e6, "prices": prices}}[item]
    with pytest.warns(BudgetWarning):
        posterior = SMC(program, PARTICLES, budget=Budget(**limit)).run(lm)
    assert posterior.stopped_by == item
    assert posterior.cost.lm_tokens == two_steps


def test_costs_of_runs_add_up(lm):
    runs = [SMC(program, PARTICLES).run(lm) for _ in range(2)]
    counted = Cost(lm_tokens_read=7, lm_tokens_forwarded=9, lm_tokens_sampled=3)
    total = sum([*(run.cost for run in runs), counted])
    assert total.lm_tokens == 2 * runs[0].cost.lm_tokens + 10
