"""The actor of a party: rules over a durable state, whose picture its members watch as a latest topic.

Membership is two-sided as that in a match is (`game/places.py`). The party numbers each membership and tells the player
when it begins or ends, as a fact; the player tells, as facts too, which memberships it has left, and each time that its
first session comes or its last one goes. So whatever is lost on the way, they agree in the end.

Members who are away are let go after a while, and a leader who is away is replaced: times that are in the state, so
that a node that takes the party over goes on with what is left of them. If the node dies, a row that says that somebody
is away is a stray (`strays_after_s`), and another node wakes the party for it.
"""

from collections.abc import Iterable
from typing import Any, ClassVar

from game.friends.face import are_apart
from game.match.face import MatchFace
from game.match.messages import AdmitParty
from game.messages import Accepted, Saved
from game.party import codes, rules
from game.party.face import PartyFace
from game.party.messages import (
    PartyAssigned,
    PartyCreate,
    PartyDisband,
    PartyGet,
    PartyInfo,
    PartyInvite,
    PartyJoin,
    PartyJoinCode,
    PartyKick,
    PartyLeave,
    PartyOver,
    PartyPlay,
    PartyPromote,
    PartyReady,
    PartyRecode,
)
from game.party.state import PartyState
from game.player.face import PlayerFace
from server.actors.actor import Caller, Fact, FactDone, Stamp, existing, fact, read_only, remote
from server.errors import NotFound
from server.ids import key_of

Command = (
    PartyCreate
    | PartyInvite
    | PartyJoin
    | PartyJoinCode
    | PartyKick
    | PartyPromote
    | PartyReady
    | PartyLeave
    | PartyDisband
    | PartyRecode
    | PartyPlay
)


