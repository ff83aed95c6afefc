"""Votes in a program: the factors of all steps make up the likelihood ratio of the whole text."""

import math
import warnings

import pyro
import pyro.poutine as poutine
import pytest
import torch

import pyro_llm
from pyro_llm import Budget
from pyro_llm.distributions import LLM
from pyro_llm.errors import BudgetWarning, LowSampleSizeWarning, OptionError, RewardError
from pyro_llm.infer import SMC, Importance
from pyro_llm.raters import RaterPosterior, Vote, VoteLikelihood, Votes, condition_on_votes, observe, without_votes
from pyro_llm.rewards import FunctionReward

ANN = RaterPosterior.known({"Ann": 0.9}, {"Ann": 0.8})
VOTES = Votes(
    (
        Vote(prefix="a\n", vote="yes", rater="Ann"),
        Vote(prefix="b", vote="no", rater="Ann"),
        Vote(prefix="a\nb\n", vote="no", rater="Ann"),
    )
)
LIKELIHOOD = VoteLikelihood(VOTES, ANN)


def program(lm, votes, steps=3):
    state = lm.prompt("?")
    for t in range(steps):
        state = state.append(pyro.sample(f"step_{t}", LLM(lm, state, stop="\n", max_tokens=2)))
        if votes is not None:
            pyro_llm.observe_votes(f"votes_{t}", votes, state)
        if state.finished.all():
            break
    return state


@pytest.mark.parametrize("max_tokens", [1, 2])
@pytest.mark.parametrize("votes", [LIKELIHOOD, VOTES], ids=["likelihood", "votes alone"])
def test_the_factors_telescope(lm, votes, max_tokens):
    """Token by token a prefix may come to match and cease to: "b" is all of "b", and no beginning of "ba"."""
    pyro.set_rng_seed(0)
    texts = torch.randint(0, 4, (200, 6))

    def model():
        state = lm.prompt("?")
        for t in range(6 // max_tokens):
            step = texts[:, t * max_tokens : (t + 1) * max_tokens]
            state = state.append(torch.where(state.finished.expand(200)[:, None], -1, step))
            pyro_llm.observe_votes(f"votes_{t}", votes, state)
            observe._by_prior.cache_clear()  # as if others had voted in the meantime
        return state

    trace = poutine.trace(model).get_trace()
    trace.compute_log_prob()
    total = sum(trace.nodes[name]["log_prob"] for name in trace.observation_nodes)
    state = trace.nodes["_RETURN"]["value"]
    likelihood = votes if votes is LIKELIHOOD else VoteLikelihood(VOTES)
    torch.testing.assert_close(total, likelihood.log_ratio(list(state.texts), "?"))
    assert len(total.unique()) >= 4  # several votes matched


def test_evidence_against_enumeration(lm):
    """Z-tests of 4 on the evidence of a run with 4,000 particles (a false alarm in 6 of 100,000)."""
    exact, square = 0.0, 0.0
    for tokens, log_probability in lm.enumerate(max_tokens=4):
        ratio = float(LIKELIHOOD.log_ratio([lm.decode(list(tokens))], "?").exp())
        exact += math.exp(log_probability) * ratio
        square += math.exp(log_probability) * ratio**2

    def whole(lm):
        state = lm.prompt("?")
        state = state.append(pyro.sample("text", LLM(lm, state, stop=None, max_tokens=4)))
        pyro_llm.observe_votes("votes", LIKELIHOOD, state)
        return state

    pyro.set_rng_seed(1)
    run = Importance(whole, num_particles=4000).run(lm)
    assert abs(float(run.log_evidence.exp()) - exact) < 4 * math.sqrt((square - exact**2) / 4000)


def test_reweighting_a_run_is_running_with_the_votes(lm):
    """The same target by three ways; differences of independent estimates over 20 runs each, z-test of 4."""
    estimates = []
    for seed, (votes, after) in enumerate([(None, True), (LIKELIHOOD, False)]):
        pyro.set_rng_seed(seed)
        run = SMC(program, num_particles=200, num_runs=20).run(lm, votes)
        run = condition_on_votes(run, LIKELIHOOD) if after else run
        share = [
            float((run.log_weights[r].exp() * torch.tensor([t.startswith("a\n") for t in run.texts[r]])).sum())
            for r in range(20)
        ]
        estimates.append((torch.tensor(share), run.log_evidence.exp()))
    for one, other in zip(*estimates, strict=True):
        error = float((one.var() / 20 + other.var() / 20).sqrt())
        assert abs(float(one.mean() - other.mean())) < 4 * error
    back = without_votes(run, LIKELIHOOD)
    plain = SMC(program, num_particles=200, num_runs=20).run(lm, None)
    shares = [
        (one.log_weights.exp() * torch.tensor([[t.startswith("a\n") for t in row] for row in one.texts])).sum(-1)
        for one in (back, plain)
    ]
    error = float(sum(share.var() / 20 for share in shares).sqrt())
    assert abs(float(shares[0].mean() - shares[1].mean())) < 4 * error
    share = torch.tensor([[t.startswith("a\n") for t in row] for row in plain.texts]).double().mean()
    assert abs(float(estimates[0][0].mean() - share)) > 0.02  # the votes do something


def test_votes_alone_are_judged_by_the_prior_and_cost_no_site_where_there_are_none(lm):
    trace = poutine.trace(program).get_trace(lm, VOTES, steps=1)
    assert trace.observation_nodes == ["votes_0"]
    assert poutine.trace(program).get_trace(lm, Votes()).observation_nodes == []
    elsewhere = Votes((Vote(prefix="a", vote="no", problem="another"),))
    assert poutine.trace(program).get_trace(lm, elsewhere).observation_nodes == []
    two_steps = SMC(program, num_particles=8, ess_threshold=1.0).run(lm, VOTES, steps=3)
    assert two_steps.stats.num_steps >= 2


def test_a_likelihood_made_anew_in_each_step_is_the_same(lm):
    """Were it another one at each step, its votes would count once for every step."""

    def anew(lm):
        state = lm.prompt("?")
        for t, step in enumerate(([[0, 2]], [[1, 2]], [[3, -1]])):
            state = state.append(torch.tensor(step))
            pyro_llm.observe_votes(f"votes_{t}", VoteLikelihood(VOTES), state)
        return state

    trace = poutine.trace(anew).get_trace(lm)
    total = sum(node["fn"].log_prob(node["value"]).item() for name, node in trace.nodes.items() if "votes" in name)
    assert total == pytest.approx(VoteLikelihood(VOTES).log_ratio(["a\nb\n"], "?").item())


@pytest.mark.parametrize("algorithm", [SMC, Importance])
def test_votes_that_a_program_observed_do_not_count_twice(lm, algorithm):
    """The program's own statement leaves the mark, whoever wrote the program."""
    pyro.set_rng_seed(0)
    run = algorithm(program, num_particles=20).run(lm, LIKELIHOOD)
    assert run.settings["votes"] == 3
    with pytest.raises(OptionError, match="3 votes already"):
        condition_on_votes(run, LIKELIHOOD)
    condition_on_votes(without_votes(run, LIKELIHOOD), LIKELIHOOD)
    assert "votes" not in algorithm(program, num_particles=20).run(lm, None).settings


def test_all_votes_of_a_program_are_told_in_each_run_by_itself(lm):
    more = VoteLikelihood(Votes((Vote(prefix="b\n", vote="no", rater="Ann", problem="?"),)), ANN)

    def both(problem):
        state = lm.prompt(problem)
        for t in range(2):
            state = state.append(pyro.sample(f"step_{t}", LLM(lm, state, stop="\n", max_tokens=2)))
            pyro_llm.observe_votes(f"votes_{t}", LIKELIHOOD, state)
            pyro_llm.observe_votes(f"more_{t}", more, state)
        return state

    runs = SMC(both, num_particles=4, progress=False).run_each(["?", "!"], seeds=[0, 1])
    assert [run.settings["votes"] for run in runs] == [4, 3]


def stopped_at_first_judgement(lm, **options):
    """What a run has whose reward fails at the first judgement; the votes on the step come after it."""

    def fail(text):
        raise RewardError("no more")

    def judged(lm):
        state = lm.prompt("?")
        for t in range(3):
            state = state.append(pyro.sample(f"step_{t}", LLM(lm, state, stop="\n", max_tokens=2)))
            pyro_llm.accept(f"accept_{t}", FunctionReward(fail), state)
            pyro_llm.observe_votes(f"votes_{t}", LIKELIHOOD, state)
        return state

    pyro.set_rng_seed(0)
    with pytest.raises(RewardError) as raised:
        SMC(judged, num_particles=8, **options).run(lm)
    return raised.value.posterior


def test_votes_that_a_stopped_run_did_not_weigh_are_not_told(lm):
    """Its program is brought to its end past the statement, where nothing is folded any more."""
    run = stopped_at_first_judgement(lm)
    assert run.stopped_by == "reward"
    assert not run.log_likelihood.any()
    assert "votes" not in run.settings
    assert torch.equal(without_votes(run, LIKELIHOOD).log_weights, run.log_weights)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LowSampleSizeWarning)
        conditioned = condition_on_votes(run, LIKELIHOOD)
    ratio = LIKELIHOOD.log_ratio(run.texts.reshape(-1).tolist(), "?").reshape(run.log_weights.shape)
    assert len(ratio.unique()) > 1
    torch.testing.assert_close(conditioned.log_likelihood, ratio)
    # Votes that were put on whole texts come off again, of a stopped run as well.
    torch.testing.assert_close(without_votes(conditioned, LIKELIHOOD).log_weights, run.log_weights)


