"""The golden conversations, played against the SDK's core and against live nodes: from the same JSON."""

import copy
from typing import Any

import pytest

from game.app import App
from server.cli.conversation_steps import CHOICES
from server.cli.protocol import describe
from server.wire.codec import Format
from tests.support.conversations import CONVERSATIONS, CorePlayer, NodePlayer, Values, WrongLine, whole
from tests.support.gateways import SessionApp, gateways
from tests.support.tiny import TinyApp
from tests.support.watchers import watched

pytestmark = pytest.mark.virtual_time
Step = dict[str, Any]
NAMES = [conversation["name"] for conversation in CONVERSATIONS]


def named(name: str) -> Step:
    return copy.deepcopy(next(each for each in CONVERSATIONS if each["name"] == name))


async def play_live(conversation: Step, format: Format = "msgpack") -> None:
    latest = any("latest_topic" in spec for spec in conversation["values"].values())
    app = SessionApp if latest else App  # the game has no latest topics
    if any("shown_player" in spec for spec in conversation["values"].values()):
        async with watched(conversation["nodes"], **conversation["settings"]) as shown:
            await NodePlayer(conversation, shown.world, format).play()
        return
    async with gateways(conversation["nodes"], app=app, **conversation["settings"]) as world:
        for node in world.nodes.values():  # what is told once it is stored gets stored
            node.system.supervisor.spawn(node.system.write_behind.run(), "write-behind")
        await NodePlayer(conversation, world, format).play()


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("name", NAMES)
def test_the_core_keeps_to_each_conversation(name: str, chance: float) -> None:
    CorePlayer(named(name), chance).play()


@pytest.mark.parametrize("format", ["msgpack", "json"])
@pytest.mark.parametrize("name", NAMES)
async def test_nodes_keep_to_each_conversation(name: str, format: Format) -> None:
    await play_live(named(name), format)


# ---- wrong lines are seen ---------------------------------------------------------------------------


def spoil(step: Step) -> Step:
    """The step with something in it that cannot be."""
    match step:
        case {"line": line}:
            return {**step, "line": [*line, "planted"]}
        case {"to": url}:
            return {**step, "to": f"{url[:-1]}{3 - int(url[-1])}" if url in ("$n1", "$n2") else "planted"}
        case {"code": code}:
            return {**step, "code": code + 1}
        case {"client": "drop"}:
            return {**step, "client": "close", "code": 1000}
        case {"tells": told}:
            return {**step, "tells": [*told, "planted"]}
    raise AssertionError(step)


def steps_of(side: str) -> list[tuple[str, int]]:
    """The places of all steps that a player of `side` compares."""
    return [
        (conversation["name"], place)
        for conversation in CONVERSATIONS
        for place, step in enumerate(conversation["steps"])
        if (side == "core" and ("client" in step or "tells" in step))
        or (side == "node" and "server" in step and step["server"] != "break" and not step.get("fault"))
    ]


@pytest.mark.parametrize(("name", "place"), steps_of("core"))
def test_a_wrong_step_of_the_client_is_seen(name: str, place: int) -> None:
    conversation = named(name)
    conversation["steps"][place] = spoil(conversation["steps"][place])
    conversation["values"].setdefault("$n2", {"example": "ws://n2.example:7350"})
    with pytest.raises(WrongLine, match=rf"step {place}, "):
        CorePlayer(conversation, 0.5).play()


@pytest.mark.parametrize(("name", "place"), steps_of("core"))
def test_a_step_of_the_client_that_none_asks_for_is_seen(name: str, place: int) -> None:
    conversation = named(name)
    step = conversation["steps"].pop(place)
    if "after_ms" in step:
        conversation["steps"].insert(place, {"passes_ms": step["after_ms"][1]})
    with pytest.raises(WrongLine):
        CorePlayer(conversation, 0.5).play()


LAST = dict(steps_of("node"))
"""Of each conversation the last step in which a node does something."""


@pytest.mark.parametrize(("name", "place"), LAST.items())
async def test_a_wrong_step_of_the_node_is_seen(name: str, place: int) -> None:
    conversation = named(name)
    conversation["steps"][place] = spoil(conversation["steps"][place])
    with pytest.raises(WrongLine, match=rf"step {place}, "):
        await play_live(conversation)


async def test_a_line_that_no_step_asks_for_is_seen() -> None:
    conversation = named("rate_limited")
    places = [place for place, step in enumerate(conversation["steps"]) if step.get("line", [""])[0] == "saved"]
    del conversation["steps"][places[0]]
    with pytest.raises(WrongLine):
        await play_live(conversation)


def test_a_line_without_trailing_fields_stands_for_one_with_their_defaults() -> None:
    assert whole(["hello", 1, "tok"])[2:7] == ["tok", None, 0, "", True]
    assert whole(["hello", 1]) == ["hello", 1]
    assert whole(["beats", 3]) == ["beats", 3]
    values = Values({"values": {}}, "client")
    assert values.fits(whole(["hello", 1, "tok"]), whole(["hello", 1, "tok", None, 0, "", True]))
    assert not values.fits(whole(["hello", 1, "tok"]), whole(["hello", 1, "tok", None, 0, "", False]))


# ---- the data itself ----------------------------------------------------------------------------------


def test_each_kind_of_value_is_used() -> None:
    assert set(CHOICES) <= {name for conversation in CONVERSATIONS for name in conversation["values"]}


def test_an_app_has_the_conversations_that_its_messages_allow() -> None:
    names = {conversation["name"] for conversation in describe(TinyApp)["conversations"]}
    assert {"redirect_loop", "replaced", "token_expired"} <= names < set(NAMES)
