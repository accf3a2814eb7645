"""Blocking work on the directory of `local.py`, whose head says what lies there."""

import contextlib
import fcntl
import functools
import grp
import os
import pwd
import re
import secrets
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from server.errors import BadSetting, Unavailable
from server.ids import NodeAddress
from server.storage.journal import segment_file
from server.storage.journal.ports import Recovered
from server.storage.journal.record import Part, read_run, run_seed

NOTE_S: Final = 24 * 3600
LONGEST_S: Final = 366 * 24 * 3600
"""Above any lease: a file whose time is further ahead has no mark, but the time at which it was made."""
_VOLUME: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_READ_AGAIN: Final = 3
_MOST_LINKS: Final = 40


def prepare(directory: Path, cluster: str, note: str) -> str:
    """Make it, if need be, leave `note` and return its volume name. Raises `BadSetting`."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_way(directory.absolute())
        (directory / cluster).mkdir(mode=0o700, exist_ok=True)
        _check_level(directory, directory.stat())
        _check_level(directory / cluster, (directory / cluster).lstat())
        _name_volume(directory)
        _check_level(directory / "volume", (directory / "volume").lstat(), stat.S_ISREG)
        _forget_notes(directory / cluster, _note(directory / cluster / note))
    except OSError as error:
        raise BadSetting("journal.directory", f"cannot use {directory}: {error.strerror}") from None
    name = volume(directory)
    if name is None:
        raise BadSetting("journal.directory", f"{directory / 'volume'} does not hold a name: is it another program's?")
    return name


def _check_level(path: Path, found: os.stat_result, is_right: Callable[[int], bool] = stat.S_ISDIR) -> None:
    """Raise `BadSetting` where another user could put something else in place of a journal, or a link leads out."""
    if not is_right(found.st_mode):
        raise BadSetting("journal.directory", f"{path} is a link, or no journal's")
    if found.st_uid not in (os.geteuid(), 0):
        raise BadSetting("journal.directory", f"{path} belongs to another user")
    if found.st_mode & 0o022:
        raise BadSetting("journal.directory", f"others than its owner may write to {path}: chmod go-w")


def _check_way(path: Path, links: int = 0) -> None:
    """Raise `BadSetting` where another user could put another directory in place of one above `path`, or of `path`."""
    for level in (*reversed(path.parents), path):
        found = level.lstat()
        if found.st_uid not in (os.geteuid(), 0, _nobody()):
            raise BadSetting("journal.directory", f"{level} belongs to another user")
        if stat.S_ISLNK(found.st_mode):
            if links >= _MOST_LINKS:
                raise BadSetting("journal.directory", f"{level} is one link too many")
            target = Path(os.path.normpath(level.parent / level.readlink()))
            _check_way(target / path.relative_to(level), links + 1)
            return
        others = stat.S_IWOTH if _is_own_group(found.st_gid) else stat.S_IWOTH | stat.S_IWGRP
        if level != path and found.st_mode & others and not found.st_mode & stat.S_ISVTX:
            raise BadSetting("journal.directory", f"others than its owner may write to {level}: chmod go-w, or +t")


@functools.cache
def _nobody() -> int | None:
    """The owner of whatever belongs to nobody in this process's user namespace, as the machine's root is there; None
    outside of any."""
    try:
        if Path("/proc/self/uid_map").read_text("ascii").split() == ["0", "0", "4294967295"]:
            return None
        return int(Path("/proc/sys/kernel/overflowuid").read_text("ascii"))
    except (OSError, ValueError):
        return None


def _is_own_group(group: int) -> bool:
    """Tell whether this user's own group, of the same name and without other members, is the group: where each user has
    one, directories are made writable by it."""
    try:
        user, found = pwd.getpwuid(os.geteuid()), grp.getgrgid(group)
    except KeyError:
        return False
    return (found.gr_gid, found.gr_name) == (user.pw_gid, user.pw_name) and set(found.gr_mem) <= {user.pw_name}


def _name_volume(directory: Path) -> None:
    """Give it a name, once: whoever links the file first has named it."""
    if (directory / "volume").exists():
        return
    draft = directory / f".volume-{secrets.token_hex(8)}"
    draft.touch(mode=0o600)
    draft.write_text(secrets.token_hex(16), "ascii")
    try:
        with contextlib.suppress(FileExistsError):
            os.link(draft, directory / "volume")
    finally:
        draft.unlink()


def volume(directory: Path) -> str | None:
    try:
        text = (directory / "volume").read_text("ascii").strip()
    except (OSError, ValueError):
        return None
    return text if _VOLUME.fullmatch(text) else None


def _note(path: Path) -> float:
    """Leave that empty file and return when it was made, by the clock of the disk."""
    path.touch(mode=0o600)
    return path.stat().st_mtime


def _forget_notes(folder: Path, now: float) -> None:
    for pattern in ("*.unopened", "*.removed"):
        for note in folder.glob(pattern):
            with contextlib.suppress(OSError):  # another node does so too
                if now - note.stat().st_mtime > NOTE_S:
                    note.unlink()


def take_lock(path: Path, boot: str) -> int:
    """A held lock on `path`/lock. The file gets its name only when the lock is held."""
    draft = path / "lock.draft"
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(descriptor, boot.encode())
        draft.rename(path / "lock")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def lock_is_free(lock: Path, boot: str) -> bool:
    """Whether the lock file is of this boot and nobody holds it. A shared lock is asked for, so
    that two who ask do not hinder each other."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return os.read(descriptor, 100) == boot.encode()
    except OSError:
        return False
    finally:
        os.close(descriptor)


