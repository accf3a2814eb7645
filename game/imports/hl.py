"""The HL log standard: Half-Life, Counter-Strike in all its versions, Team Fortress 2 and their relatives. Pure.

    L 03/14/2026 - 20:02:31: "Ada<2><[U:1:1000001]><Red>" killed "Bo<3><[U:1:1000002]><Blue>" with "knife"
    03/14/2026 - 21:00:41.644 - World triggered "Round_Start"

The second form is that of CS2's log over HTTP. A player is `"name<number><id><team>"`, and the name may hold anything,
quotes and angle brackets too. So a line is read in two steps: its players are taken out (`forms_of`), and what is left,
with marks where they stood, goes through the table. Bots share the id `BOT`, and players without one have words
like `STEAM_ID_LAN`: they are told apart by their number on the server, and local to their match. The clock is the
server's wall clock, of whatever zone.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Final, NamedTuple

from game.imports.lines import clean
from game.imports.records import (
    Begin,
    Close,
    Game,
    Gone,
    Happened,
    Met,
    Named,
    Over,
    Reading,
    Record,
    Slain,
    TeamTotal,
    Where,
    local_key,
)
from game.imports.table import Found, Row, begins, kind_of, read_row, row

_STAMP = r"(\d\d)/(\d\d)/(\d{4}) - (\d\d):(\d\d):(\d\d)(?:\.(\d{3}))?"
FILE_PREFIX: Final = re.compile(rf"[^ ]{{0,8}}L {_STAMP}: ")
HTTP_PREFIX: Final = re.compile(rf"{_STAMP} - ")

TEAMS: Final = {"Red": 0, "Blue": 1, "CT": 0, "TERRORIST": 1, "T": 1, "Allies": 0, "Axis": 1}
TEAMS.update({"Rebels": 0, "Combine": 1, "Survivor": 0, "Infected": 1})
NO_TEAM: Final = frozenset({"", "Unassigned", "Spectator", "SPECTATOR", "spectator", "Console"})
"""Words where a team stands, of players who are there and do not play. Any other word is a model or a skin, in games
where everyone is for themselves."""
OBJECTIVES: Final = frozenset(
    {"captureblocked", "flagevent", "Planted_The_Bomb", "Defused_The_Bomb", "Rescued_A_Hostage", "Escaped_As_VIP"}
    | {"Assassinated_The_VIP", "dod_capture_area", "dod_control_point"}
)
MEDALS: Final = frozenset({"domination", "revenge"})


def key_of(number: str, identity: str) -> str:
    """The key of a player by its number on the server and its id. `STEAM_0:1:500000` and `[U:1:1000001]` are the same
    account."""
    if found := re.fullmatch(r"\[U:1:([1-9]\d{0,9})\]", identity):
        return f"U:1:{found[1]}"
    if found := re.fullmatch(r"STEAM_\d:([01]):(\d{1,10})", identity):
        return f"U:1:{2 * int(found[2]) + int(found[1])}"
    return local_key("bot" if identity == "BOT" else "slot", number)


class Token(NamedTuple):
    """A player as a line names it. `team` None: not said."""

    key: str
    name: str
    team: str | None


MAX_TOKEN: Final = 300
"""Characters of a player as a whole; engines cut names at 31 or 127 bytes."""
_TOKEN_END = re.compile(r'<(\d{1,9})><([^<>"]{0,64})>(?:<([^<>"]{0,64})>)?"')
_SECOND = re.compile(r'(?: killed| killing| against) (?=")')
_LISTED = re.compile(r'\(player\d+ (?=")')


MAX_LISTED: Final = 32
MAX_ENDS: Final = 4
"""Places in a line that are tried as the end of a player."""


def tokens_at(text: str, place: int) -> list[tuple[Token, int]]:
    """The player whose opening quote is at `place`, and where it ends: several, the shortest first, where the name
    looks like a player itself."""
    first = place + 1
    ends = _TOKEN_END.finditer(text, first, first + MAX_TOKEN)
    return [
        (Token(key_of(end[1], end[2]), clean(text[first : end.start()]), end[3]), end.end())
        for end in islice(ends, MAX_ENDS)
    ]


class Form(NamedTuple):
    """A line with its players taken out."""

    text: str
    players: tuple[Token, ...] = ()


def forms_of(text: str) -> Iterator[Form]:
    """All ways to take the players out of a line, the likely one first; the line itself, where there are none."""
    firsts = tokens_at(text, 0) if text.startswith('"') else []
    if not firsts:
        yield Form(text)
    for first, end in firsts:
        rest = text[end:]
        found = None if rest.startswith(" say") else _SECOND.search(rest)
        seconds = [] if found is None else tokens_at(rest, found.end())
        for second, second_end in seconds:
            assert found is not None
            yield Form(f"\1{rest[: found.end()]}\2{rest[second_end:]}", (first, second))
        if not seconds:
            yield Form("\1" + rest, (first,))


class HlReader:
    """Reads lines of the standard, one by one."""

    def __init__(self) -> None:
        self.text = ""
        """The line at hand, without the time in front."""
        self.players: tuple[Token, ...] = ()
        """The players of the line at hand."""

    def read(self, text: str) -> Reading:
        prefix = FILE_PREFIX.match(text)
        is_http = prefix is None
        prefix = prefix or HTTP_PREFIX.match(text)
        if prefix is None:
            return Reading("no time in front", known=not text.strip())
        clock_ms = _wall_ms(prefix)
        if clock_ms is None:
            return Reading("no such date", known=False)
        self.text = text[prefix.end() :].replace("\1", " ").replace("\2", " ").rstrip("\0 ")
        likely: Form | None = None
        for form in forms_of(self.text):
            likely, self.players = likely or form, form.players
            if (found := read_row(_ROWS, self, form.text)) is not None:
                hint = (Game("cs2"),) if is_http else ()
                records = (*hint, *self._met(form), *found[1])
                return Reading(found[0], True, clock_ms, True, records)
        assert likely is not None
        return Reading(kind_of(likely.text), False, clock_ms, True, tuple(self._met(likely)))

    def _met(self, form: Form) -> Iterator[Record]:
        for token in form.players:
            yield from _met(token)

    @property
    def p(self) -> str:
        return self.players[0].key

    @property
    def q(self) -> str:
        return self.players[1].key

    def listed(self) -> Iterator[Token]:
        """The players of `(player1 "…") (player2 "…")`."""
        for place in islice(_LISTED.finditer(self.text), MAX_LISTED):
            for token, _ in tokens_at(self.text, place.end())[:1]:
                yield token


def _wall_ms(prefix: Found) -> int | None:
    month, day, year, hour, minute, second = map(int, prefix.groups()[:6])
    try:
        days = datetime(year, month, day).toordinal() - 719_163
    except ValueError:
        return None
    if hour > 23 or minute > 59 or second > 60 or days < 0:
        return None
    return ((days * 24 + hour) * 60 + minute) * 60_000 + second * 1_000 + int(prefix[7] or 0)


def _met(token: Token) -> Iterator[Record]:
    if token.team is None:
        yield Named(token.key, token.name)
    else:
        yield _in_team(token.key, token.team, token.name)
        if token.team in ("Red", "Blue"):
            yield Game("tf2")
        elif token.team in ("CT", "TERRORIST"):
            yield Game("cs")


def _in_team(key: str, team: str, name: str = "") -> Met:
    return Met(key, name, TEAMS.get(team), team not in NO_TEAM)


# ---- what rows make -------------------------------------------------------------------------


def _killed(reader: HlReader, found: Found) -> Iterator[Record]:
    if found["place"]:
        yield Game("cs2" if "><[U:" in reader.text else "csgo")
    if "feign_death" not in found["how"]:
        yield Slain(reader.q, reader.p)


def _died(reader: HlReader, found: Found) -> Iterator[Record]:
    yield Slain(reader.p)


def _assisted(reader: HlReader, found: Found) -> Iterator[Record]:
    yield Happened("assist", reader.p)


def _blinded(reader: HlReader, found: Found) -> Iterator[Record]:
    yield Happened("mode", reader.p, "flash-assist")


def _triggered(reader: HlReader, found: Found) -> Iterator[Record]:
    what = found["what"]
    if what in MEDALS:
        yield Happened("medal", reader.p, what)
    elif what in OBJECTIVES:
        flag = re.search(r'\(event "([a-z]{1,16})"\)', reader.text) if what == "flagevent" else None
        yield Happened("mode", reader.p, f"flag {flag[1]}" if flag else what)


def _captured(reader: HlReader, found: Found) -> Iterator[Record]:
    for token in reader.listed():
        yield from _met(token)
        yield Happened("mode", token.key, "pointcaptured")


def _sides(reader: HlReader, found: Found) -> Iterator[Record]:
    for side, score in re.findall(r'\((CT|T) "(\d{1,4})"\)', found["rest"]):
        yield TeamTotal(TEAMS[side], int(score))


def _team_total(reader: HlReader, found: Found) -> Iterator[Record]:
    team = TEAMS.get(found["team"])
    if team is not None:
        yield TeamTotal(team, int(found["score"]))


def _match_start(reader: HlReader, found: Found) -> Iterator[Record]:
    yield Begin(clean(found["map"] or ""))


def _restarted(reader: HlReader, found: Found) -> Iterator[Record]:
    yield Begin()


def _round_start(reader: HlReader, found: Found) -> Iterator[Record]:
    yield Begin(hard=False)


def _game_over(reader: HlReader, found: Found) -> Iterator[Record]:
    reason = found["reason"] or ""
    yield Over("time" if "Time" in reason else "score" if reason else "host_ended")


def _game_over_cs(reader: HlReader, found: Found) -> Iterator[Record]:
    yield Game("csgo")
    yield Where(clean(found["map"]))
    yield Over("score")


def _map(reader: HlReader, found: Found) -> Iterator[Record]:
    yield Close(clean(found["map"]))


def _log_end(reader: HlReader, found: Found) -> Iterator[Record]:
    yield Close()


def _joined(reader: HlReader, found: Found) -> Iterator[Record]:
    yield _in_team(reader.p, found["team"])


def _renamed(reader: HlReader, found: Found) -> Iterator[Record]:
    yield Named(reader.p, clean(found["name"]))


def _left(reader: HlReader, found: Found) -> Iterator[Record]:
    yield Gone(reader.p)


_AT = r"(?: \[[-\d. ]{1,60}\])?"
_ROWS: Final[tuple[Row, ...]] = (
    row(
        "kill",
        rf'\x01(?P<place>{_AT}) killed \x02{_AT} with "[^"]*"(?P<how>(?: \([^()]{{0,200}}\)){{0,20}})[ .]*',
        _killed,
    ),
    row("assist", r'\x01 triggered "kill assist" against \x02.*', _assisted),
    row("assist", r"\x01 assisted killing \x02.*", _assisted),
    row("flash assist", r"\x01 flash-assisted killing \x02.*", _blinded),
    row("suicide", rf'\x01{_AT} committed suicide with "[^"]*".*', _died),
    row("killed by the bomb", rf"\x01{_AT} was killed by the bomb.*", _died),
    row("kill of a thing", rf'\x01{_AT} killed other ".*'),
    row("chat", r'\x01 say(?:_team)? ".*'),
    row("trigger", r'\x01 triggered "(?P<what>[^"]{1,64})".*', _triggered),
    row("joined a team", r'\x01 joined team "(?P<team>[^"]{0,64})".*', _joined),
    row("joined a team", r"\x01 switched from team <[^<>]*> to <(?P<team>[^<>]{0,64})>.*", _joined),
    row("rename", r'\x01 changed name to "(?P<name>.*)"[ .]*', _renamed),
    row("disconnected", r"\x01 disconnected.*", _left),
    row("connected", r"\x01 (?:connected, address|STEAM USERID validated|entered the game).*"),
    row("damage", rf"\x01{_AT} attacked .*"),
    begins(
        "of a player",
        " changed role to",
        " spawned as",
        " purchased",
        " threw",
        " picked up",
        " dropped",
        " left buyzone",
        " money change",
        " blinded",
        " position_report",
        " first damage",
        " requested",
        " triggered",
        " tried",
        after=rf"\x01{_AT}",
    ),
    row("match start", r'World triggered "Match_Start"(?: on "(?P<map>[^"]{0,128})")?.*', _match_start),
    row("restart", r'World triggered "(?:Game_Commencing|Restart_Round[^"]{0,32})".*', _restarted),
    row("round start", r'World triggered "Round_Start".*', _round_start),
    row("game over", r'World triggered "Game_Over"(?: reason "(?P<reason>[^"]{0,128})")?.*', _game_over),
    row("game over", r"Game Over: [^\n]{0,200}?(?P<map>\S{1,128}) score \d+:\d+ after .*", _game_over_cs),
    row("of the world", r'World triggered ".*'),
    row("points", r'Team "[^"]*" triggered "pointcaptured".*', _captured),
    row(
        "team score", r'Team "(?P<team>[^"]*)" (?:current score|final score|scored) "(?P<score>\d{1,4})".*', _team_total
    ),
    row("of a team", r'Team "[^"]*" triggered "[^"]*"(?P<rest>.*)', _sides),
    row("of a team", r'Team "[^"]*" .*'),
    row("map", r'(?:Loading|Started) map "(?P<map>[^"]{0,128})".*', _map),
    row("end of the log", r"Log file closed.*", _log_end),
    begins(
        "of the server",
        "Log file started",
        "rcon from",
        "Rcon:",
        "Server cvar",
        "server_cvar:",
        "server cvars",
        "Server say",
        '"mp_',
        '"sv_',
        '"tf_',
        "MatchStatus:",
        "MatchPause",
        "ACCOLADE",
        "STEAMAUTH",
        "Starting Freeze",
        "JSON_",
        "Vote ",
        "Molotov projectile",
        "Your server",
        "[META]",
        "-----",
        "executing",
        "Kick:",
        "Ban:",
        "Banid:",
        "Addip:",
    ),
)
