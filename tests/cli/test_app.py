import io
import json
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from pyro_llm import answer, zoo
from pyro_llm.cli import app
from pyro_llm.cli.batch import wilson_interval
from pyro_llm.cli.report import leading_text, show_posterior
from pyro_llm.infer import Posterior

SMALL = ["--particles", "4", "--runs", "2", "--max-steps", "3", "--max-tokens", "12", "--seed", "7"]
PROBLEM = "What is 34 - 12?"


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def flat(text):
    """Without the line breaks that the terminal's width brings in."""
    return " ".join(text.split())


def write_problems(path, *records):
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def results(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_solve_shows_and_writes_the_posterior(tmp_path):
    files = ["--out", tmp_path / "run.nc", "--plot", tmp_path / "run.png", "--report", tmp_path / "run.html"]
    result = invoke("solve", PROBLEM, *SMALL, *files)
    assert result.exit_code == 0, result.output
    posterior = Posterior.load(tmp_path / "run.nc")
    assert (posterior.num_runs, posterior.num_particles) == (2, 4)
    assert posterior.written.prompt == PROBLEM
    assert posterior.settings["seed"] == 7
    assert posterior.settings["command"]["lm"] == "abacus"
    assert posterior.stats.num_steps <= 3
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "run.html").read_text("utf-8")
    assert invoke("report", tmp_path / "run.nc", "-o", tmp_path / "again.html").exit_code == 0
    assert (tmp_path / "again.html").read_text("utf-8") == page
    shown = flat(result.stdout)
    assert "2 runs × 4 particles" in shown
    evidence = posterior.pooled_log_evidence()
    assert f"log-evidence {evidence.estimate:.2f} ± {evidence.standard_error:.2f}" in shown
    assert "ESS by run " + " ".join(f"{ess:.1f}" for ess in posterior.ess().tolist()) in shown
    leading, text = leading_text(posterior)
    assert leading == next(value for value in posterior.marginal(answer) if value is not None) == answer(text)
    for expected in ("probability", "± s.e.", "tokens sampled", "seed 7", f"best text with answer {leading}"):
        assert expected in shown
    assert text.split("\n")[0] in shown
    assert "run.nc" in result.stderr


def test_the_same_seed_gives_the_same_posterior(tmp_path):
    for name in ("a", "b"):
        assert invoke("solve", PROBLEM, *SMALL, "--out", tmp_path / f"{name}.nc").exit_code == 0
    a, b = (Posterior.load(tmp_path / f"{name}.nc") for name in ("a", "b"))
    assert a.texts.tolist() == b.texts.tolist()
    assert a.log_evidence.tolist() == b.log_evidence.tolist()


