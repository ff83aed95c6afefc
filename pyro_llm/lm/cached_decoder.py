"""The decoder of a Hugging Face model: one prefill of the prompt, then one forward pass a token for all rows."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_llm.lm.cached_branches import CachedBranches
from pyro_llm.lm.cached_model import CachedModel
from pyro_llm.lm.language_model import Prefix
from pyro_llm.lm.prefix_cache import Contents, Place, PrefixCache, StoredBatch, logits_at, take
from pyro_llm.lm.state import PAD
from pyro_llm.run_scope import current_cost


class CachedDecoder:
    """Reads what it has not read yet; see `Decoder`."""

    def __init__(self, model: CachedModel) -> None:
        self._model = model
        self._cache = PrefixCache()
        self._last: tuple[Prefix, list[Place]] | None = None

    def pending(self, prefix: Prefix) -> Tensor:
        """Logits of the next token; see `Decoder`."""
        return logits_at(self._places(prefix))

    def fork(self, prefix: Prefix, room: int) -> CachedBranches:
        """Rows to write on, a copy each; see `Decoder`."""
        return self._fork(self._places(prefix), room)

    def keep(self, prefix: Prefix, branches: CachedBranches, rows: Tensor) -> None:
        """Store rows that have been written on; see `Decoder`."""
        contents = Contents(prefix)
        self._last = None
        self._store(contents, branches, rows.tolist())

    def kv_bytes(self) -> int:
        """Bytes of keys, values and recurrent states held, whatever shares memory counted once."""
        storages = {
            storage._cdata: storage.nbytes()
            for batch in self._cache.batches()
            for tensor in batch.rows.tensors()
            for storage in [tensor.untyped_storage()]
        }
        return sum(storages.values())

    def _fork(self, places: list[Place], room: int) -> CachedBranches:
        lengths = [place.length for place in places]
        return CachedBranches(self._model, take(places, room), logits_at(places), lengths)

    def _store(self, contents: Contents, branches: CachedBranches, kept: list[bool]) -> list[StoredBatch]:
        current_cost().lm_tokens_forwarded += branches.tokens_read()
        batches = []
        for part in branches.parts():
            index = {contents.key(row): at for at, row in enumerate(part.numbers) if kept[row]}
            batch = StoredBatch.of_rows(part.rows, part.logits, index, [contents.lengths[row] for row in part.numbers])
            if not self._model.recurrent:
                begun = {contents.key(row, branches.begun[row]): at for at, row in enumerate(part.numbers)}
                self._cache.adopt(batch, {key: at for key, at in begun.items() if key not in index})
            batches.append(batch)
        self._cache.add([batch for batch in batches if batch.index])
        return batches

    def _places(self, prefix: Prefix) -> list[Place]:
        """Where each row is stored, after what was missing has been read."""
        if self._last is not None and self._last[0] is prefix:
            return self._last[1]
        contents = Contents(prefix)
        keys = contents.keys()
        found = {key: place for key in keys if (place := self._cache.find(key)) is not None}
        missing = {key: row for row, key in enumerate(keys) if key not in found}
        if missing:
            self._last = None
            self._read(prefix, contents, missing)
            found |= {key: place for key in missing if (place := self._cache.find(key)) is not None}
        places = [found[key] for key in keys]
        self._last = (prefix, places)
        return places

    def _read(self, prefix: Prefix, contents: Contents, missing: dict[bytes, int]) -> None:
        """Read rows that are not stored, each from its longest stored beginning."""
        begun = {key: self._cache.find_longest(contents, row) for key, row in missing.items()}
        if any(place is None for place in begun.values()):
            prompt = self._read_prompt(prefix, contents)
            begun = {key: place or prompt for key, place in begun.items()}
        starts = {key: place for key, place in begun.items() if place is not None}
        unread = {key: row for key, row in missing.items() if starts[key].length < contents.lengths[row]}
        if unread:
            self._read_on(prefix, contents, list(unread.values()), [starts[key] for key in unread])

    def _read_on(self, prefix: Prefix, contents: Contents, chosen: list[int], starts: list[Place]) -> None:
        """Read the rest of chosen rows, of which the beginnings are stored, in one pass."""
        more = [contents.lengths[row] - start.length for row, start in zip(chosen, starts, strict=True)]
        tokens = torch.full((len(chosen), max(more)), PAD, device=prefix.tokens.device)
        for index, (row, start) in enumerate(zip(chosen, starts, strict=True)):
            begin = start.length - contents.prompt_length
            tokens[index, : more[index]] = prefix.tokens[row, begin : begin + more[index]]
        branches = self._fork(starts, room=max(more))
        branches.read(tokens)
        self._store(contents.of_rows(chosen), branches, [True] * len(chosen))

    def _read_prompt(self, prefix: Prefix, contents: Contents) -> Place:
        branches = CachedBranches(self._model, self._model.empty(1, prefix.prompt_tokens.device), None, [0])
        branches.read(prefix.prompt_tokens.unsqueeze(0))
        current_cost().lm_tokens_forwarded += branches.tokens_read()
        key = contents.key(0, contents.prompt_length)
        rows = self._model.settle_prompt(branches.rows)
        batch = StoredBatch.of_rows(rows, branches.logits, {key: 0}, [contents.prompt_length])
        self._cache.add_prompt(batch)
        return Place(batch, 0)
