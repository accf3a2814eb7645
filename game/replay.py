"""Replay of a stored match: from bytes to records, states, totals and lines of text. Pure.

    StoredLog -> steps(log) -> Step(record, state before, state after) …
              -> verify(log) -> Report, or `Corrupt` naming segment and event

The state is made by the same `evolve` as live play, so a replay is the match. `verify` believes
nothing that it can compute: checksums and hash chain from bytes, each keyframe from the events
before it, the end hash from all of them, the log's end from the row. The terminal's timing is the
command line's affair.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from game.match import rules
from game.match.state import MatchState
from game.messages import (
    Assist,
    Countdown,
    Created,
    Death,
    Ended,
    Joined,
    Kill,
    Left,
    MatchEvent,
    Medal,
    Objective,
    PlayerLine,
    Score,
    Started,
)
from server.errors import BadInput, Corrupt
from server.eventlog import segment
from server.eventlog.ports import Chunk, StoredLog
from server.eventlog.record import NO_HEAD, Entry, Record, next_head, state_hash
from server.wire.codec import UNDECODABLE

_entry_data = msgspec.msgpack.Decoder(tuple[MatchEvent, str | None, int])
_keyframe = msgspec.msgpack.Decoder(MatchState)


class Step(msgspec.Struct, frozen=True):
    """One event as it happened: the record, the state before and the state after."""

    record: Record
    before: MatchState
    after: MatchState


class Totals(msgspec.Struct, frozen=True):
    """What a recording counts of one player."""

    kills: int
    deaths: int
    medals: int


class Report(msgspec.Struct, frozen=True):
    """What `verify` found good. `keyframes` were recomputed; `end_hash` is whether the log is
    finished and its end hash was recomputed too. `head` is the last running hash, in hex."""

    events: int
    segments: int
    open_chunks: int
    keyframes: int
    end_hash: bool
    head: str
    state: MatchState


def read(entry: Entry) -> Record:
    """The record in `entry`. Raises `Corrupt` naming the event."""
    try:
        event, lineage, command = _entry_data.decode(entry.data)
    except UNDECODABLE as error:
        raise Corrupt(f"event {entry.seq}: {error}") from None
    return Record(entry.seq, event, lineage, command)


def steps(log: StoredLog, from_ms: int = 0) -> Iterator[Step]:
    """Every event from match clock `from_ms` on, with states; begins at the keyframe at or before
    it, so that what is earlier is not decoded. Raises `Corrupt`."""
    chunks = log.chunks[_chunk_before(log.chunks, from_ms) :] if from_ms else log.chunks
    state: MatchState | None = None
    for chunk in chunks:
        part = _decode(chunk)
        if state is None:
            state = _start(part)
        for entry in part.entries:
            record = _read_in(part, entry)
            before, state = state, rules.evolve(state, record)
            if entry.time_ms >= from_ms:
                yield Step(record, before, state)


def final_state(log: StoredLog) -> MatchState:
    """The state after the last event, computed from the first. Raises `Corrupt`."""
    state = MatchState()
    for chunk in log.chunks:
        part = _decode(chunk)
        for entry in part.entries:
            state = rules.evolve(state, _read_in(part, entry))
    return state


def verify(log: StoredLog) -> Report:
    """Recompute everything that is stored of a whole log (read from event 1). Raises `Corrupt`
    with the first thing that is not as it should be."""
    state, head, next_seq = MatchState(), NO_HEAD, 1
    segments = open_chunks = 0
    ended = False
    for chunk in log.chunks:
        if chunk.first_seq != next_seq:
            raise Corrupt(f"events {next_seq} to {chunk.first_seq - 1} are missing")
        part = _decode(chunk)
        if part.sealed:
            segments += 1
            _same(part, "keyframe", part.keyframe_hash, state_hash(state))
            _same(part, f"event {part.first_seq}: running hash before it", part.head_before, head)
        else:
            open_chunks += 1
        for entry in part.entries:
            state = rules.evolve(state, _read_in(part, entry))
            head = next_head(head, entry)
        next_seq = part.last_seq + 1
        if part.end_hash is not None:
            _same(part, f"event {part.last_seq}: end hash", part.end_hash, state_hash(state))
        ended = part.end_hash is not None
    if next_seq != log.next_seq or head != log.head:
        raise Corrupt(f"the log ends at event {next_seq - 1}; its row says {log.next_seq - 1}, or another hash")
    return Report(next_seq - 1, segments, open_chunks, segments, ended, head.hex(), state)


def totals(state: MatchState) -> dict[str, Totals]:
    """Kills, deaths and medals of each player, by name."""
    return {player: Totals(line.kills, line.deaths, line.medals) for player, line in sorted(state.players.items())}


# ---- reading chunks -------------------------------------------------------------------------


def _decode(chunk: Chunk) -> segment.Segment:
    part = segment.decode(chunk.data, chunk.first_seq)
    if part.last_seq != chunk.last_seq or part.sealed != chunk.sealed:
        raise Corrupt(f"{_name(part)}: header: ends at event {part.last_seq}, its row says {chunk.last_seq}")
    return part


def _name(part: segment.Segment) -> str:
    return f"{'segment' if part.sealed else 'open chunk'} at event {part.first_seq}"


def _read_in(part: segment.Segment, entry: Entry) -> Record:
    try:
        return read(entry)
    except Corrupt as error:
        raise Corrupt(f"{_name(part)}: {error.message}") from None


def _start(part: segment.Segment) -> MatchState:
    """The state before a chunk that a replay begins with."""
    if not part.sealed:
        if part.first_seq != 1:
            raise Corrupt(f"{_name(part)}: header: nothing to begin a replay with")
        return MatchState()
    try:
        return _keyframe.decode(part.keyframe or b"")
    except UNDECODABLE as error:
        raise Corrupt(f"{_name(part)}: keyframe: {error}") from None


def _chunk_before(chunks: list[Chunk], from_ms: int) -> int:
    """The place of the last chunk to begin at so that no event at `from_ms` is missed."""
    for place in range(len(chunks) - 1, 0, -1):
        if chunks[place].sealed and _decode(chunks[place]).entries[0].time_ms < from_ms:
            return place
    return 0


def _same(part: segment.Segment, what: str, stored: bytes | None, computed: bytes) -> None:
    if stored != computed:
        raise Corrupt(f"{_name(part)}: {what}: stored {(stored or b'').hex()}, computed {computed.hex()}")


# ---- text -----------------------------------------------------------------------------------

COLUMNS: Final = ("player", "team", "score", "kills", "deaths", "assists", "medals", "objectives")


def parse_clock(text: str) -> int:
    """`MM:SS`, `H:MM:SS` or seconds, as ms of the match clock. Raises `BadInput`."""
    fields = text.split(":")
    if not 1 <= len(fields) <= 3 or not all(field.isascii() and field.isdigit() for field in fields):
        raise BadInput(f"not a match time (MM:SS): {text[:32]!r}")
    numbers = [int(field) for field in fields]
    if len(numbers) > 1 and any(number > 59 for number in numbers[1:]):
        raise BadInput(f"not a match time (MM:SS): {text[:32]!r}")
    seconds = 0
    for number in numbers:
        seconds = seconds * 60 + number
    return seconds * 1000


def clock(time_ms: int) -> str:
    """The match clock as `MM:SS.mmm`; minutes go on past 99."""
    seconds, ms = divmod(time_ms, 1000)
    return f"{seconds // 60:02d}:{seconds % 60:02d}.{ms:03d}"


def feed_line(step: Step) -> str:
    """One event as a line of the kill feed, in words. What clients wrote (medals, maps) is shown
    without control characters."""
    event = step.record.event
    words = "".join(char if char.isprintable() else "?" for char in _words(event, step))
    return f"{clock(event.time_ms)}  {words}"


def _words(event: MatchEvent, step: Step) -> str:
    match event:
        case Created(host=host, options=options):
            where = f" on {options.map_name}" if options.map_name else ""
            return f"match created by {host}: {options.mode}{where}"
        case Joined(player=player, team=team):
            return f"{player} joined" + (f" team {team}" if team is not None else "")
        case Left(player=player, reason=reason):
            return f"{player} {'left' if reason == 'left' else 'lost the connection'}"
        case Countdown(length_ms=length_ms):
            return f"the match starts in {length_ms / 1000:g} s"
        case Started():
            return "the match is live"
        case Kill(player=player, victim=None):
            return f"{player} kills ({step.after.players[player].kills})"
        case Kill(player=player, victim=victim):
            return f"{player} kills {victim}{_score(step)}"
        case Death(player=player):
            return f"{player} dies"
        case Assist(player=player):
            return f"{player} assists"
        case Medal(player=player, medal=medal):
            return f"{player} earns {medal}"
        case Objective(player=player, name=name):
            return f"{player}: {name or 'objective'}{_score(step)}"
        case Score(player=player, team=team, points=points):
            return f"{player if player is not None else f'team {team}'} scores {points:+d}{_score(step)}"
        case Ended(reason=reason, winner=winner):
            why = reason.replace("_", " ")
            return f"the match is over ({why})" + (f": {winner} wins" if winner else "")


def _score(step: Step) -> str:
    """The team scores, where the event changed them."""
    if step.after.team_scores == step.before.team_scores:
        return ""
    return f"  [{' - '.join(map(str, step.after.team_scores))}]"


def scoreboard_lines(state: MatchState) -> list[str]:
    """The scoreboard as aligned text, a heading first."""
    rows = [COLUMNS, *(_row(line) for line in rules.lines(state))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _row(line: PlayerLine) -> tuple[str, ...]:
    numbers = (line.score, line.kills, line.deaths, line.assists, line.medals, line.objectives)
    return (line.player, "-" if line.team is None else str(line.team), *map(str, numbers))
