"""Bots as people: friends in a ring, who watch each other, and parties that go to matches together.

All bots of a swarm stand in a ring. Each invites its neighbours on either side, who invite it: both sides' invites make
a friendship. A run that comes later on the same store finds friends and parties of the one before and goes on with
them. What fails here is counted and tried again after a while: matches go on without friends and without parties.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from garrison import Client, GarrisonError, PlayersWatch
from garrison.errors import NotFound, Rejected
from garrison.messages import (
    Accepted,
    PartyCreate,
    PartyGet,
    PartyInfo,
    PartyInvite,
    PartyInvites,
    PartyJoin,
    PartyPlay,
    PlayerPicture,
)
from garrison_bots.ledger import Ledger

AGAIN_S: Final = 1.0
"""Wait before another try."""
TRIES: Final = 60
"""Invites of a neighbour that was never here before it is given up."""


class Ring:
    """The bots `names` in a ring, each a friend of `reach` neighbours on either side. `failed` hears of errors."""

    def __init__(self, names: Sequence[str], reach: int, ledger: Ledger, failed: Callable[[Exception], None]) -> None:
        self.names = list(names)
        self.reach = reach
        self.ledger = ledger
        self.failed = failed
        self.circles: dict[str, Circle] = {}
        self.friendships = 0
        """Pairs of bots of which each sees the other."""
        self.watched = 0
        """Friends that bots see, each counted for each bot."""
        self.changes = 0
        """Presences of friends that came."""
        self._places = {name: place for place, name in enumerate(self.names)}

    def neighbours(self, name: str) -> list[str]:
        """The neighbours of a bot, those before it last."""
        place, count = self._places[name], len(self.names)
        steps = [*range(1, self.reach + 1), *range(-1, -self.reach - 1, -1)]
        found = dict.fromkeys(self.names[(place + step) % count] for step in steps)
        return [other for other in found if other != name]

    async def enter(self, name: str, client: Client) -> None:
        """Befriend the neighbours of `name` and watch its friends, until cancelled."""
        circle = self.circles[name] = Circle(name, client, self)
        await asyncio.gather(self._insist(circle.befriend), self._insist(circle.follow))

    async def _insist(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work` until it comes to its end."""
        while True:
            try:
                await work()
            except GarrisonError as error:
                self.failed(error)
            else:
                return
            await asyncio.sleep(AGAIN_S)

    def news(self, circle: "Circle", friend: str, picture: Any) -> None:
        """Count what a bot is told of a friend: None of one that is none any more."""
        self.changes += 1
        step = (picture is not None) - (friend in circle.friends)
        if not step:
            return
        self.watched += step
        if step > 0:
            circle.friends.add(friend)
        else:
            circle.friends.discard(friend)
        other = self.circles.get(friend)
        if other is not None and circle.name in other.friends:
            self.friendships += step


class Circle:
    """A bot with its friends."""

    def __init__(self, name: str, client: Client, ring: Ring) -> None:
        self.name, self.client = name, client
        self.friends: set[str] = set()
        """Friends of whom there is a picture."""
        self.watch: PlayersWatch[PlayerPicture] | None = None
        self._ring = ring

    @property
    def pictures(self) -> Mapping[str, PlayerPicture]:
        """The newest picture of each friend."""
        return {} if self.watch is None else self.watch.players

    async def befriend(self) -> None:
        """Invite each neighbour that is no friend yet and not invited. Raises `GarrisonError`."""
        known = {entry.player: entry.state async for entry in self.client.friends.list()}
        for neighbour in self._ring.neighbours(self.name):
            if known.get(neighbour) not in ("friend", "invited"):
                await self._invite(neighbour)

    async def _invite(self, neighbour: str) -> None:
        for _ in range(TRIES):
            try:
                self._ring.ledger.saved(await self.client.friends.invite(neighbour))
            except NotFound:  # its squad is still to come
                await asyncio.sleep(AGAIN_S)
            else:
                return

    async def follow(self) -> None:
        """Watch the friends. Raises `GarrisonError`."""
        async with self.client.watch_friends() as watch:
            self.watch = watch
            async for friend, picture in watch:
                self._ring.news(self, friend, picture)


class Band:
    """A party of `players`, that goes to one match after the other."""

    def __init__(self, players: Mapping[str, Client], ledger: Ledger) -> None:
        self.players = dict(players)
        self.ledger = ledger
        self.party = ""
        self._first = next(iter(self.players))

    async def play(self, match: str, team: int) -> Accepted:
        """Take all members who are here to a match. Raises `GarrisonError`, and then some may have come."""
        info = await self.muster()
        return await self.players[info.leader].request(PartyPlay(info.party, match, team))

    async def muster(self) -> PartyInfo:
        """Bring the party together: the one that there is, or a new one where that cannot be. Raises
        `GarrisonError`."""
        if not self.party:
            inbox = await self.players[self._first].request(PartyInvites(), retry=True)
            self.party = inbox.party or await self._create()
        try:
            return await self._complete()
        except (NotFound, Rejected):  # over, or full, or of others
            self.party = ""
        self.party = await self._create()
        return await self._complete()

    async def _create(self) -> str:
        saved = await self.players[self._first].request(PartyCreate(len(self.players)))
        self.ledger.saved_for_many(saved)
        return saved.entity.removeprefix("party/")

    async def _complete(self) -> PartyInfo:
        """Invite those who are missing, and let them come. Raises `Rejected`, `NotFound` where that is not possible."""
        info = await self._info()
        missing = self.players.keys() - {member.player for member in info.members}
        for name in sorted(missing):
            self.ledger.saved_for_many(await self.players[info.leader].request(PartyInvite(self.party, name)))
            self.ledger.saved_for_many(await self.players[name].request(PartyJoin(self.party)))
        return await self._info() if missing else info

    async def _info(self) -> PartyInfo:
        info = await self.players[self._first].request(PartyGet(self.party), retry=True)
        if info.leader not in self.players:
            raise NotFound(f"party {self.party} is led by {info.leader}")
        return info
