"""Nodes as operating-system processes on loopback: what `demo` and `play` run on.

Each node is `python -m server.main node` in a process group of its own, so that Ctrl-C reaches
only the parent, which then stops its children in order. A child dies with its parent. Nodes
write their logs to `HOME/NAME.log` and one line of JSON to standard output once they are ready.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import json
import os
import secrets
import signal
import socket
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from server.errors import BadSetting, Unavailable

LOOPBACK: Final = "127.0.0.1"
READY_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 30.0
_GATEWAY, _ADMIN, _GOSSIP, _TRANSPORT = 0, 10, 20, 30  # offsets from the base port
_PR_SET_PDEATHSIG: Final = 1
_libc = ctypes.CDLL(None, use_errno=True)


class Home:
    """The directory of a local cluster: database, signing key, settings, logs."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.config = self.path / "garrison.toml"
        self.database = self.path / "garrison.db"
        self.key_file = self.path / "signing.key"

    def prepare(self, cluster: str, gateway_port: int, admin_port: int) -> None:
        """Make the directory, or take it over from an earlier run with its key, its dashboard
        token and its database. Raises `BadSetting` where it cannot be written."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not self.key_file.exists():
                _write_private(self.key_file, secrets.token_hex(32) + "\n")
            token = self._kept_token() or secrets.token_urlsafe(18)
            _write_private(self.config, self._settings(cluster, gateway_port, admin_port, token))
        except OSError as error:
            raise BadSetting("home", f"cannot write {error.filename}: {error.strerror}") from None

    @property
    def admin_token(self) -> str:
        return self._kept_token() or ""

    def log(self, name: str) -> Path:
        return self.path / f"{name}.log"

    def _kept_token(self) -> str | None:
        try:
            token = tomllib.loads(self.config.read_text("utf-8"))["admin"]["token"]
        except (OSError, KeyError, tomllib.TOMLDecodeError):
            return None
        return token if isinstance(token, str) else None

    def _settings(self, cluster: str, gateway_port: int, admin_port: int, token: str) -> str:
        return "\n".join(
            (
                "# Written by garrison at each start; every command run beside it finds it.",
                f'cluster = "{cluster}"',
                "",
                "[store]",
                f"url = {json.dumps(f'sqlite:///{self.database}')}",
                "",
                "[security]",
                f"signing_key_file = {json.dumps(str(self.key_file))}",
                "",
                "# A node that runs; when it dies, the demo writes another one's ports here.",
                "[gateway]",
                f"port = {gateway_port}",
                "",
                "[admin]",
                f"port = {admin_port}",
                f"token = {json.dumps(token)}",
                "",
            )
        )


class NodeProcess:
    """One node: `ready` is what it said when it was, empty until then."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log
        self.ready: dict[str, Any] = {}
        self.stopping = False

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.returncode is None

    async def wait_ready(self) -> None:
        """Until the node says that it serves. Raises `Unavailable` with its last words."""
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                line = await self.process.stdout.readline()
        except TimeoutError:
            raise Unavailable(f"{self.name} is not ready after {READY_TIMEOUT_S:.0f} s; see {self.log}") from None
        if not line:
            await self.process.wait()
            raise Unavailable(f"{self.name} stopped while starting: {last_words(self.log)}")
        self.ready = json.loads(line)


