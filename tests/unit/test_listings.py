"""Pages of live matches cost what they show (F49): the list of a kind, shared answers, and what a list weighs."""

import asyncio
import random
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from game.app import App as Game
from game.messages import MatchList
from server.actors.actor import Actor, Caller, remote
from server.actors.app import App, LocalActors, QueryRoute
from server.catalog.listings import Listing
from server.catalog.queries import SHARED
from server.errors import BadInput
from server.ids import actor_id, key_of
from server.sessions.rate_bucket import TokenBucket
from tests.support.engine import cluster
from tests.support.waiting import until

SHARED_S = 0.2


class Place(msgspec.Struct, frozen=True):
    order: int | None = None


class Entry(Actor[Place]):
    """Stands in the list of its kind where it is told to, or not at all."""

    kind = "entry"
    durability = "write_behind"
    State = Place
    reads = 0

    @staticmethod
    def list_order(state: Place) -> int | None:
        return state.order

    @remote
    def stand(self, order: int | None) -> None:
        self.state = Place(order)


def entries(actors: LocalActors, params: Mapping[str, Any]) -> list[Any]:
    """The keys of a page."""
    Entry.reads += 1
    if params.get("fail"):
        raise BadInput("planted")
    after = params.get("after")
    return [actor.key for actor in actors.listed("entry", tuple(after) if after else None, params["limit"])]


ListApp = App(
    name="lists", actors=(Entry,), read_models={"fresh": entries, "entries": entries}, shared_s={"entries": SHARED_S}
)


def test_a_listing_is_what_sorting_would_give_whatever_comes_and_goes() -> None:
    rng, listing, known = random.Random(5), Listing(lambda state: state), dict[str, int]()
    for _ in range(3_000):
        key = f"k{rng.randrange(60)}"
        identity = actor_id("entry", key)
        match rng.randrange(4):
            case 0:
                listing.remove(identity)
                known.pop(key, None)
            case 1:
                listing.put(identity, None)
                known.pop(key, None)
            case _:
                order = rng.randrange(12)
                listing.put(identity, order)
                known[key] = order
        wanted = sorted((order, key) for key, order in known.items())
        assert len(listing) == len(wanted)
        after = rng.choice([None, (rng.randrange(12), f"k{rng.randrange(60)}")])
        rest = [entry for entry in wanted if after is None or entry > after]
        assert listing.page(after, 7) == [key for _, key in rest[:7]]


@pytest.mark.virtual_time
async def test_actors_are_listed_while_they_live_here() -> None:
    async with cluster(app=ListApp) as made:
        system = made.systems["node-1"]

        async def page(**params: Any) -> list[Any]:
            return (await system.query("fresh", {"limit": 10, **params})).rows

        for key, order in (("a", 3), ("b", 1), ("c", 2), ("d", None)):
            await system.ask(actor_id("entry", key), "stand", (order,))
        assert await page() == ["b", "c", "a"]
        assert await page(after=[1, "b"]) == ["c", "a"] and await page(limit=1) == ["b"]
        await system.ask(actor_id("entry", "d"), "stand", (0,))
        await system.ask(actor_id("entry", "c"), "stand", (None,))
        assert await page() == ["d", "b", "a"]
        gone = system.find(actor_id("entry", "b"))
        assert gone is not None
        assert await system.catalog.deactivate([gone]) == 1
        assert await page() == ["d", "a"]
        await system.ask(actor_id("entry", "b"), "wake", ())
        assert await page() == ["d", "b", "a"], "loaded from the store"


@pytest.mark.virtual_time
async def test_an_actor_that_moves_is_listed_where_it_lives() -> None:
    async with cluster(app=ListApp) as made:
        first = made.systems["node-1"]
        for number in range(40):
            await first.ask(actor_id("entry", f"e{number}"), "stand", (number,))
        second = await made.add("node-2")
        made.show("node-1", "node-2")
        await until(lambda: len(second.catalog.live) > 5 and not first.metrics.misplaced)
        for system in (first, second):
            wanted = sorted(system.catalog.live, key=lambda id: int(key_of(id)[1:]))
            assert system.queries.local("entries", {"limit": 99}) == [key_of(id) for id in wanted]


