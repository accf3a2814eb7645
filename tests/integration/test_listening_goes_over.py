"""Listening sockets of a gateway that another process goes on with: at rest nobody is taken in or refused, and who came
meanwhile is served by whoever goes on."""

import asyncio
import socket

import pytest

from server.runtime.proxies import TrustedProxies
from server.sessions.picows_driver import PicowsListener
from tests.support.gateways import Echo, GatewayNode, connect, gateways

pytestmark = pytest.mark.loops("asyncio", "uvloop")
TRUSTED: list[dict[str, object]] = [{}, {"proxies": {"trusted": ["192.0.2.0/24"]}}]


def _duplicates(listener: PicowsListener) -> list[socket.socket]:
    """The sockets as they come to another process, where they have other numbers."""
    return [sock.dup() for sock in listener.sockets]


@pytest.mark.parametrize("more", TRUSTED, ids=["plain", "front"])
async def test_at_rest_a_new_connection_waits_and_is_served_when_it_goes_on(more: dict[str, object]) -> None:
    async with gateways(sockets=True, **more) as world:
        node = world.nodes["node-1"]
        listener = node.listener
        assert isinstance(listener, PicowsListener)
        early = await connect(node, "early")
        await early.hello()
        for _ in range(2):
            listener.rest()
            waiting = asyncio.create_task(connect(node, "late"))
            done, _ = await asyncio.wait([waiting], timeout=0.1)
            assert not done
            await early.send(Echo(900, "read later"))
            listener.go_on()
            late = await waiting
            assert (await late.hello())[0] == "welcome"
            assert (await early.until(lambda message: message[1] == 900))[0] == "said"


@pytest.mark.parametrize("more", TRUSTED, ids=["plain", "front"])
async def test_adopted_sockets_serve_who_waits_and_the_url_is_the_same(more: dict[str, object]) -> None:
    async with gateways(["node-1", "node-2"], sockets=True, **more) as world:
        old, other = world.nodes["node-1"], world.nodes["node-2"]
        assert isinstance(old.listener, PicowsListener)
        heir = PicowsListener(
            other.gateway,
            other.system.settings.gateway,
            TrustedProxies(other.system.settings.proxies.trusted),
        )
        heir.adopt(_duplicates(old.listener))
        old.listener.rest()
        world.show("node-2")
        waiting = asyncio.create_task(connect(old, "p"))
        done, _ = await asyncio.wait([waiting], timeout=0.1)
        assert not done
        url = await heir.start()
        try:
            assert url == old.url
            client = await waiting
            welcome = await client.hello()
            assert welcome[0] == "welcome"
            assert welcome[3] == "node-2"
            await client.ws.close()
            later = await connect(GatewayNode(other.system, other.gateway, heir, url), "q")
            assert (await later.hello())[0] == "welcome"
        finally:
            await heir.stop()
