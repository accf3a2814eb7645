"""`sanctions(seed) -> violations`: subjects are banned, for good and for a while, unbanned, kicked and muted, and their
tokens revoked, while their clients come again and again at any node, and nodes crash, stop, are slow, cut off, and have
a slow or forgetful store.

When all is whole again, nobody who is banned has a session, whoever is not comes in, a player's mirror is what its
standing says, and every act that was acknowledged stands in the standing once, though its order was given again.
"""

import asyncio
from typing import Any, Final

import msgspec

from game.app import App
from game.moderation.messages import StandingInfo
from game.moderation.rules import MAX_ACTS, lasts
from game.moderation.state import ActName, Order, StandingState
from game.player.state import PlayerState
from server.errors import GarrisonError, OutcomeUnknown, Retryable
from server.ids import ActorId, actor_id
from tests.sim.client import until as wait_until
from tests.sim.directed import ANSWER_S, heal, play
from tests.sim.faults import StoreTroubles
from tests.sim.world import World

LENGTH_S: Final = 16.0
AGREED_S: Final = 40.0
"""After the last fault: all is as it should be within this."""
PLAYERS, HOSTS = ("p0", "p1", "p2"), ("h0", "h1")
SUBJECTS: Final = (*PLAYERS, *HOSTS)
WEIGHTS: Final[dict[ActName, int]] = {"ban": 5, "unban": 4, "mute": 1, "kick": 2, "revoke": 1}
EXPECTED: Final = ("not everything could be stored", "lease refused", "activation fenced off", "journal damaged")


def sanctions(seed: int) -> list[str]:
    """See the module's head."""
    return play(seed, lambda world: _Play(world).run(), journal="none" if seed % 2 else "local", app=App)


class _Play:
    """One run of the scenario."""

    def __init__(self, world: World) -> None:
        self.world, self.rng, self.weather = world, world.rng("sanctions"), world.network.weather
        self.until = world.loop.time() + LENGTH_S
        self.orders: dict[tuple[str, int], Order] = {}
        self.acknowledged: dict[tuple[str, int], int] = {}
        self.wrong: list[str] = []

    async def run(self) -> list[str]:
        world = self.world
        clients = [world.client(name, "player") for name in PLAYERS] + [world.client(name, "host") for name in HOSTS]
        async with asyncio.TaskGroup() as group:
            for subject in SUBJECTS:
                group.create_task(self._judge(subject))
            group.create_task(self._trouble())
        heal(world)
        try:
            await world.started(3, 15.0)
            await wait_until(lambda: not self._left(), AGREED_S, "sessions, mirrors and acts are right", 0.5)
            for (subject, command), act in self.acknowledged.items():  # now: a kick that is given again ends sessions
                await self._again(subject, command, act)
            await wait_until(lambda: not self._left(), AGREED_S, "sessions, mirrors and acts stay right", 0.5)
            for client in clients:
                if not self._is_banned(client.name):
                    await wait_until(lambda: client.link is not None, AGREED_S, f"{client.name} comes in")  # noqa: B023
        except AssertionError as error:
            return [str(error), *self._left(), *world.faults]
        finally:
            await world.stop_clients()
        return [*self.wrong, *(line for line in world.faults if not any(words in line for words in EXPECTED))]

    # ---- orders ----

    async def _judge(self, subject: str) -> None:
        """Orders about a subject, one after the other; some are given twice."""
        rng, command = self.rng, 0
        while self.world.loop.time() < self.until and command < MAX_ACTS - 1:
            command += 1
            act = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
            for_ms = rng.choice((0, 0, 1_500, 5_000)) if act in ("ban", "mute") else 0
            order = Order(act, "judge", "service", f"because {command}", for_ms, 0, "l", command)
            self.orders[subject, command] = order
            answer = await self._insist(subject, order)
            if isinstance(answer, StandingInfo):
                self.acknowledged[subject, command] = answer.act
                if rng.random() < 0.3:
                    await self._again(subject, command, answer.act)
            await asyncio.sleep(rng.choice((0.0, 0.1, 0.4, 1.5)))

    async def _again(self, subject: str, command: int, act: int) -> None:
        """Give an order again that was acknowledged: it is the same act."""
        answer = await self._insist(subject, self.orders[subject, command])
        if not isinstance(answer, StandingInfo) or answer.act != act:
            self.wrong.append(f"command {command} about {subject} was act {act}, and is {answer!r} when given again")

    async def _insist(self, subject: str, order: Order) -> Any:
        """Ask at any node until there is an answer that is one: the standing, or a rule's refusal."""
        while True:
            nodes = list(self.world.nodes.values())
            if nodes:
                node = self.rng.choice(nodes)
                method = "lift" if order.act in ("unban", "unmute") else "order"
                call = node.node.system.ask(actor_id("standing", subject), method, (order,))
                asked = node.domain.run(self.world.loop.create_task, call)
                asked.add_done_callback(lambda done: done.cancelled() or done.exception())
                done, _ = await asyncio.wait({asked}, timeout=ANSWER_S)
                if done and not asked.cancelled():
                    error = asked.exception()
                    if error is None:
                        return asked.result()
                    if isinstance(error, GarrisonError) and not isinstance(error, Retryable | OutcomeUnknown):
                        return error
            await asyncio.sleep(0.1)

    # ---- troubles ----

    async def _trouble(self) -> None:
        rng, world = self.rng, self.world
        world.store.faults = troubles = StoreTroubles(rng)
        while world.loop.time() < self.until:
            await asyncio.sleep(rng.uniform(0.3, 2.0))
            names = sorted(world.processes)
            source, target = rng.sample(names, 2)
            what = rng.choice(("slow", "cut", "stop", "crash", "crash", "store", "gossip"))
            if what == "slow":
                self.weather.slow_down(source, target, rng.uniform(0.3, 4.0))
            elif what == "cut":
                self.weather.cut(source, target)
                await asyncio.sleep(rng.uniform(0.3, 1.5))
                self.weather.mend(source, target)
            elif what == "gossip":
                mute = world.gossip.mute(source)
                await asyncio.sleep(rng.uniform(1.0, 4.0))
                world.gossip.unmute(mute)
            elif what == "store":
                number = troubles.begin(0.7, frozenset({"write", "claim", "migrate"}), None, ("slow", "late", "forget"))
                await asyncio.sleep(rng.uniform(0.3, 1.5))
                troubles.end(number)
            elif len(world.nodes) == len(names):
                if what == "stop":
                    await world.stop_process(source)
                else:
                    world.crash_process(source)
                await asyncio.sleep(rng.uniform(0.0, 2.0))
                world.launch(source)

    # ---- what must be so ----

    def _is_banned(self, subject: str) -> bool:
        standing = stored(self.world, StandingState).get(subject, StandingState())
        return lasts(standing.banned_until_ms, self._wall_ms())

    def _wall_ms(self) -> int:
        return max(node.node.system.clock.wall_ms() for node in self.world.nodes.values())

    def _left(self) -> list[str]:
        """Everything that is not as it should be."""
        standings, players = stored(self.world, StandingState), stored(self.world, PlayerState)
        sessions = {
            session.caller.subject: node.name
            for node in self.world.nodes.values()
            for session in node.node.gateway.table.sessions.values()
        }
        return [
            *ghosts(standings, sessions, self._wall_ms()),
            *unequal_mirrors(standings, players),
            *acts_lost(standings, self.acknowledged),
        ]


