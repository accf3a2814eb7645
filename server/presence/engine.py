"""The presence engine of a node: runs the three sides of `core.py` over the transport, the store and the clock.

What is to be said to a peer is said at the end of the loop's turn, and when its reply is there; one timer looks after
everything that passes with time. Rows of players who are offline are asked for by a task of their own, many in one
query.
"""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Final

import structlog

from server.actors.pictures import Pictures, ShownActor, check_shown
from server.actors.presence import PresenceKind
from server.catalog.services import Services
from server.cluster.view import View
from server.errors import GarrisonError, Internal, Overloaded
from server.ids import ActorId, NodeAddress, key_of, kind_of
from server.liveness.ports import NodeStore
from server.presence.core import PresenceCore
from server.presence.messages import (
    MAX_ITEMS,
    LookedUp,
    LookUp,
    PlayerAnswer,
    PresenceWord,
    decode,
    decode_looked,
    decode_reply,
    encode,
    size_of,
)
from server.presence.outgoing import LIMITS, PresenceLimits
from server.presence.ports import Changed, WatchedPlayer
from server.presence.quiet_home import QuietHome
from server.presence.watching import Row, pictures_of
from server.runtime.backoff import backoff_s
from server.runtime.logs import LoggedOften
from server.transport.ports import Answer, Service

log = structlog.get_logger(__name__)
TICK_S: Final = 0.1
REQUEST_S: Final = 1.0
"""Time for a peer to answer."""
TOLD_AT_ONCE: Final = 500
"""Entries in one call of `on_change`, between which the loop does other things."""
ROWS_AT_ONCE: Final = 500
ROWS_S: Final = 0.005
ROWS_RESTS: Final = 10
"""Rests before rows are asked for, one at least, and more while other nodes have not answered yet: so that a snapshot
of many takes one query."""
MISSING_S: Final = 0.25
"""Pause between questions to the store about runs that have vanished."""
FLUSH_S: Final = 0.5
"""Time after a flush interval in which a row is stored that was changed before."""
LOOK_AGAIN: Final = 100
"""Players at whom the heir of a node looks in one turn of the loop."""
UNWATCHED_S: Final = 10.0
"""Time after which the heir watches nobody any more whom no session watches."""
MAX_LOOKS: Final = 64
"""`look` calls under way."""
LOOKED_BYTES: Final = 2 * 1024 * 1024


