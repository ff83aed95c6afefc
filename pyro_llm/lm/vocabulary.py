"""The bytes that each token of a tokenizer contributes to a text, read off the tokenizer's own decoder."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any

from transformers import PreTrainedTokenizerBase

Reader = Callable[[str, int], bytes]
"""From a token and its id to its bytes."""

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def token_bytes(tokenizer: PreTrainedTokenizerBase, vocabulary_size: int) -> list[bytes]:
    """The bytes of each token, `b""` for special tokens and for ids that the tokenizer does not know.

    Byte-level BPE and SentencePiece-like vocabularies (with byte fallback or without) are read exactly. Any other is
    read by decoding each token behind another one.

    Args:
        tokenizer: a tokenizer; fast ones are read from their description.
        vocabulary_size: of the model's logits, which may exceed the tokenizer's vocabulary.
    """
    special = {*tokenizer.all_special_ids}
    special |= {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    tokens = {id: token for token, id in tokenizer.get_vocab().items() if id < vocabulary_size and id not in special}
    read = _reader(tokenizer)
    result = [b""] * vocabulary_size
    for id, token in tokens.items():
        result[id] = read(token, id)
    return result


def _reader(tokenizer: PreTrainedTokenizerBase) -> Reader:
    kinds = _decoder_steps(tokenizer)
    if "ByteLevel" in kinds:
        return lambda token, id: _from_byte_level(token)
    if "Metaspace" in kinds or {"type": "Replace", "content": " ", "pattern": "▁"} in kinds.values():
        return lambda token, id: _from_metaspace(token)
    return _by_decoding(tokenizer)


def _decoder_steps(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The steps of a fast tokenizer's decoder by type; a replacement's pattern is given as its plain string."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    decoder = json.loads(backend.to_str()).get("decoder") if backend is not None else None
    steps = {}
    for step in (decoder or {}).get("decoders", [decoder] if decoder else []):
        if step["type"] == "Replace":
            step = {**step, "pattern": step["pattern"].get("String")}
        steps[step["type"]] = step
    return steps


def _from_byte_level(token: str) -> bytes:
    table = _byte_of_character()
    if all(character in table for character in token):
        return bytes(table[character] for character in token)
    return token.encode()  # an added token is written as it is


def _from_metaspace(token: str) -> bytes:
    byte = _BYTE_TOKEN.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace("▁", " ").encode()


def _by_decoding(tokenizer: PreTrainedTokenizerBase) -> Reader:
    """Decode each token behind a first one, so that what separates tokens is part of it."""
    vocabulary = tokenizer.get_vocab()
    anchor = min(id for id in vocabulary.values() if id not in tokenizer.all_special_ids)

    def decode(ids: list[int]) -> str:
        return str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))

    before = decode([anchor])

    def read(token: str, id: int) -> bytes:
        both = decode([anchor, id])
        return (both[len(before) :] if both.startswith(before) else decode([id])).encode()

    return read


@cache
def _byte_of_character() -> dict[str, int]:
    """The printable characters by which byte-level BPE writes bytes (Radford et al., 2019, GPT-2).

    Printable Latin-1 bytes stand for themselves, the others for the characters from 256 on, in order.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}