@pytest.mark.parametrize("algorithm", [SMC, Importance])
def test_votes_of_a_stopped_run_cannot_be_taken_off(lm, algorithm):
    """Stopped after the first step: its votes are in the weights, those of the step that was being written are not."""
    run = None
    for tokens in range(12, 40):
        pyro.set_rng_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BudgetWarning)
            run = algorithm(program, num_particles=8, budget=Budget(lm_tokens=tokens)).run(lm, LIKELIHOOD)
        if run.settings.get("votes") and run.stopped_by is not None:
            break
    assert run.stopped_by == "lm_tokens"
    assert run.settings["votes"] == 3
    for refuse in (without_votes, condition_on_votes):
        with pytest.raises(OptionError, match=r"stopped by 'lm_tokens'.*Run the program without a budget"):
            refuse(run, LIKELIHOOD)
    unspent = algorithm(program, num_particles=8, budget=Budget(lm_tokens=10_000)).run(lm, LIKELIHOOD)
    assert without_votes(unspent, LIKELIHOOD).settings["votes"] == 0


def test_a_budget_spent_before_the_first_votes(lm):
    with pytest.warns(BudgetWarning):
        run = SMC(program, num_particles=8, budget=Budget(lm_tokens=3)).run(lm, LIKELIHOOD)
    assert not run.log_likelihood.any()
    assert "votes" not in run.settings
    assert torch.equal(without_votes(run, LIKELIHOOD).log_weights, run.log_weights)


def test_votes_are_taken_off_once(lm):
    run = SMC(program, num_particles=8).run(lm, LIKELIHOOD)
    once = without_votes(run, LIKELIHOOD)
    assert not torch.equal(once.log_weights, run.log_weights)
    assert torch.equal(without_votes(once, LIKELIHOOD).log_weights, once.log_weights)
