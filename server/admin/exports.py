"""Exports in the admin API: `GET /exports/NAME/KEY`, a document that a command of the application writes.

Such a command reads the whole store, for minutes maybe, which is no work for a node's event loop. So it runs in a
process of its own that has less of the processor than the node, one at a time. It gets the settings of the node's store
by a file that nobody else can read; the document is unlinked before it is sent, and is gone with the answer.
"""

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import msgspec
from litestar import Request, get
from litestar.params import Parameter, PathParameter
from litestar.response import Stream

from server.actors.app import App, ExportCommand
from server.admin.own import logged
from server.errors import DeadlineExceeded, NotFound, Overloaded, Unavailable
from server.ids import actor_id, key_of
from server.runtime.process import signal_child
from server.settings import ENV_PREFIX, Settings

MAX_S: Final = 3_600.0
CHUNK_BYTES: Final = 64 * 1024
_SAID_BYTES: Final = 4_096
_PROGRAM: Final = "import os; os.nice(10); from server.main import main; main()"
Timeout = Annotated[float, Parameter(gt=0, le=MAX_S, description="seconds that it may take")]


class Exporter:
    """See the module's head."""

    def __init__(self, app: App, settings: Settings) -> None:
        self._commands, self._settings = app.exports, settings
        self._busy = False

    async def export(self, name: str, key: str, timeout_s: float) -> BinaryIO:
        """The document of export `name` about `key`, open and without a name. Raises `NotFound`, `BadInput`,
        `Overloaded`, `DeadlineExceeded`, `Unavailable`."""
        command = self._commands.get(name)
        if command is None:
            raise NotFound(f"no export {name[:64]!r}")
        key = key_of(actor_id("export", key))
        if self._busy:
            raise Overloaded("this node makes an export already", retry_after_s=5.0)
        self._busy = True
        directory = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="garrison-export-"))
        try:
            file = directory / "document"
            config = directory / "settings.toml"
            config.write_text(toml_of(self._settings), "utf-8")
            await self._run([*command.words, "--to", str(file), "--config", str(config), "--", key], command, timeout_s)
            return file.open("rb")
        finally:
            self._busy = False
            await asyncio.to_thread(shutil.rmtree, directory, True)

    async def _run(self, words: list[str], command: ExportCommand, timeout_s: float) -> None:
        environ = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}
        nowhere = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _PROGRAM, *words,
            stdin=nowhere, stdout=nowhere, stderr=asyncio.subprocess.PIPE, env=environ,
        )  # fmt: skip
        try:
            async with asyncio.timeout(timeout_s):
                assert process.stderr is not None
                said = b""
                while data := await process.stderr.read(_SAID_BYTES):
                    said = (said + data)[-_SAID_BYTES:]
                code = await process.wait()
        except TimeoutError:
            why = f"not done within {timeout_s:g} s: `garrison {' '.join(command.words)}` has all the time it needs"
            raise DeadlineExceeded(why) from None
        finally:
            signal_child(process, signal.SIGKILL)
            await process.wait()
        if code:
            lines = said.decode("utf-8", "replace").strip().splitlines()
            last = lines[-1].removeprefix("garrison: ") if lines else f"exit code {code}"
            raise NotFound(last) if command.nothing in last else Unavailable(last)


def toml_of(settings: Settings) -> str:
    """The settings that a command on the node's store needs: a text of JSON is one of TOML."""
    lines = [f"app = {json.dumps(settings.app)}"]
    for name in ("store", "application"):
        lines.append(f"[{name}]")
        fields: Mapping[str, Any] = msgspec.to_builtins(getattr(settings, name))
        lines += [f"{field} = {json.dumps(value)}" for field, value in fields.items() if value is not None]
    return "\n".join(lines) + "\n"


def export_handlers(exporter: Exporter) -> list[Any]:
    """The routes."""

    @get("/exports/{name:str}/{key:str}")
    async def export(
        name: Annotated[str, PathParameter(max_length=64)],
        key: Annotated[str, PathParameter(max_length=256)],
        request: Request[Any, Any, Any],
        timeout_s: Timeout = 60.0,
    ) -> Stream:
        """A document that the application makes of the whole store, as its command of the same kind does. One at a time
        of each node; reads only."""
        with logged(f"export {name} {key}", request):
            file = await exporter.export(name, key, timeout_s)
        return Stream(_chunks(file), media_type="application/json")

    return [export]


async def _chunks(file: BinaryIO) -> AsyncIterator[bytes]:
    with file:
        while data := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield data
