"""Words to the service manager that has started this process, systemd or one of its kind (`sd_notify(3)`).

    READY=1                               the node serves
    RELOADING=1, MONOTONIC_USEC=...       it is busy with a succession; READY=1 ends that
    MAINPID=...                           another process is the service from now on
    STOPPING=1                            it stops

Each is a datagram to the socket that the variable NOTIFY_SOCKET names. Without it nobody is told anything. A service
manager that cannot be reached changes nothing for the node: it is logged.
"""

import array
import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Mapping
from typing import Final

import structlog

from server.errors import Unavailable

VARIABLE: Final = "NOTIFY_SOCKET"
BARRIER_S: Final = 5.0
"""How long the service manager may take to have read what it was told."""

log = structlog.get_logger(__name__)


class ServiceManager:
    """See the module's head. `environment`: where its socket is named."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.address = environment.get(VARIABLE, "")

    @property
    def there(self) -> bool:
        """Whether there is one."""
        return bool(self.address)

    def ready(self, status: str = "") -> None:
        """The node serves."""
        self._send("READY=1", *([f"STATUS={status}"] if status else []))

    def reloading(self) -> None:
        """A succession begins. It is over with `ready`, whoever says that."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    async def main_process(self, process: int, within_s: float = BARRIER_S) -> None:
        """Another process is the service now: returns once the service manager knows it. The end of this one means
        nothing then. Raises `Unavailable` where it cannot be told, or does not answer in time."""
        if not self.there:
            return
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        loop, told = asyncio.get_running_loop(), asyncio.Event()
        try:
            loop.add_reader(reading, told.set)  # its other end is closed when the datagram has been read
            try:
                told_all = self._send(f"MAINPID={process}") and self._send("BARRIER=1", descriptor=writing)
            finally:
                os.close(writing)
            if not told_all:
                raise Unavailable(f"the service manager at {self.address} cannot be told of another main process")
            async with asyncio.timeout(within_s):
                await told.wait()
        except TimeoutError:
            raise Unavailable(f"the service manager at {self.address} does not answer") from None
        finally:
            loop.remove_reader(reading)
            os.close(reading)

    def _send(self, *lines: str, descriptor: int | None = None) -> bool:
        """Whether it was sent; False too where there is nobody to send it to."""
        if not self.address:
            return False
        place = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        passed = [] if descriptor is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)) as sender:
            try:
                sender.settimeout(1.0)
                sender.sendmsg(["\n".join(lines).encode()], passed, 0, place)
            except OSError as error:
                log.warning("service manager cannot be told", told=lines[0], why=error.strerror or str(error))
                return False
        return True
