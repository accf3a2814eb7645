"""The directory service of a node: runs the protocol of `handoff.py` over the transport.

A task for each peer talks for as long as there is something to say to it; a single timer wakes what is to be
repeated or given up. Look-ups of slots that are not known completely wait here, each for its own slot.
"""

import asyncio
import random
from typing import Any, Final

import msgspec

from server.cluster.view import View
from server.directory.handoff import NOBODY, HandoffCore
from server.directory.messages import Hint, Word, WordAnswer
from server.directory.ports import ActivationSource
from server.directory.stream import LIMITS, DirectoryLimits
from server.errors import BadInput
from server.ids import ActorId, NodeAddress
from server.runtime.backoff import backoff_s
from server.runtime.clock import Clock
from server.runtime.supervisor import Supervisor
from server.settings import ActorSettings
from server.transport.ports import Answer, Service, Transport
from server.wire.codec import UNDECODABLE

_TRIES: Final = 4
"""Messages that may be lost within `directory_wait_s`."""
_request = msgspec.msgpack.Decoder(Word | Hint)
_answer = msgspec.msgpack.Decoder(WordAnswer)
_encode = msgspec.msgpack.encode


class Directory:
    """See the module's head."""

    def __init__(
        self,
        transport: Transport,
        settings: ActorSettings,
        clock: Clock,
        rng: random.Random,
        supervisor: Supervisor,
        source: ActivationSource,
        limits: DirectoryLimits = LIMITS,
    ) -> None:
        self._transport, self._clock, self._supervisor = transport, clock, supervisor
        self._wait_s = settings.directory_wait_s
        self._core = HandoffCore(
            source,
            self._wait_s,
            settings.call_timeout_s,
            lambda attempt: 0.01 + backoff_s(attempt, rng, base_s=0.025, cap_s=0.5),
            limits,
        )
        self.partition = self._core.partition
        self._talking: dict[NodeAddress, None] = {}
        self._waiting: dict[asyncio.Future[None], ActorId] = {}
        self._releases = 0
        self._resting = False
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0
        transport.serve(Service.DIRECTORY, self._serve)

    def begin(self, me: NodeAddress, view: View | None = None) -> None:
        """Be `me`. `view`: the one that slots go by until it changes; their entries are known (`inherit`)."""
        self._core.start(me, view)

    def bequeath(self) -> bytes:
        """All that this node knows and has to say, for its heir; of what was copied ahead what has changed since."""
        return self._core.bequeath(self._clock.now())

    def inherit(self, data: bytes) -> None:
        """Go on from what the predecessor knew, after `begin` with the same view. Raises `BadInput`."""
        self._core.inherit(data, self._clock.now())

    def copy_ahead(self) -> bytes:
        """The next slice of what may be very much, for `inherit_ahead` of the heir; empty where none is left. What
        changes after that is copied by the next calls, or goes with the bequest."""
        return self._core.going_over.copy_ahead()

    def inherit_ahead(self, data: bytes) -> None:
        """Take a slice of the predecessor's `copy_ahead`, before `inherit`. Raises `BadInput`."""
        self._core.going_over.inherit_ahead(data)

    @property
    def to_copy(self) -> int:
        """Number of entries that are to be copied ahead, or have changed since they were."""
        return self._core.going_over.to_copy

    def end_copying(self) -> None:
        """Forget what was copied ahead: there is no heir any more."""
        self._core.going_over.end_copying()

    def hold(self) -> None:
        """Say nothing more to other nodes until `go_on`; what is noted meanwhile is said then. Idempotent."""
        self._resting = True

    def go_on(self) -> None:
        """Say what has waited since `hold`. Idempotent."""
        self._resting = False
        if self._core.me != NOBODY:
            self._core.streams.wake(self._clock.now())
            self._after()

    @property
    def under_way(self) -> int:
        """Words to other nodes without an answer yet."""
        return len(self._talking)

    # ---- look-ups ----

    def find(self, identity: ActorId) -> NodeAddress | None:
        """The address of an actor in a slot of this node, where it lives elsewhere; None if it has no entry."""
        return self.partition.find(identity)

    async def wait_until_known(self, identity: ActorId) -> None:
        """Wait, within `directory_wait_s`, until the slot of `identity` is known completely, or the actor is."""
        if not self._core.questions.blocks(identity) or self.partition.find(identity) is not None:
            return
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(self._wait_s, _wake, waiter)
        self._waiting[waiter] = identity
        try:
            await waiter
        finally:
            timer.cancel()
            del self._waiting[waiter]

    def register(self, identity: ActorId, address: NodeAddress) -> NodeAddress:
        """Note that the placement has chosen `address` for an actor in a slot of this node. Returns the address that
        holds, which is another one where somebody was faster."""
        known = self._core.place(identity, address, self._clock.now())
        self._ring_at(self._core.due())
        return known

    def forget(self, identity: ActorId, address: NodeAddress, owner: NodeAddress | None) -> None:
        """Note that `identity` does not live at `address` (any more). Where that is another node, it is what a
        caller found there (hearsay), and the owner checks it."""
        if address == self._core.me:
            self._core.died(identity, owner)
        elif owner == self._core.me:
            self._core.missed(identity, address)
        elif owner is not None:
            self._transport.send(owner, Service.DIRECTORY, _encode(Hint(identity, address.node, address.incarnation)))
        self._talk()

    def announce(self, identity: ActorId, owner: NodeAddress, *, moved: bool = False) -> None:
        """Note that an activation was born here, whose slot is `owner`'s. `moved`: it came from another node,
        whose copy gives way to it."""
        self._core.born(identity, owner, moved=moved)
        self._talk()

    # ---- view changes ----

    def on_view(self, view: View) -> None:
        """Follow a changed view: slots move, members come and go."""
        self._core.on_view(view, self._clock.now())
        self._after()

    @property
    def unknown_slots(self) -> int:
        """Number of slots whose look-ups wait."""
        return self._core.questions.blocked

    @property
    def frozen(self) -> int:
        """Number of handoffs that have not arrived at their receivers; at 0 nobody misses anything when this node
        goes."""
        return self._core.streams.frozen

    @property
    def early(self) -> int:
        """Number of handoffs that came before this node's view says that the slots are its own."""
        return self._core.early

    @property
    def quiet(self) -> bool:
        """True if nothing is to be said or awaited."""
        return self._core.quiet

    # ---- the streams ----

    def _talk(self) -> None:
        """Start a task for each peer that there is something new to say to."""
        if self._resting:
            return
        awake, self._core.streams.awake = self._core.streams.awake, {}
        for peer in awake:
            if peer not in self._talking:
                self._talking[peer] = None
                self._supervisor.spawn(self._say(peer), f"directory {peer}")

    async def _say(self, peer: NodeAddress) -> None:
        core = self._core
        try:
            while not self._resting and (word := core.next(peer, self._clock.now())) is not None:
                timeout_s = self._wait_s / _TRIES
                try:
                    request = self._transport.request(peer, Service.DIRECTORY, _encode(word), timeout_s)
                    answer = _answer.decode(await request)
                except Exception:  # decoding raises different things, by the bytes
                    core.failed(peer, word.number, self._clock.now())
                else:
                    core.answered(peer, word.number, answer, self._clock.now())
                    self._talk()
        finally:
            del self._talking[peer]
            self._ring_at(core.streams.due_for(peer))

    def _serve(self, peer: NodeAddress, payload: bytes) -> Answer:
        try:
            request: Any = _request.decode(payload)
        except UNDECODABLE as error:
            raise BadInput(f"directory request: {error}") from None
        if isinstance(request, Hint):
            self._core.hint(request)
            self._talk()
            return b""
        answer = self._core.receive(peer, request, len(payload), self._clock.now())
        self._after()
        return _encode(answer)

    # ---- after any change ----

    def _after(self) -> None:
        """Speak, wake look-ups whose slots are known now, set the timer."""
        self._talk()
        if self._releases != self._core.questions.releases:
            self._releases = self._core.questions.releases
            for waiter, identity in self._waiting.items():
                if not self._core.questions.blocks(identity):
                    _wake(waiter)
        self._ring_at(self._core.due())

    def _ring_at(self, due: float | None) -> None:
        if due is None or (self._alarm is not None and self._alarm_at <= due):
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = due
        wait_s = max(0.001, due - self._clock.now())
        self._alarm = asyncio.get_running_loop().call_later(wait_s, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._core.tick(self._clock.now())
        self._after()
        self._ring_at(self._core.streams.next_talk(self._clock.now()))


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