class Party(PartyFace):
    durability = "write_behind"
    strays_after_s = 10.0
    grace: ClassVar[rules.Grace] = rules.GRACE

    __slots__ = ()

    def activated(self) -> None:
        self._wait()

    # ---- commands ----

    @remote
    def create(self, caller: Caller, message: PartyCreate) -> Saved:
        """Make the party. Its name is made of the command, so that who repeats it comes to the same one."""
        known = self._known(caller, message)
        if known is not None:
            return known
        code = codes.new_code(self.chance)
        args = (self._number(), self.version + 1, self.wall_ms())
        return self._done(caller, message, rules.create(self.state, caller.subject, message.room, code, *args))

    @existing
    def invite(self, caller: Caller, message: PartyInvite) -> Saved:
        """See `PartyFace.invite`."""
        known = self._known(caller, message)
        if known is not None:
            return known
        args = (message.player, self._number(), self.wall_ms(), self.grace)
        return self._done(caller, message, rules.invite(self.state, caller.subject, *args))

    @existing
    async def join(self, caller: Caller, message: PartyJoin) -> Saved:
        """Take in a player that is invited. Raises `Rejected`, and `Unavailable` where nobody says whether there is a
        block between the two: the invitation of somebody whom it keeps apart from this player is none."""
        known = self._known(caller, message)
        if known is not None:
            return known
        by = rules.inviter(self.state, caller.subject, self.wall_ms())
        if by is not None and await are_apart(self, caller.subject, by):
            raise rules.reject("not_invited")
        args = (self._number(), self.version + 1, self.wall_ms())
        return self._done(caller, message, rules.join(self.state, caller.subject, *args))

    @existing
    def join_code(self, caller: Caller, message: PartyJoinCode) -> Saved:
        """See `PartyFace.join_code`."""
        known = self._known(caller, message)
        if known is not None:
            return known
        args = (codes.read_code(message.code), self._number(), self.version + 1, self.wall_ms())
        return self._done(caller, message, rules.join_code(self.state, caller.subject, *args))

    @existing
    def kick(self, caller: Caller, message: PartyKick) -> Saved:
        known = self._known(caller, message)
        if known is not None:
            return known
        args = (message.player, message.number, codes.new_code(self.chance), self.wall_ms())
        after = rules.kick(self.state, caller.subject, *args)
        self.push(message.player, PartyOver(0, self.key, "kicked"))
        return self._done(caller, message, after)

    @existing
    def promote(self, caller: Caller, message: PartyPromote) -> Saved:
        known = self._known(caller, message)
        if known is not None:
            return known
        return self._done(caller, message, rules.promote(self.state, caller.subject, message.player))

    @existing
    def ready(self, caller: Caller, message: PartyReady) -> Saved:
        known = self._known(caller, message)
        if known is not None:
            return known
        return self._done(caller, message, rules.ready(self.state, caller.subject, message.ready))

    @existing
    def leave(self, caller: Caller, message: PartyLeave) -> Saved:
        known = self._known(caller, message)
        if known is not None:
            return known
        return self._done(caller, message, rules.leave(self.state, caller.subject, self.wall_ms()))

    @existing
    def disband(self, caller: Caller, message: PartyDisband) -> Saved:
        known = self._known(caller, message)
        if known is not None:
            return known
        after = rules.disband(self.state, caller.subject, self.wall_ms())
        for player in self.state.members:
            if player != caller.subject:
                self.push(player, PartyOver(0, self.key, "disbanded"))
        return self._done(caller, message, after)

    @existing
    def recode(self, caller: Caller, message: PartyRecode) -> Saved:
        known = self._known(caller, message)
        if known is not None:
            return known
        return self._done(caller, message, rules.recode(self.state, caller.subject, codes.new_code(self.chance)))

    @existing
    async def play(self, caller: Caller, message: PartyPlay) -> Accepted:
        """Join a match together. The match decides, and knows the command again; whoever is gone by the time that it
        hears of its place shows as having left."""
        if self._known(caller, message) is None:
            players = rules.players(self.state, caller.subject)
        else:
            players = [caller.subject]  # the match answers as it did, whoever is here now
        asks = (message.lineage, message.command, message.team, message.password)
        coming = AdmitParty(self.key, self._number(), players, *asks)
        joined = await self.ref(MatchFace, message.match).ask(MatchFace.admit_party, caller, coming)
        if self._known(caller, message) is None:
            self._done(caller, message, rules.played(self.state, message.match, coming.number))
        return Accepted(message.id, message.match, joined.first_seq, joined.next_seq)

    @read_only
    def get(self, caller: Caller, message: PartyGet) -> PartyInfo:
        """The party as it is. Raises `NotFound` for one that was never made."""
        if not self.state.created_wall_ms:
            raise NotFound(f"no party {self.key}")
        rules.check_member(self.state, caller.subject)
        return rules.info(self.state, self.key, message.id, self.version, self.wall_ms())

    # ---- the latest topic ----

    def latest(self) -> dict[str, Any]:
        return dict(rules.picture(self.state))

    def may_watch(self, caller: Caller) -> bool:
        """Members only, and services."""
        return caller.role == "service" or (caller.role == "player" and caller.subject in self.state.members)

    # ---- words of players, and time ----

    @existing
    def member_gone(self, player: str, birth: int, number: int, reason: str) -> None:
        """See `PartyFace.member_gone`."""
        self._change(rules.gone(self.state, player, birth, number, self.wall_ms()))

    @existing
    def member_seen(self, player: str, birth: int, number: int, word: int) -> None:
        """See `PartyFace.member_seen`."""
        after = rules.seen(self.state, player, birth, number, word, self.wall_ms())
        if after is not self.state and player in after.members:
            self._tell_size(after, player)
        self._change(after)

    @existing
    def size_asked(self, player: str) -> None:
        """See `PartyFace.size_asked`."""
        if player in self.state.members:
            self._tell_size(self.state, player)

    @existing
    def forget(self, person: str, instead: str) -> None:
        """See `PartyFace.forget`."""
        self._change(rules.forget(self.state, person, self.wall_ms()))

    def time_passes(self) -> None:
        """Timer: a member, or the leader, has been away for long enough."""
        after = rules.due(self.state, self.wall_ms(), self.grace)
        for player in self.state.members:
            if player not in after.members:
                self.push(player, PartyOver(0, self.key, "away"))
        self._change(after)
        self._wait()

    @staticmethod
    def facts(key: str, state: Any) -> Iterable[Fact]:
        """The newest word about each membership of which its player may not know, and invitations."""
        birth = state.created_wall_ms
        for player, word in state.untold.items():
            method = PlayerFace.party_joined if word.joined else PlayerFace.party_left
            yield fact(Stamp(birth, word.number), PlayerFace, player, method, key, birth, word.number)
        for player, invitation in state.invited.items():
            if invitation.untold:
                args = (key, invitation.number, invitation.by, invitation.until_wall_ms)
                yield fact(Stamp(birth, invitation.number), PlayerFace, player, PlayerFace.party_invited, *args)

    def facts_done(self, done: list[FactDone]) -> None:
        state, joined = self.state, PlayerFace.party_joined.__name__
        for told in done:
            player, number, method = key_of(told.name.to), told.name.number.version, told.name.method
            if method == PlayerFace.party_invited.__name__:
                state = rules.arrived(state, player, number)
            else:
                state = rules.heard(state, player, number, method == joined, bool(told.refused), self.wall_ms())
                if method == joined and player in state.members:
                    self._tell_size(state, player)
        self._change(state)

    # ---- one way for all ----

    def _known(self, caller: Caller, message: Command) -> Saved | None:
        """The answer that this command got before, None for a new one. Raises `OutcomeUnknown`."""
        version = rules.answer_to(self.state, _scoped(caller, message), message.command)
        return None if version is None else Saved(message.id, self.id, version)

    def _done(self, caller: Caller, message: Command, after: PartyState) -> Saved:
        version = self.version + 1
        self._change(rules.answered(after, _scoped(caller, message), message.command, version))
        return Saved(message.id, self.id, version)

    def _number(self) -> int:
        return rules.number_of(self.state, self.stamp())

    def _change(self, after: PartyState) -> None:
        """Take on a state, and tell whoever it concerns."""
        before = self.state
        if after is before:
            return
        self.state = after
        old, new = rules.picture(before), rules.picture(after)
        for key in [*new, *(key for key in old if key not in new)]:
            if old.get(key) != new.get(key):
                self.publish_latest(key, new.get(key))
        for player in after.members:
            if player not in before.members:
                self.push(player, PartyAssigned(0, self.key))
        for player in rules.told_size(before, after):
            self._tell_size(after, player)
        self._wait()

    def _tell_size(self, state: PartyState, player: str) -> None:
        """Tell a member how many the party has, for its rich presence: a word that may be lost, and is said again."""
        self.tell(PlayerFace, player, PlayerFace.party_size_is, self.key, len(state.members), state.room)

    def _wait(self) -> None:
        """Wait for what time brings next; leave memory where that is nothing any more."""
        at_ms = rules.due_at(self.state, self.grace)
        if at_ms is None:
            self.cancel(self.time_passes)
        else:
            self.after(max(0, at_ms - self.wall_ms()) / 1000 + 0.001, self.time_passes)
        if self.state.ended_wall_ms:
            self.release()


def _scoped(caller: Caller, message: Command) -> str:
    """The key of a caller's lineage for one kind of command: no other caller can answer for it."""
    return f"{caller.subject}/{message.__struct_config__.tag}/{message.lineage}"
