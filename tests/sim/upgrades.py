"""A succession in the simulated world: a node goes on in a second process of its machine, with the same clock.

Between the two is a `SimChannel`, whose messages take time; a process that exchanges stands still while the world goes
on. Each thing that happens on the way is a *step* with a name (`STEPS`), at which something may go wrong: a process
dies or stops, the channel falls silent, the store is away. After the last word the world goes by the heir.
"""

import asyncio
import contextlib
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from server.errors import GarrisonError, Unavailable
from server.ids import NodeAddress
from server.succession import messages
from server.succession.fits import PROTOCOL, Account
from server.succession.heir import Heir, NoSuccession
from server.succession.limits import SuccessionLimits
from server.succession.memory import GONE, NO_ANSWER, MemoryChannel
from server.succession.ports import Received
from server.succession.predecessor import Predecessor
from tests.sim.history import Crashed, Surrendered
from tests.sim.loop import DOMAIN, Domain, Killed
from tests.sim.process import SimProcess

if TYPE_CHECKING:
    from tests.sim.world import SimNode, World

End = Literal["gone", "stopped", "zombie", "silent"]
"""How a predecessor ends: at once; after it was stopped and woke up; after it ran on for a while; before its last
word."""
LIMITS: Final = SuccessionLimits(
    start_s=5.0, answer_s=2.0, frozen_s=0.5, rest_s=1.0, requests_s=0.02, lease_s=0.3, slice=4, few=12
)
ACCOUNT: Final = Account(PROTOCOL, "sim", "3", "sim", "sim", "sim", {}, {}, "", {}, {})
STEPS: Final = (
    "launched", "HeirHello sent", "HeirHello heard", "RunGiven sent", "RunGiven heard", "begun heard",
    "copying CopiesAhead sent", "copying CopiesAhead heard", "copying Took heard", "Sockets sent", "Sockets heard",
    "goes over", "resting", "frozen CopiesAhead sent", "frozen CopiesAhead heard", "frozen Took heard", "Bequests sent",
    "Bequests heard", "AllSaid sent", "AllSaid heard", "Holdings heard", "surrendered", "LastWord sent",
    "LastWord heard", "asks the store", "has the generation", "serves", "joined",
)  # fmt: skip
"""The steps of a succession, in order; some come several times."""
_DECODE: Final[Any] = msgspec.msgpack.Decoder(messages.FromPredecessor | messages.FromHeir)
LINGER_S: Final = 0.5
"""An heir whose channel is closed ends by itself within this, or is killed."""
POWERLESS: Final = ("surrendered", "gone")
DELAY_S: Final = (0.0001, 0.002)


class SimChannel(MemoryChannel):
    """An end of the way between two simulated processes. `told`: called with the name of each step."""

    world: "World"
    told: Callable[[str], None]
    came: Callable[[Sequence[Any]], None]
    domain: Domain

    def _note(self, received: Received, how: str) -> None:
        self.told(f"{type(_DECODE.decode(received.message)).__name__} {how}")

    async def send(self, message: bytes, descriptors: Sequence[Any] = ()) -> None:
        await super().send(message, descriptors)
        self._note(Received(message), "sent")

    def last_word(self, message: bytes) -> None:
        super().last_word(message)
        self._note(Received(message), "sent")

    def exchange(self, message: bytes, timeout_s: float) -> bytes:
        """Stand still until the other process has answered; its threads go on."""
        self._send(Received(message))
        self._note(Received(message), "sent")
        loop = self.world.loop

        def answered() -> bool:
            return bool(self._inbox) or self.closed or (self.other.closed and not self._flight)

        loop.freeze(self.domain, timeout_s, answered, threads=False)
        if self._inbox:
            return self._inbox.popleft().message
        raise Unavailable(GONE if answered() else NO_ANSWER)

    def carry(self, due: float, arrive: Callable[[], None]) -> None:
        network = self.world.network.domain
        network.run(lambda: self.world.loop.call_at(due, arrive))

    def arrived(self) -> None:
        received = self._flight[0][1]
        super().arrived()
        self.came(received.descriptors)
        self._note(received, "heard")


