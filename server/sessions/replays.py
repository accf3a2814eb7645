"""Replays to clients: stored logs, shown at the pace that each client wants.

    open, seek     read where it begins; answer; then the scene, the whole state there
    advance        send what is due by the replay's clock, batched by the gateway's tick; wait for the next event

A replay belongs to a session and holds a clock, a place, and the stretch of the log that it is in, which it shares with
whoever else is there. It waits in the gateway's wheel for its next event, in a task while a stretch is read, or for its
client, whose outbox takes no more than half of its bound. It does not move with its session: it ends there, and its
client opens it again.

Whoever may watch the actor's stream may replay its log, up to the clock that is public. The actor is asked when a
replay is opened, and while the log is not finished again with each further part of it.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any, Final

from server.actors.actor import LoggedActor
from server.actors.app import App
from server.actors.replaying import ReplayKind
from server.errors import GarrisonError, NotFound, Overloaded, Rejected, Retryable, Unavailable
from server.eventlog.fold import LogGap, LoggedKind
from server.ids import ActorId, key_of, kind_of, parse_actor_id
from server.replays.pace import ReplayClock
from server.replays.reader import LogEnd, StretchReader
from server.replays.stretch import Stretch
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.sessions.broadcast import Broadcast
from server.sessions.end_reasons import Ending
from server.sessions.ports import ClientCalls
from server.sessions.session import Session
from server.sessions.session_copy import ReplayCopy
from server.sessions.session_phases import Phase
from server.sessions.ticks import TickClock
from server.sessions.watching import ask_leave, charge, check_still
from server.settings import ReplaySettings
from server.wire.messages import (
    Done,
    Push,
    ReplayClose,
    ReplayControl,
    ReplayedEvent,
    ReplayEnded,
    ReplayEvents,
    ReplayGap,
    ReplayOpen,
    ReplayScene,
    ReplayState,
    ReplayStatus,
)

MAX_EVENTS: Final = 256
MAX_BYTES: Final = 48 * 1024
"""Events of one frame, and about their bytes."""
SEEK_COST: Final = 5
"""Messages that opening a replay, or seeking, counts for in its sender's rate."""
LOOK_AGAIN_S: Final = 2.0
"""Pause after which a log is read again that may have gone on, or of which more may be public."""
RETRY_S: Final = 1.0


class Replay:
    """A log that a session replays. `next_seq` is its next event, at `place` of `stretch` where that is there. `turn`
    counts seeks: what was read for an earlier one is of no use. `why` is the newest `ReplayState` told."""

    __slots__ = (
        "awaits", "clock", "cls", "end", "follow", "kind", "loading", "next_seq", "number", "over", "place",
        "public_ms", "scene_due", "session", "shown", "stretch", "topic", "turn", "why",
    )  # fmt: skip

    def __init__(
        self, session: Session, number: int, topic: ActorId, cls: type[LoggedActor[Any]], shown: ReplayKind, now: float
    ) -> None:
        self.session, self.number, self.topic, self.cls, self.shown = session, number, topic, cls, shown
        self.kind: LoggedKind[Any] = cls.logged_kind()
        self.clock = ReplayClock(0.0, now)
        self.follow = self.why = ""
        self.end: LogEnd | None = None
        """The end of the log as it was read last; None until the replay is open."""
        self.public_ms: int | None = None
        """The log's clock up to which the actor lets the session see it, as it said last; None: all."""
        self.stretch: Stretch | None = None
        self.next_seq, self.place, self.turn = 1, 0, 0
        self.scene_due = False
        self.loading = True
        self.over = False
        self.awaits: float | None = None
        """The moment at which the wheel calls for it."""


