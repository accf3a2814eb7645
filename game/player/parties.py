"""A player's part in parties: the calls of its party, and the requests that go by way of the player.

The player says in which party it is, and whether it is here (`game/party/place.py`); what the party has to know of that
is a fact. Invitations and codes come by here because of what only the player knows: who has blocked it, whether it is
muted, how often it has guessed.
"""

from collections.abc import Collection, Iterable
from typing import Any

from msgspec.structs import replace

from game.friends.face import FriendsFace, are_apart
from game.match.hosting import player_of
from game.match.messages import MatchInvited
from game.messages import Saved
from game.party import place
from game.party import rules as party_rules
from game.party.codes import Guesses, read_code
from game.party.face import PartyFace
from game.party.messages import (
    PartyInbox,
    PartyInvitation,
    PartyInvite,
    PartyInvited,
    PartyInvites,
    PartyJoinCode,
)
from game.player import standing
from game.player.looks import Looks
from game.player.pictures import Party
from game.player.state import PlayerState
from server.actors.actor import Caller, Fact, FactDone, Stamp, existing, fact, read_only
from server.errors import RateLimited, Rejected
from server.ids import key_of


class PartyPart(Looks):
    """The base of `Player`; see the module's head. `party_size`, `party_room`: how many the player's party has, and
    has room for, as it said last; 0: no party, or not told yet."""

    __slots__ = ("guesses", "party_room", "party_size")

    def begin_in_party(self) -> None:
        """The part's own of `activated`."""
        self.guesses: Guesses | None = None
        """Wrong ones, once there were any."""
        self.party_size = self.party_room = 0
        party = self.state.in_party.party
        if party:
            self.tell(PartyFace, party, PartyFace.size_asked, self.key)

    def shown_party(self) -> Party | None:
        """See `Looks.shown_party`."""
        return Party(self.party_size, self.party_room) if self.party_size else None

    # ---- calls of parties: the face ----

    @existing
    def party_joined(self, party: str, birth: int, number: int) -> None:
        """See `PlayerFace.party_joined`."""
        here = self.state.status != "offline"
        self._take(place.joined(self.state.in_party, party, birth, number, here))

    @existing
    def party_left(self, party: str, birth: int, number: int) -> None:
        """See `PlayerFace.party_left`."""
        self._take(place.left(self.state.in_party, party, birth, number))

    @existing
    def party_size_is(self, party: str, size: int, room: int) -> None:
        """See `PlayerFace.party_size_is`."""
        if party == self.state.in_party.party and (size, room) != (self.party_size, self.party_room):
            self.party_size, self.party_room = size, room
            self.show_itself()

    @existing
    async def party_invited(self, party: str, number: int, by: str, until_wall_ms: int) -> None:
        """See `PlayerFace.party_invited`."""
        if await are_apart(self, self.key, by):
            return
        wall_ms, before = self.wall_ms(), self.state.in_party
        self._take(place.invited(before, place.Invitation(party, number, by, until_wall_ms), wall_ms))
        if self.state.in_party is not before and until_wall_ms > wall_ms:
            self.push(self.key, PartyInvited(0, party, by, until_wall_ms))

    @existing
    async def match_invited(self, match: str, by: str) -> None:
        """See `PlayerFace.match_invited`."""
        if not await are_apart(self, self.key, player_of(by) or by):
            self.push(self.key, MatchInvited(0, match, by))

    async def hidden_inviters(self) -> list[str]:
        """Players from whom an invitation is open, and one of the two has blocked the other since."""
        inviters = list({other.by: None for other in place.open_invitations(self.state.in_party, self.wall_ms())})
        return await self.ref(FriendsFace, self.key).ask(FriendsFace.hidden_among, inviters) if inviters else []

    def drop_invitations(self, inviters: Collection[str]) -> None:
        """Keep no invitation from these."""
        self._take(place.without_inviters(self.state.in_party, inviters))

    # ---- requests ----

    @read_only
    async def party_invite(self, caller: Caller, message: PartyInvite) -> Saved:
        """Invite somebody to the party. Raises `Rejected("muted")`, and what the party refuses."""
        if standing.is_muted(self.state, self.wall_ms()):
            raise party_rules.reject("muted")
        return await self.ref(PartyFace, message.party).ask(PartyFace.invite, caller, message)

    @read_only
    async def party_join_code(self, caller: Caller, message: PartyJoinCode) -> Saved:
        """Join the party that has this code. Raises `RateLimited` after too many wrong ones."""
        wait_s = 0.0 if self.guesses is None else self.guesses.wait_s(self.now())
        if wait_s:
            raise RateLimited("too many wrong codes", retry_after_s=round(wait_s + 0.0005, 3))
        rows = await self.query_store("party_of_code", {"code": read_code(message.code)})
        try:
            if not rows:
                raise party_rules.reject("no_such_code")
            return await self.ref(PartyFace, rows[0]["party"]).ask(PartyFace.join_code, caller, message)
        except Rejected as error:
            if error.code == "no_such_code":
                self.guesses = self.guesses or Guesses()
                self.guesses.wrong(self.now())
            raise

    @read_only
    async def party_invites(self, caller: Caller, message: PartyInvites) -> PartyInbox:
        """The own party, and the invitations that are open, without those of players who are hidden from this one."""
        hidden, mine, wall_ms = await self.hidden_inviters(), self.state.in_party, self.wall_ms()
        invitations = [
            PartyInvitation(other.party, other.by, other.until_wall_ms)
            for other in place.open_invitations(mine, wall_ms)
            if other.by not in hidden
        ]
        return PartyInbox(message.id, mine.party or None, mine.places.current.number, invitations)

    # ---- facts ----

    def party_done(self, told: FactDone) -> None:
        """Take in that a party has stored a fact."""
        party, number, mine = key_of(told.name.to), told.name.number, self.state.in_party
        if told.name.method == PartyFace.member_gone.__name__:
            self._take(place.heard_left(mine, party, number.epoch, number.version))
        else:
            self._take(place.heard_word(mine, party, number.epoch, number.version, bool(told.refused)))

    def _take(self, after: place.InParty) -> None:
        if after is self.state.in_party:
            return
        changes = after.party != self.state.in_party.party
        self.state = replace(self.state, in_party=after)
        if changes:
            self.party_size = self.party_room = 0
            self.show_itself()


def party_facts(key: str, state: PlayerState) -> Iterable[Fact]:
    """The memberships that the player has left, and its newest word to the party that it is in."""
    mine: Any = state.in_party
    for left in mine.places.leaving:
        word = (key, left.birth, left.number, left.reason)
        yield fact(Stamp(left.birth, left.number), PartyFace, left.name, PartyFace.member_gone, *word)
    if mine.word != mine.heard and mine.party:
        now = mine.places.current
        number = Stamp(now.number, mine.word)
        yield fact(number, PartyFace, now.name, PartyFace.member_seen, key, now.birth, now.number, mine.word)
