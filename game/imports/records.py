"""Records: the happenings of a match in the words that all formats share. Pure.

    line -> a format's table -> Reading(kind, clock, records) -> `game/imports/assembler.py`

A player is named by a *key*: that of its platform (`U:1:1000001`), the same in every match, or a `local_key`, which
holds within one match only: a slot of the server, a bot. The display name is apart, and changes.
"""

from typing import Final, NamedTuple

LOCAL: Final = "\0"
"""The first character of a key that is local to its match. No key of a platform has it."""


def local_key(kind: str, number: str | int) -> str:
    """The key of a player whom only the match knows: `slot` or `bot`, and a number."""
    return f"{LOCAL}{kind}-{number}"


class Begin(NamedTuple):
    """A match begins, or, where one goes on and this is not `hard`, its next round. `fresh`: nobody is known from
    before. `wall_ms`: Unix time, where the line says it and the clock does not."""

    map_name: str = ""
    hard: bool = True
    fresh: bool = False
    wall_ms: int = 0


class Game(NamedTuple):
    """A sign of which game it is, the short name of `game/imports/catalogue.py`."""

    name: str


class Where(NamedTuple):
    """The map of the match that comes or goes on."""

    map_name: str


class WarmUp(NamedTuple):
    """All since the match began was warm-up, unless it is played to its end."""


class Over(NamedTuple):
    """The match is over, but for final scores; `reason` as in `Ended`."""

    reason: str


class Close(NamedTuple):
    """Nothing of the match follows: another map, the end of the log. `known` false: until the next beginning it is not
    said whether a match goes on."""

    map_name: str = ""


class LengthMs(NamedTuple):
    """The length of the match, where single lines have no time."""

    length_ms: int


class Met(NamedTuple):
    """A player as a line shows it. `name` empty: not said. `playing` false: there, and not in the match yet; `team`
    None then, and where everyone is for themselves."""

    key: str
    name: str = ""
    team: int | None = None
    playing: bool = True


class Named(NamedTuple):
    key: str
    name: str


class Gone(NamedTuple):
    key: str


class Slain(NamedTuple):
    """A death, with its killer where there is one: none for the world, the player itself for a suicide."""

    victim: str
    killer: str | None = None


class Happened(NamedTuple):
    """An event of a player that is counted as it is: `what` is `kill`, `death`, `assist`, `medal`, `mode` or `score`. A
    `victim` is only named: its death is an event of its own."""

    what: str
    key: str
    detail: str = ""
    points: int = 0
    victim: str | None = None


class TeamTotal(NamedTuple):
    team: int
    total: int


class PlayerTotal(NamedTuple):
    """All points of a player, at the end of a match without teams."""

    key: str
    total: int


Record = (
    Begin
    | Game
    | Where
    | WarmUp
    | Over
    | Close
    | LengthMs
    | Met
    | Named
    | Gone
    | Slain
    | Happened
    | TeamTotal
    | PlayerTotal
)


class Reading(NamedTuple):
    """A line as its format reads it. `kind` names the sort of line, for counts; `known` false: not understood.
    `clock_ms` is of whatever clock the format has, None for none; it is Unix time where `is_wall`. `again`: text at the
    end of a torn line that is a line of its own."""

    kind: str
    known: bool = True
    clock_ms: int | None = None
    is_wall: bool = False
    records: tuple[Record, ...] = ()
    again: str = ""
