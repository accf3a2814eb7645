"""Clients that watch players' presence in a storm, and the checker of their pictures.

A follower does as the SDK does: in a session that watches nobody it asks for all, saying which versions it has; a
resumed one says its cursor. At any time equal versions are equal values, whichever node said so. When all is whole,
each picture is what the newest living activation of the player shows to everybody.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from game.player.actor import Player
from game.player.state import PlayerState
from persistence.game.queries import Keys
from server.errors import GarrisonError
from server.storage.memory import MemoryDatabase
from server.storage.queries import MemoryQuery, MemoryStoreQueries, States
from server.wire.messages import PresenceChanges, PresenceWatch, PresenceWatched, SeenPlayer, Welcome
from tests.sim.client import SimClient
from tests.sim.world import World


class Versions:
    """The values that anybody was shown under each version of a player."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, int], Any] = {}
        self.wrong: list[str] = []

    def note(self, who: str, player: str, version: int, value: Any) -> None:
        """Take in a value; another one under that version is wrong."""
        before = self._values.setdefault((player, version), value)
        if before != value:
            self.wrong.append(f"{who} has {player} {version} as {value}, which was {before}")


class Follower:
    """A client that watches `players` from now on, in each of its sessions."""

    def __init__(self, client: SimClient, players: Sequence[str], versions: Versions) -> None:
        self.client, self.players = client, list(players)
        self.known: dict[str, tuple[int, Any]] = {}
        self._versions = versions
        self._asking: asyncio.Task[None] | None = None
        client.saw_people, client.welcomed = self._saw, self._welcomed
        self._ask()

    def _welcomed(self, welcome: Welcome) -> None:
        if not (welcome.recovered and welcome.presence):
            self._ask()

    def _ask(self) -> None:
        self.stop()
        self._asking = asyncio.get_running_loop().create_task(self._watch(), name=f"{self.client.name}: follows")

    def stop(self) -> None:
        """Ask no more."""
        if self._asking is not None:
            self._asking.cancel()

    async def _watch(self) -> None:
        while True:
            try:
                answer = await self.client.ask(self._request)
                assert isinstance(answer, PresenceWatched)
                self.client.people_cursor = answer.cursor or self.client.people_cursor
                return
            except (GarrisonError, TimeoutError):
                await asyncio.sleep(0.5)

    def _request(self, number: int) -> PresenceWatch:
        seen = [SeenPlayer(player, version) for player, (version, _) in self.known.items()]
        return PresenceWatch(number, self.players, False, seen)

    def _saw(self, changes: PresenceChanges) -> None:
        for item in changes.items:
            if item.version:
                self.known[item.player] = item.version, item.value
                self._versions.note(self.client.name, item.player, item.version, item.value)
            else:
                self.known.pop(item.player, None)
        if changes.cursor:
            self.client.people_cursor = changes.cursor


def rows_of_players(database: MemoryDatabase) -> MemoryStoreQueries:
    """The game's query by which nodes know how players look who are offline."""

    def last_seen(states: States, given: Keys) -> list[dict[str, Any]]:
        return [
            {"key": key, "status": state.status, "last_seen_ms": state.last_seen_ms}
            for key, state in states("player")
            if key in given.keys
        ]

    return MemoryStoreQueries(database, {"player": PlayerState}, {"last_seen": MemoryQuery(Keys, last_seen)})


def truths(world: World) -> dict[str, Any]:
    """The presence of each player who is here, by its newest living activation."""
    newest: dict[str, tuple[int, Any]] = {}
    for node in world.nodes.values():
        run = world.database.nodes.get(node.address)
        if run is None or run.state in ("dead", "left"):
            continue
        for activation in node.node.system.catalog.live.values():
            actor = activation.actor
            if isinstance(actor, Player) and actor.here and activation.epoch > newest.get(actor.key, (-1, None))[0]:
                shown = actor.look().pictures
                assert shown is not None
                newest[actor.key] = activation.epoch, msgspec.msgpack.decode(shown.everybody)
    return {player: value for player, (_, value) in newest.items()}


def different(world: World, followers: Iterable[Follower]) -> list[str]:
    """The pictures that are not what players show who are here."""
    truth = truths(world)
    return [
        f"{follower.client.name} has {player} as {follower.known.get(player)}, not {truth.get(player)}"
        for follower in followers
        for player in follower.players
        if player not in truth or follower.known.get(player, (0, None))[1] != truth[player]
    ]
