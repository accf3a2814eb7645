"""A generated match as a log, for benchmarks: two hours of sixteen players, reported as a game server does it."""

import random
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from game import messages as m
from game.match import rules
from game.match.state import MatchState
from game.replay import MATCH
from server.eventlog import segment
from server.eventlog.entry import Entry, Record, encode_entry, state_hash
from server.eventlog.fold import Fold
from server.eventlog.ports import Chunk, StoredLog
from server.settings import StoreSettings

PLAYERS: Final = 16
LENGTH_MS: Final = 7_200_000
REPORT_EVENTS: Final = (1, 3)
"""Events of a report, at least and at most."""
SEED: Final = 117
BEGAN_MS: Final = 1_790_000_000_000


class SampleMatch(msgspec.Struct, frozen=True):
    """A finished match: its records, the same as entries, and as a store has it."""

    records: list[Record]
    entries: list[Entry]
    log: StoredLog

    @property
    def events(self) -> int:
        return len(self.records)


def match(length_ms: int = LENGTH_MS, seed: int = SEED, began_ms: int = BEGAN_MS) -> SampleMatch:
    """The match of a seed, always the same."""
    rng = random.Random(seed)
    records = list(_records(length_ms, rng, began_ms))
    entries = [encode_entry(record) for record in records]
    return SampleMatch(records, entries, stored(entries))


def _records(length_ms: int, rng: random.Random, began_ms: int) -> Iterator[Record]:
    from garrison_bots.generate import generate

    names = [f"spartan-{rng.randrange(16**8):08x}" for _ in range(PLAYERS)]
    teams = {name: place % 2 for place, name in enumerate(names)}
    options = m.MatchOptions(map_name="Recharge", max_players=PLAYERS, score_limit=0, time_limit_ms=0, countdown_ms=0)
    reporter = f"{rng.randrange(16**12):012x}"
    yield Record(1, m.Created(0, "server-1", options, began_ms), f"server-1/host match.create/{reporter}", 1)
    for seq, name in enumerate(names, 2):
        client = f"{rng.randrange(16**12):012x}"
        yield Record(seq, m.Joined(0, name, teams[name], seq - 1), f"{name}/player match.join/{client}", 1)
    seq = PLAYERS + 2
    yield Record(seq, m.Started(0, began_ms + 10_000), f"server-1/host match.start/{reporter}", 2)
    command = 3
    left = rng.randint(*REPORT_EVENTS)
    for event in generate(teams, length_ms, rng):
        seq += 1
        yield Record(seq, _logged(event), f"server-1/host match.report/{reporter}", command)
        left -= 1
        if not left:
            command, left = command + 1, rng.randint(*REPORT_EVENTS)
    ended = m.Ended(length_ms, "host_ended", None, began_ms + 10_000 + length_ms)
    yield Record(seq + 1, ended, f"server-1/host match.end/{reporter}", command + 1)


def _logged(event: Any) -> Any:
    """The client library's struct as the server's, which has the same name and fields."""
    own = getattr(m, type(event).__name__)
    return own(**{name: getattr(event, name) for name in own.__struct_fields__})


def stored(entries: Sequence[Entry], segment_entries: int = StoreSettings().segment_entries) -> StoredLog:
    """The log as a node seals it when the match is over."""
    fold: Fold[MatchState] = Fold(MATCH, MatchState())
    chunks: list[Chunk] = []
    for first in range(0, len(entries), segment_entries):
        some = entries[first : first + segment_entries]
        head, state = fold.head, fold.state
        for entry in some:
            fold.take(entry)
        end_hash = state_hash(fold.state) if rules.finished(fold.state) else None
        chunks.append(Chunk(some[0].seq, some[-1].seq, True, segment.seal(some, head, state, end_hash)))
    return StoredLog(fold.next_seq, fold.head, chunks)
