"""An actor system of the default application in a process of its own, between which activations move. It is
told lines of JSON and answers each with one; the first says its name and the store."""

import asyncio
import sys
from typing import Any

import msgspec
import uvloop

from server.actors.app import App
from server.catalog.system import ActorSystem
from server.cluster.view import Member, View
from server.drivers import build_store, load_app
from server.ids import ActorId, NodeAddress
from server.lab.bench.systems import member, system_over
from server.settings import from_tree
from server.view_change import change_view

AT_ONCE = 2_000


class Begin(msgspec.Struct, frozen=True):
    """Answered by the system's `Member`. `roaming`: players live anywhere, not with their slots."""

    name: str
    url: str
    roaming: bool


class See(msgspec.Struct, frozen=True, tag=True):
    """The view from now on."""

    members: list[Member]


class Fill(msgspec.Struct, frozen=True, tag=True):
    """Activate these."""

    ids: list[ActorId]


class MoveThese(msgspec.Struct, frozen=True, tag=True):
    """Move these, where they are here. Answered by their number."""

    ids: list[ActorId]
    to: NodeAddress


class Count(msgspec.Struct, frozen=True, tag=True):
    """Answered by how many live here, how many of them are misplaced, and how many have moved."""


Told = See | Fill | MoveThese | Count


async def _do(system: ActorSystem, told: Told) -> Any:
    if isinstance(told, See):
        change_view(View(tuple(told.members)), transport=system.transport, system=system)
        return True
    if isinstance(told, Fill):
        for start in range(0, len(told.ids), AT_ONCE):
            await asyncio.gather(*(system.activate(identity) for identity in told.ids[start : start + AT_ONCE]))
        return len(system.catalog.live)
    if isinstance(told, MoveThese):
        here = [activation for identity in told.ids if (activation := system.find(identity)) is not None]
        return await system.migrator.move(here, told.to)
    return [len(system.catalog.live), len(system.misplaced), system.metrics.migrations_total]


async def main() -> None:
    lines = asyncio.StreamReader(limit=64 * 1024 * 1024)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    begin = msgspec.json.decode(await lines.readline(), type=Begin)
    settings = from_tree({"store": {"url": begin.url}})
    app = _roaming(load_app(settings)) if begin.roaming else load_app(settings)
    store = build_store(settings, app)
    async with system_over(app, store, store, begin.name) as system:
        system.supervisor.spawn(system.write_behind.run(), "write-behind")
        _say(member(system))
        while line := await lines.readline():
            _say(await _do(system, msgspec.json.decode(line, type=Told)))


def _roaming(app: App) -> App:
    """The same tables, and players that stay where they are put."""
    assert app.session_actor is not None
    roaming = type("Roaming", (app.session_actor,), {"placement": "least_loaded", "__slots__": ()})
    others = (cls for cls in app.actors if cls is not app.session_actor)
    return App("bench", (roaming, *others), mappings=app.mappings)


def _say(answer: Any) -> None:
    print(msgspec.json.encode(answer).decode(), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
