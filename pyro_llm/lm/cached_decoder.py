"""The decoder of a Hugging Face model: one prefill of the prompt, then one forward pass a token for all rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from pyro_llm.lm.cached_branches import CachedBranches
from pyro_llm.lm.cached_model import CachedModel
from pyro_llm.lm.language_model import Prefix
from pyro_llm.lm.memory import Memory, RowSize
from pyro_llm.lm.prefix_cache import Contents, PrefixCache
from pyro_llm.lm.prefixes import joined
from pyro_llm.lm.state import PAD
from pyro_llm.lm.stored_batch import Key, Place, StoredBatch, logits_at, take
from pyro_llm.run_scope import claim, current_cost


class CachedDecoder:
    """Reads what it has not read yet; see `Decoder`."""

    def __init__(self, model: CachedModel, memory: Memory) -> None:
        self._model = model
        self.memory = memory
        self._cache = memory.watch(PrefixCache())
        self._drawn: set[Key] = set()  # texts whose last token has been drawn, and not read since

    def pending(self, starts: Sequence[Place]) -> Tensor:
        """Logits of the next token; see `Decoder`."""
        return logits_at(starts)

    def fork(
        self,
        starts: Sequence[Place],
        room: int,
        steps: Sequence[object] | None = None,
        ended: CachedBranches | None = None,
    ) -> CachedBranches:
        """Rows to write on, a copy each; see `Decoder`."""
        logits = logits_at(starts)
        lent = [] if steps is None or self._model.recurrent else _lend(starts, steps)
        given_up = {place.batch.rows for place in starts if steps is not None and _is_given_up(place, ended)}
        try:
            branches = CachedBranches(self._model, take(starts, room, given_up), logits)
        except BaseException:
            for cache, batch in lent:
                cache.forget(batch)
            raise
        branches.lent = [batch for _, batch in lent]
        for batch in branches.lent:
            batch.rows = branches.rows
        if ended is not None:
            branches.take_over(ended, {place.number: row for row, place in enumerate(starts) if place.cache is None})
        return branches

    def keep(self, prefix: Prefix, branches: CachedBranches, begun: Sequence[int], kept: Tensor, step: object) -> None:
        """Store rows that have been written on; see `Decoder`."""
        contents = Contents(prefix)
        self._store(contents, branches, [contents.prompt_length + length for length in begun], kept.tolist(), step)

    def row_bytes(self, prefix: Prefix, more: int) -> int:
        """Bytes that a row takes; see `Decoder`. Reads the prompt if no row has been read yet."""
        if self._model.row_size is None:
            self.starts(Prefix(prefix.prompt_tokens, prefix.tokens[:1, :0], prefix.lengths[:1] * 0))
        assert self._model.row_size is not None
        apart = self._model.shares_prompts
        tokens = (0 if apart else len(prefix.prompt_tokens)) + prefix.tokens.shape[-1] + more
        return self._model.row_size.bytes(tokens)

    def kv_bytes(self) -> int:
        """Bytes of keys, values and recurrent states; see `Decoder`."""
        return self._cache.kv_bytes()

    def _store(
        self, contents: Contents, branches: CachedBranches, begun: Sequence[int], kept: Sequence[bool], step: object
    ) -> StoredBatch:
        if self._drawn:
            self._drawn -= contents.keys_from(begun)
        index = {contents.key(row): row for row in range(len(kept)) if kept[row]}
        batch = StoredBatch.of_rows(branches.rows, branches.logits, index, list(contents.lengths))
        if not self._model.recurrent:
            beginnings = {contents.key(row, length): row for row, length in enumerate(begun)}
            self._cache.adopt(batch, {key: row for key, row in beginnings.items() if key not in index})
        if batch.index:
            self._cache.add(batch, step)
            self.memory.forget_oldest()
        return batch

    def note_drawn(self, text: Prefix) -> None:
        """Note what has been drawn from pending logits; see `Decoder`."""
        stored = {key for batch in self._cache.batches() for key in batch.index}
        self._drawn |= set(Contents(text).keys()) - stored

    def drawn(self, prefix: Prefix, continuation: Tensor) -> int:
        """How much of a continuation is so; see `Decoder`."""
        if not self._drawn:
            return 0
        contents = Contents(joined(prefix, continuation))
        begun = [contents.prompt_length + length for length in prefix.lengths.tolist()]
        return len(self._drawn & contents.keys_from(begun))

    def unread(self, prefix: Prefix) -> tuple[Prefix, Tensor]:
        """Rows that are not stored; see `Decoder`."""
        contents = Contents(prefix)
        missing = {key: row for row, key in enumerate(contents.keys()) if self._cache.find(key) is None}
        begun = self._longer(contents, self._begun(prefix, contents, missing.values()))
        lengths = torch.tensor(
            [start.length - contents.prompt_length for start in begun.values()], dtype=torch.long
        ).to(prefix.tokens.device)
        rows = torch.tensor(list(begun), dtype=torch.long, device=prefix.tokens.device)
        places = torch.arange(prefix.tokens.shape[-1], device=prefix.tokens.device)
        stored = prefix.tokens[rows].masked_fill(places >= lengths.unsqueeze(-1), PAD)
        return Prefix(prefix.prompt_tokens, stored, lengths), self._rest(prefix, contents, begun)

    def starts(self, prefix: Prefix) -> list[Place]:
        """Where each row is stored, after what was missing has been read; see `Decoder`."""
        contents = Contents(prefix)
        keys = contents.keys()
        found = {key: place for key in keys if (place := self._cache.find(key)) is not None}
        missing = {key: row for row, key in enumerate(keys) if key not in found}
        if missing:
            begun = self._begun(prefix, contents, missing.values())
            found |= {key: begun[row] for key, row in missing.items()}
            longer = self._longer(contents, begun)
            if longer:
                found |= self._read_on(contents.of_rows(list(longer)), longer, self._rest(prefix, contents, longer))
        return [found[key] for key in keys]

    def _begun(self, prefix: Prefix, contents: Contents, rows: Iterable[int]) -> dict[int, Place]:
        """The longest stored beginning of each of some rows; reads the prompt if that is not stored."""
        begun = {row: self._cache.find_longest(contents, row) for row in rows}
        if all(begun.values()):
            return {row: place for row, place in begun.items() if place is not None}
        prompt = self._read_prompt(prefix, contents)
        return {row: place or prompt for row, place in begun.items()}

    @staticmethod
    def _longer(contents: Contents, begun: dict[int, Place]) -> dict[int, Place]:
        """Rows that are more than what is stored of them."""
        return {row: place for row, place in begun.items() if place.length < contents.lengths[row]}

    def _rest(self, prefix: Prefix, contents: Contents, begun: dict[int, Place]) -> Tensor:
        """What follows the stored beginnings of rows, padded on the right."""
        more = [contents.lengths[row] - start.length for row, start in begun.items()]
        tokens = torch.full((len(begun), max(more, default=0)), PAD, device=prefix.tokens.device)
        for index, (row, start) in enumerate(begun.items()):
            begin = start.length - contents.prompt_length
            tokens[index, : more[index]] = prefix.tokens[row, begin : begin + more[index]]
        return tokens

    def _read_on(self, contents: Contents, begun: dict[int, Place], tokens: Tensor) -> dict[bytes, Place]:
        """Read tokens that follow stored texts, in one pass; returns where the rows are."""
        starts = list(begun.values())
        forwarded = int((tokens != PAD).sum())
        drawn = self._drawn & contents.keys_from([start.length for start in starts]) if self._drawn else ()
        read = forwarded - len(drawn)
        claim(lm_tokens_forwarded=forwarded, lm_tokens_read=read)
        branches = self.fork(starts, room=tokens.shape[-1])
        branches.read(tokens)
        current_cost().lm_tokens_forwarded += forwarded
        current_cost().lm_tokens_read += read
        kept = [True] * len(starts)
        batch = self._store(contents, branches, [start.length for start in starts], kept, step=object())
        return {key: Place(batch, row, key, self._cache) for row, key in enumerate(contents.keys())}

    def _read_prompt(self, prefix: Prefix, contents: Contents) -> Place:
        claim(lm_tokens_forwarded=contents.prompt_length, lm_tokens_read=contents.prompt_length)
        branches = CachedBranches(self._model, self._model.empty(1, prefix.prompt_tokens.device), None)
        branches.read(prefix.prompt_tokens.unsqueeze(0))
        current_cost().lm_tokens_forwarded += contents.prompt_length
        current_cost().lm_tokens_read += contents.prompt_length
        key = contents.key(0, contents.prompt_length)
        if self._model.row_size is None:
            self._model.row_size = RowSize.of(branches.rows, branches.logits)
        rows = self._model.settle_prompt(branches.rows)
        batch = StoredBatch.of_rows(rows, branches.logits, {key: 0}, [contents.prompt_length])
        self._cache.add_prompt(batch)
        self.memory.forget_oldest()
        return Place(batch, 0)


def _lend(starts: Sequence[Place], steps: Sequence[object]) -> list[tuple[PrefixCache, StoredBatch]]:
    """Have the caches lend the texts that rows are written from; says what each has lent."""
    rows: dict[tuple[int, int], dict[bytes, int]] = {}
    lenders: dict[tuple[int, int], tuple[PrefixCache, object]] = {}
    for row, (place, step) in enumerate(zip(starts, steps, strict=True)):
        if place.cache is not None:
            lenders[id(place.cache), id(step)] = place.cache, step
            rows.setdefault((id(place.cache), id(step)), {}).setdefault(place.key, row)
    lent = [(cache, cache.lend(rows[which], step)) for which, (cache, step) in lenders.items()]
    return [(cache, batch) for cache, batch in lent if batch is not None]


def _is_given_up(place: Place, ended: CachedBranches | None) -> bool:
    """Whether nobody will ask for the rows of a batch again, after its texts have been lent."""
    if place.cache is None:
        return ended is not None and place.batch.rows is ended.rows
    return not place.batch.lent and all(place.batch.rows is not batch.rows for batch in place.cache.batches())
