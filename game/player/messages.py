"""Messages of a player: its presence, which others see of it, and its stored profile."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from game.fields import CommandId, Key, Lineage, ShortText, Text, TimeMs
from server.ids import whole
from server.wire.messages import Reply, Request

Status = Literal["online", "away", "busy", "invisible", "offline"]
SeenStatus = Literal["online", "away", "busy", "invisible", "offline", "unknown"]
ChosenStatus = Literal["online", "away", "busy", "invisible"]


class PresenceField(msgspec.Struct, array_like=True, frozen=True):
    """A field of the studio's own, for its clients to show."""

    name: Annotated[str, Meta(max_length=32, pattern=whole("[a-z][a-z0-9_.-]*"))]
    value: ShortText = ""


class RichPresence(msgspec.Struct, array_like=True, frozen=True):
    """The doing of a player, in parts that a program can use. Empty texts and zeros are not told. All of it, with the
    line beside it, is at most 1,024 bytes of UTF-8."""

    mode: ShortText = ""
    map_name: ShortText = ""
    score: ShortText = ""
    party_size: Annotated[int, Meta(ge=0, le=1_000)] = 0
    """Members of the player's party. The server fills it in for a party of its own."""
    party_room: Annotated[int, Meta(ge=0, le=1_000)] = 0
    """Members that the party has room for."""
    join: Text = ""
    """A place to which a friend may follow: the name of a match, or a word of the studio's own."""
    fields: Annotated[list[PresenceField], Meta(max_length=8)] = []


class PresenceSet(Request, tag="presence.set", frozen=True):
    """Choose a status, a line of rich presence ("Slayer on Recharge, 24-19") and its parts. Each replaces what this
    session said before."""

    status: ChosenStatus
    activity: Text = ""
    rich: RichPresence | None = None


class PresenceGet(Request, tag="presence.get", frozen=True):
    player: Key


class DeviceLine(msgspec.Struct, array_like=True, frozen=True):
    """A session of a player, as the player itself sees it: its kind, the program that it named, the status that it
    chose last (empty: none yet) and its line of rich presence."""

    kind: str = ""
    client: str = ""
    status: Literal["", "online", "away", "busy", "invisible"] = ""
    activity: str = ""


class PlayerPicture(msgspec.Struct, array_like=True, frozen=True):
    """A player as somebody sees it: the value that who watches players gets. The array may end early, fields that are
    left out are their defaults. Everybody sees `status` and `last_seen_ms`, friends the rest, the player itself its
    `devices` too. An invisible player is `offline` to others; `unknown`: nobody can say right now."""

    status: SeenStatus = "offline"
    last_seen_ms: TimeMs = 0
    """Wall time at which an offline player was here last; 0 for never, and for who is here now."""
    activity: str = ""
    match: str | None = None
    rich: RichPresence | None = None
    devices: list[DeviceLine] = []


class Presence(Reply, tag="presence", frozen=True):
    """A player as the asking one may see it (an invisible player is `offline` to others).
    `last_seen_ms` is wall time, 0 if never."""

    player: str
    status: SeenStatus
    activity: str
    match: str | None
    last_seen_ms: int
    rich: RichPresence | None = None


class ProfileSet(Request, tag="profile.set", frozen=True):
    """Change the stored profile. Write-behind: the reply's version is in the store within the
    flush interval."""

    lineage: Lineage
    command: CommandId
    display_name: Text
    emblem: Text = ""


class ProfileGet(Request, tag="profile.get", frozen=True):
    player: Key


class Profile(Reply, tag="profile", frozen=True):
    player: str
    display_name: str
    emblem: str
    matches: int
    kills: int
    deaths: int
    assists: int
    medals: int
    wins: int
    version: int


SHAPES: tuple[type[msgspec.Struct], ...] = (PlayerPicture,)
"""Values that travel in messages of the engine."""
REQUESTS: tuple[type[Request], ...] = (PresenceSet, PresenceGet, ProfileSet, ProfileGet)
ANSWERS: tuple[type[msgspec.Struct], ...] = (Presence, Profile)
