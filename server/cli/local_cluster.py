"""Nodes as operating-system processes of this machine: what `demo`, `play` and `chaos` run on.

Each node is `python -m server.main node` in a process group of its own, so that Ctrl-C reaches
only the parent, which then stops its children in order. A child dies with its parent. Nodes
write their logs to `HOME/NAME.log` and one line of JSON to standard output once they are ready.
"""

import asyncio
import base64
import contextlib
import ctypes
import fcntl
import functools
import itertools
import json
import os
import secrets
import shlex
import signal
import socket
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from server.cli.config import read_settings
from server.cli.node_process import NodeProcess
from server.drivers import upgrade_store
from server.errors import BadSetting, Unavailable
from server.runtime.admin_token import new_admin_token
from server.runtime.process import signal_child
from server.transport.addresses import join_endpoint

LOOPBACK: Final = "127.0.0.1"
_GATEWAY, _ADMIN, _GOSSIP, _TRANSPORT = 0, 10, 20, 30  # offsets from the base port
FREE_PORTS: Final = range(18_000, 32_000)
"""Searched for ports that nobody asked for. The kernel gives connections ports from 32768 on."""
PORTS_A_CLUSTER: Final = 20
RESTART: Final = """\
# Asks the process that started {name} to start it again.
: >{wish} || exit 1
for _ in 1 2 3 4 5 6 7 8 9 10; do
  sleep 0.5
  [ -e {wish} ] || exit 0
done
rm -f {wish}
echo "nobody starts {name} again: what started it is gone" >&2
exit 1
"""
_searches = itertools.count()
_PR_SET_PDEATHSIG: Final = 1
_CLONE_NEWNET: Final = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Home:
    """The directory of a local cluster: database, keys, settings, logs. It can be read by its user alone."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.config = self.path / "garrison.toml"
        self.database = self.path / "garrison.db"
        self.key_file = self.path / "signing.key"

    def prepare(self, cluster: str, place: "NodePlace", url: str | None = None) -> None:
        """Make the directory, or take it over from an earlier run with its keys, its dashboard
        token and its database (or the one at `url`). Raises `BadSetting` where it cannot be written."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.path.chmod(0o700)
            if (url or self.url) == self.url:
                _make_private(self.database)
            for file in (*self.path.glob(f"{self.database.name}-*"), *self.path.glob("*.log")):
                _make_private(file)  # as earlier versions have left them
            if not self.key_file.exists():
                _write_private(self.key_file, secrets.token_hex(32) + "\n")
            token = self._kept("admin", "token") or new_admin_token()
            key = self._kept("security", "cluster_key") or base64.b64encode(secrets.token_bytes(32)).decode()
            _write_private(self.config, self._settings(cluster, place, token, key, url or self.url))
        except OSError as error:
            raise BadSetting("home", f"cannot write {error.filename}: {error.strerror}") from None

    @property
    def url(self) -> str:
        """The URL of its own database."""
        return f"sqlite:///{self.database}"

    @property
    def admin_token(self) -> str:
        return self._kept("admin", "token") or ""

    def log(self, name: str) -> Path:
        return self.path / f"{name}.log"

    def _kept(self, section: str, name: str) -> str | None:
        """A secret of an earlier run."""
        try:
            secret = tomllib.loads(self.config.read_text("utf-8"))[section][name]
        except (OSError, KeyError, tomllib.TOMLDecodeError):
            return None
        return secret if isinstance(secret, str) else None

    def _settings(self, cluster: str, place: "NodePlace", token: str, key: str, url: str) -> str:
        return "\n".join(
            (
                "# Written by garrison at each start; every command run beside it finds it.",
                f'cluster = "{cluster}"',
                "",
                "[store]",
                f"url = {json.dumps(url)}",
                "",
                "[security]",
                f"signing_key_file = {json.dumps(str(self.key_file))}",
                f"cluster_key = {json.dumps(key)}",
                "",
                "# A node that runs; when it dies, the demo writes another one's ports here.",
                "[gateway]",
                f"host = {json.dumps(place.host)}",
                f"port = {place.gateway}",
                "",
                "[admin]",
                f"host = {json.dumps(place.host)}",
                f"port = {place.admin}",
                f"token = {json.dumps(token)}",
                "",
            )
        )


