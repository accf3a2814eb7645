"""The engine under another application: a whole node, its real drivers, a file of SQLite, and the
standard WebSocket client. Nothing here is of the game, and the engine's files name it nowhere."""

import ast
import asyncio
import base64
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import websockets

import server
from server.drivers import build_node, build_store, signing_key, upgrade_store
from server.errors import BadSetting, Unavailable
from server.ids import NodeId, actor_id
from server.node import Node
from server.sessions.tokens import issue
from server.settings import Settings, from_tree
from tests.support.tiny import TinyApp
from tests.support.waiting import until

KEY = "a key of the tiny application's own, long enough"


def tiny_settings(folder: Path, **tree: Any) -> Settings:
    base: dict[str, Any] = {
        "app": "tests.support.tiny:TinyApp",
        "store": {"url": f"sqlite:///{folder}/tiny.db", "flush_interval_s": 0.05},
        "gateway": {"port": 0},
        "admin": {"port": 0, "token": "operator"},
        "security": {"signing_key": KEY},
        "log": {"level": "warning"},
    }
    for name, value in tree.items():
        base[name] = {**base.get(name, {}), **value} if isinstance(value, dict) else value
    return from_tree(base)


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    await upgrade_store(tiny_settings(tmp_path))
    return tmp_path


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Node]:
    node = build_node(settings)
    await node.start()
    try:
        yield node
    finally:
        await node.stop()


class Player:
    """Speaks arrays of msgpack or JSON, as `docs/protocol.md` has them."""

    def __init__(self, connection: websockets.ClientConnection, text: bool) -> None:
        self._connection, self._text = connection, text
        self._number = 1
        self.pushed: list[list[Any]] = []

    async def ask(self, type: str, *fields: Any) -> list[Any]:
        self._number += 1
        message = [type, self._number, *fields]
        await self._connection.send(
            msgspec.json.encode(message).decode() if self._text else msgspec.msgpack.encode(message)
        )
        while (answer := await self.next())[1] != self._number or answer[0] == "events":
            self.pushed.append(answer)
        return answer

    async def next(self) -> list[Any]:
        data = await self._connection.recv()
        return list(msgspec.json.decode(data) if isinstance(data, str) else msgspec.msgpack.decode(data))


@asynccontextmanager
async def player(node: Node, subject: str, format: str = "msgpack") -> AsyncIterator[Player]:
    key = signing_key(node.settings)
    async with websockets.connect(
        node.client_url, subprotocols=[websockets.Subprotocol(f"garrison.v1.{format}")]
    ) as connection:
        one = Player(connection, format == "json")
        assert (await one.ask("hello", issue(key, subject, "player", 60.0, node.clock.wall_ms())))[0] == "welcome"
        yield one


@pytest.mark.parametrize("format", ["msgpack", "json"])
async def test_clients_speak_to_the_tiny_application(folder: Path, format: str) -> None:
    async with asyncio.timeout(30), running(tiny_settings(folder)) as node:
        async with player(node, "ann", format) as ann, player(node, "bob", format) as bob:
            assert (await ann.ask("heartbeat"))[0] == "beat"
            assert await ann.ask("add", "jar", 3) == ["sum", 4, 3]
            assert (await bob.ask("add", "jar", 4))[2] == 7
            assert (await bob.ask("nonsense"))[2] == "unknown_type"
            assert (await bob.ask("add", "jar", "many"))[2] == "bad_frame"
        result = await node.system.query("totals", {})
        assert result.rows == [["jar", 7]]


async def test_clients_and_peers_are_told_the_advertised_address(folder: Path) -> None:
    settings = tiny_settings(folder, gateway={"advertise_url": "wss://play.example:443"})
    async with asyncio.timeout(30), running(settings) as node:
        assert node.client_url == "wss://play.example:443"
        (told,) = node.system.view.members.values()
        assert told.client_url == "wss://play.example:443"


async def test_a_stream_of_the_tiny_application_is_watched(folder: Path) -> None:
    async with asyncio.timeout(30), running(tiny_settings(folder)) as node, player(node, "ann") as ann:
        book = actor_id("ledger", "book")
        for n in (1, 2):
            await node.system.ask(book, "add", (n,))
        assert (await ann.ask("watch", "ledger/book", 1))[0] == "watching"
        await node.system.ask(book, "add", (3,))
        seen: list[Any] = [event for push in ann.pushed for event in push[4]]
        while len(seen) < 3:
            push = await ann.next()
            assert push[0] == "events"
            seen += push[4]
        assert [event[0] for event in seen] == ["added"] * 3 and [event[2] for event in seen] == [1, 2, 3]


