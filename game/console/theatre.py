"""The theatre's part of the admin API: a match that was played, or is being played, as its log has it.

    matches/{match}/theatre             all that a page draws at once: events, scores over time, gaps
    matches/{match}/moment?ms=          the match at a time of its clock, from the keyframe before it
    matches/{match}/steps?seq=&limit=   events from a number on, each with what it changed of the scoreboard

All three read the stored log, so that any node answers for any match, also while it is played. A log is walked over
once a node, in slices between which the loop has its turn, and a request spends a bounded time on that; what a walk
has found is kept for the newest few matches, and moved on when there is more. Of a match whose onlookers have
to wait (`spectator_delay_ms`) nobody is told here what is not due yet: this is the view for an audience.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final

import msgspec
from msgspec import UNSET

from game import replay as replays
from game.console.drawing import COLUMNS, Drawing, StepRow, board_rows, step_row
from game.match import spectating
from game.match.state import MatchState
from game.replay import Step
from server.actors.app import AdminContext, ConsoleRoute
from server.errors import BadInput, Corrupt, NotFound, Overloaded, UnknownRules
from server.eventlog import segment
from server.eventlog.fold import LogGap, load
from server.eventlog.ports import Chunk, StoredLog
from server.ids import actor_id, key_of

KEPT: Final = 8
"""Matches whose walk is kept."""
BUDGET_S: Final = 1.5
"""Time that a request spends on a walk; the next one goes on with it."""
SLICE_S: Final = 0.004
"""Time of the loop at a stretch."""
EVERY: Final = 32
"""Events between two looks at the clock."""
FRESH_S: Final = 0.2
"""How long what was read of a log is taken for all there is."""
MAX_STEPS: Final = 500
MAX_UNREADABLE: Final = 32
"""Segments that cannot be read and that a moment looks behind for one that can."""
MAX_MS: Final = 2**53
Item = Step | LogGap


class Keyframe(msgspec.Struct):
    """The beginning of a segment: its first event, the clock of that, and a digest of its bytes (empty: not sealed)."""

    first_seq: int
    first_ms: int
    digest: bytes


class Reel:
    """A match's log, as far as it was read and may be told: its drawing, where its keyframes are, and the walk under
    way."""

    def __init__(self, match: str, budget_s: float = BUDGET_S, slice_s: float = SLICE_S) -> None:
        self.match = match
        self.lock = asyncio.Lock()
        self._budget_s, self._slice_s = budget_s, slice_s
        self._fresh_until = 0.0
        self._begin()

    def _begin(self) -> None:
        self.drawing = Drawing()
        self.events = 0
        """Events that the log has by its row."""
        self.unruled = ""
        """The reason for which the match's rules cannot be asked, if they cannot."""
        self._keyframes = [Keyframe(1, 0, b"")]
        self._walk: Iterator[Item] | None = None
        self._end: tuple[int, bytes] = (1, b"")
        self._delay_ms = 0
        self._due_ms: int | None = None
        """The match clock after which nothing is told yet."""
        self._told: tuple[int, dict[str, Any]] = (0, {})

    @property
    def reading(self) -> bool:
        """Whether the walk has not come to its end yet."""
        return self._walk is not None

    async def follow(self, context: AdminContext) -> None:
        """Go on to the end of the log, or as far as it may be told, or as the time of a request allows. Raises
        `NotFound`."""
        loop = asyncio.get_running_loop()
        async with self.lock:
            if self._walk is None:
                if loop.time() < self._fresh_until:
                    return
                await self._read_on(context)
            try:
                await self._walk_on()
            except UnknownRules as error:
                await self._go_without_rules(context, error.message)
            except _Stuck as error:
                await self._go_without_rules(context, str(error))
            self._fresh_until = loop.time() + FRESH_S

    async def _read_on(self, context: AdminContext) -> None:
        """Read what was added since the last segment that was taken; all of it, where that is another log now."""
        known = max((frame for frame in self._keyframes if frame.first_seq <= self.drawing.next_seq), key=_first)
        log = await self._read(context, known.first_seq)
        same = not known.digest or any(_digest(chunk) == known.digest for chunk in log.chunks[:1])
        taken_back = log.next_seq < self._end[0] or (log.next_seq == self._end[0] and log.head != self._end[1])
        if not same or (taken_back and self.events):
            self._begin()
            log = await self._read(context, 1)
        elif (log.next_seq, log.head) == self._end and self.drawing.next_seq >= log.next_seq:
            return
        self._take_up(log, context.wall_ms())

    def _take_up(self, log: StoredLog, wall_ms: int) -> None:
        self._end, self.events = (log.next_seq, log.head), log.next_seq - 1
        for chunk in log.chunks:
            if chunk.sealed and chunk.first_seq == 1:
                self._keyframes[0].digest = _digest(chunk)
            elif chunk.sealed and chunk.first_seq > self._keyframes[-1].first_seq:
                try:
                    first_ms = segment.span(chunk.data).first_ms
                except Corrupt:
                    continue  # nobody can begin there
                self._keyframes.append(Keyframe(chunk.first_seq, first_ms, _digest(chunk)))
        self._delay_ms, self._due_ms = (0, None) if self.unruled else delay_of(log, wall_ms)
        self._walk = self._items(log, bool(log.chunks) and log.chunks[0].first_seq > 1)

    def _items(self, log: StoredLog, excerpt: bool) -> Iterator[Item]:
        return replays.unruled(log) if self.unruled else _evolved(replays.readable(log, excerpt=excerpt))

    async def _go_without_rules(self, context: AdminContext, why: str) -> None:
        self._begin()
        self.unruled = why
        self._take_up(await self._read(context, 1), context.wall_ms())
        await self._walk_on()

    async def _walk_on(self) -> None:
        loop = asyncio.get_running_loop()
        until, slice_end = loop.time() + self._budget_s, loop.time() + self._slice_s
        for count, item in enumerate(self._walk or (), 1):
            if self._due_ms is not None and not isinstance(item, LogGap) and item.record.event.time_ms > self._due_ms:
                break  # read again when it is due
            self.drawing.take(item)
            if count % EVERY == 0 and loop.time() >= slice_end:
                await asyncio.sleep(0)
                if loop.time() >= until:
                    return
                slice_end = loop.time() + self._slice_s
        self._walk = None

    async def _in_slices(self, items: Iterator[Item]) -> AsyncIterator[Item]:
        """The items, between some of which the loop has its turn."""
        loop = asyncio.get_running_loop()
        slice_end = loop.time() + self._slice_s
        for count, item in enumerate(items, 1):
            yield item
            if count % EVERY == 0 and loop.time() >= slice_end:
                await asyncio.sleep(0)
                slice_end = loop.time() + self._slice_s

    async def _read(self, context: AdminContext, from_seq: int, to_seq: int | None = None) -> StoredLog:
        log = await context.read_log("match", self.match, from_seq, to_seq)
        if log is None:
            raise NotFound(f"no match {self.match}")
        return log

    # ---- answers ------------------------------------------------------------------------------

    def head(self) -> dict[str, Any]:
        """The part that every answer has: how far the match is, and whether it goes on."""
        state = self.drawing.state
        return {
            "match": self.match,
            "phase": state.phase,
            "live": state.phase != "ended" and not self.reading,
            "edge_ms": self.drawing.last_ms,
            "events": self.events if self._due_ms is None else self.drawing.next_seq - 1,
        }

    def theatre(self) -> dict[str, Any]:
        state, drawing = self.drawing.state, self.drawing
        if self._told[0] != drawing.next_seq:
            self._told = (drawing.next_seq, drawing.summary())
        origin = state.origin
        return {
            **self.head(),
            "reading": self.reading,
            "read": drawing.next_seq - 1,
            "unruled": self.unruled,
            "delay_ms": self._delay_ms,
            "mode": state.options.mode,
            "map_name": state.options.map_name,
            "teams": state.options.teams,
            "rules": 1 if state.rules is UNSET else state.rules,
            "source": "" if origin is UNSET else origin.source,
            "host": state.host,
            "created_wall_ms": state.created_wall_ms,
            "started_wall_ms": state.started_wall_ms,
            "ended_wall_ms": state.ended_wall_ms,
            "live_from_ms": state.live_from_ms,
            "end_reason": state.end_reason,
            "winner": state.winner,
            **self._told[1],
        }

    async def moment(self, context: AdminContext, ms: int) -> dict[str, Any]:
        """The match after the last event whose clock is at most `ms`."""
        before = [place for place, frame in enumerate(self._keyframes) if place == 0 or frame.first_ms <= ms]
        for place in reversed(before[-MAX_UNREADABLE:]):
            state, next_seq = await self._state_at(context, place, ms)
            if state is not None:
                return self._moment(state, next_seq, ms)
        return self._moment(MatchState(), 1, ms)

    async def _state_at(self, context: AdminContext, place: int, ms: int) -> tuple[MatchState | None, int]:
        """The state at `ms` from keyframe `place` on, and the number of the event after it. None where nothing can be
        read between the two."""
        first_seq = self._keyframes[place].first_seq
        state, next_seq = MatchState() if first_seq == 1 else None, first_seq
        last_seq = self._keyframes[place + 1].first_seq - 1 if place + 1 < len(self._keyframes) else None
        log = await self._read(context, first_seq, last_seq)
        async for item in self._in_slices(self._items(log, True)):
            if isinstance(item, LogGap):
                continue
            if item.record.event.time_ms > ms or item.record.seq >= self.drawing.next_seq:
                return (item.before if state is None and item.record.seq == first_seq else state), next_seq
            state, next_seq = item.after, item.record.seq + 1
        return state, next_seq

    def _moment(self, state: MatchState, next_seq: int, ms: int) -> dict[str, Any]:
        gap = next((gap for gap in self.drawing.gaps if gap.first_seq <= next_seq <= gap.last_seq), None)
        rounds = state.rounds
        return {
            **self.head(),
            "time_ms": ms,
            "next_seq": next_seq,
            "phase_then": state.phase,
            "team_scores": list(state.team_scores),
            "rounds_won": [] if rounds is UNSET else list(rounds.won),
            "rounds_played": 0 if rounds is UNSET else rounds.played,
            "columns": COLUMNS,
            "board": board_rows(state),
            "player_count": len(state.players),
            "gap": msgspec.to_builtins(gap),
        }

    async def steps(self, context: AdminContext, seq: int, limit: int) -> dict[str, Any]:
        """At most `limit` events from `seq` on, as far as they are in `drawing`."""
        end = min(seq + limit, self.drawing.next_seq)
        rows: list[StepRow] = []
        gaps: list[LogGap] = []
        if seq < end:
            first_seq = max(frame.first_seq for frame in self._keyframes if frame.first_seq <= seq)
            log = await self._read(context, first_seq, end - 1)
            after_gap = False
            async for item in self._in_slices(self._items(log, True)):
                if isinstance(item, LogGap):
                    after_gap = True
                    if item.last_seq >= seq and item.first_seq < end:
                        gaps.append(item)
                elif item.record.seq >= end:
                    break
                elif item.record.seq >= seq and (row := step_row(item)) is not None:
                    if after_gap:
                        state = item.after
                        row = msgspec.structs.replace(
                            row, lines=board_rows(state), team_scores=list(state.team_scores), phase=state.phase
                        )
                    after_gap = False
                    rows.append(row)
        return {
            **self.head(),
            "columns": COLUMNS,
            "steps": rows,
            "gaps": gaps,
            "next_seq": max(seq, end),
            "more": end < self.drawing.next_seq,
        }


