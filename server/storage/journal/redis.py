"""The journal of a node as a Redis stream: it outlives the node's machine, within what Redis itself
keeps (with `appendonly yes` and `appendfsync everysec`, its default, a crash of *Redis's* machine
may cost the last second).

    garrison:{cluster}:journals                          a random name of this very Redis
    garrison:{cluster}:journal:{node}:{incarnation}:{run}    the stream of one run
        1-0                      it was opened
        n-0  {first-last: ...}   records `first` to `last`, framed as in `record.py`
        max  {sealed: node}      a successor has it: Redis itself refuses every later entry
    garrison:{cluster}:journal-unopened:{run}            no run of that process is opened yet
    garrison:{cluster}:journal-removed:{node}:{incarnation}:{run}    everything in it was stored

A stream that is missing, with neither note, was lost. Notes expire after a day.

What gathers in one loop iteration, or while an entry is under way, goes in one entry. One entry
is under way at a time, and its id is chosen here: after a lost connection the newest id of the
stream tells whether it is in, and one that is sent twice is refused the second time. Entries are
only added to a stream that exists, so that a removed one stays removed. The newest entry is
never trimmed, which is what makes that id known.

What is stored is trimmed between two entries, and when Redis refuses one: it may be full of just
that. Trimming, reading and removing need no memory there, adding does: a full Redis takes no seal
either, and the stream is then read as it is (the owner's lease is over: what it adds late was told
to nobody), and a run that begins there refuses durable changes until there is room, while it
settles the runs that fill it.

Sealed or removed, a journal is *broken* for good: what waits is never durable and every further
append is refused. Its owner's lease is over anyway.
"""

import asyncio
import contextlib
import random
import re
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import msgspec
import structlog
from redis import exceptions

from server.errors import BadSetting, Unavailable
from server.ids import NodeAddress, NodeId
from server.runtime.backoff import backoff_s
from server.runtime.clock import Clock
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.settings import JournalSettings
from server.storage.journal.ports import Journaled, Recovered
from server.storage.journal.record import Part, encode_payload, frame, read_run, run_seed
from server.storage.journal.redis_names import Keys, RedisPlace, parse_place
from server.storage.journal.redis_server import DEMOTED, NO_ANSWER, check, connect, is_late, is_temporary

log = structlog.get_logger(__name__)

MAX_ID: Final = b"18446744073709551615-18446744073709551615"
ENTRY_BYTES: Final = 512 * 1024
"""An entry is closed at this size, so that a page of them is bounded."""
PAGE_ENTRIES: Final = 32
"""A page is read in `redis_timeout_s`; over a slow line fewer entries are asked for, down to one."""
LAST_PATIENCE: Final = 10
"""A page of one entry has so many times as long."""
NOTE_S: Final = 24 * 3600
_RANGE: Final = re.compile(rb"(\d{1,19})-(\d{1,19})")
_MARKS: Final = (b"opened", b"sealed")
_ADOPTED: Final = "the journal was adopted by another node, or removed"
_FULL: Final = "the journal is full: its oldest changes are not in the store yet"
_UNTRIMMED: Final = "the journal is full: Redis does not remove what is in the store"


class _Broken(Exception):
    """The stream takes no more entries of this run."""


class _Entry(msgspec.Struct):
    """One entry of the stream: records `first` up to, not including, `end`."""

    number: int
    first: int
    end: int
    data: bytes
    waiting: list[tuple[Any, int]]


