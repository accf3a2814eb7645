"""The launch of the heir: the program of this process once more, from what is installed now, beside it.

It is executed, never forked: a copy of this process would share its database connections, its locks and its threads'
half-done work. It inherits a socket to this process and this process's outputs, and no other descriptor. If it fails,
it is reaped and its last line of error is told; if this process dies before `go`, the socket closes, and it ends.
"""

import asyncio
import contextlib
import os
import select
import socket
import subprocess
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from server.errors import CalledOff, Unavailable
from server.runtime.process import own_bytes
from server.runtime.service_manager import ServiceManager
from server.succession.lineage import Descent, first_to_be_killed, signal_of_parents_death
from server.succession.program import FLAG, STARTED, Program, Start
from server.succession.room import check_room

LAST_WORDS_S: Final = 0.5
"""How long a process that has closed its socket may take to be gone."""
_LINE_CHARS: Final = 300
_PIPE_BYTES: Final = 65_536

log = structlog.get_logger(__name__)


class HeirProcess:
    """The process of an heir that was started, as its predecessor holds it. `channel`: this process's end of the socket
    between the two, nonblocking."""

    def __init__(
        self, process: subprocess.Popen[bytes], channel: socket.socket, errors: int, manager: ServiceManager
    ) -> None:
        self.channel = channel
        self.last_words = ""
        """The last line that it wrote to its standard error before its program was there."""
        self._where = ""
        """The place in a file that a traceback named last, in brackets; empty without one."""
        self._process, self._errors = process, errors
        self._descriptor = os.pidfd_open(process.pid)
        self._over = asyncio.Event()
        self._rest = b""
        self._manager = manager
        loop = asyncio.get_running_loop()
        loop.add_reader(self._descriptor, self._ended)
        loop.add_reader(errors, self._read)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._process.returncode

    async def wait(self) -> int:
        """Wait until it has ended; its exit code."""
        await self._over.wait()
        assert self._process.returncode is not None
        return self._process.returncode

    def why(self) -> str:
        """The reason why it ended, for people; empty while it runs. A process that has hung up ends in a moment."""
        if self.code is None and self._hung_up():
            ended = select.poll()
            ended.register(self._descriptor, select.POLLIN)
            if ended.poll(LAST_WORDS_S * 1000):
                self._ended()
        if self.code is None:
            return ""
        how = f"exit code {self.code}" if self.code >= 0 else f"signal {-self.code}"
        return f"the new program ended ({how}): {self.last_words or 'it said nothing'}{self._where}"

    async def end(self) -> None:
        """The succession is called off: kill it, reap it, and give back what belongs to it. Idempotent."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._over.wait()
        self.channel.close()
        self._manager.ready()

    def _hung_up(self) -> bool:
        try:
            return not self.channel.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError as error:
            return isinstance(error, ConnectionError)

    def _ended(self) -> None:
        if self._over.is_set() or self._process.poll() is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        while self._errors >= 0 and self._read():
            pass
        self._close_errors()
        self._over.set()

    def _read(self) -> bool:
        """Pass on what it wrote to its errors. False where there is no more for now."""
        try:
            data = os.read(self._errors, _PIPE_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._close_errors()
            return False
        with contextlib.suppress(OSError):
            os.write(2, data)
        *lines, self._rest = (self._rest + data)[-_PIPE_BYTES:].split(b"\n")
        for line in (*lines, self._rest):
            if text := line.decode(errors="replace").strip():
                self.last_words = text[:_LINE_CHARS]
                if text.startswith('File "'):
                    self._where = f" ({text.partition(', in ')[0]})"[:_LINE_CHARS]
        return True

    def _close_errors(self) -> None:
        if self._errors >= 0:
            asyncio.get_running_loop().remove_reader(self._errors)
            os.close(self._errors)
            self._errors = -1


class ServiceHerald:
    """Tells the service manager which process is the service."""

    def __init__(self, manager: ServiceManager) -> None:
        self._manager = manager

    async def goes_over(self, pid: int) -> None:
        """Before `go`, in good time: the end of this process is not the service's then. Raises `Unavailable` where the
        service manager does not hear that."""
        await self._manager.main_process(pid)

    async def called_off(self) -> None:
        """This process is the service after all."""
        with contextlib.suppress(Unavailable):  # logged
            await self._manager.main_process(os.getpid())


def launch(
    environment: Mapping[str, str],
    started: Start = STARTED,
    check: Callable[[int], None] = check_room,
) -> HeirProcess:
    """Start the program of this process once more, as an heir of it, with `environment`; the service manager that this
    names, if there is one, is told. Call it in the event loop.
    Raises `CalledOff` where there is no room, no program, or the system refuses."""
    check(own_bytes())
    ours, theirs = socket.socketpair()
    try:
        errors = os.dup(2)
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(writing, True)
        try:
            descent = Descent(theirs.fileno(), errors, os.getpid(), os.getppid(), signal_of_parents_death())
            program = started.again(environment, (FLAG, descent.text()))
            process = _execute(program, writing, (theirs.fileno(), errors))
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
            os.close(errors)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    first_to_be_killed(process.pid)
    ours.setblocking(False)
    manager = ServiceManager(environment)
    manager.reloading()
    log.info("the heir was started", pid=process.pid, program=program.arguments[0])
    return HeirProcess(process, ours, reading, manager)


def _execute(program: Program, errors: int, inherited: tuple[int, ...]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # returns once the program is executed
            program.arguments,
            stdin=subprocess.DEVNULL,
            stderr=errors,
            pass_fds=inherited,
            close_fds=True,
            cwd=program.directory,
            env=program.environment,
        )
    except OSError as error:
        why = f"{program.arguments[0]} cannot be started: {error.strerror or error}"
        if isinstance(error, FileNotFoundError) and os.path.exists(program.arguments[0]):
            why += " (the interpreter that its first line names)"
        raise CalledOff(why) from None
