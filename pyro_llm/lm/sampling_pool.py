"""The token loop: rows of several requests, each at its own place, in one batch that they join and leave."""

from __future__ import annotations

from collections import deque
from functools import partial

import torch
from torch import Tensor

from pyro_llm.lm.decoder import Branches
from pyro_llm.lm.decoding import Decoding, restrict
from pyro_llm.lm.drawing import Drawing
from pyro_llm.lm.failures import not_a_number, out_of_memory
from pyro_llm.lm.language_model import Continuation, LanguageModel
from pyro_llm.lm.memory import is_out_of_memory
from pyro_llm.lm.sample_request import DrawnRows, SampleRequest, Tally
from pyro_llm.lm.stopping import terminator
from pyro_llm.run_scope import BudgetSpent, passes_count_for

_CHECK_EVERY = 8  # tokens between two looks, from the host, at which rows of an accelerator have ended
_COMPACT_AT = 0.75  # of the rows: when no more go on, moving them costs less than to drag the others along


class SamplingPool:
    """Draws a token a turn for all rows in its batch.

    Rows of a request enter when there is memory for them, the others wait; rows that have ended leave, and a request is
    done with its last row, whatever others are at. A row's draws are keyed and its keys and values are its own, so that
    nothing depends on which rows are in the batch. If memory runs out, all rows leave the batch, to come back half as
    many at a time: their tokens are read again.

    Before a token is drawn for the rows of a run, its budget is asked; when that is spent the rows leave, and what they
    have drawn in this request is lost.

    Args:
        lm: the language model.
        decoding: of all requests.
        greedy: whether each token is the most probable one; of all requests.
    """

    def __init__(self, lm: LanguageModel, decoding: Decoding, greedy: bool = False) -> None:
        self._lm, self._decoding, self._greedy = lm, decoding, greedy
        self._ending = terminator(lm, decoding.stop)
        self._waiting: deque[DrawnRows] = deque()
        self._lanes: list[tuple[SampleRequest, int] | None] = []  # None: its row has left
        self._branches: Branches | None = None
        self._drawing: Drawing | None = None
        self._going_on = 0  # lanes, when the host last looked
        self._row_bytes = 0
        self._turn = 0
        self._last_turns: set[int] = set()  # those in which the last row of some group must end

    def admit(self, request: SampleRequest) -> None:
        """Take a request; see `Service`."""
        drawing = Drawing.begin(self._ending, request.key, self._decoding.max_tokens)
        self._waiting.append(DrawnRows(request, list(range(len(request.prefix))), drawing))

    @torch.no_grad()
    def advance(self) -> None:
        """Let rows in, draw a token for each row, let rows out; see `Service`."""
        try:
            self._enter()
            if self._branches is not None:
                self._draw()
        except BudgetSpent as spent:
            for request in {*self._requests(), *(group.request for group in self._waiting)}:
                if request.scope is spent.scope:
                    self._stop(request)
            self._look()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self._retreat(error)

    def _draw(self) -> None:
        assert self._branches is not None and self._drawing is not None
        for request in self._requests():
            if not request.may_draw(self._turn, partial(self._tally, request)):
                self._stop(request)
        if not self._requests():
            self._end()
            return
        log_probs = restrict(self._branches.logits, self._decoding)
        token, writing = self._drawing.draw(log_probs, self._ending, self._greedy)
        stopped = [each for each in self._requests() if not each.may_read(partial(self._tally, each))]
        for request in stopped:
            self._stop(request, writing)
        looks_always = _looks_always(token.device) or bool(stopped)
        if not looks_always or writing.any():
            with passes_count_for([request.scope for request in self._requests()], claimed=True):
                self._branches.advance(token, writing)  # after the last token too: the next step begins with these
        self._turn += 1
        if looks_always or self._turn % _CHECK_EVERY == 0 or self._turn in self._last_turns:
            self._look()

    def _requests(self) -> list[SampleRequest]:
        return list(dict.fromkeys(lane[0] for lane in self._lanes if lane is not None))

    def _tally(self, request: SampleRequest) -> Tally:
        """What a request has drawn that is not counted yet; the host waits."""
        numbers = self._numbers(request)
        here = [self._group(request, numbers)] if numbers else []
        groups = [*here, *(group for group in self._waiting if group.request is request)]
        sampled = sum(int(group.drawing.index.sum()) for group in groups)
        closed = sum(int((group.drawing.state == self._ending.by_eos).sum()) for group in groups)
        going_on = sum(int(group.drawing.active.sum()) for group in here)
        return Tally(sampled, sampled - closed, going_on, self._turn)

    def _numbers(self, request: SampleRequest) -> list[int]:
        return [number for number, lane in enumerate(self._lanes) if lane is not None and lane[0] is request]

    def _stop(self, request: SampleRequest, writing: Tensor | None = None) -> None:
        """Count what a run has drawn, whose budget is spent, and let its rows go; those that were to write as well."""
        numbers = self._index(self._numbers(request))
        tally = self._tally(request)
        request.scope.cost.lm_tokens_sampled += tally.sampled
        request.scope.cost.lm_tokens_forwarded += tally.forwarded - (
            0 if writing is None else int(writing[numbers].sum())
        )
        if self._drawing is not None:
            self._drawing.active[numbers] = False
        if writing is not None:
            writing[numbers] = False
        for number in numbers.tolist():
            self._lanes[number] = None
        self._waiting = deque(group for group in self._waiting if group.request is not request)
        request.fail(BudgetSpent(request.scope))

    def _enter(self) -> None:
        """Let waiting rows in, as many as fit beside those that go on."""
        entering: list[DrawnRows] = []
        rows = self._going_on
        try:
            while self._waiting and (room := self._room(self._waiting[0], rows)):
                group = self._waiting.popleft()
                if room < len(group.rows):
                    group, rest = group.split(room)
                    self._waiting.appendleft(rest)
                entering.append(group)
                rows += len(group.rows)
            if entering:
                self._leave_ended(all_of_them=True)
                self._join(entering)
        except (Exception, BudgetSpent):
            self._waiting.extendleft(reversed(entering))
            raise

    def _room(self, group: DrawnRows, here: int) -> int:
        """How many rows of a group may enter beside so many."""
        decoder, context = group.request.decoder, group.request.context
        needed = context.run(decoder.row_bytes, group.request.prefix, self._decoding.max_tokens)
        self._row_bytes = max(self._row_bytes, needed) if here else needed
        free = decoder.memory.rows_that_fit(self._row_bytes) - here
        return min(len(group.rows), max(free, 0 if here else 1))

    def _join(self, entering: list[DrawnRows]) -> None:
        """Put rows into the batch, those of one request, which share a prompt, side by side."""
        starts = [start for group in entering for start in group.starts()]
        lanes = [(group.request, row) for group in entering for row in group.rows]
        drawing = Drawing.joined([group.drawing for group in entering])
        if self._branches is not None and self._drawing is not None:
            here = [number for number, lane in enumerate(self._lanes) if lane is not None]
            places = self._branches.starts()
            starts = [*(places[number] for number in here), *starts]
            lanes = [*(lane for lane in self._lanes if lane is not None), *lanes]
            drawing = Drawing.joined([self._drawing.select(self._index(here)), drawing])
        order_of = {request: number for number, request in enumerate(dict.fromkeys(request for request, _ in lanes))}
        order = sorted(range(len(lanes)), key=lambda lane: order_of[lanes[lane][0]])
        if order != list(range(len(order))):
            drawing = drawing.select(self._index(order))
        self._branches = entering[0].request.decoder.fork(
            [starts[lane] for lane in order],
            room=self._decoding.max_tokens,
            steps=[lanes[lane][0].step for lane in order],
            ended=self._branches,
        )
        self._drawing, self._lanes = drawing, [lanes[lane] for lane in order]
        self._going_on = len(order)
        for request in self._requests():
            request.tally = None
        self._last_turns.add(self._turn + self._decoding.max_tokens)

    def _index(self, numbers: list[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=self._lm.device)

    def _look(self) -> None:
        """See, from the host, which rows have ended."""
        self._last_turns.discard(self._turn)
        if self._drawing is None:
            return
        going_on = int(self._drawing.active.sum())
        if going_on < self._going_on:
            self._going_on = going_on
            self._leave_ended(all_of_them=going_on <= _COMPACT_AT * len(self._lanes))
            self._compact()

    def _leave_ended(self, all_of_them: bool) -> None:
        """Let the rows of requests go that have all ended; if asked for, all rows that have ended."""
        if self._drawing is None:
            return
        ended: dict[SampleRequest, list[int]] = {}
        for number, (lane, goes_on) in enumerate(zip(self._lanes, self._drawing.active.tolist(), strict=True)):
            if lane is not None and not goes_on:
                ended.setdefault(lane[0], []).append(number)
        for request, numbers in ended.items():
            if all_of_them or len(numbers) == request.unfinished:
                self._leave(request, numbers)

    def _compact(self) -> None:
        """Make the batch smaller where that pays."""
        staying = [number for number, lane in enumerate(self._lanes) if lane is not None]
        if not staying:
            self._end()
        elif len(staying) <= _COMPACT_AT * len(self._lanes):
            assert self._branches is not None and self._drawing is not None
            self._branches.keep_only(staying, room=self._decoding.max_tokens)
            self._drawing = self._drawing.select(self._index(staying))
            self._lanes = [self._lanes[number] for number in staying]

    def _end(self) -> None:
        if self._branches is not None:
            self._branches.keep_only([], room=0)
        self._branches = self._drawing = None
        self._lanes, self._going_on = [], 0

    def _leave(self, request: SampleRequest, numbers: list[int]) -> None:
        """Let rows of a request go, and have its decoder remember them."""
        group, branches = self._group(request, numbers), self._branches
        assert branches is not None
        kept = group.drawing.state != self._ending.by_eos
        begun = request.prefix.lengths[self._index(group.rows)].tolist()
        part = branches if len(numbers) == len(self._lanes) else branches.select(numbers, room=0)
        request.context.run(request.decoder.keep, group.text(), part, begun, kept, request.step)
        for number in numbers:
            self._lanes[number] = None
        still = sum(lane is not None and lane[0] is request for lane in self._lanes)
        request.note_peak(branches.kv_bytes() * still // len(self._lanes))
        self._write_down(group)

    def _group(self, request: SampleRequest, numbers: list[int]) -> DrawnRows:
        assert self._drawing is not None
        rows = [lane[1] for number in numbers if (lane := self._lanes[number]) is not None]
        everyone = len(numbers) == len(self._lanes)
        return DrawnRows(request, rows, self._drawing if everyone else self._drawing.select(self._index(numbers)))

    def _write_down(self, group: DrawnRows) -> None:
        """Give a request what has been drawn for rows that have ended; with its last row it is done."""
        request, drawing, index = group.request, group.drawing, self._index(group.rows)
        closed = drawing.state == self._ending.by_eos
        request.tokens[index], request.log_prob[index] = drawing.tokens[:, :-1], drawing.log_prob
        request.scope.cost.lm_tokens_sampled += int(drawing.index.sum())
        request.scope.cost.lm_tokens_forwarded += int((drawing.index - closed.long()).sum())
        request.unfinished -= len(group.rows)
        if request.unfinished:
            return
        if bool(request.log_prob.isnan().any()):
            request.fail(not_a_number(self._lm.name))
        else:
            request.settle(Continuation(request.tokens, request.log_prob))

    def _retreat(self, error: Exception) -> None:
        """After memory has run out: take all rows out of the batch, to be let in again half as many at a time."""
        tried, coming_back = len(self._lanes), []
        for request in self._requests():
            group = self._group(request, self._numbers(request))
            active = group.drawing.active.tolist()
            going_on, ended = (
                group.select([n for n, on in enumerate(active) if on is which]) for which in (True, False)
            )
            if ended.rows:
                self._write_down(ended)
            if going_on.rows:
                coming_back.append(going_on)
        self._end()
        self._waiting.extendleft(reversed(coming_back))
        if not self._waiting:
            return
        first = self._waiting[0].request
        memory = first.decoder.memory
        tried = tried or min(sum(len(group.rows) for group in self._waiting), memory.rows_that_fit(self._row_bytes))
        if memory.most_rows == 1:
            self._waiting = deque(group for group in self._waiting if group.request is not first)
            first.fail(out_of_memory(self._lm.name, error))
        else:
            memory.run_out(tried)


def _looks_always(device: torch.device) -> bool:
    """Whether the host looks after each token if rows have ended: on accelerators a look waits for them."""
    return device.type == "cpu"
