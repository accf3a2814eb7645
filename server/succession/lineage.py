"""The heir's process: what it is given for its start, how it ends its predecessor, and whose child it is then.

    garrison node ... --succeed CHANNEL:ERRORS:PREDECESSOR:PARENT:ORPHANED

CHANNEL is a socket to the predecessor, ERRORS the predecessor's standard error (the heir's own is a pipe at first, so
that the last words of a program that cannot even be loaded are heard), PREDECESSOR and PARENT are processes, and
ORPHANED is the signal that the predecessor asked for at the death of PARENT, 0 for none.

Until `go` the heir is the first to be killed where memory runs out. After it, it kills its predecessor by a descriptor
of that process, which no other process can come to have, and takes its place with PARENT.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Final, Self

import msgspec
import structlog

from server.errors import BadSetting, CalledOff
from server.runtime.process import set_oom_score

_PR_SET_PDEATHSIG: Final = 1
_PR_GET_PDEATHSIG: Final = 2
_libc: Final = ctypes.CDLL(None, use_errno=True)
KILLED_S: Final = 30.0
"""How long a predecessor that was killed may take to be gone: its memory is given back first."""

log = structlog.get_logger(__name__)


class Descent(msgspec.Struct, frozen=True):
    """See the module's head; text of an argument and back."""

    channel: int
    errors: int
    predecessor: int
    parent: int
    orphaned: int

    def text(self) -> str:
        return ":".join(str(getattr(self, name)) for name in self.__struct_fields__)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises `BadSetting` for a text that is none."""
        words = text.split(":")
        if len(words) != len(cls.__struct_fields__) or not all(word.isascii() and word.isdecimal() for word in words):
            raise BadSetting("succeed", "is for a node that starts its own heir: ask it with `garrison upgrade`")
        return cls(*map(int, words))


class Lineage:
    """The process of an heir, between its predecessor and what started that. `channel`: the socket to the predecessor,
    nonblocking. Raises `BadSetting` where no predecessor has started this process, `CalledOff` where that is gone."""

    def __init__(self, text: str) -> None:
        self.descent = descent = Descent.parse(text)
        try:
            self.predecessor = os.pidfd_open(descent.predecessor)
            if os.getppid() != descent.predecessor:  # else this number may be another process's by now
                raise CalledOff("the predecessor is gone")
            self.channel = socket.socket(fileno=descent.channel)
            os.set_inheritable(descent.channel, False)
            os.set_inheritable(descent.errors, False)
            self._words, self._errors = os.dup(2), descent.errors
        except OSError as error:
            why = f"is for a node that starts its own heir ({error.strerror}): ask it with `garrison upgrade`"
            raise BadSetting("succeed", why) from None
        self.channel.setblocking(False)
        self._parent = _process(descent.parent) if descent.orphaned else None
        self._oom_score = _oom_score(descent.predecessor)

    def take_outputs(self) -> None:
        """Write errors where the predecessor does, not through it any more."""
        if self._errors >= 0:
            sys.stderr.flush()
            os.dup2(self._errors, 2, inheritable=True)
            os.close(self._errors)
            self._errors = -1

    def tell(self, why: str) -> None:
        """Last words, by which the predecessor says why there is no heir."""
        with contextlib.suppress(OSError):
            os.write(self._words, f"{why}\n".encode())

    def kill_predecessor(self) -> None:
        """After the last word: end the predecessor for good, whatever it does."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.predecessor, signal.SIGKILL)

    async def take_its_place(self, within_s: float = KILLED_S) -> bool:
        """Take the predecessor's place, after the last word: wait until nothing of it is there any more, be killed for
        memory no sooner than it was, and end with what had started it. False where it is not gone in time: it hangs in
        the kernel."""
        loop, gone = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self.predecessor, gone.set)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await gone.wait()
        loop.remove_reader(self.predecessor)
        os.close(self.predecessor)
        os.close(self._words)
        set_oom_score("self", self._oom_score)
        if self._parent is not None:
            self._end_with_parent(self._parent)
        return gone.is_set()

    def _end_with_parent(self, parent: int) -> None:
        number = signal.Signals(self.descent.orphaned)
        if os.getppid() == self.descent.parent:
            _libc.prctl(_PR_SET_PDEATHSIG, number)
            if os.getppid() == self.descent.parent:
                os.close(parent)
                return
        # No child of it: whoever takes in orphans is the parent now, and its death would say nothing.
        asyncio.get_running_loop().add_reader(parent, os.kill, os.getpid(), number)


def signal_of_parents_death() -> int:
    """The signal that this process has asked for at its parent's death; 0 for none."""
    number = ctypes.c_int(0)
    return number.value if _libc.prctl(_PR_GET_PDEATHSIG, ctypes.byref(number)) == 0 else 0


def first_to_be_killed(process: int) -> None:
    """Let `process`, a child, be the first that the system kills where memory runs out."""
    set_oom_score(str(process), "1000")


def _oom_score(process: int) -> str:
    try:
        return Path(f"/proc/{process}/oom_score_adj").read_text().strip()
    except OSError:
        return "0"


def _process(number: int) -> int | None:
    """A descriptor of a process, or None where it is gone: its number may be another's by now."""
    with contextlib.suppress(OSError):
        return os.pidfd_open(number)
    return None
