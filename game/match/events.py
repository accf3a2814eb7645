"""Events of a match that only the server makes: what it is searched by, who may come to it, who hosts it, its rounds,
and names of an imported one. `MatchEvent` in `game/messages.py` has all."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from game.fields import LoggedText, Text
from server.ids import whole

MAX_PROPERTIES = 16
MAX_TAGS = 16
PropertyName = Annotated[str, Meta(max_length=32, pattern=whole("[a-z][a-z0-9_.-]*"))]
PropertyNumber = Annotated[int, Meta(ge=-(2**53), le=2**53)]
PropertyValue = Text | PropertyNumber | bool
Tag = Annotated[str, Meta(max_length=32, pattern=whole("[a-z0-9][a-z0-9_.:-]*"))]
Tags = Annotated[list[Tag], Meta(max_length=MAX_TAGS)]


class Property(msgspec.Struct, array_like=True, frozen=True):
    """Something to search matches by. None takes it away."""

    name: PropertyName
    value: PropertyValue | None


class Described(msgspec.Struct, tag="described", array_like=True, frozen=True):
    """The host has said what to search the match by: `properties` are set, or taken away by None, others stay; `tags`
    replace those before them, None leaves them."""

    time_ms: int
    properties: list[Property]
    tags: list[str] | None


class PasswordSet(msgspec.Struct, tag="password_set", array_like=True, frozen=True):
    """A password lets into the match: scrypt's `digest` of it with `salt`, both as hexadecimal digits."""

    time_ms: int
    salt: str
    digest: str


class Invited(msgspec.Struct, tag="invited", array_like=True, frozen=True):
    """Players may come in. `by` invited them; it is empty where the host let them in without a word to them."""

    time_ms: int
    by: str
    players: list[str]


class Uninvited(msgspec.Struct, tag="uninvited", array_like=True, frozen=True):
    """Players may not come in any more, unless something else lets them in."""

    time_ms: int
    players: list[str]


class Reserved(msgspec.Struct, tag="reserved", array_like=True, frozen=True):
    """Places are kept until Unix time `until_wall_ms`, or, where that is 0, kept no longer: one for each of `players`,
    and `places` for `party`."""

    time_ms: int
    players: list[str]
    party: str | None
    places: int
    until_wall_ms: int
    wall_ms: int


class Kicked(msgspec.Struct, tag="kicked", array_like=True, frozen=True):
    """The host removed a player, who may not come back until `unkicked` names the same `number`."""

    time_ms: int
    player: str
    reason: str
    number: int


class Unkicked(msgspec.Struct, tag="unkicked", array_like=True, frozen=True):
    time_ms: int
    player: str
    number: int


class SuccessorNamed(msgspec.Struct, tag="successor_named", array_like=True, frozen=True):
    """The host said who takes over from it; None: nobody."""

    time_ms: int
    host: str | None


class HostChanged(msgspec.Struct, tag="host_changed", array_like=True, frozen=True):
    """The match has another host, since the one before `passed` its role on or was `silent`. `term` is the number of
    this event, which the new host's commands name."""

    time_ms: int
    host: str
    reason: Literal["passed", "silent"]
    term: int
    wall_ms: int


class RoundEnded(msgspec.Struct, tag="round_ended", array_like=True, frozen=True):
    """The end of a round, of a mode that has several: by score or by time, won by `team:N`, or by nobody. The teams'
    scores, which were `team_scores`, begin anew."""

    time_ms: int
    number: int
    reason: Literal["score", "time"]
    winner: str | None
    team_scores: list[int]
    wall_ms: int


class Named(msgspec.Struct, tag="named", array_like=True, frozen=True):
    """The display name of a player, from here on, as another game's log has it. `local`: nobody but this match knows
    the player (a bot, or somebody known by a slot of the server), who has no career."""

    time_ms: int
    player: str
    name: LoggedText
    local: bool = False
