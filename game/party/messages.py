"""The client messages of parties. `number` is that of a membership: a party gives each of them one, rising."""

from typing import Annotated

import msgspec
from msgspec import Meta

from game.fields import CommandId, Key, Lineage, Password, Team
from server.ids import whole
from server.wire.messages import Push, Reply, Request

MAX_ROOM = 32
Code = Annotated[str, Meta(max_length=16, pattern=whole(r"[0-9A-Za-z-]+"))]
Room = Annotated[int, Meta(ge=2, le=MAX_ROOM)]
Number = Annotated[int, Meta(ge=1, le=2**53)]


class PartyCreate(Request, tag="party.create", frozen=True):
    """Make a party with room for `room` players and be its leader. The answer's `entity` is `party/` and its name. A
    player is in one party: this leaves the one before."""

    lineage: Lineage
    command: CommandId
    room: Room = 8


class PartyInvite(Request, tag="party.invite", frozen=True):
    """Invite a player; any member may. The player's clients are sent `party.invited`, and find it by `party.invites`,
    unless one of the two has blocked the other; the answer is the same."""

    lineage: Lineage
    command: CommandId
    party: Key
    player: Key


class PartyJoin(Request, tag="party.join", frozen=True):
    """Accept an invitation. This leaves the party before."""

    lineage: Lineage
    command: CommandId
    party: Key


class PartyJoinCode(Request, tag="party.join_code", frozen=True):
    """Join the party that has this code, in capitals or not, with or without its dashes. Wrong codes are counted, for
    the player and for its address: too many of them, and `rate_limited` says when to come again."""

    lineage: Lineage
    command: CommandId
    code: Code


class PartyKick(Request, tag="party.kick", frozen=True):
    """Leader only: take a member out, by the number of its membership, so that nobody who has come back meanwhile is
    meant. The party gets a new code."""

    lineage: Lineage
    command: CommandId
    party: Key
    player: Key
    number: Number


class PartyPromote(Request, tag="party.promote", frozen=True):
    """Leader only: make a member who is here the leader."""

    lineage: Lineage
    command: CommandId
    party: Key
    player: Key


class PartyReady(Request, tag="party.ready", frozen=True):
    """Say whether one is ready. A match that the party joins takes it back from all."""

    lineage: Lineage
    command: CommandId
    party: Key
    ready: bool = True


class PartyLeave(Request, tag="party.leave", frozen=True):
    lineage: Lineage
    command: CommandId
    party: Key


class PartyDisband(Request, tag="party.disband", frozen=True):
    """Leader only: end the party."""

    lineage: Lineage
    command: CommandId
    party: Key


class PartyRecode(Request, tag="party.recode", frozen=True):
    """Leader only: give the party another code; the one before is good no more."""

    lineage: Lineage
    command: CommandId
    party: Key


class PartyPlay(Request, tag="party.play", frozen=True):
    """Leader only: join a match with all members who are here, in one event or not at all (`team` None: the smallest
    team). Members who are away stay behind. `password`: that of a private match, for all of them."""

    lineage: Lineage
    command: CommandId
    party: Key
    match: Key
    team: Team | None = None
    password: Password = ""


class PartyGet(Request, tag="party.get", frozen=True):
    """Members only: the party as it is now. Watch its latest topic, `party/` and its name, to see how it changes."""

    party: Key


class PartyMember(msgspec.Struct, array_like=True, frozen=True):
    """`number` is that of the membership: the lower, the longer. `here`: it has a session."""

    player: str
    number: int
    here: bool
    ready: bool


class PartyInfo(Reply, tag="party", frozen=True):
    """A party, its members by the length of their membership, and who is invited. `match` is the one that it joined
    last, None if none."""

    party: str
    leader: str
    room: int
    code: str
    match: str | None
    members: list[PartyMember]
    invited: list[str]
    version: int


class PartyInvites(Request, tag="party.invites", frozen=True):
    """The party that one is in, and the invitations that are open."""


class PartyInvitation(msgspec.Struct, array_like=True, frozen=True):
    """An invitation to `party` from its member `by`, good until `until_ms`, wall time."""

    party: str
    by: str
    until_ms: int


class PartyInbox(Reply, tag="party.inbox", frozen=True):
    """`party` is the one that the player is in, None if none, `number` that of its membership; `invitations` are
    those that are open, the oldest first."""

    party: str | None
    number: int
    invitations: list[PartyInvitation]


class PartyInvited(Push, tag="party.invited", frozen=True):
    """Somebody invites the player: `by`, a member of `party`; good until `until_ms`, wall time."""

    party: str
    by: str
    until_ms: int


class PartyAssigned(Push, tag="party.assigned", frozen=True):
    """Sent to a player that is in a party now, so that every client of the player may watch it."""

    party: str


class PartyOver(Push, tag="party.over", frozen=True):
    """Sent to a player whom the party has let go: `reason` is `kicked`, `disbanded` or `away`."""

    party: str
    reason: str


REQUESTS: tuple[type[Request], ...] = (
    PartyCreate,
    PartyInvite,
    PartyJoin,
    PartyJoinCode,
    PartyKick,
    PartyPromote,
    PartyReady,
    PartyLeave,
    PartyDisband,
    PartyRecode,
    PartyPlay,
    PartyGet,
    PartyInvites,
)
ANSWERS: tuple[type[msgspec.Struct], ...] = (PartyInfo, PartyInbox, PartyInvited, PartyAssigned, PartyOver)
