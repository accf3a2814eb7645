"""Limits of one client address over real sockets: connections, and wrong codes of parties."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import websockets
from websockets.exceptions import InvalidStatus

import migrations
from game.party.messages import PartyJoinCode
from server.drivers import build_node
from server.sessions.guesses import ALLOWED, PER_S
from server.settings import from_tree
from tests.support.gateways import KEY, GatewayNode, SocketClient, connect, gateways
from tests.support.prefixes import version_1
from tests.support.waiting import until
from tests.unit.test_http_handshake import head

pytestmark = pytest.mark.loops("uvloop")
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def one_node(most: int, trusted: str = "", **gateway: object) -> AsyncIterator[GatewayNode]:
    """A node whose addresses may have `most` connections; it forgets each address in the end."""
    tree = {"gateway": {"max_connections_per_address": most, **gateway}}
    async with gateways(sockets=True, **tree, proxies={"trusted": [trusted] if trusted else []}) as world:
        node = world.nodes["node-1"]
        yield node
        for connection in list(node.listener._open):  # type: ignore[union-attr]
            connection.abort()
        await until(lambda: addresses(node) == 0)


def addresses(node: GatewayNode) -> int:
    return len(node.listener.addresses)  # type: ignore[union-attr]


async def welcomed(node: GatewayNode, subject: str, forwarded: str = "") -> SocketClient:
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    client = await connect(node, subject, additional_headers=headers)
    assert (await client.hello())[0] == "welcome"
    return client


async def refused(node: GatewayNode, forwarded: str = "") -> None:
    """Fails unless the next connection is told that its address has too many."""
    before = node.metrics.connections_refused_by_address_total
    with pytest.raises(InvalidStatus) as answer:
        await welcomed(node, "late", forwarded)
    assert answer.value.response.status_code == 429 and b"too many connections" in answer.value.response.body
    assert node.metrics.connections_refused_by_address_total == before + 1


async def dial(node: GatewayNode, said: bytes = b"") -> Streams:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(node.url.rpartition(":")[2]))
    writer.write(said)
    return reader, writer


async def test_an_address_with_too_many_sessions_is_refused_until_one_of_them_ends() -> None:
    async with one_node(2) as node:
        ann, bob = await welcomed(node, "ann"), await welcomed(node, "bob")
        await refused(node)
        await refused(node, "192.0.2.7")  # nobody trusts it to say who it is
        await ann.ws.close()
        await until(lambda: len(node.listener) == 1)  # type: ignore[arg-type]
        await welcomed(node, "cyd")
        await refused(node)
        bob.ws.transport.abort()
        await until(lambda: len(node.listener) == 1)  # type: ignore[arg-type]
        await welcomed(node, "dan")


async def test_no_limit_is_the_default() -> None:
    async with one_node(0) as node:
        for number in range(5):
            await welcomed(node, f"p{number}")
        assert addresses(node) == 0


async def test_connections_whose_handshake_is_not_done_count() -> None:
    async with one_node(2, hello_timeout_s=0.5) as node:
        silent, half = await dial(node), await dial(node, head()[:20])
        await until(lambda: node.listener.addresses._counts == {"127.0.0.1": 2})  # type: ignore[union-attr]
        reader, writer = await dial(node)
        assert (await reader.read()).startswith(b"HTTP/1.1 429 "), "before it has said a word"
        writer.close()
        for reader, writer in (silent, half):
            assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
            writer.close()
        await until(lambda: addresses(node) == 0)
        await welcomed(node, "ann")


async def test_connections_that_are_refused_for_something_else_are_given_back() -> None:
    async with one_node(1) as node:
        for request in (b"NO\r\n\r\n", head("POST / HTTP/1.1") + b"\r\n\r\n"):
            reader, writer = await dial(node, request)
            assert (await reader.read()).startswith(b"HTTP/1.1 40")
            writer.close()
            await until(lambda: addresses(node) == 0)
        strange = await connect(node, "ann")
        await strange.send_raw(b"\xc1")
        await strange.closed()
        await until(lambda: addresses(node) == 0)


async def test_connections_that_were_paused_are_given_back_once() -> None:
    """A paused connection is read past another protocol, before its welcome and after it."""
    async with one_node(3) as node:
        clients = [await connect(node, "early"), await welcomed(node, "ann"), await welcomed(node, "bob")]
        await refused(node)
        for connection in list(node.listener._open):  # type: ignore[union-attr]
            connection.pause_reading()
            connection.resume_reading()
        assert (await clients[0].hello())[0] == "welcome"
        for left, client in enumerate(clients):
            assert node.listener.addresses._counts == {"127.0.0.1": 3 - left}  # type: ignore[union-attr]
            await client.ws.close()
            await until(lambda left=left: len(node.listener) == 2 - left)  # type: ignore[misc, arg-type]
        assert addresses(node) == 0


async def test_clients_of_a_trusted_proxy_count_by_the_address_that_it_says() -> None:
    async with one_node(1, trusted="127.0.0.0/8") as node:
        await welcomed(node, "ann", "192.0.2.7")
        await refused(node, "192.0.2.7")
        await refused(node, "6.6.6.6, 192.0.2.7")
        await welcomed(node, "bob", "192.0.2.8")
        await welcomed(node, "cyd", "2001:db8:0:1::1")
        await refused(node, "2001:db8:0:1:ffff::2")
        await welcomed(node, "dan", "2001:db8:0:2::1")
        assert addresses(node) == 4


async def test_clients_of_a_proxy_prefix_count_from_the_start() -> None:
    async with one_node(1, trusted="127.0.0.1") as node:
        _first = await dial(node, version_1("192.0.2.7", 5000))
        await until(lambda: addresses(node) == 1)
        reader, writer = await dial(node, version_1("192.0.2.7", 5001))
        assert (await reader.read()).startswith(b"HTTP/1.1 429 ")
        writer.close()
        other = await dial(node, version_1("192.0.2.8", 5000))
        await until(lambda: addresses(node) == 2)
        for _, writer in (_first, other):
            writer.close()


async def test_wrong_party_codes_are_limited_by_the_address_of_their_players(tmp_path: Path) -> None:
    """Each player guesses less often than a player may, and comes from a port of its own."""
    url = f"sqlite:///{tmp_path}/game.db"
    await asyncio.to_thread(migrations.upgrade, url)
    node = build_node(
        from_tree(
            {"store": {"url": url}, "gateway": {"port": 0}, "admin": {"enabled": False},
             "security": {"signing_key": KEY.decode()}, "log": {"level": "error"}}
        )
    )  # fmt: skip
    await node.start()
    wrong, limited, began = 0, 0, time.monotonic()
    try:
        for player in range(12):
            ws = await websockets.connect(
                node.client_url, subprotocols=[websockets.Subprotocol("garrison.v1.msgpack")], compression=None
            )
            client = SocketClient(ws, f"p{player}", "player", "msgpack")
            assert (await client.hello())[0] == "welcome"
            for number in range(1, 9):
                answer = await client.ask(PartyJoinCode, "lineage", number, "AAA-AAA-AAA")
                assert answer[0] == "error"
                if answer[2] == "rate_limited":
                    assert "from this address" in answer[3]
                    limited += 1
                else:
                    assert answer[2] == "no_such_code"
                    wrong += 1
            await ws.close()
        assert wrong + limited == 96 and limited > 0
        assert ALLOWED <= wrong <= ALLOWED + PER_S * (time.monotonic() - began) + 1
    finally:
        await node.stop()