class PresenceEngine:
    """See the module's head. It is the node's `server.presence.ports.NodePresence`. `kind`: that of the session's
    actor. Where nodes have no leases a run that has vanished counts as over. Make it before the transport starts."""

    def __init__(
        self,
        kind: str,
        presence: PresenceKind,
        services: Services,
        limits: PresenceLimits = LIMITS,
    ) -> None:
        settings = services.settings
        self._presence, self._kind, self._limits = presence, kind, limits
        self._transport, self._supervisor, self._clock = services.transport, services.supervisor, services.clock
        self._queries, self._metrics = services.store_queries, services.metrics
        self._store: NodeStore | None = services.store if settings.store.lease else None
        self._max_watched = settings.actors.max_watched
        self._flush_s = settings.store.flush_interval_s + FLUSH_S
        self._failed = LoggedOften(lambda **fields: log.error("an offline player cannot be shown", **fields))
        rng = services.rng

        def backoff(attempt: int) -> float:
            return 0.01 + backoff_s(attempt, rng, base_s=0.025, cap_s=0.4)

        self.core = PresenceCore(self._kind, self._gone, self._presence.query is not None, backoff, limits)
        self._told: list[Changed] = []
        self._pausing: dict[NodeAddress, None] = {}
        """Peers who are to hear more in a moment."""
        self._ticking: asyncio.Task[None] | None = None
        self._waiting: dict[WatchedPlayer, list[_Waiter]] = {}
        self._after_scheduled = self._telling = self._asking_rows = self._asking_runs = False
        self._looks = 0
        self._copies: QuietHome | None = None
        """In standby: who is shown here."""
        services.transport.serve(Service.PRESENCE, self._serve)

    def begin(self, me: NodeAddress, view: View | None = None) -> None:
        """Be `me`, without any task. `view`: that of the predecessor, where this process is its heir, and stands by."""
        self.core.start(me, view)
        if view is not None:
            self.stand_by()

    def start(self, me: NodeAddress) -> None:
        """Begin to talk: this run's address is known, and this process is the node."""
        if self.core.me != me:
            self.begin(me)
        if self._copies is not None:
            copies, self._copies = self._copies, None
            del self.show, self.withdraw, self.hide, self._soon, self._after
            self._supervisor.spawn(self._look_again(copies.seen), "presence looks again")
        if not self.core.has_begun:
            self._supervisor.spawn(self._begin(), "presence begins")
        self._ticking = self._supervisor.every(TICK_S, self._tick, "presence")

    # ---- going on in another process (docs/succession.md) ----

    def stand_by(self) -> None:
        """Become able to take what the predecessor has: nothing is said to anybody until `start`. Activations that show
        themselves have been told of; those that look different when this node serves are told then. Idempotent."""
        if self._copies is not None:
            return
        self._copies = copies = QuietHome(self.core.home.shown)
        self.show, self.withdraw, self.hide = copies.show, copies.withdraw, copies.hide  # type: ignore[method-assign]
        self._soon = self._after = copies.nothing  # type: ignore[method-assign]

    def bequeath(self) -> bytes:
        """All that this node knows and has to say, for its heir, but for who is shown by an activation here; of what
        was copied ahead what has changed since."""
        return self.core.bequeath(self._clock.now())

    def inherit(self, data: bytes) -> None:
        """Go on from what the predecessor knew, after `begin` with the same view. Raises `BadInput`."""
        self.core.inherit(data, self._clock.now())

    def copy_ahead(self) -> bytes:
        """The next slice of what may be very much, for `inherit_ahead` of the heir; empty where none is left. What
        changes after that is copied by the next calls, or goes with the bequest."""
        return self.core.going_over.copy_ahead()

    def inherit_ahead(self, data: bytes) -> None:
        """Take a slice of the predecessor's `copy_ahead`, before `inherit`. Raises `BadInput`."""
        self.core.going_over.inherit_ahead(data, self._clock.now())

    @property
    def to_copy(self) -> int:
        """Number of players that are to be copied ahead, or have changed since they were."""
        return self.core.going_over.to_copy

    def end_copying(self) -> None:
        """Forget what was copied ahead: there is no heir any more."""
        self.core.going_over.end_copying()

    async def _look_again(self, seen: dict[str, int]) -> None:
        """Tell of those who look different than in the predecessor, which their hooks may have made; then watch nobody
        whom no session watches: a session of the predecessor may have ended on the way."""
        for place, (player, n) in enumerate(seen.items()):
            if place % LOOK_AGAIN == LOOK_AGAIN - 1:
                await asyncio.sleep(0)
            shown = self.core.home.shown.get(player)
            if shown is not None and shown.showing().n != n:
                self.core.show(player, shown)
                self._soon()
        await asyncio.sleep(UNWATCHED_S)
        for entry in list(self.core.watching.entries.values()):
            if entry.watchers is None:
                self.release(entry)

    async def _begin(self) -> None:
        """Learn from the store which runs there are."""
        living: list[NodeAddress] = []
        while self._store is not None:
            try:
                living = [NodeAddress(row.node, row.incarnation) for row in await self._store.living()]
                break
            except GarrisonError as error:
                log.debug("the store does not say which runs there are", why=error.message)
                await asyncio.sleep(MISSING_S)
        self.core.begin(living, self._clock.now())
        self._after()

    # ---- home (`server.presence.ports.ShownHere`) ----

    def show(self, identity: ActorId, shown: ShownActor) -> None:
        """See `server.actors.outlet.Outlet.show`."""
        if kind_of(identity) != self._kind:
            raise Internal(f"{identity} shows itself, and no sessions are bound to it")
        core = self.core
        core.show(key_of(identity), shown)
        if core.awake or core.has_own_answers:  # else nobody watches, and the slot is this node's
            self._soon()

    def withdraw(self, identity: ActorId, epoch: int, n: int) -> None:
        """See `server.actors.outlet.Outlet.withdraw`."""
        if kind_of(identity) == self._kind:
            self.core.withdraw(key_of(identity), (epoch, n))
            self._soon()

    def hide(self, identity: ActorId, epoch: int, moved: bool) -> None:
        """See `server.actors.outlet.Outlet.hide`."""
        if kind_of(identity) == self._kind:
            self.core.hide(key_of(identity), epoch, moved, self._clock.now())
            self._soon()

    # ---- watching (`server.presence.ports.Presence`) ----

    def watch(self, players: Sequence[str]) -> list[WatchedPlayer]:
        """See `server.presence.ports.Presence.watch`."""
        entries = self.core.watching.entries
        if len(entries) + len(players) > self._max_watched:
            new = sum(player not in entries for player in dict.fromkeys(players))
            if len(entries) + new > self._max_watched:
                raise Overloaded(f"this node watches {self._max_watched} players at most", retry_after_s=5.0)
        watched = self.core.watch(players, self._clock.now())
        self._soon()
        return watched

    def release(self, entry: WatchedPlayer) -> None:
        """See `server.presence.ports.Presence.release`."""
        self.core.release(entry)
        self._soon()

    def answered(self, entries: Sequence[WatchedPlayer]) -> "asyncio.Future[None]":
        """See `server.presence.ports.Presence.answered`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        live = self.core.watching.entries
        asked = {entry: None for entry in entries if entry.state == "asked" and live.get(entry.player) is entry}
        if not asked:
            future.set_result(None)
        else:
            waiter = _Waiter(len(asked), future)
            for entry in asked:
                self._waiting.setdefault(entry, []).append(waiter)
        return future

    def on_change(self, told: Changed) -> None:
        """See `server.presence.ports.Presence.on_change`."""
        self._told.append(told)

    def look(self, players: Sequence[str]) -> "asyncio.Future[list[WatchedPlayer]]":
        """See `server.presence.ports.Presence.look`."""
        if self._looks >= MAX_LOOKS:
            raise Overloaded("too many players are looked for at a time", retry_after_s=1.0)
        self._looks += 1
        return self._supervisor.spawn(self._look(players), "presence look")

    # ---- one look ----

    async def _look(self, players: Sequence[str]) -> list[WatchedPlayer]:
        try:
            core = self.core
            found = {player: WatchedPlayer(player) for player in players}
            by_owner: dict[NodeAddress | None, list[str]] = {}
            offline: list[str] = []
            for player, entry in found.items():
                entry.state = "unknown"
                watched = core.watching.entries.get(player)
                if watched is not None and watched.pictures is not None:
                    _fill(entry, watched.pictures, watched.relations)
                else:
                    by_owner.setdefault(core.owner(player), []).append(player)
            asked = [
                self._ask_owner(owner, some[start : start + MAX_ITEMS])
                for owner, some in by_owner.items()
                for start in range(0, len(some), MAX_ITEMS)
            ]
            for answers in await asyncio.gather(*asked):
                for answer in answers:
                    if answer.player not in found:
                        continue
                    if answer.looks is None:
                        offline.append(answer.player)
                    else:
                        _fill(found[answer.player], pictures_of(answer.looks), answer.relations)
            rows = await self._rows(offline) if offline else None
            for player in offline:
                _fill(found[player], self._gone((rows or {}).get(player)), 0)
            return [found[player] for player in players]
        finally:
            self._looks -= 1

    async def _ask_owner(self, owner: NodeAddress | None, players: list[str]) -> list[PlayerAnswer]:
        core = self.core
        if owner is None:
            return []
        if owner == core.me:
            return [core.answer(player) for player in players] if core.sure else []
        try:
            payload = encode(LookUp(core.view.digest, players))
            return decode_looked(await self._transport.request(owner, Service.PRESENCE, payload, REQUEST_S)).answers
        except GarrisonError as error:
            log.debug("not looked up", owner=str(owner), why=error.message)
            return []

    def _looked_up(self, message: LookUp) -> LookedUp:
        core = self.core
        answers: list[PlayerAnswer] = []
        size = 0
        if core.sure and message.digest == core.view.digest:
            for player in message.players:
                answers.append(core.answer(player))
                size += size_of(answers[-1].looks)
                if size > LOOKED_BYTES:
                    break
        return LookedUp(answers)

    # ---- view changes ----

    def on_view(self, view: View) -> None:
        """Follow a changed view."""
        self.core.on_view(view, self._clock.now())
        self._after()

    async def _look_for_missing(self) -> None:
        """Ask the store which of the runs that have vanished are over, until all of them are, or are back."""
        try:
            while missing := list(self.core.missing):
                over: list[NodeAddress] = missing
                if self._store is not None:
                    try:
                        rows = await self._store.runs(missing)
                        over = [run for run in missing if run not in rows or rows[run].state in ("dead", "left")]
                    except GarrisonError as error:
                        log.debug("the store does not say which runs are over", why=error.message)
                        over = []
                if over:
                    self.core.are_over(over, self._clock.now())
                    self._after()
                await asyncio.sleep(MISSING_S)
        finally:
            self._asking_runs = False

    # ---- the streams ----

    @property
    def _has_ended(self) -> bool:
        """Whether the node's tasks have ended, so that nothing is to be said any more."""
        return self._ticking is not None and self._ticking.done()

    def _talk(self) -> None:
        awake, self.core.awake = self.core.awake, {}
        for peer in awake:
            self._say(peer)

    def _say(self, peer: NodeAddress) -> None:
        """Send the next word to a peer, now or when it is due; the tick thinks of what is due much later. No task: a
        login has a word to say and another one to answer, and is over before a task would have begun."""
        core, now = self.core, self._clock.now()
        word = core.next(peer, now)
        if word is None:
            due = core.due(peer)
            if due is not None and due - now <= TICK_S and peer not in self._pausing:
                self._pausing[peer] = None
                asyncio.get_running_loop().call_later(max(0.001, due - now), self._go_on, peer)
            return
        try:
            answer = self._transport.request(peer, Service.PRESENCE, encode(word), REQUEST_S)
        except GarrisonError as error:
            self._unsaid(peer, word, error)
        else:
            answer.add_done_callback(partial(self._said, peer, word))

    def _go_on(self, peer: NodeAddress) -> None:
        self._pausing.pop(peer, None)
        if not self._has_ended:
            self._say(peer)

    def _said(self, peer: NodeAddress, word: PresenceWord, answer: "asyncio.Future[bytes]") -> None:
        """Follow up on the reply to a word."""
        if answer.cancelled() or self._has_ended:
            return
        try:
            reply = decode_reply(answer.result())
        except GarrisonError as error:
            self._unsaid(peer, word, error)
        else:
            self.core.replied(peer, word, reply, self._clock.now())
            self._after()

    def _unsaid(self, peer: NodeAddress, word: PresenceWord, error: GarrisonError) -> None:
        log.debug("not told who is shown", peer=str(peer), why=error.message)
        self.core.failed(peer, word, self._clock.now())
        self._say(peer)

    def _serve(self, peer: NodeAddress, payload: bytes) -> Answer:
        message = decode(payload)
        if isinstance(message, LookUp):
            return encode(self._looked_up(message))
        reply = self.core.receive(peer, message, self._clock.now())
        self._soon()
        return encode(reply)

    # ---- after any change ----

    def _soon(self) -> None:
        """Follow up once this iteration of the loop is over: what an actor shows in one turn, or in many, is one."""
        if not self._after_scheduled:
            self._after_scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._after_scheduled = False
        self.core.flush(self._clock.now())
        self._after()

    def _tick(self) -> None:
        self.core.tick(self._clock.now())
        self._after()
        metrics, watching = self._metrics, self.core.watching
        metrics.presence_shown = len(self.core.home.shown)
        metrics.presence_entries = len(watching.entries)
        metrics.presence_unknown = watching.unknown
        metrics.presence_interests = sum(len(peer.heard.interest) for peer in self.core.peers.values())
        metrics.presence_answers_total = watching.answers

    def _after(self) -> None:
        """Speak, tell what looks different, ask for rows."""
        watching = self.core.watching
        self._talk()
        if watching.no_longer_asked:
            ended, watching.no_longer_asked = watching.no_longer_asked, []
            for entry in ended:
                for waiter in self._waiting.pop(entry, ()):
                    waiter.count_down()
        if watching.changed and not self._telling:
            self._telling = True
            asyncio.get_running_loop().call_soon(self._tell_changes)
        if self.core.missing and not self._asking_runs:
            self._asking_runs = True
            self._supervisor.spawn(self._look_for_missing(), "presence missing")
        if watching.wanted and not self._asking_rows:
            self._asking_rows = True
            self._supervisor.spawn(self._ask_rows(), "presence rows")

    def _tell_changes(self) -> None:
        changed = self.core.watching.changed
        batch = list(islice(changed, TOLD_AT_ONCE))
        for entry in batch:
            del changed[entry]
        self._telling = bool(changed)
        if changed:
            asyncio.get_running_loop().call_soon(self._tell_changes)
        for told in self._told if batch else ():
            told(batch)

    # ---- rows of players who are offline ----

    async def _ask_rows(self) -> None:
        try:
            for _ in range(ROWS_RESTS):
                await asyncio.sleep(ROWS_S)
                if not self.core.watching.awaits_owners:
                    break
            while batch := self.core.watching.rows_wanted(ROWS_AT_ONCE):
                rows = await self._rows([entry.player for entry in batch])
                self.core.watching.rows(batch, rows, self._clock.now() + self._flush_s)
                self._after()
        finally:
            self._asking_rows = False

    async def _rows(self, players: list[str]) -> Mapping[str, Row] | None:
        """The rows of these players, by player; None where the store does not answer in time."""
        if self._presence.query is None:
            return {}
        found: dict[str, Row] = {}
        try:
            async with asyncio.timeout(self._limits.answer_s):
                for start in range(0, len(players), ROWS_AT_ONCE):
                    some = players[start : start + ROWS_AT_ONCE]
                    rows = await self._queries.run(self._presence.query, {"keys": some})
                    found.update({row["key"]: row for row in rows})
        except (GarrisonError, TimeoutError) as error:
            log.warning("rows of offline players cannot be read", count=len(players), why=str(error))
            return None
        return found

    def _gone(self, row: Row | None) -> Pictures:
        """The pictures of a player who is offline; a row of which the application can make none is none."""
        for given in (row, None) if row is not None else (None,):
            try:
                pictures = self._presence.gone(given)
                check_shown(pictures, 0)
                return pictures
            except Exception as error:
                self._failed.note(key=(row or {}).get("key"), why=repr(error))
        unknown = self._presence.unknown
        return Pictures(unknown, unknown, unknown)


class _Waiter:
    """Somebody who waits until so many entries are not "asked" any more."""

    __slots__ = ("_future", "_left")

    def __init__(self, left: int, future: "asyncio.Future[None]") -> None:
        self._left, self._future = left, future

    def count_down(self) -> None:
        self._left -= 1
        if not self._left and not self._future.done():
            self._future.set_result(None)


def _fill(entry: WatchedPlayer, pictures: Pictures, relations: int) -> None:
    entry.set(pictures, relations)
    entry.state = "known"


def engine_of(services: Services) -> PresenceEngine | None:
    """The presence engine of a node; None where its application shows nobody."""
    app = services.app
    if app.presence is None or app.session_actor is None:
        return None
    return PresenceEngine(app.session_actor.kind, app.presence, services)
