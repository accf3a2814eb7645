"""Hostile files: whatever bytes come, an import gives matches that verify, or says that the format is unknown; it keeps
no more than its bounds."""

import io
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from game import replay
from game.imports import assembler
from game.imports.encode import Origins, whole_log
from game.imports.importing import MAX_KINDS, FileImport
from server.errors import BadInput
from server.texts import is_line
from tests.support.foreign_logs import LOGS, stored

WORDS = [
    *(
        b'"',
        b"<",
        b">",
        b"<1><BOT><Red>",
        b'" killed "',
        b'" with "x"',
        b"\\",
        b"\\n\\x\\t\\1",
        b":",
        b"::",
        b" ",
        b"\n",
    ),
    *(b"\r\n", b"\0", b"\x1b", b"\xff", b"\xe2\x80\xae", b"99999999", b"-1", b"0:00 ", b"L 02/30/2026 - 25:61:61: "),
    *(b"L 01/01/9999 - 00:00:00: ", b"L 01/01/1970 - 00:00:00: ", b"  0:00 InitGame: ", b"Kill: 1 2 3: "),
    *(b":kill:frag:1:2:", b":gamestart:a:b", b":gameover", b":end", b":scores:a:999999999", b"(player1 "),
    *(b'World triggered "Round_Start"', b'World triggered "Match_Start" on "', b"Exit: ", b"red:999999  blue:-999999"),
    *(b'Team "Red" current score "9999"', b'{"time_ms":', b'4503599627370496,"player":"a","type":"kill"}'),
    *(b"Log file closed", b"Warmup:", b"ClientDisconnect: 1", b'" changed name to "'),
]


@st.composite
def hostile(draw: st.DrawFn) -> bytes:
    """A log whose lines were mixed, cut and filled with what such formats are made of."""
    lines = LOGS[draw(st.sampled_from(sorted(LOGS)))].split(b"\n")
    for _ in range(draw(st.integers(1, 12))):
        at = draw(st.integers(0, len(lines) - 1))
        line = lines[at]
        act = draw(st.sampled_from(("insert", "cut", "swap", "double", "bytes")))
        place = draw(st.integers(0, len(line)))
        if act == "insert":
            lines[at] = line[:place] + b"".join(draw(st.lists(st.sampled_from(WORDS), max_size=6))) + line[place:]
        elif act == "cut":
            lines[at] = line[:place]
        elif act == "bytes":
            lines[at] = line[:place] + draw(st.binary(max_size=20)) + line[place + 3 :]
        elif act == "double":
            lines.insert(draw(st.integers(0, len(lines))), line)
        else:
            other = draw(st.integers(0, len(lines) - 1))
            lines[at], lines[other] = lines[other], line
    return b"\n".join(lines)


def read(data: bytes) -> None:
    try:
        found = FileImport(io.BytesIO(data), Origins("", written_wall_ms=1))
    except BadInput:
        return
    for match in found:
        log = whole_log(match.events)
        replay.verify(stored(log))
        state = log.projection
        assert state.phase == "ended" and match.name
        times = [event.time_ms for event in match.events]
        assert times == sorted(times)
        assert all("@" in player or line.local is not True for player, line in state.players.items())
        for step in replay.steps(stored(log)):
            assert is_line(replay.feed_line(step))
    assert len(found.told.unknown) <= MAX_KINDS + 1


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(hostile())
def test_mixed_logs_give_matches_that_verify(data: bytes) -> None:
    read(data)


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=300))
def test_bytes_of_any_kind_never_crash(data: bytes) -> None:
    read(data)
    for beginning in (b"x\x9c", b"\x1f\x8b", b":end\n", b"  0:00 ", b"L 03/14/2026 - 20:01:02: ", b'{"'):
        read(beginning + data)


class Endless(io.RawIOBase):
    """A log that goes on for as long as somebody reads, made while it is read."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self.lines, self.rest = lines, b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return 0

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self.rest = self.rest or next(self.lines, b"")
        count = min(len(buffer), len(self.rest))
        buffer[:count], self.rest = self.rest[:count], self.rest[count:]
        return count


def test_many_players_and_no_end_keep_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server where nobody is the same twice, and no match ever ends."""
    monkeypatch.setattr(assembler, "MAX_EVENTS", 2_000)
    monkeypatch.setattr(assembler, "MAX_PLAYERS", 50)
    head = b"L 03/14/2026 - 20:00:00: "
    lines = (b'%s"%d<%d><[U:1:%d]><Red>" committed suicide with "w"\n' % (head, n, n, n + 1) for n in range(6_000))
    start = iter([head + b'World triggered "Round_Start"\n'])
    stream = io.BufferedReader(Endless(line for part in (start, lines) for line in part))
    found = FileImport(stream, Origins(""))
    taken = found._assembler
    assert list(found) == []
    assert len(taken._people) <= 50
    assert len(found.told.refused) == 1
