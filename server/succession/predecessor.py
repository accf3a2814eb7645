"""The predecessor's side of a succession: a node that hands its run over to a new process and ends.

    starting     the new program starts beside this one, and says what it is
    copying      activations, sessions and sockets go over in slices, while this node serves as ever
    resting      nothing new begins, what is under way ends, everything is stored; by a deadline
    frozen       one stretch of the event loop without a pause: what is left goes over, and the heir says what it holds
    surrendered  from here on this process is powerless, whatever wakes it: no lease, no statement, no record
    gone         the last word was sent
    called off   anything went wrong before that: the node goes on as if nothing had been

The one rule: this process may acknowledge until it surrenders, the heir from the compare-and-set in the store on that
follows the last word. After it has surrendered this process never serves again: where its last word did not arrive,
that is a crash, and a new run follows.

The frozen stretch awaits nothing. So no turn, timer, task or socket of this process can come between what is copied and
the surrender, and bytes of clients wait in the kernel for the heir.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Final, Literal, Protocol

import msgspec
import structlog

from server.cluster import agreement
from server.errors import CalledOff, GarrisonError, Unavailable
from server.ids import ActorId
from server.node import Node
from server.runtime.phases import PhaseTable
from server.succession import messages
from server.succession.copying import CopiedActivations
from server.succession.copying_sessions import CookieOf, CopiedSessions
from server.succession.fits import Account
from server.succession.messages import (
    AllSaid,
    Bequests,
    CopiesAhead,
    FromHeir,
    FromPredecessor,
    HeirHello,
    Holdings,
    LastWord,
    NoHeir,
    RunGiven,
    Sockets,
)
from server.succession.parts import parts_of
from server.succession.ports import HeirChannel
from server.succession.sockets import cookie_of

log = structlog.get_logger(__name__)
Phase = Literal["idle", "starting", "copying", "resting", "frozen", "surrendered", "gone", "called off"]
_FOLLOWING: Final[Mapping[Phase, tuple[Phase, ...]]] = {
    "idle": ("starting",),
    "starting": ("copying", "called off"),
    "copying": ("resting", "called off"),
    "resting": ("frozen", "called off"),
    "frozen": ("surrendered", "called off"),
    "surrendered": ("gone",),
    "gone": (),
    "called off": (),
}
PREDECESSOR: Final = PhaseTable[Phase]("predecessor", _FOLLOWING)


class SuccessionLimits(msgspec.Struct, frozen=True):
    """Times in seconds, and how much goes over at once."""

    start_s: float = 120.0
    """For the new program to start and to say what it is."""
    answer_s: float = 30.0
    """For an answer while this node serves."""
    frozen_s: float = 2.0
    """For each answer while it does not."""
    rest_s: float = 1.0
    """For everything that is under way to end."""
    requests_s: float = 0.1
    """For clients' requests to be answered, of that; then they are told that their outcome is not known."""
    lease_s: float = 1.0
    """Left of the lease when this node freezes, at least."""
    slice: int = 200
    sockets: int = 200
    rounds: int = 20
    few: int = 500
    """So few activations and sessions may be left for the rest."""
    look_s: float = 0.001


LIMITS: Final = SuccessionLimits()


class Launched(Protocol):
    """The process of the new program."""

    def why(self) -> str:
        """The reason why it ended, for people; empty while it runs."""
        ...

    async def end(self) -> None:
        """Kill it, if it runs. Idempotent."""
        ...


class Herald(Protocol):
    """Tells whoever looks after this process, a service manager for example, which process to look after."""

    async def goes_over(self, pid: int) -> None:
        """Said before the rest, and heard when this returns."""
        ...

    async def called_off(self) -> None:
        """Said where `goes_over` was said, and this process goes on."""
        ...


class Silence:
    """The herald where nobody looks after this process."""

    async def goes_over(self, pid: int) -> None: ...

    async def called_off(self) -> None: ...


Launch = Callable[[], tuple[Launched, HeirChannel]]
"""Starts the new program. Raises `CalledOff` where that cannot be."""
Misfit = Callable[[Account], str]
"""Why a program cannot be the heir; empty if it can."""


