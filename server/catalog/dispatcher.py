"""Calls: from anywhere in the cluster to the one activation of an actor.

    local activation          call it, inline
    otherwise                 ask the cached place, or the slot's owner
    the owner                 runs it, or answers `Moved` to where the directory, the placement or
                              the store says; the caller follows at most `max_redirects`, then waits
                              for a view change or a jittered moment, until its deadline

A call that makes no actor (`read_only`, `existing`), of one that the store does not know, runs on a
blank that is thrown away, or ends in `NotFound`.

Only calls that certainly did nothing (`Moved`, `Unreachable`) are sent again; a lost connection or
a passed deadline is an unknown outcome and is the caller's to repeat, with its command id.

An actor's method may be in its first step when it asks, and that step runs in whatever task or
callback its own caller runs in. So nothing on the way of `ask` may bind to the running task, as
`asyncio.timeout` does: waits go by timers on futures, and what needs more gets a task.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec
import structlog

from server.activations.activation import Activation
from server.activations.awaiting import fail, resolve
from server.activations.ports import Asking
from server.activations.turns import QueuedCall
from server.actors.methods import Method, MethodTable
from server.catalog.calls import Call, CallFrame, decode_call, encode_call
from server.catalog.catalog import NotMade
from server.catalog.ports import Births, Locations
from server.catalog.services import CurrentView, Services
from server.cluster.placement import place
from server.directory.cache import LocationCache
from server.directory.location import Location, parse_location
from server.errors import (
    BadInput,
    DeadlineExceeded,
    GarrisonError,
    Moved,
    NotFound,
    OutcomeUnknown,
    Unavailable,
    Unreachable,
)
from server.ids import ActorId, NodeAddress, key_of, kind_of
from server.runtime.backoff import backoff_s
from server.transport.ports import Answer, Service

log = structlog.get_logger(__name__)
MAX_CHAIN: Final = 32
"""Actors in a call chain, at most."""
MAX_TELLS: Final = 100_000
"""Tells under way on a node, at most; above that they are dropped and counted."""
_encode = msgspec.msgpack.Encoder().encode


class Dispatcher:
    """See the module's head."""

    def __init__(
        self,
        services: Services,
        current: CurrentView,
        *,
        catalog: Births,
        directory: Locations,
        methods: MethodTable,
        tells_at_most: int = MAX_TELLS,
    ) -> None:
        self._services, self._current = services, current
        self._clock, self._actors = services.clock, services.settings.actors
        self._catalog, self._directory, self._methods = catalog, directory, methods
        self._live = catalog.live  # at hand for the hot path
        self.cache = LocationCache(self._actors.location_cache_entries)
        self._paused: dict[asyncio.Future[None], None] = {}
        self._tells, self._tells_at_most = 0, tells_at_most
        self.tells_dropped = 0
        services.transport.serve(Service.CALL, self.serve)

    def on_view(self) -> None:
        """Forget places that are gone, and try again what waits for a way to its actor."""
        self.cache.keep(set(self._current.view.addresses))
        for pause in self._paused:
            _wake(pause)

    def note_place(self, identity: ActorId, address: NodeAddress) -> None:
        """Call `identity` at `address` from here on: it has moved there."""
        self.cache.put(identity, address)

    # ---- the caller's side ----

    async def ask(
        self,
        identity: ActorId,
        name: str,
        args: tuple[Any, ...],
        *,
        caller: Asking | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        """The answer of `identity.name(*args)`, within `timeout_s` (`actors.call_timeout_s`) and the deadline
        of `caller`'s turn. Errors: see `call`."""
        deadline = self._clock.now() + (timeout_s or self._actors.call_timeout_s)
        if caller is None:
            return await self.call(Call(identity, name, args, (), deadline))
        if caller.deadline:
            deadline = min(deadline, caller.deadline)
        return await self.call(Call(identity, name, args, (*caller.chain, caller.id), deadline))

    async def confirm(self, identity: ActorId, name: str, args: tuple[Any, ...]) -> Any:
        """The answer of `identity.name(*args)` once what the call made is in the store. Errors: see `call`; after one
        that does not say that nothing happened the same call may be sent again only if it is known again."""
        deadline = self._clock.now() + self._actors.call_timeout_s
        return await self.call(Call(identity, name, args, (), deadline, stored=True))

    def ask_now(self, identity: ActorId, name: str, args: tuple[Any, ...]) -> Any:
        """The result itself where the actor lives here and the turn ends at once, otherwise a
        future of it. Raises what the turn raises."""
        if identity in self._live:
            activation = self._live[identity]  # half the price of `get`
            if not (activation.busy or activation.paused):
                return activation.call(name, args)
            waiting = activation.call(name, args)  # takes its place in the order of arrival now
            if not isinstance(waiting, asyncio.Future):
                return waiting
            return self._services.supervisor.spawn(self._follow(waiting, identity, name, args), f"ask {identity}")
        return self._services.supervisor.spawn(self.ask(identity, name, args), f"ask {identity}")

    async def _follow(self, waiting: "asyncio.Future[Any]", identity: ActorId, name: str, args: tuple[Any, ...]) -> Any:
        """The answer of a call in a mailbox; if the actor moves before its turn, the call goes after it."""
        deadline = self._clock.now() + self._actors.call_timeout_s
        try:
            return await self._within(waiting, deadline, identity)
        except Moved:
            return await self.call(Call(identity, name, args, (), deadline))
        finally:
            del waiting

    def tell(self, identity: ActorId, name: str, args: tuple[Any, ...]) -> None:
        """Call without an answer, at most once; dropped and counted above a bound."""
        if self._tells >= self._tells_at_most:
            self.tells_dropped += 1
            return
        self._tells += 1
        self._services.supervisor.spawn(self._tell(identity, name, args), f"tell {identity}")

    async def _tell(self, identity: ActorId, name: str, args: tuple[Any, ...]) -> None:
        try:
            await self.ask(identity, name, args)
        except GarrisonError as error:
            log.debug("tell failed", actor=identity, method=name, why=error.message)
        finally:
            self._tells -= 1

    async def call(self, call: Call) -> Any:
        """The answer of the actor, wherever it lives. Raises the method's error, `Unavailable`
        (nothing happened), or an `OutcomeUnknown`."""
        target: NodeAddress | None = None
        here, hops, attempt = False, 0, 0
        why = ""
        while True:
            try:
                activation = self._live.get(call.id)
                if activation is not None:
                    return await self._local(activation, call)
                if target is None:
                    target = self.cache.find(call.id) or self._current.owner(call.id)
                if target is None:
                    raise Unreachable("no node is up")
                if target == self._current.me:
                    return await self._local(await self._admitted(call, here), call)
                return await self._remote(target, call, here)
            except NotMade:
                return await self._waited(self._peek(call), call)
            except Moved as moved:
                why, where = moved.message, parse_location(moved.address)
                self._learn(call.id, target, where)
                target, here = where or (None, False)
                hops += 1
                if where is not None and hops <= self._actors.max_redirects:
                    continue
            except Unreachable as error:
                why = error.message
                self.cache.drop(call.id)
                target, here = None, False
            except OutcomeUnknown:
                self.cache.drop(call.id)  # the next call asks the owner: this place may be silent for long
                raise
            hops = 0
            await self._pause(attempt, call.deadline, why)
            attempt += 1

    async def _pause(self, attempt: int, deadline: float, why: str) -> None:
        """Wait for a view change, or a jittered moment. Raises `Unavailable` at the deadline."""
        left = deadline - self._clock.now()
        if left <= 0:
            raise Unavailable(f"no way to the actor: {why or 'it is moving'}")
        wait_s = min(max(left, 0.001), 0.01 + backoff_s(attempt, self._services.rng, base_s=0.05, cap_s=0.5))
        loop = asyncio.get_running_loop()
        pause = loop.create_future()
        timer = loop.call_later(wait_s, _wake, pause)
        self._paused[pause] = None
        try:
            await pause
        finally:
            timer.cancel()
            del self._paused[pause]

    def _learn(self, identity: ActorId, asked: NodeAddress | None, where: Location | None) -> None:
        """Forget what led to a place where the actor is not, and note where it is said to be."""
        self._services.metrics.calls_redirected_total += 1
        self.cache.drop(identity)
        owner = self._current.owner(identity)
        if asked is not None and asked != owner:
            self._directory.forget(identity, asked, owner)
        if where is not None and where.address not in (owner, self._current.me):
            self.cache.put(identity, where.address)

    def _method(self, identity: ActorId, name: str) -> Method | None:
        cls = self._services.app.actor(kind_of(identity))
        return self._methods[cls].remote.get(name) if cls is not None else None

    async def _local(self, activation: Activation, call: Call) -> Any:
        result = activation.call(call.name, call.args, call.chain, call.deadline)
        if call.stored:
            result = activation.when_stored(result)
        try:
            return await self._waited(result, call)
        finally:
            del result  # here and below: an error that it holds was raised through this frame

    async def _waited(self, result: Any, call: Call) -> Any:
        try:
            if isinstance(result, asyncio.Future):
                return await self._within(result, call.deadline, str(call))
            return result
        finally:
            del result

    def _peek(self, call: Call) -> Any:
        """The result of a call that reads what was never stored, or a future of it. Raises `NotFound`
        for a method that is none of those."""
        method = self._method(call.id, call.name)
        if method is None or not method.peeks:
            raise NotFound(f"no {kind_of(call.id)} {key_of(call.id)}")
        blank = self._catalog.blank(call.id)
        result: Any = None
        try:
            result = blank.call(call.name, call.args, call.chain, call.deadline)
        finally:
            if isinstance(result, asyncio.Future):
                result.add_done_callback(lambda _: blank.drop(Moved()))
            else:
                blank.drop(Moved())
        return result

    async def _within(self, result: "asyncio.Future[Any]", deadline: float, what: str) -> Any:
        """The result, or `DeadlineExceeded`; a caller that goes away does not cancel the turn."""
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        timer = loop.call_later(max(0.0, deadline - self._clock.now()), _late, answer, what)
        result.add_done_callback(partial(resolve, answer))
        try:
            return await answer
        finally:
            timer.cancel()
            del result, answer

    async def _remote(self, target: NodeAddress, call: Call, here: bool) -> Any:
        left = call.deadline - self._clock.now()
        if left <= 0:
            raise Unavailable("the deadline passed before the call was sent")
        method = self._method(call.id, call.name)
        if method is None:
            raise NotFound(f"no method {kind_of(call.id)}.{call.name[:64]}")
        self._services.metrics.calls_remote_total += 1
        payload = encode_call(call.id, call.name, call.args, left, call.chain, here, call.stored)
        return method.decode_result(await self._services.transport.request(target, Service.CALL, payload, left))

    def pass_on(
        self, call: QueuedCall, identity: ActorId, send: Callable[[bytes, float], "asyncio.Future[bytes]"]
    ) -> None:
        """Run a call that waited in a mailbox here on another node: `send` takes its frame and the seconds that
        are left, and gives the answer's bytes. Its caller gets that, or the error that there is instead:
        `Moved` where nothing was sent, so that it finds the way itself."""
        left = call.deadline - self._clock.now()
        if call.future.done():
            return
        try:
            if left <= 0:
                raise DeadlineExceeded(f"waited in the mailbox of {identity}")
            answer = send(encode_call(identity, call.method.name, call.args, left, call.chain, here=True), left)
        except Unreachable:
            fail(call.future, Moved())
        except GarrisonError as error:
            fail(call.future, error)
        except Exception as error:
            fail(call.future, BadInput(f"arguments of {call.method.name} cannot travel: {error}"))
        else:
            answer.add_done_callback(partial(resolve, call.future, then=call.method.decode_result))

    # ---- the callee's side ----

    async def _admitted(self, call: Call, here: bool) -> Activation:
        """See `_admit`, for a call from this node."""
        admission = self._admit(call.id, call.name, self._current.me, here, call.deadline)
        if not call.chain:
            return await admission
        admitted: Activation = await self._services.supervisor.spawn(admission, f"admit {call.id}")
        return admitted

    async def _admit(
        self, identity: ActorId, name: str, caller: NodeAddress, here: bool, deadline: float
    ) -> Activation:
        """The activation to run a call of `name` on that came to this node, or `Moved` to the right one.
        Raises `NotMade` for an actor that was never stored, if the call does not make it."""
        activation = self._live.get(identity)
        if activation is not None:
            return activation
        if not here:
            self._must_own(identity)
            await self._directory.wait_until_known(identity)
            self._must_own(identity)
            self._look_up(identity, caller)
        method = self._method(identity, name)
        make = method is None or not (method.peeks or method.existing)
        revive = method.revives if method is not None else 0
        left = max(0.0, deadline - self._clock.now())
        try:
            async with asyncio.timeout(left):
                return await self._catalog.activate(identity, make, revive)
        except TimeoutError:
            raise Unavailable(f"{identity} could not be activated in time") from None

    def _must_own(self, identity: ActorId) -> None:
        owner = self._current.owner(identity)
        if owner != self._current.me:
            raise Moved(str(owner) if owner is not None else "")

    def _look_up(self, identity: ActorId, caller: NodeAddress) -> None:
        """Raises `Moved` if the directory or the placement says elsewhere."""
        address = self._directory.find(identity)
        if address == self._current.me:
            self._directory.forget(identity, self._current.me, self._current.me)
        elif address is not None:
            raise Moved(str(address))
        cls = self._services.app.actor(kind_of(identity))
        if cls is not None and cls.placement != "hash":
            chosen = place(cls.placement, self._current.view, self._current.me, caller)
            if chosen != self._current.me:
                self._directory.register(identity, chosen)
                raise Moved(str(Location(chosen, here=True)))

    def serve(self, peer: NodeAddress, payload: bytes) -> Answer:
        """A call from another node: answered at once where the turn runs at once."""
        frame = decode_call(payload)
        if len(frame.chain) > MAX_CHAIN:
            raise BadInput("the call chain is too long")
        deadline = self._clock.now() + frame.timeout_ms / 1000
        activation = self._live.get(frame.id)
        if activation is None:
            return self._services.supervisor.spawn(self._serve_cold(peer, frame, deadline), f"call {frame.id}")
        result = self._run(activation, frame, deadline)
        return _encoded(result) if isinstance(result, asyncio.Future) else _encode(result)

    def _run(self, activation: Activation, frame: CallFrame, deadline: float) -> Any:
        args = activation.method(frame.method).decode_args(frame.args)
        result = activation.call(frame.method, args, tuple(frame.chain), deadline)
        return activation.when_stored(result) if frame.stored else result

    async def _serve_cold(self, peer: NodeAddress, frame: CallFrame, deadline: float) -> bytes:
        try:
            activation = await self._admit(frame.id, frame.method, peer, frame.here, deadline)
            result = self._run(activation, frame, deadline)
        except NotMade:
            method = self._method(frame.id, frame.method)
            args = method.decode_args(frame.args) if method is not None else ()
            result = self._peek(Call(frame.id, frame.method, args, tuple(frame.chain), deadline))
        try:
            return _encode(await result if isinstance(result, asyncio.Future) else result)
        finally:
            del result


def _encoded(result: "asyncio.Future[Any]") -> "asyncio.Future[bytes]":
    """A future of the answer's bytes."""
    out: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    result.add_done_callback(partial(resolve, out, then=_encode))
    return out


def _late(answer: "asyncio.Future[Any]", what: str) -> None:
    if not answer.done():
        answer.set_exception(DeadlineExceeded(f"{what} took too long"))


def _wake(pause: "asyncio.Future[None]") -> None:
    if not pause.done():
        pause.set_result(None)