class _Stuck(Exception):
    """The rules of today cannot evolve by an event: its text says by which."""


def _evolved(items: Iterator[Item]) -> Iterator[Item]:
    """The items. Raises `_Stuck`."""
    next_seq = 1
    while True:
        try:
            item = next(items)
        except StopIteration:
            return
        except (UnknownRules, Corrupt):
            raise
        except Exception as error:
            raise _Stuck(f"the rules cannot go on at event {next_seq}: {type(error).__name__}: {error}") from error
        next_seq = (item.last_seq if isinstance(item, LogGap) else item.record.seq) + 1
        yield item


def delay_of(log: StoredLog, wall_ms: int) -> tuple[int, int | None]:
    """The delay that a match sets for its onlookers, and the match clock up to which they may be told of it by now;
    None: all of it. Of a log whose end cannot be read all is told: who asks is an operator, after all."""
    try:
        state = load(replays.MATCH, log).state
    except Exception:  # the walk says what is wrong with it
        return 0, None
    delay_ms = spectating.delay_ms(state)
    if spectating.is_public(state):
        return delay_ms, None
    return delay_ms, spectating.public_until_ms(delay_ms, state.started_wall_ms, wall_ms, state.live_from_ms or 0)


def _first(frame: Keyframe) -> int:
    return frame.first_seq


