"""Upgrades of a node as operators see them: begun by its admin API or by a signal, one at a time, with their reasons.

A succession ends this process, so what came of it only the heir can tell: `Birth` is what that was given of it.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import msgspec
import structlog

from server.errors import CalledOff, GarrisonError

ENDS_WITH_CHILD: Final = frozenset({"tini", "docker-init", "dumb-init", "catatonit", "pid1"})
"""First processes of containers, which end the container as soon as the process that they have started ends."""
STARTED_BY_SYSTEMD: Final = "SYSTEMD_EXEC_PID"
"""The variable in which systemd names the process that it has executed itself."""
STOPS: Final = "this node stops"

log = structlog.get_logger(__name__)


class Birth(msgspec.Struct, frozen=True):
    """The figures of the succession that this process came of: see `Upgrade` in `server/admin/answers.py`."""

    pause_ms: float = 0.0
    sessions_moved: int = 0
    sessions_going: int = 0


class Running(Protocol):
    """A succession that goes on, as the predecessor runs it."""

    async def run(self) -> None:
        """Returns never once it has gone over. Raises `CalledOff`."""
        ...

    def progress(self) -> Mapping[str, Any]:
        """`phase`, `copied` and `total`."""
        ...


class Upgrades:
    """See the module's head. `predecessor` makes a succession of the node; `refused` gives the reason why none can be,
    empty where it can."""

    def __init__(
        self,
        predecessor: Callable[[], Running],
        generation: int = 0,
        birth: Birth | None = None,
        refused: Callable[[], str] = lambda: refused(os.environ),
    ) -> None:
        self._predecessor, self._refused = predecessor, refused
        self.generation = generation
        self._birth = birth or Birth()
        self._running: Running | None = None
        self._task: asyncio.Task[None] | None = None
        self._why = ""
        self._over = False

    def begin(self) -> None:
        """Begin a succession, unless it goes on already. Raises `CalledOff` where it cannot be."""
        if self._running is not None:
            return
        if why := STOPS if self._over else self._refused():
            self._why = why
            raise CalledOff(why)
        self._why = ""
        self._running = self._predecessor()
        self._task = asyncio.get_running_loop().create_task(self._run(self._running), name="upgrade")

    async def _run(self, running: Running) -> None:
        try:
            await running.run()
        except asyncio.CancelledError:
            self._why = STOPS
            raise
        except GarrisonError as error:
            self._why = error.message  # logged already
        except Exception as error:
            self._why = f"the upgrade failed inside the server: {type(error).__name__}: {str(error)[:200]}"
            log.exception("the upgrade failed, the node goes on")
        finally:
            self._running = None

    def progress(self) -> dict[str, Any]:
        """The fields of `Upgrade` but for the node."""
        told = self._running.progress() if self._running is not None else {}
        return {
            "generation": self.generation,
            "process": os.getpid(),
            "running": self._running is not None,
            "phase": str(told.get("phase", "")),
            "copied": int(told.get("copied", 0)),
            "total": int(told.get("total", 0)),
            "why": self._why,
            **msgspec.structs.asdict(self._birth),
        }

    async def stop(self) -> None:
        """Call off what goes on, and let none begin: the node is about to stop."""
        self._over = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


def refused(environment: Mapping[str, str]) -> str:
    """The reason why this process is not followed by what has started it; empty where nothing says so.

    systemd follows MAINPID to a process that is not its child, and takes it for none of its own from then on: at a stop
    it does not wait for it, but kills it at once. Without MAINPID it ends the service with this process."""
    if environment.get(STARTED_BY_SYSTEMD) == str(os.getpid()):
        return (
            "systemd has started this very process, and would not stop another one in order: let its unit start "
            "`garrison node --supervised`, or drain the node and start it again"
        )
    if environment.get("NOTIFY_SOCKET"):
        return ""
    if os.getpid() == 1:
        return (
            "this node is the first process of its container, which ends with it: start it with `garrison node"
            " --supervised`, or drain it and start it again"
        )
    first = _first_process() if os.getppid() == 1 else ""
    if first in ENDS_WITH_CHILD:
        return (
            f"{first}, the first process of this container, ends with the process that it has started: let it start "
            "`garrison node --supervised`, or drain the node and start it again"
        )
    return ""


def _first_process() -> str:
    try:
        with open("/proc/1/comm") as file:
            return file.read().strip()
    except OSError:
        return ""
