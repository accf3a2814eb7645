"""A match driven by its pure rules alone, kept as records and as stored bytes, and the recorded
matches of real games where they are at hand."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from game.match import admission, endings, rules
from game.match.state import MatchState
from game.messages import Death, Kill, MatchEvent, MatchOptions, Medal, Objective, Report
from server.eventlog import segment
from server.eventlog.entry import NO_HEAD, Entry, Record, encode_entry, next_head, state_hash
from server.eventlog.ports import Chunk, StoredLog


class Played:
    """The actor's part around the rules: append events under a command, then what follows."""

    def __init__(self) -> None:
        self.state = MatchState()
        self.records: list[Record] = []
        self.clock_ms = 0
        self.wall_ms = 1_700_000_000_000

    @property
    def next_seq(self) -> int:
        return len(self.records) + 1

    def emit(self, events: list[MatchEvent], lineage: str | None = None, command: int = 0) -> tuple[int, int]:
        """Append `events` and the end they may bring; returns first and next number."""
        first_seq = self.next_seq
        for event in events:
            self._append(event, lineage, command)
        while (end := endings.due(self.state, self.clock_ms, self.wall_ms)) is not None:
            self._append(end, lineage, command)
        return first_seq, self.next_seq

    def _append(self, event: MatchEvent, lineage: str | None, command: int) -> None:
        record = Record(self.next_seq, event, lineage, command)
        self.state = rules.evolve(self.state, record)
        self.records.append(record)

    def create(self, host: str = "host", **options: Any) -> "Played":
        self.emit(rules.create(self.state, "m", host, MatchOptions(**options), self.wall_ms))
        return self

    def join(self, *players: str, team: int | None = None) -> "Played":
        for player in players:
            self.emit(admission.join(self.state, player, team))
        return self

    def start(self, time_ms: int = 0) -> "Played":
        self.emit(rules.start(self.state, self.state.host, time_ms, self.wall_ms))
        return self

    def report(self, *events: Report) -> "Played":
        self.emit(rules.report(self.state, self.state.host, events, self.wall_ms))
        return self

    def tick(self, time_ms: int) -> "Played":
        self.clock_ms = max(self.clock_ms, time_ms)
        self.emit(rules.tick(self.state, self.state.host, time_ms, self.wall_ms))
        return self

    def end(self, time_ms: int = 0) -> "Played":
        self.emit(rules.end(self.state, self.state.host, time_ms, self.wall_ms))
        return self

    def live(self, players: int = 4, **options: Any) -> "Played":
        """A live match of players p0, p1, …"""
        options = {"countdown_ms": 0, **options}
        return self.create(**options).join(*(f"p{number}" for number in range(players))).start()

    def entries(self) -> list[Entry]:
        return [encode_entry(record) for record in self.records]

    def stored(self, segment_entries: int = 16, open_entries: int = 5) -> StoredLog:
        """The log as a store has it: segments, the last one with the end's hash if the match is
        over, otherwise a tail of open chunks of `open_entries`."""
        entries = self.entries()
        over = self.state.phase == "ended"
        chunks: list[Chunk] = []
        state, head = MatchState(), NO_HEAD
        while entries and (len(entries) >= segment_entries or over):
            some, entries = entries[:segment_entries], entries[segment_entries:]
            before, head_before = state, head
            for entry in some:
                state = rules.evolve(state, self.records[entry.seq - 1])
                head = next_head(head, entry)
            end_hash = state_hash(state) if over and not entries else None
            data = segment.seal(some, head_before, before, end_hash)
            chunks.append(Chunk(some[0].seq, some[-1].seq, True, data))
        for start in range(0, len(entries), open_entries):
            some = entries[start : start + open_entries]
            chunks.append(Chunk(some[0].seq, some[-1].seq, False, segment.encode_open(some)))
            for entry in some:
                head = next_head(head, entry)
        return StoredLog(self.next_seq, head, chunks)


def shared_data() -> Path:
    """The folder of recorded matches and other games' logs, which need not be there."""
    return Path(os.environ.get("GARRISON_SHARED") or Path(__file__).resolve().parents[3] / "shared") / "data"


def recorded_files() -> list[Path]:
    """The recorded matches, none where they are not at hand."""
    return sorted((shared_data() / "halo_infinite").glob("*.jsonl"))


def recorded_params() -> list[Any]:
    """Parameters, one a file, or one that skips."""
    skipped = pytest.param(None, marks=pytest.mark.skip(reason="no recorded matches (GARRISON_SHARED)"))
    return [pytest.param(path, id=path.stem[:8]) for path in recorded_files()] or [skipped]


def read_recorded(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def as_report(row: dict[str, Any]) -> Report:
    """A recorded event as a host reports it."""
    match row["type"]:
        case "kill":
            return Kill(row["time_ms"], row["player"])
        case "death":
            return Death(row["time_ms"], row["player"])
        case "medal":
            return Medal(row["time_ms"], row["player"], row["medal"])
        case "mode":
            return Objective(row["time_ms"], row["player"])
    raise AssertionError(row)


def counted(rows: list[dict[str, Any]]) -> dict[str, tuple[int, int, int, int]]:
    """Kills, deaths, medals and objectives of each player, counted from the file alone."""
    counts = Counter((row["player"], row["type"]) for row in rows)
    return {
        player: tuple(counts[player, kind] for kind in ("kill", "death", "medal", "mode"))  # type: ignore[misc]
        for player in {row["player"] for row in rows}
    }