class LocalCluster:
    """`names` are node-1, node-2, …; `assignments` are settings for all of them."""

    def __init__(self, home: Home, nodes: int, port: int, assignments: list[str]) -> None:
        self.home = home
        self.names = [f"node-{number}" for number in range(1, nodes + 1)]
        self.assignments = assignments
        self.ports = [ports_of(index, port) for index in range(nodes)] if port else free_ports(nodes)
        if port:
            for ports in self.ports:
                _check_free(ports)
        self.nodes: list[NodeProcess] = []
        self._cluster = ""

    @property
    def gateways(self) -> list[str]:
        """Where clients may connect, a URL a node that runs."""
        return [node.ready["client_url"] for node in self.nodes if node.running and node.ready]

    async def prepare(self, cluster: str) -> None:
        """Write the home's files and bring its database up to date. Raises `BadSetting`."""
        from migrations import upgrade_async

        gateway, admin, _, _ = self.ports[0]
        self.home.prepare(cluster, gateway, admin)
        self._cluster = cluster
        await upgrade_async(f"sqlite:///{self.home.database}")

    async def start(self, progress: Callable[[str], None]) -> None:
        """Start all nodes and wait until they serve. Raises `BadSetting`, `Unavailable`."""
        for index, name in enumerate(self.names):
            progress(f"starting {name} ({index + 1}/{len(self.names)})")
            node = await self._spawn(index)
            self.nodes.append(node)
            if index == 0:
                await node.wait_ready()  # it makes what the others share
        await asyncio.gather(*(node.wait_ready() for node in self.nodes[1:]))

    async def _spawn(self, index: int) -> NodeProcess:
        gateway, admin, gossip, transport = self.ports[index]
        seeds = ",".join(f"{LOOPBACK}:{ports[2]}" for ports in self.ports if ports is not self.ports[index])
        settings = [
            f"gateway.port={gateway}",
            f"admin.port={admin}",
            f"gossip.bind={LOOPBACK}:{gossip}",
            f"gossip.seeds={seeds}",
            f"transport.port={transport}",
            *self.assignments,
        ]
        name = self.names[index]
        arguments = ["node", "--config", str(self.home.config), "--name", name]
        for setting in settings:
            arguments += ["--set", setting]
        log = self.home.log(name)
        process = await spawn_self(arguments, log)
        return NodeProcess(name, process, log)

    def point_home(self) -> NodeProcess | None:
        """Let the home's settings name a node that runs: commands beside them ask that one. None
        if no node runs."""
        for node, (gateway, admin, _, _) in zip(self.nodes, self.ports, strict=True):
            if node.running:
                self.home.prepare(self._cluster, gateway, admin)
                return node
        return None

    async def stop(self) -> None:
        """Stop the nodes one after the other, the last one first."""
        for node in reversed(self.nodes):
            node.stopping = True
            await stop_process(node.process, STOP_TIMEOUT_S)

    def kill(self) -> None:
        for node in self.nodes:
            node.stopping = True
            kill_process(node.process)


@contextlib.contextmanager
def alone(home: Path) -> Iterator[None]:
    """One cluster a directory. Raises `BadSetting` where another one runs or nothing can be written."""
    place = home.parent / f"{home.name}.lock"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = place.open("w")
    except OSError as error:
        raise BadSetting("home", f"cannot write {error.filename}: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadSetting("home", f"another demo or `garrison play` is running in {home}") from None
        yield


async def spawn_self(arguments: list[str], log: Path) -> asyncio.subprocess.Process:
    """This program again, with `arguments`, its standard output a pipe, its errors in `log`."""
    with log.open("wb") as errors:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "server.main",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
            preexec_fn=_die_with_parent,
            limit=1024 * 1024,
        )


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


async def stop_process(process: asyncio.subprocess.Process, timeout_s: float) -> bool:
    """Ask with SIGTERM, wait, then SIGKILL. True if it ended by itself."""
    if process.returncode is not None:
        return True
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(timeout_s):
            await process.wait()
    except TimeoutError:
        kill_process(process)
        await process.wait()
        return False
    return True


def kill_process(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


def last_words(log: Path) -> str:
    """The last line that a child wrote to its log."""
    with contextlib.suppress(OSError):
        lines = log.read_text("utf-8", errors="replace").split("\n")
        for line in reversed(lines):
            if line.strip():
                return line.strip()[:300]
    return f"see {log}"


def ports_of(index: int, base: int) -> tuple[int, int, int, int]:
    """Gateway, admin, gossip and transport port of node `index`."""
    return (base + _GATEWAY + index, base + _ADMIN + index, base + _GOSSIP + index, base + _TRANSPORT + index)


def free_ports(nodes: int) -> list[tuple[int, int, int, int]]:
    """Ports that are free now, four a node."""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(nodes * 4):
            probe = stack.enter_context(socket.socket())
            probe.bind((LOOPBACK, 0))
            found.append(probe.getsockname()[1])
    return [(found[i], found[i + 1], found[i + 2], found[i + 3]) for i in range(0, nodes * 4, 4)]


def _check_free(ports: tuple[int, int, int, int]) -> None:
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError as error:
                raise BadSetting(
                    "port", f"{port} cannot be used ({error.strerror}); --port 0 takes free ones"
                ) from None


def _write_private(path: Path, text: str) -> None:
    """Write it whole or not at all, and so that only this user can read it."""
    beside = path.with_name(path.name + ".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(beside, path)