class RedisJournal:
    """See the module's head."""

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
        self._settings, self._cluster, self._node, self._metrics = settings, cluster, node, metrics
        self._supervisor, self._clock, self._rng = supervisor, clock, rng
        self._client, self._address = connect(settings)
        self._execute: Callable[..., Any] = self._client.execute_command
        self._keys = Keys(cluster)
        self._place: RedisPlace | None = None
        self.on_durable: Callable[[Any, int], None] = _nobody_waits
        self._asking = asyncio.Lock()
        self._pump_task: asyncio.Task[None] | None = None
        self._wake, self._idle = asyncio.Event(), asyncio.Event()
        self._reset()

    def _reset(self) -> None:
        self._refusal: str | None = "the journal is closed"
        self._seed = self._next = self._truncated = 0
        self._key, self._number = "", 1
        self._own: tuple[NodeAddress, RedisPlace] | None = None
        self._queue: deque[tuple[Any, int, bytes]] = deque()
        self._stored: deque[tuple[int, int, int]] = deque()
        """(number, end, bytes) of the stream's entries that are not trimmed."""
        self._backlog, self._trimmed = 0, self._number + 1
        self._untrimmed = 0
        """Bytes of entries that are of no more use and that Redis has still."""
        self._may_trim, self._trim_refused = True, False
        self._wake.clear()
        self._idle.set()

    @property
    def durable_at_once(self) -> bool:
        return False

    @property
    def broken(self) -> bool:
        """This run's journal is over: its node should come back as a new run."""
        return self._refusal == _ADOPTED

    async def prepare(self) -> None:
        """Look who answers, and name it if it has no name. Raises `BadSetting` for a server that
        will not do, `Unavailable` where none answers, or one that takes nothing for now."""
        run = secrets.token_hex(8)
        try:
            check(await self._ask("INFO"), self._address)
            server = await self._ask("GET", self._keys.name)
            if server is None:  # a full one need not be written to
                await self._ask("SET", self._keys.name, secrets.token_hex(16), "NX")
                server = await self._ask("GET", self._keys.name)
            self._place = RedisPlace(server.decode(), run, self._address)
            await self._note(self._keys.unopened(self._place))
        except exceptions.RedisError as error:
            if is_temporary(error):
                raise Unavailable(f"Redis at {self._address} takes nothing now: {error}", retry_after_s=1.0) from None
            raise BadSetting("journal.redis_url", f"Redis at {self._address} says: {error}") from None

    @property
    def place(self) -> str:
        assert self._place is not None, "prepare first"
        return str(self._place)

    async def open(self, me: NodeAddress) -> None:
        await self.close(keep=True)
        assert self._place is not None, "prepare first"
        key, refusal = self._keys.stream(me, self._place), None
        try:
            await self._begin(key, me)
        except exceptions.RedisError as error:
            if not is_temporary(error):
                raise Unavailable(f"the journal of {me} cannot be opened: {error}") from None
            log.warning("Redis takes nothing of this run yet", redis=self._address, why=str(error))
            refusal = f"the journal is not open yet: {error}"
        self._seed, self._next, self._truncated = run_seed(self._cluster, me), 1, 1
        self._key, self._own, self._refusal = key, (me, self._place), refusal
        self._pump_task = self._supervisor.spawn(self._pump(me), "journal")

    async def _begin(self, key: str, me: NodeAddress) -> None:
        """Make the stream; from here on its absence is a loss."""
        assert self._place is not None
        try:
            await self._ask("XADD", key, "1-0", "opened", str(me))
        except exceptions.ResponseError as error:
            if not is_late(error) or await self._newest(key) != b"1-0":  # else an earlier attempt was not answered
                raise
        await self._ask("DEL", self._keys.unopened(self._place))

    async def _begin_later(self, key: str, me: NodeAddress) -> None:
        """As soon as Redis takes it."""
        attempt, begun = 0, False
        while not begun:
            await asyncio.sleep(backoff_s(attempt, self._rng, cap_s=self._settings.redis_timeout_s))
            attempt += 1
            with contextlib.suppress(Unavailable, exceptions.RedisError):
                await self._begin(key, me)
                begun = True
        self._takes_entries()

    # ---- why a stream may be missing ----

    async def _note(self, note: str) -> bool:
        """False where Redis refuses it (it is full); without it, at worst there is a false alarm."""
        with contextlib.suppress(exceptions.ResponseError):
            await self._ask("SET", note, 1, "EX", NOTE_S)
            return True
        return False

    async def _is_lost(self, owner: NodeAddress, place: RedisPlace) -> bool:
        """Of a stream that is not there: whether it should be."""
        notes = (self._keys.removed(owner, place), self._keys.unopened(place))
        return [await self._ask("GET", note) for note in notes] == [None, None]

    # ---- the hot path ----

    def append(self, entity: Journaled, state: msgspec.Struct) -> bool:
        """Durable later. Raises `Unavailable` at the bound of the backlog, while Redis is away for
        longer than `redis_timeout_s`, and once the journal is broken."""
        version = entity.version + 1
        if self._refusal is not None:
            raise self._refused(self._refusal)
        sequence = self._next
        data = frame(encode_payload((entity.id, entity.epoch, version, state)), sequence, self._seed)
        size = len(data)
        if self._backlog + size > self._settings.max_backlog_bytes:
            raise self._refused(_UNTRIMMED if self._trim_refused else _FULL)
        if not self._queue:
            self._wake.set()
        self._queue.append((entity, version, data))
        self._next = sequence + 1
        self._backlog += size
        metrics = self._metrics
        metrics.journal_records_total += 1
        metrics.journal_bytes_total += size
        metrics.journal_backlog_bytes = self._backlog
        return False

    def _refused(self, why: str) -> Unavailable:
        self._metrics.journal_refused_total += 1
        return Unavailable(why, retry_after_s=1.0)

    # ---- one entry after the other ----

    async def _pump(self, me: NodeAddress) -> None:
        key = self._key
        try:
            if self._refusal is not None:
                await self._begin_later(key, me)
            while self._key == key:
                await self._wake.wait()
                self._wake.clear()
                self._idle.clear()
                while self._queue:
                    entry = self._take()
                    await self._store(entry)
                    self._number = entry.number
                    self._stored.append((entry.number, entry.end, len(entry.data)))
                    self._tell(entry)
                    await self._trim()
                await self._trim()
                self._idle.set()
        except _Broken as why:
            self._refusal = _ADOPTED
            log.error("the journal is broken", journal=self._key, why=str(why), waiting=len(self._queue))
            self._queue.clear()
        finally:
            self._idle.set()

    def _take(self) -> _Entry:
        queue, size = self._queue, 0
        waiting: list[tuple[Any, int]] = []
        frames: list[bytes] = []
        first = self._next - len(queue)
        while queue and size < ENTRY_BYTES:
            entity, version, data = queue.popleft()
            waiting.append((entity, version))
            frames.append(data)
            size += len(data)
        return _Entry(self._number + 1, first, first + len(frames), b"".join(frames), waiting)

    async def _store(self, entry: _Entry) -> None:
        """Until `entry` is known to be in the stream. Raises `_Broken`."""
        began, attempt, identity = self._clock.now(), 0, f"{entry.number}-0"
        field = f"{entry.first}-{entry.end - 1}"
        while True:
            try:
                if attempt and await self._is_in(entry.number):
                    break
                command = ("XADD", self._key, "NOMKSTREAM", identity, field, entry.data)
                if await self._ask(*command) is None:
                    raise _Broken("it was removed")
                break
            except (Unavailable, exceptions.RedisError) as error:
                if not is_late(error):
                    self._is_away(began, error)
                    if not (isinstance(error, exceptions.ResponseError) and await self._trim()):
                        await asyncio.sleep(backoff_s(attempt, self._rng, cap_s=self._settings.redis_timeout_s))
                attempt += 1
        self._takes_entries()

    async def _is_in(self, number: int) -> bool:
        """Whether the entry of that number, whose outcome is not known, is in the stream. Raises
        `_Broken` if it can never be."""
        newest = await self._newest(self._key)
        if newest is None:
            raise _Broken("it was removed")
        found = int(newest.partition(b"-")[0])
        if found > number:
            raise _Broken("it was sealed" if newest == MAX_ID else f"somebody else has added {newest.decode()}")
        return found == number

    def _is_away(self, began: float, error: Exception) -> None:
        if self._refusal is None and self._clock.now() - began >= self._settings.redis_timeout_s:
            log.warning("Redis takes no entries", redis=self._address, why=str(error))
            self._refusal = f"the journal does not answer: {error}"

    def _takes_entries(self) -> None:
        if self._refusal is not None:
            log.info("Redis takes entries again", redis=self._address)
            self._refusal = None

    def _tell(self, entry: _Entry) -> None:
        for entity, version in entry.waiting:
            try:
                self.on_durable(entity, version)
            except Exception:
                log.exception("what waits for the journal failed", version=version)

    # ---- what is stored may go ----

    @property
    def position(self) -> int:
        return self._next

    @property
    def fill(self) -> float:
        """Which share of `max_backlog_bytes` is used, 0 to 1."""
        return self._backlog / self._settings.max_backlog_bytes

    def truncate(self, position: int) -> None:
        self._truncated = max(self._truncated, min(position, self._next))
        self._may_trim = True
        self._wake.set()

    async def _trim(self) -> bool:
        """Remove the entries whose records are all below the truncated position, but the newest.
        They count until they are gone. True: there were some."""
        stored = self._stored
        while stored and stored[0][1] <= self._truncated:
            self._untrimmed += stored.popleft()[2]
        keep = stored[0][0] if stored else self._number
        older = keep > self._trimmed
        if older:
            if not self._may_trim:
                return False  # it was refused: the next truncation tries again
            self._may_trim = False
            try:
                await self._ask("XTRIM", self._key, "MINID", f"{keep}-0")
            except (Unavailable, exceptions.RedisError) as error:
                self._not_trimmed(error)
                return False
            self._trimmed, self._may_trim = keep, True
            if self._trim_refused:
                log.info("Redis removes what is stored again", redis=self._address)
                self._trim_refused = False
        self._backlog -= self._untrimmed
        self._untrimmed = 0
        self._metrics.journal_backlog_bytes = self._backlog
        return older

    def _not_trimmed(self, error: Exception) -> None:
        if not isinstance(error, Unavailable) and not self._trim_refused:
            self._trim_refused = True
            log.error("Redis does not remove what is stored: the journal fills", redis=self._address, why=str(error))

    async def close(self, keep: bool) -> None:
        if self._key:
            await self._end(keep)
        await self._disconnect()

    async def _end(self, keep: bool) -> None:
        key, own, pump = self._key, self._own, self._pump_task
        if keep and pump is not None and not pump.done():
            await self._finish()
        self._pump_task = None
        self._reset()
        self._metrics.journal_backlog_bytes = 0
        if pump is not None:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)
        try:
            if not keep and own is not None:
                await self._remove(*own)
        except (Unavailable, exceptions.RedisError) as error:
            log.warning("a journal that is of no more use stays in Redis", journal=key, why=str(error))

    async def _finish(self) -> None:
        """Give what is under way the time of one command."""
        if self._queue:
            self._idle.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.redis_timeout_s):
                await self._idle.wait()

    # ---- the successor's side ----

    def reads(self, place: str) -> bool:
        there, here = parse_place(place), self._place
        return there is not None and here is not None and (there.server == here.server or there.address == here.address)

    def is_dead(self, owner: NodeAddress, place: str) -> bool:
        """Redis proves nothing about a process."""
        return False

    async def recover(self, owner: NodeAddress, place: str) -> Recovered:
        there = self._reach(owner, place)
        async with self._asking:
            try:
                return await self._recover(owner, there)
            except exceptions.RedisError as error:
                raise Unavailable(f"the journal of {owner} cannot be read: {error}") from None

    async def _recover(self, owner: NodeAddress, there: RedisPlace) -> Recovered:
        name = await self._ask("GET", self._keys.name)
        if name is None or name.decode() != there.server:
            return Recovered({}, [f"the journal of {owner} is gone: Redis at {there.address} has lost its data since"])
        key = self._keys.stream(owner, there)
        if not await self._seal(key):
            lost = await self._is_lost(owner, there)
            return Recovered({}, [f"the journal of {owner} is gone: Redis at {there.address} has lost it"] * lost)
        parts: list[Part] = []
        damage: list[str] = []
        low = high = 0
        async for identity, fields in self._entries(key):
            for field, data in fields.items():
                found = _RANGE.fullmatch(field)
                if found is not None:
                    low, high = low or int(found[1]), int(found[2])
                    parts.append(Part(f"{key} {identity.decode()}", data))
                elif field not in _MARKS:
                    damage.append(f"{key} {identity.decode()}: not a journal entry")
        recovered = await asyncio.to_thread(read_run, parts, run_seed(self._cluster, owner), low, high)
        return Recovered(recovered.newest, damage + recovered.damage)

    async def _entries(self, key: str) -> AsyncIterator[tuple[bytes, dict[bytes, bytes]]]:
        """Page by page: a page that does not arrive in time is asked for again with fewer entries."""
        count, limit = PAGE_ENTRIES, self._settings.redis_timeout_s
        after = b"-"
        while after != b"(" + MAX_ID:  # sealed: its last entry has that id
            try:
                page = await self._ask("XRANGE", key, after, "+", "COUNT", count, within_s=limit)
            except Unavailable:
                if limit > self._settings.redis_timeout_s:
                    raise
                if count == 1:
                    limit *= LAST_PATIENCE
                count = max(1, count // 4)
                continue
            if not page:
                return  # not sealed, or removed meanwhile
            for entry in page:
                yield entry
            after = b"(" + page[-1][0]

    async def _seal(self, key: str) -> bool:
        """From here on Redis refuses every entry, unless it is full and takes no seal. False: there
        is no such stream."""
        try:
            return await self._ask("XADD", key, "NOMKSTREAM", MAX_ID, "sealed", self._node) is not None
        except exceptions.OutOfMemoryError:
            return await self._newest(key) is not None
        except exceptions.ResponseError as error:
            if is_late(error) and await self._newest(key) == MAX_ID:
                return True
            raise

    async def remove(self, owner: NodeAddress, place: str) -> None:
        there = self._reach(owner, place)
        try:
            await self._remove(owner, there)
        except exceptions.RedisError as error:
            raise Unavailable(f"the journal of {owner} cannot be removed: {error}") from None

    async def _remove(self, owner: NodeAddress, there: RedisPlace) -> None:
        note = self._keys.removed(owner, there)
        noted = await self._note(note)
        await self._ask("DEL", self._keys.stream(owner, there))
        if not noted:
            await self._note(note)  # there is room now

    def _reach(self, owner: NodeAddress, place: str) -> RedisPlace:
        there = parse_place(place)
        if there is None or not self.reads(place):
            raise Unavailable(f"the journal of {owner} cannot be read here: it is at {place}")
        return there

    # ---- Redis ----

    async def _newest(self, key: str) -> bytes | None:
        """The id of the newest entry of a stream; None if it is empty or not there."""
        found: list[tuple[bytes, Any]] = await self._ask("XREVRANGE", key, "+", "-", "COUNT", 1)
        return found[0][0] if found else None

    async def _ask(self, *command: Any, within_s: float | None = None) -> Any:
        """Raises `Unavailable` where nobody answers in time, by default `redis_timeout_s`, and a
        `RedisError` for what Redis itself says, or for an answer that is none of Redis's."""
        try:
            async with asyncio.timeout(within_s or self._settings.redis_timeout_s):
                return await self._execute(*command)
        except exceptions.AuthenticationError:
            raise
        except DEMOTED:  # the next command finds who is the master now, where the address leads to another
            await self._disconnect()
            raise
        except (exceptions.ConnectionError, exceptions.TimeoutError, OSError) as error:  # OSError: also TimeoutError
            raise Unavailable(f"Redis at {self._address} does not answer: {str(error) or 'in time'}") from None
        except NO_ANSWER as error:
            raise exceptions.InvalidResponse(f"the answer is none of Redis's: {error}") from None

    async def _disconnect(self) -> None:
        """Close the connections that no command is using; each connects anew when it is next used."""
        with contextlib.suppress(exceptions.RedisError, OSError):
            await self._client.connection_pool.disconnect(inuse_connections=False)


def _nobody_waits(entity: Any, version: int) -> None:
    """Until somebody sets `on_durable`."""
