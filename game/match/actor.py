"""The actor of a match: rules over an event log. The game's host drives it; players join, leave and watch.

Each command runs a pure rule and emits the rule's events under the command's id, so that repeating the
command repeats the answer. Events that follow by themselves (the end by score or time, a countdown that is
over) are emitted in the same turn.

Settling: when the match is over, it tells every participant's result to its player, in rounds, until
the player says that it is stored; then the match leaves memory. A player that cannot be reached for all
rounds is tried again half an hour later, by a reminder, since this node may be gone by then.
"""

import asyncio
from collections.abc import Sequence
from typing import ClassVar, Final

import msgspec
import structlog

from game.match import board, rules
from game.match.face import MatchFace
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
    MatchGet,
    MatchJoin,
    MatchLeave,
    MatchReport,
    MatchStart,
    MatchTick,
    Scoreboard,
)
from game.player.face import PlayerFace
from server.actors.actor import Attached, Caller, existing, read_only, reminder, remote
from server.errors import NotFound

log = structlog.get_logger(__name__)

SETTLE_AT_ONCE: Final = 64
SETTLE_FIRST_S: Final = 1.5
SETTLE_MAX_S: Final = 30.0
SETTLE_ROUNDS: Final = 40
SETTLE_REMIND_ROUND: Final = 3
"""Round after which a reminder is set: results are stored by then as a rule."""
SETTLE_LATER_MS: Final = 30 * 60 * 1000
"""Delay of the reminder, which is longer than all rounds together."""
SETTLE_AGAIN_MS: Final = 24 * 3600 * 1000
"""Age of an ended match past which loading it does not settle again."""

Command = MatchCreate | MatchJoin | MatchLeave | MatchStart | MatchReport | MatchEnd


class Carried(msgspec.Struct, array_like=True, frozen=True):
    """Volatile fields of a match that migrates to another node. `silent_s` is how long its host has been
    silent; `unsettled` names the players whose result is not known to be stored; `later` is true if the
    reminder is set."""

    clock_ms: int
    silent_s: float
    rounds: int
    unsettled: list[str]
    later: bool


