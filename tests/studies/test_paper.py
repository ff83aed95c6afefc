"""The paper's study, as it is configured, on tiny random models of the same architectures."""

import json
from pathlib import Path

import pytest
from transformers import LlamaForCausalLM, Qwen2ForCausalLM, Qwen2Model

from pyro_llm.rewards import QwenProcessReward
from pyro_llm.study import parse_config, read_yaml, run_study
from pyro_llm.study.results import tabulate
from pyro_llm.study.summary import summarise
from pyro_llm.study.work import program
from studies.paper.beside import beside, published, table
from tests.rewards.formats.conftest import CHATML, LLAMA3, byte_tokenizer, publish, random_model, random_weights

STUDIES = Path(__file__).parents[2] / "studies" / "paper"
ROW = {"problem": "What is $2^5$?", "solution": r"\boxed{32}", "answer": "32", "unique_id": "ours/1"}
CONTEXT = {"max_position_embeddings": 4096}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of a Qwen2 and a Llama policy, and of a reward in the format of Qwen2.5-Math-PRM."""
    folder, tokenizers = (
        tmp_path_factory.mktemp("models"),
        {"qwen": byte_tokenizer(CHATML), "llama": byte_tokenizer(LLAMA3)},
    )
    for name, model_class, family in (("qwen", Qwen2ForCausalLM, "qwen2"), ("llama", LlamaForCausalLM, "llama")):
        publish(folder / name, random_model(model_class, family, tokenizers[name], **CONTEXT), tokenizers[name])
    head = random_weights(
        score__0__weight=(32, 32), score__0__bias=(32,), score__2__weight=(2, 32), score__2__bias=(2,)
    )
    body = random_model(Qwen2Model, "qwen2", tokenizers["qwen"], **CONTEXT)
    publish(folder / "prm", body, tokenizers["qwen"], head, architectures=["Qwen2ForProcessRewardModel"])
    return folder


def configured(name, models, tmp_path, **changes):
    """The study of a set with other models, and less to do."""
    problems = tmp_path / "problems.jsonl"
    problems.write_text(json.dumps(ROW))
    raw = read_yaml(STUDIES / f"{name}.yaml")
    raw["problems"]["path"] = str(problems)
    for part in (raw["lm"], raw["reward"]):
        assert (part.pop("device"), part.pop("dtype")) == ("cuda", "bfloat16")
    raw["reward"]["load"] = str(models / "prm")
    for label, variant in raw["variants"].items():
        variant["lm"]["load"] = str(models / ("llama" if "Llama" in label else "qwen"))
    raw["program"] |= {"max_steps": 2, "max_tokens": 4}
    return parse_config(raw | changes)


OF_FOUR = {("particle filter", 4), ("DVTS", 4), ("weighted best of N", 4)}


@pytest.mark.parametrize("name", ["math500", "aime2024"])
def test_it_runs_end_to_end(name, models, tmp_path):
    changes = {"budgets": {"generations": [1, 4]}}
    if name == "aime2024":  # the algorithms are the same
        algorithms = {"particle filter, as published": {"algorithm": "SMC"}, "greedy": {"algorithm": "Greedy"}}
        changes = {"budgets": {"generations": [1]}, "algorithms": algorithms}
    config = configured(name, models, tmp_path, **changes)
    assert set(config.variants) == set(published(name)) - {"Qwen2.5-1.5B-Instruct"}
    study = run_study(config, tmp_path / "results", progress=False)
    assert len(study.rows) == study.size and not study.failed
    assert {row.algorithm for row in study.rows} == set(config.algorithms)
    assert all(row.cost["reward_tokens"] > 0 for row in study.rows if "particle filter" in row.algorithm)
    cell = study.cells[0]
    model = program(cell.setting, cell.seed)
    assert isinstance(model.reward, QwenProcessReward) and model.reward.aggregation == "model"
    assert (model.stop, model.finish_at, model.temperature) == ("\n\n", "\\boxed", 0.8)
    assert "## Step n" in model.lm.system_prompt
    lines = beside(tabulate(study))
    run = {(one.algorithm, one.budget) for one in lines if one.ours is not None}
    assert run == {("one sample", 1), ("greedy", 1)} | (OF_FOUR if name == "math500" else set())
    assert "| Llama-3.2-1B-Instruct | particle filter | 64 | " in table(lines)
    if name == "math500":  # beside the paper's filter stands the one that answers as it does
        ours = {(line.variant, line.algorithm, line.budget): str(line.accuracy) for line in summarise(tabulate(study))}
        for one in lines:
            if one.algorithm == "particle filter" and one.ours is not None:
                assert one.ours == ours[one.policy, "particle filter, as published", one.budget]


def test_the_settings_are_those_of_the_paper():
    for name in ("math500", "aime2024"):
        config = parse_config(read_yaml(STUDIES / f"{name}.yaml"))
        assert (config.program.max_steps, config.program.max_tokens) == (40, 2048)
        assert config.grader == "math-verify" and config.budgets["generations"][-1] == 128
        assert config.reward.load == "Qwen/Qwen2.5-Math-PRM-7B"
        assert config.answer == "math"
        theirs = config.algorithms["particle filter, as published"]
        assert (theirs.decide, theirs.program) == ("highest last reward", {"emission": "odds"})
        assert theirs.options == {"ess_threshold": 1.0, "resampling": "multinomial"}
        assert config.reference == "particle filter, as published"
        assert config.algorithms["particle filter"].model_dump() == {"algorithm": "SMC", "split": {}}
        assert config.algorithms["entropic filter"].program == {"emission": "odds"}
    figures = published("math500")["Llama-3.2-1B-Instruct"]
    assert figures["64"]["particle filter"] == 59.6 and figures["32"]["particle filter"] == 57.2
