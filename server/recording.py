"""The recording of a node: who adds rows to its columns, when they are written, and who is asked about them.

Rows of sessions come from the session table, rows of calls from clients' requests, rows of health from a task each
second, rows of an application's tables from the observers of its actors. Where columns are switched off this object
does not exist: no observer is registered, and requests go where they always went.

    idle        parts are observed, and what comes is dropped
    recording   rows are taken, in files of this process
    sealed      a predecessor's: all is published, and the files are the heir's, unless the succession is called off
    closed      all is published: the files are the next run's
"""

import random
import time
from asyncio.subprocess import Process
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, Literal

import msgspec

from server.actors.actor import LoggedActor
from server.actors.app import App
from server.actors.recorded import RecordedEvents, RecordedSnapshot, RecordedStates
from server.admin.questions import QuestionDesk
from server.call_rows import Append, CallSampler, RecordedRequests, nowhere
from server.catalog.system import ActorSystem
from server.columns.layout import Schema, Writer
from server.columns.store import ColumnStore
from server.columns.tables import CALLS, HEALTH, QUESTIONS, SESSIONS, SavedQuestion
from server.errors import GarrisonError
from server.eventlog.entry import Entry, decode_record
from server.ids import ActorId, NodeAddress, key_of
from server.questions.child import QueryProcess
from server.questions.fanout import Question, QuestionFanout
from server.reloads.child import Reload
from server.runtime.clock import Clock
from server.runtime.lag import LagProbe
from server.runtime.metrics import Metrics
from server.runtime.phases import PhaseTable
from server.runtime.process import resident_bytes
from server.runtime.supervisor import Supervisor
from server.sessions.end_reasons import Ending
from server.sessions.session import Session
from server.sessions.session_kit import RequestHandler
from server.sessions.session_phases import Phase as SessionPhase
from server.sessions.table import SessionTable
from server.settings import ColumnSettings
from server.snapshots import Snapshots
from server.transport.ports import Answer, Service, Transport

Phase = Literal["idle", "recording", "sealed", "closed"]
RECORDING: Final[PhaseTable[Phase]] = PhaseTable(
    "recording",
    {
        "idle": ("recording", "closed"),
        "recording": ("sealed", "closed"),
        "sealed": ("recording", "closed"),
        "closed": (),
    },
)
HEALTH_S: Final = 1.0
FORGET_S: Final = 5.0
_COUNTED: Final = (
    "frames_in_total", "frames_out_total", "heartbeats_total", "turns_total", "turn_errors_total",
    "log_entries_total",
)  # fmt: skip


