"""The actor of a player: presence, profile and totals. Sessions call `connected`, `beat`, `disconnected`.

Stored (write-behind): status changes, the profile, the current match, results, and `last_seen`
at each transition and once a minute. In memory only: open sessions, and what each of them says (`pictures.py`).

A player whose last session is gone is offline at once; its match is told `ABSENT_S` later, so
that a client which comes back in that time has not left. A player that is loaded as connected
(its node died) is given the same time to come back; one whom nobody calls is loaded `strays_after_s` later.

The player says in which match it is; rosters mirror it. A match that takes it in tells it so, with the number of its
place; a place that it has left is a fact (`server/actors/facts.py`) that the match is told until it has stored it.
"""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Final

import msgspec

from game.match.face import MatchFace
from game.match.state import Line
from game.messages import Presence, PresenceGet, PresenceSet, Profile, ProfileGet, ProfileSet, Saved
from game.moderation.rules import CLOSED_BANNED, because
from game.places import Membership
from game.player import pictures, rules, standing
from game.player.looks import Looks
from game.player.pictures import Said
from game.player.state import SettledMatch
from server.actors.actor import Caller, Fact, FactDone, Stamp, existing, fact, read_only, remote
from server.actors.devices import UNTOLD, Login
from server.errors import NotFound
from server.ids import key_of

SEEN_INTERVAL_S: Final = 60.0
QUIET_INTERVALS: Final = 2
"""Intervals without any heartbeat after which open sessions count as lost with their node."""


class Carried(msgspec.Struct, array_like=True, frozen=True):
    """Volatile fields of a player that migrates to another node."""

    activity: str
    sessions: tuple[str, ...]
    beats: int
    beats_seen: int
    quiet: int
    settled_version: int = 0
    """A field of earlier versions, as `activity` is."""
    said: tuple[Said, ...] = ()


