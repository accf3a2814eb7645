"""A draft as a match's log: its name, its events, and all that the store takes of it. Pure.

    Draft -> match_of(draft, …) -> [Created, Joined …, Started, …, Ended] -> whole_log(events) -> WholeLog

The name is made of the format and a hash of the match's lines, so that the same lines are the same match, in whatever
file they stand. The log is one of mode `recorded`: what the other game counted is told, and no rule of ours counts
again; a kill names its victim, whose death is an event of its own.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from game.imports.assembler import Draft
from game.imports.records import LOCAL
from game.match.events import Described, Property
from game.match.state import MatchState
from game.messages import Created, Ended, EndReason, MatchEvent, MatchOptions, Started
from game.modes.registry import MODES
from game.replay import MATCH
from server.errors import BadInput, Corrupt
from server.eventlog import segment
from server.eventlog.entry import Entry, Record, encode_entry, state_hash
from server.eventlog.fold import Fold
from server.eventlog.ports import Chunk, WholeLog

MODE: Final = "recorded"
HOST: Final = "import"
"""The host of imported matches."""
SEGMENT_EVENTS: Final = 1_024
MAX_WALL_MS: Final = 2**52


class ImportedMatch(NamedTuple):
    """A match ready to be stored. `lines`: the first and the last of the file; `cut`: the log does not show its end."""

    name: str
    source: str
    lines: tuple[int, int]
    cut: bool
    events: list[MatchEvent]


class Origins(NamedTuple):
    """The circumstances of an import. `game` is the format's name, where nothing says more; `whole`: a file ends with
    its match; `written_wall_ms`: the time of the file, for matches that have none; `offset_ms(wall)`: what the zone of
    the log is ahead of UTC at that wall time."""

    game: str
    whole: bool = False
    counts: bool = False
    written_wall_ms: int = 0
    offset_ms: Callable[[int], int] = lambda wall_ms: 0


def match_of(draft: Draft, origins: Origins, ordinal: int = 0) -> ImportedMatch:
    """The match of a draft, the `ordinal`th of its file. Raises `BadInput` for one with too many events."""
    if draft.is_long:
        raise BadInput(f"the match from line {draft.first_line} on has too many events")
    game = draft.game or origins.game
    name = f"{game}-{draft.digest.hexdigest()}"
    reason: EndReason = draft.reason or ("host_ended" if origins.whole else "host_vanished")  # type: ignore[assignment]
    cut = reason == "host_vanished"
    length_ms = draft.length_ms
    if draft.wall_ms:
        began_ms = draft.wall_ms - origins.offset_ms(draft.wall_ms)
    else:
        began_ms = origins.written_wall_ms - length_ms + ordinal
    began_ms = min(max(1, began_ms), MAX_WALL_MS - length_ms - 1) if length_ms < MAX_WALL_MS else 1
    options = MatchOptions(
        mode=MODE, map_name=draft.map_name, teams=min(draft.teams, 8), max_players=0, score_limit=0,
        time_limit_ms=0, countdown_ms=0, source=f"imported:{game}", counts=origins.counts,
    )  # fmt: skip
    key = _keys(name)
    first = list(_start_of(draft.events))
    mode = MODES.newest(MODE)
    assert mode is not None
    described = Described(0, [Property("source", f"imported:{game}")], ["imported", game])
    events: list[MatchEvent] = [Created(0, HOST, mode.filled(options), began_ms, mode.version), described]
    events += [_with_keys(event, key) for event in first]
    events.append(Started(0, began_ms))
    events += [_with_keys(event, key) for event in draft.events[len(first) :]]
    winner = None if cut or draft.winner is None else key(draft.winner)
    events.append(Ended(length_ms, reason, winner, began_ms + length_ms, rated=origins.counts))
    return ImportedMatch(name, f"imported:{game}", (draft.first_line, draft.last_line), cut, events)


def _start_of(events: list[MatchEvent]) -> Iterator[MatchEvent]:
    """Events of players who are there when the match starts."""
    for event in events:
        if event.time_ms or event.__struct_config__.tag not in ("joined", "named"):
            return
        yield event


def _keys(match: str) -> Callable[[str], str]:
    """A function that gives local keys the match's name: no other match has the same one."""
    return lambda key: f"{key[len(LOCAL) :]}@{match}" if key.startswith(LOCAL) else key


def _with_keys(event: Any, key: Callable[[str], str]) -> MatchEvent:
    changes = {
        field: key(value)
        for field in ("player", "victim")
        if (value := getattr(event, field, None)) is not None and value.startswith(LOCAL)
    }
    renamed: MatchEvent = replace(event, **changes) if changes else event
    return renamed


def whole_log(events: Iterable[MatchEvent]) -> WholeLog:
    """The log of a match that is over, as the live one would have written and sealed it. Raises `BadInput` where an
    event is none that a log may hold."""
    fold: Fold[MatchState] = Fold(MATCH, MatchState())
    segments: list[Chunk] = []
    entries: list[Entry] = []
    base, head = fold.state, fold.head
    for event in events:
        entry = encode_entry(Record(fold.next_seq, event))
        if len(entries) >= SEGMENT_EVENTS:
            segments.append(_sealed(entries, head, base, None))
            entries, base, head = [], fold.state, fold.head
        try:
            fold.take(entry)
        except Corrupt as error:
            raise BadInput(f"not an event of a match: {error.message}") from None
        entries.append(entry)
    end_hash = state_hash(fold.state) if MATCH.finished(fold.state) else None
    segments.append(_sealed(entries, head, base, end_hash))
    return WholeLog(fold.head, segments, fold.state)


def _sealed(entries: list[Entry], head: bytes, base: MatchState, end_hash: bytes | None) -> Chunk:
    return Chunk(entries[0].seq, entries[-1].seq, True, segment.seal(entries, head, base, end_hash))
