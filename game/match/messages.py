"""Messages of a match beside those of `game/messages.py`: of who may come to it, of its host's role, and of parties."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from game.fields import CommandId, Key, Lineage, Password, Team, Text
from game.match.events import MAX_PROPERTIES, Property, Tags
from game.messages import Term
from server.ids import KEY_PATTERN, whole
from server.wire.messages import Push, Request

MAX_PARTY: Final = 100
"""Members of a party that comes to a match."""
MAX_RESERVED_MS: Final = 600_000
Names = Annotated[list[Key], Meta(min_length=1, max_length=100)]
HostName = Annotated[str, Meta(max_length=71, pattern=whole(f"(player/)?({KEY_PATTERN})"))]
"""A match's host: the subject of its token, behind `player/` where it is a player."""


class AdmitParty(msgspec.Struct, tag="match.admit_party", array_like=True, frozen=True):
    """Take all `players` of `party` in, or none. `number` rises with each coming of the party, so that one that is
    said late is known; `lineage` and `command` are those of the client that asked for it. `team` None: those who are
    new go to the smallest team, together."""

    party: Key
    number: Annotated[int, Meta(ge=0, le=2**62)]
    players: Annotated[list[Key], Meta(min_length=1, max_length=MAX_PARTY)]
    lineage: Lineage
    command: CommandId
    team: Team | None = None
    password: Password = ""


class MatchInvite(Request, tag="match.invite", frozen=True):
    """Let players into a private match, and tell them: the host, or a participant where the options say so."""

    lineage: Lineage
    command: CommandId
    match: Key
    players: Names
    term: Term = 1


class MatchAllow(Request, tag="match.allow", frozen=True):
    """Host only: let players into a private match, or no longer, without a word to them."""

    lineage: Lineage
    command: CommandId
    match: Key
    players: Names
    allowed: bool = True
    term: Term = 1


class MatchDescribe(Request, tag="match.describe", frozen=True):
    """Host only: set properties by which the match is searched (None takes one away, others stay), and replace its
    tags (None: leave them). Also of a match that goes on; at most 16 of each."""

    lineage: Lineage
    command: CommandId
    match: Key
    properties: Annotated[list[Property], Meta(max_length=2 * MAX_PROPERTIES)] = []
    tags: Tags | None = None
    term: Term = 1


class MatchReserve(Request, tag="match.reserve", frozen=True):
    """Host only: keep a place for each of `players`, and `places` for `party`, for `for_ms`; 0: no longer."""

    lineage: Lineage
    command: CommandId
    match: Key
    players: Annotated[list[Key], Meta(max_length=100)] = []
    party: Key | None = None
    places: Annotated[int, Meta(ge=0, le=100)] = 0
    for_ms: Annotated[int, Meta(ge=0, le=MAX_RESERVED_MS)] = 60_000
    term: Term = 1


class MatchKick(Request, tag="match.kick", frozen=True):
    """Host only: remove a player, or keep out one who is not there, until `match.unkick`."""

    lineage: Lineage
    command: CommandId
    match: Key
    player: Key
    reason: Text = ""
    term: Term = 1


class MatchUnkick(Request, tag="match.unkick", frozen=True):
    """Host only: let a player come again. `number`: of the `kicked` that is taken back, 0 for whichever it is."""

    lineage: Lineage
    command: CommandId
    match: Key
    player: Key
    number: Annotated[int, Meta(ge=0, le=2**53)] = 0
    term: Term = 1


class MatchSuccessor(Request, tag="match.successor", frozen=True):
    """Host only: say who takes over when the host is silent for too long. None: nobody."""

    lineage: Lineage
    command: CommandId
    match: Key
    host: HostName | None
    term: Term = 1


class MatchPassHost(Request, tag="match.pass_host", frozen=True):
    """Host only: make another the host at once. None: the successor."""

    lineage: Lineage
    command: CommandId
    match: Key
    host: HostName | None = None
    term: Term = 1


class MatchInvited(Push, tag="match.invited", frozen=True):
    """Sent to a player who may come into a private match."""

    match: str
    by: str


class MatchKicked(Push, tag="match.kicked", frozen=True):
    """Sent to a player whom a match's host has removed."""

    match: str
    reason: str


REQUESTS: tuple[type[Request], ...] = (
    MatchInvite,
    MatchAllow,
    MatchDescribe,
    MatchReserve,
    MatchKick,
    MatchUnkick,
    MatchSuccessor,
    MatchPassHost,
)
ANSWERS: tuple[type[Push], ...] = (MatchInvited, MatchKicked)
