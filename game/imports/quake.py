r"""`games.log` of the Quake 3 family: Quake 3, OpenArena, Urban Terror and what else is built on that engine. Pure.

      1:06 Kill: 2 3 7: Ivy of the Hill killed Jo by MOD_ROCKET_SPLASH
      1:40 ClientUserinfoChanged: 3 n\Jo\t\0\model\sarge

Numbers decide, never the words behind them: a player may be called "killed by". The clock is minutes and seconds since
the server or the map began; minutes go on past 59, and the clock restarts with each match. Players are known by their
slot, or by a guid where the game logs one. A guid is also what admin programs know their admins by, so that only a
digest of it is kept; addresses are never read.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Final

from game.imports.lines import clean
from game.imports.records import (
    Begin,
    Close,
    Game,
    Gone,
    Happened,
    Met,
    Over,
    PlayerTotal,
    Reading,
    Record,
    Slain,
    TeamTotal,
    WarmUp,
    local_key,
)
from game.imports.table import Found, Row, begins, kind_of, read_row, row

PREFIX: Final = re.compile(r"\s{0,8}(\d{1,7}):(\d\d)(?:\.\d)? ")
_TORN = re.compile(r"[\d: ]{0,40}\s(\d{1,7}:\d\d InitGame: \\.*)", re.DOTALL)
WORLD: Final = range(1022, 1024)
"""Numbers that are no player: the world, and nobody."""
TEAMS: Final = {"1": 0, "2": 1}
SPECTATOR: Final = "3"
TEAM_CHANGES: Final = frozenset({"MOD_CHANGE_TEAM", "MOD_TEAM_SWITCH", "UT_MOD_CHANGE_TEAM"})
"""Deaths that are none: the engine kills who changes team."""


def settings_of(text: str) -> dict[str, str]:
    r"""The pairs of `\name\value\name\value`."""
    parts = text.removeprefix("\\").split("\\")
    return dict(zip(parts[::2], parts[1::2], strict=False))


class QuakeReader:
    """Reads lines of the log, one by one."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self.guids: dict[int, str] = {}
        self.bots: set[int] = set()
        self.occupants: dict[int, int] = {}
        """How many have had a slot before, since the match began."""
        self.left: set[int] = set()

    def read(self, text: str) -> Reading:
        prefix = PREFIX.match(text)
        if prefix is None:
            return Reading("no time in front", known=not text.strip())
        clock_ms = (int(prefix[1]) * 60 + int(prefix[2])) * 1_000
        rest = text[prefix.end() :]
        found = read_row(_ROWS, self, rest)
        if found is not None:
            return Reading(found[0], True, clock_ms, records=found[1])
        torn = _TORN.fullmatch(rest)
        if torn is not None:
            return Reading("torn line", False, clock_ms, again=torn[1])
        return Reading(kind_of(rest.partition(":")[0]), False, clock_ms)

    def key(self, number: int) -> str:
        """The key of whoever has slot `number` now."""
        if number in self.guids:
            return self.guids[number]
        if number in self.bots:
            return local_key("bot", number)
        before = self.occupants.get(number, 0)
        return local_key("slot", f"{number}-{before + 1}" if before else number)

    def arrive(self, number: int) -> None:
        """Take note of a client at a slot: another one than who left it."""
        if number in self.left:
            self.left.discard(number)
            self.guids.pop(number, None)
            self.bots.discard(number)
            self.occupants[number] = self.occupants.get(number, 0) + 1


def _begin(reader: QuakeReader, found: Found) -> Iterator[Record]:
    reader._forget()
    settings = settings_of(found["settings"])
    game = " ".join(settings.get(name, "") for name in ("gamename", "version", "fs_game")).lower()
    yield Close()
    yield Begin(clean(settings.get("mapname", "")), fresh=True, wall_ms=_wall_ms(settings.get("g_timestamp", "")))
    if "q3ut4" in game:
        yield Game("urbanterror")
    elif "oa" in re.split(r"[^a-z]+", game) or "baseoa" in game:
        yield Game("openarena")


def _wall_ms(text: str) -> int:
    """`2026-03-14 20:00:00`, or 0."""
    try:
        moment = datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return 0
    return max(0, int(moment.timestamp()) * 1_000)


def _connected(reader: QuakeReader, found: Found) -> Iterator[Record]:
    reader.arrive(int(found["slot"]))
    return iter(())


def _user(reader: QuakeReader, found: Found) -> Iterator[Record]:
    number, settings = int(found["slot"]), settings_of(found["settings"])
    reader.arrive(number)
    guid = settings.get("cl_guid") or settings.get("id") or ""
    if re.fullmatch(r"[0-9A-Fa-f]{16,64}", guid) and number not in reader.guids:
        reader.guids[number] = "guid:" + blake2b(guid.upper().encode(), digest_size=12).hexdigest()
    elif "skill" in settings:
        reader.bots.add(number)
    if "n" in settings:
        team = settings.get("t", "0")
        yield Met(reader.key(number), clean(settings["n"]), TEAMS.get(team), team != SPECTATOR)