class Upgrade:
    """An attempt to let `process` go on in another one. `steps`: what has happened, and how often. `faults`: for a step
    what goes wrong there, once, the first time or a later one."""

    def __init__(self, process: SimProcess, end: End = "gone", limits: SuccessionLimits = LIMITS) -> None:
        self.world, self.process, self.how_it_ends = process.world, process, end
        self.rng = self.world.rng(f"upgrade {process.domain.name}")
        self.faults: dict[str, tuple[int, Callable[[Upgrade], None]]] = {}
        self.steps: dict[str, int] = {}
        self.heir: HeirProcess | None = None
        self.called_off = ""
        """Why it was, if it was."""
        self.ended = asyncio.Event()
        """Set when nothing of it is under way any more."""
        self.wakes_s = 0.0
        """Time for which a stopped predecessor, or a zombie, is there still."""
        assert process.node is not None
        self.old: SimNode = process.node
        self._limits = limits
        self.predecessor: Predecessor | None = None
        self._channel: SimChannel | None = None

    # ---- steps ----

    def step(self, name: str) -> None:
        """Note a step, and let go wrong what is to go wrong there. Raises `Killed` where the process that runs dies."""
        phase = self.predecessor.phase if self.predecessor is not None else ""
        if name.startswith(("Copies", "Took")):
            name = f"{'frozen' if phase == 'frozen' else 'copying'} {name}"
        elif name == "Holdings heard" and phase != "frozen":
            name = "begun heard"
        self.steps[name] = times = self.steps.get(name, 0) + 1
        self.world.note("upgrade", self.process.domain.name, name)
        if name == "LastWord heard" and self.heir is not None and self.heir.domain.state != "dead":
            self.heir.takes_over()
        when, fault = self.faults.get(name, (0, _nothing))
        if times == when:
            fault(self)
            domain = DOMAIN.get()
            if domain is not None and domain.state == "dead":
                raise Killed

    @property
    def over(self) -> bool:
        """Whether the heir is the node."""
        return self.heir is not None and self.heir.serves

    # ---- the predecessor's process ----

    async def run(self) -> None:
        """Returns when nothing of it is under way any more."""
        process, world = self.process, self.world
        task = process.domain.run(world.loop.create_task, self._hand_over())
        try:
            while not (task.done() or process.domain.state == "dead"):
                await asyncio.wait([task], timeout=0.05)
            if self.heir is not None:
                await self.heir.settled.wait()
                if not self.heir.serves and self.predecessor is not None and self.predecessor.phase in POWERLESS:
                    while process.domain.state != "dead":  # noqa: ASYNC110 - it goes on for a while, for nobody
                        await asyncio.sleep(0.05)
            self._nobody_left()
        finally:
            self.ended.set()

    async def _hand_over(self) -> None:
        node = self.old.node
        surrender, rest = node.surrender, node.gateway.succession.rest

        def surrendered() -> None:
            surrender()
            self.world.audit.append(Surrendered(at=self.world.loop.time(), process=self.process.domain.name))
            self.step("surrendered")

        def rests() -> None:
            rest()
            self.step("resting")

        node.surrender, node.gateway.succession.rest = surrendered, rests  # type: ignore[method-assign]
        self.predecessor = Predecessor(
            node, self._launch, lambda account: "", self._end, _Herald(self), self._limits, cookie_of
        )
        try:
            await self.predecessor.run()
        except GarrisonError as error:
            self.called_off = error.message
            self.world.note("called off", self.process.domain.name, error.message)
        finally:
            node.surrender, node.gateway.succession.rest = surrender, rest  # type: ignore[method-assign]

    def _launch(self) -> tuple["_Launched", SimChannel]:
        ours, theirs = SimChannel.pair(lambda: self.rng.uniform(*DELAY_S))
        heir = HeirProcess(self, theirs)
        for end, process in ((ours, self.process), (theirs, heir)):
            end.world, end.told, end.came, end.domain = self.world, self.step, heir.hold, process.domain
        self.heir, self._channel = heir, ours
        heir.begin()
        self.step("launched")
        return _Launched(self), ours

    def _end(self) -> None:
        """The last that the predecessor does."""
        process, loop = self.process, self.world.loop
        if process.domain.state == "dead":
            raise Killed
        if self.how_it_ends == "stopped":
            loop.freeze(process.domain, self.wakes_s)
        elif self.how_it_ends == "zombie":
            for connection in self.old.listener.open:  # nothing else of it may matter: these it would write to
                connection.send = connection.close = connection.abort = _unheard  # type: ignore[method-assign]
            self.world.network.domain.run(loop.call_later, self.wakes_s, self.kill)
            return
        self.kill()
        raise Killed

    def kill(self) -> None:
        """End the predecessor's process after its last word. Idempotent."""
        process = self.process
        if process.domain.state != "dead":
            self.world.note("ends", process.domain.name)
            self.world.loop.kill(process.domain)
            self._gone()

    def _nobody_left(self) -> None:
        """Note a crash where the predecessor has surrendered, and nobody has heard of it."""
        world, process = self.world, self.process
        heir = self.heir
        over = heir is None or heir.domain.state == "dead" or (heir.settled.is_set() and not heir.serves)
        if over and process.domain.state == "dead" and world.processes.get(process.name) is process:
            del world.processes[process.name]
            world.history.append(Crashed(at=world.loop.time(), client="", node=process.name))

    def _gone(self) -> None:
        self._nobody_left()
        world, name = self.world, self.process.name
        if world.nodes.get(name) is self.old:
            del world.nodes[name]
        if self._channel is not None:
            self._channel.close()
        world.network.domain.run(world.vanish, self.old)
        world.unlock(self.old)

    # ---- what goes wrong ----

    def crash(self) -> None:
        """The predecessor dies, at whatever step it is; after its last word nobody misses it."""
        process = self.process
        if process.domain.state == "dead":
            return
        if self.world.processes.get(process.name) is process:
            self.world.network.domain.run(self.world.crash_process, process.name)
            if self._channel is not None:
                self._channel.close()
        else:
            self.kill()

    @property
    def is_called_off(self) -> bool:
        """Whether the predecessor goes on."""
        return self.world.processes.get(self.process.name) is self.process and self.process.up

    def stop(self, domain: Domain, seconds: float) -> None:
        """A process stops here, and goes on later."""
        loop = self.world.loop
        if DOMAIN.get() is domain:
            loop.freeze(domain, seconds)
        elif domain.state != "dead":
            loop.pause(domain)
            self.world.network.domain.run(lambda: loop.call_later(seconds, loop.resume, domain))

    def close(self) -> None:
        """The predecessor closes its end of the channel."""
        if self._channel is not None:
            self._channel.close()

    def fall_silent(self) -> None:
        """Nothing passes between the two any more."""
        if self._channel is not None:
            self._channel.fall_silent()

    def crash_heir(self) -> None:
        """The heir dies, at whatever step it is."""
        if self.heir is not None:
            self.heir.crash()


