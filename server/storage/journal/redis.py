"""The journal of a node as a Redis stream: it outlives the node's machine, within what Redis itself
keeps (with `appendonly yes` and `appendfsync everysec`, its default, a crash of *Redis's* machine
may cost the last second).

    garrison:{cluster}:journals                          a random name of this very Redis
    garrison:{cluster}:journal:{node}:{incarnation}:{run}    the stream of one run
        1-0                      it was opened
        n-0  {first-last: ...}   records `first` to `last`, framed as in `record.py`
        max  {sealed: node}      a successor has it: Redis itself refuses every later entry
    garrison:{cluster}:journal-alive:{node}:{incarnation}:{run}    the live mark: there while the run's lease holds
    garrison:{cluster}:journal-unopened:{run}            no run of that process is opened yet
    garrison:{cluster}:journal-removed:{node}:{incarnation}:{run}    everything in it was stored

`run` is random, and after a dot the UUID of the database: a copy of a database names the journals of its original.
A stream that is missing, with neither note, was lost. Notes expire after a day.

The owner's side of a run is `redis_stream.py`, the successor's `redis_reader.py`; this is the driver that has
both. A run that begins while Redis is full refuses durable changes until there is room, while it closes the
estates that fill it.

Sealed or removed, a journal is *broken* for good: what waits is never durable and every further
append is refused. Its owner's lease is over anyway.
"""

import asyncio
import contextlib
import random
import secrets
from collections.abc import Callable
from typing import Any, Final

import msgspec
import structlog
from redis import exceptions

from server.errors import BadSetting, Unavailable
from server.ids import NodeAddress, NodeId
from server.runtime.clock import Clock
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.settings import JournalSettings
from server.storage.journal.ports import Journaled, Recovered
from server.storage.journal.redis_names import RedisKeys, RedisPlace, parse_place
from server.storage.journal.redis_reader import RedisReader
from server.storage.journal.redis_server import RedisLink, check, is_temporary
from server.storage.journal.redis_stream import CLOSED, RedisStream

log = structlog.get_logger(__name__)


