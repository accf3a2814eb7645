"""The program `garrison` as a process of its own, with its standard error read as it comes, and
what is left running in its directory; or in this process, where no test asks for another one."""

import contextlib
import io
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from server.cli.app import run

ROOT = Path(__file__).resolve().parents[2]
PATHS = os.pathsep.join(map(str, (ROOT, ROOT / "clients/bots", ROOT / "clients/python/src")))


def sdk_example(call: str) -> str:
    """The example of `call` in the README of the SDK."""
    page = (ROOT / "clients/python/README.md").read_text("utf-8")
    return next(code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if call in code)


def environment() -> dict[str, str]:
    """This process's variables without settings, with the tree's packages in reach."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GARRISON_")}
    return {**clean, "PYTHONPATH": PATHS, "PYTHONUNBUFFERED": "1"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "server.main", *arguments]


def garrison(*arguments: str, cwd: Path, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    """Run to the end."""
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )


def here(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run to the end in this process: a fresh one costs most of a second of imports each time."""
    said, failed = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        for name in [name for name in os.environ if name.startswith("GARRISON_")]:
            patch.delenv(name)
        for name, value in environ.items():
            patch.setenv(name, value)
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(failed):
            code = run(arguments)
    return subprocess.CompletedProcess(arguments, code, said.getvalue(), failed.getvalue())


class Running:
    """`garrison …` in the background; leaving the block kills it, and with it its children."""

    def __init__(self, *arguments: str, cwd: Path) -> None:
        self.cwd = cwd
        self.lines: list[str] = []
        self._coming: queue.Queue[str | None] = queue.Queue()
        self.process = subprocess.Popen(
            command(*arguments),
            cwd=cwd,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._coming.put(line.rstrip("\n"))
        self._coming.put(None)

    def line(self, having: str, timeout_s: float = 60) -> str:
        """The next line of standard error that has `having`."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                line = self._coming.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {having!r} within {timeout_s} s: {self.lines}") from None
            assert line is not None, f"ended without {having!r}: {self.lines}"
            self.lines.append(line)
            if having in line:
                return line

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def end(self, timeout_s: float = 60) -> tuple[int, str]:
        """Wait for the end: exit code and standard output. `lines` then has all of the rest."""
        assert self.process.stdout is not None
        self.process.wait(timeout_s)
        self._reader.join(timeout_s)
        self.lines.extend(iter(self._coming.get, None))
        return self.process.returncode, self.process.stdout.read()

    def figures(self, timeout_s: float = 60, codes: tuple[int, ...] = (0,)) -> dict[str, Any]:
        """Wait for a good end, or one with an exit code of `codes`; the one line of JSON on standard output."""
        code, said = self.end(timeout_s)
        assert code in codes, (code, said, self.lines)
        lines = said.splitlines()
        assert len(lines) == 1, said
        figures: dict[str, Any] = json.loads(lines[0])
        return figures

    def __enter__(self) -> "Running":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(5)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        assert none_left(self.cwd), f"still running in {self.cwd}: {processes_in(self.cwd)}"


def processes_in(cwd: Path) -> dict[int, str]:
    """Processes that run in this directory: pid to command line. A demo's children run in it."""
    found = {}
    for place in Path("/proc").iterdir():
        if not place.name.isdigit() or int(place.name) == os.getpid():
            continue
        try:
            if (place / "cwd").resolve(strict=True) == cwd.resolve() and (line := (place / "cmdline").read_bytes()):
                found[int(place.name)] = line.replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue  # it ended, or is somebody else's
    return found


def none_left(cwd: Path, within_s: float = 15) -> bool:
    """Whether nothing runs in this directory any more, soon."""
    deadline = time.monotonic() + within_s
    while processes_in(cwd):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