class HeirProcess(SimProcess):
    """The heir's process. `serves`: it is the node by now. `settled`: it is, or it has ended."""

    def __init__(self, upgrade: Upgrade, channel: SimChannel) -> None:
        self.upgrade, self.channel = upgrade, channel
        self.serves = False
        self.settled = asyncio.Event()
        self.heir: Heir | None = None
        self.address: NodeAddress | None = None
        self.generation = 0
        self._begin = asyncio.Event()
        super().__init__(upgrade.world, upgrade.process.name, upgrade.process.clock)

    def begin(self) -> None:
        self._begin.set()

    async def _run(self) -> None:
        await self._begin.wait()
        world, upgrade = self.world, self.upgrade
        node = self.node = self._make(upgrade.old.url)
        for part, name, before, after in (
            (node.node.registration, "succeed", "asks the store", "has the generation"),
            (node.node, "serve_as_heir", "", "serves"),
            (node.node, "join_again", "", "joined"),
        ):
            setattr(part, name, self._stepped(getattr(part, name), before, after))
        heir = self.heir = Heir(node.node, self.channel, lambda: ACCOUNT, 1, self._kill, cookie_of)
        try:
            await heir.run()
        except NoSuccession as error:
            world.note("no succession", self.domain.name, error.message)
            world.unlock(node)
            self._exit()
            return
        except Unavailable as error:
            world.note("the heir ends", self.domain.name, error.message)
            self.crash()
            raise Killed from None
        except Exception as error:
            if self.domain.state == "dead":
                raise Killed from None  # its clean-up wanted to wait for something
            where = traceback.format_exception(error)[-2:]
            world.faults.append(f"{world.loop.time():.3f} {self.domain.name} heir: {error!r} {where}")
            self.crash()
            raise Killed from None
        self.settled.set()
        await self._live(node)
        await super()._run()

    def _stepped(self, call: Callable[..., Any], before: str, after: str) -> Callable[..., Any]:
        async def stepped(*args: Any) -> Any:
            if before:
                self.upgrade.step(before)
            result = await call(*args)
            if after == "serves":
                self.serves = True
                self.world.nodes[self.name] = self.node  # type: ignore[assignment]
            if result is not False:
                self.upgrade.step(after)
            return result

        return stepped

    def hold(self, descriptors: Sequence[Any]) -> None:
        """Have the descriptors of clients' connections that have come."""
        if self.node is not None and self.domain.state != "dead":
            self.node.listener.hold([it for it in descriptors if it])

    def takes_over(self) -> None:
        """The last word is here: from now on this process is the node's."""
        assert self.node is not None
        self.address, self.generation = self.node.address, self.node.node.generation
        self.world.processes[self.name] = self

    def _kill(self) -> None:
        if self.upgrade.how_it_ends == "gone":
            self.upgrade.kill()

    def _exit(self) -> None:
        """The process ends by itself; nothing of it may be left."""
        self.settled.set()
        me = asyncio.current_task()
        left = [task.get_name() for task in self.world.loop.tasks(self.domain) if task is not me]
        self.world.left_tasks[self.domain.name] = left

    def crash(self) -> None:
        """The process dies."""
        if self.domain.state == "dead":
            return
        self.channel.close()
        if self.world.processes.get(self.name) is self:
            self.world.network.domain.run(self.world.crash_process, self.name)
        else:
            self.world.note("heir dies", self.domain.name)
            if self.node is not None:
                self.node.node.abandon = _killed  # type: ignore[method-assign]
            self.world.loop.kill(self.domain)
            if self.node is not None:
                self.world.unlock(self.node)
                self.world.network.domain.run(self.node.listener.crash)
        self.settled.set()


class _Launched:
    """See `server.succession.predecessor.Launched`."""

    def __init__(self, upgrade: Upgrade) -> None:
        self._upgrade = upgrade

    def why(self) -> str:
        return ""

    async def end(self) -> None:
        domain, upgrade = DOMAIN.get(), self._upgrade
        if domain is not None and domain.state == "dead":
            raise Killed
        assert upgrade.heir is not None
        if upgrade.how_it_ends != "gone":  # it hears that before it is killed
            upgrade.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER_S):
                    await upgrade.heir.settled.wait()
        upgrade.crash_heir()


class _Herald:
    def __init__(self, upgrade: Upgrade) -> None:
        self._upgrade = upgrade

    async def goes_over(self, pid: int) -> None:
        self._upgrade.step("goes over")

    async def called_off(self) -> None:
        """Nobody looks after the process."""


def cookie_of(descriptor: int) -> int:
    """Descriptors of connections in memory are the same in each process."""
    return descriptor


async def _killed() -> None:
    """Clean nothing up."""


def _unheard(*args: Any) -> None: ...


def _nothing(upgrade: Upgrade) -> None: ...
