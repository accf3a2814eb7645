"""Each part of the catalog, built alone from its named collaborators: small fakes of exactly what it uses."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from server.activations.activation import Activation
from server.activations.parcels import Go, Offer, Open, Over, Ship, Taken, decode_taken, encode, pack, unpack
from server.actors.actor import Actor, existing, reminder, remote
from server.actors.app import App
from server.actors.methods import methods_of
from server.catalog.arrivals import Arrivals
from server.catalog.calls import encode_call
from server.catalog.catalog import Catalog
from server.catalog.departure import Departure
from server.catalog.dispatcher import Dispatcher
from server.catalog.expected import Expected
from server.catalog.migration import Migrator
from server.catalog.misplaced import Misplaced
from server.catalog.orphans import Orphans
from server.catalog.queries import Queries
from server.catalog.rebalance import Rebalance
from server.catalog.reminders import Reminders
from server.catalog.services import CurrentView, Services
from server.cluster.view import Member, View
from server.errors import GarrisonError, Moved, NotFound, Unavailable
from server.ids import ActorId, Epoch, Incarnation, NodeAddress, NodeId, actor_id
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.settings import Settings
from server.storage.ports import Owned, Reminder
from server.storage.queries import NoStoreQueries
from server.transport.ports import Service
from tests.support.waiting import until

ME, OTHER = NodeAddress(NodeId("me"), Incarnation(1)), NodeAddress(NodeId("other"), Incarnation(2))


class Level(msgspec.Struct, frozen=True):
    level: int = 0
    reminded: dict[str, int] = {}


class Lamp(Actor[Level]):
    kind = "lamp"
    State = Level

    @remote
    def brighten(self) -> int:
        self.state = Level(self.state.level + 1)
        return self.state.level

    @existing
    def level(self) -> int:
        return self.state.level


class Beacon(Actor[Level]):
    """Lives on by itself; it is stored, and may be reminded."""

    kind = "beacon"
    durability = "write_behind"
    State = Level
    lives_on = True

    @reminder
    def blink(self, due_ms: int) -> None: ...


class Recorder:
    """Collaborators that note how they are called: `recorder.ask(…)` answers `answers["ask"]`."""

    def __init__(self, **answers: Any) -> None:
        self.answers, self.calls = answers, list[tuple[Any, ...]]()

    def __getattr__(self, name: str) -> Any:
        if name not in self.answers:
            raise AttributeError(name)

        def call(*args: Any, **more: Any) -> Any:
            self.calls.append((name, *args))
            answer = self.answers[name]
            return answer(*args, **more) if callable(answer) else answer

        return call

    def called(self, name: str) -> list[Any]:
        return [args for what, *args in self.calls if what == name]


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    boot = now

    def wall_ms(self) -> int:
        return int(self.time * 1000)


class FakeTransport:
    """Handlers by service; requests are answered by the handler in `peer`, or with `b""`."""

    def __init__(self) -> None:
        self.handlers: dict[int, Callable[[NodeAddress, bytes], Any]] = {}
        self.peer: Callable[[bytes], bytes] = lambda payload: b""
        self.sent: list[bytes] = []

    def serve(self, service: int, handler: Callable[[NodeAddress, bytes], Any]) -> None:
        assert service not in self.handlers
        self.handlers[service] = handler

    def request(self, to: NodeAddress, service: int, payload: bytes, timeout_s: float) -> "asyncio.Future[bytes]":
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.sent.append(payload)
        try:
            answer.set_result(self.peer(payload))
        except GarrisonError as error:
            answer.set_exception(error)
        return answer

    def send(self, to: NodeAddress, service: int, payload: bytes) -> None:
        self.sent.append(payload)


class Bench:
    """What every part is given, and a node for its activations."""

    def __init__(self, **store: Any) -> None:
        self.clock, self.transport, self.store = Clock(), FakeTransport(), Recorder(**store)
        self.metrics, self.supervisor = Metrics(), Supervisor("bench")
        self.app = App(
            "parts",
            (Lamp, Beacon),
            read_models={
                "levels": lambda activations, params: [[it.key, it.state.level] for it in activations("lamp")]
            },
        )
        self.services = Services(
            app=self.app,
            settings=Settings(),
            clock=self.clock,
            rng=random.Random(1),
            metrics=self.metrics,
            supervisor=self.supervisor,
            transport=self.transport,  # type: ignore[arg-type]
            store=self.store,
            store_queries=NoStoreQueries(),
            logs=Recorder(),
        )
        self.current = CurrentView(ME, View((member(ME),)))
        self.directory = Recorder(announce=None, forget=None, find=None, settled=_at_once, register=OTHER)
        self.storage = SimpleNamespace(
            claimer=Recorder(
                claim=lambda kind, identity, make=True, revive=False: _done(Owned(Epoch(1), Epoch(1), 7, Level(7)))
            ),
            takeover=Recorder(bury=_at_once, check=None, claimed=None),
            durability=Recorder(accept=True),
            write_behind=Recorder(forget=None, flush_these=_at_once, is_stuck=False, quiet=_quiet),
            group_commit=Recorder(forget=None),
        )
        self.node = SimpleNamespace(
            turn_number=0,
            me=ME,
            settings=self.services.settings,
            clock=self.clock,
            metrics=self.metrics,
            supervisor=self.supervisor,
            store=self.store,
            durability=self.storage.durability,
            observers=lambda kind: (),
            methods=lambda cls: methods_of(cls).remote,
            timer_methods=lambda cls: methods_of(cls).own,
            tell=lambda *args: None,
            turn_crashed=lambda identity, error: None,
        )
        self.calls = Recorder(ask=_at_once, tell=None, serve=b"", pass_on=None, note_place=None)

    def activation(self, cls: type[Actor[Any]] = Lamp, key: str = "a", level: int = 0) -> Activation:
        """One that is not of any catalog."""
        return Activation(self.node, cls, actor_id(cls.kind, key), Level(level), level)

    def catalog(self, misplaced: Misplaced | None = None) -> Catalog:
        return Catalog(
            self.services,
            self.current,
            node=self.node,
            storage=self.storage,
            directory=self.directory,
            misplaced=misplaced or Misplaced(self.current, self.metrics),
        )

    def population(self, *activations: Activation, **more: Any) -> Any:
        """The catalog, as most parts see it."""
        return SimpleNamespace(live={it.id: it for it in activations}, closed=None, **more)


def member(address: NodeAddress, state: Any = "up") -> Member:
    return Member(address.node, address.incarnation, 1, state, "", "", "")


async def _at_once(*args: Any, **more: Any) -> None:
    """An answer that is there at once."""


def _done(result: Any) -> "asyncio.Future[Any]":
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.set_result(result)
    return future


class _Quiet:
    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *error: object) -> None: ...


def _quiet() -> _Quiet:
    return _Quiet()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.supervisor.stop()


A, B = actor_id("lamp", "a"), actor_id("beacon", "b")


async def test_catalog_claims_what_it_activates_and_tells_the_directory(bench: Bench) -> None:
    catalog = bench.catalog()
    activation = await catalog.activate(B)
    assert (activation.phase, activation.epoch, activation.version) == ("live", 1, 7)
    assert catalog.live == {B: activation} and catalog.live_by_kind["beacon"] == {B: activation}
    assert bench.directory.called("announce") == [[B, ME]]
    with pytest.raises(NotFound):
        await catalog.activate(ActorId("ghost/x"))
    catalog.closed = Unavailable("over")
    with pytest.raises(Unavailable, match="over"):
        await catalog.activate(A)


async def test_catalog_waits_for_what_is_expected_to_arrive(bench: Bench) -> None:
    catalog = bench.catalog()
    catalog.expected.begin([B])
    activating = asyncio.ensure_future(catalog.activate(B))
    await asyncio.sleep(0)
    assert not bench.storage.claimer.calls
    catalog.expected.end(B)
    assert (await activating).id == B and len(bench.storage.claimer.calls) == 1


async def test_expected_actors_are_waited_for_by_each_who_asks() -> None:
    expected = Expected()
    expected.begin([A, B])
    waiting = [asyncio.ensure_future(expected.wait(A)) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    expected.end(B)
    await asyncio.sleep(0)
    assert not waiting[1].done()
    expected.end(A)
    expected.end(A)
    await waiting[1]
    await expected.wait(A)
    assert len(expected) == 0


async def test_misplaced_activations_are_those_whose_slot_is_elsewhere(bench: Bench) -> None:
    misplaced = Misplaced(bench.current, bench.metrics)
    lamps = [bench.activation(key=f"k{n}") for n in range(20)]
    misplaced.on_view(lamps)
    assert len(misplaced) == 0
    bench.current.view = bench.current.view.follow((member(ME), member(OTHER)))
    misplaced.on_view(lamps)
    away = [it.id for it in lamps if bench.current.owner(it.id) == OTHER]
    assert 0 < len(away) < 20 and bench.metrics.misplaced == len(away)
    assert misplaced.take(2) == away[:2] and len(misplaced) == len(away) - 2


async def test_dispatcher_runs_calls_here_and_sends_the_others(bench: Bench) -> None:
    lamp = bench.activation()
    lamp.begin()
    methods = {cls: methods_of(cls) for cls in bench.app.actors}
    dispatcher = Dispatcher(
        bench.services,
        bench.current,
        catalog=bench.population(lamp, activate=None, blank=None),
        directory=bench.directory,
        methods=methods,
    )
    assert dispatcher.ask_now(A, "brighten", ()) == 1
    bench.current.view = View((member(OTHER),))
    bench.transport.peer = lambda payload: msgspec.msgpack.encode(5)
    assert await dispatcher.ask(actor_id("lamp", "far"), "level", ()) == 5
    assert bench.metrics.calls_remote_total == 1
    frame = encode_call(A, "brighten", (), 1.0, (), here=False)
    assert bench.transport.handlers[Service.CALL](OTHER, frame) == msgspec.msgpack.encode(2)


async def test_dispatcher_drops_tells_above_its_bound(bench: Bench) -> None:
    dispatcher = Dispatcher(
        bench.services,
        bench.current,
        catalog=bench.population(),
        directory=bench.directory,
        methods={cls: methods_of(cls) for cls in bench.app.actors},
        tells_at_most=1,
    )
    dispatcher.tell(A, "brighten", ())
    dispatcher.tell(A, "brighten", ())
    assert dispatcher.tells_dropped == 1


def _arrivals(bench: Bench, catalog: Any, expected: Expected) -> Arrivals:
    return Arrivals(
        bench.services,
        bench.current,
        node=bench.node,
        catalog=catalog,
        expected=expected,
        calls=bench.calls,
        claims=SimpleNamespace(newest_token=3),
    )


async def test_arrivals_hold_a_parcel_and_let_it_live_when_it_is_theirs(bench: Bench) -> None:
    arrived: list[Any] = []

    def live(arrival: Any) -> None:
        arrival.activation.begin_frozen()
        arrived.append(arrival.activation)

    expected = Expected()
    catalog = bench.population(room=10, has=lambda identity: False, arrived=live)
    arrivals = _arrivals(bench, catalog, expected)
    source = bench.activation(level=4)
    source.begin()
    assert source.halt()
    source.freeze()
    parcel = pack(source, Epoch(0), 1 << 20)
    assert parcel is not None and unpack(bench.app, bench.node, parcel).activation.version == 4

    def say(message: Any) -> Any:
        return arrivals.serve(OTHER, encode(message))

    assert decode_taken(say(Offer(1, ME.incarnation, [A]))) == Taken(3, [A]) and A in expected
    assert await say(Ship(1, ME.incarnation, 0, [parcel])) == encode([A])
    say(Go(1, ME.incarnation, [A], []))
    assert A not in expected and arrived[0].phase == "frozen" and arrived[0].boundary == Level(4)
    say(Open(1, ME.incarnation, [A]))
    assert arrived[0].phase == "live"
    say(Over(1, ME.incarnation))


async def test_arrivals_wake_what_lives_by_itself_and_did_not_come(bench: Bench) -> None:
    catalog = bench.population(room=10, has=lambda identity: False, arrived=None)
    arrivals = _arrivals(bench, catalog, Expected())
    arrivals.serve(OTHER, encode(Go(1, ME.incarnation, [B], [B])))
    assert bench.calls.called("tell") == [[B, "wake", ()]]


async def test_migrator_moves_a_volatile_actor_that_the_target_holds(bench: Bench) -> None:
    lamp = bench.activation(level=2)
    lamp.begin()
    ended: list[GarrisonError] = []

    def discard(activation: Activation, error: GarrisonError) -> None:
        activation.drop(error)
        ended.append(error)

    def peer(payload: bytes) -> bytes:
        kind = msgspec.msgpack.decode(payload)[0]
        return {0: encode(Taken(0, [A])), 1: encode([A])}.get(kind, b"")

    bench.transport.peer = peer
    migrator = Migrator(
        bench.services,
        bench.current,
        storage=bench.storage,
        catalog=SimpleNamespace(discard=discard, lost=None),
        directory=bench.directory,
        calls=bench.calls,
    )
    assert await migrator.move([lamp], OTHER) == 1
    assert lamp.dropped and isinstance(ended[0], Moved) and bench.metrics.migrations_total == 1
    assert [msgspec.msgpack.decode(message)[0] for message in bench.transport.sent] == [0, 1, 2, 4, 5]


async def test_migrator_leaves_alone_what_the_target_does_not_take(bench: Bench) -> None:
    lamp = bench.activation()
    lamp.begin()
    bench.transport.peer = lambda payload: encode(Taken(0, []))
    migrator = Migrator(
        bench.services,
        bench.current,
        storage=bench.storage,
        catalog=SimpleNamespace(discard=None, lost=None),
        directory=bench.directory,
        calls=bench.calls,
    )
    assert await migrator.move([lamp], OTHER) == 0 and lamp.phase == "live"


async def test_rebalance_moves_the_misplaced_to_their_homes(bench: Bench) -> None:
    lamps = [bench.activation(key=f"k{n}") for n in range(20)]
    for lamp in lamps:
        lamp.begin()
    bench.current.view = bench.current.view.follow((member(ME), member(OTHER)))
    moved: list[tuple[NodeAddress, list[ActorId]]] = []

    async def move(activations: list[Activation], to: NodeAddress) -> int:
        moved.append((to, [it.id for it in activations]))
        return len(activations)

    misplaced = Misplaced(bench.current, bench.metrics)
    rebalance = Rebalance(
        bench.services,
        bench.current,
        catalog=bench.population(*lamps),
        misplaced=misplaced,
        migrator=SimpleNamespace(move=move),
    )
    away = [it.id for it in lamps if bench.current.owner(it.id) == OTHER]
    assert await rebalance.move_home(lamps) == len(away) and moved == [(OTHER, away)]


async def test_departure_stores_and_releases_what_has_nowhere_to_go(bench: Bench) -> None:
    bench.store.answers["release"] = _at_once
    bench.storage.claimer.generation = 3
    catalog = bench.catalog()
    await catalog.activate(B)
    rebalance = SimpleNamespace(move_all=_at_once)
    departure = Departure(
        bench.services, bench.current, catalog=catalog, rebalance=rebalance, calls=bench.calls  # type: ignore[arg-type]
    )  # fmt: skip
    await departure.run(bench.clock.now() + 5)
    assert not catalog.live and departure.unstored == 0
    assert bench.store.called("release") == [["beacon", [(B, 1)], set(), 3]]


async def test_orphans_of_this_node_are_woken_once(bench: Bench) -> None:
    async def page(kind: str, limit: int, after: ActorId | None = None) -> list[ActorId]:
        return [B] if after is None else []

    bench.store.answers["orphans"] = page
    orphans = Orphans(bench.services, bench.current, catalog=bench.population(), calls=bench.calls)
    assert orphans.wanted and not await orphans.look()
    await until(lambda: bench.metrics.orphans_woken_total == 1)
    assert bench.calls.called("ask") == [[B, "wake", ()]]
    bench.current.view = View((member(OTHER),))
    await orphans.look()
    assert len(bench.calls.called("ask")) == 1, "the slot is another node's"


@pytest.mark.parametrize("stored", [True, False])
async def test_reminders_are_dropped_once_their_effect_is_stored(bench: Bench, stored: bool) -> None:
    due = Reminder(B, "blink", 5, Epoch(1), 1)

    async def page(until_ms: int, limit: int, after: Reminder | None) -> list[Reminder]:
        return [due]

    async def ask(*args: Any) -> bool:
        return stored

    bench.store.answers |= {"due_reminders": page, "drop_reminder": _at_once}
    bench.calls.answers["ask"] = ask
    reminders = Reminders(bench.services, bench.current, catalog=bench.population(), calls=bench.calls)
    assert reminders.wanted
    await reminders.poll()
    await until(lambda: not reminders.busy)
    assert bench.calls.called("ask") == [[B, "reminded", ("blink", 5)]]
    assert bench.store.called("drop_reminder") == ([[due]] if stored else [])


async def test_queries_gather_the_rows_of_all_members_and_name_the_missing(bench: Bench) -> None:
    lamp = bench.activation(level=3)
    bench.current.view = bench.current.view.follow((member(ME), member(OTHER)))
    queries = Queries(bench.services, bench.current, actors=lambda kind: [lamp.actor])
    bench.transport.peer = lambda payload: encode([["far", 9]])
    answer = await queries.run("levels", {}, 1.0)
    assert answer.rows == [["a", 3], ["far", 9]] and answer.missing == []
    bench.transport.peer = lambda payload: b"\xff"
    assert (await queries.run("levels", {}, 1.0)).missing == ["other"]
    assert bench.transport.handlers[Service.QUERY](OTHER, encode(("levels", {}))) == encode([["a", 3]])
