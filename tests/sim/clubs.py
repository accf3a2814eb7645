"""`clubs(seed) -> violations`: latest topics for some only, in the trouble of `pictures.py`.

Each client is taken out of each board at some moment, or never. When all is whole again those who were taken out have
an empty picture, nothing that they were shown was newer than that moment, and all others have what the actors have.
"""

import asyncio
import itertools
from collections.abc import Mapping
from typing import Any, Final

from server.actors.actor import Caller
from server.actors.app import App
from server.errors import Forbidden
from server.ids import ActorId
from tests.sim.client import until as wait_until
from tests.sim.directed import play
from tests.sim.pictures import LampBoard, Play, Watcher, insist

OUT: Final = "out/"


class ClubBoard(LampBoard):
    """Lamps for all but those who were taken out: key `out/` and the name, whose value is the moment of that."""

    __slots__ = ()

    def may_watch(self, caller: Caller) -> bool:
        return OUT + caller.subject not in self.state.lit


CLUBS: Final = App(name="clubs", actors=(ClubBoard,))


class Member(Watcher):
    """A client that watches every board from which it was not taken out."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.latest: dict[str, int] = {}
        """The newest moment that it was shown of each board."""

    def saw(self, topic: str, cursor: str) -> None:
        values = self.client.pictures[topic].values()
        self.latest[topic] = max(self.latest.get(topic, 0), *values, 0)

    async def watch(self, board: ActorId) -> None:
        try:
            await super().watch(board)
        except Forbidden:
            self.client.pictures[board] = {}


def clubs(seed: int) -> list[str]:
    """See the module's head."""
    return play(seed, lambda world: _Clubs(world).run(), journal="local", app=CLUBS)


class _Clubs(Play):
    """One run of the scenario."""

    watcher = Member

    async def _switch(self, board: ActorId) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(super()._switch(board))
            for watcher in self.watchers:
                if self.rng.random() < 0.7:
                    group.create_task(self._take_out(board, watcher.client.name, self.rng.uniform(1, 10)))

    async def _take_out(self, board: ActorId, name: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await insist(self.world, board, "switch", OUT + name, True)

    async def _alike(self) -> None:
        truth: dict[ActorId, Mapping[str, int]] = {}
        for board in self.boards:
            truth[board] = await insist(self.world, board, "show")
        pairs = list(itertools.product(self.watchers, self.boards))
        different: list[str] = []

        def alike() -> bool:
            different.clear()
            for watcher, board in pairs:
                name, shown = watcher.client.name, watcher.client.pictures.get(board, {})
                wanted = {} if OUT + name in truth[board] else truth[board]
                if shown != wanted:
                    different.append(f"{name} has {board} {shown}, not {wanted}")
            return not different

        try:
            await wait_until(alike, 12.0, "pictures of members only", 0.1)
        except AssertionError as error:
            raise AssertionError("; ".join([str(error), *different])) from None
        for watcher, board in pairs:
            assert isinstance(watcher, Member)
            out, newest = truth[board].get(OUT + watcher.client.name), watcher.latest.get(board, 0)
            if out is not None and newest >= out:
                self.wrong.append(f"{watcher.client.name} was taken out of {board} at {out}, and was shown {newest}")