def stored(world: World, state: type[Any]) -> dict[str, Any]:
    """The states of that type that are stored, by key."""
    kind = {StandingState: "standing", PlayerState: "player"}[state]
    rows = {id.partition("/")[2]: row for id, row in world.database.entities.items() if is_of(id, kind)}
    return {key: msgspec.msgpack.decode(row.state, type=state) for key, row in rows.items() if row.state is not None}


def is_of(id: ActorId, kind: str) -> bool:
    return id.startswith(f"{kind}/")


def ghosts(standings: dict[str, StandingState], sessions: dict[str, str], wall_ms: int) -> list[str]:
    """Subjects that are banned and have a session; `sessions` says on which node."""
    return [
        f"{subject} is banned and has a session on {sessions[subject]}"
        for subject, standing in standings.items()
        if subject in sessions and lasts(standing.banned_until_ms, wall_ms)
    ]


def unequal_mirrors(standings: dict[str, StandingState], players: dict[str, PlayerState]) -> list[str]:
    """Players that do not know what their standing says."""
    out = []
    for subject, standing in standings.items():
        player = players.get(subject, PlayerState())
        says = (standing.banned_until_ms, standing.muted_until_ms, standing.tokens_from_ms)
        mirrors = (player.banned_until_ms, player.muted_until_ms, player.tokens_from_ms)
        if says != mirrors:
            out.append(f"{subject} is {says}, and its player says {mirrors}")
        if standing.told != standing.number:
            out.append(f"{subject} has {standing.number} still to tell, after {standing.told}")
    return out


def acts_lost(standings: dict[str, StandingState], acknowledged: dict[tuple[str, int], int]) -> list[str]:
    """Acknowledged orders that are no act, or more than one, or another one."""
    out = []
    for (subject, command), number in acknowledged.items():
        acts = standings.get(subject, StandingState()).acts
        found = [act.number for act in acts if act.command == command]
        if found != [number]:
            out.append(f"command {command} about {subject} was act {number}, and the acts have {found}")
    return out
