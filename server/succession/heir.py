"""The heir's side of a succession: a process that takes a node's run over from the one that has it.

    prepared     the node is built and its store is open; `HeirHello` was said
    receiving    the run is known: activations live here in standby, nothing runs, nothing outside is touched
    ready        all is here; the predecessor decides
    serving      the last word came: the store has the new generation, the node runs
    ended        without it: this process leaves nothing behind and ends

Before the last word it touches neither the store's rows nor any peer. After it the store comes first: nothing is
acknowledged before the compare-and-set of the run's generation. If that is refused, or the store does not answer while
the lease lasts, this run is over, as after a crash.
"""

import asyncio
import gc
import socket
from collections.abc import Callable, Mapping
from typing import Final, Literal

import structlog

from server.errors import BadInput, GarrisonError, Unavailable
from server.node import Node
from server.runtime.backoff import backoff_s
from server.runtime.phases import PhaseTable
from server.succession import messages
from server.succession.copying import ArrivedActivations
from server.succession.copying_sessions import ArrivedSessions, CookieOf
from server.succession.fits import Account
from server.succession.messages import (
    AllSaid,
    Bequests,
    CopiesAhead,
    FromPredecessor,
    HeirHello,
    Holdings,
    LastWord,
    NoHeir,
    RunGiven,
    Sockets,
    Took,
)
from server.succession.parts import parts_of
from server.succession.ports import HeirChannel, Received
from server.succession.sockets import cookie_of

log = structlog.get_logger(__name__)
Phase = Literal["prepared", "receiving", "ready", "serving", "ended"]
_FOLLOWING: Final[Mapping[Phase, tuple[Phase, ...]]] = {
    "prepared": ("receiving", "ended"),
    "receiving": ("ready", "ended"),
    "ready": ("serving", "ended"),
    "serving": ("ended",),
    "ended": (),
}
HEIR: Final = PhaseTable[Phase]("heir", _FOLLOWING)


class NoSuccession(Unavailable):
    """The predecessor goes on, or is dead: nothing was taken over."""


