"""The stream of one run in Redis, from its owner's side: records gather, go in one entry after the other, and are
trimmed once they are stored. See the head of `redis.py` for the layout.

Records that gather in one loop iteration, or while an entry is under way, go in one entry. One entry
is under way at a time, and its id is chosen here: after a lost connection the newest id of the
stream tells whether it is in, and an entry that is sent twice is refused the second time. Entries are
only added to a stream that exists, so that a removed one stays removed. The newest entry is
never trimmed, which is what makes that id known.

Stored records are trimmed between two entries, and when Redis refuses an entry: it may be full of just those.
"""

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec
import structlog
from redis import exceptions

from server.errors import Unavailable
from server.ids import NodeAddress
from server.runtime.backoff import backoff_s
from server.runtime.clock import Clock
from server.runtime.metrics import Metrics
from server.runtime.phases import PhaseTable
from server.settings import JournalSettings
from server.storage.journal.ports import Journaled
from server.storage.journal.record import encode_payload, frame, run_seed
from server.storage.journal.redis_names import RedisKeys, RedisPlace
from server.storage.journal.redis_server import MAX_ID, RedisLink, is_late

log = structlog.get_logger(__name__)

ENTRY_BYTES: Final = 512 * 1024
"""Size at which an entry is closed, so that a page of them is bounded."""
CLOSED: Final = "the journal is closed"
_ADOPTED: Final = "the journal was adopted by another node, or removed"
_FULL: Final = "the journal is full: its oldest changes are not in the store yet"
_UNTRIMMED: Final = "the journal is full: Redis does not remove what is in the store"

StreamPhase = Literal["opening", "open", "away", "broken", "closed"]
_STREAM: Final[dict[StreamPhase, tuple[StreamPhase, ...]]] = {
    "opening": ("open", "closed"),  # Redis takes nothing of this run yet: the stream does not exist
    "open": ("away", "broken", "closed"),
    "away": ("open", "broken", "closed"),  # no entry for `redis_timeout_s`: appends are refused
    "broken": ("closed",),  # sealed or removed: it takes no entry of this run any more
    "closed": (),
}
STREAM_PHASES: Final = PhaseTable("journal stream", _STREAM)
TrimPhase = Literal["ready", "sent", "waiting"]
_TRIM: Final[dict[TrimPhase, tuple[TrimPhase, ...]]] = {
    "ready": ("sent",),
    "sent": ("ready", "waiting"),  # `ready` also where more was stored while it was under way
    "waiting": ("ready",),  # after a failure the next truncation tries again
}
TRIM_PHASES: Final = PhaseTable("journal trim", _TRIM)


class _Broken(Exception):
    """The stream takes no more entries of this run."""


class StreamEntry(msgspec.Struct):
    """An entry of the stream: records `first` up to, not including, `end`."""

    number: int
    first: int
    end: int
    data: bytes
    waiting: list[tuple[Any, int]]
    """(entity, version) of each record."""


