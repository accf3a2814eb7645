"""The party of the player that a client is; docs/protocol.md says what each request does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from garrison._base import Push, Request
from garrison._pushes import Pushes
from garrison.messages import (
    Accepted,
    PartyAssigned,
    PartyCreate,
    PartyDisband,
    PartyGet,
    PartyInbox,
    PartyInfo,
    PartyInvitation,
    PartyInvite,
    PartyInvited,
    PartyInvites,
    PartyJoin,
    PartyJoinCode,
    PartyKick,
    PartyLeave,
    PartyMember,
    PartyOver,
    PartyPlay,
    PartyPromote,
    PartyReady,
    PartyRecode,
    Saved,
)
from garrison.watch import LatestWatch

R = TypeVar("R")
P = TypeVar("P", bound=Push)
MEMBER = "member/"


class Client(Protocol):
    """The part of a client that this needs."""

    async def request(self, message: Request[R], *, timeout_s: float | None = None, retry: bool | None = None) -> R:
        """Send `message` and give its typed answer."""
        ...

    def pushes_of(self, cls: type[P]) -> Pushes[P]:
        """The pushes of one type from now on."""
        ...

    def watch_latest(self, topic: str) -> LatestWatch:
        """Subscribe to a latest topic."""
        ...


@dataclass(frozen=True, slots=True)
class PartyPicture:
    """A party as its members see it, these by the length of their membership. `match` is the one that it joined last.
    Without members it is over, or the player is in it no more."""

    leader: str
    room: int
    code: str
    match: str | None
    members: Sequence[PartyMember]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "PartyPicture":
        """The picture in the values of the party's latest topic."""
        head = values.get("party", {})
        members = [
            PartyMember(key.removeprefix(MEMBER), line["number"], line["here"], line["ready"])
            for key, line in values.items()
            if key.startswith(MEMBER)
        ]
        members.sort(key=lambda member: member.number)
        return cls(head.get("leader", ""), head.get("room", 0), head.get("code", ""), head.get("match"), members)


class PartyWatch:
    """An async iterator of pictures of one party, whenever something has changed; leave it with `async with` or
    `aclose`. It ends with the picture that has no members. Raises the typed error that ended the watch."""

    def __init__(self, watch: LatestWatch) -> None:
        self._watch, self._over = watch, False

    async def __aenter__(self) -> "PartyWatch":
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Leave."""
        await self._watch.aclose()

    def __aiter__(self) -> "PartyWatch":
        return self

    async def __anext__(self) -> PartyPicture:
        if self._over:
            raise StopAsyncIteration
        picture = PartyPicture.of(await anext(self._watch))
        self._over = not picture.members
        return picture


class Party:
    """Parties of the player, as `client.party`. A player is in one; it is named in the requests about it, since a
    player may be in another one by the time that a request arrives. Changes are commands: each is repeated under its
    number until it is answered, and done once. Each raises the typed errors of `Client.request`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    # ---- the way into a party ----

    async def create(self, room: int = 8) -> str:
        """Make a party and be its leader; this leaves the party before. Its name."""
        return (await self._client.request(PartyCreate(room))).entity.partition("/")[2]

    async def join(self, party: str) -> Saved:
        """Accept an invitation; this leaves the party before. Raises `Rejected` (`not_invited`, `party_full`,
        `party_over`)."""
        return await self._client.request(PartyJoin(party))

    async def join_code(self, code: str) -> str:
        """Join the party that has this code, however it is written; this leaves the party before. Its name. Raises
        `Rejected` (`no_such_code`, `party_full`), `RateLimited` after many wrong ones."""
        return (await self._client.request(PartyJoinCode(code))).entity.partition("/")[2]

    async def mine(self) -> PartyInbox:
        """The party that the player is in, and the invitations that are open."""
        return await self._client.request(PartyInvites(), retry=True)

    async def invitations(self) -> Sequence[PartyInvitation]:
        """The invitations that are open, the oldest first."""
        return (await self.mine()).invitations

    # ---- members ----

    async def get(self, party: str) -> PartyInfo:
        """The party as it is now. Raises `Rejected` (`not_in_party`, `party_over`), `NotFound`."""
        return await self._client.request(PartyGet(party), retry=True)

    def watch(self, party: str) -> PartyWatch:
        """Watch the party: pictures of it, whenever something has changed."""
        return PartyWatch(self._client.watch_latest(f"party/{party}"))

    async def invite(self, party: str, player: str) -> Saved:
        """Invite a player; where one of the two blocks the other, the answer is the same and nothing arrives. Raises
        `Rejected` (`muted`, `in_party`, `not_in_party`, `too_many_invited`)."""
        return await self._client.request(PartyInvite(party, player))

    async def ready(self, party: str, ready: bool = True) -> Saved:
        """Say whether the player is ready. Raises `Rejected` (`not_in_party`)."""
        return await self._client.request(PartyReady(party, ready))

    async def leave(self, party: str) -> Saved:
        """Leave. Raises `Rejected` (`not_in_party`)."""
        return await self._client.request(PartyLeave(party))

    # ---- the leader ----

    async def kick(self, party: str, member: PartyMember) -> Saved:
        """Take a member out, as it was seen: one who has left and come back meanwhile stays. Raises `Rejected`
        (`not_leader`, `not_in_party`)."""
        return await self._client.request(PartyKick(party, member.player, member.number))

    async def promote(self, party: str, player: str) -> Saved:
        """Make a member who is here the leader. Raises `Rejected` (`not_leader`, `not_in_party`, `member_away`)."""
        return await self._client.request(PartyPromote(party, player))

    async def recode(self, party: str) -> Saved:
        """Give the party another code. Raises `Rejected` (`not_leader`)."""
        return await self._client.request(PartyRecode(party))

    async def play(self, party: str, match: str, team: int | None = None, password: str = "") -> Accepted:
        """Join a match with all members who are here, in one event or not at all. Raises `Rejected` (`not_leader`, and
        the codes of the match)."""
        return await self._client.request(PartyPlay(party, match, team, password))

    async def disband(self, party: str) -> Saved:
        """End the party. Raises `Rejected` (`not_leader`)."""
        return await self._client.request(PartyDisband(party))

    # ---- pushes ----

    def invited(self) -> Pushes[PartyInvited]:
        """Invitations from now on."""
        return self._client.pushes_of(PartyInvited)

    def assigned(self) -> Pushes[PartyAssigned]:
        """Parties that the player comes into, from now on, by whichever of its clients: to begin watching."""
        return self._client.pushes_of(PartyAssigned)

    def over(self) -> Pushes[PartyOver]:
        """Parties that have let the player go, from now on, and why."""
        return self._client.pushes_of(PartyOver)
