"""What every store does about people who are erased: nothing makes them, until somebody names them anew."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from game.player.state import PlayerState
from server.errors import Internal
from server.ids import Epoch, NodeAddress, NodeId, actor_id
from server.storage.ports import Absent, Change, Claim, Erased, Owned, Reminder, Store
from tests.support.databases import DATABASES, fresh

ANN, MATCH = actor_id("player", "ann"), actor_id("match", "ann")
NODE = NodeId("node-a")


class Bench:
    """A node's store, and its claims."""

    def __init__(self, store: Store, me: NodeAddress) -> None:
        self.store, self.me, self.token = store, me, 0

    async def claim(self, id: Any = ANN, **more: Any) -> Any:
        self.token += 1
        kind = id.partition("/")[0]
        return (await self.store.claim(kind, [Claim(id, self.token, **more)], self.me))[id]

    async def known(self) -> Owned:
        """The player as it was stored, with an epoch above 1, given up."""
        for _ in range(3):
            owned = await self.claim()
            assert isinstance(owned, Owned)
            await self.store.release("player", [(ANN, owned.epoch)])
        owned = await self.claim()
        assert isinstance(owned, Owned)
        await self.store.write("player", [Change(ANN, owned.epoch, 5, PlayerState("Ann"))])
        assert await self.store.set_reminder(Reminder(ANN, "x", 9, owned.epoch, 1))
        return owned

    async def erased(self) -> Owned:
        owned = await self.known()
        await self.store.bar("ann")
        await self.store.release("player", [(ANN, owned.epoch)])
        assert await self.store.erase("player", "ann")
        return owned


@pytest.fixture(params=DATABASES)
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    async with fresh(request.param, tmp_path).connect() as (store, _):
        yield Bench(store, NodeAddress(NODE, await store.register_node(NODE, 60.0)))


async def test_row_goes_with_all_of_it_once_nobody_owns_it(bench: Bench) -> None:
    owned = await bench.known()
    with pytest.raises(Internal):
        await bench.store.release("player", [(ANN, owned.epoch)])
        await bench.store.erase("player", "ann")
    again = await bench.claim()
    assert isinstance(again, Owned), "it was not barred, and is there"
    await bench.store.bar("ann")
    assert not await bench.store.erase("player", "ann"), "a node owns it"
    assert isinstance(await bench.claim(), Owned), "what there is can be claimed, to be ended"
    await bench.store.release("player", [(ANN, Epoch(again.epoch + 1))])
    assert await bench.store.erase("player", "ann")
    assert await bench.store.erase("player", "ann"), "there is none"
    assert await bench.store.read("player", [ANN]) == {}
    assert await bench.store.due_reminders(10, 10) == []


async def test_nothing_makes_it_while_the_erasure_goes_on(bench: Bench) -> None:
    await bench.erased()
    assert await bench.claim() == Erased()
    assert await bench.claim(revive=True) == Erased()
    assert await bench.claim(make=False) == Absent()
    assert isinstance(await bench.claim(actor_id("player", "bob")), Owned)
    assert isinstance(await bench.claim(MATCH), Owned), "a match of that name is nobody"
    assert await bench.claim(actor_id("friends", "ann")) == Erased(), "nor any other actor of the person's"


async def test_naming_it_anew_makes_it_and_then_everybody_does(bench: Bench) -> None:
    before = await bench.erased()
    assert await bench.store.lift("ann")
    assert await bench.claim() == Erased(), "a word of before"
    new = await bench.claim(revive=True)
    assert isinstance(new, Owned)
    assert new.epoch > before.epoch, "no epoch is given out again"
    assert (new.state, new.state_version) == (None, 0)
    assert new.state_epoch > before.epoch, "no record of before is newer"
    friends = await bench.claim(actor_id("friends", "ann"))
    assert isinstance(friends, Owned) and friends.epoch > before.epoch
    assert not await bench.store.lift("ann"), "nothing is barred"
    stored = await bench.store.write("player", [Change(ANN, before.epoch, 9, PlayerState("late"))])
    assert stored == {ANN: "fenced"}


async def test_nobody_comes_back_before_its_time(bench: Bench) -> None:
    await bench.erased()
    await bench.store.bar("ann", 2.0**43)
    await bench.store.bar("ann", 5.0)
    await bench.store.lift("ann")
    assert await bench.claim(revive=True) == Erased()
    await bench.store.pardon("ann")
    assert isinstance(await bench.claim(revive=True), Owned)


async def test_claim_that_revives_at_once_needs_no_time_but_the_end_of_the_erasure(bench: Bench) -> None:
    before = await bench.erased()
    await bench.store.bar("ann", 2.0**43)
    assert await bench.claim(revive=2) == Erased()
    await bench.store.lift("ann")
    standing = actor_id("standing", "ann")
    assert await bench.claim(standing) == await bench.claim(standing, revive=1) == Erased()
    made = await bench.claim(standing, revive=2)
    assert isinstance(made, Owned) and made.epoch > before.epoch
    assert isinstance(await bench.claim(), Owned), "from then on everybody makes it"


async def test_floors_are_told_of_who_was_erased(bench: Bench) -> None:
    before = await bench.erased()
    bob = actor_id("player", "bob")
    assert await bench.store.floors("player", [ANN, bob]) == {ANN: before.epoch}
    assert await bench.store.floors("player", []) == {}


async def test_person_is_erased_a_second_time(bench: Bench) -> None:
    await bench.erased()
    await bench.store.lift("ann")
    new = await bench.claim(revive=True)
    await bench.store.bar("ann")
    await bench.store.release("player", [(ANN, new.epoch)])
    assert await bench.store.erase("player", "ann")
    assert await bench.claim(revive=True) == Erased()
    assert await bench.store.floors("player", [ANN]) == {ANN: new.epoch}
