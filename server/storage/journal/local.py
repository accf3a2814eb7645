"""The journal of a node in files that its process maps: an append is a copy into memory that
outlives the process, so it is durable against the process's death when it returns.

    <directory>/volume                          a random name of this very directory
    <directory>/<cluster>/<node>.<incarnation>.<run>/lock        held (flock) while the process lives; its time of
                                                change is the live mark: until when the lease holds, in seconds of boot
    <directory>/<cluster>/<node>.<incarnation>.<run>/segment-000 preallocated, mapped, reused in a ring
    <directory>/<cluster>/<node>.<run>.unopened                  no run of that process is opened yet
    <directory>/<cluster>/<node>.<incarnation>.<run>.removed     everything in it was stored

A journal that is missing, with neither note, was lost. Notes, which are empty files, go after a
day, when a node starts. `run` is random, because incarnations are a store's and two stores may share a directory; it
ends with the UUID of the database, after a dot: a copy of a database names the journals of its original.

A segment is reused only when `truncate` has passed its last record; all full, an append is
refused. In shared memory (`/dev/shm`) a journal outlives its process, on a disk also an orderly
restart of the machine; nothing is synced, so a machine that loses power may lose what the kernel
had not written back, which reading then names.

`place` names node, host, boot, volume, run and directory. A journal can be read where a directory has
that volume's name: on the same host, or where a disk is shared. A directory of the same node on
the same host that has *another* name was emptied (shared memory after a restart): that journal is
gone for good, and reading it says so. A process whose own files are taken away is told by `broken`,
and acknowledges nothing from then on.
"""

import asyncio
import contextlib
import mmap
import os
import re
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from server.errors import BadSetting, Unavailable
from server.ids import NODE_PATTERN, NodeAddress, NodeId
from server.runtime.metrics import Metrics
from server.settings import JournalSettings
from server.storage.journal import local_files, segment_file
from server.storage.journal.ports import Journaled, Recovered, still_alive
from server.storage.journal.record import (
    HEADER,
    HEADER_BYTES,
    MAGIC,
    digest,
    encode_payload,
    run_seed,
)

log = structlog.get_logger(__name__)

_NAME: Final = re.compile(NODE_PATTERN, re.ASCII)
_RUN: Final = re.compile(r"[0-9a-f]{16}(\.[0-9a-f]{32})?", re.ASCII)
_NO_ROOM: Final = "the journal is full: its oldest changes are not in the store yet"
_SURRENDERED: Final = "this process has handed its run on: its journal takes nothing any more"
_LOST: Final = "the journal was adopted by another node, or removed"


class LocalPlace(msgspec.Struct, frozen=True):
    """A parsed `place`; `host` is a name of the machine, `boot` of its time since its start, `run`
    of the process that wrote the journal."""

    node: str
    host: str
    boot: str
    volume: str
    run: str
    directory: str

    @property
    def database(self) -> str:
        """The UUID of the database; empty in a place of an earlier version."""
        return self.run.partition(".")[2]

    def __str__(self) -> str:
        return f"local:{self.node}:{self.host}:{self.boot}:{self.volume}:{self.run}:{self.directory}"

    def folder(self, cluster: str, owner: NodeAddress) -> Path:
        """The folder of `owner`'s files below the directory. Raises `Unavailable` for a name that
        is no node's."""
        if _NAME.fullmatch(owner.node) is None:
            raise Unavailable(f"not a node: {owner}")
        return Path(cluster, f"{owner.node}.{owner.incarnation:d}.{self.run}")

    def unopened(self, cluster: str) -> Path:
        return Path(cluster, f"{self.node}.{self.run}.unopened")


def parse_place(text: str) -> LocalPlace | None:
    """None for what another driver wrote."""
    driver, *rest = text.split(":", 6)
    if driver != "local" or len(rest) != 6 or _NAME.fullmatch(rest[0]) is None:
        return None
    if _RUN.fullmatch(rest[4]) is None or not _is_path(rest[5]):
        return None
    return LocalPlace(*rest)