class Match(MatchFace):
    Event = MatchEvent
    lives_on = True
    HOST_SILENCE_S: ClassVar[float] = 30.0
    """Silence of the host, without command or tick, after which it counts as vanished."""
    evolve = staticmethod(rules.evolve)
    finished = staticmethod(rules.finished)
    list_order = staticmethod(rules.list_order)

    __slots__ = ("clock_ms", "host_seen_s", "later", "ranking", "rounds", "unsettled")

    def activated(self) -> None:
        self.clock_ms = 0
        self.ranking: board.Ranking | None = None
        self.host_seen_s = self.now()
        self.rounds = 0
        self.unsettled: dict[str, None] = {}
        self.later = False  # true if the reminder `settle_again` is known to be set
        if self.state.phase == "ended":
            self.settle()
        elif self.state.host:
            self.after(self.HOST_SILENCE_S, self.host_silent)
            if self.state.phase == "countdown":
                self._await_countdown()

    def carry(self) -> Carried:
        silent_s = self.now() - self.host_seen_s
        return Carried(self.clock_ms, silent_s, self.rounds, list(self.unsettled), self.later)

    def arrived(self, carried: Carried) -> None:
        self.clock_ms, self.rounds, self.later = carried.clock_ms, carried.rounds, carried.later
        self.host_seen_s = self.now() - carried.silent_s
        self.unsettled = dict.fromkeys(carried.unsettled)

    # ---- commands of the host ----

    @remote
    def create(self, caller: Caller, message: MatchCreate) -> Accepted:
        known = self._known(caller, message)
        if known is not None:
            return known
        events = rules.create(self.state, self.key, caller.subject, message.options, self.wall_ms())
        self.stay()  # a read before it was created may have released it
        self._host_lives()
        self.after(self.HOST_SILENCE_S, self.host_silent)
        return self._accept(caller, message, events)

    @existing
    def start(self, caller: Caller, message: MatchStart) -> Accepted:
        known = self._known(caller, message)
        if known is not None:
            return known
        events = rules.start(self.state, caller.subject, message.time_ms, self.wall_ms())
        self._host_lives(message.time_ms)
        return self._accept(caller, message, events)

    @existing
    def report(self, caller: Caller, message: MatchReport) -> Accepted:
        known = self._known(caller, message)
        if known is not None:
            return known
        events = rules.report(self.state, caller.subject, message.events, self.wall_ms())
        self._host_lives(message.events[-1].time_ms)
        return self._accept(caller, message, events)

    @existing
    def end(self, caller: Caller, message: MatchEnd) -> Accepted:
        known = self._known(caller, message)
        if known is not None:
            return known
        events = rules.end(self.state, caller.subject, message.time_ms, self.wall_ms())
        return self._accept(caller, message, events)

    @existing
    def tick(self, caller: Caller, message: MatchTick) -> Accepted:
        """Advance the host's clock. No command: a tick that is lost or repeated changes nothing by itself,
        so it carries no id."""
        self._exists()
        events = rules.tick(self.state, caller.subject, message.time_ms, self.wall_ms())
        self._host_lives(message.time_ms)
        first_seq = self.next_seq
        self._emit(events, None)
        return Accepted(message.id, self.key, first_seq, self.next_seq)

    # ---- commands of players ----

    @existing
    def join(self, caller: Caller, message: MatchJoin) -> Accepted:
        known = self._known(caller, message)
        if known is not None:
            return known
        events = rules.join(self.state, caller.subject, message.team)
        if not events:  # in already; the tell of that turn may have been lost with a node
            self.tell(PlayerFace, caller.subject, PlayerFace.match_joined, self.key)
        return self._accept(caller, message, events)

    @existing
    def leave(self, caller: Caller, message: MatchLeave) -> Accepted:
        known = self._known(caller, message)
        if known is not None:
            return known
        return self._accept(caller, message, rules.leave(self.state, caller.subject))

    @read_only
    async def get(self, caller: Caller, message: MatchGet) -> Scoreboard:
        self._exists()
        ranking = self.ranked(board.SLICE)
        if ranking is not None:
            await self._in_order(ranking)
        page = board.Page(message.limit, message.cursor)
        return board.scoreboard(self.state, self.key, message.id, self.next_seq, self.clock_ms, page, ranking)

    async def _in_order(self, ranking: board.Ranking) -> None:
        """Have it catch up; the loop has its turn between two steps."""
        while True:
            if ranking.follow(self.state.players):
                return
            await asyncio.sleep(0)

    def ranked(self, at_most: int) -> board.Ranking | None:
        """The order of the players of a large match, with up to so many more of them where they belong now."""
        if len(self.state.players) <= board.SMALL:
            return None
        if self.ranking is None:
            self.ranking = board.Ranking()
        self.ranking.follow(self.state.players, at_most)
        return self.ranking

    @read_only
    def attach(self, node: str, incarnation: int) -> Attached:
        """Stream new events, as every log does. Raises `NotFound` for a match that was never created."""
        self._exists()
        return super().attach(node, incarnation)

    # ---- calls of players (the face), and timers ----

    @existing
    def player_gone(self, player: str) -> None:
        """See `MatchFace.player_gone`. Nothing where the player has left, or come back, meanwhile."""
        line = self.state.players.get(player)
        if line is not None and line.present and self.state.phase != "ended":
            self._emit(rules.leave(self.state, player, "disconnected"), None)

    def countdown_over(self) -> None:
        self._emit(rules.countdown_over(self.state, self.wall_ms()), None)

    def host_silent(self) -> None:
        """Timer: end the match if the host was silent all the while; else look again when it would be."""
        left_s = self.host_seen_s + self.HOST_SILENCE_S - self.now()
        if left_s > 0.001:
            self.after(left_s, self.host_silent)
        else:
            self._emit(rules.host_vanished(self.state, self.wall_ms()), None)

    @remote
    def settle(self) -> None:
        """Timer, and first told by the turn that ended the match: tell up to 64 players whose result is not
        known to be stored, at growing intervals; release the match after `SETTLE_ROUNDS`."""
        self.cancel(self.host_silent)
        self.cancel(self.countdown_over)
        state = self.state
        if not self.rounds and self.wall_ms() - state.ended_wall_ms <= SETTLE_AGAIN_MS:
            self.unsettled = dict.fromkeys(sorted(state.players))
        if not self.unsettled or self.rounds >= SETTLE_ROUNDS:
            if self.unsettled:
                log.error("results not stored", match=self.key, players=len(self.unsettled))
            self.release()
            return
        for player in list(self.unsettled)[:SETTLE_AT_ONCE]:
            self.unsettled[player] = self.unsettled.pop(player)  # the next round begins with others
            line, won = state.players[player], rules.won(state, player)
            self.tell(PlayerFace, player, PlayerFace.settle, self.key, state.ended_wall_ms, line, won)
        self.rounds += 1
        if self.rounds == SETTLE_REMIND_ROUND:
            self.after(0.0, self.settle_later)
        self.after(min(SETTLE_MAX_S, SETTLE_FIRST_S * 1.3 ** (self.rounds - 1)), self.settle)

    def settled(self, player: str) -> None:
        """See `MatchFace.settled`. The last one ends the settling, and takes its reminder back."""
        self.unsettled.pop(player, None)
        if not self.unsettled and self.state.phase == "ended":
            self.cancel(self.settle)
            if self.later:
                self.after(0.0, self.all_settled)
            else:
                self.release()

    async def settle_later(self) -> None:
        """Set the reminder, in a turn of its own since it awaits the store."""
        if self.unsettled and self.wall_ms() - self.state.ended_wall_ms <= SETTLE_AGAIN_MS:
            await self.remind(self.settle_again, self.wall_ms() + SETTLE_LATER_MS)
            self.later = True

    @reminder
    async def settle_again(self, due_ms: int) -> None:
        """Begin new rounds for results that are not stored yet; rounds that are under way go on."""
        await self.settle_later()
        if self.unsettled and self.rounds >= SETTLE_ROUNDS:
            self.rounds = 0
            self.stay()
            self.settle()

    async def all_settled(self) -> None:
        """Take the reminder back, then rest."""
        await self.unremind(self.settle_again)
        self.release()

    def wake(self) -> None:
        if not self.state.host:
            self.release()  # a match that was never created has nothing to live for

    # ---- one way for all ----

    def _exists(self) -> None:
        """Raise `NotFound`, and leave memory, if the match was never created."""
        if not self.state.host:
            self.release()
            raise NotFound(f"no match {self.key}")

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
        return Accepted(message.id, self.key, answer.first_seq, answer.next_seq)

    def _accept(self, caller: Caller, message: Command, events: Sequence[MatchEvent]) -> Accepted:
        first_seq = self.next_seq
        self._emit(events, (_scoped(caller, message), message.command))
        return Accepted(message.id, self.key, first_seq, self.next_seq)

    def _emit(self, events: Sequence[MatchEvent], command: tuple[str, int] | None) -> None:
        """Append `events`, and the end of the match if they bring it."""
        for event in events:
            self._append(event, command)
        end = rules.ending(self.state, self.clock_ms, self.wall_ms())
        if end is not None:
            self._append(end, command)

    def _append(self, event: MatchEvent, command: tuple[str, int] | None) -> None:
        """Emit `event` and send its effects, which leave when it is durable."""
        self.emit(event, command)
        if isinstance(event, Joined):
            self.tell(PlayerFace, event.player, PlayerFace.match_joined, self.key)
            self.push(event.player, MatchAssigned(0, self.key))
        elif isinstance(event, Left):
            self.tell(PlayerFace, event.player, PlayerFace.match_left, self.key)
        elif isinstance(event, Countdown):
            self._await_countdown()
        elif isinstance(event, Ended):
            self.tell(Match, self.key, Match.settle)  # a turn of its own, once the end is durable

    def _await_countdown(self) -> None:
        """Wait for the rest of the countdown: a deadline that players see is in the log, so that it holds also where
        the node that began it is gone."""
        self.after(rules.countdown_left_ms(self.state, self.wall_ms()) / 1000, self.countdown_over)

    def _host_lives(self, time_ms: int = 0) -> None:
        self.host_seen_s = self.now()
        self.clock_ms = max(self.clock_ms, time_ms)


def _scoped(caller: Caller, message: Command) -> str:
    return rules.scoped(caller.role, caller.subject, str(message.__struct_config__.tag), message.lineage)
