"""A program of this folder as a child process that is told lines and answers each with one."""

import asyncio
import signal
import sys
from typing import Final, Self

import msgspec

from server.errors import Unavailable
from server.runtime.process import signal_child

LINE_BYTES: Final = 64 * 1024 * 1024


class Lines:
    """The program runs while this is entered. `first` is the first line it is told, as JSON."""

    def __init__(self, module: str, first: msgspec.Struct) -> None:
        self._module, self._first = module, first
        self._process: asyncio.subprocess.Process
        self.first_answer: bytes

    async def __aenter__(self) -> Self:
        pipe, command = asyncio.subprocess.PIPE, (sys.executable, "-m", f"server.lab.bench.{self._module}")
        self._process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=LINE_BYTES)
        try:
            self.first_answer = await self.tell(msgspec.json.encode(self._first))
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        signal_child(self._process, signal.SIGKILL)
        await self._process.wait()

    async def tell(self, line: bytes) -> bytes:
        """The program's answer. Raises `Unavailable` where it has ended."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(line + b"\n")
        await stdin.drain()
        answer = await stdout.readline()
        if not answer:
            raise Unavailable(f"{self._module} ended; its error is above")
        return answer
