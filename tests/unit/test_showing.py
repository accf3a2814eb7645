"""How an actor shows itself: after its turn, to whoever looks, what is visible only, and on where it moves."""

from typing import Any

import pytest
from msgspec.structs import replace

from server.activations.activation import Activation
from server.actors.actor import Actor, Look, remote
from server.actors.app import App
from server.actors.pictures import MAX_PICTURE_BYTES, Pictures, Showing, ShownActor
from server.actors.presence import PresenceKind
from server.errors import BadSetting, Fenced, Rejected
from server.ids import ActorId, actor_id
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

    __slots__ = ("seen",)

    def activated(self) -> None:
        self.seen = Look(looks(b"new"))

    def carry(self) -> Look:
        return self.seen

    def arrived(self, carried: Look) -> None:
        self.seen = carried

    def look(self) -> Look:
        return self.seen

    @remote
    def light(self, word: bytes, relations: int) -> None:
        self.seen = Look(looks(word), relations)
        self.show()

    @remote
    def refuse(self) -> None:
        self.show()
        raise Rejected("planted", "planted")

    @remote
    def douse(self) -> None:
        self.withdraw()


class Gauge(Lantern):
    """A lantern that looks like its state."""

    kind = "gauge"
    __slots__ = ()

    def look(self) -> Look:
        return Look(looks(f"{self.state.total}".encode()))

    @remote
    def add(self, visibly: bool) -> None:
        self.state = replace(self.state, total=self.state.total + 1)
        if visibly:
            self.show()


APP = App("lanterns", (Lantern, Gauge))


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


@pytest.mark.parametrize("bad", [Look(looks(b"x" * (MAX_PICTURE_BYTES + 1))), Look(looks(b"x"), -1), None])
async def test_an_actor_whose_look_is_none_looks_as_before(bad: Look | None) -> None:
    async with cluster(app=APP) as world:
        system = world.systems["node-1"]
        await told(system, "light", b"x" * MAX_PICTURE_BYTES, 0)
        activation = system.find(actor_id("lantern", "k"))
        assert activation is not None and isinstance(activation.actor, Lantern)
        activation.actor.seen = bad  # type: ignore[assignment]
        activation.hook(lambda actor: actor.show())
        assert activation.showing() == Showing(1, looks(b"x" * MAX_PICTURE_BYTES), 0)
        await told(system, "light", b"y", 0)
        assert activation.showing() == Showing(2, looks(b"y"), 0)


class Looked:
    """An outlet at which nobody looks by itself."""

    def __init__(self, system: TestSystem) -> None:
        self.noted = 0
        system.published.show = self.show  # type: ignore[method-assign]

    def show(self, _identity: ActorId, _shown: ShownActor) -> None:
        self.noted += 1


def hold(system: TestSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold the outputs of changes until the test lets them go."""
    monkeypatch.setattr(system.durability, "accept", lambda *_: False)
    monkeypatch.setattr(system.durability, "at_once", False)


async def gauge(system: TestSystem) -> Activation:
    identity = actor_id("gauge", "k")
    await system.ask(identity, "add", (True,))
    activation = system.find(identity)
    assert activation is not None
    return activation


async def test_looks_are_made_when_somebody_looks_and_told_of_once_until_then(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    true_look = Gauge.look
    monkeypatch.setattr(Gauge, "look", lambda actor: made.append(1) or true_look(actor))
    async with cluster(app=APP) as world:
        looked = Looked(world.systems["node-1"])
        activation = await gauge(world.systems["node-1"])
        for _ in range(5):
            activation.call("add", (True,))
        assert (looked.noted, len(made)) == (1, 0)
        assert activation.showing() == activation.showing() == Showing(1, looks(b"6"), 0), (
            "what nobody saw counts as one"
        )
        activation.call("add", (False,))
        assert activation.showing().n == 1
        activation.call("add", (True,))
        assert (looked.noted, len(made)) == (2, 1)
        assert activation.showing() == Showing(2, looks(b"8"), 0)


async def test_a_look_that_is_not_durable_is_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster(app=APP) as world:
        system = world.systems["node-1"]
        looked = Looked(system)
        activation = await gauge(system)
        assert activation.showing() == Showing(1, looks(b"1"), 0)
        activation.call("add", (True,))
        hold(system, monkeypatch)
        activation.call("add", (False,))
        assert activation.showing() == Showing(2, looks(b"3"), 0), "by its word that changes nothing visible"
        activation.call("add", (True,))
        noted = looked.noted
        assert activation.showing() == Showing(2, looks(b"3"), 0)
        activation.released(activation.version)
        assert looked.noted == noted + 1 and activation.showing() == Showing(3, looks(b"4"), 0)


async def test_a_look_that_was_asked_for_while_another_one_is_held_is_told_when_that_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with cluster(app=APP) as world:
        system = world.systems["node-1"]
        looked = Looked(system)
        activation = await gauge(system)
        assert activation.showing() == Showing(1, looks(b"1"), 0)
        activation.call("add", (True,))
        assert looked.noted == 2
        hold(system, monkeypatch)
        activation.call("add", (True,))
        assert activation.showing() == Showing(1, looks(b"1"), 0), "of what was durable nobody knows any more"
        activation.released(activation.version)
        assert looked.noted == 3 and activation.showing() == Showing(2, looks(b"3"), 0)


async def test_an_actor_that_changes_faster_than_it_is_durable_is_seen_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with cluster(app=APP) as world:
        system = world.systems["node-1"]
        looked = Looked(system)
        activation = await gauge(system)
        hold(system, monkeypatch)
        first = activation.version + 1
        for _ in range(3):
            activation.call("add", (True,))
        seen = []
        for version in range(first, first + 3):
            activation.call("add", (True,))
            activation.released(version)
            seen.append(activation.showing().pictures)
        assert seen[1:] == [looks(b"3"), looks(b"4")], "each as of its own turn, not of one that is held"
        assert looked.noted >= 3


async def test_an_actor_that_withdraws_before_anybody_looked_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster(app=APP) as world:
        system = world.systems["node-1"]
        Looked(system)
        activation = await gauge(system)
        activation.call("douse", ())
        assert system.published.shown[-1] == (activation.id, 1, Showing(1, None, 0))
        assert activation.showing() == Showing(1, None, 0)
        activation.call("add", (True,))
        assert activation.showing() == Showing(2, looks(b"2"), 0)


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