def test_a_seed_is_drawn_and_shown(tmp_path):
    result = invoke("solve", PROBLEM, *SMALL[:-2], "--runs", "1", "--out", tmp_path / "run.nc")
    assert result.exit_code == 0, result.output
    posterior = Posterior.load(tmp_path / "run.nc")
    assert f"seed {posterior.settings['seed']}" in flat(result.stdout)
    assert "± s.e." not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["solve", PROBLEM, "--lm", "nonesuch/nothing"], "nonesuch/nothing"),
        (["solve", PROBLEM, "--reward", "nonesuch/nothing"], "nonesuch/nothing"),
        (["solve", PROBLEM, "--device", "abacus"], "device='abacus' cannot be used"),
        (["solve", PROBLEM, "--out", "/nonexistent/run.nc"], "there is no folder"),
        (["solve", PROBLEM, "--plot", "/nonexistent/run.png"], "there is no folder"),
        (["solve", PROBLEM, "--plot", "run.txt"], "must end in one of"),
        (["solve", PROBLEM, "--out", "run"], "must end in .nc"),
        (["solve", PROBLEM, "--out", "x" * 300 + ".nc"], "File name too long"),
        (["solve", PROBLEM, "--stop", ""], "--stop is empty: give the string that ends a step"),
        (["solve", ""], "The problem is blank"),
        (["solve", " \n"], "The problem is blank"),
        (["solve", PROBLEM, "--top-p", "0"], "--top-p must be positive"),
        (["solve", PROBLEM, "--top-p", "1.5"], "--top-p"),
        (["solve", PROBLEM, "--top-k", "-1"], "--top-k"),
        (["solve", PROBLEM, "--temperature", "0"], "must be positive"),
        (["solve", PROBLEM, "--particles", "0"], "--particles"),
        (["solve", PROBLEM, "--ess-threshold", "1.5"], "--ess-threshold"),
        (["solve", "word " * 5000], "context"),
        (["solve"], "Give either a problem or --file"),
        (["solve", PROBLEM, "--file", "p.jsonl"], "Give either a problem or --file"),
        (["solve", "--file", "p.jsonl", "--plot", "run.png"], "--plot and --report show one problem"),
        (["solve", "--file", "p.jsonl", "--report", "run.html"], "--plot and --report show one problem"),
        (["solve", PROBLEM, "--report", "run.pdf"], "must end in .html"),
        (["report", "none.nc"], "There is no file"),
        (["solve", "--file", "none.jsonl"], "No such file"),
        (["solve", "--file", "none.jsonl", "--out", "run.nc"], "does not fit --file"),
        (["solve", "--file", "none.jsonl", "--out", "/nonexistent/results.jsonl"], "there is no folder"),
        (["solve", "--file", "none.jsonl", "--out", "/nonexistent/folder"], "Cannot create the folder"),
        (["solve", "--file", "none.jsonl", "--out", "x" * 300], "File name too long"),
        (["solve", "--file", "x" * 300], "File name too long"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(arguments, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    # The message may be in a frame.
    assert reason in flat(result.stderr.replace("│", " "))
    assert "Traceback" not in result.output
    assert result.stdout == ""
    assert not list(tmp_path.iterdir())


def test_solve_file(tmp_path):
    file = write_problems(
        tmp_path / "problems.jsonl",
        {"id": "a", "problem": PROBLEM, "answer": 7},
        {"problem": "word " * 5000, "answer": "1"},
        {"id": "c/d", "problem": "5 + 6"},
    )
    result = invoke("solve", "--file", file, *SMALL, "--out", tmp_path / "out")
    assert result.exit_code == 1, result.output
    by_id = {result["id"]: result for result in results(tmp_path / "out" / "results.jsonl")}  # in the order they came
    a, long, c = (by_id[id] for id in ("a", "line-2", "c/d"))
    assert [a["id"], long["id"], c["id"]] == ["a", "line-2", "c/d"]
    assert long["error"].startswith("ContextLengthError")
    assert (long["answers"], long["right"], c["right"]) == (None, False, None)
    posterior = Posterior.load(tmp_path / "out" / "a.nc")
    assert posterior.log_evidence.tolist() == a["log_evidence"]
    assert posterior.settings["seed"] == a["seed"]
    assert sum(probability for _, probability, _ in a["answers"]) == pytest.approx(1)
    assert a["right"] == (a["answer"] == "7")
    assert a["posterior"] == "a.nc"
    assert Posterior.load(tmp_path / "out" / c["posterior"]).written.prompt == "5 + 6"
    assert len({a["seed"], long["seed"], c["seed"]}) == 3
    right = int(a["right"])
    low, high = wilson_interval(right, 2)
    assert f"accuracy {right / 2:.3f} ({right} of 2), 95 % interval {low:.3f} to {high:.3f}" in flat(result.stdout)


def test_the_interval_of_an_accuracy():
    # Brown, Cai & DasGupta, "Interval Estimation for a Binomial Proportion" (2001): by hand from the formula.
    assert wilson_interval(0, 2) == pytest.approx((0.0, 0.6576), abs=1e-4)
    assert wilson_interval(2, 2) == pytest.approx((0.3424, 1.0), abs=1e-4)
    assert wilson_interval(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)


def test_a_solution_can_be_had_again_by_its_seed(tmp_path):
    file = write_problems(tmp_path / "problems.jsonl", {"id": "a", "problem": PROBLEM})
    out = tmp_path / "results.jsonl"
    assert invoke("solve", "--file", file, *SMALL, "--out", out).exit_code == 0
    (a,) = results(out)
    seed = ["--seed", a["seed"]]
    assert invoke("solve", PROBLEM, *SMALL[:-2], *seed, "--out", tmp_path / "run.nc").exit_code == 0
    assert Posterior.load(tmp_path / "run.nc").log_evidence.tolist() == a["log_evidence"]


def test_results_of_other_texts_or_options_are_not_taken_for_these(tmp_path):
    file = write_problems(tmp_path / "problems.jsonl", {"id": "a", "problem": PROBLEM})
    out = tmp_path / "results.jsonl"
    assert invoke("solve", "--file", file, *SMALL, "--out", out).exit_code == 0
    before = out.read_bytes()
    for changed, reason in (
        (["--particles", "5"], "particles=4, and now it is particles=5"),
        (["--top-k", "3"], "top_k=0, and now it is top_k=3"),
        (["--seed", "8"], "made with another --seed"),
    ):
        result = invoke("solve", "--file", file, *SMALL, *changed, "--out", out)
        assert result.exit_code == 2, result.output
        assert reason in flat(result.stderr) and "another --out" in flat(result.stderr)
    # A seed that is drawn does not matter, those of the results are in them.
    result = invoke("solve", "--file", file, *SMALL[:-2], "--out", out)
    assert result.exit_code == 0, result.output
    write_problems(file, {"id": "a", "problem": "4 + 4"})
    result = invoke("solve", "--file", file, *SMALL, "--out", out)
    assert result.exit_code == 2
    assert f"is that of another text, {PROBLEM!r}" in flat(result.stderr)
    assert out.read_bytes() == before


def test_a_result_that_was_cut_off_is_done_again(tmp_path):
    file = write_problems(tmp_path / "problems.jsonl", {"id": "a", "problem": PROBLEM}, {"id": "b", "problem": "1 + 1"})
    out = tmp_path / "results.jsonl"
    assert invoke("solve", "--file", file, *SMALL, "--out", out).exit_code == 0
    before = results(out)
    out.write_bytes(out.read_bytes()[:-20])
    result = invoke("solve", "--file", file, *SMALL, "--out", out)
    assert result.exit_code == 0, result.output
    assert "was cut off, and is dropped" in flat(result.stderr)
    again = results(out)
    assert again[0] == before[0]
    assert [again[1][key] for key in ("id", "seed", "log_evidence")] == [
        before[1][key] for key in ("id", "seed", "log_evidence")
    ]


def test_results_do_not_depend_on_how_many_are_worked_on_at_a_time(tmp_path):
    file = write_problems(tmp_path / "problems.jsonl", *({"id": f"{n}", "problem": f"{n} + 31"} for n in range(5)))
    found = []
    for concurrent in (1, 3):
        out = tmp_path / f"{concurrent}.jsonl"
        result = invoke("solve", "--file", file, *SMALL, "--concurrent", concurrent, "--out", out)
        assert result.exit_code == 0, result.output
        found.append({result["id"]: result for result in results(out)})
    one_by_one, together = found
    assert one_by_one.keys() == together.keys() == {"0", "1", "2", "3", "4"}
    for id, result in together.items():
        for key in ("seed", "text", "answers", "settings"):
            assert result[key] == one_by_one[id][key]
        assert result["log_evidence"] == pytest.approx(one_by_one[id]["log_evidence"], abs=1e-4)


def test_posteriors_of_odd_ids_and_those_that_cannot_be_saved(tmp_path):
    file = write_problems(
        tmp_path / "problems.jsonl",
        *({"id": id, "problem": PROBLEM, "answer": "7"} for id in ("a_b", "a/b", "x" * 300)),
    )
    out = tmp_path / "out"
    (out / "a_b.nc").mkdir(parents=True)
    result = invoke("solve", "--file", file, *SMALL, "--out", out)
    assert result.exit_code == 1, result.output
    assert "not saved" in result.stdout
    first, *others = sorted(results(out / "results.jsonl"), key=lambda result: result["id"] != "a_b")
    assert first["error"].startswith("OutputPathError") and first["posterior"] is None
    assert first["log_evidence"] and first["answers"] and first["right"] is not None
    assert [other["error"] for other in others] == [None, None]
    assert [Posterior.load(out / other["posterior"]).settings["seed"] for other in others] == [
        other["seed"] for other in others
    ]
    # The obstacle gone, the one that is missing is done again.
    (out / "a_b.nc").rmdir()
    result = invoke("solve", "--file", file, *SMALL, "--out", out)
    assert result.exit_code == 0, result.output
    assert "2 results were there already" in flat(result.stderr)
    assert Posterior.load(out / "a_b.nc").log_evidence.tolist() == first["log_evidence"]


@pytest.mark.parametrize(
    ("line", "message"), [(b'{"id": "b", "problem": "\xe9"}', "not UTF-8"), (b"{oops", "not JSON")]
)
def test_a_malformed_line_is_named_before_the_work_begins(tmp_path, line, message):
    file, out = tmp_path / "problems.jsonl", tmp_path / "results.jsonl"
    file.write_bytes(b'{"id": "a", "problem": "3 + 4"}\n' + line + b"\n")
    result = invoke("solve", "--file", file, *SMALL, "--out", out)
    assert result.exit_code == 2
    assert f"problems.jsonl:2: {message}" in flat(result.stderr).replace(" .jsonl", ".jsonl")
    assert not out.exists()


def test_the_version_is_shown():
    result = invoke("--version")
    assert result.exit_code == 0
    assert result.stdout == f"pyro-llm {version('pyro-llm')}\n"


def test_a_result_that_is_none_can_be_removed(tmp_path):
    file = write_problems(tmp_path / "problems.jsonl", {"id": "a", "problem": PROBLEM})
    out = write_problems(tmp_path / "results.jsonl", "rubbish")
    result = invoke("solve", "--file", file, *SMALL, "--out", out)
    assert result.exit_code == 2
    assert "results.jsonl:1: not JSON" in flat(result.stderr).replace(" .jsonl", ".jsonl")
    assert "Remove that line" in flat(result.stderr)


def test_a_run_that_holds_the_evidence_is_named(tmp_path):
    assert invoke("solve", PROBLEM, *SMALL, "--out", tmp_path / "run.nc").exit_code == 0
    posterior = Posterior.load(tmp_path / "run.nc")
    posterior.log_evidence = torch.tensor([-1.0, -100.0], dtype=torch.float64)
    console = Console(width=100, record=True, file=io.StringIO())
    show_posterior(console, posterior)
    shown = flat(console.export_text())
    assert "one run holds over 99 % of the evidence: error bars need more particles or runs" in shown
    assert "±" not in shown


def test_models_shows_the_card():
    result = invoke("models")
    assert result.exit_code == 0, result.output
    card = zoo.card("abacus")
    accuracy = card["lm"]["all"]["one_sample"]
    assert f"{accuracy['mean']:.3f} ± {accuracy['standard_error']:.3f}" in result.stdout
    assert f"{card['reward']['auc']['all']['monte_carlo']:.3f}" in result.stdout
    by_steps = [row["one_sample"]["mean"] for row in card["lm"]["by_steps"].values()]
    assert "  ".join(f"{mean:.2f}" for mean in by_steps) in result.stdout, "in one line"
    wrong = card["reward"]["failures"]["wrong_accepted"]
    worst = max(wrong, key=lambda slip: wrong[slip]["accepted"])
    assert f"{wrong[worst]['accepted']:.0%} of: {worst}" in result.stdout
    assert "CARD.md" in result.stdout.replace("\n", "")


def test_help_names_every_command_and_option():
    assert all(command in invoke("--help").stdout for command in ("solve", "report", "models"))
    text = invoke("solve", "--help").stdout
    for option in (
        "--lm",
        "--reward",
        "--particles",
        "--runs",
        "--ess-threshold",
        "--concurrent",
        "--seed",
        "--out",
        "--plot",
        "--report",
        "--file",
        "--top-p",
        "--top-k",
    ):
        assert option in text


def test_interruption_keeps_what_was_finished(tmp_path):
    """The console script in a process of its own, interrupted while it works on a long file."""
    file = write_problems(tmp_path / "problems.jsonl", *({"problem": f"{n} + 1"} for n in range(1000)))
    out = tmp_path / "results.jsonl"
    command = [
        sys.executable,
        "-c",
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # background jobs ignore it
        "from pyro_llm.cli import main; main()",
        "solve",
        "--file",
        file,
        *SMALL,
        "--out",
        out,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        deadline = time.monotonic() + 120
        while not (out.exists() and out.read_text("utf-8").count("\n") >= 2):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Interrupted" in stderr
    assert "results in" in stderr
    assert "Traceback" not in stderr
    found = results(out)
    assert 2 <= len(found) < 1000
    assert {result["id"] for result in found} <= {f"line-{number + 1}" for number in range(1000)}
    assert all(result["answers"] for result in found)


def test_a_budget_is_kept_and_reported(tmp_path):
    result = invoke(
        "solve", PROBLEM, *SMALL, "--budget", "lm_tokens=60", "--budget", "seconds=90", "--out", tmp_path / "run.nc"
    )
    assert result.exit_code == 0, result.output
    posterior = Posterior.load(tmp_path / "run.nc")
    assert posterior.stopped_by == "lm_tokens" and posterior.cost.lm_tokens <= 60
    assert posterior.settings["budget"] == posterior.settings["command"]["budget"] == {"lm_tokens": 60, "seconds": 90}
    assert "stopped the budget of 60 lm tokens is spent" in flat(result.stdout)
    assert "has spent its budget of 60 lm_tokens" in flat(result.stderr)


def test_a_budget_of_money_for_each_problem_of_a_file(tmp_path):
    problems = write_problems(tmp_path / "problems.jsonl", {"problem": PROBLEM}, {"problem": "What is 2 + 3?"})
    prices = tmp_path / "prices.json"
    prices.write_text('{"lm_output": 1000000}')  # a dollar for a token
    limits = ["--budget", "dollars=40", "--prices", prices]
    result = invoke("solve", "--file", problems, *SMALL, *limits, "--out", tmp_path / "results.jsonl")
    assert result.exit_code == 0, result.output
    for record in results(tmp_path / "results.jsonl"):
        assert record["stopped_by"] == "dollars" and 0 < record["cost"]["lm_tokens_sampled"] <= 40
        assert record["settings"]["budget"] == {"dollars": 40, "prices": {"lm_output": 1000000.0}}
    again = invoke("solve", "--file", problems, *SMALL, "--out", tmp_path / "results.jsonl")
    assert again.exit_code == 2 and "budget=None" in flat(again.stderr)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--budget", "tokens=3"], "there is no item 'tokens'"),
        (["--budget", "lm_tokens"], "give a number"),
        (["--budget", "lm_tokens=many"], "give a number"),
        (["--budget", "lm_tokens=0"], "lm_tokens=0 is no limit"),
        (["--budget", "seconds=nan"], "seconds=nan is no limit"),
        (["--budget", "seconds=1", "--budget", "seconds=2"], "has a limit already"),
        (["--budget", "dollars=1"], "without prices: give them by --prices"),
        (["--prices", "missing.json"], "Cannot read the prices"),
        (["--budget", "generations=7"], "7 generations, and SMC begins 8"),
    ],
)
def test_what_is_no_budget(options, message):
    result = invoke("solve", PROBLEM, *SMALL, *options)
    assert result.exit_code == 2 and message in flat(result.stderr)