def mark_alive(lock: int, seconds: float) -> None:
    """Note in the held lock file's time of change until when, by the clock of this boot, its owner's lease holds."""
    until_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + int(1e9 * seconds)
    os.utime(lock, ns=(until_ns, until_ns))


def is_marked_alive(lock: Path, boot: str) -> bool:
    """Whether the owner of the lock file, which is of this boot, holds it and its lease. A process that was stopped
    holds the lock, and its mark stands still."""
    try:
        left_s = os.stat(lock).st_mtime - time.clock_gettime(time.CLOCK_BOOTTIME)
    except OSError:
        return False
    return 0 < left_s < LONGEST_S and not lock_is_free(lock, boot)


def recover(path: Path, unopened: Path, cluster: str, owner: NodeAddress) -> Recovered:
    """Read until two readings agree: a process that is not quite dead may go on in the next segment
    while this one is read. What is missing by right, or just now, is not missed."""
    recovered = _read(path, cluster, owner)
    for _ in range(_READ_AGAIN):
        if not recovered.damage:
            break
        before, recovered = recovered, _read(path, cluster, owner)
        if before.damage == recovered.damage:
            break
    if recovered.damage and (_removed(path).exists() or unopened.exists()):
        return Recovered({}, [])
    return recovered


def _read(path: Path, cluster: str, owner: NodeAddress) -> Recovered:
    damage: list[str] = []
    parts: list[Part] = []
    low = high = 0
    try:
        files = sorted(path.glob("segment-*"))
        if not files:
            return Recovered({}, [f"the journal of {owner} is gone: {path} is not there, or empty"])
        for file in files:
            data = file.read_bytes()
            try:
                head = segment_file.read(data, len(data), cluster, owner)
            except segment_file.BadHead as error:
                damage.append(f"{file}: {error}")
                parts.append(Part(str(file), data, segment_file.HEAD_BYTES))
                continue
            if head is not None:
                parts.append(Part(str(file), data, segment_file.HEAD_BYTES, head.first - 1))
                high = max(high, head.newest)
        for file in files:  # a segment that was reused while it was read had been truncated before
            low = max(low, _truncated(file, cluster, owner))
    except FileNotFoundError:
        return Recovered({}, [f"the journal of {owner} is gone: {path} was removed while it was read"])
    except OSError as error:
        raise Unavailable(f"the journal in {path} cannot be read: {error.strerror}") from None
    recovered = read_run(parts, run_seed(cluster, owner), low, high)
    return Recovered(recovered.newest, damage + recovered.damage)


def _truncated(file: Path, cluster: str, owner: NodeAddress) -> int:
    with file.open("rb") as opened:
        data, size = opened.read(segment_file.HEAD_BYTES), os.fstat(opened.fileno()).st_size
    try:
        head = segment_file.read(data, size, cluster, owner)
    except segment_file.BadHead:
        return 0
    return 0 if head is None else head.truncated


def _removed(path: Path) -> Path:
    return path.with_name(f"{path.name}.removed")


def remove_noted(path: Path) -> None:
    """Remove a journal whose changes are all stored, with a note for those who look for it."""
    with contextlib.suppress(OSError):  # at worst a false alarm; a place that is gone takes no note
        _note(_removed(path))
    remove(path)


def remove(path: Path) -> None:
    """The files that this module makes, and their directory, which is left if there are others."""
    try:
        for file in [*path.glob("segment-*"), path / "lock.draft", path / "lock"]:
            file.unlink(missing_ok=True)
        path.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        raise Unavailable(f"the journal in {path} cannot be removed: {error.strerror}") from None
