"""How a benchmark measures: floor and real path in alternation, CPU time per unit of work of the
whole serving process, quoted as a ratio. Absolute times on a shared machine mean little; the
ratio of neighbours in time does.
"""

import asyncio
import math
import os
import platform
import signal
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Self

import msgspec

from server.errors import Unavailable
from server.runtime.process import signal_child

READY_TIMEOUT_S = 60.0
TAIL_BYTES = 600
GOES = 100
Sample = Callable[[], Awaitable[float]]


class Effort(msgspec.Struct, frozen=True):
    """`rounds` pairs of samples; `short` samples show that a benchmark works, not what it measures."""

    rounds: int
    short: bool = False

    def size(self, full: int) -> int:
        """How many units to do instead of `full`."""
        return max(1, full // 10) if self.short else full

    def seconds(self, full: float) -> float:
        """How long to measure instead of `full`."""
        return full / 5 if self.short else full


class Outcome(msgspec.Struct, frozen=True):
    """`figure` and `floor` are medians in `unit`; `ratio` is the median of the pairwise ratios,
    `spread` their (max - min) / median."""

    name: str
    unit: str
    figure: float
    floor: float
    ratio: float
    spread: float
    machine: str
    goal: float | None = None
    """The ratio (or, where there is none, the figure) that the project wants to stay under."""
    detail: dict[str, Any] = {}


async def alternate(
    name: str, unit: str, floor: Sample, real: Sample, effort: Effort, goal: float | None, **detail: Any
) -> Outcome:
    """Take both samples `effort.rounds` times in turn, after one of each that does not count."""
    pairs: list[tuple[float, float]] = []
    rounds = effort.rounds
    for number in range(rounds + 1):
        below, above = await floor(), await real()
        progress(f"{name}: round {number}/{rounds}: floor {below:.3f}, real {above:.3f} {unit}, x {above / below:.2f}")
        if number:
            pairs.append((below, above))
    return outcome(name, unit, [a for _, a in pairs], [b for b, _ in pairs], goal, **detail)


def outcome(
    name: str, unit: str, real: Sequence[float], floor: Sequence[float], goal: float | None, **detail: Any
) -> Outcome:
    ratios = [above / below for above, below in zip(real, floor, strict=True)]
    ratio = statistics.median(ratios)
    return Outcome(
        name,
        unit,
        round(statistics.median(real), 4),
        round(statistics.median(floor), 4),
        round(ratio, 3),
        round((max(ratios) - min(ratios)) / ratio, 3),
        machine(),
        goal,
        detail,
    )


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def machine() -> str:
    """Processor, cores and Python, in one line."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text("utf-8").splitlines()
    except OSError:
        return []


def cpu_s(pid: int) -> float:
    """CPU time of all threads of a process so far, from the scheduler's own account."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except (OSError, IndexError):
            continue  # the thread has ended
    return total / 1e9


def rss_kib(pid: int) -> int:
    """Memory of a process that is its own (anonymous pages)."""
    for line in _lines(f"/proc/{pid}/status"):
        if line.startswith("RssAnon:"):
            return int(line.split()[1])
    raise Unavailable(f"process {pid} has ended")


def pin(pid: int, processors: Sequence[int]) -> None:
    """Keep a process, all its threads, on `processors`."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), processors)


ALLOWED = sorted(os.sched_getaffinity(0))


def cpus() -> tuple[list[int], list[int]]:
    """Processors for the serving process and for the one that drives it; the same on a machine
    that gives only one."""
    return ALLOWED[:1], ALLOWED[1:2] or ALLOWED[:1]


@contextmanager
def pinned(processors: Sequence[int]) -> Iterator[None]:
    """This process on `processors` for as long as the block lasts."""
    before = os.sched_getaffinity(0)
    pin(os.getpid(), processors)
    try:
        yield
    finally:
        pin(os.getpid(), sorted(before))


class Served:
    """A serving process of a benchmark: prints one line of JSON when it is ready. What it says
    on standard error is shown, its end only, if it fails. It keeps its bytecode, as an installed program has it:
    to compile a node takes longer than to start it."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = list(arguments)
        self.ready: dict[str, Any] = {}
        self._said = TemporaryFile()  # noqa: SIM115 - closed at exit
        self._process: asyncio.subprocess.Process

    @property
    def pid(self) -> int:
        return self._process.pid

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            *self._arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._said,
            env={name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        )
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                line = await self._process.stdout.readline()
        except TimeoutError:
            await self.__aexit__()
            raise Unavailable(f"{self._arguments[0]} does not get ready{self._last_words()}") from None
        if not line:
            await self.__aexit__()
            raise Unavailable(f"{self._arguments[0]} ended while starting{self._last_words()}")
        self.ready = msgspec.json.decode(line)
        pin(self.pid, cpus()[0])
        return self

    def said_lines(self) -> int:
        """Lines that it has written to standard error so far."""
        descriptor, lines, at = self._said.fileno(), 0, 0
        while some := os.pread(descriptor, 1 << 20, at):  # a seek would move the process's own place too
            lines, at = lines + some.count(b"\n"), at + len(some)
        return lines

    def _last_words(self) -> str:
        self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - TAIL_BYTES))
        return f": {self._said.read().decode(errors='replace').strip()}"

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            signal_child(self._process, signal.SIGTERM)
            try:
                async with asyncio.timeout(15):
                    await self._process.wait()
            except TimeoutError:
                signal_child(self._process, signal.SIGKILL)
                await self._process.wait()


async def cpu_us_per_unit(pid: int, seconds: float, units: Callable[[], Awaitable[int]]) -> float:
    """CPU time of `pid` per unit, in us, over `seconds`; `units` counts them."""
    units_before, cpu_before = await units(), cpu_s(pid)
    await asyncio.sleep(seconds)
    cpu_after, units_after = cpu_s(pid), await units()
    if units_after <= units_before:
        raise Unavailable("the load generator got no answers")
    return (cpu_after - cpu_before) * 1e6 / (units_after - units_before)


def process_us(work: Callable[[], None], units: int) -> float:
    """CPU time of this process per unit, in us: the least disturbed of many short goes."""
    best = math.inf
    for _ in range(GOES):
        begin = time.process_time()
        work()
        best = min(best, time.process_time() - begin)
    return best * 1e6 / units
