"""The parts of the training that can be tested without training."""

from random import Random

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pyro_llm import zoo
from training.abacus import files, measures, pupil
from training.abacus.__main__ import main
from training.abacus.diagnosis import first_slip, right_steps
from training.abacus.plan import Clause, moves_of
from training.abacus.problems import Problem
from training.abacus.rollouts import Labeller
from training.abacus.sampling import complete
from training.abacus.train_reward import NOT_SCORED, collate

FOLD = Clause("fold", "", moves_of("x * k, x + y", {"k": 3}), moves_of("x * k", {"k": 3}))
LOSS = Clause("loss", "", moves_of("x - a", {"a": 19}), moves_of("x + a", {"a": 19}))
PROBLEM = Problem("p", "", "words", 12, (FOLD, LOSS))
SOLUTION = "12 * 3 = 36\n12 + 36 = 48\n48 - 19 = 29\nanswer: 29"


def test_the_known_bugs_of_arithmetic():
    assert pupil.smaller_from_larger(402, 138) == 336
    assert pupil.carries(95, 17) == [0, 1]
    assert pupil.without_first_carry(85, 41) == 26
    results = {pupil.slip(Random(seed), pupil.HABITS, "-", 402, 138) for seed in range(40)}
    assert (336, "smaller digit from larger") in results and (264, "") in results


def test_the_first_slip_is_found_and_named():
    assert PROBLEM.solution == SOLUTION
    assert first_slip(PROBLEM, SOLUTION) is None
    assert first_slip(PROBLEM, SOLUTION.replace("= 29", "= 31")) == (2, "smaller digit from larger")
    assert first_slip(PROBLEM, SOLUTION.replace("48 - 19 = 29", "48 + 19 = 67")) == (2, "misread: loss")
    assert first_slip(PROBLEM, "12 * 3 = 36\n36 - 19 = 17\nanswer: 17") == (1, "misread: fold")
    assert first_slip(PROBLEM, "12 * 3 = 36\nanswer: 36") == (1, "stopped early")
    assert first_slip(PROBLEM, SOLUTION.replace("r: 29", "r: 30")) == (3, "answer copied wrongly")
    assert first_slip(PROBLEM, "12 is 3") == (0, "no equation")
    assert right_steps(PROBLEM, SOLUTION.replace("= 48", "= 38")) == [True, False, False, False]


def test_measures():
    assert measures.auc([0.1, 0.4, 0.4, 0.9], [0, 0, 1, 1]) == pytest.approx(0.875)
    assert measures.brier([1.0, 0.5], [1, 0]) == pytest.approx(0.125)
    table = measures.reliability([0.05, 0.95, 0.95, 1.0], [0, 1, 1, 0])
    assert [row["count"] for row in table] == [1, 3]
    assert measures.calibration_error(table) == pytest.approx((0.05 + 3 * abs(2.9 / 3 - 2 / 3)) / 4)


def test_labels_stand_at_the_last_token_of_each_step():
    ids, labels = collate([{"prompt": [5, 6], "solution": [7, 8, 9], "ends": [2, 3], "labels": [1, 0]}], pad=1)
    assert ids.tolist() == [[5, 6, 7, 8, 9]]
    assert labels.tolist() == [[NOT_SCORED, NOT_SCORED, NOT_SCORED, 1, 0]]


@pytest.fixture(scope="module")
def abacus():
    folder = zoo.path("abacus", "lm")
    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def test_padding_and_leaving_rows_do_not_change_the_law(abacus):
    """With the noise of one seed a short prefix is completed in a batch of longer ones as its greedy law says."""
    model, tok = abacus
    prompts = tok(["Compute 12 + 7 - 5.\n", "Mia has 47 marbles. Mia loses 5. How many marbles?\n"])["input_ids"]
    rows = complete(model, prompts * 20, torch.Generator().manual_seed(0))
    assert all(row[-1] == tok.eos_token_id for row in rows)
    assert tok.decode(rows[0]).startswith("12 ") and tok.decode(rows[1]).startswith("47 ")


def test_monte_carlo_labels(abacus):
    model, tok = abacus
    problem = Problem("p", "Compute 12 + 7 - 5.", "expression", 12, (
        Clause("plus", "", moves_of("x + a", {"a": 7}), moves_of("x - a", {"a": 7})),
        Clause("minus", "", moves_of("x - a", {"a": 5}), moves_of("x + a", {"a": 5})),
    ))  # fmt: skip
    labeller = Labeller(model, tok, seed=0)
    [tree] = labeller.grow([problem], 6, lambda title, total: lambda rows: None)
    rows = labeller.rows(tree)
    assert len(rows) == 6
    for row in rows:
        assert len(row["labels"]) == len(row["exact"]) == len(row["ends"])
        assert row["labels"] == sorted(row["labels"], reverse=True)
        assert row["labels"][-1] == int(row["text"] == problem.solution) or not all(row["labels"][:-1])


def test_files_are_written_whole_or_not_at_all(tmp_path):
    target = tmp_path / "page"
    files.write_lines(target, [1])

    def fail(path):
        path.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        files.write_file(target, fail)
    assert files.read_lines(target) == [1]


def test_an_unknown_part_is_refused(capsys):
    assert main(["trian_lm"]) == 2
    assert "train_lm" in capsys.readouterr().out
