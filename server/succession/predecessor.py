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

`asked_heir.py` has the messages to the heir, `node_copies.py` what goes over while this node serves, `node_rest.py` its
rest. The frozen stretch awaits nothing. So no turn, timer, task or socket of this process can come between what is
copied and the surrender, and bytes of clients wait in the kernel for the heir.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, Final, Literal, Protocol

import msgspec
import structlog

from server.cluster import agreement
from server.errors import CalledOff, GarrisonError, Unavailable
from server.node import Node
from server.runtime.phases import PhaseTable
from server.succession.asked_heir import AskedHeir
from server.succession.copying_sessions import CookieOf
from server.succession.fits import Account
from server.succession.limits import LIMITS, SuccessionLimits
from server.succession.messages import AllSaid, Bequests, LastWord, RunGiven
from server.succession.node_copies import NodeCopies
from server.succession.node_rest import NodeRest
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
        self._copies = NodeCopies(node, cookie_of, limits)
        self._rest = NodeRest(node, self._copies, limits)
        self._rest_began = 0.0
        self._heirs_journal = ""
        """The place of the heir's journal; empty where it has none, or was not given the run yet."""
        self._going = 0
        """Clients that were told to come again, because their connections could not go over."""

    def _enter(self, phase: Phase) -> None:
        self.phase = PREDECESSOR.move(str(self._node.system.me), self.phase, phase)

    def progress(self) -> dict[str, Any]:
        """`phase`, and of `total` activations and sessions how many are `copied`."""
        total = len(self._node.system.catalog.live) + len(self._node.gateway.table)
        return {"phase": self.phase, "copied": len(self._copies), "total": total}

    async def run(self) -> None:
        """Hand this node's run over; where that succeeds, `end` ends the process. Raises `CalledOff`."""
        self._enter("starting")
        launched: Launched | None = None
        try:
            if why := self._cannot_go():
                raise CalledOff(why)
            launched, channel = self._launch()
            await self._hand_over(AskedHeir(channel, self._limits))
        except BaseException as error:
            if self.phase in ("surrendered", "gone"):
                raise  # `end` was called, and nothing is left to call off
            self._enter("called off")
            why = str(error) if isinstance(error, GarrisonError) else f"{type(error).__name__}: {error}"
            if isinstance(error, asyncio.CancelledError):
                why = "this node stops"
            if launched is not None:
                if not isinstance(error, CalledOff):  # else it may have ended by what it was told
                    why = launched.why() or why
                await launched.end()
                await self._remove_heirs_journal()
            goes_on = ", the node goes on" if isinstance(error, GarrisonError) else ""
            log.error(f"succession called off{goes_on}", why=why)
            if isinstance(error, GarrisonError):
                raise CalledOff(why) from None
            raise
        finally:
            self._copies.end()

    async def _remove_heirs_journal(self) -> None:
        """Remove the journal of an heir whose process has ended: nothing was ever acknowledged by it, and nobody else
        knows of it. One that stays costs its room, no more, and is named in the log."""
        place = self._heirs_journal
        if not place or (journal := self._node.drivers.journal) is None:
            return
        try:
            await journal.remove(self._node.system.me, place)
        except Unavailable as error:
            log.warning("the heir's journal was not removed", journal=place, why=error.message)

    def _cannot_go(self) -> str:
        """Why this node hands nothing over now."""
        node = self._node
        if why := node.not_ready():
            return f"this node is not ready: {why}"
        if older := agreement.without_heirs(node.system.view.members.values()):
            return f"nodes of an earlier version would not know its heir: {', '.join(older)}"
        return ""

    async def _hand_over(self, heir: AskedHeir) -> None:
        hello = await heir.hello()
        if why := self._misfit(hello.account) or self._cannot_go():  # a drain may have begun
            await heir.refuse(why)
            raise CalledOff(why)
        self._heirs_journal = hello.journal  # from here on it may open that
        await self._give_run(heir)
        self._enter("copying")
        await self._copies.copy_ahead(heir)
        await self._herald.goes_over(hello.pid)
        try:
            self._enter("resting")
            await self._rest_and_go(heir)
        finally:
            if self.phase not in ("surrendered", "gone"):
                await self._herald.called_off()

    async def _give_run(self, heir: AskedHeir) -> None:
        node = self._node
        assert node.me is not None
        given = [(name, sock.fileno()) for name, part in _listeners(node).items() for sock in part.sockets]
        journal = node.drivers.journal
        if journal is not None and journal.lock is not None:
            given.append(("journal", journal.lock))
        me = msgspec.structs.replace(node.me, generation=node.generation + 1)
        members = list(node.system.view.members.values())
        digest = node.system.view.digest
        place = journal.place if journal is not None else ""
        message = RunGiven(me, members, place, [name for name, _ in given])
        await heir.ask(message, [descriptor for _, descriptor in given])
        self._copies.begin(digest)

    async def _rest_and_go(self, heir: AskedHeir) -> None:
        node = self._node
        self._rest_began = node.clock.boot()
        with ExitStack() as undone:
            try:
                async with asyncio.timeout(self._limits.rest_s):
                    self._going = await self._rest.come(undone, heir)
            except TimeoutError:
                raise Unavailable(f"it did not come to rest: {self._rest.under_way()}") from None
            self._enter("frozen")
            frozen_at = node.clock.boot()
            if node.recording is not None:
                node.recording.seal()
                undone.callback(node.recording.go_on)
            last_word = self._freeze(heir)
            rested_ms, froze_ms = (
                round(1000 * s, 1) for s in (frozen_at - self._rest_began, node.clock.boot() - frozen_at)
            )
            log.info("the heir holds everything", rested_ms=rested_ms, froze_ms=froze_ms)
            node.drivers.store.surrender()  # the last that may fail: then nothing has been
            undone.pop_all()  # nothing goes on here any more
            self._go(heir, last_word)

    # ---- frozen: nothing below awaits ----

    def _freeze(self, heir: AskedHeir) -> LastWord:
        """Send what is left, and see that the heir holds everything. Raises `Unavailable`."""
        node, copies = self._node, self._copies
        lease_s = node.lease.safe_until - node.clock.boot()
        if node.lease_lost or node.ended.is_set() or lease_s < self._limits.lease_s:
            raise Unavailable(f"the lease has {lease_s:.1f} s left")
        copies.check_view()
        self._going += node.gateway.succession.part_with_some().total()  # some have stopped to read meanwhile
        attached = copies.sessions.attached()
        copies.copy_rest(heir)
        heir.ask_frozen(Bequests({name: part.bequeath() for name, part in parts_of(node).items()}))
        holds, due = heir.ask_frozen(AllSaid(attached)), copies.holdings(attached)
        if holds != due:
            raise Unavailable(f"the heir holds {holds}, and was to hold {due}")
        return LastWord(self._rest_began, lease_s, self._going)

    def _go(self, heir: AskedHeir, last_word: LastWord) -> None:
        """Surrender, then tell the heir, and end in any case."""
        try:
            self._enter("surrendered")
            self._node.surrender()
            heir.last_word(last_word)
            self._enter("gone")
        finally:
            self._end()


def _listeners(node: Node) -> dict[str, Any]:
    listeners: dict[str, Any] = {"clients": node.listener, "nodes": node.drivers.transport}
    if node.admin is not None:
        listeners["admin"] = node.admin
    return listeners