class LocalJournal:
    """See the module's head. `host` and `boot` are for tests of several machines."""

    def __init__(
        self,
        settings: JournalSettings,
        cluster: str,
        node: NodeId,
        metrics: Metrics,
        host: str | None = None,
        boot: str | None = None,
    ) -> None:
        for field, name in (("cluster", cluster), ("node", node)):
            if _NAME.fullmatch(name) is None:
                raise BadSetting(field, f"not a name: {name!r}")
        self._settings, self._cluster, self._node, self._metrics = settings, cluster, node, metrics
        self._host, self._boot = host or host_name(), boot or boot_id()
        self._directory = _absolute(settings.directory)
        self._place: LocalPlace | None = None
        self.database = ""
        self.on_durable: Callable[[Any, int], None] = _nobody_waits
        self._run: _Run | None = None
        self._held: int | None = None
        """The lock of the process before this one."""
        self._surrendered = False
        self._closed()

    def _closed(self) -> None:
        """No append fits any more: the next one learns why in `_turn_over`."""
        self._run = None
        self._buffer = memoryview(bytearray(0))
        self._begin = self._end = self._next = self._seed = 0
        self._truncated = 0
        self._lost = False

    async def prepare(self) -> None:
        """Make the directory and its volume name. Raises `BadSetting` where that cannot be."""
        run = f"{secrets.token_hex(8)}.{self.database}".rstrip(".")
        note = f"{self._node}.{run}.unopened"
        volume = await asyncio.to_thread(local_files.prepare, self._directory, self._cluster, note)
        self._place = LocalPlace(self._node, self._host, self._boot, volume, run, str(self._directory))

    @property
    def durable_at_once(self) -> bool:
        return True

    @property
    def place(self) -> str:
        assert self._place is not None, "prepare first"
        return str(self._place)

    async def open(self, me: NodeAddress) -> None:
        """Allocate and lock this run's files. Raises `BadSetting` where the directory has not the
        room for them, `Unavailable` where they are there already."""
        if self._surrendered:
            raise Unavailable(_SURRENDERED)
        await self.close(keep=True)
        assert self._place is not None, "prepare first"
        path = self._directory / self._place.folder(self._cluster, me)
        note = self._directory / self._place.unopened(self._cluster)
        self._run = await asyncio.to_thread(_Run, path, note, self._settings, self._cluster, me, self._boot)
        self._seed, self._next, self._truncated = run_seed(self._cluster, me), 1, 1
        self._use(0)

    # ---- the hot path ----

    def append(self, entity: Journaled, state: msgspec.Struct) -> bool:
        """Durable when it returns. Raises `Unavailable` where there is no room, or the change is
        larger than a segment."""
        payload = encode_payload((entity.id, entity.epoch, entity.version + 1, state))
        size = len(payload)
        begin = self._begin
        end = begin + HEADER_BYTES + size
        if end > self._end:
            begin = self._turn_over(size)
            end = begin + HEADER_BYTES + size
        buffer, sequence = self._buffer, self._next
        buffer[begin + HEADER_BYTES : end] = payload
        HEADER.pack_into(buffer, begin, MAGIC, size, sequence, digest(payload, self._seed + sequence))
        segment_file.NEWEST.pack_into(buffer, segment_file.NEWEST_AT, sequence)
        self._next = sequence + 1
        self._begin = end
        metrics = self._metrics
        metrics.journal_records_total += 1
        metrics.journal_bytes_total += end - begin
        metrics.journal_backlog_bytes += end - begin
        return True

    def _turn_over(self, size: int) -> int:
        """Begin the next segment for a record of `size` bytes that the current one has no room for. Returns the
        offset."""
        run = self._run
        if self._surrendered:
            raise Unavailable(_SURRENDERED)
        if run is None:
            raise Unavailable("the journal is closed")
        if self._lost:
            self._metrics.journal_refused_total += 1
            raise Unavailable(_LOST, retry_after_s=1.0)
        if segment_file.HEAD_BYTES + HEADER_BYTES + size > self._settings.segment_bytes:
            self._metrics.journal_refused_total += 1
            raise Unavailable(f"a change of {size} bytes is larger than journal.segment_bytes")
        if run.newest[run.following] >= self._truncated:
            self._metrics.journal_refused_total += 1
            raise Unavailable(_NO_ROOM)
        run.newest[run.current], run.used[run.current] = self._next - 1, self._begin
        self._use(run.following)
        return self._begin

    def _use(self, number: int) -> None:
        run = self._run
        assert run is not None
        run.current, run.following = number, (number + 1) % len(run.buffers)
        self._buffer = run.buffers[number]
        segment_file.begin(self._buffer, self._cluster, run.owner, self._next, self._truncated)
        self._begin, self._end = segment_file.HEAD_BYTES, len(self._buffer)

    # ---- what is stored may go ----

    @property
    def refusal(self) -> str | None:
        if self._surrendered:
            return _SURRENDERED
        return _LOST if self._lost else None

    def alive_for(self, seconds: float) -> None:
        if self._run is not None and not self._surrendered:
            self._run.alive_for(seconds)

    @property
    def broken(self) -> bool:
        """Its files are not those of its place any more, where a successor would look for them.
        Found out here, so that an append, to which the mapped files look as ever, need not look:
        from then on each is refused."""
        run = self._run
        if self._surrendered:
            return False
        if run is not None and not self._lost and run.is_removed():
            self._lost, self._end = True, 0
            log.error("the journal is broken", journal=str(run.path), why="its files are gone")
        return self._lost

    @property
    def position(self) -> int:
        return self._next

    @property
    def fill(self) -> float:
        """Share of the segments with records that are not stored, 0 to 1."""
        run = self._run
        if run is None:
            return 0.0
        return sum(1 for newest in run.newest if newest >= self._truncated) / max(1, len(run.newest) - 1)

    def truncate(self, position: int) -> None:
        run = self._run
        if run is None or self._surrendered or not self._truncated < position <= self._next:
            return
        self._truncated = position
        segment_file.truncate(self._buffer, position)
        run.newest[run.current], run.used[run.current] = self._next - 1, self._begin
        self._metrics.journal_backlog_bytes = sum(
            used for newest, used in zip(run.newest, run.used, strict=True) if newest >= position
        )

    in_flight = 0

    @property
    def lock(self) -> int | None:
        return self._run.lock if self._run is not None else None

    def hold(self, lock: int) -> None:
        self._held = lock

    def surrender(self) -> None:
        self._surrendered, self._end = True, 0  # so that the next append asks why it does not fit

    async def clear(self, owner: NodeAddress, place: str) -> None:
        held, self._held = self._held, None
        if held is not None:
            os.close(held)
        there = self._own(owner, place)
        path = self._path(owner, there)
        if path is None:
            return
        if (path / "lock").exists() and not local_files.lock_is_free(path / "lock", self._boot):
            raise Unavailable(f"the journal in {path} is in use: its process has not ended")
        await asyncio.to_thread(local_files.remove_noted, path)

    async def close(self, keep: bool) -> None:
        run = self._run
        if self._surrendered:
            return
        self._closed()
        if self._held is not None:
            os.close(self._held)
            self._held = None
        if run is None:
            return
        self._metrics.journal_backlog_bytes = 0
        await asyncio.to_thread(run.close, keep)

    # ---- the successor's side ----

    def reads(self, place: str) -> bool:
        there = parse_place(place)
        if there is None or there.database not in ("", self.database):
            return False
        return self._find(there) is not None or self._is_gone(there)

    def is_dead(self, owner: NodeAddress, place: str) -> bool:
        """Proven by a lock file of this very boot of this machine whose lock is free."""
        there = parse_place(place)
        if there is None or (there.host, there.boot) != (self._host, self._boot):
            return False
        path = self._path(owner, there)
        return path is not None and local_files.lock_is_free(path / "lock", self._boot)

    async def recover(self, owner: NodeAddress, place: str) -> Recovered:
        """A process that was only stopped may append still: its epochs are over, so that what it
        adds is of no use to anybody, and not missed."""
        there = self._own(owner, place)
        path = self._path(owner, there)
        if path is not None and there is not None:
            same_boot = (there.host, there.boot) == (self._host, self._boot)
            if same_boot and local_files.is_marked_alive(path / "lock", self._boot):
                raise still_alive(owner)
            note = path.parent / there.unopened(self._cluster).name
            return await asyncio.to_thread(local_files.recover, path, note, self._cluster, owner)
        if there is not None and self._is_gone(there):
            what = f"the journal of {owner} is gone: {there.directory} on {there.host} has been emptied since"
            return Recovered({}, [what])
        raise Unavailable(f"the journal of {owner} cannot be read here: it is at {place}")

    async def remove(self, owner: NodeAddress, place: str) -> None:
        path = self._path(owner, self._own(owner, place))
        if path is not None:
            await asyncio.to_thread(local_files.remove_noted, path)

    def _own(self, owner: NodeAddress, place: str) -> LocalPlace | None:
        """The parsed place. Raises `Unavailable` for a journal of another database."""
        there = parse_place(place)
        if there is not None and there.database not in ("", self.database):
            raise Unavailable(f"the journal of {owner} belongs to database {there.database}: it is at {place}")
        return there

    def _path(self, owner: NodeAddress, there: LocalPlace | None) -> Path | None:
        directory = self._find(there) if there is not None else None
        return directory / there.folder(self._cluster, owner) if directory is not None and there is not None else None

    def _find(self, there: LocalPlace) -> Path | None:
        """The directory with that volume's name, if it is in reach."""
        for directory in dict.fromkeys((self._directory, Path(there.directory))):
            if local_files.volume(directory) == there.volume:
                return directory
        return None

    def _is_gone(self, there: LocalPlace) -> bool:
        """True if `there` was this very node's directory on this host, and it is another one now."""
        mine = (self._node, self._host, str(self._directory))
        return mine == (there.node, there.host, there.directory) and local_files.volume(self._directory) not in (
            None,
            there.volume,
        )


