"""The actor of a player: presence, profile and totals. Sessions call `connected`, `beat`, `disconnected`; which of
them there may be at a time the login policy says (`devices.py`).

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
from msgspec.structs import replace

from game.careers.events import Gain
from game.careers.messages import Career, CareerGet
from game.careers.reading import career
from game.match.face import MatchFace
from game.match.state import Line
from game.messages import Saved
from game.moderation.rules import CLOSED_BANNED, CLOSED_KICKED, CLOSED_REVOKED, because
from game.party.face import PartyFace
from game.party.place import NO_PARTY
from game.people.codes import CODES, ERASED
from game.places import Membership
from game.player import erasing, parties, pictures, rules, standing
from game.player.devices import EARLIER, CarriedDevices, Devices
from game.player.hosting import HostPart
from game.player.messages import Presence, PresenceGet, PresenceSet, Profile, ProfileGet, ProfileSet
from game.player.pictures import Said
from game.player.state import SettledMatch
from server.actors.actor import Caller, Fact, FactDone, Stamp, existing, fact, read_only, remote, revives
from server.actors.devices import UNTOLD, Device, Login
from server.errors import NotFound, Rejected
from server.ids import key_of, kind_of

SEEN_INTERVAL_S: Final = 60.0
TOOK_OVER: Final = "another connection of this player took over"


class Carried(msgspec.Struct, array_like=True, frozen=True):
    """Volatile fields of a player that migrates to another node."""

    activity: str
    sessions: tuple[str, ...]
    beats: int = 0
    beats_seen: int = 0
    quiet: int = 0
    settled_version: int = 0
    """Four fields of earlier versions, as `activity` is."""
    said: tuple[Said, ...] = ()
    devices: CarriedDevices = CarriedDevices()
    party_size: int = 0
    party_room: int = 0


_NOBODY: Final = Device(UNTOLD, 0.0)


class Player(HostPart):
    durability = "write_behind"
    strays_after_s = 10.0
    ABSENT_S: ClassVar[float] = 10.0
    """Time to come back after the last session is gone, before the match is told."""

    __slots__ = ("_last", "devices")

    def activated(self) -> None:
        self.begin_looks()
        self.devices = Devices()
        self.here = self.devices.here
        """Devices by session."""
        self._last = _NOBODY
        """The device that brought the newest heartbeat."""
        self.begin_in_party()
        self.begin_hosting()
        if rules.is_here(self.state):
            self.after(self.ABSENT_S, self.absent)

    def carry(self) -> Carried:
        line = pictures.newest(self.said)
        activity = "" if line is None else line.activity
        seen = (self.said, self.devices.carry(self.now()), self.party_size, self.party_room)
        return Carried(activity, self.sessions, 0, 0, 0, 0, *seen)

    def arrived(self, carried: Carried) -> None:
        said = carried.said
        if carried.activity and not said and carried.sessions:  # from a node of an earlier version
            said = (Said(carried.sessions[-1], activity=carried.activity),)
        self.begin_looks(said, moved=True)
        self.devices.arrived(carried.devices, carried.sessions, self.now())
        self.party_size, self.party_room = carried.party_size, carried.party_room

    # ---- sessions ----

    @property
    def sessions(self) -> tuple[str, ...]:
        """Names of the sessions that are here."""
        return tuple(self.here)

    @revives
    @remote
    def connected(self, caller: Caller, login: Login = UNTOLD) -> bool:
        """Take in a session, if the login policy does; the same one again changes nothing. True: others go for it once
        it has begun, and it tells its login again then. Raises `Rejected`: `banned`, `revoked`, `replaced`,
        `occupied`."""
        self._must_be_welcome(login.issued_ms)
        if login.session != caller.session:  # an earlier version tells nothing
            login = replace(login, session=caller.session, number=EARLIER)
        first = not self.here
        taken = self.devices.take(login, self.now())
        if first:
            self._arrive()
        self._give_way(taken.ended)
        return taken.waits

    def _arrive(self) -> None:
        """Note that the first session is here."""
        self.stay()  # a read before the first session may have released it
        self.state = rules.arrived(self.state, self.wall_ms())
        self.cancel(self.absent)
        self.after(SEEN_INTERVAL_S, self.minute)

    def _give_way(self, ended: Iterable[Device]) -> None:
        """End sessions in whose place a later one came, which is here now."""
        for device in ended:
            self.end_session(self.key, device.login, TOOK_OVER)
        if ended:
            self.silence(self.sessions)
        self.show_itself()

    @remote
    def disconnected(self, caller: Caller, reason: str) -> None:
        """Note that a session ended. `reason` is for the log of calls only: every end counts the same."""
        if self.devices.end(caller.session) is not None:
            self._left()

    def runs(self) -> Iterable[tuple[str, int]]:
        """See `server.actors.session_actor.RunWatcher`."""
        return self.devices.runs()

    @remote
    def run_over(self, node: str, incarnation: int) -> None:
        """Drop the devices whose node is gone."""
        if self.devices.gone(node, incarnation):
            self._left(vanished=True)

    def _left(self, vanished: bool = False) -> None:
        """Note that sessions are not here any more. `vanished`: nobody saw them go; the player was seen last when a
        heartbeat came, which is stored."""
        if self.here:
            self.silence(self.sessions)
            self.show_itself()
            return
        if vanished:
            self.state = rules.vanished(self.state)
        self._depart()

    @remote
    def beat(self, caller: Caller, state: str | None) -> None:
        """Count a heartbeat, and set the status that it may bring. The hottest turn there is: no allocation
        and no call beside what a change needs, and of a device that beats again, from this node, nothing is read but
        the device: among thousands, none in the processor's cache, a dict and its key would be waited for."""
        last = self._last
        if last.caller is not caller:
            device = self.here.get(caller.session)
            last = self._last = device if device is not None else self._begun(caller)
            last.caller = caller
        last.beats += 1
        if state is None or (state == self.state.status and pictures.has_said(self.said, caller.session, state)):
            return
        word = rules.chosen(state)
        self.choose(caller.session, word, pictures.choose(self.said, caller.session, word), self.here)
        self.show_itself()

    def _begun(self, caller: Caller) -> Device:
        """The device of a session whose first heartbeat says that it has begun. Raises `Rejected`: `unknown_session`,
        to which it answers by its login."""
        device, ended = self.devices.beaten(caller.session)
        self._give_way(ended)
        return device

    def minute(self) -> None:
        """Timer, once a minute while connected: store `last_seen`, and give up sessions that have been quiet for too
        long (their end was lost)."""
        if not self.here:
            return
        quiet, heard = self.devices.look()
        if quiet:
            self._left(vanished=True)
        if not self.here:
            return
        if heard:
            self.state = rules.seen(self.state, self.wall_ms())
        self.tell_hidden(again=True)
        self.after(SEEN_INTERVAL_S, self.minute)

    def absent(self) -> None:
        """Timer: the time to come back is over, so the match is told. A session that came meanwhile stops it. A player
        who was loaded as connected was seen last when the row says, not now."""
        if self.here:
            return
        self.state = rules.vanished(self.state)
        self.state = rules.depart(self.state, "disconnected")
        self.show_gone()

    def _must_be_welcome(self, issued_ms: int) -> None:
        if self.state.erased:
            raise Rejected(ERASED, CODES[ERASED])
        error = standing.login_refusal(self.state, issued_ms, self.wall_ms())
        if error is not None:
            self._forget_if_unknown()
            raise error

    @revives
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
        self.cancel(self.unmuted)  # set again where a mute goes on
        self.show_itself()
        if standing.is_banned(after, self.wall_ms()):
            self.end_sessions(self.key, because("banned", ban_reason), CLOSED_BANNED)
            self._shut_out(self.devices.logins())
        elif after.tokens_from_ms > before.tokens_from_ms:
            self.end_sessions(self.key, "revoked", CLOSED_REVOKED, after.tokens_from_ms)
            self._shut_out([login for login in self.devices.logins() if login.issued_ms < after.tokens_from_ms])

    def _shut_out(self, logins: Sequence[Login]) -> None:
        """Know sessions no more that are to end. One that goes on, since its node heard nothing of it, tells its login
        again with its next heartbeat, and is judged."""
        for login in logins:
            self.devices.end(login.session)
        if logins:
            self._left()

    def _depart(self) -> None:
        """Go offline at once, and tell the match in `ABSENT_S` unless somebody comes back."""
        self.say(())
        self.state = rules.departed(self.state, self.wall_ms())
        self.cancel(self.minute)
        self.after(self.ABSENT_S, self.absent)  # also says again that it is gone, if that could not be stored now
        self.show_itself()

    # ---- presence and profile ----

    def shown_devices(self) -> tuple[Login, ...]:
        return tuple(self.devices.logins())

    @remote
    def presence_set(self, caller: Caller, message: PresenceSet) -> Saved:
        """Set status and rich presence. Raises `Rejected`: `bad_presence`, and `unknown_session` until the session has
        told its login."""
        pictures.check(message.activity, message.rich)
        before = self.state
        if caller.session not in self.here:
            self._begun(caller)
        line = Said(caller.session, message.status, message.activity, message.rich)
        self.choose(caller.session, message.status, pictures.say(self.said, line), self.here)
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

    @read_only
    async def career_get(self, caller: Caller, message: CareerGet) -> Career:
        """The career and ratings. Raises `NotFound` for a player of whom nothing was ever stored, `Unavailable`."""
        if self._forget_if_unknown():
            raise NotFound(f"no player {self.key}")
        asked = {"player": self.key, "mode": message.mode, "season": message.season}
        totals = await self.query_store("career_lines", asked)
        medals = await self.query_store("career_medals", asked)
        ratings = await self.query_store("career_ratings", {"player": self.key})
        return career(message, self.state.settled, totals, medals, ratings)

    def _forget_if_unknown(self) -> bool:
        """Release the activation that only a read of a name that nobody has made. True if so."""
        if self.version or self.here:
            return False
        self.release()
        return True

    # ---- calls of matches: the face ----

    @existing
    def match_joined(self, match: str, birth: int = 0, number: int = 0, moves: bool = True) -> None:
        self.state = rules.entered(self.state, Membership(match, birth, number), moves)
        if not self.here and self.state.match == match:
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

    # ---- friends ----

    @existing
    def known(self) -> None:
        """See `PlayerFace.known`."""
        if self.state.erased:
            raise NotFound(f"no player {self.key}")

    @read_only
    def is_muted(self) -> bool:
        return standing.is_muted(self.state, self.wall_ms())

    @existing
    async def relations_changed(self, number: int) -> None:
        """See `PlayerFace.relations_changed`."""
        hidden = await self.hidden_inviters()
        if hidden:
            self.drop_invitations(hidden)
        self.state = rules.related(self.state, number)
        self.show_itself()

    # ---- erasure ----

    @existing
    def erase(self) -> bool:
        """See `PlayerFace.erase`."""
        if not erasing.has_left(self.state):
            self.state = erasing.erasing(self.state)
        if self.here:
            self.end_sessions(self.key, ERASED, CLOSED_KICKED)
            self._shut_out(self.devices.logins())
        self.cancel(self.absent)
        self.cancel(self.minute)
        self.show_itself()
        self.release()
        return erasing.has_left(self.state)

    @existing
    def forget(self, person: str, instead: str) -> None:
        """See `PlayerFace.forget`."""
        self.drop_invitations([person])

    # ---- facts ----

    @staticmethod
    def facts(key: str, state: Any) -> Iterable[Fact]:
        """The places that the player has left, which are its matches' and its parties' to free, and its word to the
        party that it is in."""
        for place in state.leaving:
            word = (key, place.birth, place.number, place.reason)
            yield fact(Stamp(place.birth, place.number), MatchFace, place.name, MatchFace.player_gone, *word)
        if state.in_party is not NO_PARTY:
            yield from parties.party_facts(key, state)

    def facts_done(self, done: list[FactDone]) -> None:
        for told in done:
            if kind_of(told.name.to) == PartyFace.kind:
                self.party_done(told)
                continue
            number = told.name.number
            self.state = rules.heard(self.state, key_of(told.name.to), number.epoch, number.version)

    async def settle(
        self, match: str, ended_wall_ms: int, line: Line, won: bool, birth: int = 0, gain: Gain | None = None
    ) -> None:
        """See `PlayerFace.settle`."""
        if self.state.erased:
            raise Rejected(ERASED, CODES[ERASED])
        known = rules.settled(self.state, match, ended_wall_ms, birth)
        if known is None and rules.is_forgotten(self.state, ended_wall_ms):
            asked = {"player": self.key, "match": match, "birth": birth, "ended_wall_ms": ended_wall_ms}
            if await self.query_store("career", asked):
                known = SettledMatch(match, ended_wall_ms)
        if known is None:
            gain = gain or Gain("", "", won, line.kills, line.deaths, line.assists, line.medals)
            result = SettledMatch(match, ended_wall_ms, birth, self.version + 1, gain)
            self.state = rules.settle(self.state, result, line, won, self.is_stored)
        else:
            self.state = rules.left(self.state, match, birth)
            if not birth and self.is_stored(known.version):
                self.tell(MatchFace, match, MatchFace.settled, self.key)
        self.show_itself()
