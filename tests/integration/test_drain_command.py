"""`garrison drain` against real admin servers whose nodes say how far they are."""

import json
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.admin import TOKEN, TestCluster, TestNode
from tests.support.admin_command import AdminCommand, two_nodes
from tests.support.waiting import until


@pytest.fixture
async def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TestCluster]:
    monkeypatch.chdir(tmp_path)
    async with two_nodes() as nodes:
        yield nodes


def asked(cluster: TestCluster, *arguments: str, token: str = TOKEN) -> AdminCommand:
    """`garrison drain …`"""
    return AdminCommand(cluster, "drain", *arguments, token=token)


def is_empty(node: TestNode) -> None:
    node.left |= {"activations_left": 0, "sessions_left": 0, "moved": 3}


async def test_drain_finds_the_node_and_waits_until_it_is_empty(cluster: TestCluster) -> None:
    node = cluster.nodes["node-2"]
    command = asked(cluster, "node-2")
    await until(lambda: node.left["state"] == "leaving")
    assert not command.code.done()
    is_empty(node)
    assert await command.code == 0
    assert "node-2 is empty" in command.said.getvalue() and "3 activations moved" in command.said.getvalue()
    assert cluster.nodes["node-1"].left["state"] == "up"
    (logged,) = (line for line in cluster.log if line["event"] == "admin action")
    assert (logged["action"], logged["principal"], logged["ended"]) == ("drain", "admin", "done")


async def test_json(cluster: TestCluster) -> None:
    command = asked(cluster, "node-1", "--json")
    await until(lambda: cluster.nodes["node-1"].left["state"] == "leaving")
    is_empty(cluster.nodes["node-1"])
    assert await command.code == 0
    (line,) = command.said.getvalue().splitlines()
    told = json.loads(line)
    assert told.pop("seconds") >= 0
    assert told == {
        "node": "node-1", "incarnation": 1, "drained": True, "moved": 3, "activations_left": 0, "sessions_left": 0,
    }  # fmt: skip


async def test_not_empty_in_time(cluster: TestCluster) -> None:
    command = asked(cluster, "node-2", "--wait", "0.1s")
    assert await command.code == 1
    assert "still drains" in command.said.getvalue()
    assert "3 activations and 1 sessions left" in command.said.getvalue()
    json_command = asked(cluster, "node-2", "--wait", "0.1s", "--json")
    assert await json_command.code == 1
    assert json.loads(json_command.said.getvalue())["drained"] is False


async def test_an_impossible_drain_is_refused_in_one_line(cluster: TestCluster) -> None:
    assert "no node node-9; there are node-1, node-2" in await asked(cluster, "node-9").fails()
    assert "admin token" in await asked(cluster, "node-2", token="wrong").fails()
    assert "no length of time" in await asked(cluster, "node-2", "--wait", "soon").fails()
    await cluster.nodes["node-2"].admin.stop()
    down = r"node-2 does not answer \(.*refused\): is it down\? see `.*garrison status`$"
    assert re.search(down, await asked(cluster, "node-2").fails())
    cluster.lose("node-2")
    assert "node-2 is gone: lost" in await asked(cluster, "node-2").fails()
    assert "there is nowhere to go" in await asked(cluster, "node-1").fails()


async def test_a_node_that_hangs(cluster: TestCluster) -> None:
    place = urlsplit(cluster.nodes["node-2"].admin.url)
    await cluster.nodes["node-2"].admin.stop()
    with socket.create_server((place.hostname, place.port)):  # takes connections and says nothing
        command = asked(cluster, "node-2", "--answer-s", "0.5")
        assert "node-2 does not answer (timed out): is it down?" in await command.fails()


async def test_the_node_dies_while_it_drains(cluster: TestCluster) -> None:
    command = asked(cluster, "node-2", "--patience-s", "0.2")
    await until(lambda: cluster.nodes["node-2"].left["state"] == "leaving")
    await cluster.kill("node-2")
    line = await command.fails()
    assert "node-2 stopped answering with 3 activations and 1 sessions left: node-2 does not answer (" in line
    assert "is it down?" in line
