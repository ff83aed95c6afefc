"""The tokenizer: single digits, whole common words, and bytes for all else, so that any text comes back as it was."""

from __future__ import annotations

import json
from pathlib import Path

from rich import print
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from training.abacus import files
from training.abacus.plan import WIDEST
from training.abacus.problems import draw

VOCABULARY = 1024
END, PAD = "<|end|>", "<|pad|>"
PIECES = r" ?\p{L}+| ?\d| ?[^\s\p{L}\d]|\s"
"""Words, single digits and signs, each with the space before it; other white space character by character."""

CHAT_TEMPLATE = "{{ (messages | selectattr('role', 'equalto', 'user') | list | last)['content'] | trim + '\\n' }}"
"""The prompt is the last user message, stripped, and a newline. A system message has no place in these models."""


def build() -> PreTrainedTokenizerFast:
    """Trains a byte-level BPE on the texts of the first training problems."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=10,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[
            AddedToken(END, special=True, normalized=False),
            AddedToken(PAD, special=True, normalized=False),
        ],
        show_progress=False,
    )
    problems = (draw("train", index, WIDEST) for index in range(20_000))
    tokenizer.train_from_iterator((f"{p.text}\n{p.solution}" for p in problems), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=512,
        chat_template=CHAT_TEMPLATE,
    )


def save(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Saves the tokenizer under the class name that older and newer releases of transformers both know."""
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text("utf-8"))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2) + "\n", "utf-8")


def load() -> PreTrainedTokenizerFast:
    """The tokenizer that `main` saved."""
    return PreTrainedTokenizerFast.from_pretrained(files.TOKENIZER)


def main() -> None:
    """Trains and saves the tokenizer."""
    files.start(seed=0)
    tokenizer = build()
    files.write_folder(files.TOKENIZER, lambda folder: save(tokenizer, folder))
    print(f"tokenizer: {len(tokenizer)} tokens")


if __name__ == "__main__":
    main()