class Recording:
    """See the module's head. `attach` before the node starts; rows are taken from `start` on."""

    def __init__(
        self,
        store: ColumnStore,
        settings: ColumnSettings,
        clock: Clock,
        rng: random.Random,
        metrics: Metrics,
        supervisor: Supervisor,
        query_process: Process | None = None,
    ) -> None:
        self.store, self._settings, self._clock, self._metrics = store, settings, clock, metrics
        self._supervisor = supervisor
        self.process = QueryProcess(store.directory, store.schemas, store.snapshot_schemas, query_process)
        self._questions: QuestionFanout | None = None
        self._snapshots: Snapshots | None = None
        self._node: tuple[ActorSystem, Transport] | None = None
        self.calls = CallSampler(settings.calls_per_s, clock, rng)
        self.phase: Phase = "idle"
        self._appends: dict[str, Append] = {}
        """The ways of rows into their tables, from `begin` on."""
        self._before: dict[str, int] = {}
        self._cpu_s = time.process_time()
        self._lag: LagProbe | None = None
        self._saved: tuple[SavedQuestion, ...] = ()
        self.reload: Reload | None = None
        self._is_warm = False
        self._counted = (0, 0)
        """Rows written and lost by the processes of this run before this one."""

    def attach(
        self, app: App, system: ActorSystem, transport: Transport, sessions: SessionTable, lag: LagProbe
    ) -> None:
        """Observe what is recorded of a node's parts, and answer other nodes' questions. Before they start."""
        self._lag = lag
        events = [recorded for recorded in app.recorded if isinstance(recorded, RecordedEvents)]
        if self._settings.reload and any(recorded.place is not None for recorded in events):
            plain = msgspec.to_builtins(system.settings)
            self.reload = Reload(self.store, events, plain, self._clock, self._metrics)
        self._saved = app.questions
        self._node = (system, transport)

        def members() -> list[NodeAddress]:
            return list(system.view.addresses)

        async def request(address: NodeAddress, payload: bytes, timeout_s: float) -> bytes:
            return await transport.request(address, Service.COLUMNS, payload, timeout_s)

        self._questions = QuestionFanout(self.process, request, lambda: system.me, members, self._supervisor)
        transport.serve(Service.COLUMNS, self._questions.serve)
        transport.serve(Service.FORGET, self._forget)
        sessions.on_add(self._session_added)
        sessions.on_release(self._session_left)
        sessions.on_end(self._session_ended)
        for recorded in app.recorded:
            if isinstance(recorded, RecordedEvents):
                system.observe_events(
                    recorded.actor.kind, partial(self._events, recorded), noted=recorded.place is not None
                )
            elif isinstance(recorded, RecordedStates):
                system.observe(recorded.actor.kind, partial(self._state, recorded))
        snapshots = [recorded for recorded in app.recorded if isinstance(recorded, RecordedSnapshot)]
        if snapshots and self._settings.snapshot_s:
            self._snapshots = Snapshots(snapshots, self.store, system, self._clock, self._settings.snapshot_s)

    def timed(self, requests: RequestHandler[Session]) -> RequestHandler[Session]:
        """The handler of clients' requests, with a row for each of them."""
        return RecordedRequests(requests, self.calls, self._clock)

    def desk(self) -> QuestionDesk:
        """The node's side of operators' questions."""

        async def ask(sql: str, since_ms: int, until_ms: int, timeout_s: float) -> bytes:
            assert self._questions is not None, "attached before the node starts"
            return await self._questions.answer(Question(sql, since_ms, until_ms, timeout_s), self._clock.wall_ms())

        def tables() -> list[tuple[Schema, int]]:
            found = [(table.schema, table.written) for table in self.store.tables.values()]
            return found + [(table.schema, table.rows) for table in self.store.snapshots.values()]

        saved = (*self._saved, *QUESTIONS)
        return QuestionDesk(ask, tables, lambda: self.process.unavailable, self.forget, saved)

    async def forget(self, text: str) -> list[str]:
        """Let every node go of the row blocks that have `text`. Returns the nodes that have not said that they did."""
        assert self._node is not None, "attached before the node starts"
        system, transport = self._node
        missing = []
        for address in list(system.view.addresses):
            try:
                if address == system.me:
                    await self._forget_here(text)
                else:
                    await transport.request(address, Service.FORGET, text.encode(), FORGET_S)
            except GarrisonError:
                missing.append(str(address.node))
        return missing

    def _forget(self, _peer: NodeAddress, payload: bytes) -> Answer:
        async def forget() -> bytes:
            return str(await self._forget_here(payload.decode("utf-8", "replace"))).encode()

        return self._supervisor.spawn(forget(), "columns forget")

    async def _forget_here(self, text: str) -> int:
        """Let go of row blocks that have `text`. What a reload has read of logs before that comes no more."""
        if self.reload is None:
            return await self.store.forget(text)
        async with self.reload.quiet():
            return await self.store.forget(text)

    def warm(self) -> None:
        """Start the query process, which takes as long to start as the node does. As early as may be; `start` does it
        where nobody has."""
        if not self._is_warm:
            self._is_warm = True
            self._supervisor.spawn(self.process.run(), "query process")

    def begin(self, address: NodeAddress, generation: int = 0) -> None:
        """Take rows from now on, in files of this process. Once `start` follows they are written. Idempotent."""
        if self.phase == "recording":
            return
        assert self.phase == "idle", f"tables are begun once, and {self.store.directory} is {self.phase}"
        self._counted = self._metrics.column_rows_total, self._metrics.column_rows_lost_total
        self.store.begin(Writer(address.node, address.incarnation, generation))
        self._appends = {name: table.append for name, table in self.store.tables.items()}
        self.calls.append = self._appends[CALLS.table]
        self._enter("recording")

    def _enter(self, phase: Phase) -> None:
        """Move on to `phase`. Raises `IllegalTransition`."""
        self.phase = RECORDING.move(str(self.store.directory), self.phase, phase)

    def start(self, address: NodeAddress, generation: int = 0) -> None:
        """Open the tables for this process of the run, and begin to write; questions are answered once what earlier
        processes have left was looked through, meanwhile."""
        self.warm()
        self.begin(address, generation)
        self._supervisor.spawn(self._look(address), "columns of earlier processes")
        self._supervisor.every(self._settings.tick_s, self._tick, "columns")
        self._supervisor.every(HEALTH_S, self._health, "columns health")
        if self._snapshots is not None:
            self._supervisor.spawn(self._snapshots.run(), "snapshots")

    async def _look(self, address: NodeAddress) -> None:
        await self.store.look()
        if self.reload is not None:
            self.reload.note()
            self._supervisor.spawn(self.reload.run(address), "reload")
        self.process.blocks_checked = True

    def close(self) -> None:
        """Publish what there is. Rows that come later are not kept. Idempotent."""
        if self.phase != "closed":
            self._rest("closed")

    def seal(self) -> None:
        """Publish what there is, and write nothing more, nor let go of anything, unless `go_on` is called: the files
        are the heir's. Idempotent."""
        if self.phase != "sealed":
            self._rest("sealed")

    def _rest(self, phase: Phase) -> None:
        """Enter a phase in which no rows are taken, with all published that were."""
        before = self.phase
        self._enter(phase)
        if self.reload is not None:
            self.reload.end()
        if before == "recording":
            self.calls.append = nowhere
            self.store.close()
            self._count()

    def go_on(self) -> None:
        """Undo `seal`, in the same stretch of the loop: rows are taken again. Nothing where it was not sealed."""
        if self.phase != "sealed":
            return
        self._enter("recording")
        self.store.go_on()
        if self.reload is not None:
            self.reload.go_on()
        self.calls.append = self._appends[CALLS.table]

    def _add(self, table: str, *values: Any) -> None:
        if self.phase == "recording":
            self._appends[table]((self._clock.wall_ms(), *values))

    def _tick(self) -> None:
        if self.phase == "recording":
            self.store.tick()
            self._count()

    def _count(self) -> None:
        metrics, store = self._metrics, self.store
        metrics.column_bytes = store.size
        written, lost = self._counted
        metrics.column_rows_total, metrics.column_rows_lost_total = written + store.rows_written, lost + store.rows_lost

    # ---- sessions ----

    def _session_added(self, session: Session) -> None:
        self._session("arrived" if session.phase == "arrived" else "opened", session, "", 0)

    def _session_left(self, session: Session) -> None:
        self._session("left", session, "moved", 0)

    def _session_ended(self, session: Session, before: SessionPhase, ending: Ending) -> None:
        if before != "transferred":
            self._session("closed", session, ending.why, ending.code)

    def _session(self, event: str, session: Session, reason: str, code: int) -> None:
        now = self._clock.now()
        self._add(
            SESSIONS.table, event, session.caller.subject, session.caller.role, session.client, session.device, reason,
            code, int(1000 * max(0.0, now - session.began)), session.outbox.last, session.country, *session.traffic(),
        )  # fmt: skip

    # ---- actors ----

    def _events(
        self, recorded: RecordedEvents, identity: ActorId, first_seq: int, entries: Sequence[Entry], state: Any
    ) -> None:
        assert issubclass(recorded.actor, LoggedActor)
        key, event_type = key_of(identity), recorded.actor.logged_kind().event_type
        for entry in entries:
            values = recorded.row(key, entry.seq, decode_record(entry, event_type).event, state)
            if values is not None:
                self._add(recorded.schema.table, *values)

    def _state(
        self, recorded: RecordedStates, identity: ActorId, _kind: str, _version: int, before: Any, after: Any
    ) -> None:
        values = recorded.row(key_of(identity), before, after)
        if values is not None:
            self._add(recorded.schema.table, *values)

    # ---- health ----

    def _health(self) -> None:
        metrics = self._metrics
        counted = {name: int(getattr(metrics, name)) for name in _COUNTED}
        more = [max(0, counted[name] - self._before.get(name, counted[name])) for name in _COUNTED]
        self._before = counted
        frames_in, frames_out, heartbeats, turns, errors, entries = more
        cpu_s = time.process_time()
        spent_ms, self._cpu_s = int(1000 * (cpu_s - self._cpu_s)), cpu_s
        lag_us = int(1e6 * (self._lag.lag_s if self._lag is not None else 0.0))
        self._add(
            HEALTH.table, metrics.sessions, metrics.activations, frames_in, frames_out, heartbeats, turns, errors,
            metrics.dirty, entries, lag_us, spent_ms, resident_bytes() // 1024, metrics.members,
        )  # fmt: skip
        self.calls.weigh()