class Player(Looks):
    durability = "write_behind"
    strays_after_s = 10.0
    ABSENT_S: ClassVar[float] = 10.0
    """Time to come back after the last session is gone, before the match is told."""

    __slots__ = ("beats", "beats_seen", "quiet", "sessions")

    def activated(self) -> None:
        self.begin_looks()
        self.sessions: tuple[str, ...] = ()
        self.beats = self.beats_seen = self.quiet = 0
        if rules.is_here(self.state):
            self.after(self.ABSENT_S, self.absent)

    def carry(self) -> Carried:
        line = pictures.newest(self.said)
        activity = "" if line is None else line.activity
        return Carried(activity, self.sessions, self.beats, self.beats_seen, self.quiet, said=self.said)

    def arrived(self, carried: Carried) -> None:
        self.sessions, said = carried.sessions, carried.said
        if carried.activity and not said and carried.sessions:  # from a node of an earlier version
            said = (Said(carried.sessions[-1], activity=carried.activity),)
        self.begin_looks(said, moved=True)
        self.beats, self.beats_seen, self.quiet = carried.beats, carried.beats_seen, carried.quiet

    # ---- sessions ----

    @remote
    def connected(self, caller: Caller, login: Login = UNTOLD) -> None:
        """Note that a session opened; the same one again changes nothing. Raises `Rejected`: `banned`,
        `revoked`."""
        if caller.session in self.sessions:
            return
        self._must_be_welcome(login.issued_ms)
        first = not self.sessions
        self.sessions = (*self.sessions, caller.session)
        if first:
            self.quiet = 0
            self.stay()  # a read before the first session may have released it
            self.state = rules.arrived(self.state, self.wall_ms())
            self.cancel(self.absent)
            self.after(SEEN_INTERVAL_S, self.minute)
        self.show_itself()

    @remote
    def disconnected(self, caller: Caller, reason: str) -> None:
        """Note that a session ended. `reason` is for the log of calls only: every end counts the same."""
        if caller.session not in self.sessions:
            return
        self.sessions = tuple(session for session in self.sessions if session != caller.session)
        if not self.sessions:
            self._depart()
            return
        self.silence(self.sessions)
        self.show_itself()

    @remote
    def beat(self, caller: Caller, state: str | None) -> None:
        """Count a heartbeat, and set the status that it may bring. The hottest turn there is: no allocation
        and no call beside what a change needs."""
        self.beats += 1
        if caller.session not in self.sessions:
            self.connected(caller)
        if state is not None and (state != self.state.status or self.words.get(caller.session) != state):
            said = pictures.choose(self.said, caller.session, rules.chosen(state))
            self.choose(caller.session, said, self.sessions)
            self.show_itself()

    def minute(self) -> None:
        """Timer, once a minute while connected: store `last_seen`, and give up sessions without a heartbeat
        for `QUIET_INTERVALS` (their node died, so that nobody says `disconnected`)."""
        if not self.sessions:
            return
        self.quiet = self.quiet + 1 if self.beats == self.beats_seen else 0
        self.beats_seen = self.beats
        if self.quiet >= QUIET_INTERVALS:
            self.sessions = ()
            self.state = rules.vanished(self.state)  # seen last when a beat came, which is stored
            self._depart()
            return
        if not self.quiet:
            self.state = rules.seen(self.state, self.wall_ms())
        self.tell_hidden(again=True)
        self.after(SEEN_INTERVAL_S, self.minute)

    def absent(self) -> None:
        """Timer: the time to come back is over, so the match is told. A session that came meanwhile stops it. A player
        who was loaded as connected was seen last when the row says, not now."""
        if self.sessions:
            return
        self.state = rules.vanished(self.state)
        self.state = rules.depart(self.state, "disconnected")
        self.show_itself()

    def _must_be_welcome(self, issued_ms: int) -> None:
        error = standing.login_refusal(self.state, issued_ms, self.wall_ms())
        if error is not None:
            self._forget_if_unknown()
            raise error

    @remote
    def standing(
        self,
        number: Stamp,
        banned_until_ms: int,
        ban_reason: str,
        muted_until_ms: int,
        tokens_from_ms: int,
    ) -> None:
        """See `PlayerFace.standing`."""
        before = self.state
        words = (number, banned_until_ms, ban_reason, muted_until_ms, tokens_from_ms)
        self.state = after = standing.heard(before, *words)
        if after is before:
            return
        self.show_itself()
        if standing.is_banned(after, self.wall_ms()):
            self.end_sessions(self.key, because("banned", ban_reason), CLOSED_BANNED)

    def _depart(self) -> None:
        """Go offline at once, and tell the match in `ABSENT_S` unless somebody comes back."""
        self.say(())
        self.state = rules.departed(self.state, self.wall_ms())
        self.cancel(self.minute)
        self.after(self.ABSENT_S, self.absent)  # also says again that it is gone, if that could not be stored now
        self.show_itself()

    # ---- presence and profile ----

    def shown_devices(self) -> Sequence[pictures.Device]:
        return [pictures.Device(session) for session in self.sessions]

    @remote
    def presence_set(self, caller: Caller, message: PresenceSet) -> Saved:
        """Set status and rich presence; a session that the player does not know yet counts as opened. Raises
        `Rejected`: `bad_presence`."""
        pictures.check(message.activity, message.rich)
        before = self.state
        if caller.session not in self.sessions:
            self.connected(caller)
        line = Said(caller.session, message.status, message.activity, message.rich)
        self.choose(caller.session, pictures.say(self.said, line), self.sessions)
        self.show_itself()
        return Saved(message.id, self.id, self.version + (self.state is not before))

    @read_only
    def presence_get(self, caller: Caller, message: PresenceGet) -> Presence:
        """Presence as the caller may see it. Never raises `NotFound`: a player that was never here is offline."""
        self._forget_if_unknown()
        own = caller.role == "player" and caller.subject == self.key
        muted, known = standing.is_muted(self.state, self.wall_ms()), bool(self.sessions)
        return pictures.view(self.state, self.key, message.id, self.said, self.shown_party(), muted, own, known)

    @remote
    def profile_set(self, caller: Caller, message: ProfileSet) -> Saved:
        """Change the profile, once a command. Raises `OutcomeUnknown` for a command that is too old to be
        remembered."""
        version = rules.answer_to(self.state, message.lineage, message.command)
        if version is None:
            version = self.version + 1
            self.state = rules.set_profile(self.state, message, version)
        return Saved(message.id, self.id, version)

    @read_only
    def profile_get(self, caller: Caller, message: ProfileGet) -> Profile:
        """Profile and totals. Raises `NotFound` for a player of whom nothing was ever stored."""
        if self._forget_if_unknown():
            raise NotFound(f"no player {self.key}")
        own = caller.role == "player" and caller.subject == self.key
        version = self.version if own else rules.profile_version(self.state)
        return rules.profile(self.state, self.key, message.id, version)

    def _forget_if_unknown(self) -> bool:
        """Release the activation that only a read of a name that nobody has made. True if so."""
        if self.version or self.sessions:
            return False
        self.release()
        return True

    # ---- calls of matches: the face ----

    @existing
    def match_joined(self, match: str, birth: int = 0, number: int = 0, moves: bool = True) -> None:
        self.state = rules.entered(self.state, Membership(match, birth, number), moves)
        if not self.sessions and self.state.match == match:
            self.after(self.ABSENT_S, self.absent)
        self.tell_hidden(again=True)
        self.show_itself()

    @read_only
    def match_now(self) -> str:
        self._forget_if_unknown()
        return self.state.match

    @existing
    def match_left(self, match: str, birth: int = 0, number: int = 0) -> None:
        self.state = rules.left(self.state, match, birth, number)
        self.show_itself()

    @staticmethod
    def facts(key: str, state: Any) -> Iterable[Fact]:
        """The places that the player has left, which are its matches' to free."""
        for place in state.leaving:
            word = (key, place.birth, place.number, place.reason)
            yield fact(Stamp(place.birth, place.number), MatchFace, place.name, MatchFace.player_gone, *word)

    def facts_done(self, done: list[FactDone]) -> None:
        for told in done:
            number = told.name.number
            self.state = rules.heard(self.state, key_of(told.name.to), number.epoch, number.version)

    async def settle(self, match: str, ended_wall_ms: int, line: Line, won: bool, birth: int = 0) -> None:
        """See `PlayerFace.settle`."""
        known = rules.settled(self.state, match, ended_wall_ms, birth)
        if known is None and rules.is_forgotten(self.state, ended_wall_ms):
            career = {"player": self.key, "match": match, "birth": birth, "ended_wall_ms": ended_wall_ms}
            if await self.query_store("career", career):
                known = SettledMatch(match, ended_wall_ms)
        if known is None:
            result = SettledMatch(match, ended_wall_ms, birth, self.version + 1)
            self.state = rules.settle(self.state, result, line, won, self.is_stored)
        else:
            self.state = rules.left(self.state, match, birth)
            if not birth and self.is_stored(known.version):
                self.tell(MatchFace, match, MatchFace.settled, self.key)
        self.show_itself()
