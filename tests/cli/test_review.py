"""`pyro-llm review`: questions answered from standard input, votes in the file at once, the posterior given them."""

import json
import math

import pyro
import pytest
import torch
from typer.testing import CliRunner

from pyro_llm.cli import app
from pyro_llm.distributions import LLM
from pyro_llm.infer import SMC, Posterior
from pyro_llm.lm import TableLM
from pyro_llm.raters import (
    RaterPosterior,
    RaterPrior,
    Vote,
    VoteLikelihood,
    Votes,
    append_vote,
    condition_on_votes,
    load_votes,
    observe_votes,
    without_votes,
)

# "x" or "y" in the first line, then "answer: 1" or "answer: 2"; the end.
LM = TableLM(
    lambda tokens: [0.6, 0.4, 0, 0, 0] if not tokens else [0, 0, 0.5, 0.5, 0] if len(tokens) == 1 else [0, 0, 0, 0, 1],
    ["x\n", "y\n", "answer: 1", "answer: 2", "<eos>"],
    eos_token_id=4,
)


def program(problem):
    state = LM.prompt(problem)
    return state.append(pyro.sample("text", LLM(LM, state, stop=None, max_tokens=3)))


@pytest.fixture
def run(tmp_path):
    pyro.set_rng_seed(0)
    SMC(program, num_particles=50, num_runs=2, progress=False).run("which?").save(tmp_path / "run.nc")
    return tmp_path / "run.nc"


def invoke(*arguments, said=""):
    return CliRunner().invoke(app, ["review", *map(str, arguments)], input=said)


def flat(text):
    return " ".join(text.split())


