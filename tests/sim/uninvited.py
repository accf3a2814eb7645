"""`uninvited(seed) -> violations`: one of two players blocks the other, who had invited it to a party or was invited,
while nodes crash and are slow. As long as the block holds nobody joins by the invitation; when all is whole again it is
listed no more, also after the block is taken back.
"""

import asyncio
from typing import Any, Final

from game.app import App
from game.friends.messages import FriendsBlock, FriendsUnblock
from game.party.messages import PartyCreate, PartyInvite, PartyInvites, PartyJoin
from game.player.state import PlayerState
from server.actors.actor import Caller
from server.errors import GarrisonError
from server.ids import actor_id
from tests.sim.client import until as wait_until
from tests.sim.directed import ANSWER_S, ask, heal, insist, play
from tests.sim.rosters import stored
from tests.sim.troubles import OF_ROWS, trouble
from tests.sim.world import World

TROUBLE_S: Final = 6.0
HEARD_S: Final = 30.0
"""Time from the end of all faults until the player of the invitation has heard of the block."""


def uninvited(seed: int) -> list[str]:
    """See the module's head."""
    return play(seed, lambda world: _Play(world).run(), journal="none" if seed % 2 else "local", app=App)


class _Play:
    """One run of the scenario: `ann` invites `bob`, and either of them blocks the other."""

    def __init__(self, world: World) -> None:
        self.world, self.rng = world, world.rng("uninvited")
        self.key = f"p{self.rng.randrange(10_000)}"
        self.party = actor_id("party", self.key)
        self.blocker, self.other = self.rng.sample(("ann", "bob"), 2)
        self.wrong: list[str] = []

    async def run(self) -> list[str]:
        for name in ("ann", "bob"):
            await self._of(name, "player", "connected")
        await insist(self.world, self.party, "create", _caller("ann"), PartyCreate(1, "l", 1, 4))
        await insist(self.world, self.party, "invite", _caller("ann"), PartyInvite(1, "l", 1, self.key, "bob"))
        until_s = self.world.loop.time() + TROUBLE_S
        troubles = self.world.loop.create_task(
            trouble(self.world, self.rng, until_s, statements=OF_ROWS, pause_s=(0.05, 0.8))
        )
        await asyncio.sleep(self.rng.choice((0.0, 0.3, 2.0)))
        await self._of(self.blocker, "friends", "block", FriendsBlock(1, "l", 1, self.other))
        await self._joins_not()
        await troubles
        heal(self.world)
        try:
            await self.world.started(3, 15.0)
            await self._joins_not()
            await wait_until(lambda: not self._kept(), HEARD_S, "its player keeps the invitation no more", 0.5)
            await self._of(self.blocker, "friends", "unblock", FriendsUnblock(1, "l", 2, self.other))
            await asyncio.sleep(3.0)
            inbox = await self._of("bob", "player", "party_invites", PartyInvites(1))
            self.wrong += [f"an invitation is listed again: {each}" for each in inbox.invitations]
        except AssertionError as error:
            self.wrong.append(str(error))
        return [f"{self.blocker} blocks {self.other}: {line}" for line in self.wrong]

    async def _of(self, name: str, kind: str, method: str, *args: Any) -> Any:
        return await insist(self.world, actor_id(kind, name), method, _caller(name), *args)

    async def _joins_not(self) -> None:
        """Try to join by the invitation: the answer is that there is none, or that nobody says."""
        node = self.rng.choice(list(self.world.nodes.values()))
        asked = self.world.loop.create_task(
            ask(node, self.party, "join", _caller("bob"), PartyJoin(1, "l", 9, self.key))
        )
        await asyncio.wait({asked}, timeout=ANSWER_S)
        if asked.done() and not isinstance(asked.result(), GarrisonError):
            self.wrong.append("bob joins all the same")

    def _kept(self) -> bool:
        """Whether bob's actor, in memory or as stored, keeps an invitation."""
        return bool(stored(self.world)[1].get("bob", PlayerState()).in_party.invitations)


def _caller(name: str) -> Caller:
    return Caller("player", name, f"s-{name}")
