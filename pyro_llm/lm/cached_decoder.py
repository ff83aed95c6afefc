"""The decoder of a Hugging Face model: one prefill of the prompt, then one forward pass a token for all rows."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_llm.lm.cached_model import CachedModel
from pyro_llm.lm.decoder import LogProbs
from pyro_llm.lm.kv_rows import KVRows
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

    def fork(self, prefix: Prefix) -> CachedBranches:
        """Rows to write on, a copy each; see `Decoder`."""
        places = self._places(prefix)
        return CachedBranches(self._model, take(places), logits_at(places))

    def keep(self, prefix: Prefix, branches: CachedBranches, rows: Tensor) -> None:
        """Store rows that have been written on; see `Decoder`."""
        contents = Contents(prefix)
        kept = rows.tolist()
        current_cost().lm_tokens_forwarded += branches.tokens_read()
        index = {contents.key(row): row for row in range(len(kept)) if kept[row]}
        if index:
            self._cache.add(StoredBatch(branches.rows, branches.logits, index, contents.lengths))

    def _places(self, prefix: Prefix) -> list[Place]:
        """Where each row is stored, after what was missing has been read."""
        if self._last is not None and self._last[0] is prefix:
            return self._last[1]
        contents = Contents(prefix)
        keys = contents.keys()
        missing = {key: row for row, key in enumerate(keys) if self._cache.find(key) is None}
        found = {key: place for key in keys if (place := self._cache.find(key)) is not None}
        if missing:
            found |= self._read(prefix, contents, missing)
        places = [found[key] for key in keys]
        self._last = (prefix, places)
        return places

    def _read(self, prefix: Prefix, contents: Contents, missing: dict[bytes, int]) -> dict[bytes, Place]:
        """Read rows that are not stored, each from its longest stored beginning."""
        begun = {key: self._cache.find_longest(contents, row) for key, row in missing.items()}
        if any(place is None for place in begun.values()):
            prompt = self._read_prompt(prefix, contents)
            begun = {key: place or prompt for key, place in begun.items()}
        found = {key: place for key, place in begun.items() if place is not None}
        unread = {key: row for key, row in missing.items() if found[key].length < contents.lengths[row]}
        if unread:
            batch = self._read_on(prefix, contents, list(unread.values()), [found[key] for key in unread])
            found |= {key: Place(batch, row) for key, row in batch.index.items()}
        return found

    def _read_on(self, prefix: Prefix, contents: Contents, chosen: list[int], starts: list[Place]) -> StoredBatch:
        """Read the rest of chosen rows, of which the beginnings are stored, in one pass."""
        lengths = [contents.lengths[row] for row in chosen]
        more = [length - start.length for length, start in zip(lengths, starts, strict=True)]
        tokens = torch.full((len(chosen), max(more)), PAD, device=prefix.tokens.device)
        for index, (row, start) in enumerate(zip(chosen, starts, strict=True)):
            begin = start.length - contents.prompt_length
            tokens[index, : more[index]] = prefix.tokens[row, begin : begin + more[index]]
        branches = CachedBranches(self._model, take(starts), logits_at(starts))
        branches.read(tokens)
        current_cost().lm_tokens_forwarded += branches.tokens_read()
        keys = {contents.key(row): number for number, row in enumerate(chosen)}
        batch = StoredBatch(branches.rows, branches.logits, keys, lengths)
        self._cache.add(batch)
        return batch

    def _read_prompt(self, prefix: Prefix, contents: Contents) -> Place:
        rows = KVRows.empty(self._model.layers, 1, prefix.prompt_tokens.device)
        branches = CachedBranches(self._model, rows, logits=None)
        branches.read(prefix.prompt_tokens.unsqueeze(0))
        current_cost().lm_tokens_forwarded += branches.tokens_read()
        key = contents.key(0, contents.prompt_length)
        batch = StoredBatch(branches.rows, branches.logits, {key: 0}, [contents.prompt_length])
        self._cache.add_prompt(batch)
        return Place(batch, 0)


class CachedBranches:
    """Rows in a key-value cache that are being written on; see `Branches`."""

    def __init__(self, model: CachedModel, rows: KVRows, logits: Tensor | None) -> None:
        self._model = model
        self._before = rows.lengths
        self.rows = rows
        self._logits = logits

    @property
    def logits(self) -> Tensor:
        """Logits of the next token of each row. Shape `[rows, vocabulary_size]`."""
        assert self._logits is not None, "rows without a token have no pending logits"
        return self._logits

    def tokens_read(self) -> int:
        """Tokens read since these branches were made, padding not counted."""
        return int((self.rows.lengths - self._before).sum())

    def advance(self, tokens: Tensor, writing: Tensor) -> None:
        """Append a token to the rows that are writing; see `Branches`."""
        logits = self._model.forward(self.rows, tokens.unsqueeze(-1), self.rows.lengths)[:, -1]
        self._logits = torch.where(writing.unsqueeze(-1), logits, self.logits)
        self.rows.lengths = self.rows.lengths + writing

    def extend(self, tokens: Tensor, closed: Tensor, log_probs: LogProbs) -> Tensor:
        """Append given tokens and score each; see `Branches`.

        One forward pass, or several where the logits of all positions together would be very large.
        """
        lengths = (tokens != PAD).sum(-1)
        read = lengths - closed.long()
        given = tokens.clamp(min=0)
        scores = torch.zeros(tokens.shape, dtype=torch.float64, device=tokens.device)
        first = log_probs(self.logits).gather(-1, given[:, :1])
        scores[:, :1] = torch.where(tokens[:, :1] != PAD, first.double(), 0.0)
        before, width = self.rows.lengths, int(read.max())
        block = self._model.block(len(tokens))
        for begin in range(0, width, block):
            end = min(begin + block, width)
            logits = self._model.forward(self.rows, given[:, begin:end], before + begin)
            following = given[:, begin + 1 : end + 1]
            terms = log_probs(logits[:, : following.shape[1]]).gather(-1, following.unsqueeze(-1)).squeeze(-1)
            is_token = tokens[:, begin + 1 : end + 1] != PAD
            scores[:, begin + 1 : end + 1] = torch.where(is_token, terms.double(), 0.0)
            last = (read - 1 - begin).clamp(0, end - begin - 1)
            at_last = logits.gather(1, last[:, None, None].expand(-1, 1, logits.shape[-1])).squeeze(1)
            is_last = (read > begin) & (read <= end)
            self._logits = torch.where(is_last.unsqueeze(-1), at_last, self.logits)
        self.rows.lengths = before + read
        return scores

    def read(self, tokens: Tensor) -> None:
        """Append given tokens, padded on the right, without scoring them; only the last logits are computed."""
        lengths = (tokens != PAD).sum(-1)
        lasts, index = lengths.sub(1).unique(return_inverse=True)
        logits = self._model.forward(self.rows, tokens.clamp(min=0), self.rows.lengths, positions=lasts)
        self._logits = logits[torch.arange(len(tokens), device=tokens.device), index]
        self.rows.lengths = self.rows.lengths + lengths