class RedisStream:
    """See the module's head. `on_durable` is called with (entity, version), in order. Without `begun` the
    stream could not be made yet: `run` makes it as soon as Redis takes it."""

    def __init__(
        self,
        link: RedisLink,
        keys: RedisKeys,
        me: NodeAddress,
        place: RedisPlace,
        settings: JournalSettings,
        *,
        clock: Clock,
        rng: random.Random,
        metrics: Metrics,
        on_durable: Callable[[Any, int], None],
    ) -> None:
        self._link, self._keys, self.me, self.place, self._settings = link, keys, me, place, settings
        self._clock, self._rng, self._metrics, self._on_durable = clock, rng, metrics, on_durable
        self.key = keys.stream(me, place)
        self.phase: StreamPhase = "opening"
        self.refusal: str | None = "the journal is not open yet"
        """Why an append is refused now; None exactly in phase `open`: at hand for the hot path."""
        self._seed = run_seed(keys.cluster, me)
        self.position = 1
        """The number of the next record."""
        self._durable_to = 1
        """The number after the newest record that is known to be durable."""
        self._truncated = 1
        self._number = 1
        """The number of the newest entry that is in the stream."""
        self._queue: deque[tuple[Any, int, bytes]] = deque()
        self._stored: deque[tuple[int, int, int]] = deque()
        """(number, end, bytes) of the stream's entries that are not trimmed."""
        self._backlog = 0
        """Bytes of records that wait, or that Redis has."""
        self._trimmed = self._number + 1
        """The number of the oldest entry that is not trimmed."""
        self._untrimmed = 0
        """Bytes of entries that are of no more use and that Redis has still."""
        self._trim_phase: TrimPhase = "ready"
        self._trim_refused = False
        """True from a refused trim to the next that succeeds: it is told once, and named by a full journal."""
        self._wake, self._idle = asyncio.Event(), asyncio.Event()
        self._idle.set()

    # ---- opening ----

    async def begin(self) -> None:
        """Make the stream; from here on its absence is a loss. Raises `Unavailable` and `RedisError`."""
        try:
            await self._link.ask("XADD", self.key, "1-0", "opened", str(self.me))
        except exceptions.ResponseError as error:
            if not is_late(error) or await self._link.newest(self.key) != b"1-0":  # else an earlier attempt was in
                raise
        await self._link.ask("DEL", self._keys.unopened(self.place))

    def opened(self) -> None:
        """Accept appends: the stream is made."""
        self._enter("open", None)

    def refuse(self, why: str) -> None:
        """Name the reason why the stream could not be made yet."""
        assert self.phase == "opening", f"{self.key} is {self.phase}"
        self.refusal = why

    async def _begin_later(self) -> None:
        """Make the stream as soon as Redis takes it."""
        attempt, begun = 0, False
        while not begun:
            await asyncio.sleep(backoff_s(attempt, self._rng, cap_s=self._settings.redis_timeout_s))
            attempt += 1
            with contextlib.suppress(Unavailable, exceptions.RedisError):
                await self.begin()
                begun = True
        self._takes_entries()

    def _enter(self, phase: StreamPhase, refusal: str | None) -> None:
        self.phase = STREAM_PHASES.move(self.key, self.phase, phase)
        self.refusal = refusal
        assert (refusal is None) == (phase == "open"), f"{self.key} is {phase} and says {refusal}"

    # ---- the hot path ----

    def append(self, entity: Journaled, state: msgspec.Struct) -> bool:
        """Record a change; it is durable later. Raises `Unavailable` at the bound of the backlog, while Redis is
        away for longer than `redis_timeout_s`, and once the journal is broken."""
        version = entity.version + 1
        if self.refusal is not None:
            raise self._refused(self.refusal)
        sequence = self.position
        data = frame(encode_payload((entity.id, entity.epoch, version, state)), sequence, self._seed)
        size = len(data)
        if self._backlog + size > self._settings.max_backlog_bytes:
            raise self._refused(_UNTRIMMED if self._trim_refused else _FULL)
        if not self._queue:
            self._wake.set()
        self._queue.append((entity, version, data))
        self.position = sequence + 1
        self._backlog += size
        metrics = self._metrics
        metrics.journal_records_total += 1
        metrics.journal_bytes_total += size
        metrics.journal_backlog_bytes = self._backlog
        return False

    def _refused(self, why: str) -> Unavailable:
        self._metrics.journal_refused_total += 1
        return Unavailable(why, retry_after_s=1.0)

    @property
    def in_flight(self) -> int:
        """Records that Redis has not answered for."""
        return self.position - self._durable_to

    # ---- one entry after the other ----

    async def run(self) -> None:
        """Store entries and trim until the stream is broken, or this is cancelled."""
        try:
            if self.phase == "opening":
                await self._begin_later()
            while True:
                await self._wake.wait()
                self._wake.clear()
                self._idle.clear()
                while self._queue:
                    entry = self._next_entry()
                    await self._store(entry)
                    assert entry.number == self._number + 1, "one entry is under way at a time"
                    self._number, self._durable_to = entry.number, entry.end
                    self._stored.append((entry.number, entry.end, len(entry.data)))
                    self._note_durable(entry)
                    await self._trim()
                await self._trim()
                self._idle.set()
        except _Broken as why:
            self._enter("broken", _ADOPTED)
            log.error("the journal is broken", journal=self.key, why=str(why), waiting=len(self._queue))
            self._queue.clear()
        finally:
            self._idle.set()

    def _next_entry(self) -> StreamEntry:
        queue, size = self._queue, 0
        waiting: list[tuple[Any, int]] = []
        frames: list[bytes] = []
        first = self.position - len(queue)
        while queue and size < ENTRY_BYTES:
            entity, version, data = queue.popleft()
            waiting.append((entity, version))
            frames.append(data)
            size += len(data)
        return StreamEntry(self._number + 1, first, first + len(frames), b"".join(frames), waiting)

    async def _store(self, entry: StreamEntry) -> None:
        """Send `entry` until it is known to be in the stream. Raises `_Broken`."""
        began, attempt, identity = self._clock.now(), 0, f"{entry.number}-0"
        field = f"{entry.first}-{entry.end - 1}"
        while True:
            try:
                if attempt and await self._is_in(entry.number):
                    break
                command = ("XADD", self.key, "NOMKSTREAM", identity, field, entry.data)
                if await self._link.ask(*command) is None:
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
        newest = await self._link.newest(self.key)
        if newest is None:
            raise _Broken("it was removed")
        found = int(newest.partition(b"-")[0])
        if found > number:
            raise _Broken("it was sealed" if newest == MAX_ID else f"somebody else has added {newest.decode()}")
        return found == number

    def _is_away(self, began: float, error: Exception) -> None:
        if self.phase == "open" and self._clock.now() - began >= self._settings.redis_timeout_s:
            log.warning("Redis takes no entries", redis=self._link.address, why=str(error))
            self._enter("away", f"the journal does not answer: {error}")

    def _takes_entries(self) -> None:
        if self.phase != "open":
            log.info("Redis takes entries again", redis=self._link.address)
            self._enter("open", None)

    def _note_durable(self, entry: StreamEntry) -> None:
        for entity, version in entry.waiting:
            try:
                self._on_durable(entity, version)
            except Exception:
                log.exception("what waits for the journal failed", version=version)

    # ---- stored records may go ----

    def truncate(self, position: int) -> None:
        """Let every record before `position` go; see `Journal.truncate`."""
        self._truncated = max(self._truncated, min(position, self.position))
        if self._trim_phase != "ready":
            self._trim_phase = TRIM_PHASES.move(self.key, self._trim_phase, "ready")
        self._wake.set()

    async def _trim(self) -> bool:
        """Remove the entries whose records are all below the truncated position, but the newest.
        They count until they are gone. Returns whether there were some."""
        stored = self._stored
        while stored and stored[0][1] <= self._truncated:
            self._untrimmed += stored.popleft()[2]
        keep = stored[0][0] if stored else self._number
        assert keep <= self._number, "the newest entry is never trimmed"
        older = keep > self._trimmed
        if older:
            if self._trim_phase != "ready":
                return False
            self._trim_phase = TRIM_PHASES.move(self.key, self._trim_phase, "sent")
            try:
                await self._link.ask("XTRIM", self.key, "MINID", f"{keep}-0")
            except (Unavailable, exceptions.RedisError) as error:
                self._not_trimmed(error)
                return False
            self._trim_ended("ready")
            self._trimmed = keep
            if self._trim_refused:
                log.info("Redis removes what is stored again", redis=self._link.address)
                self._trim_refused = False
        self._backlog -= self._untrimmed
        self._untrimmed = 0
        assert self._backlog >= 0, "more was trimmed than appended"
        self._metrics.journal_backlog_bytes = self._backlog
        return older

    def _trim_ended(self, phase: TrimPhase) -> None:
        """Leave `sent`, unless a truncation has done so while the trim was under way: then it may try again."""
        if self._trim_phase == "sent":
            self._trim_phase = TRIM_PHASES.move(self.key, self._trim_phase, phase)

    def _not_trimmed(self, error: Exception) -> None:
        self._trim_ended("waiting")
        if not isinstance(error, Unavailable) and not self._trim_refused:
            self._trim_refused = True
            log.error(
                "Redis does not remove what is stored: the journal fills", redis=self._link.address, why=str(error)
            )

    # ---- the end ----

    async def finish(self) -> None:
        """Give the entry that is under way the time of one command."""
        if self._queue:
            self._idle.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.redis_timeout_s):
                await self._idle.wait()

    def close(self, why: str = CLOSED) -> None:
        """Refuse every append from now on; `run` is to be cancelled."""
        self._enter("closed", why)
        self._queue.clear()
