"""Room for two: whether the memory that is left lets this process and its heir live side by side for a while.

The heir decodes all that this process holds, so it becomes as large. Memory ends at the machine's, or earlier at the
limit of a control group (version 2 or 1) or of one around it; what the kernel's cache holds of files counts as free.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from server.errors import CalledOff

MIB: Final = 1024 * 1024
SPARE: Final = 64 * MIB
"""Bytes that an heir takes besides what it holds: its program, and what it decodes."""
GROWTH: Final = 1.15
"""Size of an heir by that of its predecessor: what is decoded at once lies less densely."""
_UNLIMITED: Final = 1 << 60


class Left(NamedTuple):
    """Bytes that are left, and by what they are bounded, for people."""

    bytes: int
    where: str


def check_room(own: int, proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> None:
    """Raises `CalledOff`, with the numbers, where an heir of a process with `own` bytes has no room. A system that
    tells nothing refuses nothing."""
    needed = int(own * GROWTH) + SPARE
    lefts = [*_machine(proc), *_version_2(proc, groups), *_version_1(proc, groups)]
    least = min(lefts, default=Left(needed, ""))
    if least.bytes < needed:
        raise CalledOff(
            f"no room for two: this process has {own // MIB:,} MiB of its own, its heir needs about "
            f"{needed // MIB:,} MiB, and {least.where} leaves {max(0, least.bytes) // MIB:,} MiB"
        )


def _machine(proc: Path) -> Iterator[Left]:
    for line in _text(proc / "meminfo").splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable" and (kib := rest.split()[0]).isdecimal():
            yield Left(int(kib) * 1024, "this machine")


def _version_2(proc: Path, groups: Path) -> Iterator[Left]:
    place = next((line[3:] for line in _text(proc / "self/cgroup").splitlines() if line.startswith("0::")), None)
    for directory in _upwards(groups, place):
        limit = min(_number(directory / "memory.max"), _number(directory / "memory.high"))
        if limit < _UNLIMITED:
            used = _number(directory / "memory.current", 0) - _stat(directory / "memory.stat", "inactive_file")
            yield Left(limit - used, f"the limit of {limit // MIB:,} MiB of its control group")


def _version_1(proc: Path, groups: Path) -> Iterator[Left]:
    place = None
    for line in _text(proc / "self/cgroup").splitlines():
        _, controllers, *rest = line.split(":", 2)
        if "memory" in controllers.split(",") and rest:
            place = rest[0]
    for directory in _upwards(groups / "memory", place):
        limit = _number(directory / "memory.limit_in_bytes")
        if limit < _UNLIMITED:
            cached = _stat(directory / "memory.stat", "total_inactive_file")
            used = _number(directory / "memory.usage_in_bytes", 0) - cached
            yield Left(limit - used, f"the limit of {limit // MIB:,} MiB of its control group")


def _upwards(root: Path, place: str | None) -> Iterator[Path]:
    """The directory of a control group and those around it, as far as they are to be seen from here. In a container the
    group's own name may lie outside of what is mounted: its root stands for it then."""
    if place is None:
        return
    directory = root / place.strip("/")
    while directory != root:
        if ".." not in directory.parts:
            yield directory
        directory = directory.parent
    yield root


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace")
    except OSError:
        return ""


def _number(path: Path, otherwise: int = _UNLIMITED) -> int:
    text = _text(path).strip()
    return int(text) if text.isdecimal() else otherwise


def _stat(path: Path, name: str) -> int:
    """A number of a control group's statistics; 0 if it is not there."""
    for line in _text(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.strip().isdecimal():
            return int(value)
    return 0
