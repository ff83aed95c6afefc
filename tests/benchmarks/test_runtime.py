"""Each comparison of the runtime that needs no peer, end to end at a tiny size; and the page that is made of them."""

from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from benchmarks.runtime import bare_loop, page, reasoning
from benchmarks.runtime.__main__ import app
from benchmarks.runtime.comparisons import COMPARISONS
from benchmarks.runtime.growth import exponent
from benchmarks.runtime.machine import machine_facts
from benchmarks.runtime.memory import tensor_bytes
from benchmarks.runtime.plan import Plan
from benchmarks.runtime.plot import plot_growth
from benchmarks.runtime.results import Comparison, Figure, load, results_file, save
from benchmarks.runtime.timing import Timed, UnequalWorkError, alternate

PLAN = Plan.quick()
ALONE = [name for name, entry in COMPARISONS.items() if not entry.peers]


@pytest.fixture(scope="module")
def found():
    return {name: replace(COMPARISONS[name].compare(PLAN), machine=machine_facts("cpu")) for name in ALONE}


def test_contenders_did_the_same_work(found):
    for name in ("bare_loop", "overhead", "reward_tokens", "memory"):
        work = found[name].work
        workload = PLAN.memory if name == "memory" else PLAN.workload
        assert work["tokens_sampled"] == workload.tokens == work["particles"] * work["steps"] * workload.step_tokens
        assert work["prompt_length"] == workload.prompt_length
        assert work["model"] == workload.lm.name
    assert found["kalman"].work["states_sampled"] == PLAN.filter_particles * PLAN.filter_steps


def test_the_shared_model_saw_all_tokens(found):
    for name, used in found["bare_loop"].used.items():
        assert used["used_tokens_forwarded"] >= PLAN.workload.tokens - PLAN.workload.particles, name
        assert used["used_forward_passes"] >= PLAN.workload.steps * PLAN.workload.step_tokens


def test_every_figure_is_a_positive_number_of_each_repeat(found):
    for name, comparison in found.items():
        assert comparison.figures or comparison.details["rows"], name
        for figure in comparison.figures:
            growth = name == "growth"  # whose exponents mean nothing at these sizes
            assert all(growth or value > 0 for value in figure.values), figure
        for seconds in comparison.seconds.values():
            assert len(seconds) == PLAN.repeats


def test_less_work_is_noticed():
    workload = PLAN.workload
    contenders = {
        "ours": lambda: reasoning.smc_work(workload),
        "bare loop": lambda: bare_loop.bare_work(workload.with_(steps=workload.steps - 1)),
    }
    with pytest.raises(UnequalWorkError, match=r"bare loop did .*'steps': 1.* and ours .*'steps': 2"):
        alternate(contenders, repeats=1)


def test_another_model_is_noticed():
    with pytest.raises(AssertionError, match="another one has done the work"):
        reasoning.text_work(PLAN.workload, reasoning.ModelUse(), [1, 2], 4, 2, 24)


def test_contenders_alternate():
    order = []
    contenders = {name: lambda name=name: order.append(name) or {} for name in "ab"}
    alternate(contenders, repeats=3)
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"


def test_ratios_are_of_the_same_turn():
    timed = Timed(seconds={"slow": [6.0, 8.0], "fast": [2.0, 4.0]})
    assert timed.ratios("slow", "fast") == [3.0, 2.0]


def test_any_tokens_survive_their_text():
    lm = PLAN.workload.lm
    tokens = torch.randint(lm.vocabulary_size, (500,)).tolist()
    assert lm.encode(lm.decode(tokens)) == tokens
    assert lm.eos_token_ids == ()


def test_storages_are_counted_once():
    base = torch.zeros(10, 10)
    assert tensor_bytes({"whole": base, "views": [base[:2], base.T]}, base[3:]) == 400
    assert tensor_bytes(torch.nn.Linear(3, 3)) == 0


def test_exponent_of_a_power_law():
    assert exponent([4, 8, 64], [3 * size**1.5 for size in (4, 8, 64)]) == pytest.approx(1.5)


def test_results_are_kept_and_merged(found, tmp_path):
    file = tmp_path / "results.json"
    save(file, {"kalman": found["kalman"]})
    save(file, {"memory": found["memory"]})
    assert load(file) == {"kalman": found["kalman"], "memory": found["memory"]}


def test_page_shows_every_figure(found, tmp_path):
    text = page.render({"cpu": found})
    for comparison in found.values():
        for figure in comparison.figures:
            (row,) = [line for line in text.splitlines() if line.startswith(f"| {figure.measure} |")]
            assert row.endswith("| yes |" if figure.met else "| no |")
    assert f"commit {machine_facts('cpu')['commit']}" in text
    plot_growth(found["growth"], tmp_path / "growth.svg")
    assert "tokens of the prompt" in (tmp_path / "growth.svg").read_text()


def test_a_target_is_met_by_the_median():
    figure = Figure("ratio", [1.0, 9.0, 7.0], target=6.0, bound="at least")
    assert figure.met
    assert not replace(figure, bound="at most").met
    assert Comparison.from_json({"figures": [vars(figure)]}).figures == [figure]


def test_the_page_agrees_with_the_results():
    results = {device: load(results_file(device)) for device in page.DEVICES}
    assert page.PAGE.read_text("utf-8") == page.render(results), "run `make bench-page`"


def test_a_peer_that_is_not_installed_is_left_out(monkeypatch):
    monkeypatch.setitem(COMPARISONS, "its_hub", replace(COMPARISONS["its_hub"], peers=("no_such_peer",)))
    run = CliRunner().invoke(app, ["its_hub", "--quick"])
    assert run.exit_code == 0
    assert "Left out its_hub: no_such_peer is not installed" in " ".join(run.output.split())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_nothing_is_measured():
    run = CliRunner().invoke(app, ["--device", "cuda"])
    assert run.exit_code == 0
    assert "No CUDA device was found" in run.output