def _gone(reader: QuakeReader, found: Found) -> Iterator[Record]:
    number = int(found["slot"])
    yield Gone(reader.key(number))
    reader.left.add(number)


def _killed(reader: QuakeReader, found: Found) -> Iterator[Record]:
    killer, victim = int(found["killer"]), int(found["victim"])
    if victim in WORLD or found["how"].rpartition(" ")[2] in TEAM_CHANGES:
        return
    alone = killer in WORLD or killer == victim
    yield Slain(reader.key(victim), None if alone else reader.key(killer))


def _flag(reader: QuakeReader, found: Found) -> Iterator[Record]:
    yield Happened("mode", reader.key(int(found["slot"])), clean(found["what"], 64))


_FLAG_ACTS: Final = {
    "Flag": ("dropped", "returned", "captured"),
    "CTF": ("taken", "captured", "returned", "carrier killed"),
}
"""Meanings of the numbers in `Flag:` (Urban Terror) and `CTF:` (OpenArena) lines."""


def _flag_act(reader: QuakeReader, found: Found) -> Iterator[Record]:
    acts, act = _FLAG_ACTS[found["word"]], int(found["act"])
    if act < len(acts):
        yield Happened("mode", reader.key(int(found["slot"])), f"flag {acts[act]}")


def _award(reader: QuakeReader, found: Found) -> Iterator[Record]:
    yield Happened("medal", reader.key(int(found["slot"])), clean(found["what"] or "award", 64))


def _assist(reader: QuakeReader, found: Found) -> Iterator[Record]:
    yield Happened("assist", reader.key(int(found["slot"])))


def _exit(reader: QuakeReader, found: Found) -> Iterator[Record]:
    yield Over("time" if found["why"].startswith("Timelimit") else "score")


def _sides(reader: QuakeReader, found: Found) -> Iterator[Record]:
    yield Over("host_ended")  # no effect behind an `Exit`
    yield TeamTotal(0, int(found["red"]))
    yield TeamTotal(1, int(found["blue"]))


def _score(reader: QuakeReader, found: Found) -> Iterator[Record]:
    yield PlayerTotal(reader.key(int(found["slot"])), int(found["score"]))


def _shutdown(reader: QuakeReader, found: Found) -> Iterator[Record]:
    yield Close()


def _warm_up(reader: QuakeReader, found: Found) -> Iterator[Record]:
    yield WarmUp()


_SLOT = r"(?P<slot>\d{1,4})"
_ROWS: Final[tuple[Row, ...]] = (
    row("chat", r"(?:say|sayteam|tell|say_team|saytell|vsay|vtell|voice|radio|Radio|broadcast|chat)[:;]? .*"),
    row("kill", r"Kill: (?P<killer>\d{1,4}) (?P<victim>\d{1,4}) \d{1,4}: (?P<how>.*)", _killed),
    row("match start", r"InitGame: ?(?P<settings>.*)", _begin),
    row("connected", rf"ClientConnect: {_SLOT}.*", _connected),
    row("user", rf"ClientUserinfo(?:Changed)?: {_SLOT} (?P<settings>.*)", _user),
    row("disconnected", rf"ClientDisconnect: {_SLOT}.*", _gone),
    row("flag", rf"Item: {_SLOT} (?P<what>team_CTF_\w{{1,40}}).*", _flag),
    row("item", r"Item: \d.*"),
    row("flag", rf"(?P<word>Flag): {_SLOT} (?P<act>\d): .*", _flag_act),
    row("flag", rf"(?P<word>CTF): {_SLOT} -?\d+ (?P<act>\d): .*", _flag_act),
    row("award", rf"Award: {_SLOT} \d+: (?:.* gained the (?P<what>\w{{1,40}}) award)?.*", _award),
    row("assist", rf"Assist: {_SLOT} .*", _assist),
    row("game over", r"Exit: (?P<why>.*)", _exit),
    row("team score", r"red:(?P<red>-?\d{1,6}) +blue:(?P<blue>-?\d{1,6}).*", _sides),
    row("player score", rf"score: (?P<score>-?\d{{1,6}}) +ping: -?\d+ +client: {_SLOT}.*", _score),
    row("end", r"ShutdownGame:.*", _shutdown),
    row("warm-up", r"Warmup:.*", _warm_up),
    begins(
        "of the server",
        "--------",
        "ClientBegin:",
        "ClientSpawn:",
        "Hit:",
        "InitRound:",
        "InitAuth:",
        "AccountKick",
        "AccountBan",
        "AccountRejected",
        "AccountValidated",
        "Session data",
        "SurvivorWinner:",
        "Bombholder",
        "Bombmode",
        "Bomb ",
        "Pop!",
        "Hotpotato",
        "FlagCaptureTime:",
        "Callvote:",
        "Vote:",
        "VotePassed:",
        "VoteFailed:",
        "ClientJumpRun",
        "ClientSavePosition",
        "ClientLoadPosition",
        "PlayerScore:",
        "Challenge:",
        "ThawOut",
        "FreezePlayer",
        "Weapon_Stats:",
        "rcon",
        "Bad rcon",
        "AuthInfo",
        "Team ",
    ),
)
