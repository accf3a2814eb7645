"""docs/actors.md: the page's one file is an application, and its actor does what the page says."""

import json
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from server.actors.actor import Caller
from server.actors.app import App
from server.ids import actor_id
from server.wire.codec import Codec
from tests.support.engine import cluster

PAGE = Path(__file__).resolve().parents[2] / "docs/actors.md"


@pytest.fixture
def clan(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The page's file as a module."""
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert code is not None
    module = types.ModuleType("clan_of_the_page")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(code[1], "docs/actors.md", "exec"), module.__dict__)
    return module


async def test_a_clan_is_joined_and_stored(clan: Any) -> None:
    assert isinstance(clan.App, App)
    async with cluster(("node-1", "node-2"), app=clan.App) as world:
        red = actor_id("clan", "red")
        for node, name in (("node-1", "spartan-117"), ("node-2", "spartan-7"), ("node-2", "spartan-117")):
            caller = Caller("player", name, "a-session")
            info = await world.hosts[node].ask(red, "join", (caller, clan.ClanJoin(1, "red")))
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