class Heir:
    """See the module's head. `node` is built and has not started; `account`: see `fits.py`, asked for once the node's
    store is open. `kill` ends the predecessor's process, by a handle that cannot be another process."""

    def __init__(
        self,
        node: Node,
        channel: HeirChannel,
        account: Callable[[], Account],
        pid: int,
        kill: Callable[[], None] = lambda: None,
        cookie_of: CookieOf = cookie_of,
    ) -> None:
        self._node, self._channel, self._account, self._pid, self._kill = node, channel, account, pid, kill
        self.phase: Phase = "prepared"
        self.pause_ms = 0.0
        """How long nobody served clients, once this one does."""
        self.moved = self.going = 0
        """Connections that came here, and clients that were told to come again."""
        self._old_journal = ""
        self._activations = ArrivedActivations(node.system)
        self._sessions = ArrivedSessions(node.gateway, cookie_of)

    def _enter(self, phase: Phase) -> None:
        self.phase = HEIR.move(str(self._node.system.me), self.phase, phase)

    async def run(self) -> None:
        """Take the run over; returns once this node serves. Raises `NoSuccession`, with nothing left behind; after the
        last word `Unavailable`, where the store does not grant the run."""
        collecting = gc.isenabled()
        gc.disable()  # millions of objects come, and none goes
        try:
            word = await self._receive()
        except BaseException as error:
            await self._give_up()
            if isinstance(error, GarrisonError):
                raise NoSuccession(error.message) from None
            raise
        gc.freeze()
        await self._serve(word)
        if collecting:
            gc.enable()

    async def _give_up(self) -> None:
        self._enter("ended")
        self._sessions.close()
        self._channel.close()
        await self._node.abandon()

    # ---- before the last word ----

    async def _receive(self) -> LastWord:
        await self._node.open()
        journal = self._node.drivers.journal
        place = journal.place if journal is not None else ""
        await self._channel.send(messages.encode(HeirHello(self._pid, self._account(), place)))
        while True:
            received = await self._channel.receive()
            message = messages.decode_from_predecessor(received.message)
            if isinstance(message, LastWord):
                self._enter("serving")
                return message
            if isinstance(message, NoHeir):
                raise Unavailable(message.why)
            if isinstance(message, RunGiven):
                answer = await self._begin(message, received)
            else:
                answer = self.answer(received)
            await self._channel.send(answer)

    async def _begin(self, given: RunGiven, received: Received) -> bytes:
        self._enter("receiving")
        if len(given.sockets) != len(received.descriptors):
            return _refusal(f"{len(given.sockets)} listening sockets were named, {len(received.descriptors)} came")
        sockets: dict[str, list[socket.socket]] = {}
        lock = None
        for name, descriptor in zip(given.sockets, received.descriptors, strict=True):
            if name == "journal":
                lock = descriptor
            else:
                sockets.setdefault(name, []).append(socket.socket(fileno=descriptor))
        self._old_journal = given.journal
        try:
            await self._node.inherit_run(given.me, tuple(given.members), sockets, lock)
        except GarrisonError as error:
            return _refusal(error.message)
        return messages.encode(Holdings())

    def answer(self, received: Received) -> bytes:
        """The answer to a message between `RunGiven` and the last word. A fault of any kind is a refusal: whatever this
        program cannot take, the predecessor goes on with."""
        try:
            return messages.encode(self._take(messages.decode_from_predecessor(received.message), received))
        except Exception as error:
            known = isinstance(error, GarrisonError)
            log.error("the heir cannot take what it is given", why=str(error), exc_info=None if known else error)
            return _refusal(str(error))

    def _take(self, message: FromPredecessor, received: Received) -> Took | Holdings:
        if self.phase != "receiving":
            raise BadInput(f"{type(message).__name__} comes while the heir is {self.phase}")
        match message:
            case CopiesAhead():
                age_s = max(0.0, self._node.clock.boot() - message.packed_at)
                self._activations.take(message.parcels, message.gone, age_s)
                if message.directory:
                    self._node.system.directory.inherit_ahead(message.directory)
                if message.presence and self._node.presence is not None:
                    self._node.presence.inherit_ahead(message.presence)
                if message.gateway:
                    self._node.gateway.going_over.inherit_ahead(message.gateway)
                return Took(self._sessions.take(message.sessions, message.sessions_gone))
            case Sockets():
                self._sessions.take_sockets(message.connections, received.descriptors)
                return Took()
            case Bequests():
                self._inherit(message)
                return Took()
            case AllSaid():
                self._enter("ready")
                self._sessions.will_attach(message.attached)
                held = self._activations
                return Holdings(len(held), held.digest, len(self._sessions), len(message.attached))
            case _:
                raise BadInput(f"{type(message).__name__} is not due")

    def _inherit(self, bequests: Bequests) -> None:
        parts = parts_of(self._node)
        if missing := parts.keys() - bequests.parts.keys():
            raise BadInput(f"nothing is bequeathed to {', '.join(sorted(missing))}")
        for name, part in parts.items():
            part.inherit(bequests.parts[name])

    # ---- after the last word ----

    async def _serve(self, word: LastWord) -> None:
        node, clock = self._node, self._node.clock
        told_at = clock.boot()
        if not await node.registration.succeed(node.system.me, node.generation):
            raise Unavailable("the store has another process for this run, or it is over")
        granted_at = clock.boot()
        await node.serve_as_heir()
        self.moved, self.going = self._sessions.attach(), word.going
        serves_at = clock.boot()
        self.pause_ms = 1000 * (serves_at - word.resting_since)
        self._kill()
        self._channel.close()
        await node.join_again()
        await self._clear_journal()
        log.info(
            "the run goes on in this process",
            node=str(node.system.me),
            generation=node.generation,
            pause_ms=round(self.pause_ms),
            granted_ms=round(1000 * (granted_at - told_at), 1),
            began_ms=round(1000 * (serves_at - granted_at), 1),
            moved=self.moved,
            going=self.going,
        )

    async def _clear_journal(self) -> None:
        """Remove the predecessor's journal, which is empty, once its process is gone. One that stays costs its room, no
        more, and is named in the log."""
        node, journal = self._node, self._node.drivers.journal
        if journal is None:
            return
        for attempt in range(5):
            try:
                await journal.clear(node.system.me, self._old_journal)
                return
            except Unavailable as error:
                why = error.message
                await asyncio.sleep(backoff_s(attempt, node.drivers.rng, base_s=0.05, cap_s=0.5))
        log.warning("the predecessor's journal was not removed", why=why)


def _refusal(why: str) -> bytes:
    return messages.encode(NoHeir(why[:4000]))
