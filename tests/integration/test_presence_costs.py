"""A snapshot of 200 friends, by sessions on real presence engines: a request a node, and a query of the store."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from server.actors.actor import Caller, remote
from server.actors.app import App
from server.actors.devices import Login
from server.actors.pictures import Look, Pictures, Relations
from server.actors.presence import PresenceKind
from server.ids import NodeId, actor_id
from server.presence.engine import PresenceEngine, engine_of
from server.presence.messages import LookUp, PresenceWord, decode
from server.transport.ports import Service
from server.wire.messages import PresenceList
from tests.support.engine import Cluster, TestSystem, key_owned_by
from tests.support.gateways import World, gateways
from tests.support.waiting import until
from tests.support.watchers import QUICK, Circle, Watcher, looks, packed
from tests.unit.test_presence_engine import Player as Shown
from tests.unit.test_presence_engine import Rows

pytestmark = pytest.mark.virtual_time

NAMES = [f"node-{number}" for number in range(1, 6)]
FRIENDS = [f"friend-{number}" for number in range(200)]
ONLINE = FRIENDS[::2]
VIEWER_NODE = "node-1"


class Visible(Shown):
    """A session's actor that shows itself from its first session on."""

    kind = "lantern"
    State = Shown.State

    @remote
    def connected(self, caller: Caller, login: Login) -> None:
        self.seen = Look(looks("here"))
        self.show()


def gone(row: Mapping[str, Any] | None) -> Pictures:
    return looks(f"off {row['last_seen_ms']}" if row is not None else "off")


WatchedApp = App(
    "lanterns",
    (Visible, Circle),
    session_actor=Visible,
    presence=PresenceKind(gone, packed("?"), packed("off"), query="last_seen", relations=Circle),
)


class Engines(Cluster):
    """Systems with a presence engine each, whose requests and queries are kept."""

    engines: dict[str, PresenceEngine] = {}
    words: list[tuple[NodeId, NodeId, PresenceWord | LookUp]] = []
    rows = Rows()

    def before_start(self, system: TestSystem) -> None:
        me, request = system.transport.me.node, system.transport.request
        engine = engine_of(msgspec.structs.replace(system.services, store_queries=self.rows))
        assert engine is not None
        self.engines[me] = engine

        def keep(to: Any, service: int, payload: bytes, timeout_s: float) -> Any:
            if service == Service.PRESENCE:
                self.words.append((me, to.node, decode(payload)))
            return request(to, service, payload, timeout_s)

        system.transport.request = keep  # type: ignore[method-assign]


@asynccontextmanager
async def friends_over_nodes() -> AsyncIterator[tuple[World, str]]:
    """Nodes with friends, half of them online; and a player whose friends they are, with its slot at its node."""
    Engines.engines, Engines.words, Engines.rows = {}, [], Rows()
    Circle.lists, Circle.asked, Circle.gate, Circle.error = {}, [], None, None
    async with gateways(
        NAMES, app=WatchedApp, engine_of=lambda name: Engines.engines[name], made=Engines, gateway=QUICK
    ) as world:
        await until(lambda: all(engine.core.sure for engine in Engines.engines.values()))
        system = world.nodes[VIEWER_NODE].system
        for player in ONLINE:
            await system.ask(actor_id("lantern", player), "light", (packed("on"), 0))
        Engines.rows.seen = dict.fromkeys(FRIENDS, 7)
        viewer = key_owned_by(system, Visible, VIEWER_NODE)
        Circle.lists[viewer] = Relations(1, FRIENDS, [])
        owners = {str(node.core.me.node) for node in Engines.engines.values()}
        assert owners == set(NAMES)
        assert {str(owner.node) for each in FRIENDS if (owner := system.owner(actor_id("lantern", each)))} == owners
        yield world, viewer


def words() -> tuple[Counter[str], Counter[str]]:
    """Requests of the viewer's node that ask, by the node asked, and requests to it that answer, by their sender."""
    asking = Counter(
        str(to) for frm, to, word in Engines.words if frm == VIEWER_NODE and (isinstance(word, LookUp) or word.watched)
    )
    answering = Counter(
        str(frm)
        for frm, to, word in Engines.words
        if to == VIEWER_NODE and isinstance(word, PresenceWord) and word.answers
    )
    return asking, answering


EXPECTED = {player: "on" if player in ONLINE else "off 7" for player in FRIENDS}
ONCE_EACH = dict.fromkeys(NAMES[1:], 1)


async def welcomed(world: World, viewer: str) -> Watcher:
    client = world.client(VIEWER_NODE, viewer)
    answer = await client.hello(redirects=False)
    assert answer[0] == "welcome", answer
    engine = Engines.engines[VIEWER_NODE]
    await until(lambda: viewer in engine.core.home.shown)
    Engines.words.clear()
    Engines.rows.asked.clear()
    return Watcher(client)


async def test_a_watch_of_200_friends_is_a_request_a_node_and_one_query() -> None:
    async with friends_over_nodes() as (world, viewer):
        watcher = await welcomed(world, viewer)
        assert (await watcher.watch(friends=True))[0] == "presence.watched"
        assert watcher.picture == EXPECTED
        asking, answering = words()
        assert asking == ONCE_EACH and not answering  # the replies have the answers
        assert [len(keys) for keys in Engines.rows.asked] == [100]


async def test_a_list_of_200_friends_is_a_request_a_node_and_one_query() -> None:
    async with friends_over_nodes() as (world, viewer):
        watcher = await welcomed(world, viewer)
        answer = await watcher.client.ask(PresenceList, FRIENDS)
        assert {player: value for player, _, value in answer[2]} == EXPECTED
        asking, answering = words()
        assert asking == ONCE_EACH and not answering
        assert [len(keys) for keys in Engines.rows.asked] == [100]
        assert not Engines.engines[VIEWER_NODE].core.watching.entries
