"""The card: all figures as JSON, and a page that is written from them, so that the two cannot disagree."""

from __future__ import annotations

import json
from typing import Any

from transformers import AutoModelForCausalLM, AutoModelForTokenClassification

from training.abacus import files, page, rollouts, tokenizer, train_lm, train_reward
from training.abacus.plan import LARGEST, WIDEST
from training.abacus.problems import SEEDS, WORDS
from training.abacus.publish import TEST_PROBLEMS

COMMANDS = {
    "everything": "python -m training.abacus",
    "data": "python -m training.abacus publish",
    "training": "python -m training.abacus tokenizer train_lm rollouts train_reward",
    "lm": "python -m training.abacus evaluate_lm",
    "reward": "python -m training.abacus rollouts evaluate_reward",
    "card": "python -m training.abacus card",
}


def figures() -> dict[str, Any]:
    """Everything the card says, rounded to what is meant."""
    lm = AutoModelForCausalLM.from_pretrained(files.LM)
    reward = AutoModelForTokenClassification.from_pretrained(files.REWARD)
    weights = sum((folder / "model.safetensors").stat().st_size for folder in (files.LM, files.REWARD))
    found = {
        "name": "abacus",
        "commands": COMMANDS,
        "data": {
            "test_problems": TEST_PROBLEMS,
            "share_of_word_problems": WORDS,
            "largest_result": LARGEST,
            "largest_result_at_first": WIDEST,
            "first_seeds": SEEDS,
            "lm_solutions": {phase.title: phase.steps * train_lm.BATCH for phase in train_lm.PHASES},
            "practice_solutions": train_reward.PRACTICE_STEPS * train_reward.BATCH,
            "rollouts": rollouts.TRAIN_PROBLEMS * rollouts.TRAIN_EACH,
            "held_out_rollouts": rollouts.HELD_OUT_PROBLEMS * rollouts.HELD_OUT_EACH,
        },
        "training": {
            "architecture": {name: getattr(lm.config, name) for name in page.ARCHITECTURE},
            "lm_parameters": lm.num_parameters(),
            "reward_parameters": reward.num_parameters(),
            "megabytes_of_safetensors": weights / 1e6,
            "lm_steps": {phase.title: phase.steps for phase in train_lm.PHASES},
            "practice_steps": train_reward.PRACTICE_STEPS,
            "reward_layers": reward.config.num_hidden_layers,
            "reward_epochs": train_reward.EPOCHS,
            "batch": train_lm.BATCH,
            "completions_a_label": rollouts.TRIES,
            "vocabulary": tokenizer.VOCABULARY,
            "seconds": files.read_figures("seconds"),
            "processor_seconds": files.read_figures("processor_seconds"),
        },
        "lm": files.read_figures("lm"),
        "reward": files.read_figures("reward"),
    }
    return rounded(found)


def rounded(value: Any) -> Any:
    """Floats to four places."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value


def main() -> None:
    """Writes the card and its page."""
    found = figures()
    files.write_file(files.CARD, lambda path: path.write_text(json.dumps(found, indent=1) + "\n", "utf-8"))
    files.write_file(files.CARD_PAGE, lambda path: path.write_text(page.write(found), "utf-8"))


if __name__ == "__main__":
    main()
