"""The actor of a match: rules over an event log. The game's host drives it; players join, leave and watch.

Each command runs a pure rule and emits the rule's events under the command's id, so that repeating the
command repeats the answer. Events that follow by themselves (the end by score or time, a countdown that is
over) are emitted in the same turn.

Settling (`game/match/results.py`): once the end is stored the match logs what careers get of it, and every
participant's result is a fact (`server/actors/facts.py`) that its player is told until it has stored it. Then the
match leaves memory, and its row says that all is told.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from secrets import token_hex
from typing import Any, ClassVar, Final

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from game.boards.face import BoardsFace
from game.match import admission, describing, endings, guests, hosting, rules, spectating
from game.match.admission import Entry
from game.match.codes import reject
from game.match.events import (
    HostChanged,
    Invited,
    Kicked,
)
from game.match.hidden import Hidden, HiddenWord
from game.match.messages import (
    AdmitParty,
    MatchAllow,
    MatchDescribe,
    MatchInvite,
    MatchInvited,
    MatchKick,
    MatchKicked,
    MatchPassHost,
    MatchReserve,
    MatchSuccessor,
    MatchUnkick,
)
from game.match.results import boards_of, result_facts
from game.match.sight import OF_WATCHERS, SightPart, host_of
from game.match.state import MatchState
from game.messages import (
    Accepted,
    Countdown,
    Ended,
    Joined,
    Left,
    MatchAssigned,
    MatchCreate,
    MatchEnd,
    MatchEvent,
    MatchJoin,
    MatchLeave,
    MatchReport,
    MatchStart,
    MatchTick,
    PartyJoined,
)
from game.moderation.face import StandingFace
from game.player.face import PlayerFace
from server.actors.actor import Caller, Fact, FactDone, Stamp, existing, fact, reminder, remote
from server.ids import key_of
from server.wire.messages import Request

OfPlay = MatchCreate | MatchJoin | MatchLeave | MatchStart | MatchReport | MatchEnd
OfGuests = MatchInvite | MatchAllow | MatchReserve | MatchKick | MatchUnkick | AdmitParty
Command = OfPlay | OfGuests | MatchSuccessor | MatchPassHost | MatchDescribe
SETTLE: Final = PlayerFace.settle.__name__
LEAVES: Final = frozenset({"left", "disconnected", "in_another_match"})
"""Reasons of `Left`; whatever else a player of another version says counts as `disconnected`."""


class Carried(msgspec.Struct, array_like=True, frozen=True):
    """Volatile fields of a match that migrates to another node. `silent_s` is how long its host has been
    silent, `unsettled` the players of whose place they are not known to have heard, `guesses` who has said wrong
    passwords, how many and how many seconds ago the last. The others are of earlier versions."""

    clock_ms: int
    silent_s: float
    rounds: int = 0
    unsettled: list[str] = []
    later: bool = False
    guesses: list[tuple[str, int, float]] = []
    hidden: list[HiddenWord] = []


class Match(SightPart):
    Event = MatchEvent
    lives_on = True
    HOST_SILENCE_S: ClassVar[float] = 30.0
    """Silence of the host, without command or tick, after which it counts as vanished."""
    PLAYERS_HOST: ClassVar[int] = 0
    """Matches that a player may host at a time."""
    GUESSES_S: ClassVar[float] = 600.0
    """Time after a player's last wrong password until its guesses begin anew."""
    evolve = staticmethod(rules.evolve)
    finished = staticmethod(rules.finished)
    list_order = staticmethod(rules.list_order)

    __slots__ = ("guesses", "host_seen_s", "unsaid")

    def activated(self) -> None:
        self.begin_sight()
        self.host_seen_s = self.now()
        self.guesses: dict[str, tuple[int, float]] = {}
        """Wrong passwords of each player, and when it said the last."""
        self.unsaid: dict[str, None] = {}
        """Players of whose place or leaving they are not known to have heard."""
        if self.state.phase != "ended":
            members = (player for player, line in self.state.players.items() if line.member is not UNSET)
            self.unsaid = dict.fromkeys(members)
        if self.state.phase == "ended":
            self.release()
        elif self.state.host:
            self.after(self.HOST_SILENCE_S, self.host_silent)
            if self.state.phase == "countdown":
                self._await_countdown()
        if self.state.phase != "ended":
            self.await_reservations()

    def carry(self) -> Carried:
        silent_s = self.now() - self.host_seen_s
        guesses = [(name, count, self.now() - at) for name, (count, at) in self.guesses.items()]
        hidden = self.hidden.words()
        return Carried(self.clock_ms, silent_s, unsettled=list(self.unsaid), guesses=guesses, hidden=hidden)

    def arrived(self, carried: Carried) -> None:
        self.clock_ms = carried.clock_ms
        self.host_seen_s = self.now() - carried.silent_s
        self.unsaid = dict.fromkeys(carried.unsettled)
        self.guesses = {name: (count, self.now() - ago_s) for name, count, ago_s in carried.guesses}
        self.hidden = Hidden(carried.hidden)

    # ---- commands of the host ----

    @remote
    async def create(self, caller: Caller, message: MatchCreate) -> Accepted:
        known = self._known(caller, message)
        if known is not None:
            return known
        secret = (message.password, token_hex(16)) if message.password else ("", "")
        events = rules.create(self.state, self.key, host_of(caller), message.options, self.wall_ms(), *secret)
        events += describing.described(message.properties, message.tags)
        await self._may_host(host_of(caller))
        self.stay()  # a read before it was created may have released it
        self._host_lives()
        self.after(self.HOST_SILENCE_S, self.host_silent)
        return self._accept(caller, message, events)

    @existing
    def start(self, caller: Caller, message: MatchStart) -> Accepted:
        known = self._known(caller, message)
        if known is not None:
            return known
        events = rules.start(self.state, host_of(caller), message.time_ms, self.wall_ms(), message.term)
        self._host_lives(message.time_ms)
        return self._accept(caller, message, events)

    @existing
    def report(self, caller: Caller, message: MatchReport) -> Accepted:
        known = self._known(caller, message)
        if known is not None:
            return known
        events = rules.report(self.state, host_of(caller), message.events, self.wall_ms(), message.term)
        self._host_lives(message.events[-1].time_ms)
        return self._accept(caller, message, events)

    @existing
    def end(self, caller: Caller, message: MatchEnd) -> Accepted:
        known = self._known(caller, message)
        if known is not None:
            return known
        events = rules.end(self.state, host_of(caller), message.time_ms, self.wall_ms(), message.term)
        return self._accept(caller, message, events)

    @existing
    def tick(self, caller: Caller, message: MatchTick) -> Accepted:
        """Advance the host's clock. No command: a tick that is lost or repeated changes nothing by itself,
        so it carries no id."""
        self._exists()
        events = rules.tick(self.state, host_of(caller), message.time_ms, self.wall_ms(), message.term)
        self._host_lives(message.time_ms)
        first_seq = self.next_seq
        self._emit(events, None)
        return Accepted(message.id, self.key, first_seq, self.next_seq)

    async def _may_host(self, host: str | None) -> None:
        """Ask a player who is to host the match; raises `Rejected` where it may not. Game servers are not asked."""
        kind, _, player = (host or "").partition("/")
        if not player:
            return
        if kind != "player" or not self.PLAYERS_HOST:
            raise reject("bad_host", "players host no matches here")
        await self.ref(PlayerFace, player).ask(PlayerFace.may_host, self.key, self.PLAYERS_HOST)

    @existing
    async def successor(self, caller: Caller, message: MatchSuccessor) -> Accepted:
        if self._hosts(caller, message.term):
            await self._may_host(message.host)
        return self._of_host(
            caller, message, lambda host: hosting.name_successor(self.state, host, message.term, message.host)
        )

    @existing
    async def pass_host(self, caller: Caller, message: MatchPassHost) -> Accepted:
        if self._hosts(caller, message.term):
            await self._may_host(message.host)
        return self._of_host(
            caller,
            message,
            lambda host: hosting.pass_host(self.state, host, message.term, message.host, self.next_seq, self.wall_ms()),
        )

    @existing
    async def invite(self, caller: Caller, message: MatchInvite) -> Accepted:
        """Let players in and tell them. Raises `Rejected`: `muted`, and what the rule refuses."""
        is_new, standing = self._known(caller, message) is None, self.ref(StandingFace, caller.subject)
        if is_new and await standing.ask(StandingFace.is_muted):
            raise reject("muted")
        player = caller.subject if caller.role == "player" else None
        return self._of_host(
            caller, message, lambda host: guests.invite(self.state, host, player, message.term, message.players)
        )

    @existing
    def allow(self, caller: Caller, message: MatchAllow) -> Accepted:
        return self._of_host(
            caller,
            message,
            lambda host: guests.allow(self.state, host, message.term, message.players, message.allowed),
        )

    @existing
    def describe(self, caller: Caller, message: MatchDescribe) -> Accepted:
        said = (message.term, message.properties, message.tags)
        return self._of_host(caller, message, lambda host: describing.describe(self.state, host, *said))

    @existing
    def reserve(self, caller: Caller, message: MatchReserve) -> Accepted:
        wanted = (message.players, message.party, message.places, message.for_ms, self.wall_ms())
        return self._of_host(caller, message, lambda host: guests.reserve(self.state, host, message.term, *wanted))

    @existing
    def kick(self, caller: Caller, message: MatchKick) -> Accepted:
        return self._of_host(
            caller,
            message,
            lambda host: guests.kick(self.state, host, message.term, message.player, message.reason, self.next_seq),
        )

    @existing
    def unkick(self, caller: Caller, message: MatchUnkick) -> Accepted:
        return self._of_host(
            caller,
            message,
            lambda host: guests.unkick(self.state, host, message.term, message.player, message.number),
        )

    def _hosts(self, caller: Caller, term: int) -> bool:
        return host_of(caller) == self.state.host and term == hosting.term_of(self.state)

    def _of_host(self, caller: Caller, message: Command, rule: Callable[[str], Sequence[MatchEvent]]) -> Accepted:
        """Carry out a command of the host, once: `rule` gets the caller's name as a host."""
        known = self._known(caller, message)
        if known is not None:
            return known
        host = host_of(caller)
        events = rule(host)
        if host == self.state.host:
            self._host_lives()
        return self._accept(caller, message, events)

    # ---- commands of players ----

    @existing
    async def join(self, caller: Caller, message: MatchJoin) -> Accepted:
        known = self._known(caller, message)
        if known is not None:
            return known
        player = caller.subject
        entry = self._entry(player, [player], message.password)
        events = admission.join(self.state, player, message.team, self.next_seq, entry)
        if not events:
            events = admission.join_again(self.state, player, self.next_seq)
        await self._must_be_free([player])
        return self._accept(caller, message, events)

    def _entry(self, guest: str, players: Sequence[str], password: str) -> Entry:
        """The circumstances in which `players` come: `guest` says a password where one of them needs it. Raises
        `Rejected` for a wrong one; a few of those, and none is read any more for a while."""
        wall_ms = self.wall_ms()
        if not password or all(guests.lets_in(self.state, player, wall_ms) for player in players):
            return Entry(wall_ms)
        if self.state.secret is UNSET:
            return Entry(wall_ms)
        count, at_s = self.guesses.get(guest, (0, 0.0))
        left_s = at_s + self.GUESSES_S - self.now() if count >= guests.MAX_GUESSES else 0.0
        if left_s > 0:
            refusal = reject("too_many_guesses")
            refusal.retry_after_s = left_s
            raise refusal
        if guests.fits(self.state, password):
            self.guesses.pop(guest, None)
            return Entry(wall_ms, password_fits=True)
        self.guesses.pop(guest, None)  # at the end: the first one is the one that is forgotten
        self.guesses[guest] = (1 if count >= guests.MAX_GUESSES else count + 1, self.now())
        if len(self.guesses) > guests.MAX_NAMES:
            del self.guesses[next(iter(self.guesses))]
        raise reject("wrong_password")

    async def _must_be_free(self, players: Sequence[str]) -> None:
        """Ask those who are to come where they are, if the match takes nobody out of others. Raises `Rejected`, and
        what the question raises. A player who is taken in elsewhere at the same time says so when it hears of its place
        here, and leaves it (`game.places.entered`): its own word, by numbers, decides."""
        for player in admission.newcomers(self.state, players):
            admission.must_be_free(self.key, player, await self.ref(PlayerFace, player).ask(PlayerFace.match_now))

    @existing
    def leave(self, caller: Caller, message: MatchLeave) -> Accepted:
        known = self._known(caller, message)
        if known is not None:
            return known
        return self._accept(caller, message, admission.leave(self.state, caller.subject))

    # ---- calls of players (the face), and timers ----

    @existing
    def player_gone(self, player: str, birth: int = 0, number: int = 0, reason: str = "disconnected") -> None:
        """See `MatchFace.player_gone`."""
        reason = reason if reason in LEAVES else "disconnected"
        self._emit(admission.gone(self.state, player, birth, number, reason), None)

    @existing
    async def admit_party(self, caller: Caller, message: AdmitParty) -> Accepted:
        """See `MatchFace.admit_party`."""
        known = self._known(caller, message)
        if known is not None:
            return known
        before = admission.party_before(self.state, message)
        if before is not None:
            return self._accepted(message, before, before + 1)
        entry = self._entry(caller.subject, message.players, message.password)
        events = admission.admit_party(self.state, message, self.next_seq, entry)
        await self._must_be_free(message.players)
        return self._accept(caller, message, events)

    def countdown_over(self) -> None:
        self._emit(rules.countdown_over(self.state, self.wall_ms()), None)

    def host_silent(self) -> None:
        """Timer: let the successor take over, or end the match, if the host was silent all the while; else look again
        when it would be."""
        left_s = self.host_seen_s + self.HOST_SILENCE_S - self.now()
        if left_s > 0.001:
            self.after(left_s, self.host_silent)
        else:
            self._emit(rules.host_vanished(self.state, self.wall_ms(), self.next_seq), None)

    @staticmethod
    def facts(key: str, state: Any) -> Iterable[Fact]:
        """The results of a match that is over; before that, who has which place, and who has left it. Places are free
        at once where the results wait for the delay of the onlookers."""
        if state.phase == "ended":
            if not spectating.is_public(state):
                yield from _free_places(key, state)
            yield from result_facts(key, state)
        else:
            yield from _places(key, state, state.players.members)

    def open_facts(self, state: Any) -> Iterable[Fact]:
        """All results; of the places those whose players are not known to have heard of them."""
        return self.facts(self.key, state) if state.phase == "ended" else _places(self.key, state, list(self.unsaid))

    def facts_done(self, done: list[FactDone]) -> None:
        """Forget whom a place was told, unless there is a newer word about it. Whoever is no player, or is none any
        more as its first state was lost with its node, has no place."""
        self._changed([key_of(told.name.to) for told in done if told.name.method == SETTLE and not told.refused])
        for told in done:
            player = key_of(told.name.to)
            if any(place.name == told.name for place in _places(self.key, self.state, [player])):
                self.unsaid.pop(player, None)
                if told.refused and told.name.method == PlayerFace.match_joined.__name__:
                    self._emit(admission.gone(self.state, player, 0, 0, "disconnected"), None)

    def _changed(self, players: list[str]) -> None:
        """Tell the leaderboards whose results are stored now. A word that is lost is made up for there."""
        if players:
            for mode in boards_of(self.state):
                self.tell(BoardsFace, mode, BoardsFace.changed, players)

    @remote
    def settle(self) -> None:
        """Rest, once the end is durable: told by the turn that ended the match."""
        if self.state.phase == "ended":
            self.cancel(self.host_silent)
            self.cancel(self.countdown_over)
            self.cancel(self.reservation_over)
            self.release()

    def settled(self, player: str) -> None:
        """See `MatchFace.settled`."""

    @reminder
    def settle_again(self, due_ms: int) -> None:
        """Nothing: a match of an earlier version set this for results that it had not told. Its row says so now."""

    def wake(self) -> None:
        if not self.state.host:
            self.release()  # a match that was never created has nothing to live for

    # ---- one way for all ----

    def _known(self, caller: Caller, message: Command) -> Accepted | None:
        """The answer that this command got before, None for a new one. Raises `NotFound`, `OutcomeUnknown`."""
        if not isinstance(message, MatchCreate):
            self._exists()
        answer = rules.answer_to(self.state, _scoped(caller, message), message.command)
        if answer is None:
            before = rules.scoped_before(caller.subject, message.lineage)
            answer = rules.answer_to(self.state, before, message.command)
        if answer is None:
            return None
        return self._accepted(message, answer.first_seq, answer.next_seq)

    def _accept(self, caller: Caller, message: Command, events: Sequence[MatchEvent]) -> Accepted:
        first_seq = self.next_seq
        self._emit(events, (_scoped(caller, message), message.command))
        return self._accepted(message, first_seq, self.next_seq)

    def _accepted(self, message: Command, first_seq: int, next_seq: int) -> Accepted:
        request = message.id if isinstance(message, Request) else 0  # a party asks as one actor asks another
        return Accepted(request, self.key, first_seq, next_seq)

    def _emit(self, events: Sequence[MatchEvent], command: tuple[str, int] | None) -> None:
        """Append `events`, and the end of the match, or of its round, if they bring it."""
        for event in events:
            self._append(event, command)
        while (end := endings.due(self.state, self.clock_ms, self.wall_ms())) is not None:
            self._append(end, command)

    def _append(self, event: MatchEvent, command: tuple[str, int] | None) -> None:
        """Emit `event` and send its effects, which leave when it is durable."""
        if isinstance(event, Ended):
            event = replace(event, rated=True)  # by the node that ends it: in logs of earlier versions nothing follows
        self.emit(event, command)
        if type(event) in OF_WATCHERS:
            self.note_watchers(event)
        if isinstance(event, Joined):
            self.unsaid[event.player] = None
            self.push(event.player, MatchAssigned(0, self.key))
        elif isinstance(event, PartyJoined):
            for place in event.members:
                self.unsaid[place.player] = None
                self.push(place.player, MatchAssigned(0, self.key))
        elif isinstance(event, Left):
            self.unsaid[event.player] = None
        elif isinstance(event, Kicked):
            if event.player in self.state.players:
                self.unsaid[event.player] = None
            self.push(event.player, MatchKicked(0, self.key, event.reason))
        elif isinstance(event, Invited):
            self._tell_invited(event)
        elif isinstance(event, HostChanged):
            self._host_lives()
            self.after(self.HOST_SILENCE_S, self.host_silent)
        elif isinstance(event, Countdown):
            self._await_countdown()
        elif isinstance(event, Ended):
            self.tell(Match, self.key, Match.settle)  # a turn of its own, once the end is durable

    def _tell_invited(self, event: Invited) -> None:
        """Push an invitation to those who are new on the list, none where the host put them there in silence. Players
        hear of one that a player made by their own actors, which know who blocks whom."""
        if not event.by:
            return
        for player in event.players:
            if hosting.player_of(event.by) is None:
                self.push(player, MatchInvited(0, self.key, event.by))
            else:
                self.tell(PlayerFace, player, PlayerFace.match_invited, self.key, event.by)

    def _await_countdown(self) -> None:
        """Wait for the rest of the countdown: a deadline that players see is in the log, so that it holds also where
        the node that began it is gone."""
        self.after(rules.countdown_left_ms(self.state, self.wall_ms()) / 1000, self.countdown_over)

    def _host_lives(self, time_ms: int = 0) -> None:
        self.host_seen_s = self.now()
        self.clock_ms = max(self.clock_ms, time_ms)


def _scoped(caller: Caller, message: Command) -> str:
    return rules.scoped(caller.role, caller.subject, str(message.__struct_config__.tag), message.lineage)


def _places(key: str, state: MatchState, players: Iterable[str]) -> Iterator[Fact]:
    """The facts that `players` are to be told of their places in match `key`."""
    birth = state.created_wall_ms
    for player in players:
        line = state.players.get(player)
        if line is None or line.member is UNSET:
            continue
        method = PlayerFace.match_joined if line.present else PlayerFace.match_left
        stays = (False,) if line.present and guests.entry_of(state).refuses_elsewhere else ()
        yield fact(Stamp(birth, line.member), PlayerFace, player, method, key, birth, line.member, *stays)


def _free_places(key: str, state: MatchState) -> Iterator[Fact]:
    """The facts that nobody has a place in match `key` any more, which is over."""
    birth = state.created_wall_ms
    for player in state.players.members:
        number = state.players[player].member
        if number is not UNSET:
            yield fact(Stamp(birth, number), PlayerFace, player, PlayerFace.match_left, key, birth, number)
