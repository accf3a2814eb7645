"""A player: presence, profile and totals. Its sessions call `connected`, `beat`, `disconnected`.

Stored (write-behind): status changes, the profile, the current match, results, and `last_seen`
at each transition and once a minute. In memory only: open sessions and the line of rich presence.

A player whose last session is gone is offline at once; its match is told `ABSENT_S` later, so
that a client which comes back in that time has not left. A player that is loaded as connected
(its node died) is given the same time to come back.
"""

from typing import ClassVar, Final

import msgspec

from game.match.state import Line
from game.messages import Presence, PresenceGet, PresenceSet, Profile, ProfileGet, ProfileSet, Saved
from game.player import rules
from game.player.state import PlayerState
from server.actors.actor import Actor, Caller, read_only
from server.errors import NotFound

SEEN_INTERVAL_S: Final = 60.0
QUIET_INTERVALS: Final = 2
"""Intervals without any heartbeat after which open sessions count as lost with their node."""


class Carried(msgspec.Struct, array_like=True, frozen=True):
    """What a player that moves to another node has in memory only."""

    activity: str
    sessions: tuple[str, ...]
    beats: int
    beats_seen: int
    quiet: int
    settled_version: int


class Player(Actor[PlayerState]):
    kind = "player"
    durability = "write_behind"
    State = PlayerState
    ABSENT_S: ClassVar[float] = 10.0

    __slots__ = ("activity", "beats", "beats_seen", "quiet", "sessions", "settled_version")

    def activated(self) -> None:
        self.activity = ""
        self.sessions: tuple[str, ...] = ()
        self.beats = self.beats_seen = self.quiet = 0
        self.settled_version = 0
        if self.state.status != "offline" or self.state.match:
            self.after(self.ABSENT_S, self.absent)

    def carry(self) -> Carried:
        return Carried(self.activity, self.sessions, self.beats, self.beats_seen, self.quiet, self.settled_version)

    def arrived(self, carried: Carried) -> None:
        self.activity, self.sessions = carried.activity, carried.sessions
        self.beats, self.beats_seen, self.quiet = carried.beats, carried.beats_seen, carried.quiet
        self.settled_version = carried.settled_version

    # ---- sessions ----

    def connected(self, caller: Caller) -> None:
        """A session opened; the same one again changes nothing."""
        if caller.session in self.sessions:
            return
        first = not self.sessions
        self.sessions = (*self.sessions, caller.session)
        if first:
            self.quiet = 0
            self.stay()  # somebody may have asked for it before it was
            self.state = rules.arrived(self.state, self.wall_ms())
            self.cancel(self.absent)
            self.after(SEEN_INTERVAL_S, self.minute)

    def disconnected(self, caller: Caller, reason: str) -> None:
        """A session ended, for whatever `reason`."""
        if caller.session not in self.sessions:
            return
        self.sessions = tuple(session for session in self.sessions if session != caller.session)
        if not self.sessions:
            self._depart()

    def beat(self, caller: Caller, state: str | None) -> None:
        """A heartbeat, perhaps with a new status. The hottest turn there is."""
        self.beats += 1
        if caller.session not in self.sessions:
            self.connected(caller)
        if state is not None and state != self.state.status:
            self.state = rules.choose(self.state, state, self.wall_ms())

    def minute(self) -> None:
        """Once a minute while connected: `last_seen`, and whether the sessions still live."""
        if not self.sessions:
            return
        self.quiet = self.quiet + 1 if self.beats == self.beats_seen else 0
        self.beats_seen = self.beats
        if self.quiet >= QUIET_INTERVALS:
            self.sessions = ()
            self._depart()
            return
        if not self.quiet:
            self.state = rules.seen(self.state, self.wall_ms())
        self.after(SEEN_INTERVAL_S, self.minute)

    def absent(self) -> None:
        """The time to come back is over."""
        if self.sessions:
            return
        self.state = rules.departed(self.state, self.wall_ms())
        if self.state.match:
            from game.match.actor import Match  # the two actors call each other

            self.tell(Match, self.state.match, Match.player_gone, self.key)
            self.state = rules.left(self.state, self.state.match)

    def _depart(self) -> None:
        self.activity = ""
        self.state = rules.departed(self.state, self.wall_ms())
        self.cancel(self.minute)
        self.after(self.ABSENT_S, self.absent)  # also says again that it is gone, if that could not be stored now

    # ---- presence and profile ----

    def presence_set(self, caller: Caller, message: PresenceSet) -> Saved:
        before = self.state
        if caller.session not in self.sessions:
            self.connected(caller)
        self.activity = message.activity
        self.state = rules.choose(self.state, message.status, self.wall_ms())
        return Saved(message.id, self.id, self.version + (self.state is not before))

    @read_only
    def presence_get(self, caller: Caller, message: PresenceGet) -> Presence:
        """Never `NotFound`: who was never here is offline."""
        self._forget_if_unknown()
        own = caller.role == "player" and caller.subject == self.key
        return rules.view(self.state, self.key, message.id, self.activity, own)

    def profile_set(self, caller: Caller, message: ProfileSet) -> Saved:
        """Raises `OutcomeUnknown` for a command that is too old to be remembered."""
        version = rules.answer_to(self.state, message.lineage, message.command)
        if version is None:
            version = self.version + 1
            self.state = rules.set_profile(self.state, message, version)
        return Saved(message.id, self.id, version)

    @read_only
    def profile_get(self, caller: Caller, message: ProfileGet) -> Profile:
        """Raises `NotFound` for a player of whom nothing was ever stored."""
        if self._forget_if_unknown():
            raise NotFound(f"no player {self.key}")
        return rules.profile(self.state, self.key, message.id, self.version)

    def _forget_if_unknown(self) -> bool:
        if self.version or self.sessions:
            return False
        self.release()
        return True

    # ---- matches: told by them ----

    def match_joined(self, match: str) -> None:
        self.state = rules.entered(self.state, match)
        if not self.sessions:
            self.after(self.ABSENT_S, self.absent)

    def match_left(self, match: str) -> None:
        self.state = rules.left(self.state, match)

    def settle(self, match: str, ended_wall_ms: int, line: Line, won: bool) -> None:
        """A result, told again and again until it is stored: then the match is told so. The
        totals change once."""
        from game.match.actor import Match  # the two actors call each other

        before = self.state
        self.state = rules.settle(before, match, ended_wall_ms, line, won)
        if self.state is not before:
            self.settled_version = self.version + 1
        elif self.activation.stored_version >= self.settled_version:
            self.tell(Match, match, Match.settled, self.key)
