"""A cluster that has addresses of IPv6 only: bound, told to clients and to other nodes, dialled, shown, in brackets and
without; and the commands that are pointed at one."""

import asyncio
import contextlib
import io
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from garrison import connect
from garrison.messages import PresenceGet, PresenceSet
from server.cli.admin_side import admin_base
from server.cli.app import run
from server.cli.common import client_url, token_maker
from server.cli.config import read_settings
from server.cli.local_cluster import Home, LocalCluster, free_places
from server.errors import BadInput
from server.settings import from_tree
from server.transport.addresses import join_endpoint, split_endpoint
from tests.support.seen_up import seen_up
from tests.unit.test_listening import needs_ipv6


@asynccontextmanager
async def cluster_on(path: Path, *hosts: str, settings: list[str] | None = None) -> AsyncIterator[LocalCluster]:
    """A node on each of `hosts`."""
    places = [place._replace(host=host) for place, host in zip(free_places(len(hosts)), hosts, strict=True)]
    nodes = LocalCluster(Home(path), len(hosts), 0, settings or [], places)
    try:
        await nodes.prepare("six")
        await nodes.start(lambda text: None)
        yield nodes
    finally:
        await nodes.stop()


async def said_by(*words: str) -> str:
    """What a command that succeeds prints, run in a thread beside this."""
    said = io.StringIO()

    def work() -> int:
        with contextlib.redirect_stdout(said):
            return run(words)

    assert await asyncio.to_thread(work) == 0
    return said.getvalue()


@needs_ipv6
async def test_cluster_with_addresses_of_ipv6(tmp_path: Path) -> None:
    """Clients are redirected, calls go between the nodes, operators see and drain: by addresses in brackets."""
    async with asyncio.timeout(90), cluster_on(tmp_path, "::1", "[::1]") as nodes:
        assert [urlsplit(url).hostname for url in nodes.gateways] == ["::1", "::1"]
        token = token_maker(read_settings(nodes.home.config))
        admin = nodes.nodes[0].ready["admin_url"]
        assert admin.startswith("http://[::1]:")
        for number in itertools.count():
            async with connect(nodes.gateways[0], token(f"p{number}", "player")) as player:
                assert player.welcome is not None
                if player.welcome.node == "node-2":  # it has followed a redirect
                    await player.request(PresenceSet("online", "on six"))
                    break
        async with connect(nodes.gateways[0], token("tool", "service")) as tool:
            for other in range(number + 1):  # of both nodes, so across the link between them too
                assert (await tool.request(PresenceGet(f"p{other}"))).last_seen_ms > 0
            headers = {"authorization": f"Bearer {nodes.home.admin_token}"}
            async with httpx.AsyncClient(trust_env=False, headers=headers) as http:
                rows = (await http.get(f"{admin}/api/v1/sessions", params={"subject": "tool"})).json()["rows"]
                assert rows[0]["address"].startswith("[::1]:")
                cluster = (await http.get(f"{admin}/api/v1/cluster")).json()
                assert all(node["report"]["gossip"].startswith("[::1]:") for node in cluster["nodes"])
        place = ("--url", admin, "--token", nodes.home.admin_token)
        shown = json.loads(await said_by("status", *place, "--json"))
        assert [node["state"] for node in shown["nodes"]] == ["up", "up"] and not shown["missing"]
        assert json.loads(await said_by("drain", "node-2", *place, "--json"))["drained"] is True


@needs_ipv6
async def test_nodes_on_every_interface_are_reached_by_both_families(tmp_path: Path) -> None:
    """They tell each other, and clients, their address of IPv6."""
    places = [place._replace(host="::") for place in free_places(2)]
    told = {
        f"node-{number}": [
            f"gateway.advertise_url=ws://[::1]:{place.gateway}", f"admin.advertise_url=http://[::1]:{place.admin}",
            f"gossip.advertise=[::1]:{place.gossip}", "transport.advertise_host=::1",
            f"gossip.seeds={','.join(f'[::1]:{other.gossip}' for other in places)}",
        ]
        for number, place in enumerate(places, 1)
    }  # fmt: skip
    nodes = LocalCluster(Home(tmp_path), 2, 0, [], places)
    nodes.settings_of = lambda name: told[name]  # type: ignore[method-assign]
    try:
        await nodes.prepare("six")
        await nodes.start(lambda text: None)
        token = token_maker(read_settings(nodes.home.config))
        headers = {"authorization": f"Bearer {nodes.home.admin_token}"}
        async with asyncio.timeout(60), httpx.AsyncClient(trust_env=False, headers=headers) as http:
            admin = f"http://127.0.0.1:{places[0].admin}/api/v1"
            await seen_up(f"http://127.0.0.1:{places[0].admin}", nodes.home.admin_token, 2)
            for subject, name in (("four", "127.0.0.1"), ("six", "[::1]")):
                async with connect(f"ws://{name}:{places[0].gateway}", token(subject, "service")):
                    rows = (await http.get(f"{admin}/sessions", params={"subject": subject})).json()["rows"]
                    # an address of IPv4 within IPv6 is shown as what it is, unless a redirect led to that of IPv6
                    assert rows[0]["address"].startswith((f"{name}:", "[::1]:"))
    finally:
        await nodes.stop()


HOSTS = {
    "::1": "[::1]",
    "[::1]": "[::1]",
    "fd00::7": "[fd00::7]",
    "play.example": "play.example",
    "10.0.0.7": "10.0.0.7",
    "0.0.0.0": "127.0.0.1",
    "::": "127.0.0.1",
    "[::]": "127.0.0.1",
    "0:0:0:0:0:0:0:0": "[::1]",
}


@pytest.mark.parametrize("host", HOSTS)
def test_commands_dial_a_host_in_the_form_of_a_url(host: str) -> None:
    tree = {"gateway": {"host": host, "port": 7}, "admin": {"host": host, "port": 8}}
    assert client_url(from_tree(tree)) == f"ws://{HOSTS[host]}:7"
    assert admin_base(from_tree(tree)) == f"http://{HOSTS[host]}:8"
    tls = {"gateway": {"host": host, "port": 7, "tls_certificate": "c", "tls_key": "k"}}
    assert client_url(from_tree(tls)) == f"wss://{HOSTS[host]}:7"


def test_endpoints_have_brackets_once() -> None:
    for host in ("::1", "[::1]"):
        assert join_endpoint(host, 7) == "[::1]:7" and split_endpoint(join_endpoint(host, 7)) == ("::1", 7)
    for wrong in ("::1:7", "[::1]", "[::1]7", "::1"):
        with pytest.raises(BadInput):
            split_endpoint(wrong)