class NodePlace(NamedTuple):
    """The addresses on which a node listens. `namespace`: a file descriptor of the network namespace that it lives in;
    None: this process's own."""

    host: str
    gateway: int
    admin: int
    gossip: int
    transport: int
    namespace: int | None = None

    def settings(self, seeds: Sequence["NodePlace"]) -> list[str]:
        """Assignments for a node here."""
        return [
            f"gateway.host={self.host}",
            f"gateway.port={self.gateway}",
            f"admin.host={self.host}",
            f"admin.port={self.admin}",
            f"gossip.bind={join_endpoint(self.host, self.gossip)}",
            f"gossip.seeds={','.join(join_endpoint(seed.host, seed.gossip) for seed in seeds if seed is not self)}",
            f"transport.host={self.host}",
            f"transport.port={self.transport}",
        ]


class LocalCluster:
    """Nodes node-1, node-2, …; `assignments` are settings for all of them. They live on loopback from
    port `port` on (0: free ones), or at `places`, of which there may be more than `nodes`: others can be
    launched later."""

    def __init__(
        self, home: Home, nodes: int, port: int, assignments: list[str], places: Sequence[NodePlace] | None = None
    ) -> None:
        self.home = home
        self.assignments = assignments
        self.size = nodes
        if places is None:
            places = [loopback(index, port) for index in range(nodes)] if port else free_places(nodes)
            for place in places if port else ():
                _check_free(place)
        self.places = list(places)
        self.nodes: list[NodeProcess] = []
        """The newest process of each node."""
        self.settings_of: Callable[[str], Sequence[str]] = lambda name: ()
        """Assignments for the next process of that node alone."""
        self.orphaned = signal.SIGTERM
        """Signal that the nodes get when this process dies. A process that is stopped heeds only SIGKILL."""
        self._cluster = self._url = ""

    @property
    def gateways(self) -> list[str]:
        """URLs that clients may connect to, one for each node that runs."""
        return [node.ready["client_url"] for node in self.nodes if node.running and node.ready]

    async def prepare(self, cluster: str, url: str | None = None) -> None:
        """Write the home's files and bring its database, or the one at `url`, up to date. Raises
        `BadSetting`, `Unavailable`."""
        self._cluster, self._url = cluster, url or self.home.url
        self.home.prepare(cluster, self.places[0], url)
        await upgrade_store(read_settings(self.home.config, [*self.assignments, f"store.url={self._url}"]))

    async def start(self, progress: Callable[[str], None]) -> None:
        """Start `size` nodes and wait until they serve. Raises `BadSetting`, `Unavailable`."""
        for index in range(self.size):
            progress(f"starting {name_of(index)} ({index + 1}/{self.size})")
            node = await self._spawn(index)
            if index == 0:
                await node.wait_ready()  # the first one makes what the others share
        await asyncio.gather(*(node.wait_ready() for node in self.nodes[1:]))

    async def launch(self, index: int) -> NodeProcess:
        """Start node `index`, which is not running (at most the first one that never was), and wait
        until it serves. Raises `Unavailable`."""
        node = await self._spawn(index)
        await node.wait_ready()
        return node

    def write_restart(self, index: int) -> Path:
        """A shell script that asks this process to start node `index` again, once it is gone (see `asked_again`); for a
        person."""
        name = name_of(index)
        script, wish = self.home.path / f"{name}.sh", self._wish(index)
        wish.unlink(missing_ok=True)
        _write_private(script, RESTART.format(name=name, wish=shlex.quote(str(wish))))
        return script

    def asked_again(self) -> Iterator[int]:
        """The nodes that their scripts have asked to start again, each once."""
        for index in range(len(self.nodes)):
            with contextlib.suppress(FileNotFoundError):
                self._wish(index).unlink()
                yield index

    def _wish(self, index: int) -> Path:
        return self.home.path / f"{name_of(index)}.again"

    def arguments(self, index: int) -> list[str]:
        """The words of the command that node `index` is."""
        name = name_of(index)
        arguments = ["node", "--config", str(self.home.config), "--name", name]
        seeds = self.places[: max(self.size, index)]
        for setting in (*self.places[index].settings(seeds), *self.assignments, *self.settings_of(name)):
            arguments += ["--set", setting]
        return arguments

    async def _spawn(self, index: int) -> NodeProcess:
        name, place = name_of(index), self.places[index]
        arguments = self.arguments(index)
        log = self.home.log(name)
        again = index < len(self.nodes)
        process = await spawn_self(arguments, log, namespace=place.namespace, append=again, orphaned=self.orphaned)
        node = NodeProcess(name, process, log)
        self.nodes[index : index + 1] = [node]
        return node

    def point_home(self) -> NodeProcess | None:
        """Let the home's settings name a node that runs: commands beside them ask that one. None
        if no node runs."""
        for node, place in zip(self.nodes, self.places, strict=False):
            if node.running:
                self.home.prepare(self._cluster, place, self._url)
                return node
        return None

    async def stop(self) -> None:
        """Stop the nodes one after the other, the last one first."""
        for node in reversed(self.nodes):
            await node.stop()

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()


