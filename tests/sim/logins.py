"""`logins(seed) -> violations`: clients of a few players log in at whatever node, stay there, leave, or vanish, some
while their hello is being answered; nodes crash, stop, are slow or cut off. One login policy a seed.

When all is whole again each player has as many sessions as the policy allows, neither more nor fewer, and the player's
actor knows these and no others. Nobody was ever sent away for a login whose session never began.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple
from unittest.mock import patch

from game.app import App
from server.ids import actor_id
from server.sessions.session import Session
from server.sessions.table import SessionTable
from tests.sim.client import SimClient
from tests.sim.client import until as wait_until
from tests.sim.directed import heal, play
from tests.sim.faults import StoreTroubles
from tests.sim.world import World

POLICIES: Final = ("newest_wins", "allow:2", "one_per_kind", "first_wins")
KINDS: Final = ("console", "phone")
SUBJECTS: Final = 3
USERS: Final = 3
"""Clients of each player that log in at the end, and want to stay."""
LENGTH_S: Final = 25.0
SETTLED_S: Final = 60.0
"""Time after which all must be as it is to be: a session that nobody resumes is over, a run that is gone is noticed."""
GATEWAY: Final = {"resume_window_s": 5.0, "heartbeat_interval_s": 1.0, "device_kind_from_hello": True}
EXPECTED: Final = ("not everything could be stored", "lease refused", "activation fenced off", "journal damaged")


class Begun(NamedTuple):
    """A session that began, or came to another node."""

    subject: str
    session: str
    at: float


def logins(seed: int) -> list[str]:
    """See the module's head."""
    policy = POLICIES[seed % len(POLICIES)]
    journal: Any = "none" if seed % 3 else "local"
    begun: list[Begun] = []
    with noting(begun):
        return play(
            seed,
            lambda world: _Play(world, policy, begun).run(),
            journal=journal,
            app=App,
            gateway={**GATEWAY, "login_policy": policy},
        )


@contextmanager
def noting(begun: list[Begun]) -> Iterator[None]:
    """Note in `begun` each session that enters a node's table."""
    add = SessionTable.add

    def noted(table: SessionTable, session: Session, rival: Session | None) -> None:
        if session.caller.role == "player":
            at = asyncio.get_running_loop().time()
            begun.append(Begun(session.caller.subject, session.caller.session, at))
        add(table, session, rival)

    with patch.object(SessionTable, "add", noted):
        yield