class _Run:
    """The files of one run, allocated, mapped and locked. Making and closing it blocks."""

    def __init__(
        self, path: Path, unopened: Path, settings: JournalSettings, cluster: str, owner: NodeAddress, boot: str
    ) -> None:
        self.path, self.owner = path, owner
        self.current, self.following = 0, 1 % settings.segments
        self.newest = [0] * settings.segments
        """The number of each segment's last record: the current one's is as of the last change."""
        self.used = [0] * settings.segments
        self.buffers: list[memoryview] = []
        self._maps: list[mmap.mmap] = []
        self._lock = -1
        self._files: dict[str, tuple[int, int]] = {}
        """Files that a successor looks for, by path: device and inode."""
        try:
            path.mkdir(mode=0o700)
            for number in range(settings.segments):
                self._map(path / f"segment-{number:03}", settings.segment_bytes)
            self._lock = local_files.take_lock(path, boot)
            self._files[f"{path}/lock"] = _identity(os.fstat(self._lock))
            volume = f"{path.parents[1]}/volume"
            self._files[volume] = _identity(os.stat(volume))
            unopened.unlink(missing_ok=True)  # from here on its absence is a loss
        except FileExistsError:
            self._unmap()
            raise Unavailable(f"{path} is there already: {owner} has run before") from None
        except OSError as error:
            self._unmap()
            if self._lock >= 0:
                os.close(self._lock)
            local_files.remove(path)
            total = settings.segments * settings.segment_bytes
            raise BadSetting("journal.directory", f"cannot make {total} bytes in {path}: {error.strerror}") from None

    def _map(self, path: Path, size: int) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size)  # so that a full disk is found here, not by a later access
            mapping = mmap.mmap(descriptor, size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
            self._files[str(path)] = _identity(os.fstat(descriptor))
        finally:
            os.close(descriptor)
        self._maps.append(mapping)
        self.buffers.append(memoryview(mapping))

    def _unmap(self) -> None:
        for buffer, mapping in zip(self.buffers, self._maps, strict=True):
            buffer.release()
            mapping.close()
        self.buffers, self._maps = [], []

    @property
    def lock(self) -> int | None:
        return self._lock if self._lock >= 0 else None

    def alive_for(self, seconds: float) -> None:
        if self._lock >= 0:
            with contextlib.suppress(OSError):
                local_files.mark_alive(self._lock, seconds)

    def is_removed(self) -> bool:
        """Whether a file of its place is another than the one that is held or mapped, or none."""
        try:
            return any(_identity(os.stat(path)) != mine for path, mine in self._files.items())
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False

    def close(self, keep: bool) -> None:
        self._unmap()
        try:
            if not keep:
                local_files.remove_noted(self.path)
        finally:
            os.close(self._lock)
            self._lock = -1


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _nobody_waits(entity: Any, version: int) -> None:
    """Every append is durable at once."""


def _is_path(text: str) -> bool:
    return bool(text) and "\0" not in text


def _absolute(directory: str) -> Path:
    if not _is_path(directory):
        raise BadSetting("journal.directory", "is no path")
    return Path(directory).absolute()


def host_name() -> str:
    """A name of this machine that stays over its restarts."""
    machine = ""
    with contextlib.suppress(OSError):
        machine = Path("/etc/machine-id").read_text("ascii").strip()[:12]
    return re.sub(r"[^A-Za-z0-9.-]", "-", f"{socket.gethostname()}.{machine}".rstrip("."))


def boot_id() -> str:
    """The id of this machine's run since its start; a random one, by which nothing is proven, where the kernel
    does not say."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    return secrets.token_hex(16)