class RedisJournal:
    """See the module's head; `append` is that of the open run's stream, with no frame of its own."""

    append: Callable[[Journaled, msgspec.Struct], bool]

    def __init__(
        self,
        settings: JournalSettings,
        cluster: str,
        node: NodeId,
        metrics: Metrics,
        supervisor: Supervisor,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._settings, self._metrics, self._supervisor = settings, metrics, supervisor
        self._clock, self._rng = clock, rng
        self._link, self._keys = RedisLink(settings), RedisKeys(cluster)
        self._reader = RedisReader(self._link, self._keys, node, settings)
        self._place: RedisPlace | None = None
        self.database = ""
        self.on_durable: Callable[[Any, int], None] = _nobody_waits
        self._stream: RedisStream | None = None
        self._task: asyncio.Task[None] | None = None
        self._marking: asyncio.Task[None] | None = None
        self.append = self._closed
        self._surrendered = False

    @property
    def durable_at_once(self) -> bool:
        return False

    @property
    def broken(self) -> bool:
        """True once this run's journal is over: its node should come back as a new run."""
        return self._stream is not None and self._stream.phase == "broken"

    @property
    def refusal(self) -> str | None:
        return self._stream.refusal if self._stream is not None else None

    async def prepare(self) -> None:
        """Look who answers, and name it if it has no name. Raises `BadSetting` for a server that
        will not do, `Unavailable` where none answers, or one that takes nothing for now."""
        run, link = f"{secrets.token_hex(8)}.{self.database}".rstrip("."), self._link
        try:
            check(await link.ask("INFO"), link.address)
            server = await link.ask("GET", self._keys.name)
            if server is None:  # a full one need not be written to
                await link.ask("SET", self._keys.name, secrets.token_hex(16), "NX")
                server = await link.ask("GET", self._keys.name)
            self._place = RedisPlace(server.decode(), run, link.address)
            await link.note(self._keys.unopened(self._place))
        except exceptions.RedisError as error:
            if is_temporary(error):
                raise Unavailable(f"Redis at {link.address} takes nothing now: {error}", retry_after_s=1.0) from None
            raise BadSetting("journal.redis_url", f"Redis at {link.address} says: {error}") from None

    @property
    def place(self) -> str:
        assert self._place is not None, "prepare first"
        return str(self._place)

    # ---- the owner's side ----

    async def open(self, me: NodeAddress) -> None:
        """Begin the journal of a run. Raises `Unavailable`; a Redis that takes nothing for now is no reason: the
        run begins, and refuses appends until there is a stream."""
        if self._surrendered:
            raise Unavailable(_SURRENDERED)
        await self.close(keep=True)
        assert self._place is not None, "prepare first"
        stream = RedisStream(
            self._link, self._keys, me, self._place, self._settings, clock=self._clock, rng=self._rng,
            metrics=self._metrics, on_durable=self._durable,
        )  # fmt: skip
        try:
            await stream.begin()
            stream.opened()
        except exceptions.RedisError as error:
            if not is_temporary(error):
                raise Unavailable(f"the journal of {me} cannot be opened: {error}") from None
            log.warning("Redis takes nothing of this run yet", redis=self._link.address, why=str(error))
            stream.refuse(f"the journal is not open yet: {error}")
        self._stream, self.append = stream, stream.append
        self._task = self._supervisor.spawn(stream.run(), "journal")

    def _durable(self, entity: Any, version: int) -> None:
        self.on_durable(entity, version)

    def _closed(self, entity: Journaled, state: msgspec.Struct) -> bool:
        self._metrics.journal_refused_total += 1
        raise Unavailable(CLOSED, retry_after_s=1.0)

    def alive_for(self, seconds: float) -> None:
        """Marks are sent one at a time. One that does not arrive costs nothing but the protection against a copy of the
        database, until the next."""
        if self._stream is None or self._surrendered:
            return
        if seconds > 0 and (self._marking is None or self._marking.done()):
            key = self._keys.alive(self._stream.me, self._stream.place)
            self._marking = self._supervisor.spawn(self._mark(key, int(1000 * seconds) or 1), "journal mark")

    async def _mark(self, key: str, ms: int) -> None:
        with contextlib.suppress(Unavailable, exceptions.RedisError):
            await self._link.ask("SET", key, 1, "PX", ms)

    async def _unmark(self, stream: RedisStream) -> None:
        """Let a successor begin at once: this run is over."""
        marking, self._marking = self._marking, None
        if marking is not None:
            marking.cancel()
            await asyncio.gather(marking, return_exceptions=True)
            with contextlib.suppress(Unavailable, exceptions.RedisError):
                await self._link.ask("DEL", self._keys.alive(stream.me, stream.place))

    @property
    def position(self) -> int:
        return self._stream.position if self._stream is not None else 0

    def truncate(self, position: int) -> None:
        if self._stream is not None and not self._surrendered:
            self._stream.truncate(position)

    @property
    def in_flight(self) -> int:
        return self._stream.in_flight if self._stream is not None else 0

    lock = None

    def hold(self, lock: int) -> None:
        """Redis knows no processes."""

    def surrender(self) -> None:
        self._surrendered = True
        if self._stream is not None and self._stream.phase != "closed":
            self._stream.close(_SURRENDERED)

    async def clear(self, owner: NodeAddress, place: str) -> None:
        await self.remove(owner, place)

    async def close(self, keep: bool) -> None:
        if self._surrendered:
            return
        try:
            if self._stream is not None:
                await self._end(self._stream, keep)
        finally:
            await self._link.disconnect()

    async def _end(self, stream: RedisStream, keep: bool) -> None:
        task = self._task
        if keep and task is not None and not task.done():
            await stream.finish()
        stream.close()
        self._stream, self._task, self.append = None, None, self._closed
        self._metrics.journal_backlog_bytes = 0
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._unmark(stream)
        try:
            if not keep:
                await self._reader.remove(stream.me, stream.place)
        except (Unavailable, exceptions.RedisError) as error:
            raise Unavailable(f"journal {stream.key}, which is of no more use, stays in Redis: {error}") from None

    # ---- the successor's side ----

    def reads(self, place: str) -> bool:
        there, here = parse_place(place), self._place
        if there is None or here is None or there.database not in ("", self.database):
            return False
        return there.server == here.server or there.address == here.address

    def is_dead(self, owner: NodeAddress, place: str) -> bool:
        """Redis proves nothing about a process."""
        return False

    async def recover(self, owner: NodeAddress, place: str) -> Recovered:
        return await self._reader.recover(owner, self._reach(owner, place))

    async def remove(self, owner: NodeAddress, place: str) -> None:
        there = self._reach(owner, place)
        try:
            await self._reader.remove(owner, there)
        except exceptions.RedisError as error:
            raise Unavailable(f"the journal of {owner} cannot be removed: {error}") from None

    def _reach(self, owner: NodeAddress, place: str) -> RedisPlace:
        there = parse_place(place)
        if there is None or not self.reads(place):
            raise Unavailable(f"the journal of {owner} cannot be read here: it is at {place}")
        return there


_SURRENDERED: Final = "this process has handed its run on: its journal takes nothing any more"


def _nobody_waits(entity: Any, version: int) -> None:
    """Stand in until somebody sets `on_durable`."""