@pytest.mark.virtual_time
async def test_one_answer_is_shared_by_all_who_ask_meanwhile() -> None:
    async with cluster(("node-1", "node-2", "node-3"), app=ListApp) as made:
        system = made.systems["node-1"]
        await system.ask(actor_id("entry", "a"), "stand", (1,))
        Entry.reads = 0
        answers = await asyncio.gather(*(system.query("entries", {"limit": 10}) for _ in range(300)))
        assert Entry.reads == 3, "each node once"
        assert all(answer.rows is answers[0].rows for answer in answers) and answers[0].rows == ["a"]
        for other in made.systems.values():
            await other.query("entries", {"limit": 10})
        assert Entry.reads == 6, "each node once for itself, and once for all others"
        await asyncio.sleep(SHARED_S)
        await system.ask(actor_id("entry", "b"), "stand", (2,))
        assert (await system.query("entries", {"limit": 10})).rows == ["a", "b"]
        await system.query("fresh", {"limit": 10})
        await system.query("fresh", {"limit": 10})
        assert Entry.reads == 6 + 3 * 3, "who does not share is asked each time"


@pytest.mark.virtual_time
async def test_answers_that_failed_are_not_shared_and_those_kept_are_bounded() -> None:
    async with cluster(app=ListApp) as made:
        system = made.systems["node-1"]
        for _ in range(3):
            Entry.reads = 0
            with pytest.raises(BadInput):
                await system.query("entries", {"fail": 1})
            assert Entry.reads == 1
        for limit in range(1, 500):
            await system.query("entries", {"limit": limit})
        assert len(system.queries._shared) <= SHARED
        await asyncio.sleep(SHARED_S)
        await system.query("entries", {"limit": 1})
        assert len(system.queries._shared) == 1, "old ones are not kept"


def test_clients_that_want_nearly_the_same_page_share_it() -> None:
    route = Game.routes[MatchList]
    assert isinstance(route, QueryRoute)
    ann = Caller("player", "ann", "s-1")
    asked = {route.params(ann, MatchList(1, limit))["limit"] for limit in range(1, 501)}
    assert len(asked) <= 6
    assert all(route.params(ann, MatchList(1, limit))["limit"] >= limit for limit in (1, 10, 11, 499, 500))


def test_a_list_weighs_by_its_rows() -> None:
    route = Game.routes[MatchList]
    assert isinstance(route, QueryRoute) and route.cost is not None
    assert [route.cost(MatchList(1, limit)) for limit in (1, 10, 100, 500)] == [1, 2, 11, 51]


def test_a_bucket_takes_what_a_message_weighs_and_says_when_to_come_again() -> None:
    bucket = TokenBucket(rate_per_s=100, burst=50, now=0.0)
    taken = [bucket.take(0.0) and bucket.charge(9, 0.0) == 0.0 for _ in range(5)]
    assert taken == [True] * 5
    assert not bucket.take(0.0), "the burst is used up"
    assert bucket.take(0.05)
    waits = [bucket.charge(9, 0.05) for _ in range(3)]
    assert waits[0] == pytest.approx(0.05) and waits[1] - waits[0] == pytest.approx(0.09)
    now = 0.05 + waits[0] + 0.01
    assert bucket.take(now) and bucket.charge(9, now) == 0.0, "who comes when told finds it"


def test_a_message_that_weighs_more_than_the_burst_weighs_the_burst() -> None:
    bucket = TokenBucket(rate_per_s=10, burst=5, now=0.0)
    assert bucket.charge(500, 0.0) == 0.0 and bucket.charge(500, 0.1) == pytest.approx(0.4)


def test_charged_messages_get_no_more_than_burst_and_rate() -> None:
    rng = random.Random(3)
    bucket, now, taken = TokenBucket(100, 50, 0.0), 0.0, 0
    while now < 20.0:
        now += rng.choice((0.0, 0.001, 0.02))
        if bucket.take(now):
            cost = rng.choice((0, 0, 4, 19))
            taken += 1 + (cost if cost and bucket.charge(cost, now) == 0.0 else 0)
        assert taken <= 50 + 16 + 100 * now + 1
    assert taken > 0.9 * 100 * now