@contextlib.contextmanager
def alone(home: Path) -> Iterator[None]:
    """Hold the lock of a directory, which has one cluster at a time. Raises `BadSetting` where another one runs or
    nothing can be written."""
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


async def spawn_self(
    arguments: list[str],
    log: Path,
    *,
    namespace: int | None = None,
    append: bool = False,
    orphaned: signal.Signals = signal.SIGTERM,
) -> asyncio.subprocess.Process:
    """This program again, with `arguments`, its standard output a pipe, its errors in `log`. It runs in
    the network `namespace`, a file descriptor, if there is one, and gets the signal `orphaned` when
    this process dies."""

    _make_private(log)
    with log.open("ab" if append else "wb") as errors:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "server.main",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
            preexec_fn=dying_with(orphaned, namespace),
            limit=1024 * 1024,
        )


def dying_with(parent: signal.Signals, namespace: int | None = None) -> Callable[[], None]:
    """Make the first act of a child process: to ask for the signal `parent` when this process dies, and to enter the
    network namespace."""

    def begin() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, parent)
        if namespace is not None and _libc.setns(namespace, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")

    return begin


async def stop_process(process: asyncio.subprocess.Process, timeout_s: float) -> bool:
    """Ask with SIGTERM, wait, then SIGKILL. True if it ended by itself."""
    if process.returncode is not None:
        return True
    signal_child(process, signal.SIGTERM)
    try:
        async with asyncio.timeout(timeout_s):
            await process.wait()
    except TimeoutError:
        signal_child(process, signal.SIGKILL)
        await process.wait()
        return False
    return True


def name_of(index: int) -> str:
    """The name of node `index`, counted from 0."""
    return f"node-{index + 1}"


def loopback(index: int, base: int) -> NodePlace:
    """The place of node `index` above port `base`."""
    return NodePlace(
        LOOPBACK, base + _GATEWAY + index, base + _ADMIN + index, base + _GOSSIP + index, base + _TRANSPORT + index
    )


def free_places(nodes: int) -> list[NodePlace]:
    """Places on ports that are free now, for TCP and for UDP.

    They lie below the ports that the kernel gives to connections, where any program's next
    connection could take one before its node binds it. A port that is found is reserved until this
    process ends: another process that starts a cluster at the same time would find it free too, as no
    node has bound it yet. Each search begins elsewhere, so that two clusters of one process differ.

    Raises `Unavailable` if there are too few."""
    found: list[int] = []
    start = (os.getpid() + next(_searches)) * PORTS_A_CLUSTER % len(FREE_PORTS)
    for port in (*FREE_PORTS[start:], *FREE_PORTS[:start]):
        if reserve(port) and _is_free(port):
            found.append(port)
        if len(found) == nodes * 4:
            return [NodePlace(LOOPBACK, *found[i : i + 4]) for i in range(0, nodes * 4, 4)]
    raise Unavailable(f"no {nodes * 4} ports are free from {FREE_PORTS.start} to {FREE_PORTS.stop - 1}")


@functools.cache
def _reservations() -> int:
    """The descriptor of the file whose byte N a process of this user locks while it has port N. It stays open:
    to close it would end the locks."""
    path = Path(tempfile.gettempdir(), f"garrison-ports-{os.getuid()}")
    return os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def reserve(port: int) -> bool:
    """Reserve `port` for this process, until its end. False where another process has it."""
    try:
        fcntl.lockf(_reservations(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except BlockingIOError:
        return False
    return True


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                return False
    return True


def _check_free(place: NodePlace) -> None:
    for port in (place.gateway, place.admin, place.gossip, place.transport):
        with socket.socket(socket.AF_INET6 if ":" in place.host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((place.host, port))
            except OSError as error:
                raise BadSetting(
                    "port", f"{port} cannot be used ({error.strerror}); --port 0 takes free ones"
                ) from None


def _make_private(path: Path) -> None:
    """Make sure that it is there, and that only this user can read it. What SQLite makes beside a database gets the
    same mode."""
    path.touch(mode=0o600)
    path.chmod(0o600)


def _write_private(path: Path, text: str) -> None:
    """Write it whole or not at all, and so that only this user can read it."""
    beside = path.with_name(path.name + ".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(beside, path)
