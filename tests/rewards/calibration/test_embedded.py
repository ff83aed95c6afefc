"""Calibration of an overconfident score on rollouts of the embedded models, held against other problems."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pyro_llm import answer, load_reward, zoo
from pyro_llm.diagnostics import expected_calibration_error
from pyro_llm.rewards import fit_calibration
from pyro_llm.rewards.head import Solution

PROBLEMS, BINS = 240, 5


@pytest.fixture(scope="module")
def outcomes():
    """Log-odds of the reward, and whether the answer is right, of a rollout for each problem."""
    torch.manual_seed(0)
    folder, reward, problems = zoo.path("abacus", "lm"), load_reward("abacus"), zoo.problems("abacus")[:PROBLEMS]
    lm = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    messages = [[{"role": "user", "content": problem["problem"]}] for problem in problems]
    prompts = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    texts = []
    for start in range(0, PROBLEMS, 120):
        inputs = tokenizer(prompts[start : start + 120], padding=True, return_tensors="pt", add_special_tokens=False)
        rows = lm.generate(**inputs, do_sample=True, top_k=0, temperature=1.0, max_new_tokens=90)
        texts += tokenizer.batch_decode(rows[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    pairs = list(zip(problems, texts, strict=True))
    log_odds = reward.score([Solution(problem["problem"], text, True) for problem, text in pairs])
    return np.array(log_odds), np.array([answer(text) == problem["answer"] for problem, text in pairs])


def error_of_the_calibrated(probabilities, quantile=0.999):
    """What the expected calibration error of calibrated probabilities hardly exceeds: it is biased upwards."""
    rng = np.random.default_rng(0)
    draws = rng.random((2000, len(probabilities))) < probabilities
    return np.quantile([expected_calibration_error(probabilities, labels, BINS) for labels in draws], quantile)


@pytest.mark.parametrize("method", ["platt", "temperature", "isotonic", "beta"])
def test_calibration_at_least_halves_the_error_of_an_overconfident_score(outcomes, method):
    """Log-odds three times as large as the reward's, each half of the problems calibrated by the other half.

    Half the error, or no more than chance gives the calibrated (should a model be so good, or so modest, that there is
    nothing to halve). For exactly calibrated probabilities a false alarm would be 1 in 1000 at most.
    """
    scores, labels = 3 * outcomes[0], outcomes[1]
    before = expected_calibration_error(torch.tensor(scores).sigmoid(), labels, BINS)
    calibrated = np.empty(PROBLEMS)
    for half in (0, 1):
        calibration = fit_calibration(scores[1 - half :: 2], labels[1 - half :: 2], method)
        calibrated[half::2] = calibration(torch.tensor(scores[half::2])).sigmoid()
    after = expected_calibration_error(calibrated, labels, BINS)
    assert after <= max(before / 2, error_of_the_calibrated(calibrated)), (before, after)
