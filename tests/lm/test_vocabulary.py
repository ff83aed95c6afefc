"""The bytes of tokens, for each kind of tokenizer: joined, they are the text that the tokenizer decodes."""

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer, WordPieceTrainer
from transformers import PreTrainedTokenizerFast

from pyro_llm.lm.vocabulary import token_bytes

CORPUS = [
    "Mia buys 48 more marbles.\n\nSo 47 + 48 = 95.",
    "Ana verliert fünf Äpfel — wie viele bleiben?",
    "日本語 のテキスト",
]
TEXTS = [*CORPUS, "a  b\n\n\nc", " leading", "trailing ", "naïve 🙂 ☃", "Mia 95"]


def byte_level():
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(CORPUS * 3, BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False))
    return backend


def metaspace_with_byte_fallback():
    """As SentencePiece models are converted (Llama 2, Gemma): blanks as U+2581, unknown characters as bytes."""
    pieces = [f"<0x{byte:02X}>" for byte in range(256)] + sorted({"▁", *"".join(CORPUS).replace(" ", "▁")} - {"\n"})
    vocabulary = {piece: id for id, piece in enumerate(["<unk>", *pieces, "▁m", "ar", "▁mar"])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return backend


def joined(tokenizer, ids):
    table = token_bytes(tokenizer, len(tokenizer))
    return b"".join(table[id] for id in ids).decode("utf-8")


@pytest.mark.parametrize("make", [byte_level, metaspace_with_byte_fallback])
@pytest.mark.parametrize("text", TEXTS)
def test_joined_bytes_are_the_decoded_text(make, text):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=make())
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert len(ids) > 1
    assert joined(tokenizer, ids) == text
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


def test_byte_tokens_are_single_bytes():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=metaspace_with_byte_fallback())
    table = token_bytes(tokenizer, len(tokenizer))
    assert table[tokenizer.convert_tokens_to_ids("<0x0A>")] == b"\n"
    assert table[tokenizer.convert_tokens_to_ids("<0xC3>")] == b"\xc3"
    assert table[tokenizer.convert_tokens_to_ids("▁mar")] == b" mar"


def test_special_and_unknown_ids_have_no_bytes_and_added_words_do():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level(), eos_token="<end>")
    tokenizer.add_tokens([AddedToken("<|turn|>", special=True), AddedToken("größer gleich", special=False)])
    table = token_bytes(tokenizer, len(tokenizer) + 3)
    assert table[tokenizer.eos_token_id] == b""
    assert table[tokenizer.convert_tokens_to_ids("<|turn|>")] == b""
    assert table[tokenizer.convert_tokens_to_ids("größer gleich")] == "größer gleich".encode()
    assert table[-3:] == [b"", b"", b""]


def test_other_tokenizers_are_read_by_decoding():
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(cleanup=False)
    trainer = WordPieceTrainer(vocab_size=80, special_tokens=["[UNK]"], show_progress=False)
    backend.train_from_iterator(["the marble the marbles buy buys buying"] * 5, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")
    ids = tokenizer.encode("the marbles buying", add_special_tokens=False)
    assert joined(tokenizer, ids).strip() == "the marbles buying"
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "the": 1, "pen": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]")
    assert joined(tokenizer, [1, 2, 2]).strip() == "the pen pen"
