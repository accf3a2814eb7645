"""The presence engine on nodes without gateway: who is shown reaches who watches, rows of the offline in one query."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from server.actors.actor import Caller, remote
from server.actors.app import App
from server.actors.devices import Login
from server.actors.pictures import MAX_PICTURE_BYTES, Pictures, Showing
from server.actors.presence import PresenceKind
from server.cluster.view import View
from server.errors import BadInput, Internal, Overloaded, Unavailable
from server.ids import NodeAddress, actor_id
from server.presence.engine import PresenceEngine, engine_of
from server.presence.messages import LookUp, PresenceWord, decode, encode
from server.presence.ports import WatchedPlayer
from server.transport.ports import Service
from tests.support.engine import Cluster, TestSystem, cluster, key_owned_by
from tests.support.tiny import Total
from tests.support.waiting import until
from tests.unit.test_showing import Lantern

pytestmark = pytest.mark.virtual_time

UNKNOWN, HIDDEN = b"unknown", b"hidden"


class Player(Lantern):
    """A session's actor that shows itself as it is told."""

    kind = "lantern"
    durability = "write_behind"
    State = Total

    @remote
    def connected(self, caller: Caller, login: Login) -> None: ...

    @remote
    def disconnected(self, caller: Caller, reason: str) -> None: ...

    @remote
    def beat(self, caller: Caller, state: str | None) -> None: ...


def looks(word: bytes) -> Pictures:
    return Pictures(word, word, word)


def gone(row: Mapping[str, Any] | None) -> Pictures:
    """Offline, since then; a row that says 13 is one that the application stumbles over."""
    if row is None:
        return looks(b"off")
    if row["last_seen_ms"] == 13:
        raise ValueError("planted")
    return looks(f"off {row['last_seen_ms']}".encode())


APP = App(
    "lanterns",
    (Player,),
    session_actor=Player,
    presence=PresenceKind(gone, UNKNOWN, HIDDEN, query="last_seen"),
)


class Shown:
    """An activation that shows itself, and looks as it is told."""

    epoch = 1
    seen = Showing(1, looks(b"a"), 0)

    def showing(self) -> Showing:
        return self.seen