class Replays:
    """See the module's head."""

    def __init__(
        self,
        app: App,
        actors: ClientCalls,
        reader: StretchReader,
        ticks: TickClock,
        supervisor: Supervisor,
        metrics: Metrics,
        settings: ReplaySettings,
    ) -> None:
        self._app, self._actors, self._reader, self._ticks = app, actors, reader, ticks
        self._supervisor, self._metrics, self._settings = supervisor, metrics, settings
        self._of: dict[Session, dict[int, Replay]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._of.values()))

    # ---- from clients ----

    def open(self, session: Session, message: ReplayOpen) -> "asyncio.Future[ReplayStatus]":
        """Begin a replay. Raises, or the future does, `NotFound`, `Forbidden`, `Corrupt` (the end of the log cannot be
        read), `UnknownRules`, `Rejected` (`too_many_replays`, `past_limit`), `Overloaded`, `RateLimited`, and what the
        actor answers."""
        check_still(session)
        topic = parse_actor_id(message.topic)
        cls, shown = self._app.actor(kind_of(topic)), self._app.replays.get(kind_of(topic))
        if cls is None or shown is None or not issubclass(cls, LoggedActor):
            raise NotFound(f"{kind_of(topic)} has no replays")
        charge(session, SEEK_COST, self._ticks, self._metrics)
        self._drop(session, message.replay)
        mine = self._of.get(session, {})
        if len(mine) >= self._settings.max_per_session:
            raise Rejected("too_many_replays", f"at most {self._settings.max_per_session}")
        if self._metrics.replays >= self._settings.max_here:
            raise Overloaded("this node shows as many replays as it may", retry_after_s=LOOK_AGAIN_S)
        replay = Replay(session, message.replay, topic, cls, shown, self._ticks.now())
        replay.follow = message.follow
        replay.clock = replay.clock.at_speed(self._ticks.now(), message.speed).play(self._ticks.now(), message.playing)
        self._of.setdefault(session, {})[message.replay] = replay
        self._metrics.replays += 1
        return self._answer(replay, message.id, self._begin(replay, message))

    async def _begin(self, replay: Replay, message: ReplayOpen) -> None:
        try:
            await self._ask_leave(replay)
            replay.end = await self._reader.end(replay.kind, replay.topic)
            await self._learn_public(replay, replay.end)
            await self._stand(replay, message.from_ms if not message.from_seq else None, message.from_seq)
        except BaseException:
            self._forget(replay)
            raise

    def control(self, session: Session, message: ReplayControl) -> "ReplayStatus | asyncio.Future[ReplayStatus]":
        """Change a replay. Raises, or the future does, `NotFound`, `Unavailable` while it is being opened, and where it
        seeks what `open` raises: then it goes on as before."""
        check_still(session)
        replay = self._of.get(session, {}).get(message.replay)
        if replay is None:
            raise NotFound(f"no replay {message.replay} is open")
        if replay.end is None:
            raise Unavailable("the replay is being opened", retry_after_s=0.1)
        now = self._ticks.now()
        if message.speed is not None:
            replay.clock = replay.clock.at_speed(now, message.speed)
        if message.playing is not None:
            replay.clock = replay.clock.play(now, message.playing)
        if message.follow is not None:
            replay.follow = message.follow
        replay.why = ""
        if message.seek_ms is not None:
            charge(session, SEEK_COST, self._ticks, self._metrics)
            return self._answer(replay, message.id, self._seek(replay, message.seek_ms))
        asyncio.get_running_loop().call_soon(self._advance, replay)
        return self._status(replay, message.id)

    async def _seek(self, replay: Replay, ms: int) -> None:
        replay.turn += 1
        turn = replay.turn
        try:
            end = await self._reader.end(replay.kind, replay.topic)
            if replay.turn == turn:
                await self._learn_public(replay, end)
                replay.end = end
                await self._stand(replay, ms, 0)
        except GarrisonError:
            if replay.turn == turn:
                replay.loading = False
                asyncio.get_running_loop().call_soon(self._advance, replay)
            raise

    def close(self, session: Session, message: ReplayClose) -> Done:
        """End a replay, if it is open."""
        self._drop(session, message.replay)
        return Done(message.id)

    def _answer(
        self, replay: Replay, request_id: int, work: Coroutine[Any, Any, None]
    ) -> "asyncio.Future[ReplayStatus]":
        """The answer to a request that `work` carries out; the scene follows it."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[ReplayStatus] = loop.create_future()
        replay.loading = True

        def done(task: "asyncio.Task[None]") -> None:
            error = GarrisonError("cancelled") if task.cancelled() else task.exception()
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
                return
            answer.set_result(self._status(replay, request_id))
            loop.call_soon(self._advance, replay)

        self._supervisor.spawn(work, f"replay {replay.topic}").add_done_callback(done)
        return answer

    async def _ask_leave(self, replay: Replay) -> None:
        leave = ask_leave(self._actors, replay.cls, replay.topic, replay.session)
        if isinstance(leave, asyncio.Future):
            await leave

    async def _learn_public(self, replay: Replay, end: LogEnd) -> None:
        """Ask the actor how far the session may see, where the log's clock says that it may not see all. The actor goes
        by its own clock since an event was stored: the log's may stand still, and that of this node may be another."""
        if replay.shown.public_until_ms(end.state, replay.session.caller, self._ticks.wall_ms()) is None:
            replay.public_ms = None
            return
        seq: int = await self._actors.ask(replay.topic, "public_end", (replay.session.caller,))
        stretch = await self._reader.holding(replay.kind, replay.topic, seq - 1) if seq > 1 else None
        newest = stretch.times[seq - 1 - stretch.first_seq :][:1] if stretch is not None else []
        replay.public_ms = None if seq < 0 else newest[0] - 1 if newest else -1  # others may be of the same moment

    async def _learn_more(self, replay: Replay) -> None:
        try:
            if replay.end is not None:
                await self._learn_public(replay, replay.end)
        except GarrisonError:
            return  # asked again at the next stop

    async def _stand(self, replay: Replay, ms: int | None, seq: int) -> None:
        """Take the place of the first event at `ms`, or of event `seq`."""
        turn, end = replay.turn, replay.end
        assert end is not None
        limit = self._limit(replay)
        most = end.time_ms if limit is None else limit
        if ms is not None:
            if ms > most and not (end.finished and limit is None):
                raise _past_limit(most)
            seq = await self._reader.first_at(replay.kind, replay.topic, ms, end.next_seq)
        if seq > end.next_seq:
            raise _past_limit(most)
        stretch = await self._reader.holding(replay.kind, replay.topic, seq) if seq < end.next_seq else None
        place = 0 if stretch is None else seq - stretch.first_seq
        if ms is None:
            readable = stretch is not None and place < len(stretch.records)
            ms = stretch.times[place] if stretch is not None and readable else end.time_ms
            if limit is not None and ms > limit:
                raise _past_limit(most)
        if replay.turn != turn or replay.over:
            return
        replay.stretch, replay.place, replay.next_seq, replay.why = stretch, place, seq, ""
        now = self._ticks.now()
        replay.clock = replay.clock.seek(now, min(ms, most)).hold(now, most)  # until the scene is shown
        replay.scene_due, replay.loading = True, False

    # ---- to the next process of this node ----

    def copies(self, session: Session) -> list[ReplayCopy]:
        """The replays of a session, as they go over with it; not one that is being opened, whose client asks again."""
        out = []
        for replay in self._of.get(session, {}).values():
            clock = replay.clock
            if replay.end is not None:
                copy = ReplayCopy(
                    replay.number, replay.topic, replay.next_seq, clock.at_ms, clock.since, clock.speed, clock.plays,
                    clock.held, replay.scene_due, replay.follow, replay.why,
                )  # fmt: skip
                out.append(copy)
        return out

    def inherit(self, session: Session, copies: Sequence[ReplayCopy]) -> None:
        """Let a session go on with its replays, once `take_up` is called."""
        for copy in copies:
            topic = parse_actor_id(copy.topic)
            cls, shown = self._app.actor(kind_of(topic)), self._app.replays.get(kind_of(topic))
            if cls is None or shown is None or not issubclass(cls, LoggedActor):
                continue
            replay = Replay(session, copy.number, topic, cls, shown, self._ticks.now())
            replay.clock = ReplayClock(copy.at_ms, copy.since, copy.speed, copy.plays, copy.held)
            replay.next_seq, replay.scene_due = copy.next_seq, copy.scene_due
            replay.follow, replay.why = copy.follow, copy.why
            self._of.setdefault(session, {})[copy.number] = replay
            self._metrics.replays += 1

    def take_up(self) -> None:
        """Read the logs of inherited replays, and go on where they are."""
        for mine in self._of.values():
            for replay in mine.values():
                if replay.end is None:
                    self._supervisor.spawn(self._take_up(replay), f"replay {replay.topic}")

    async def _take_up(self, replay: Replay) -> None:
        while not replay.over:
            try:
                end = await self._reader.end(replay.kind, replay.topic)
                await self._learn_public(replay, end)
                stretch = None
                if replay.next_seq < end.next_seq:
                    stretch = await self._reader.holding(replay.kind, replay.topic, replay.next_seq)
            except Retryable:
                await asyncio.sleep(RETRY_S)
                continue
            except GarrisonError as error:
                self._end(replay, error.code)
                return
            replay.end, replay.stretch, replay.loading = end, stretch, False
            replay.place = 0 if stretch is None else replay.next_seq - stretch.first_seq
            self._advance(replay)
            return

    # ---- the pace ----

    def _advance(self, replay: Replay) -> None:
        """Send what is due, and wait for what comes next."""
        if replay.over or replay.loading:
            return
        now, session = self._ticks.now(), replay.session
        while (replay.clock.plays or replay.scene_due) and self._has_room(replay, now):
            stretch = replay.stretch
            if stretch is None or replay.place >= len(stretch.records):
                self._leave_stretch(replay, stretch)
                return
            if replay.scene_due:
                self._show_scene(replay, stretch.state_before(replay.place))
            if not replay.clock.plays:
                return
            clock = replay.clock = replay.clock.release(now)
            next_ms, limit = stretch.times[replay.place], self._limit(replay)
            if limit is not None and next_ms > limit:
                if clock.at(now) < limit:
                    self._wake(replay, clock.due(limit))
                else:
                    self._stop_at(replay, limit, now)
                return
            upto = stretch.place_after(clock.at(now) if limit is None else min(clock.at(now), limit), replay.place)
            if upto == replay.place:
                self._wake(replay, clock.due(next_ms))
                return
            self._send(replay, stretch, upto, round(clock.at(now)))
            if session.ended:
                return

    def _has_room(self, replay: Replay, now: float) -> bool:
        """False while the client does not keep up: the clock is held, and `refill` calls when it does."""
        session = replay.session
        slow = replay.why == "slow"
        if session.outbox.half_full or (slow and not session.outbox.roomy):
            session.starved = True
            session.changed()
            stretch = replay.stretch
            next_ms = (
                stretch.times[replay.place] if stretch and replay.place < len(stretch.times) else replay.clock.at(now)
            )
            replay.clock = replay.clock.hold(now, next_ms)
            self._tell(replay, "slow")
            return False
        if slow:
            replay.clock = replay.clock.release(now)
            self._tell(replay, "")
        return True

    def _leave_stretch(self, replay: Replay, stretch: Stretch | None) -> None:
        """Go on after the last event that can be read of a stretch: name its gap, and read what follows."""
        if replay.end is not None and replay.next_seq >= replay.end.next_seq and replay.scene_due:
            self._show_scene(replay, replay.end.state)
        if stretch is not None and stretch.gap is not None:
            self._show_gap(replay, stretch.gap)
            replay.next_seq, replay.scene_due = stretch.gap.last_seq + 1, True
        replay.stretch, replay.loading = None, True
        self._supervisor.spawn(self._read(replay, replay.turn), f"replay {replay.topic}")

    async def _read(self, replay: Replay, turn: int) -> None:
        """Read the next stretch; at the end of the log see whether it has gone on."""
        end = replay.end
        assert end is not None
        stretch: Stretch | None = None
        try:
            if not end.finished:
                end = await self._reader.end_lately(replay.kind, replay.topic, self._ticks.now())
            if replay.next_seq < end.next_seq:
                if not end.finished:
                    await self._ask_leave(replay)
                    await self._learn_public(replay, end)
                stretch = await self._reader.holding(replay.kind, replay.topic, replay.next_seq)
        except Retryable:
            if replay.turn == turn:
                replay.loading = False
                self._wake(replay, self._ticks.now() + RETRY_S)
            return
        except GarrisonError as error:
            if replay.turn == turn:
                self._end(replay, error.code)
            return
        finally:
            self._metrics.replay_decodes_total = self._reader.stretches.made
            self._metrics.replay_decodes_shared_total = self._reader.shared
        if replay.turn != turn or replay.over:
            return
        replay.end, replay.stretch, replay.loading = end, stretch, False
        if stretch is not None:
            replay.place = replay.next_seq - stretch.first_seq
            self._advance(replay)
        elif replay.next_seq < end.next_seq:
            self._end(replay, "history_changed")
        else:
            self._at_end(replay, end)

    def _at_end(self, replay: Replay, end: LogEnd) -> None:
        now = self._ticks.now()
        if replay.scene_due:
            self._show_scene(replay, end.state)
        if not end.finished:
            self._stop_at(replay, end.time_ms, now)
            return
        stands = min(replay.clock.at(now), max(end.time_ms, replay.clock.at_ms))
        replay.clock = replay.clock.seek(now, stands).play(now, False)
        self._tell(replay, "end")

    def _stop_at(self, replay: Replay, ms: int, now: float) -> None:
        """Stand at the last moment that can be seen, and look again soon."""
        replay.clock = replay.clock.hold(now, ms)
        self._tell(replay, "limit")
        if replay.public_ms is not None:
            self._supervisor.spawn(self._learn_more(replay), f"replay {replay.topic}")
        self._wake(replay, now + LOOK_AGAIN_S)

    def _limit(self, replay: Replay) -> int | None:
        """The log's clock up to which the session may see it."""
        assert replay.end is not None
        limit = replay.shown.public_until_ms(replay.end.state, replay.session.caller, self._ticks.wall_ms())
        return limit if limit is None or replay.public_ms is None else min(limit, replay.public_ms)

    def _wake(self, replay: Replay, due: float | None) -> None:
        if due is not None and replay.awaits != due:
            replay.awaits = due
            self._ticks.wheel.add(due, partial(self._woken, replay, due))

    def _woken(self, replay: Replay, due: float, _now: float) -> None:
        if replay.awaits == due:  # else another moment has taken its place
            replay.awaits = None
            self._advance(replay)

    def refill(self, session: Session) -> None:
        """Go on with the replays that waited for room in the session's outbox."""
        for replay in list(self._of.get(session, {}).values()):
            self._advance(replay)

    # ---- to clients ----

    def _send(self, replay: Replay, stretch: Stretch, upto: int, time_ms: int) -> None:
        """Send the events up to that place, as many as a frame holds."""
        raws = stretch.raws if replay.session.format == "msgpack" else stretch.texts
        names = stretch.names(replay.shown.names) if replay.follow else None
        items: list[ReplayedEvent] = []
        size, place = 0, replay.place
        while place < upto and len(items) < MAX_EVENTS and size < MAX_BYTES:
            if names is None or not names[place] or replay.follow in names[place]:
                items.append(ReplayedEvent(stretch.first_seq + place, raws[place]))
                size += len(bytes(raws[place]))
            place += 1
        replay.place, replay.next_seq = place, stretch.first_seq + place
        if items:
            self._metrics.replay_events_total += len(items)
            self._push(replay, ReplayEvents(0, replay.number, _stands_at(stretch, place, time_ms), items))

    def _show_scene(self, replay: Replay, state: Any) -> None:
        replay.scene_due = False
        scene = replay.shown.scene(key_of(replay.topic), state, replay.next_seq)
        time_ms = round(replay.clock.at(self._ticks.now()))
        self._push(replay, ReplayScene(0, replay.number, replay.next_seq, time_ms, scene))

    def _show_gap(self, replay: Replay, gap: LogGap) -> None:
        first_seq = max(gap.first_seq, replay.next_seq)
        self._push(replay, ReplayGap(0, replay.number, first_seq, gap.last_seq, gap.why))

    def _tell(self, replay: Replay, why: str) -> None:
        if replay.why != why:
            replay.why = why
            self._push(replay, ReplayState(0, replay.number, round(replay.clock.at(self._ticks.now())), why))

    def _status(self, replay: Replay, request_id: int) -> ReplayStatus:
        end, clock, limit = replay.end, replay.clock, self._limit(replay)
        assert end is not None
        hides = limit is not None and limit < end.time_ms
        return ReplayStatus(
            request_id,
            replay.number,
            round(clock.at(self._ticks.now())),
            clock.speed,
            clock.plays,
            replay.next_seq,
            0 if hides else end.next_seq,
            limit if limit is not None and hides else end.time_ms,
            end.finished and not hides,
        )

    def _push(self, replay: Replay, push: Push) -> None:
        replay.session.push(Broadcast(push))

    # ---- ends ----

    def leave(self, session: Session) -> None:
        """End the replays of a session that is about to move, and tell its client, which opens them again."""
        for replay in list(self._of.get(session, {}).values()):
            self._end(replay, "moved")

    def session_ended(self, session: Session, _before: Phase, _ending: Ending) -> None:
        """End the replays of a session that is over."""
        self.withdraw(session)

    def withdraw(self, session: Session) -> None:
        """Forget the replays of a session, which is told nothing."""
        for replay in list(self._of.get(session, {}).values()):
            self._forget(replay)

    def _end(self, replay: Replay, code: str) -> None:
        if not replay.over:
            self._forget(replay)
            time_ms = round(replay.clock.at(self._ticks.now()))
            self._push(replay, ReplayEnded(0, replay.number, time_ms, replay.next_seq, code))

    def _drop(self, session: Session, number: int) -> None:
        replay = self._of.get(session, {}).get(number)
        if replay is not None:
            self._forget(replay)

    def _forget(self, replay: Replay) -> None:
        if replay.over:
            return
        replay.over = True
        self._metrics.replays -= 1
        mine = self._of[replay.session]
        del mine[replay.number]
        if not mine:
            del self._of[replay.session]


def _past_limit(most_ms: int) -> Rejected:
    return Rejected("past_limit", f"it can be seen up to {most_ms} ms of its clock now")


def _stands_at(stretch: Stretch, place: int, time_ms: int) -> int:
    """The clock of a frame that ends before `place`: not later than the event that comes next."""
    return min(time_ms, stretch.times[place]) if place < len(stretch.times) else time_ms