async def test_acknowledged_changes_are_there_after_a_clean_stop_and_a_new_start(folder: Path) -> None:
    settings = tiny_settings(folder, store={"flush_interval_s": 60.0})
    async with asyncio.timeout(60):
        async with running(settings) as node, player(node, "ann") as ann:
            first = node.system.me
            for n in range(1, 11):
                await ann.ask("add", f"jar-{n}", n)
            await node.system.ask(actor_id("ledger", "book"), "add", (1_000,))
        async with running(settings) as node, player(node, "ann") as ann:
            assert node.system.me.incarnation > first.incarnation
            for n in range(1, 11):
                assert (await ann.ask("add", f"jar-{n}", 1))[2] == n + 1
            assert await node.system.ask(actor_id("ledger", "book"), "total", ()) == 1_000


@pytest.mark.parametrize("taken", ["gateway", "admin", "transport", "gossip"])
async def test_a_taken_port_is_one_clear_error_and_the_next_start_need_not_wait(folder: Path, taken: str) -> None:
    """Nothing is left: no port, no task, and no lease of the run that did not start."""
    with socket.socket() as other, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        datagrams.bind(("127.0.0.1", port))
        where: dict[str, Any] = {"bind": f"127.0.0.1:{port}"} if taken == "gossip" else {"port": port}
        security = {"cluster_key": base64.b64encode(bytes(32)).decode()}  # a node that others find has one
        node = build_node(tiny_settings(folder, **{taken: where}, security=security))
        async with asyncio.timeout(20):
            with pytest.raises((Unavailable, BadSetting), match=str(port)):
                await node.start()
        assert node.supervisor.names() == []
    await until(lambda: not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()])
    store = build_store(node.settings)
    await store.open()
    try:
        rows = await store.nodes()
    finally:
        await store.close()
    assert [row.state for row in rows if row.node == NodeId("node-1")] == ["left"]
    async with asyncio.timeout(20), running(tiny_settings(folder)) as again:
        assert again.not_ready() == ""


# ---- the engine names no application ----

ENGINE = Path(server.__file__).parent
FILES = sorted(path for path in ENGINE.rglob("*.py") if "lab" not in path.relative_to(ENGINE).parts)
APPLICATIONS = {"game", "clients", "garrison", "garrison_bots"}
DRIVERS = {"persistence", "migrations", "dynamic"}
"""For `server.drivers`, which follows names, and for commands. Everything else is given its drivers."""
_NAMED = re.compile(r"\b(game|persistence\.game)[./:]")


def _imported(tree: ast.AST) -> set[str]:
    """The top-level packages that `tree` imports; `dynamic` for imports by a name that it computes."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            if called in ("import_module", "__import__"):
                names.add("dynamic")
    return {name.partition(".")[0] for name in names}


def _texts(tree: ast.AST) -> list[str]:
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ENGINE)))
def test_engine_imports_and_names_no_application(path: Path) -> None:
    tree, texts = ast.parse(path.read_text("utf-8")), []
    builds_drivers = path.name == "drivers.py" or path.parent.name == "cli"
    assert not _imported(tree) & (APPLICATIONS if builds_drivers else APPLICATIONS | DRIVERS)
    texts = _texts(tree)
    if path.name == "settings.py":
        texts.remove("game.app:App")  # the default of the setting `app`
    assert not [text for text in texts if _NAMED.search(text)]


def test_scan_finds_planted_names() -> None:
    assert len(FILES) > 60
    planted = ast.parse("import game.app\nfrom persistence.x import y\nimport_module('game.app:App')")
    assert _imported(planted) == {"game", "persistence", "dynamic"}
    assert [text for text in _texts(planted) if _NAMED.search(text)] == ["game.app:App"]
    assert _NAMED.search("see game/match") and not _NAMED.search("a game server")


def test_the_tiny_application_is_all_that_the_node_has(tmp_path: Path) -> None:
    node = build_node(tiny_settings(tmp_path))
    assert node.app is TinyApp and {cls.kind for cls in node.app.actors} == {"counter", "ledger", "near"}