def _digest(chunk: Chunk) -> bytes:
    return blake2b(chunk.data, digest_size=16).digest()


# ---- routes -----------------------------------------------------------------------------------


async def theatre(context: AdminContext, params: Mapping[str, str]) -> Any:
    """A match for its theatre: events in columns, scores over time, who was ahead, and what cannot be read. `reading`:
    it is long, and not all of it is in here yet; ask again."""
    reel = await _reel(context, params)
    return reel.theatre()


async def moment(context: AdminContext, params: Mapping[str, str]) -> Any:
    """A match at time `ms` of its clock: scores, scoreboard (lines with the fields `columns`), and the number of the
    event that comes next."""
    ms = _number(params, "ms", 0, MAX_MS)
    reel = await _whole_reel(context, params)
    return await reel.moment(context, min(ms, max(0, reel.drawing.last_ms)))


async def steps(context: AdminContext, params: Mapping[str, str]) -> Any:
    """The events of a match from number `seq` on, at most `limit` (200): what happened, and the lines of the scoreboard
    that are others after it. `more`: there are further ones by now."""
    seq, limit = _number(params, "seq", 1, MAX_MS), _number(params, "limit", 1, MAX_STEPS, 200)
    reel = await _whole_reel(context, params)
    return await reel.steps(context, seq, limit)


