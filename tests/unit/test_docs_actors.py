"""docs/actors.md: the page's one file is an application, and its actor does what the page says."""

import json
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from server.actors.actor import Caller
from server.actors.app import App
from server.ids import actor_id
from server.wire.codec import Codec
from tests.support.engine import cluster, key_owned_by
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time

PAGE = Path(__file__).resolve().parents[2] / "docs/actors.md"


def file_of_the_page(number: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """One of the page's files as a module."""
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[number]
    module = types.ModuleType(f"file_{number}_of_the_page")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(code, "docs/actors.md", "exec"), module.__dict__)
    return module


@pytest.fixture
def clan(monkeypatch: pytest.MonkeyPatch) -> Any:
    return file_of_the_page(0, monkeypatch)


async def test_a_clan_is_joined_and_stored(clan: Any) -> None:
    assert isinstance(clan.App, App)
    async with cluster(("node-1", "node-2"), app=clan.App) as world:
        red = actor_id("clan", "red")
        for node, name in (("node-1", "spartan-117"), ("node-2", "spartan-7"), ("node-2", "spartan-117")):
            caller = Caller("player", name, "a-session")
            info = await world.systems[node].ask(red, "join", (caller, clan.ClanJoin(1, "red")))
        assert info == clan.ClanInfo(1, "red", ["spartan-117", "spartan-7"])
        await world.remove("node-1", clean=True)
        await world.remove("node-2", clean=True)
        store = await world.add("node-3")
        row = (await store.node_store.read("clan", [red]))[red]
        assert row.state == clan.ClanState(("spartan-117", "spartan-7"))
        assert row.state_version == 2  # whoever was in it already changed nothing


def test_its_messages_are_as_the_page_shows_them(clan: Any) -> None:
    codec = Codec("json", clan.App.requests)
    assert codec.decode(b'["clan.join", 1, "red"]') == clan.ClanJoin(1, "red")
    answer = codec.encode(clan.ClanInfo(1, "red", ["spartan-117"]))
    assert json.loads(answer) == ["clan", 1, "red", ["spartan-117"]]
    for message in ('["clan.join", 1, "red"]', '["clan", 1, "red", ["spartan-117"]]'):
        assert message in PAGE.read_text()


async def test_an_offer_expires_on_another_node(monkeypatch: pytest.MonkeyPatch) -> None:
    page = file_of_the_page(1, monkeypatch)
    async with cluster(("node-1", "node-2"), app=page.App, actors={"reminder_poll_s": 0.01}) as world:
        first, second = world.systems["node-1"], world.systems["node-2"]
        offer = actor_id("offer", key_owned_by(first, page.Offer, "node-1"))
        await first.ask(offer, "make", (50, 3_600_000))
        await first.write_behind.flush_these(list(first.catalog.live.values()))
        await world.remove("node-1")
        await second.store.bury(first.me)
        world.show("node-2")
        reminders = world.database.reminders
        reminders[offer, "expire"] = replace(reminders[offer, "expire"], due_ms=1)  # an hour later
        await until(lambda: second.metrics.reminders_fired_total == 1)
        await second.write_behind.flush_these(list(second.catalog.live.values()))
        await until(lambda: not reminders)
        assert (await second.store.read("offer", [offer]))[offer].state == page.OfferState(50, False, {"expire": 1})


async def test_an_offer_that_is_taken_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    page = file_of_the_page(1, monkeypatch)
    async with cluster(app=page.App) as world:
        system, offer = world.systems["node-1"], actor_id("offer", "sword")
        await system.ask(offer, "make", (50, 3_600_000))
        assert len(world.database.reminders) == 1
        assert await system.ask(offer, "take", ()) == 50
        assert not world.database.reminders
