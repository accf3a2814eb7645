"""Event logs of Xonotic (and of Nexuiz before it). Pure.

    :join:2:2:192.0.2.17:Pia: the second
    :kill:frag:1:2:type=7:items=7:victimitems=2

Fields stand between colons, and a name, which may hold colons, is the last one. An address may hold some too, and what
could be of either counts as the address: that is dropped. The name comes again with the final scores. Events have no
time, unless the server writes `:time:` lines; the final scores say how long the match was. Players are known by a
number of the match.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Final

from game.imports.lines import clean
from game.imports.records import (
    Begin,
    Close,
    Gone,
    Happened,
    LengthMs,
    Met,
    Named,
    Over,
    PlayerTotal,
    Reading,
    Record,
    Slain,
    TeamTotal,
    local_key,
)
from game.imports.table import Found, Row, kind_of, read_row, row

MAX_BOTS: Final = 4_096
PREFIX: Final = re.compile(r":[a-z-]{2,32}(?::|$)")
TEAMS: Final = {"5": 0, "14": 1, "13": 2, "10": 3}
"""Red, blue, yellow, pink."""


class XonoticReader:
    """Reads lines of the log, one by one."""

    def __init__(self) -> None:
        self.bots: set[str] = set()
        self.labels: dict[str, list[str]] = {}
        self.clock_ms: int | None = None

    def read(self, text: str) -> Reading:
        if PREFIX.match(text) is None:
            return Reading("no event", known=not text.strip())
        found = read_row(_ROWS, self, text)
        wall = {"clock_ms": self.clock_ms, "is_wall": self.clock_ms is not None}
        if found is None:
            return Reading(kind_of(text.split(":")[1]), False, **wall)  # type: ignore[arg-type]
        return Reading(found[0], True, records=found[1], **wall)  # type: ignore[arg-type]

    def key(self, number: str) -> str:
        return local_key("bot" if number in self.bots else "slot", number)

    def column(self, table: str, values: str) -> int | None:
        """The points in a row of the final scores: its column marked `!!`."""
        for label, value in zip(self.labels.get(table, ()), values.split(","), strict=False):
            if label.endswith("!!") and re.fullmatch(r"-?\d{1,6}", value):
                return int(value)
        return None


def without_address(text: str) -> str:
    """The name in `address:name`; empty where none is left."""
    parts = text.split(":")
    for count in range(min(len(parts), 9), 0, -1):
        address = ":".join(parts[:count]).strip("[]").replace("_", ":")
        try:
            ip_address(address.partition("%")[0])
        except ValueError:
            continue
        rest = parts[count:]
        if count == 1 and len(rest) > 1 and re.fullmatch(r"\d{1,5}", rest[0]):
            rest = rest[1:]  # a port
        return ":".join(rest)
    return ":".join(parts[1:])


def _begin(reader: XonoticReader, found: Found) -> Iterator[Record]:
    reader.bots, reader.labels = set(), {}
    yield Close()
    yield Begin(clean(found["map"].partition("_")[2] or found["map"]), fresh=True)


def _joined(reader: XonoticReader, found: Found) -> Iterator[Record]:
    number, rest = found["number"], found["rest"]
    name = rest[4:] if rest.startswith("bot:") else without_address(rest)
    reader.bots.discard(number)
    if rest.startswith("bot:"):
        reader.bots.add(number)
        if len(reader.bots) > MAX_BOTS:
            reader.bots = {number}
    yield Met(reader.key(number), clean(name), playing=False)


def _team(reader: XonoticReader, found: Found) -> Iterator[Record]:
    playing = not found["team"].startswith("-")
    yield Met(reader.key(found["number"]), "", TEAMS.get(found["team"]), playing)


def _named(reader: XonoticReader, found: Found) -> Iterator[Record]:
    yield Named(reader.key(found["number"]), clean(found["name"]))


def _parted(reader: XonoticReader, found: Found) -> Iterator[Record]:
    yield Gone(reader.key(found["number"]))


def _killed(reader: XonoticReader, found: Found) -> Iterator[Record]:
    killer, victim = found["killer"], found["victim"]
    alone = found["how"] != "frag" or killer in (victim, "0")
    yield Slain(reader.key(victim), None if alone else reader.key(killer))


def _objective(reader: XonoticReader, found: Found) -> Iterator[Record]:
    yield Happened("mode", reader.key(found["number"]), found["what"])


def _time(reader: XonoticReader, found: Found) -> Iterator[Record]:
    try:
        moment = datetime.strptime(found["time"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
        reader.clock_ms = max(0, int(moment.timestamp()) * 1_000)
    except ValueError:
        pass
    return iter(())


def _over(reader: XonoticReader, found: Found) -> Iterator[Record]:
    yield Over("host_ended")


def _length(reader: XonoticReader, found: Found) -> Iterator[Record]:
    yield LengthMs(int(found["seconds"]) * 1_000)


def _labels(reader: XonoticReader, found: Found) -> Iterator[Record]:
    reader.labels[found["table"]] = found["labels"].split(",")[:64]
    return iter(())


def _player(reader: XonoticReader, found: Found) -> Iterator[Record]:
    key, points = reader.key(found["number"]), reader.column("player", found["values"])
    yield Named(key, clean(found["name"]))
    if points is not None:
        yield PlayerTotal(key, points)


def _team_total(reader: XonoticReader, found: Found) -> Iterator[Record]:
    team, points = TEAMS.get(found["team"]), reader.column("teamscores", found["values"])
    if team is not None and points is not None:
        yield TeamTotal(team, points)


def _end(reader: XonoticReader, found: Found) -> Iterator[Record]:
    yield Close()


_NUMBER = r"(?P<number>\d{1,6})"
_ROWS: Final[tuple[Row, ...]] = (
    row("chat", r":chat(?:_\w+)?:.*"),
    row(
        "kill",
        r":kill:(?P<how>frag|tk|suicide|accident):(?P<killer>\d{1,6}):(?P<victim>\d{1,6})(?::.*)?",
        _killed,
    ),
    row("match start", r":gamestart:(?P<map>[^:]{1,128}):.*", _begin),
    row("join", rf":join:{_NUMBER}:\d{{1,6}}:(?P<rest>.*)", _joined),
    row("team", rf":team:{_NUMBER}:(?P<team>-?\d{{1,3}})(?::.*)?", _team),
    row("rename", rf":name:{_NUMBER}:(?P<name>.*)", _named),
    row("part", rf":part:{_NUMBER}", _parted),
    row("flag", rf":ctf:(?P<what>[a-z_]{{1,32}}):\d{{1,3}}:{_NUMBER}", _objective),
    row("flag", r":ctf:[a-z_]{1,32}:\d{1,3}(?::.*)?"),
    row(
        "objective",
        rf":(?:keyhunt|kh|dom|ons|ka|nb|freezetag|ft):(?P<what>[a-z_]{{1,32}}):{_NUMBER}(?::.*)?",
        _objective,
    ),
    row("time", r":time:(?P<time>[-\d: ]{19})", _time),
    row("game over", r":gameover", _over),
    row("length", r":scores:[^:]{1,128}:(?P<seconds>\d{1,9})(?:\.\d+)?", _length),
    row("labels", r":labels:(?P<table>player|teamscores):(?P<labels>.*)", _labels),
    row("player score", rf":player:see-labels:(?P<values>[^:]*):[^:]*:[^:]*:{_NUMBER}:(?P<name>.*)", _player),
    row("team score", r":teamscores:see-labels:(?P<values>[^:]*):(?P<team>\d{1,3})", _team_total),
    row("end", r":end", _end),
    row(
        "of the server",
        r":(?:gameinfo|logversion|startdelay|restart|recordset|anticheat|vote|entity|item_\w+|weapon|restarted|dom|ons|"
        r"keyhunt|ka|player:see-labels|teamscores|labels|lms|race|cts|as|nexball)(?::.*)?",
    ),
)