class Predecessor:
    """See the module's head. `misfit` looks at the heir's account of itself; `end` ends this process at once, without a
    stage of a stop."""

    def __init__(
        self,
        node: Node,
        launch: Launch,
        misfit: Misfit,
        end: Callable[[], None],
        herald: Herald | None = None,
        limits: SuccessionLimits = LIMITS,
        cookie_of: CookieOf = cookie_of,
    ) -> None:
        self._node, self._launch, self._misfit, self._end, self._limits = node, launch, misfit, end, limits
        self._herald = herald or Silence()
        self.phase: Phase = "idle"
        self._copied: CopiedActivations | None = None
        self._sessions = CopiedSessions(node.gateway, cookie_of)
        self._rest_began = 0.0
        self._digest = 0
        """The digest of the view that the heir was told."""
        self._going = 0
        """Clients that were told to come again, because their connections could not go over."""

    def _enter(self, phase: Phase) -> None:
        self.phase = PREDECESSOR.move(str(self._node.system.me), self.phase, phase)

    def progress(self) -> dict[str, Any]:
        """`phase`, and of `total` activations and sessions how many are `copied`."""
        total = len(self._node.system.catalog.live) + len(self._node.gateway.table)
        copied = len(self._copied) if self._copied is not None else 0
        return {"phase": self.phase, "copied": copied + len(self._sessions), "total": total}

    async def run(self) -> None:
        """Hand this node's run over; where that succeeds, `end` ends the process. Raises `CalledOff`."""
        self._enter("starting")
        launched: Launched | None = None
        try:
            if why := self._cannot_go():
                raise CalledOff(why)
            launched, channel = self._launch()
            await self._hand_over(channel)
        except BaseException as error:
            if self.phase in ("surrendered", "gone"):
                raise  # `end` was called, and nothing is left to call off
            self._enter("called off")
            why = str(error) if isinstance(error, GarrisonError) else f"{type(error).__name__}: {error}"
            if isinstance(error, asyncio.CancelledError):
                why = "this node stops"
            if launched is not None:
                why = launched.why() or why
                await launched.end()
            log.error("succession called off", why=why)
            if isinstance(error, GarrisonError):
                raise CalledOff(why) from None
            raise
        finally:
            self._sessions.end()
            self._node.system.directory.end_copying()
            if self._node.presence is not None:
                self._node.presence.end_copying()
            self._node.gateway.succession.end_copying()
            if self._copied is not None:
                self._copied.end()

    def _cannot_go(self) -> str:
        """Why this node hands nothing over now."""
        node = self._node
        if why := node.not_ready():
            return f"this node is not ready: {why}"
        if older := agreement.without_heirs(node.system.view.members.values()):
            return f"nodes of an earlier version would not know its heir: {', '.join(older)}"
        return ""

    async def _hand_over(self, channel: HeirChannel) -> None:
        try:
            async with asyncio.timeout(self._limits.start_s):
                hello = self._expect(HeirHello, (await channel.receive()).message)
        except TimeoutError:
            raise Unavailable(f"the new program does not say what it is within {self._limits.start_s:.0f} s") from None
        if why := self._misfit(hello.account) or self._cannot_go():  # a drain may have begun
            await channel.send(messages.encode(NoHeir(why)))
            raise Unavailable(why)
        await self._begin(channel)
        self._enter("copying")
        self._copied = copied = CopiedActivations(self._node.system)
        self._sessions.begin()
        await self._copy_ahead(channel, copied)
        await self._herald.goes_over(hello.pid)
        try:
            self._enter("resting")
            await self._rest_and_go(channel, copied)
        finally:
            if self.phase not in ("surrendered", "gone"):
                await self._herald.called_off()

    # ---- messages ----

    async def _ask(self, channel: HeirChannel, message: FromPredecessor, descriptors: Sequence[int] = ()) -> Any:
        try:
            async with asyncio.timeout(self._limits.answer_s):
                await channel.send(messages.encode(message), descriptors)
                answer = await channel.receive()
        except TimeoutError:
            raise Unavailable("the heir does not answer in time") from None
        return self._heard(answer.message)

    def _exchange(self, channel: HeirChannel, message: FromPredecessor) -> Any:
        return self._heard(channel.exchange(messages.encode(message), self._limits.frozen_s))

    @staticmethod
    def _heard(data: bytes) -> FromHeir:
        answer = messages.decode_from_heir(data)
        if isinstance(answer, NoHeir):
            raise Unavailable(f"the heir refuses: {answer.why}")
        return answer

    def _expect(self, cls: type[Any], data: bytes) -> Any:
        answer = self._heard(data)
        if not isinstance(answer, cls):
            raise Unavailable(f"the heir says {type(answer).__name__}, where {cls.__name__} was due")
        return answer

    async def _begin(self, channel: HeirChannel) -> None:
        node = self._node
        assert node.me is not None
        given = [(name, sock.fileno()) for name, part in _listeners(node).items() for sock in part.sockets]
        journal = node.drivers.journal
        if journal is not None and journal.lock is not None:
            given.append(("journal", journal.lock))
        me = msgspec.structs.replace(node.me, generation=node.generation + 1)
        members = list(node.system.view.members.values())
        self._digest = node.system.view.digest
        place = journal.place if journal is not None else ""
        message = RunGiven(me, members, place, [name for name, _ in given])
        await self._ask(channel, message, [descriptor for _, descriptor in given])

    # ---- while this node serves ----

    async def _copy_ahead(self, channel: HeirChannel, copied: CopiedActivations) -> None:
        """Copy everything, then what was touched meanwhile, until little is left."""
        sessions = self._sessions
        for round_ in range(self._limits.rounds):
            self._check_view()
            await self._store_what_waits()
            copied.touched_again()
            sessions.touched_again()
            left = copied.waiting + sessions.waiting
            if round_ and left <= self._limits.few:
                return
            log.debug("copied ahead", round=round_, left=left)
            while copied.waiting:
                if not await self._copy(channel, copied):
                    break  # all that wait are in a turn
            while sessions.waiting:
                await self._copy_sessions(channel)
            await self._copy_parts(channel)
            await self._send_sockets(channel)

    def _check_view(self) -> None:
        """Raises `Unavailable` once the view is another than the heir was told: what it inherits goes by slots."""
        if self._node.system.view.digest != self._digest:
            raise Unavailable("nodes came, left or began to leave meanwhile: ask again")

    async def _copy(self, channel: HeirChannel, copied: CopiedActivations) -> bool:
        """Copy a slice; returns whether anything could be, or is still to be found."""
        parcels, gone = copied.slice(self._limits.slice)
        if parcels or gone:
            await self._ask(channel, self._copies(parcels=parcels, gone=gone))
        await asyncio.sleep(0)
        return bool(parcels or gone or not copied.swept)

    async def _copy_parts(self, channel: HeirChannel) -> None:
        """Copy what other parts have so much of that it would not do while this node rests."""
        directory, presence = self._node.system.directory, self._node.presence
        while some := directory.copy_ahead():
            await self._ask(channel, self._copies(directory=some))
        while presence is not None and (some := presence.copy_ahead()):
            await self._ask(channel, self._copies(presence=some))
        while some := self._node.gateway.succession.copy_ahead():
            await self._ask(channel, self._copies(gateway=some))

    async def _copy_sessions(self, channel: HeirChannel) -> None:
        found, gone = self._sessions.slice(self._limits.slice)
        if found or gone:
            took = await self._ask(channel, self._copies(sessions=found, sessions_gone=gone))
            self._sessions.unreadable(took.unreadable)
        await asyncio.sleep(0)

    def _copies(
        self,
        parcels: Sequence[bytes] = (),
        gone: Sequence[ActorId] = (),
        sessions: Sequence[bytes] = (),
        sessions_gone: Sequence[str] = (),
        directory: bytes = b"",
        presence: bytes = b"",
        gateway: bytes = b"",
    ) -> CopiesAhead:
        at = self._node.clock.boot()
        named = (list(parcels), list(gone), list(sessions), list(sessions_gone))
        return CopiesAhead(at, *named, directory, presence, gateway)

    async def _send_sockets(self, channel: HeirChannel) -> None:
        """Send the sockets of connections that the heir has not yet."""
        found = self._sessions.new_sockets()
        for start in range(0, len(found), self._limits.sockets):
            some = found[start : start + self._limits.sockets]
            named = Sockets([(it.token, it.cookie) for it in some])
            await self._ask(channel, named, [it.descriptor for it in some])
            self._sessions.sent(some)

    async def _store_what_waits(self) -> None:
        await self._node.write_behind.flush()
        await self._node.pipeline.group_commit.commit()

    # ---- rest ----

    async def _rest_and_go(self, channel: HeirChannel, copied: CopiedActivations) -> None:
        node = self._node
        self._rest_began = node.clock.boot()
        with ExitStack() as undone:
            try:
                async with asyncio.timeout(self._limits.rest_s):
                    await self._rest(undone, channel)
            except TimeoutError:
                raise Unavailable(f"it did not come to rest: {self._under_way()}") from None
            self._enter("frozen")
            frozen_at = node.clock.boot()
            if node.recording is not None:
                node.recording.seal()
                undone.callback(node.recording.go_on)
            last_word = self._freeze(channel, copied)
            rested_ms, froze_ms = (
                round(1000 * s, 1) for s in (frozen_at - self._rest_began, node.clock.boot() - frozen_at)
            )
            log.info("the heir holds everything", rested_ms=rested_ms, froze_ms=froze_ms)
            node.drivers.store.surrender()  # the last that may fail: then nothing has been
            undone.pop_all()  # nothing goes on here any more
            self._go(channel, last_word)

    async def _rest(self, undone: ExitStack, channel: HeirChannel) -> None:
        """Let nothing begin, and everything end. What was stopped goes on again when `undone` is closed."""
        node, drivers, limits = self._node, self._node.drivers, self._limits
        node.gateway.succession.rest()
        undone.callback(node.gateway.succession.go_on)
        node.system.hold()
        undone.callback(node.system.go_on)
        while node.system.moving:  # noqa: ASYNC110 - both sides have to speak until it is over; nobody tells when
            await asyncio.sleep(limits.look_s)
        drivers.transport.rest()
        undone.callback(drivers.transport.go_on)
        until = node.clock.now() + limits.requests_s
        while self._busy() and node.clock.now() < until:  # noqa: ASYNC110 - nobody tells when the last one ends
            await asyncio.sleep(limits.look_s)
        node.gateway.succession.end_waiting()
        self._going = node.gateway.succession.part_with_some().total()
        await self._send_sockets(channel)
        await node.pause_renewing()
        undone.callback(node.resume_renewing)
        pipeline = node.pipeline
        while self._under_way():
            await pipeline.write_behind.flush()
            await pipeline.group_commit.commit()
            await asyncio.sleep(limits.look_s)

    def _busy(self) -> bool:
        node = self._node
        system = node.system
        return bool(
            node.gateway.succession.under_way
            or node.drivers.transport.under_way
            or system.under_way
            or system.unanswered
        )

    def _under_way(self) -> str:
        """The reason why this node cannot be frozen yet; empty if there is none."""
        node = self._node
        if under_way := node.system.under_way:
            return under_way
        if (copied := self._copied) is not None and (activation := copied.not_at_rest()) is not None:
            return f"{activation.id} is not at rest"
        if waiting := len(node.write_behind):
            return f"{waiting} changed states are not stored"
        if backlog := node.pipeline.group_commit.backlog:
            return f"{backlog} log entries are not stored"
        if shipping := node.gateway.succession.shipping:
            return f"{shipping} shipments of sessions are under way"
        if node.drivers.store.under_way:
            return f"{node.drivers.store.under_way} statements are under way"
        journal = node.drivers.journal
        if journal is not None and journal.in_flight:
            return f"{journal.in_flight} records of the journal are under way"
        return ""

    # ---- frozen: nothing below awaits ----

    def _freeze(self, channel: HeirChannel, copied: CopiedActivations) -> LastWord:
        """Send what is left, and see that the heir holds everything. Raises `Unavailable`."""
        node = self._node
        lease_s = node.lease.safe_until - node.clock.boot()
        if node.lease_lost or node.ended.is_set() or lease_s < self._limits.lease_s:
            raise Unavailable(f"the lease has {lease_s:.1f} s left")
        self._check_view()
        sessions = self._sessions
        self._going += node.gateway.succession.part_with_some().total()  # some have stopped to read meanwhile
        copied.touched_again()
        sessions.touched_again()
        attached = sessions.attached()
        while copied.waiting or sessions.waiting:
            parcels, gone = copied.slice(messages.MOST_PARCELS)
            if copied.swept and copied.waiting and not parcels:
                self._leave_to_store(copied)
            found, sessions_gone = sessions.slice(messages.MOST_PARCELS)
            took = self._exchange(channel, self._copies(parcels, gone, found, sessions_gone))
            sessions.unreadable(took.unreadable)
        self._exchange(channel, self._copies(gone=copied.take_gone(), sessions_gone=sessions.take_gone()))
        if copied.missing:
            raise Unavailable(f"{copied.missing} activations were not copied")
        self._exchange(channel, Bequests({name: part.bequeath() for name, part in parts_of(node).items()}))
        holds = self._exchange(channel, AllSaid(attached))
        due = Holdings(len(copied), copied.digest, len(sessions), len(attached))
        if holds != due:
            raise Unavailable(f"the heir holds {holds}, and was to hold {due}")
        return LastWord(self._rest_began, lease_s, self._going)

    def _go(self, channel: HeirChannel, last_word: LastWord) -> None:
        """Surrender, then tell the heir, and end in any case."""
        try:
            self._enter("surrendered")
            self._node.surrender()
            channel.last_word(messages.encode(last_word))
            self._enter("gone")
        finally:
            self._end()

    def _leave_to_store(self, copied: CopiedActivations) -> None:
        """Leave durable activations that cannot be copied to the store, which has all of them. Raises `Unavailable` for
        others."""
        for activation in copied.not_copied():
            if not activation.durable:
                why = copied.why_not(activation) or "it is not at rest"
                raise Unavailable(f"{activation.id} cannot go over: {why}")
            copied.leave_to_store(activation)


def _listeners(node: Node) -> dict[str, Any]:
    listeners: dict[str, Any] = {"clients": node.listener, "nodes": node.drivers.transport}
    if node.admin is not None:
        listeners["admin"] = node.admin
    return listeners