class Rows:
    """Store queries that keep what was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.seen: dict[str, int] = {}
        self.away = False

    async def run(self, name: str, params: Mapping[str, Any]) -> list[dict[str, Any]]:
        assert name == "last_seen"
        self.asked.append(list(params["keys"]))
        if self.away:
            raise Unavailable("planted")
        return [{"key": key, "last_seen_ms": self.seen[key]} for key in params["keys"] if key in self.seen]

    async def close(self) -> None: ...


class Showcase(Cluster):
    """Systems with a presence engine each."""

    engines: dict[str, PresenceEngine]
    rows: Rows

    def before_start(self, system: TestSystem) -> None:
        self.engines = getattr(self, "engines", {})
        self.rows = getattr(self, "rows", Rows())
        services = msgspec.structs.replace(system.services, store_queries=self.rows)
        engine = engine_of(services)
        assert engine is not None
        self.engines[str(len(self.engines) + 1)] = engine
        outlet = system.published
        outlet.show, outlet.hide = engine.show, engine.hide  # type: ignore[method-assign]
        outlet.withdraw = engine.withdraw  # type: ignore[method-assign]

    def view(self, *names: str) -> None:
        self.show(*names)
        for name in names:
            engine, system = self.engines[name[-1]], self.systems[name]
            if not engine.core.me.incarnation:
                engine.start(system.me)
            engine.on_view(View(tuple(system.view.members.values())))


@asynccontextmanager
async def nodes(count: int, **tree: Any) -> AsyncIterator[Showcase]:
    names = [f"node-{number + 1}" for number in range(count)]
    async with cluster(names, app=APP, world=Showcase, **tree) as world:
        assert isinstance(world, Showcase)
        world.view(*names)
        await until(lambda: all(engine.core.sure for engine in world.engines.values()))
        yield world


async def light(system: TestSystem, key: str, word: bytes, relations: int = 0) -> None:
    await system.ask(actor_id("lantern", key), "light", (word, relations))


async def test_a_watching_node_sees_who_is_shown_at_another_one_and_what_changes() -> None:
    async with nodes(3) as world:
        system, engine = world.systems["node-1"], world.engines["3"]
        told: list[list[WatchedPlayer]] = []
        engine.on_change(told.append)
        key = key_owned_by(system, Player, "node-2")
        await light(system, key, b"a", 7)
        [entry, same] = engine.watch([key, key])
        assert entry is same and entry.state == "asked" and entry.pictures is None
        await engine.answered([entry])
        assert (entry.state, entry.pictures, entry.relations) == ("known", looks(b"a"), 7)
        await light(system, key, b"b", 8)
        await until(lambda: entry.pictures == looks(b"b") and entry.relations == 8)
        assert all(batch == [entry] for batch in told)
        await system.ask(actor_id("lantern", key), "douse", ())
        await until(lambda: entry.pictures == looks(b"off"))
        engine.release(entry)
        await light(system, key, b"c")
        await until(lambda: not world.engines["2"].core.peers[world.systems["node-3"].me].heard.interest)
        assert entry.pictures == looks(b"off")


async def test_rows_of_many_offline_players_are_one_query_and_one_bad_row_spoils_no_other() -> None:
    async with nodes(3) as world:
        engine, rows = world.engines["1"], world.rows
        rows.seen = {"p1": 5, "p2": 13}
        entries = engine.watch([f"p{number}" for number in range(200)])
        await engine.answered(entries)
        assert [len(keys) for keys in rows.asked] == [200]
        assert [entry.pictures for entry in entries[:3]] == [looks(b"off"), looks(b"off 5"), looks(b"off")]
        assert all(entry.state == "known" for entry in entries)


async def test_a_player_who_has_just_gone_is_looked_up_again_once_the_row_is_stored() -> None:
    async with nodes(1) as world:
        system, engine, rows = world.systems["node-1"], world.engines["1"], world.rows
        await light(system, "p", b"a")
        [entry] = engine.watch(["p"])
        assert entry.pictures == looks(b"a")
        rows.seen = {"p": 1}
        await system.ask(actor_id("lantern", "p"), "douse", ())
        await until(lambda: entry.pictures == looks(b"off 1"))
        rows.seen = {"p": 2}
        await until(lambda: entry.pictures == looks(b"off 2"))
        asked = len(rows.asked)
        await asyncio.sleep(10.0)
        assert len(rows.asked) == asked == 2


async def test_offline_players_are_offline_though_the_store_is_away() -> None:
    async with nodes(1) as world:
        engine = world.engines["1"]
        world.rows.away = True
        entries = engine.watch(["p", "q"])
        await engine.answered(entries)
        assert [entry.pictures for entry in entries] == [looks(b"off"), looks(b"off")]


async def test_a_look_asks_each_owner_once_and_the_store_once() -> None:
    async with nodes(3) as world:
        system, engine = world.systems["node-1"], world.engines["1"]
        key = key_owned_by(system, Player, "node-2")
        await light(system, key, b"a", 4)
        await until(lambda: engine.core.sure)
        before = len(world.rows.asked)
        found = await engine.look([key, "x", "y", "z"])
        assert [entry.player for entry in found] == [key, "x", "y", "z"]
        assert [entry.pictures for entry in found] == [looks(b"a"), *[looks(b"off")] * 3]
        assert found[0].relations == 4 and not engine.core.watching.entries
        assert len(world.rows.asked) == before + 1


async def test_nobody_is_offline_where_a_member_has_vanished_and_is_not_known_to_be_over() -> None:
    async with nodes(2) as world:
        engine, lost = world.engines["1"], world.systems["node-2"].me
        key = key_owned_by(world.systems["node-1"], Player, "node-1")
        await light(world.systems["node-1"], key, b"a")
        await world.remove("node-2")
        world.view("node-1")
        entries = engine.watch([key, "q"])
        await engine.answered(entries)
        assert [entry.state for entry in entries] == ["unknown", "unknown"]
        assert [entry.state for entry in await engine.look([key, "q"])] == ["unknown", "unknown"]
        await world.systems["node-1"].store.bury(lost)
        await until(lambda: all(entry.state == "known" for entry in entries))
        assert [entry.pictures for entry in entries] == [looks(b"a"), looks(b"off")]


async def test_a_node_watches_so_many_and_refuses_more_whole() -> None:
    async with nodes(1, actors={"max_watched": 3}) as world:
        engine = world.engines["1"]
        engine.watch(["a", "b"])
        with pytest.raises(Overloaded, match="3 players at most"):
            engine.watch(["a", "c", "d"])
        assert set(engine.core.watching.entries) == {"a", "b"}
        assert len(engine.watch(["a", "b", "c"])) == 3


async def test_an_actor_without_sessions_that_shows_itself_is_refused() -> None:
    async with nodes(1) as world:
        with pytest.raises(Internal, match="no sessions are bound"):
            world.engines["1"].show(actor_id("other", "x"), Shown())


def word(**fields: Any) -> PresenceWord:
    plain: dict[str, Any] = {key: [] for key in ("shown", "hidden", "untold", "watched", "unwatched", "answers")}
    plain |= {"stint": 1, "number": 1, "first": True, "digest": 1, "complete": True, "sure": True}
    return PresenceWord(**plain | fields)


def _word(message: PresenceWord | LookUp) -> PresenceWord:
    assert isinstance(message, PresenceWord)
    return message


class OldReply(msgspec.Struct, array_like=True, frozen=True):
    """`PresenceReply` as members of an earlier version read it."""

    verdict: str


async def test_a_member_of_an_earlier_version_is_answered_in_the_stream() -> None:
    async with nodes(2) as world:
        asked, system = world.engines["2"], world.systems["node-1"]
        player = key_owned_by(system, Player, "node-2")
        [peer] = asked.core.peers
        await until(lambda: asked.core.peers[peer].out.flight is None)
        heard = asked.core.peers[peer].heard
        fields = {"stint": heard.stint, "first": False, "digest": asked.core.view.digest, "watched": [player]}
        new = encode(word(**fields, number=heard.number + 1, takes_answers=True))
        old = encode(msgspec.msgpack.decode(new)[:-1])  # the tag and the fields before it
        reply = asked.core.receive(peer, _word(decode(new)), system.clock.now())
        assert [answer.player for answer in reply.answers] == [player] and not asked.core.peers[peer].out.answers
        assert msgspec.msgpack.decode(encode(reply), type=OldReply).verdict == "taken"
        message = msgspec.structs.replace(_word(decode(old)), number=heard.number + 1)
        reply = asked.core.receive(peer, message, system.clock.now())
        assert (reply.verdict, reply.answers, list(asked.core.peers[peer].out.answers)) == ("taken", [], [player])


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x93\x01",
        encode(LookUp(1, ["x" * 65])),
        encode(LookUp(1, ["x"] * 1_001)),
        encode(word(watched=[""])),
        encode(word(number=0)),
        encode(word(shown=[["x", 1, 1, 0, [b"x" * (MAX_PICTURE_BYTES + 1), None, None]]])),
        encode(word(shown=[["x", -1, 1, 0, [b"x", None, None]]])),
    ],
)
async def test_bytes_that_are_no_message_are_refused_with_a_typed_error(payload: bytes) -> None:
    with pytest.raises(BadInput, match="presence message"):
        decode(payload)
    async with nodes(2) as world:
        source, target = world.systems["node-1"], world.systems["node-2"]
        with pytest.raises(BadInput):
            await source.transport.request(target.me, Service.PRESENCE, payload, 1.0)
        stranger = NodeAddress(source.me.node, target.me.incarnation)
        assert world.engines["2"].core.receive(stranger, word(), 0.0).verdict == "refused"
