"""`garrison upgrade` against real admin servers whose nodes say how far they are."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.admin import TOKEN, TestCluster, TestNode
from tests.support.admin_command import AdminCommand, two_nodes
from tests.support.waiting import until

AUTH = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture
async def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TestCluster]:
    monkeypatch.chdir(tmp_path)
    async with two_nodes() as nodes:
        yield nodes


def asked(cluster: TestCluster, *arguments: str) -> AdminCommand:
    """`garrison upgrade …`"""
    return AdminCommand(cluster, "upgrade", *arguments, "--patience-s", "0.3")


async def go_over(node: TestNode, **figures: Any) -> None:
    """The node's upgrade ends well: the heir answers at the same place."""
    await until(lambda: node.upgrade["running"])
    heir = {"generation": node.upgrade["generation"] + 1, "process": 200, "running": False, "phase": ""}
    node.upgrade = node.upgrade | heir | {"pause_ms": 41.0, "sessions_moved": 7, "sessions_going": 1} | figures


async def test_an_upgrade_is_watched_until_the_heir_is_ready(cluster: TestCluster) -> None:
    node = cluster.nodes["node-2"]
    command = asked(cluster, "node-2")
    await until(lambda: node.upgrade["running"])
    node.upgrade |= {"phase": "copying", "copied": 5, "total": 9}
    node.reason = "not yet"
    await go_over(node)
    assert not command.code.done()
    node.reason = ""
    assert await command.code == 0
    text = command.said.getvalue()
    assert "node-2 is upgraded (process 1 of its run)" in text
    assert "a pause of 41 ms, 7 sessions moved, 1 told to connect anew" in text
    assert not cluster.nodes["node-1"].upgrade["running"]
    (logged,) = (line for line in cluster.log if line["event"] == "admin action")
    assert (logged["action"], logged["ended"]) == ("upgrade", "done")


async def test_every_node_is_upgraded_and_the_figures_are_summed(cluster: TestCluster) -> None:
    command = asked(cluster, "--all", "--json")
    await go_over(cluster.nodes["node-1"])
    await go_over(cluster.nodes["node-2"], pause_ms=55.5)
    assert await command.code == 0
    told = json.loads(command.said.getvalue())
    each = told.pop("each")
    assert told == {
        "upgraded": True, "nodes": 2, "nodes_upgraded": 2, "longest_pause_ms": 55.5, "sessions_moved": 14,
        "sessions_going": 2,
    }  # fmt: skip
    assert [(node["node"], node["generation"], node["upgraded"], node["why"]) for node in each] == [
        ("node-1", 1, True, ""), ("node-2", 1, True, ""),
    ]  # fmt: skip


async def test_the_first_node_that_is_refused_ends_it_with_the_reason(cluster: TestCluster) -> None:
    first, second = cluster.nodes["node-1"], cluster.nodes["node-2"]
    first.refusal = "no room for two: this process has 900 MiB"
    command = asked(cluster, "--all")
    assert await command.code == 1
    text = command.said.getvalue()
    assert "node-1 was not upgraded: no room for two: this process has 900 MiB\n" in text
    assert "upgraded 0 of 2 nodes" in text and "1 were left as they are" in text
    assert not second.upgrade["running"]


async def test_an_upgrade_that_is_called_off_is_told_with_the_reason(cluster: TestCluster) -> None:
    node = cluster.nodes["node-1"]
    command = asked(cluster, "node-1", "--json")
    await until(lambda: node.upgrade["running"])
    node.upgrade |= {"running": False, "why": "the new program would not read the state of kind player"}
    assert await command.code == 1
    told = json.loads(command.said.getvalue())
    assert (told["upgraded"], told["generation"]) == (False, 0)
    assert told["why"] == "the new program would not read the state of kind player"


async def test_a_node_that_falls_silent_while_it_goes_over_is_told(cluster: TestCluster) -> None:
    node = cluster.nodes["node-2"]
    command = asked(cluster, "node-2")
    await until(lambda: node.upgrade["running"])
    await cluster.kill("node-2")
    assert await command.code == 1
    assert "node-2 was not upgraded: node-2 stopped answering while starting" in command.said.getvalue()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "takes the name of a node, or --all"),
        (("node-1", "--all"), "takes the name of a node, or --all"),
        (("node-9",), "no node node-9; there are node-1, node-2"),
        (("node-1", "--wait", "soon"), "no length of time"),
    ],
)
async def test_an_impossible_upgrade_is_refused_in_one_line(
    cluster: TestCluster, words: tuple[str, ...], why: str
) -> None:
    command = asked(cluster, *words)
    assert await command.code == 2
    assert why in command.failed.getvalue()


async def test_the_order_names_the_node_and_needs_the_token(cluster: TestCluster) -> None:
    place = cluster.nodes["node-1"].admin.url + "/api/v1/upgrade"
    async with httpx.AsyncClient() as http:
        assert (await http.post(place, json={"node": "node-1"})).status_code == 401
        other = await http.post(place, json={"node": "node-2"}, headers=AUTH)
        assert (other.status_code, other.json()["code"]) == (409, "another_node")
        run_before = await http.post(place, json={"node": "node-1", "incarnation": 9}, headers=AUTH)
        assert run_before.status_code == 409
        cluster.nodes["node-1"].refusal = "no room"
        refused = await http.post(place, json={"node": "node-1"}, headers=AUTH)
        assert (refused.status_code, refused.json()["code"], refused.json()["message"]) == (
            503,
            "called_off",
            "no room",
        )
        told = (await http.get(place, headers=AUTH)).json()
        assert (told["node"], told["generation"], told["running"]) == ("node-1", 0, False)
