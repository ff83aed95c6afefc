"""What the reward model can tell: step AUC, calibration, where it is wrong, and what its weights do to a vote."""

from __future__ import annotations

from collections import defaultdict

import torch
from rich import print
from rich.progress import track
from transformers import AutoModelForTokenClassification, LlamaForTokenClassification

from training.abacus import files, tokenizer
from training.abacus.diagnosis import first_slip
from training.abacus.evaluate_lm import VOTERS, answer
from training.abacus.measures import auc, brier, calibration_error, mean, paired_auc, reliability, with_error
from training.abacus.problems import draw
from training.abacus.publish import TEST_PROBLEMS
from training.abacus.rollouts import step_ends
from training.abacus.train_reward import collate

ROWS = 256


@torch.inference_mode()
def log_odds(model: LlamaForTokenClassification, rows: list[dict], title: str) -> list[list[float]]:
    """The score of each step of each row: the logit of "right" less that of "wrong" at its last token."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]["prompt"]) + len(rows[i]["solution"]))
    scores: list[list[float]] = [[] for _ in rows]
    for first in track(range(0, len(order), ROWS), description=title):
        chosen = order[first : first + ROWS]
        ids, _ = collate([rows[i] for i in chosen], model.config.pad_token_id)
        logits = model(input_ids=ids).logits
        for place, i in enumerate(chosen):
            ends = torch.tensor(rows[i]["ends"], dtype=torch.long) + len(rows[i]["prompt"]) - 1
            scores[i] = (logits[place, ends, 1] - logits[place, ends, 0]).tolist()
    return scores


def probability(score: float) -> float:
    """Log-odds to a probability."""
    return float(torch.tensor(score, dtype=torch.float64).sigmoid())


def steps(rows: list[dict], scores: list[list[float]]) -> list[dict]:
    """One record for each step: reward, both labels, its number, how many steps the problem has, and the first slip."""
    found = []
    for row, of_row in zip(rows, scores, strict=True):
        split, index = row["problem"].split("-")
        problem = draw(split, int(index))
        slip = first_slip(problem, row["text"])
        for i, score in enumerate(of_row):
            found.append(
                {
                    "problem": row["problem"],
                    "reward": probability(score),
                    "score": score,
                    "label": row["labels"][i],
                    "exact": row["exact"][i],
                    "step": i + 1,
                    "left": len(problem.lines) - i,
                    "kind": problem.kind,
                    "slip": slip[1] if slip and slip[0] == i else "",
                }
            )
    return found


def discrimination(records: list[dict]) -> dict:
    """AUC against the Monte-Carlo labels and the exact solutions: over all steps, in parts, and among peers."""
    groups: dict[str, list[dict]] = {"all": records}
    for kind in ("words", "expression"):
        groups[kind] = [r for r in records if r["kind"] == kind]
    for step in range(1, 10):
        groups[f"step {step}"] = [r for r in records if r["step"] == step]
    peers: dict[tuple[str, int], list[dict]] = defaultdict(list)
    for r in records:
        peers[r["problem"], r["step"]].append(r)
    table = {
        name: {
            "monte_carlo": auc([r["score"] for r in group], [r["label"] for r in group]),
            "exact": auc([r["score"] for r in group], [r["exact"] for r in group]),
            "steps": len(group),
        }
        for name, group in groups.items()
        if len({r["label"] for r in group}) == len({r["exact"] for r in group}) == 2
    }
    table["same problem and step"] = {
        name: paired_auc(([r["score"] for r in group], [r[key] for r in group]) for group in peers.values())
        for name, key in (("monte_carlo", "label"), ("exact", "exact"))
    } | {"steps": len(records)}
    return table


def calibration(records: list[dict]) -> dict:
    """Reliability, expected calibration error and Brier score against the Monte-Carlo labels."""
    rewards, labels = [r["reward"] for r in records], [r["label"] for r in records]
    bins = reliability(rewards, labels)
    return {"bins": bins, "expected_error": calibration_error(bins), "brier": brier(rewards, labels)}


def failures(records: list[dict], least: int = 15) -> dict:
    """Wrong first lines that it accepts (reward over a half), by slip, and right lines it rejects, by lines left."""
    by_slip: dict[str, list[float]] = defaultdict(list)
    by_left: dict[int, list[float]] = defaultdict(list)
    for r in records:
        if r["slip"]:
            by_slip[r["slip"]].append(r["reward"])
        elif r["exact"]:
            by_left[r["left"]].append(r["reward"])
    accepted = {
        slip: {"accepted": mean([float(v > 0.5) for v in values]), "mean_reward": mean(values), "count": len(values)}
        for slip, values in by_slip.items()
        if len(values) >= least
    }
    rejected = {
        str(left): {
            "rejected": mean([float(v < 0.5) for v in values]),
            "mean_reward": mean(values),
            "count": len(values),
        }
        for left, values in sorted(by_left.items())
    }
    return {
        "wrong_accepted": dict(sorted(accepted.items(), key=lambda item: -item[1]["accepted"])),
        "right_rejected_by_lines_left": rejected,
    }


def selection(model: LlamaForTokenClassification) -> dict[str, dict[str, float]]:
    """Accuracy of the vote of 32 samples weighted by the product of their rewards, and of the sample with the most."""
    tok = tokenizer.load()
    newline, problems = tok("\n")["input_ids"][0], [draw("test", i) for i in range(TEST_PROBLEMS)]
    samples = [texts[:VOTERS] for texts in files.read_lines(files.SAMPLES)]
    rows = []
    for problem, texts in zip(problems, samples, strict=True):
        prompt = tok(f"{problem.text}\n")["input_ids"]
        for row in tok(texts)["input_ids"]:
            ends = step_ends(row, newline, tok.eos_token_id)
            rows.append({"prompt": prompt, "solution": row, "ends": ends, "labels": [0] * len(ends)})
    weights = [
        torch.nn.functional.logsigmoid(torch.tensor(of_row, dtype=torch.float64)).sum().exp().item()
        for of_row in log_odds(model, rows, "rewards of the samples")
    ]
    voted, best = [], []
    for i, problem in enumerate(problems):
        votes: dict[str | None, float] = defaultdict(float)
        for text, weight in zip(samples[i], weights[VOTERS * i : VOTERS * (i + 1)], strict=True):
            votes[answer(text)] += weight
        votes.pop(None, None)
        voted.append(float(bool(votes) and max(votes, key=votes.__getitem__) == problem.answer))
        of_problem = weights[VOTERS * i : VOTERS * (i + 1)]
        best.append(float(answer(samples[i][of_problem.index(max(of_problem))]) == problem.answer))
    return {f"weighted_vote_of_{VOTERS}": with_error(voted), f"best_of_{VOTERS}": with_error(best)}


def main() -> None:
    """Measures the reward model on labelled rollouts of validation problems, and on samples of the test problems."""
    files.start(seed=10)
    model = AutoModelForTokenClassification.from_pretrained(files.REWARD).eval()
    rows = files.read_lines(files.HELD_OUT)
    records = steps(rows, log_odds(model, rows, "rewards of held-out steps"))
    figures = {
        "auc": discrimination(records),
        "calibration": calibration(records),
        "failures": failures(records),
        **selection(model),
    }
    files.write_figures("reward", figures)
    print({"auc": figures["auc"]["all"], f"weighted_vote_of_{VOTERS}": figures[f"weighted_vote_of_{VOTERS}"]["mean"]})


if __name__ == "__main__":
    main()
