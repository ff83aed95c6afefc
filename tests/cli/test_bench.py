"""`pyro-llm bench` and `bench-report` on the embedded models."""

import json

import pytest
from typer.testing import CliRunner

from pyro_llm.cli import app
from pyro_llm.study.rows import RowFile

SMALL = [
    "--algorithm", "PF=SMC", "--algorithm", "BestOfN", "--generations", "2", "--number", "2",
    "-o", "program={max_steps: 2, max_tokens: 4}",
]  # fmt: skip


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def flat(text):
    return " ".join(text.split())


def test_a_study_from_options_and_its_report(tmp_path):
    out = tmp_path / "deep" / "folder"
    result = invoke("bench", *SMALL, "--out", out)
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    assert [(row["algorithm"], row["problem"]) for row in rows] == [
        (algorithm, problem) for algorithm in ("PF", "BestOfN") for problem in ("test-0", "test-1")
    ]
    assert rows[0]["ess"] is not None and rows[-1]["ess"] is None and rows[-1]["log_evidence"] is None
    assert "study: 2 problems" in flat(result.stdout) and "BestOfN" in result.stdout
    before = (out / "report.md").read_text()
    assert invoke("bench-report", out).exit_code == 0
    assert (out / "report.md").read_text() == before
    with RowFile(out).locked():  # as while it runs
        told = invoke("bench-report", out, "--reference", "BestOfN", "--at-budget", "2")
    assert told.exit_code == 0 and "less BestOfN" in (out / "report.md").read_text()
    for wrong, message in (
        ("--at-budget=3", "has been run with the budgets 2."),
        ("--reference=P", "unknown algorithm"),
    ):
        told = invoke("bench-report", out, wrong)
        assert told.exit_code == 2 and message in flat(told.stderr)
    more = tmp_path / "more.yaml"
    more.write_text(json.dumps(json.loads((out / "study.json").read_text())))  # JSON is YAML
    assert invoke("bench", more, "--out", out).exit_code == 0
    assert len((out / "rows.jsonl").read_text().splitlines()) == 4
    changed = invoke("bench", more, "--out", out, "-o", "program.temperature=0.5")
    assert changed.exit_code == 2 and "holds results of another study, or of this one before" in flat(changed.stderr)
    assert "What changed since is in: program" in flat(changed.stderr)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.yaml"], "Cannot read the configuration"),
        ([], "give a YAML file, or --algorithm and --generations"),
        (["--algorithm", "SMC"], "give a YAML file, or --algorithm and --generations"),
        ([*SMALL, "--problems", "none.jsonl"], "Cannot read"),
        ([*SMALL, "--problems", "abbacus"], "abacus"),
        ([*SMALL, "--seeds", "a"], "write integers"),
        ([*SMALL, "-o", "x"], "write KEY=VALUE"),
        ([*SMALL, "-o", "program.temprature=1"], "did you mean 'temperature'"),
        (["--algorithm", "SCM", "--generations", "1"], "did you mean 'SMC'"),
        (["--algorithm", "PF=SMC", "--algorithm", "PF=BestOfN", "--generations", "1"], "'PF' is given 2 times"),
    ],
)
def test_what_cannot_be_run_is_said(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = invoke("bench", *arguments)
    assert result.exit_code == 2, result.output
    assert message in flat(result.stderr)
    assert list(tmp_path.iterdir()) == []  # nothing was begun


def test_a_folder_without_a_study(tmp_path):
    result = invoke("bench-report", tmp_path)
    assert result.exit_code == 2 and "holds no study" in flat(result.stderr)


def test_an_interrupted_study_says_what_is_kept(tmp_path, monkeypatch):
    out = tmp_path / "out"
    append = RowFile.append

    def then_interrupt(file, row):
        append(file, row)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RowFile, "append", then_interrupt)
        result = invoke("bench", *SMALL, "--out", out)
    assert result.exit_code == 130
    assert f"study: 4 rows to do, 0 rows are there, in {out}" in flat(result.stderr)
    assert f"1 row kept in {out}; the same command goes on" in flat(result.stderr)
    report = invoke("bench-report", out)
    assert report.exit_code == 2 and "1 row of 4: PF 1 of 2, BestOfN 0 of 2; to go on: pyro-llm bench" in flat(
        report.stderr
    )
    on = invoke("bench", out / "study.json", "--out", out)  # the command that it names
    assert on.exit_code == 0, on.output
    assert "3 rows to do, 1 row is there" in flat(on.stderr) and "3 of 3 rows, 100% of the work" in flat(on.stderr)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("budgets: {generations: 4}", "budgets.generations: it should be a list, [1, 2]"),
        ("budgets: {generations: [1]}\nalgorithms: {PF: {algorithm: SCM}}", "algorithms: PF: unknown algorithm 'SCM'"),
        (
            "budgets: {generations: [0]}\nalgorithms: {PF: {algorithm: SMC}}",
            "budgets: generations: budgets are greater",
        ),
    ],
)
def test_an_error_in_a_file_names_it(tmp_path, text, message):
    file = tmp_path / "study.yaml"
    file.write_text(text)
    result = invoke("bench", file, "--out", tmp_path / "out")
    assert result.exit_code == 2 and f"{file}: " in flat(result.stderr) and message in flat(result.stderr)
    assert "Value error" not in result.stderr


def test_a_folder_is_no_run(tmp_path):
    result = invoke("report", tmp_path)
    assert result.exit_code == 2
    assert f"{tmp_path} is a folder; for a study there is pyro-llm bench-report {tmp_path}" in flat(result.stderr)