async def _whole_reel(context: AdminContext, params: Mapping[str, str]) -> Reel:
    """The match, walked over to the end of its log. Raises `Overloaded` while that takes longer."""
    reel = await _reel(context, params)
    if reel.reading:
        raise Overloaded(f"match {reel.match} is being read: {reel.drawing.next_seq - 1} of {reel.events} events")
    return reel


async def _reel(context: AdminContext, params: Mapping[str, str]) -> Reel:
    match = key_of(actor_id("match", params["match"]))
    shelf: OrderedDict[str, Reel] = context.kept.setdefault("theatre", OrderedDict())
    reel = shelf.get(match) or Reel(match)
    await reel.follow(context)
    shelf[match] = reel  # once it is known that there is such a match
    shelf.move_to_end(match)
    while len(shelf) > KEPT:
        shelf.popitem(last=False)
    return reel


def _number(params: Mapping[str, str], name: str, least: int, most: int, default: int | None = None) -> int:
    """A whole number among the parameters. Raises `BadInput`."""
    text = params.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        raise BadInput(f"{name} must be a whole number from {least} to {most}")
    return int(text)


THEATRE: Final[Mapping[str, ConsoleRoute]] = {
    "matches/{match}/theatre": theatre,
    "matches/{match}/moment": moment,
    "matches/{match}/steps": steps,
}
