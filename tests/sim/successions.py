"""`successions(seed) -> violations`: nodes go on in other processes, one after the other, while matches, players and
toys (`succession_toys.py`) live on three of them, and at every step of a succession something goes wrong.

A run is a few turns. Each turn is an upgrade of one node, and perhaps a trouble at one of its steps: either process
dies, or both, or stops for a while; the channel falls silent; the store is away, slow, or forgets what it has done; the
lease is nearly over; a peer dies, or drains. The predecessor ends at once, or is stopped and wakes up later, or goes on
for a while and knows of nothing. Seed and turn give step and trouble in turn, so that a few seeds are at every step.

Beside what a storm checks: nothing is let go by a process that has surrendered, nor by an heir whose generation the
store has not; nobody sees a succession that nothing troubled, or one that was called off: no view changes, no client is
closed, no memory is lost; timers ring once, and in no heir before its time.
"""

import asyncio
import itertools
import random
import traceback
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple
from unittest.mock import patch

from server.ids import NodeAddress
from server.wire.messages import CloseCode
from tests.sim.client import until
from tests.sim.faults import StoreTroubles, quietly
from tests.sim.history import Answered, Asked, Audit, Crashed, Disconnected, Released, Succeeded, Surrendered
from tests.sim.loop import SimLoop, simulate
from tests.sim.pictures import LampBoard, Watcher, alike
from tests.sim.store import Fault
from tests.sim.storm import LIMIT_S, NODES, SETTINGS, STATEMENT_TIMEOUT_S, Options, Storm
from tests.sim.succession_toys import APP, BOARDS, RINGS, Toys
from tests.sim.upgrades import STEPS, End, HeirProcess, Upgrade
from tests.sim.world import JournalMode, World, silent

TURNS: Final = 5
UP_S: Final = 20.0
"""After each turn every node is up within this."""
SETTLE_S: Final = 1.0
CALM_S: Final = 3.5
"""After a turn that nothing troubles: a client that hears nothing would have left by then."""
MOVED: Final = (CloseCode.MOVED, CloseCode.REDIRECTED, CloseCode.NORMAL)
"""Codes by which a client goes elsewhere, the last one by itself when it is asked to: nodes that came back a turn ago
get their sessions back, whatever else goes on."""
ANSWERED_S: Final = 2.5
"""Every request is answered within this, in a turn of which nobody sees anything."""
ASKED_AGAIN_S: Final = 0.5
"""Time until a store that was in trouble is asked again: a request that waits for it may take that longer."""
REFUSED_S: Final = 0.1
"""From so long after such a turn on no call is refused."""
PAUSE_S: Final = 1.0
"""Time for which nobody is served by a succession that nothing troubles, at most."""
TROUBLES: Final = (
    "crash", "heir dies", "both die", "stop", "heir stops", "silence", "store away", "store slow", "store forgets",
    "store late", "peer dies", "peer drains", "short lease",
)  # fmt: skip
WAYS: Final[dict[str, Fault]] = {
    "store away": "refuse", "store slow": "slow", "store forgets": "forget", "store late": "late",
}  # fmt: skip
ENDS: Final[tuple[End, ...]] = ("gone", "stopped", "zombie")
EXPECTED: Final = (
    "succession called off",
    "the heir cannot take what it is given",
    "the predecessor's journal was not removed",
)
OPTIONS: Final = Options(watches=True, fences=True)


class Turn(NamedTuple):
    """An upgrade of `node`, and the trouble at a step of it, the first or second time that it comes there; none where
    `trouble` is empty."""

    node: str
    trouble: str
    step: str
    times: int
    end: End
    seconds: float

    def __str__(self) -> str:
        what = f"{self.trouble} at {self.step} ({self.times})" if self.trouble else "calm"
        return f"{self.node} {self.end} {what} {self.seconds:.2f}"


