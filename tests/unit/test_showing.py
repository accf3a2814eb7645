"""How an actor shows itself: after its turn, what is visible only, and on where it moves."""

from typing import Any

import pytest

from server.actors.actor import Actor, remote
from server.actors.app import App
from server.actors.pictures import MAX_PICTURE_BYTES, Pictures, Showing
from server.actors.presence import PresenceKind
from server.errors import BadSetting, Fenced, Internal, Rejected
from server.ids import actor_id
from tests.support.engine import TestSystem, cluster, key_owned_by
from tests.support.tiny import Counter, Total

pytestmark = pytest.mark.virtual_time


def looks(word: bytes) -> Pictures:
    return Pictures(word, word, word)


class Lantern(Actor[Total]):
    """A write-behind actor that shows itself as it is told."""

    kind = "lantern"
    durability = "write_behind"
    State = Total

    @remote
    def light(self, word: bytes, relations: int) -> None:
        self.show(looks(word), relations)

    @remote
    def refuse(self) -> None:
        self.show(looks(b"no"))
        raise Rejected("planted", "planted")

    @remote
    def douse(self) -> None:
        self.show(None)


APP = App("lanterns", (Lantern,))


async def told(system: TestSystem, name: str, *args: Any) -> list[Any]:
    await system.ask(actor_id("lantern", "k"), name, args)
    return [word[1:] for word in system.published.shown]


async def test_only_visible_changes_of_turns_that_stand_are_shown() -> None:
    async with cluster(app=APP) as world:
        system = world.systems["node-1"]
        assert await told(system, "douse") == []
        await told(system, "light", b"a", 0)
        await told(system, "light", b"a", 0)
        with pytest.raises(Rejected):
            await told(system, "refuse")
        await told(system, "light", b"a", 7)
        assert await told(system, "douse") == [
            (1, Showing(1, looks(b"a"), 0)),
            (1, Showing(2, looks(b"a"), 7)),
            (1, Showing(3, None, 0)),
        ]


async def test_a_picture_over_its_bound_fails_its_turn() -> None:
    async with cluster(app=APP) as world:
        system = world.systems["node-1"]
        await told(system, "light", b"x" * MAX_PICTURE_BYTES, 0)
        with pytest.raises(Internal, match="2049 bytes"):
            await told(system, "light", b"x" * (MAX_PICTURE_BYTES + 1), 0)
        with pytest.raises(Internal, match="list of relations"):
            await told(system, "light", b"x", -1)
        assert len(system.published.shown) == 1


async def test_the_end_of_an_activation_is_told_once_and_only_of_one_that_shows_itself() -> None:
    async with cluster(app=APP) as world:
        system = world.systems["node-1"]
        await told(system, "light", b"a", 0)
        await system.ask(actor_id("lantern", "other"), "wake", ())
        for activation in list(system.catalog.live.values()):
            system.discard(activation, Fenced("planted"))
            system.discard(activation, Fenced("planted"))
        assert [word[1:] for word in system.published.shown] == [(1, Showing(1, looks(b"a"), 0)), (1, False)]


async def test_a_migrated_actor_is_shown_at_its_new_node_by_the_same_number_and_a_later_epoch() -> None:
    async with cluster(("node-1", "node-2"), app=APP) as world:
        source, target = world.systems["node-1"], world.systems["node-2"]
        identity = actor_id("lantern", key_owned_by(source, Lantern, "node-1"))
        await source.ask(identity, "light", (b"a", 0))
        await source.ask(identity, "light", (b"b", 3))
        activation = source.find(identity)
        assert activation is not None
        assert await source.migrator.move([activation], target.me) == 1
        assert source.published.shown[-1] == (identity, 1, True)
        assert target.published.shown == [(identity, 2, Showing(2, looks(b"b"), 3))]
        await target.ask(identity, "light", (b"b", 3))
        await target.ask(identity, "douse", ())
        assert target.published.shown[1:] == [(identity, 2, Showing(3, None, 0))]


def test_an_application_is_refused_whose_presence_cannot_be_told() -> None:
    gone = looks(b"\xc0")
    with pytest.raises(BadSetting, match="relations"):
        App("lanterns", (Lantern,), presence=PresenceKind(lambda _row: gone, b"\xc0", b"\xc0", relations=Counter))
    with pytest.raises(BadSetting, match=r"presence\.unknown"):
        App("lanterns", (Lantern,), presence=PresenceKind(lambda _row: gone, b"", b"\xc0"))
