"""Answers chosen by the last reward, and programs of an algorithm's own."""

import json

import pytest

from pyro_llm.errors import StudyConfigError
from pyro_llm.lm import TableLM
from pyro_llm.rewards import FunctionReward
from pyro_llm.study import parse_config, run_study, work
from pyro_llm.study.grid import make_grid
from pyro_llm.study.problem import Problem
from pyro_llm.study.report import make_report
from pyro_llm.study.results import tabulate

LAST = "highest last reward"
TOKENS = ["x\n", "y\n", "z\n", "answer: 1", "answer: 2", "answer: 3", "?", "."]
REWARDS = {"x\n": 0.9, "y\n": 0.1, "z\n": 0.965, "x\nanswer: 1": 0.8, "y\nanswer: 2": 0.5, "z\nanswer: 3": 0.75}
PUBLISHED = {"algorithm": "SMC", "ess_threshold": 1.0, "resampling": "multinomial", "decide": LAST}


def three_ways_lm(first=(0.2, 0.2, 0.6)):
    """Writes x and answer 1, y and answer 2, or z and answer 3."""
    after = {(): [*first, 0, 0, 0, 1 - sum(first), 0]} | {(i,): [float(j == 3 + i) for j in range(8)] for i in range(3)}
    end = [0.0] * 7 + [1.0]
    return TableLM(lambda tokens: after.get(tuple(tokens), end), TOKENS, eos_token_id=7)


@pytest.fixture
def three_ways(monkeypatch):
    """Answer 1 has the highest last reward, 2 the highest last factor of potential, 3 the highest product and mass."""
    monkeypatch.setattr(work, "_lm", lambda spec: three_ways_lm())
    monkeypatch.setattr(work, "_reward", lambda spec, seed: FunctionReward(lambda text: REWARDS.get(text, 0.95)))


def small(raw, **changes):
    program = {"stop": None, "max_tokens": 1, "max_steps": 2}
    problems = {"set": "abacus", "number": 2}
    return parse_config(raw(**{"program": program, "problems": problems, "budgets": {"generations": [64]}, **changes}))


@pytest.mark.usefixtures("three_ways")
@pytest.mark.parametrize("emission", ["bernoulli", "potential", "odds"])
def test_the_last_reward_itself_decides_whatever_the_emission(raw, tmp_path, emission):
    """P(no answer 1 among 64) is 0.8^64 = 6e-7 without resampling."""
    own = {"program": {"emission": emission}}
    algorithms = {
        "mode": {"algorithm": "SMC", "ess_threshold": 0, **own},
        "last": {"algorithm": "SMC", "ess_threshold": 0, "decide": LAST, **own},
        "Gibbs": {"algorithm": "ParticleGibbs", "split": {"num_iterations": 8}, "warmup": 0, "decide": LAST, **own},
    }
    rows = run_study(small(raw, algorithms=algorithms), tmp_path, progress=False).rows
    assert not any(row.error for row in rows)
    decisions = {row.algorithm: row.decision for row in rows}
    assert (decisions["mode"], decisions["last"]) == ("3", "1")
    assert decisions["Gibbs"] in ("1", "2", "3")  # of eight draws
    by_rule = {row.algorithm: row for row in rows}
    assert by_rule["last"].probability < by_rule["mode"].probability  # the posterior's, of either answer
    assert by_rule["last"].cost["reward_calls"] == by_rule["mode"].cost["reward_calls"]


@pytest.mark.usefixtures("three_ways")
def test_the_filter_as_published_with_problems_beside_each_other(raw, tmp_path):
    config = small(raw, algorithms={"PF": {**PUBLISHED, "program": {"emission": "odds"}}}, concurrent=2)
    assert [row.decision for row in run_study(config, tmp_path, progress=False).rows] == ["1", "1"]


def test_texts_without_an_answer_are_passed_over_and_nothing_is_decided_of_the_dead(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(work, "_lm", lambda spec: three_ways_lm((0.2, 0.2, 0.2)))  # else "?", of reward 0.95
    reward = FunctionReward(lambda text: REWARDS.get(text, 0.95))
    monkeypatch.setattr(work, "_reward", lambda spec, seed: reward)
    config = small(raw, algorithms={"PF": {"algorithm": "SMC", "decide": LAST}})
    assert {row.decision for row in run_study(config, tmp_path / "a", progress=False).rows} == {"1"}
    reward = FunctionReward(lambda text: 0.0)
    rows = run_study(config, tmp_path / "b", progress=False).rows
    assert all("AllParticlesDeadError" in row.error and not row.right for row in rows)


def test_programs_of_an_algorithm_enter_its_cells_alone(raw):
    entry = {"algorithm": "SMC", "program": {"emission": "odds", "max_steps": 3}}
    config = parse_config(
        raw(
            algorithms={"PF": {"algorithm": "SMC"}, "odds": entry, "entropic": {**entry, "algorithm": "EntropicSMC"}},
            variants={"as it is": {}, "hot": {"program": {"temperature": 2.0}}},
        )
    )
    found = {(cell.variant, cell.algorithm): cell.setting.program for cell in make_grid(config)[0]}
    assert [(one["emission"], one["max_steps"], one["temperature"]) for one in found.values()] == [
        ("bernoulli", 1, 1.0), ("odds", 3, 1.0), ("odds", 3, 1.0),
        ("bernoulli", 1, 2.0), ("odds", 3, 2.0), ("odds", 3, 2.0),
    ]  # fmt: skip


def test_only_what_is_given_enters_the_key(raw):
    def cell(**options):
        return make_grid(parse_config(raw(algorithms={"PF": {"algorithm": "SMC", **options}})))[0][0]

    problem = Problem("1+1", "2", "a")
    plain, decides, odds = cell(), cell(decide=LAST), cell(program={"emission": "odds"})
    assert "decide" not in json.loads(plain._identity) and json.loads(decides._identity)["decide"] == LAST
    assert len({one.key(problem) for one in (plain, decides, odds)}) == 3
    assert cell(decide=None, program={}).key(problem) == plain.key(problem)


@pytest.mark.usefixtures("three_ways")
def test_both_are_shown_in_the_configuration(raw, tmp_path):
    algorithms = {"PF": {"algorithm": "SMC"}, "theirs": {**PUBLISHED, "program": {"emission": "odds"}}}
    study = run_study(small(raw, algorithms=algorithms), tmp_path, progress=False)
    stored = json.loads((tmp_path / "study.json").read_text())["algorithms"]
    assert stored == {"PF": {"algorithm": "SMC", "split": {}}, "theirs": {**algorithms["theirs"], "split": {}}}
    page = make_report(tabulate(study)).html()
    assert page.count(LAST) == 1 and "&#34;emission&#34;: &#34;odds&#34;" in page


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"decide": "last"}, "algorithms.a.decide: it should be 'highest last reward'"),
        ({"algorithm": "BestOfN", "decide": LAST}, "a: decide: .*BestOfN is a search, which decides by a rule of its"),
        ({"program": {"emision": "odds"}}, "a: program: unknown key 'emision', did you mean 'emission'"),
        ({"program": {"emission": "odd"}}, "a: program: emission: it should be 'bernoulli'"),
        ({"program": {"temperature": 0.0}}, "a: program: .*temperature must be positive"),
        ({"program": {"stop": ""}}, "a: program: a stop string is empty"),
        ({"program": 3}, "algorithms.a.program: it should be a"),
    ],
)
def test_what_is_wrong_is_found_before_anything_runs(raw, entry, message):
    with pytest.raises(StudyConfigError, match=message):
        make_grid(parse_config(raw(algorithms={"a": {"algorithm": "SMC", **entry}})))