def turns_of(seed: int, count: int = TURNS) -> list[Turn]:
    """The turns of a seed: the first one is calm, the others go through steps and troubles."""
    rng = random.Random(f"{seed}/turns")
    turns = [Turn(rng.choice(NODES), "", "", 0, rng.choice(ENDS), rng.uniform(0.5, 3.0))]
    for number in range((seed - 1) * (count - 1), seed * (count - 1)):
        step = STEPS[number % len(STEPS)]
        trouble = TROUBLES[(number + number // len(STEPS) * 5) % len(TROUBLES)]
        times = rng.choice((1, 1, 2)) if seed > len(STEPS) and ("opies" in step or "Took" in step) else 1
        seconds = rng.uniform(7.0, 10.0) if "stop" in trouble and rng.random() < 0.5 else rng.uniform(0.2, 3.0)
        turns.append(Turn(rng.choice(NODES), trouble, step, times, rng.choice(ENDS), seconds))
    return turns


class Turns:
    """Does the turns of a run. `done` says what came of each."""

    def __init__(self, world: World, turns: list[Turn], whole: Callable[[], bool]) -> None:
        self.world, self.turns, self._all_up = world, turns, whole
        self.rng, self.toys = world.rng("turns"), Toys(world)
        world.store.faults = self.store = StoreTroubles(world.rng("store troubles"))
        self.done: list[str] = []
        self.hit: dict[str, None] = {}
        """Steps at which something went wrong."""
        self.wrong: list[str] = []
        self.heirs: list[HeirProcess] = []
        self.over = 0
        self._drained: dict[str, None] = {}
        self._watchers: list[Watcher] = []

    async def run(self) -> None:
        """All of them, while toys are asked."""
        world = self.world
        boards = list(BOARDS)
        self._watchers = [Watcher(world, f"w{number}", boards, self.wrong, text=False) for number in range(2)]
        toys = world.loop.create_task(self.toys.run(), name="toys")
        others = [world.loop.create_task(watcher.keep_watching()) for watcher in self._watchers]
        others.append(world.loop.create_task(self._note_harm(), name="harm"))
        await asyncio.sleep(1.0)
        try:
            for turn in self.turns:
                await self._turn(turn)
                await asyncio.sleep(self.rng.uniform(0.1, 1.0))
            await self._whole()
        finally:
            self.toys.stopped = True
            await toys
        try:
            await alike(world, self._watchers, boards)
        except AssertionError as error:
            self.wrong.append(str(error))
        self.wrong += await self.toys.check()
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for watcher in self._watchers:
            watcher.client.stop()
            del world.clients[watcher.client.name]

    async def _note_harm(self) -> None:
        """Note the moments at which memory may be lost."""
        world, seen = self.world, (0, 0, 0)
        while True:
            lost = sum(process.leases_lost for process in world.processes.values())
            now = (self._crashes(), lost, len(world.views_changed))
            if now != seen:
                self.toys.harmed.append(world.loop.time())
            seen = now
            await asyncio.sleep(0.05)

    def _crashes(self) -> int:
        return sum(isinstance(item, Crashed) for item in self.world.history)

    async def _whole(self) -> None:
        """Every node is up again, and they agree; whoever looks after processes has started what was down."""
        world = self.world
        for name in list(self._drained):
            if name in world.processes:
                await world.stop_process(name)
        self._drained.clear()
        for name in NODES:
            if name not in world.processes:
                world.launch(name)
        await until(self._all_up, UP_S, "every node is up between two turns", 0.05)
        await world.converged(UP_S)
        await until(self._all_ready, UP_S, "every node is ready between two turns", 0.05)

    def _all_ready(self) -> bool:
        return all(not node.node.not_ready() for node in self.world.nodes.values())

    # ---- a turn ----

    async def _turn(self, turn: Turn) -> None:
        world = self.world
        await self._whole()
        began, crashes, names = world.loop.time(), self._crashes(), self._clients_of(turn.node)
        upgrade = Upgrade(world.processes[turn.node], turn.end)
        upgrade.wakes_s = turn.seconds
        if turn.trouble:
            upgrade.faults[turn.step] = (turn.times, lambda upgrade: self._go_wrong(turn, upgrade))
        world.note("turn", turn)
        self.toys.calm = not turn.trouble
        running = world.loop.create_task(upgrade.run(), name=f"upgrade {turn.node}")
        await running
        over_at = world.loop.time()
        if turn.end == "zombie":
            await self._wake(upgrade)
        rested = upgrade.is_called_off and "resting" in upgrade.steps
        await asyncio.sleep(SETTLE_S if turn.trouble and not rested else CALM_S)
        self.toys.calm = False
        if upgrade.heir is not None:
            self.heirs.append(upgrade.heir)
        self.over += upgrade.over
        self.done.append(f"{began:7.3f} {turn}: {'over' if upgrade.over else f'called off: {upgrade.called_off}'}")
        if not turn.trouble:
            self._check_calm(turn, upgrade, over_at)
        if turn.trouble == "store slow" and self._crashes() == crashes:
            self._all_answered(turn, began, names)
        if upgrade.is_called_off:
            self._check_journals(turn, upgrade)
        may_notice = turn.trouble in ("peer drains", "short lease", "stop", "heir stops") or self._crashes() > crashes
        if not may_notice and (not turn.trouble or upgrade.is_called_off):
            self._unnoticed(turn, began, names)

    def _check_calm(self, turn: Turn, upgrade: Upgrade, over_at: float) -> None:
        heir = upgrade.heir.heir if upgrade.heir is not None else None
        if not upgrade.over or heir is None:
            self.wrong.append(f"{turn} came to nothing: {upgrade.called_off}")
        refused = [line for at, line in self.toys.refused if at > over_at + REFUSED_S]
        if refused:
            self.wrong.append(f"{turn}: {len(refused)} calls are refused, {refused[0]}")
        if upgrade.over and heir is not None and heir.pause_ms > 1000 * PAUSE_S:
            self.wrong.append(f"{turn}: nobody was served for {heir.pause_ms:.0f} ms")

    def _check_journals(self, turn: Turn, upgrade: Upgrade) -> None:
        """Nothing is left of the heir's journal once the succession was called off."""
        heir, journals = upgrade.heir, self.world.journals
        if journals is None or heir is None or heir.node is None or heir.node.journal is None:
            return
        place = heir.node.journal.place
        if journals.find(upgrade.old.address, place) is not None:
            self.wrong.append(f"{turn}: the heir's journal is still there, at {place}")

    def _clients_of(self, name: str) -> list[str]:
        return [
            client.name for client in self.world.clients.values() if client.is_online and client.node.startswith(name)
        ]

    def _unnoticed(self, turn: Turn, began: float, names: list[str]) -> None:
        """Nobody may have seen anything of it."""
        seen = [f"{where} at {at:.3f}" for at, where in self.world.views_changed if at >= began]
        if seen:
            self.wrong.append(f"{turn}: views changed: {', '.join(seen)}")
        closed = [item for item in self.world.history if isinstance(item, Disconnected) and item.at >= began]
        moved = {item.client for item in closed if turn.trouble and item.code in MOVED}
        self.wrong += [
            f"{turn}: {item.client} was closed at {item.at:.3f}: {item.code} {item.reason}"
            for item in closed
            if item.client in names and item.client not in moved
        ]
        self._all_answered(turn, began, names)

    def _all_answered(self, turn: Turn, began: float, names: list[str]) -> None:
        """Every request that these clients made in the turn has an answer."""
        patience_s = max(ANSWERED_S, turn.seconds + ASKED_AGAIN_S) if turn.trouble in WAYS else ANSWERED_S
        asked: dict[tuple[str, int], Asked] = {}
        for item in self.world.history:
            if isinstance(item, Asked):
                asked[item.client, item.request_id] = item
            elif isinstance(item, Answered):
                asked.pop((item.client, item.request_id), None)
            elif isinstance(item, Disconnected):
                asked = {key: other for key, other in asked.items() if key[0] != item.client}
        self.wrong += [
            f"{turn}: {item.client} has no answer to {item.request_id}, asked at {item.at:.3f}"
            for item in asked.values()
            if began - 0.5 <= item.at < self.world.loop.time() - patience_s and item.client in names
        ]

    async def _wake(self, upgrade: Upgrade) -> None:
        """Ask things of a predecessor that goes on after its last word, as a task of its own would."""
        world, system, domain = self.world, upgrade.old.node.system, upgrade.process.domain
        for identity in [it.id for it in system.catalog.live.values() if it.id.startswith(("pair/", "vault/"))]:
            if domain.state != "running":
                return
            method = "both" if identity.startswith("pair/") else "deposit"
            asked = domain.run(world.loop.create_task, system.ask(identity, method, ()))
            asked.add_done_callback(lambda done: done.cancelled() or done.exception())
            await asyncio.wait([asked], timeout=0.1)
            if upgrade.over and asked.done() and not asked.cancelled() and asked.exception() is None:
                self.wrong.append(f"{domain.name} has surrendered and answers {identity}")

    # ---- troubles ----

    def _go_wrong(self, turn: Turn, upgrade: Upgrade) -> None:
        """Do the trouble of a turn, now, at the step where something of it runs."""
        world, seconds = self.world, turn.seconds
        world.note("trouble", turn)
        self.hit[turn.step] = None
        match turn.trouble:
            case "crash":
                upgrade.crash()
            case "heir dies":
                upgrade.crash_heir()
            case "both die":
                upgrade.crash_heir()
                upgrade.crash()
            case "stop":
                self._timers_wait(seconds)
                upgrade.stop(upgrade.process.domain, seconds)
            case "heir stops":
                self._timers_wait(seconds)
                if upgrade.heir is not None:
                    upgrade.stop(upgrade.heir.domain, seconds)
            case "silence":
                upgrade.fall_silent()
            case "short lease":
                self._timers_wait(12.0)
                self._store(("refuse",), turn.node, 8.0, frozenset({"renew_lease"}))
            case "peer dies" | "peer drains":
                peer = self.rng.choice([name for name in NODES if name != turn.node])
                call = self._crash if turn.trouble == "peer dies" else self._drain
                world.network.domain.run(world.loop.call_soon, call, peer)
            case _:
                self._store((WAYS[turn.trouble],), None if turn.trouble == "store slow" else turn.node, seconds)

    def _timers_wait(self, seconds: float) -> None:
        """Expect no timer in time: its process stands still, or has no lease."""
        now = self.world.loop.time()
        self.toys.harmed += [now + later_s for later_s in range(round(seconds) + 3)]

    def _crash(self, name: str) -> None:
        if name in self.world.processes:
            self.world.crash_process(name)

    def _drain(self, name: str) -> None:
        process = self.world.processes.get(name)
        if process is not None and process.up and process.node is not None:
            self._drained[name] = None
            process.domain.run(self.world.loop.create_task, quietly(process.node.node.drain()))

    def _store(
        self, ways: tuple[Fault, ...], node: str | None, seconds: float, statements: frozenset[str] = frozenset()
    ) -> None:
        number = self.store.begin(1.0, statements, node, ways)
        loop = self.world.loop
        self.world.network.domain.run(lambda: loop.call_later(seconds, self.store.end, number))

    # ---- after it ----

    def violations(self) -> list[str]:
        """Everything that is not as it should be."""
        return [
            *self.wrong,
            *handed_on(self.world.audit, self._generations()),
            *tokens_rise(self.world.store.claims),
            *self._early_rings(),
        ]

    def _generations(self) -> dict[str, tuple[NodeAddress, int]]:
        """Run and generation of each process that had an heir, or was one that took over."""
        found: dict[str, tuple[NodeAddress, int]] = {}
        for heir in self.heirs:
            if heir.address is not None:
                found[heir.domain.name] = heir.address, heir.generation
                found[heir.upgrade.process.domain.name] = heir.address, heir.generation - 1
        return found

    def _early_rings(self) -> Iterator[str]:
        """Timers that rang in an heir before it was the node."""
        granted: dict[tuple[NodeAddress, int], float] = {}
        for entry in self.world.audit:
            if isinstance(entry, Succeeded):
                granted.setdefault((entry.about, entry.generation), entry.at)
        generations = self._generations()
        for rang in RINGS:
            run = generations.get(rang.process)
            if run is not None and run[1] and rang.at < granted.get(run, float("inf")):
                yield f"{rang.alarm} rang in {rang.process} at {rang.at:.3f}, before it was the node"


class Successions(Storm):
    """A run; see the module's head."""

    def __init__(self, world: World, turns: list[Turn]) -> None:
        super().__init__(world, OPTIONS, [])
        self.turned = Turns(world, turns, self._all_up)
        self.faults = self.turned  # type: ignore[assignment]

    def violations(self) -> list[str]:
        lines = super().violations()
        return [*(line for line in lines if not any(words in line for words in EXPECTED)), *self.turned.violations()]


def handed_on(audit: Audit, heirs: dict[str, tuple[NodeAddress, int]]) -> list[str]:
    """Nothing is let go by a process that has surrendered or been succeeded, nor by an heir before the store has its
    generation. `heirs`: run and generation by the name of the process, of all processes."""
    surrendered: set[str] = set()
    granted: dict[NodeAddress, int] = {}
    out = []
    for entry in audit:
        if isinstance(entry, Surrendered):
            surrendered.add(entry.process)
        elif isinstance(entry, Succeeded):
            granted[entry.about] = entry.generation
        elif isinstance(entry, Released):
            what = f"{entry.node} let {entry.id} {entry.version} go at {entry.at:.3f}"
            if entry.node in surrendered:
                out.append(f"{what}, and has surrendered")
            if entry.node in heirs:
                run, generation = heirs[entry.node]
                if granted.get(run, 0) < generation:
                    out.append(f"{what}, before it was the node")
                elif granted.get(run, 0) > generation:
                    out.append(f"{what}, and its heir is the node")
    return out


def tokens_rise(claims: list[tuple[NodeAddress, int]]) -> list[str]:
    """Each claim of a run has a higher token than those that were sent before, by whichever process of it."""
    newest: dict[NodeAddress, int] = {}
    out = []
    for run, token in claims:
        if token <= newest.get(run, 0):
            out.append(f"{run} claims with token {token}, after {newest[run]}")
        newest[run] = token
    return out[:3]


class Played(NamedTuple):
    """A finished run."""

    violations: list[str]
    done: list[str]
    over: int
    """How many upgrades went over."""
    hit: list[str]
    logs: list[str]
    virtual_s: float


def play(seed: int, turns: list[Turn]) -> Played:
    """Run it. What broke the run off is a violation too."""
    mode: JournalMode = ("none", "local", "redis")[seed % 3]  # type: ignore[assignment]
    runs: list[Successions] = []
    LampBoard.moments = itertools.count(1)

    async def main(loop: SimLoop) -> list[str]:
        world = World(
            loop, seed, {**SETTINGS, "actors": {"orphan_poll_s": 1.0, "collect_interval_s": 0.1}}, mode, app=APP
        )
        world.store.timeout_s = STATEMENT_TIMEOUT_S
        runs.append(Successions(world, turns))
        return await runs[0].run()

    virtual_s = 0.0
    try:
        with silent(), patch("server.succession.heir.gc", _NoCollector):
            run = simulate(seed, main, LIMIT_S)
        wrong, virtual_s = run.result + runs[0].violations(), run.virtual_s
    except Exception:
        wrong = [*runs[0].world.faults, *runs[0].turned.violations(), traceback.format_exc()]
    turned = runs[0].turned
    return Played(wrong, turned.done, turned.over, list(turned.hit), list(runs[0].world.logs), virtual_s)


class _NoCollector:
    """The collector of garbage is the simulation's."""

    isenabled = staticmethod(lambda: False)
    disable = enable = freeze = staticmethod(lambda: None)


def successions(seed: int) -> list[str]:
    """See the module's head."""
    return play(seed, turns_of(seed)).violations


def late_heirs(seed: int) -> list[str]:
    """An heir that is stopped between its predecessor's last word and the store, until its run is over."""
    step = ("LastWord heard", "asks the store")[seed % 2]
    return play(seed, [Turn(NODES[seed % 3], "heir stops", step, 1, "gone", 14.0)]).violations
