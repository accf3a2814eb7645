"""The first process of a container, or of a service, above a node that changes its process.

    python -m server.cli.supervise COMMAND ...

A container ends with its first process, and whoever waits for a process takes the end of that for the end of what it
was. A node that is succeeded ends, and another process is the node. So this small process is the first: it starts the
node, passes signals on to the process that is the node now, reaps what was orphaned, and ends with the node's exit
code. It learns from the node itself which process that is, by the datagrams of `server/runtime/service_manager.py`.

Nothing but the standard library is imported here: this process stays for as long as the container does.
"""

import array
import contextlib
import ctypes
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

PASSED_ON: Final = (
    signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH,
)  # fmt: skip
VARIABLE: Final = "NOTIFY_SOCKET"
_PR_SET_CHILD_SUBREAPER: Final = 36
_CREDENTIALS: Final = struct.Struct("3i")
_DATAGRAM: Final = 4096


class Supervision:
    """See the module's head. `run` returns the exit code."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._above = os.environ.get(VARIABLE, "")
        self._codes: dict[int, int] = {}
        """Exit codes of processes that have ended just now, negative for a signal."""
        self._node = self._before = 0
        """The process that is the node, and the one that was until then while it still runs: 0 for none."""

    def run(self) -> int:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # as the first process it is that anyway
        waking, woken = socket.socketpair()
        with self._listen() as told, waking, woken:
            for end in (waking, woken, told):
                end.setblocking(False)
            signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
            for caught in (*PASSED_ON, signal.SIGCHLD):
                signal.signal(caught, lambda *_: None)  # a first process gets no signal that it has no handler for
            name = told.getsockname()
            address = "@" + name[1:].decode() if isinstance(name, bytes) else name
            try:
                node = subprocess.Popen(self._command, env={**os.environ, VARIABLE: address})
            except OSError as error:
                print(f"garrison: {self._command[0]}: {error.strerror}", file=sys.stderr)
                return 127
            self._node = node.pid
            ready = select.poll()
            ready.register(waking, select.POLLIN)
            ready.register(told, select.POLLIN)
            while True:
                ready.poll()
                self._hear(told)
                signals = self._signals(waking)
                self._reap()
                self._hear(told)  # said before it ended
                last = self._node
                if self._before in self._codes:
                    if last not in self._codes and not os.path.exists(f"/proc/{last}"):
                        last = self._before  # the predecessor has reaped its heir itself
                    self._before = 0
                if last in self._codes:
                    node.returncode = self._codes[last]
                    return node.returncode if node.returncode >= 0 else 128 - node.returncode
                self._codes.clear()  # their numbers may be other processes' from now on
                for number in signals:
                    for process in {self._node, self._before} - {0}:
                        if number != signal.SIGCHLD:
                            with contextlib.suppress(ProcessLookupError):
                                os.kill(process, number)

    def _listen(self) -> socket.socket:
        """The socket for what the node says: in no file system, which may be read-only."""
        told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        told.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        told.bind("")  # the kernel finds a name
        return told

    def _signals(self, waking: socket.socket) -> list[int]:
        found: list[int] = []
        with contextlib.suppress(BlockingIOError):
            while data := waking.recv(_DATAGRAM):
                found += data
        return found

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                process, status = found
                self._codes[process] = os.waitstatus_to_exitcode(status)

    def _hear(self, told: socket.socket) -> None:
        """Read what the node has said. Closing the descriptor that comes with a barrier says that it was read."""
        room = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(4 * 8)
        with contextlib.suppress(BlockingIOError):
            while True:
                data, ancillary, _, _ = told.recvmsg(_DATAGRAM, room)
                sender, user = 0, -1
                for level, kind, content in ancillary:
                    if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                        descriptors = array.array("i")
                        descriptors.frombytes(content[: len(content) // 4 * 4])
                        for descriptor in descriptors:
                            os.close(descriptor)
                    elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                        sender, user, _ = _CREDENTIALS.unpack(content[: _CREDENTIALS.size])
                if user == os.geteuid() and sender > 0:
                    self._heed(data.decode(errors="replace").split("\n"))

    def _heed(self, lines: list[str]) -> None:
        passed = []
        for line in lines:
            name, _, value = line.partition("=")
            if name != "MAINPID":
                passed.append(line)
            elif value.isdecimal() and (int(value) in self._codes or os.path.exists(f"/proc/{value}")):
                process = int(value)
                self._node, self._before = process, 0 if self._before == process else self._node
        if self._above and passed and passed[0] != "BARRIER=1":
            place = "\0" + self._above[1:] if self._above.startswith("@") else self._above
            with (
                contextlib.suppress(OSError),
                contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as sender,
            ):
                sender.sendto("\n".join(passed).encode(), place)


def main() -> int:
    """Supervise the command that the arguments are."""
    if len(sys.argv) < 2:
        print("usage: python -m server.cli.supervise COMMAND ...", file=sys.stderr)
        return 2
    return Supervision(sys.argv[1:]).run()


if __name__ == "__main__":
    sys.exit(main())
