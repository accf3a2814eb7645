"""`heirs(seed) -> violations`: what the processes of one run stand on, without all the rest: lease, store, journal's
lock and a neighbour who buries whoever is proven dead or has let its lease run out.

Node `a` goes over to an heir, and again to the next. Its predecessor ends at once, or is stopped after its last word
and wakes later; then it does what it can: acknowledges, renews, gives what it owned away and says goodbye. A *careless*
one has not surrendered its store, and wakes only once its heir has taken over: then the generation alone keeps it from
that. Heirs die before and after they have taken over,
statements are late, lost and forgotten, the lock of the journal is handed on or not, and some successions are called
off. Node `b` claims whatever it may have.

Each answer is compared with the store: who acknowledges is the run's process, owns what it answers for, and nobody who
came later has answered before. In a *gentle* run, without faults, deaths and carelessness, each succession succeeds.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from server.errors import GarrisonError
from server.ids import ActorId, Epoch, NodeAddress, NodeId, actor_id
from server.liveness.lease import NodeLease
from server.liveness.renewing import RenewalTask
from server.liveness.undertaker import Undertaker
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.settings import from_tree
from server.storage.journal.memory import MemoryJournal, MemoryJournals
from server.storage.memory import MemoryDatabase, MemoryStore
from server.storage.memory_logs import MemoryLogStore
from server.storage.ports import Claim, EntityMove, Owned
from tests.sim.faults import StoreTroubles
from tests.sim.loop import Domain, SimLoop, simulate
from tests.sim.store import NodeStore, StoreProcess
from tests.sim.world import SimClock

A, B = NodeId("a"), NodeId("b")
KEYS: Final = [actor_id("coin", f"k{number}") for number in range(4)]
SUCCESSIONS: Final = 3
CALM_S: Final = 6.0
"""Time after the last succession within which everything has an owner who answers."""
LIMIT_S: Final = 200.0
STRAY: Final = frozenset({"succeed_node", "renew_lease", "bury", "bury_expired"})


class Coin(msgspec.Struct, frozen=True):
    """The state of an entity; nobody looks at it."""

    side: int = 0


class Process:
    """A process of a node."""

    def __init__(self, world: "HeirWorld", node: NodeId, generation: int) -> None:
        self.world, self.node, self.generation = world, node, generation
        self.domain = Domain(f"{node}.{generation}")
        self.metrics = Metrics()
        self.store = NodeStore(world.process, node)
        self.lease = NodeLease(self.store, world.settings, world.clock, self.metrics, self.lose)
        self.lease.generation = generation
        self.supervisor = Supervisor(self.domain.name)
        self.renewing = RenewalTask()
        self.journal = MemoryJournal(world.journals, node, self.metrics)
        self.journal.database = world.database.identity.uuid
        self.me = NodeAddress(node, world.nobody)
        self.owns: dict[ActorId, Epoch] = {}
        self.token = 1000 * generation
        self.serves = False
        self.lingered = asyncio.Event()
        """Set once it has done what it can after its last word, or has ended."""
        self.undertaker = Undertaker(
            nodes=self.store, lease=self.lease, neighbours=world, journal=self.journal, settings=world.settings,
            clock=world.clock, metrics=self.metrics,
        )  # fmt: skip

    def lose(self) -> None:
        self.serves = False
        self.owns.clear()

    def spawn(self, work: Any) -> "asyncio.Task[Any]":
        return self.domain.run(lambda: self.world.loop.create_task(work))

    async def register(self) -> None:
        sent_at = self.world.clock.boot()
        await self.journal.prepare()
        run = await self.store.register_node(self.node, self.world.settings.lease_period_s, self.journal.place)
        self.me = NodeAddress(self.node, run)
        self.lease.granted(sent_at)
        await self.journal.open(self.me)
        self.begin()

    def begin(self) -> None:
        """Renew, answer and claim from now on."""
        self.serves = True
        self.renewing.start(self.lease, self.me, self.supervisor)
        self.supervisor.spawn(self.answer(), "answers")
        self.supervisor.spawn(self.claim(), "claims")

    async def answer(self) -> None:
        while True:
            await asyncio.sleep(self.world.rng.uniform(0.002, 0.03))
            if self.serves and self.lease.holds():
                for key, epoch in self.owns.items():
                    self.world.answered(self, key, epoch)

    async def claim(self) -> None:
        """Claim what is not here, again and again, and bury whoever is in the way."""
        while True:
            await asyncio.sleep(self.world.rng.uniform(0.05, 0.2))
            if self.serves and not self.lease.surrendered:
                for key in [key for key in KEYS if key not in self.owns]:
                    await self.claim_this(key)

    async def claim_this(self, key: ActorId) -> None:
        self.token += 1
        try:
            found = (await self.store.claim("coin", [Claim(key, self.token)], self.me, None, self.generation))[key]
        except GarrisonError:
            return
        if isinstance(found, Owned):
            self.owns[key] = found.epoch

    def end(self) -> None:
        """The process is gone, between two steps."""
        self.lingered.set()
        if self.domain.state != "dead":
            self.world.loop.kill(self.domain)
            self.world.journals.crash_process(self.me, place=self.journal.place)


class HeirWorld:
    """See the module's head."""

    alone_at = 0.0

    def __init__(self, loop: SimLoop, seed: int) -> None:
        self.loop, self.rng = loop, random.Random(f"{seed}/heirs")
        self.gentle = seed % 4 == 0
        self.careless = seed % 2 == 1
        self.clock: Any = SimClock(loop)
        self.settings = from_tree({"store": {"lease_period_s": 1.0, "lease_renew_s": 0.25}}).store
        self.database = MemoryDatabase(self.clock, "d" * 32)
        self.nobody: Any = 0
        store, rng = MemoryStore(self.database, {"coin": Coin}), random.Random(f"{seed}/store")
        self.process = StoreProcess(loop, rng, store, MemoryLogStore(self.database), timeout_s=0.4)
        self.troubles = StoreTroubles(random.Random(f"{seed}/troubles"))
        self.process.faults = self.troubles
        self.journals = MemoryJournals("local")
        self.neighbour = Process(self, B, 0)
        self.line: list[Process] = []
        self.newest = 0
        self.at: dict[ActorId, float] = {}
        """Time of the newest answer for each entity."""
        self.wrong: dict[str, None] = {}
        self.taken_over = self.called_off = 0

    # the neighbours that the undertaker asks for

    def lively(self) -> list[NodeAddress]:
        return []

    def vanished(self) -> list[NodeAddress]:
        return []

    # ---- what is watched ----

    def answered(self, process: Process, key: ActorId, epoch: Epoch) -> None:
        """`process` acknowledges a change of what it takes for its own."""
        entity, run = self.database.entities[key], self.database.nodes[process.me]
        who = f"{process.domain.name} answers for {key}"
        if (entity.owner, entity.epoch) != (process.me, epoch):
            self.wrong[f"{who}, which {entity.owner} owns"] = None
        if run.state in ("dead", "left"):
            self.wrong[f"{who}, and its run is {run.state}"] = None
        if run.generation != process.generation:
            self.wrong[f"{who}, and its run is at generation {run.generation}"] = None
        if process.node == A:
            if process.generation < self.newest:
                self.wrong[f"{who} after generation {self.newest}"] = None
            self.newest = max(self.newest, process.generation)
        self.at[key] = self.loop.time()

    # ---- what happens ----

    async def run(self) -> list[str]:
        first = Process(self, A, 0)
        self.line.append(first)
        for process in (first, self.neighbour):
            await process.spawn(process.register())
        self.neighbour.spawn(self.bury())
        await asyncio.sleep(1.0)
        if not self.gentle:
            self.troubles.begin(0.3, STRAY, "a", ("forget", "slow", "refuse"))
            self.troubles.begin(0.1, STRAY, None, ("late", "slow", "refuse"))
        for generation in range(1, SUCCESSIONS + 1):
            await asyncio.sleep(self.rng.uniform(0.2, 0.8))
            if not await self.succeed(generation):
                break
        self.process.faults = StoreTroubles(self.rng)
        for process in self.line[:-1]:
            process.end()
        await asyncio.sleep(CALM_S)
        self.look()
        for process in (*self.line, self.neighbour):
            process.end()
        await asyncio.sleep(5.0)  # until no statement is on its way
        return list(self.wrong)

    def look(self) -> None:
        now = self.loop.time()
        for key in KEYS:
            if now - self.at.get(key, 0.0) > 1.0:
                self.wrong[f"nobody answers for {key} in the end"] = None
        if self.gentle:
            run = self.database.nodes[self.line[0].me]
            if (run.state, run.generation) != (
                "up",
                self.taken_over,
            ) or self.taken_over + self.called_off < SUCCESSIONS:
                self.wrong[f"{run.state} at generation {run.generation} after {self.taken_over} successions"] = None

    async def bury(self) -> None:
        """A neighbour judges as a node does: by the journals, and by the leases."""
        while True:
            await asyncio.sleep(self.rng.uniform(0.001, 0.02))
            try:
                await self.neighbour.undertaker.bury_proven([self.line[0].me])
                await self.neighbour.store.bury_expired()
            except GarrisonError:
                continue

    async def succeed(self, generation: int) -> bool:
        """Let the last process go over to the next; False once the run is over."""
        old, heir = self.line[-1], Process(self, A, generation - self.called_off)
        if not old.serves:
            return False
        heir.me = old.me
        await heir.spawn(self.prepare(old, heir))
        await old.spawn(self.rest(old))
        if not old.serves:
            heir.end()
            return False
        if self.rng.random() < 0.2:
            await heir.spawn(heir.journal.close(keep=False))
            heir.end()
            old.renewing.resume()
            self.called_off += 1
            return True
        before, owns, token = old.journal.place, dict(old.owns), old.token
        old.lease.surrender()
        old.journal.surrender()
        if not self.careless:
            old.store.surrender()
        stopped = self.rng.random() < 0.5
        if stopped:
            self.loop.pause(old.domain)
            if not self.careless:
                asyncio.get_running_loop().call_later(
                    self.rng.choice((0.0, self.rng.uniform(0.0, 0.3))), self.wake, old
                )
        else:
            old.end()
        self.line.append(heir)
        if not self.gentle and self.rng.random() < 0.15:
            heir.end()
        else:
            heir.owns, heir.token = owns, token
            await self.take_over(old, heir, before)
        return heir.serves

    async def prepare(self, old: Process, heir: Process) -> None:
        await heir.journal.prepare()
        await heir.journal.open(old.me)
        lock = old.journal.lock
        if lock is not None and (self.gentle or self.rng.random() < 0.7):
            heir.journal.hold(lock)

    async def rest(self, old: Process) -> None:
        await old.renewing.pause()
        while old.store.under_way:  # noqa: ASYNC110 - as a node that rests looks
            await asyncio.sleep(0.005)

    def wake(self, old: Process) -> None:
        """A predecessor that was stopped after its last word goes on."""
        if old.domain.state == "dead":
            return
        self.loop.resume(old.domain)
        old.renewing.resume()
        old.spawn(self.linger(old))

    async def linger(self, old: Process) -> None:
        """Do everything that could harm the heir."""
        store, me, generation, held = old.store, old.me, old.generation, dict(old.owns)
        acts: list[Callable[[], Awaitable[object]]] = [
            lambda: store.renew_lease(me, 1.0, generation),
            lambda: store.release("coin", sorted(held.items()), (), generation),
            lambda: store.migrate(
                "coin",
                [EntityMove(key, epoch, 0, self.neighbour.me) for key, epoch in sorted(held.items())],
                generation,
            ),
            lambda: store.retire_node(me, True, generation),
        ]
        self.rng.shuffle(acts)
        for act in acts:
            await asyncio.sleep(self.rng.choice((0.0, self.rng.uniform(0.0, 0.2))))
            try:
                await act()
            except GarrisonError:
                continue
        old.lingered.set()

    async def take_over(self, old: Process, heir: Process, before: str) -> None:
        """The heir's first statement, until it has an answer; then it serves, and ends what is left of its
        predecessor."""
        done = asyncio.Event()

        async def first() -> None:
            store, settings = heir.store, self.settings
            await asyncio.sleep(self.rng.choice((0.0, self.rng.uniform(0.0, 0.05))))
            while True:
                sent_at = self.clock.boot()
                try:
                    taken = await store.succeed_node(
                        heir.me, heir.generation, heir.journal.place, settings.lease_period_s
                    )
                    break
                except GarrisonError:
                    await asyncio.sleep(0.02)
            run = self.database.nodes[heir.me]
            if not taken and (run.state, run.journal) == ("up", heir.journal.place):
                self.wrong[f"{heir.domain.name} is refused what it was granted"] = None
            if taken:
                heir.lease.granted(sent_at)
                heir.begin()
                self.taken_over += 1
            done.set()

        heir.spawn(first())
        await done.wait()
        if not heir.serves:
            heir.end()
            return
        if self.careless:
            self.wake(old)
            await old.lingered.wait()
        elif self.rng.random() < 0.5:
            await asyncio.sleep(self.rng.uniform(0.0, 0.5))
        old.end()
        if self.rng.random() < 0.5:  # its lock is let go of, and its journal is there for a moment longer
            for journal in self.journals.all_of(heir.me):
                journal.holder = None
            await asyncio.sleep(self.rng.uniform(0.0, 0.2))
        await heir.spawn(heir.journal.clear(heir.me, before))
        if not self.gentle and self.rng.random() < 0.1:
            heir.end()
            heir.serves = False


def heirs(seed: int) -> list[str]:
    """See the module's head."""

    async def main(loop: SimLoop) -> list[str]:
        return await HeirWorld(loop, seed).run()

    return simulate(seed, main, LIMIT_S).result
