"""This process, and its children, as the system sees them."""

import contextlib
import os
import signal
from asyncio.subprocess import Process
from pathlib import Path
from typing import Final

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def resident_bytes() -> int:
    """Resident memory of this process; 0 where the system does not tell."""
    return _pages()[0] * _PAGE_BYTES


def own_bytes() -> int:
    """Resident memory that is this process's alone: no program text, no mapped files, no shared memory; 0 where the
    system does not tell."""
    resident, shared = _pages()
    return (resident - shared) * _PAGE_BYTES


def _pages() -> tuple[int, int]:
    """Resident pages, and those of them that are shared or of a file."""
    try:
        with open("/proc/self/statm", "rb") as file:
            _, resident, shared, *_ = map(int, file.read().split())
            return resident, shared
    except (OSError, ValueError):
        return 0, 0


def signal_child(child: Process, number: signal.Signals) -> None:
    """Send a signal to a child of asyncio's; nothing where it has ended.

    The child's own `kill` reaps one that has ended a moment ago, ahead of its watcher, which then reports the exit code
    255 for it. Its number is nobody else's yet: the system gives numbers in order, and the watcher's word comes with
    the loop's next turn."""
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, number)


NICE: Final = 10


def give_way(oom_score: str) -> None:
    """Let this process have the time that nobody else wants, where the system knows that, and be killed early where
    memory runs out."""
    os.nice(NICE)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    set_oom_score("self", oom_score)


def set_oom_score(process: str, score: str) -> None:
    """Say how early a process is killed where memory runs out: -1000 to 1000. It stays as it was where that may not be
    said."""
    with contextlib.suppress(OSError, ValueError):
        Path(f"/proc/{process}/oom_score_adj").write_text(score)