class _Play:
    """One run of the scenario."""

    def __init__(self, world: World, policy: str, begun: list[Begun]) -> None:
        self.world, self.policy, self.begun, self.rng = world, policy, begun, world.rng("logins")
        self.weather = world.network.weather
        self.until = world.loop.time() + LENGTH_S
        self.subjects = [f"p{number}" for number in range(SUBJECTS)]
        self.clients: dict[str, list[SimClient]] = {subject: [] for subject in self.subjects}
        self.left: set[SimClient] = set()
        self.wrong: list[str] = []
        self.over = False

    async def run(self) -> list[str]:
        world = self.world
        async with asyncio.TaskGroup() as group:
            for subject in self.subjects:
                for kind in KINDS:
                    group.create_task(self._live(subject, kind))
            group.create_task(self._trouble())
        heal(world)
        users = [
            world.loop.create_task(self._user(subject, KINDS[number % len(KINDS)]))
            for subject in self.subjects
            for number in range(USERS)
        ]
        try:
            await world.started(3, 15.0)
            await wait_until(lambda: not self._different(), SETTLED_S, "as many sessions as the policy allows", 0.5)
            await asyncio.sleep(5.0)
        except AssertionError as error:
            self.wrong.append(str(error))
        self.wrong += self._different()
        self.over = True
        await asyncio.gather(*users)
        await world.stop_clients()
        self.wrong += self._sent_away()
        faults = [line for line in world.faults if not any(words in line for words in EXPECTED)]
        return [*(f"{self.policy}: {line}" for line in self.wrong), *faults]

    def _client(self, subject: str, kind: str) -> SimClient:
        number = sum(map(len, self.clients.values()))
        client = self.world.client(f"c{number}", "player", subject=subject, stays=self.rng.random() < 0.8, device=kind)
        self.clients[subject].append(client)
        return client

    async def _live(self, subject: str, kind: str) -> None:
        """Clients of one kind of device, one after the other or beside each other."""
        while self.world.loop.time() < self.until:
            client = self._client(subject, kind)
            await asyncio.sleep(self.rng.choice((0.01, 0.05, 0.1, 1.0, 3.0)))
            what = self.rng.choice(("stop", "vanish", "vanish", "stay"))
            if what != "stay":
                self.left.add(client)
                getattr(client, what)()

    async def _user(self, subject: str, kind: str) -> None:
        """Somebody who wants to be in at the end, and tries again where the place is taken."""
        while not self.over:
            client = self._client(subject, kind)
            await self._ended(client)
            if client.finished is not None and "occupied" not in client.finished and "4013" not in client.finished:
                return
            await asyncio.sleep(2.0)

    async def _ended(self, client: SimClient) -> None:
        while client.finished is None and not self.over:  # noqa: ASYNC110 - on virtual time
            await asyncio.sleep(0.5)

    async def _trouble(self) -> None:
        rng, world = self.rng, self.world
        world.store.faults = troubles = StoreTroubles(rng)
        while world.loop.time() < self.until:
            await asyncio.sleep(rng.uniform(0.2, 2.0))
            names = sorted(world.processes)
            source, target = rng.sample(names, 2)
            what = rng.choice(("slow", "cut", "stop", "crash", "crash", "with its clients", "store"))
            if what == "slow":
                self.weather.slow_down(source, target, rng.uniform(0.3, 3.0))
            elif what == "cut":
                self.weather.cut(source, target)
                await asyncio.sleep(rng.uniform(0.3, 1.5))
                self.weather.mend(source, target)
            elif what == "store":
                statements = frozenset({rng.choice(("write", "claim", "release", "migrate"))})
                number = troubles.begin(0.7, statements, None, (rng.choice(("slow", "late", "forget")),))
                await asyncio.sleep(rng.uniform(0.3, 1.5))
                troubles.end(number)
            elif len(world.nodes) == len(names):
                if what == "with its clients":
                    self._lose_clients(source)
                await (world.stop_process(source) if what == "stop" else self._crash(source))
                await asyncio.sleep(rng.uniform(0.0, 2.0))
                world.launch(source)

    def _lose_clients(self, node: str) -> None:
        for client in [client for some in self.clients.values() for client in some if client.node == node]:
            if client not in self.left and client.finished is None:
                self.left.add(client)
                client.vanish()

    async def _crash(self, name: str) -> None:
        self.world.crash_process(name)

    # ---- what must be so ----

    def _allowed(self, clients: list[SimClient]) -> int:
        """Sessions that stay of clients which want to."""
        if self.policy == "one_per_kind":
            return len(KINDS)
        return 2 if self.policy == "allow:2" else 1

    def _different(self) -> list[str]:
        """How sessions, clients and what players know differ."""
        out = []
        for subject in self.subjects:
            live = [client for client in self.clients[subject] if client not in self.left and client.finished is None]
            clients = sorted(client.session for client in live if client.link is not None)
            here = sorted(
                session.caller.session
                for node in self.world.nodes.values()
                for session in node.node.gateway.table.of_player(subject)
            )
            known = sorted(
                session
                for node in self.world.nodes.values()
                if (activation := node.node.system.find(actor_id("player", subject))) is not None
                for session in activation.actor.sessions  # type: ignore[attr-defined]
            )
            if not (clients == here == known) or len(here) != self._allowed(live):
                out.append(f"{subject}: clients {clients}, at nodes {here}, known {known}")
        return out

    def _sent_away(self) -> list[str]:
        """Clients that had to go for nobody."""
        out = []
        for subject in self.subjects:
            sessions = {}
            for begun in self.begun:
                if begun.subject == subject:
                    sessions.setdefault(begun.session, begun.at)
            for client in self.clients[subject]:
                if client.finished is None or not client.session or "took over" not in client.finished:
                    continue
                mine = sessions.get(client.session, 0.0)
                since = 0.0 if self.policy == "first_wins" else mine - SLACK_S
                if not any(at >= since for name, at in sessions.items() if name != client.session):
                    out.append(f"{client.name} of {subject} had to go for a session that never began")
        return out


SLACK_S: Final = 5.0
"""Hellos are put in order by their ages: one may have been answered later than another and be older."""