def records(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_votes_are_asked_for_written_and_taken_into_account(run, tmp_path):
    result = invoke(run, "--rater", "Ann", "--count", 3, "--out", tmp_path / "after.nc", said="y\nperhaps\nskip\nno\n")
    assert result.exit_code == 0, result.output
    votes = records(run.with_suffix(".votes.jsonl"))
    assert [vote["vote"] for vote in votes] == ["yes", "skip", "no"]
    assert len({vote["prefix"] for vote in votes}) == 3
    assert all(vote["rater"] == "Ann" and vote["problem"] == "which?" for vote in votes)
    assert all(line in result.stdout for line in votes[0]["prefix"].splitlines())
    assert "Answer y, n, s or q." in result.stdout
    assert "2 votes on this problem, ESS of all runs 100.0 before and" in flat(result.stdout)

    after = Posterior.load(tmp_path / "after.nc")
    assert after.settings["votes"] == 2
    likelihood = VoteLikelihood(
        load_votes(run.with_suffix(".votes.jsonl")), RaterPosterior.from_prior(("Ann",), RaterPrior.of_reliability(0.9))
    )
    expected = condition_on_votes(Posterior.load(run), likelihood)
    torch.testing.assert_close(after.log_weights, expected.log_weights)


def test_the_answers_are_what_the_votes_make_of_them(run, tmp_path):
    """A voter known to be right 9 times of 10 says no to "x, answer: 1": a factor of 0.1 / 0.5 on those particles."""
    RaterPosterior.known({"Ann": 0.9}, {"Ann": 0.9}).save(tmp_path / "ann.nc")
    votes = tmp_path / "votes.jsonl"
    votes.write_text('{"prefix": "x\\nanswer: 1", "vote": "no", "rater": "Ann"}\n')
    result = invoke(run, "--votes", votes, "--raters", tmp_path / "ann.nc", "--count", 0, "--rater", "Ann")
    assert result.exit_code == 0, result.output
    texts = Posterior.load(run).texts.reshape(-1)
    weights = torch.tensor([0.2 if text == "x\nanswer: 1" else 1.0 for text in texts])
    one = torch.tensor([text.endswith("1") for text in texts])
    before, after = one.double().mean(), weights[one].sum() / weights.sum()
    assert f"1 {before:.3f} {after:.3f}" in flat(result.stdout)
    entropies = [-sum(p * math.log(p) for p in (float(share), 1 - float(share))) for share in (before, after)]
    assert f"entropy, nats {entropies[0]:.3f} {entropies[1]:.3f}" in flat(result.stdout)
    assert len(records(votes)) == 1


@pytest.mark.parametrize("said", ["", "q\n"])
def test_nobody_has_to_vote(run, said):
    result = invoke(run, said=said)
    assert result.exit_code == 0, result.output
    assert not run.with_suffix(".votes.jsonl").exists()
    assert "0 votes on this problem" in result.stdout


def test_it_ends_when_nothing_is_left_to_ask_and_goes_on_from_the_file(run):
    result = invoke(run, "--count", 100, said="s\n" * 100)
    assert "No vote on any prefix would tell more" in result.stdout
    asked = records(run.with_suffix(".votes.jsonl"))
    assert 4 <= len(asked) <= 6  # prefixes that say nothing of the answer, by symmetry, may be left out
    again = invoke(run, "--count", 100, said="n\n")
    assert "prefix 1 of" not in again.stdout
    other = invoke(run, "--rater", "Bob", "--count", 1, said="n\n")
    assert "1 vote on this problem" in other.stdout


def test_a_low_sample_size_is_told(tmp_path):
    """A voter who hardly ever errs leaves one text of four, of fewer than ten particles."""
    pyro.set_rng_seed(0)
    SMC(program, num_particles=30, progress=False).run("which?").save(tmp_path / "run.nc")
    RaterPosterior.known({"Ann": 0.999}, {"Ann": 0.9999}).save(tmp_path / "ann.nc")
    texts = Posterior.load(tmp_path / "run.nc").texts.reshape(-1).tolist()
    rarest = min(set(texts), key=texts.count)
    votes = tmp_path / "votes.csv"
    votes.write_text("prefix,vote,rater\n" + "".join(f'"{text}",no,Ann\n' for text in set(texts) - {rarest}))
    result = invoke(tmp_path / "run.nc", "--votes", votes, "--raters", tmp_path / "ann.nc", "--count", 0)
    assert result.exit_code == 0, result.output
    few = texts.count(rarest)
    assert few < 10
    assert f"ESS of all runs 30.0 before and {few}." in flat(result.stdout)
    assert "observe_votes" in flat(result.stderr)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["none.nc"], "There is no file"),
        (["RUN", "--out", "x.txt"], "must end in .nc"),
        (["RUN", "--votes", "/nonexistent/votes.jsonl"], "there is no folder"),
        (["RUN", "--votes", "bad.jsonl"], "line 1: vote"),
        (["RUN", "--reliability", "1"], "above 0 and below 1"),
        (["RUN", "--raters", "bad.jsonl"], "not a netCDF file"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(run, arguments, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_text('{"prefix": "a"}\n')
    result = invoke(*[str(run) if argument == "RUN" else argument for argument in arguments])
    assert result.exit_code == 2, result.output
    assert reason in flat(result.stderr)


def test_a_misspelt_file_of_votes_is_told_of(run, tmp_path):
    missing = tmp_path / "votse.jsonl"
    result = invoke(run, "--votes", missing, "--count", 0)
    assert result.exit_code == 2
    assert "There is no file of votes" in flat(result.stderr)
    result = invoke(run, "--votes", missing, said="q\n")
    assert result.exit_code == 0, result.output
    assert "the first vote begins it" in flat(result.stderr)


def test_votes_that_end_within_a_line_are_told_of(run, tmp_path):
    votes = tmp_path / "votes.jsonl"
    lines = [{"prefix": prefix, "vote": "no", "rater": "Ann"} for prefix in ("x\nans", "x\n", "elsewhere")]
    votes.write_text("\n".join(map(json.dumps, lines)) + "\n")
    result = invoke(run, "--votes", votes, "--count", 0)
    assert result.exit_code == 0, result.output
    assert "end within a line of the texts of this run" in flat(result.stderr)
    assert r"'x\nans'" in result.stderr
    assert "elsewhere" not in result.stderr


PROBLEM = "What is 34 - 12?"
SMALL = ["--particles", 8, "--runs", 2, "--max-steps", 3, "--max-tokens", 12, "--temperature", 2, "--seed", 7]


def solve(*arguments):
    return CliRunner().invoke(app, ["solve", PROBLEM, *map(str, [*SMALL, *arguments])])


def test_votes_steer_a_run_and_count_once_in_its_review(tmp_path):
    """A vote goes into `solve`; in a review by the same file it is not counted twice."""
    plain, steered, votes = tmp_path / "plain.nc", tmp_path / "steered.nc", tmp_path / "votes.jsonl"
    assert solve("--out", plain).exit_code == 0
    first = Posterior.load(plain).texts[0, 0].split("\n")[0]
    append_vote(votes, Vote(prefix=first, vote="no", rater="Ann", problem=PROBLEM))
    result = solve("--votes", votes, "--reliability", 0.95, "--out", steered)
    assert result.exit_code == 0, result.output

    run = Posterior.load(steered)
    (vote,) = load_votes(votes).votes
    likelihood = VoteLikelihood(load_votes(votes), RaterPosterior.from_prior(("Ann",), RaterPrior.of_reliability(0.95)))
    assert run.settings["votes"] == 1
    assert run.settings["command"]["votes"]["votes"] == [vote.model_dump()]
    unvoted = without_votes(run, likelihood)
    ratio = likelihood.log_ratio(run.texts.reshape(-1).tolist(), PROBLEM).reshape(run.log_weights.shape)
    assert len(ratio.unique()) == 2  # some texts begin as the one voted on, others do not
    torch.testing.assert_close(run.log_likelihood - unvoted.log_likelihood, ratio)

    result = invoke(steered, "--votes", votes, "--reliability", 0.95, "--rater", "Ann", "--count", 0, "--out", plain)
    assert result.exit_code == 0, result.output
    assert "1 vote on this problem" in result.stdout
    torch.testing.assert_close(Posterior.load(plain).log_weights, run.log_weights)
    bob = invoke(plain, "--votes", votes, "--rater", "Bob", "--count", 1, said="y\n")  # of a run that was reviewed
    assert bob.exit_code == 0, bob.output
    assert "2 votes on this problem" in bob.stdout


def test_raters_that_have_changed_since_are_told_of(tmp_path):
    votes, ann, run = tmp_path / "votes.jsonl", tmp_path / "ann.nc", tmp_path / "run.nc"
    votes.write_text('{"prefix": "34 - 12 = 22\\n", "vote": "yes", "rater": "Ann"}\n')
    RaterPosterior.known({"Ann": 0.9}, {"Ann": 0.9}).save(ann)
    assert solve("--votes", votes, "--raters", ann, "--out", run).exit_code == 0
    assert invoke(run, "--votes", votes, "--raters", ann, "--rater", "Ann", "--count", 0).exit_code == 0
    RaterPosterior.known({"Ann": 0.8}, {"Ann": 0.9}).save(ann)
    result = invoke(run, "--votes", votes, "--raters", ann, "--rater", "Ann", "--count", 0)
    assert result.exit_code == 2
    assert "has changed or is gone since" in flat(result.stderr)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--votes", "none.jsonl"], "Cannot read votes"),
        (["--votes", "bad.jsonl"], "line 1: vote"),
        (["--votes", "good.jsonl", "--reliability", 1], "above 0 and below 1"),
        (["--votes", "good.jsonl", "--raters", "bad.jsonl"], "not a netCDF file"),
        (["--raters", "ann.nc"], "give their --votes too"),
    ],
)
def test_votes_that_solve_cannot_use(arguments, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_text('{"prefix": "a"}\n')
    (tmp_path / "good.jsonl").write_text('{"prefix": "a", "vote": "yes"}\n')
    result = solve(*arguments)
    assert result.exit_code == 2, result.output
    assert reason in flat(result.stderr.replace("│", " "))


def test_what_could_not_be_written_is_not_asked(run, tmp_path):
    votes = tmp_path / "votes.csv"
    votes.write_text("prefix,vote,rater\nx,yes,Ann\n")
    result = invoke(run, "--rater", "Ann", "--votes", votes, said="y\n")
    assert result.exit_code == 2
    assert "lacks 'problem'" in flat(result.stderr.replace("│", " "))
    assert "All of it right so far" not in result.stdout
    assert invoke(run, "--rater", "Ann", "--votes", votes, "--count", 0).exit_code == 0
    result = invoke(run, "--rater", "", said="y\n")
    assert result.exit_code == 2
    assert "--rater is empty" in flat(result.stderr.replace("│", " "))
    assert "All of it right so far" not in result.stdout


def test_a_steered_run_that_its_budget_stopped(tmp_path):
    """Stopped before its first votes it holds none, and the review counts the file's once; later it is refused."""
    run, votes = tmp_path / "run.nc", tmp_path / "votes.jsonl"
    append_vote(votes, Vote(prefix="34 - 12 = 22", vote="no", rater="Ann", problem=PROBLEM))
    review = [run, "--votes", votes, "--rater", "Ann", "--count", 0]
    assert solve("--votes", votes, "--budget", "reward_calls=1", "--out", run).exit_code == 0
    stopped = Posterior.load(run)
    assert stopped.stopped_by == "reward_calls"
    assert stopped.settings["votes"] == 1
    result = invoke(*review)
    assert result.exit_code == 2, result.output
    assert "Run the program without a budget" in flat(result.stderr.replace("│", " "))
    assert solve("--votes", votes, "--budget", "lm_tokens=30", "--out", run).exit_code == 0
    stopped = Posterior.load(run)
    assert stopped.stopped_by == "lm_tokens"
    assert "votes" not in stopped.settings
    for _ in range(2):  # of the run, then of the run that was reviewed
        result = invoke(*review, "--out", run)
        assert result.exit_code == 0, result.output
        assert "1 vote on this problem" in result.stdout


def test_a_run_whose_own_program_observed_votes(tmp_path):
    def voted(problem):
        state = program(problem)
        observe_votes("votes", VoteLikelihood(Votes((Vote(prefix="x", vote="no"),))), state)
        return state

    SMC(voted, num_particles=10, progress=False).run("which?").save(tmp_path / "run.nc")
    result = invoke(tmp_path / "run.nc", said="y\n")
    assert result.exit_code == 2
    assert "1 votes already" in flat(result.stderr.replace("│", " "))
    assert "All of it right so far" not in result.stdout


@pytest.mark.parametrize(("problem", "told"), [(PROBLEM, "1 of 1 votes are on this"), ("3 - 2?", "Warning: 0 of 1")])
def test_how_many_votes_are_on_the_problem_is_told(problem, told, tmp_path):
    append_vote(tmp_path / "votes.jsonl", Vote(prefix="x", vote="no", rater="Ann", problem=problem))
    result = solve("--votes", tmp_path / "votes.jsonl")
    assert result.exit_code == 0, result.output
    assert told in flat(result.stderr)
