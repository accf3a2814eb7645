"""Upgrades of a node, begun by operators: one at a time, and what is told of them."""

import asyncio
import os
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from server.errors import CalledOff
from server.succession import messages
from server.succession.memory import MemoryChannel
from server.succession.predecessor import Predecessor
from server.succession.upgrades import Birth, Upgrades, refused
from tests.unit.test_succession_fits import an_account


class Succession:
    """Stands for a predecessor: it goes on until it is told how it ends."""

    def __init__(self) -> None:
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        await self.end

    def progress(self) -> Mapping[str, Any]:
        return {"phase": "copying", "copied": 3, "total": 8}


def an_upgrade(refusal: str = "", **more: Any) -> tuple[Upgrades, list[Succession]]:
    made: list[Succession] = []

    def make() -> Succession:
        made.append(Succession())
        return made[-1]

    return Upgrades(make, refused=lambda: refusal, **more), made


async def test_an_upgrade_goes_on_once_however_often_it_is_begun() -> None:
    upgrades, made = an_upgrade(generation=2, birth=Birth(12.5, 40, 1))
    assert upgrades.progress()["running"] is False
    upgrades.begin()
    upgrades.begin()
    await asyncio.sleep(0)
    assert len(made) == 1
    assert upgrades.progress() == {
        "generation": 2, "process": os.getpid(), "running": True, "phase": "copying", "copied": 3, "total": 8,
        "why": "", "pause_ms": 12.5, "sessions_moved": 40, "sessions_going": 1,
    }  # fmt: skip
    await upgrades.stop()
    assert upgrades.progress()["running"] is False


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (CalledOff("the new program ended"), "the new program ended"),
        (KeyError("boom"), "the upgrade failed inside the server: KeyError: 'boom'"),
    ],
)
async def test_the_reason_of_an_upgrade_that_came_to_nothing_is_kept_until_the_next(error: Exception, why: str) -> None:
    upgrades, made = an_upgrade()
    upgrades.begin()
    made[0].end.set_exception(error)
    for _ in range(3):
        await asyncio.sleep(0)
    assert (upgrades.progress()["running"], upgrades.progress()["why"]) == (False, why)
    upgrades.begin()
    assert (upgrades.progress()["running"], upgrades.progress()["why"]) == (True, "")
    await upgrades.stop()


async def test_an_upgrade_of_a_node_that_stops_is_called_off_with_the_reason_and_none_begins() -> None:
    upgrades, made = an_upgrade()
    upgrades.begin()
    await asyncio.sleep(0)
    await upgrades.stop()
    assert (upgrades.progress()["running"], upgrades.progress()["why"]) == (False, "this node stops")
    with pytest.raises(CalledOff, match="this node stops"):
        upgrades.begin()
    assert len(made) == 1


async def test_an_impossible_upgrade_is_refused_and_nothing_begins() -> None:
    upgrades, made = an_upgrade("this node is the first process of its container")
    with pytest.raises(CalledOff, match="first process"):
        upgrades.begin()
    assert made == [] and "first process" in upgrades.progress()["why"]


async def test_a_node_that_drains_while_the_new_program_starts_is_not_handed_over() -> None:
    said, ended = iter(["", "leaving"]), []
    copying = SimpleNamespace(end_copying=lambda: None)
    gateway = SimpleNamespace(going_over=copying)
    catalog = SimpleNamespace(live={}, watcher=None)
    system = SimpleNamespace(me="node-1#1", view=SimpleNamespace(members={}), directory=copying, catalog=catalog)
    node: Any = SimpleNamespace(gateway=gateway, presence=None, not_ready=lambda: next(said), system=system)
    ours, theirs = MemoryChannel.pair()

    async def end() -> None:
        ended.append(True)

    program = SimpleNamespace(why=lambda: "it has ended by then", end=end)
    predecessor = Predecessor(node, lambda: (program, ours), lambda _account: "", lambda: None)
    await theirs.send(messages.encode(messages.HeirHello(7, an_account())))
    with pytest.raises(CalledOff, match="this node is not ready: leaving"):
        await predecessor.run()
    told = messages.decode_from_predecessor((await theirs.receive()).message)
    assert told == messages.NoHeir("this node is not ready: leaving") and ended == [True]


def test_a_node_that_nobody_would_follow_is_not_upgraded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused({}) == ""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    assert "first process of its container" in refused({})
    assert refused({"NOTIFY_SOCKET": "@x"}) == ""  # a supervisor is there after all
    assert refused({"NOTIFY_SOCKET": "@x", "SYSTEMD_EXEC_PID": "2"}) == ""  # which systemd has started
    assert "systemd" in refused({"NOTIFY_SOCKET": "/run/systemd/notify", "SYSTEMD_EXEC_PID": "1"})
