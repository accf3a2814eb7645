"""The client: one session that outlives its connections.

One task (`_run`) connects, serves the connection until it ends, decides by the close code whether
and where to go on, and connects again. Requests wait in a heap ordered by their age, are sent
within a window, and go back into the heap when they may be repeated: commands by their number,
others only when the caller says so. Watches keep their own cursors (see `watch.py`).

Everything runs on one event loop; a `Client` is not for use from several threads.
"""

import asyncio
import contextlib
import heapq
import random
import secrets
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from inspect import isawaitable
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from websockets.exceptions import ConnectionClosed

from garrison._base import Command, Message, Push, Reply, Request
from garrison._calls import Call, Stats
from garrison._frames import pack, pack_around_id, read, unpack, with_id
from garrison._game import GameCalls
from garrison._link import Link, check_url, close_code, close_error, close_reason, open_link, shows_token
from garrison._retry import backoff_s, repeatable, retry_wait_s
from garrison.errors import (
    BadFrame,
    BadInput,
    ConnectionLost,
    DeadlineExceeded,
    GarrisonError,
    Internal,
    NotFound,
    Overloaded,
    Rejected,
    SessionClosed,
    TokenExpired,
    Unavailable,
    from_wire,
)
from garrison.messages import (
    CLOSE_CODES,
    Ack,
    Beat,
    Beats,
    Close,
    Events,
    Failed,
    Going,
    Heartbeat,
    Hello,
    Unwatch,
    Watching,
    Welcome,
)
from garrison.messages import Watch as WatchRequest
from garrison.options import Options
from garrison.watch import Watch

R = TypeVar("R")
Token = str | Callable[[], str | Awaitable[str]]


class Client(GameCalls):
    """Made by `connect`; use it with `async with`. All times in seconds."""

    def __init__(
        self,
        urls: Sequence[str],
        token: Token,
        *,
        options: Options,
        name: str,
        tls: ssl.SSLContext | None,
        rng: random.Random,
    ) -> None:
        if not urls:
            raise ValueError("at least one url is needed")
        for url in urls:
            check_url(url)
        self.options = options
        self.stats = Stats()
        self._state: str | None = None
        self.welcome: Welcome | None = None
        """The latest welcome: subject, role, node and limits."""
        self.lineage = secrets.token_hex(8)
        self._urls = list(urls)
        self._next_url = rng.randrange(len(self._urls))
        self._preferred: str | None = None
        self._last_url: str | None = None
        self._token = token
        self._name = name
        self._tls = tls
        self._rng = rng
        self._link: Link | None = None
        self._connected = asyncio.Event()
        self._moving = False
        self._over: GarrisonError | None = None
        self._closing = False
        self._runner: asyncio.Task[None] | None = None
        self._last_failure: GarrisonError | None = None
        self._orders = 0
        self._commands = 0
        self._ids = 0
        self._calls: dict[int, Call] = {}
        self._ready: list[Call] = []
        self._in_flight: dict[int, Call] = {}
        self._out: deque[bytes] = deque()
        self._out_ready = asyncio.Event()
        self._idle = asyncio.Event()
        self._last_push = 0
        self._acked = 0
        self._unacked_bytes = 0
        self._beats_before = 0
        self._beats = 0
        self._single_beats = 0
        self._watches: dict[str, Watch] = {}
        self._leaving: dict[str, int] = {}
        """Topics that the server may still send, with the id of the unwatch under way, 0 if none is."""
        self._pushes: deque[Push] = deque(maxlen=options.push_buffer)
        self._pushes_ready = asyncio.Event()

    # ---- life ---------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def open(self) -> None:
        """Connect. Raises the typed error of the last try after `connect_timeout_s`, or at once
        where trying again is no use."""
        if self._runner is None:
            self._runner = asyncio.get_running_loop().create_task(self._run(), name="garrison-client")
        try:
            async with asyncio.timeout(self.options.connect_timeout_s):
                await self.wait_connected()
        except TimeoutError:
            await self.aclose()
            error = self._last_failure or Unavailable("no connection in time")
            raise error from error.__cause__
        except BaseException:
            await self.aclose()
            raise

    async def wait_connected(self) -> None:
        """Wait until a session is up. Raises the error that ended the client."""
        while self._link is None:
            if self._over is not None:
                raise self._over
            self._connected.clear()
            await self._connected.wait()

    async def aclose(self) -> None:
        """Leave for good: the session is not kept, and what waits fails with `SessionClosed`."""
        self._closing = True
        link = self._link
        self._end(SessionClosed("the client was closed"))
        if link is not None:
            with contextlib.suppress(ConnectionClosed, TimeoutError):
                async with asyncio.timeout(1):
                    await link.ws.send(pack(Close(id=self._take_id())))
                    await link.ws.close()
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)

    @property
    def state(self) -> str | None:
        """A word that travels with each heartbeat, for the game's own use. Setting one that cannot
        be sent raises `BadInput`."""
        return self._state

    @state.setter
    def state(self, state: str | None) -> None:
        pack(Heartbeat(0, state))
        self._state = state

    @property
    def connected(self) -> bool:
        """A session is up at this moment."""
        return self._link is not None

    @property
    def url(self) -> str | None:
        """Where the client is connected now."""
        return None if self._link is None else self._link.url

    async def _run(self) -> None:
        """Whatever goes wrong here, nobody is left waiting for a connection."""
        try:
            await self._stay_connected()
        except Exception as error:
            fault = Internal(f"a fault in the client: {error!r}")
            fault.__cause__ = error
            self._end(fault)
        finally:
            self._end(SessionClosed("the client was cancelled"))  # unless it knows better already

    async def _stay_connected(self) -> None:
        attempt = 0
        loop = asyncio.get_running_loop()
        while self._over is None:
            try:
                link = await self._connect()
            except GarrisonError as error:
                if not self._may_retry_connect(error):
                    self._end(error)
                    return
                self.stats.connect_failures += 1
                self._last_failure = error
                wait_s = retry_wait_s(
                    error, attempt, self._rng, self.options.backoff_base_s, self.options.backoff_cap_s
                )
                attempt += 1
                await asyncio.sleep(wait_s)
                continue
            code, reason = await self._serve(link)
            if self._closing:
                return
            attempt = 0 if loop.time() - link.opened_at >= self.options.stable_s else attempt + 1
            pause_s = self._after_close(link, code, reason, attempt)
            if pause_s is None:
                return
            await asyncio.sleep(pause_s)

    def _may_retry_connect(self, error: GarrisonError) -> bool:
        if isinstance(error, TokenExpired):
            return callable(self._token)
        return not isinstance(error, BadInput | NotFound | Rejected | SessionClosed)

    async def _connect(self) -> Link:
        """One attempt at the next url. Raises typed errors."""
        token = await self._next_token()
        resume = self.welcome.resume if self.welcome is not None else None
        hello = pack(Hello(token, resume or None, self._last_push, self._name, True, id=self._take_id()))
        url, self._preferred = self._preferred, None
        if url is None:
            seeds = self._seeds()
            url = seeds[self._next_url % len(seeds)]
            self._next_url += 1
        link = await open_link(url, hello, self.options, self._tls)
        self._last_url = link.url
        self.stats.redirects += link.hops
        return link

    async def _next_token(self) -> str:
        """The token to say hello with. Raises `Unavailable` where who makes it failed."""
        token = self._token
        if isinstance(token, str):
            return token
        try:
            made = token()
            return await made if isawaitable(made) else made
        except GarrisonError:
            raise
        except Exception as error:
            raise Unavailable(f"no token: {error!r}") from error

    def _seeds(self) -> list[str]:
        """The urls that were given, and the one that served last: the given ones may be gone."""
        if self._last_url is None or self._last_url in self._urls:
            return self._urls
        return [*self._urls, self._last_url]

    def _after_close(self, link: Link, code: int, reason: str, attempt: int) -> float | None:
        """How long to wait before the next connection; None if there is to be none."""
        info = CLOSE_CODES.get(code)
        retry = "now" if info is None else info.retry
        if code == 1000 and self._moving:
            retry = "now"
        if retry == "no" or (retry == "new_token" and not callable(self._token)):
            self._end(close_error(code, reason))
            return None
        if retry == "now" and not self._moving and code != 1006:
            self._preferred = self._preferred or link.url
        seeds = self._seeds()
        if retry == "elsewhere" and seeds[self._next_url % len(seeds)] == link.url:
            self._next_url += 1
        self._moving = False
        base_s = self.options.backoff_base_s * (10 if retry == "later" else 1)
        return backoff_s(attempt, self._rng, base_s, self.options.backoff_cap_s)

    def _end(self, error: GarrisonError) -> None:
        """Nothing more will come: everything that waits learns why."""
        if self._over is not None:
            return
        self._over = error
        for call in list(self._calls.values()):
            self._settle(call, error=error)
        for watch in self._watches.values():
            watch.fail(error)
        self._connected.set()
        self._pushes_ready.set()

    # ---- one connection -------------------------------------------------------------------------

    async def _serve(self, link: Link) -> tuple[int, str]:
        """Read until the connection ends; its close code and reason."""
        loop = asyncio.get_running_loop()
        helpers = [
            loop.create_task(self._write(link), name="garrison-write"),
            loop.create_task(self._beat(link), name="garrison-beat"),
        ]
        try:
            self._attach(link)
            while True:
                frame = await link.ws.recv()
                link.last_heard = loop.time()
                self._on_frame(frame)
        except ConnectionClosed as error:
            return close_code(error), close_reason(error)
        except BadFrame as error:
            self.welcome = replace(link.welcome, resume="")  # resumed, it might only be sent again
            await link.ws.close(1002)
            return 1006, str(error)
        finally:
            self._detach()
            for helper in helpers:
                helper.cancel()
            link.ws.transport.abort()
            await asyncio.gather(*helpers, return_exceptions=True)

    def _attach(self, link: Link) -> None:
        welcome = link.welcome
        again = self.welcome is not None
        self.stats.connects += 1
        if welcome.recovered:
            self.stats.recovered += 1
        else:
            self._last_push = self._acked = self._unacked_bytes = 0
            self._beats_before, self._beats = self._beats_before + self._beats, 0
        self.welcome = welcome
        self._link = link
        self._moving = False
        self._out.clear()
        self._connected.set()
        leaving, self._leaving = self._leaving, {}
        for topic in leaving if welcome.recovered else ():
            self._leave_topic(topic)
        for watch in self._watches.values():
            if again and not welcome.recovered and not watch.paused and not watch.asking:
                self._ask_watch(watch)
        self._pump()

    def _detach(self) -> None:
        """The connection is gone: what may be repeated waits for the next one."""
        self._link = None
        self._connected.clear()
        self._out.clear()
        in_flight, self._in_flight = self._in_flight, {}
        for call in in_flight.values():
            call.number = 0
            if call.retry and self._over is None:
                self.stats.retries += 1
                heapq.heappush(self._ready, call)
            else:
                self._settle(call, error=ConnectionLost("the connection broke before the answer"))
        self._idle.set()

    async def _write(self, link: Link) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                while self._out:
                    await link.ws.send(self._out.popleft())
                self._out_ready.clear()
                await self._out_ready.wait()

    async def _beat(self, link: Link) -> None:
        """Heartbeats at the interval that the server told, and an eye on its silence."""
        loop = asyncio.get_running_loop()
        interval_s = max(link.welcome.heartbeat_interval_ms, 10) / 1000
        await asyncio.sleep(self._rng.uniform(0.1, 0.9) * interval_s)
        while True:
            if loop.time() - link.last_heard > interval_s * self.options.silence_intervals:
                link.ws.transport.abort()
                return
            self._acked, self._unacked_bytes = self._last_push, 0
            quiet = loop.time() - link.last_heard > interval_s  # then ask for an answer of its own
            self._send(Heartbeat(self._last_push, self.state, id=self._take_id() if quiet else 0))
            await asyncio.sleep(interval_s)

    def _send(self, message: Message) -> None:
        if self._link is not None:
            self._out.append(pack(message))
            self._out_ready.set()

    def _take_id(self) -> int:
        self._ids += 1
        return self._ids

    # ---- what comes in --------------------------------------------------------------------------

    def _on_frame(self, frame: bytes | str) -> None:
        wire = unpack(frame)
        message = read(wire)
        if message is None:
            self._on_push_number(wire[1], len(frame))  # a push of a newer server
        elif isinstance(message, Reply):
            self._on_reply(message)
        elif isinstance(message, Push):
            if self._on_push_number(message.seq, len(frame)):
                self._on_push(message)
        elif isinstance(message, Beats):
            self._beats = message.count
            self._count_beats()

    def _count_beats(self) -> None:
        self.stats.heartbeats_acknowledged = self._beats_before + self._beats + self._single_beats

    def _on_push_number(self, seq: object, size: int) -> bool:
        """Count a push. False for one that was here before; raises `BadFrame` for a gap."""
        if not isinstance(seq, int) or seq <= self._last_push:
            return False
        if seq != self._last_push + 1:
            self.stats.push_gaps += 1
            raise BadFrame(f"push {seq} after {self._last_push}")
        self._last_push = seq
        self.stats.pushes += 1
        self._unacked_bytes += size
        options = self.options
        if seq - self._acked >= options.ack_every or self._unacked_bytes >= options.ack_bytes:
            self._acked, self._unacked_bytes = seq, 0
            self._send(Ack(seq))
        return True

    def _on_push(self, push: Push) -> None:
        if isinstance(push, Events):
            watch = self._watches.get(push.topic)
            if watch is not None and watch.wanted:
                watch.accept(push)
            elif not self._leaving.get(push.topic):
                self._leave_topic(push.topic)
        elif isinstance(push, Going):
            self._move(push)
        else:
            if len(self._pushes) == self.options.push_buffer:
                self.stats.pushes_dropped += 1
            self._pushes.append(push)
            self._pushes_ready.set()

    def _move(self, going: Going) -> None:
        """Finish what is in flight, then connect where the server says. Told again after that,
        because the first time did not arrive, it is where it should be."""
        link = self._link
        if link is None or self._moving or going.url == link.url:
            return
        self._moving = True
        self._preferred = None if shows_token(link.url, going.url) else going.url or None
        task = asyncio.get_running_loop().create_task(self._leave(link, going.within_ms / 1000), name="garrison-move")
        task.add_done_callback(lambda done: None if done.cancelled() else done.exception())

    async def _leave(self, link: Link, within_s: float) -> None:
        await asyncio.sleep(self._rng.uniform(0, min(0.1, within_s / 4)))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s / 2):
                while self._in_flight and self._link is link:
                    self._idle.clear()
                    await self._idle.wait()
        if self._link is link:
            await link.ws.close(1001)

    def _on_reply(self, reply: Reply) -> None:
        call = self._in_flight.pop(reply.id, None)
        if call is None:
            if isinstance(reply, Beat):
                self._single_beats += 1
                self._count_beats()
            else:
                self._on_left(reply)
            return
        call.number = 0
        if isinstance(reply, Watching) and (watch := self._watches.get(reply.topic)) is not None:
            watch.asking = False  # here and not in the task that asked: events may follow at once
        if not self._in_flight:
            self._idle.set()
        if not isinstance(reply, Failed):
            self._settle(call, result=reply)
        else:
            error = from_wire(reply.code, reply.message, reply.retry_after_ms)
            if call.retry and repeatable(error) and not call.future.done():
                self._retry_later(call, error)
            else:
                self._settle(call, error=error)
        self._pump()

    # ---- requests -------------------------------------------------------------------------------

    async def request(self, message: Request[R], *, timeout_s: float | None = None, retry: bool | None = None) -> R:
        """Send `message` and give its typed answer.

        A command gets its `lineage` and `command` here if it has none, waits while there is no
        connection, and is repeated under that number until it is answered or `timeout_s` is over.
        Other requests are sent once and raise `ConnectionLost` when the connection breaks first;
        `retry=True` repeats them too. Raises typed errors (`garrison.errors`), among them
        `DeadlineExceeded` after `timeout_s`, `Overloaded` when too many requests wait and, at once,
        `BadInput` for what cannot be sent.
        """
        if self._over is not None:
            raise self._over
        if len(self._calls) >= self.options.max_queued:
            raise Overloaded(f"{self.options.max_queued} requests wait already")
        is_command = isinstance(message, Command)
        if isinstance(message, Command) and not message.command:
            message = cast(Request[R], self.numbered(message))
        parts = pack_around_id(message)
        if timeout_s is None:
            timeout_s = self.options.command_timeout_s if is_command else self.options.request_timeout_s
        self._orders += 1
        call = Call(parts, self._orders, is_command if retry is None else retry, self._future())
        self._calls[call.order] = call
        if len(self._ready) > 2 * self.options.max_queued:  # those that gave up while nothing was sent
            self._ready = sorted(waiting for waiting in self._ready if not waiting.future.done())
        heapq.heappush(self._ready, call)
        self._pump()
        try:
            async with asyncio.timeout(timeout_s):
                return cast(R, await call.future)
        except TimeoutError:
            raise DeadlineExceeded(f"{type(message).__name__}: no answer within {timeout_s:g} s") from None
        finally:
            self._settle(call)

    def numbered(self, message: Command[R]) -> Command[R]:
        """`message` with the next command number of this client."""
        self._commands += 1
        fresh = cast(Any, message)
        return cast(Command[R], replace(fresh, lineage=self.lineage, command=self._commands))

    def _future(self) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().create_future()

    def _settle(self, call: Call, *, result: object = None, error: GarrisonError | None = None) -> None:
        """Take the call off the books and wake whoever waits for it."""
        self._calls.pop(call.order, None)
        if call.number:
            self._in_flight.pop(call.number, None)
            call.number = 0
        if call.timer is not None:
            call.timer.cancel()
        if not call.future.done():
            if error is not None:
                call.future.set_exception(error)
            else:
                call.future.set_result(result)

    def _retry_later(self, call: Call, error: GarrisonError) -> None:
        options = self.options
        wait_s = retry_wait_s(error, call.attempt, self._rng, options.backoff_base_s, options.backoff_cap_s)
        call.attempt += 1
        self.stats.retries += 1
        call.timer = asyncio.get_running_loop().call_later(wait_s, self._requeue, call)

    def _requeue(self, call: Call) -> None:
        call.timer = None
        if not call.future.done():
            heapq.heappush(self._ready, call)
            self._pump()

    def _pump(self) -> None:
        """Send what waits, oldest first, as far as the window allows."""
        while self._ready and self._link is not None and not self._moving:
            if len(self._in_flight) >= self.options.max_in_flight:
                return
            call = heapq.heappop(self._ready)
            if call.future.done():
                continue
            number = self._take_id()
            call.number = number
            self._in_flight[number] = call
            self._out.append(with_id(call.parts, number))
            self.stats.requests_sent += 1
            self._out_ready.set()

    # ---- streams --------------------------------------------------------------------------------

    def watch(self, topic: str, from_seq: int = 1) -> Watch:
        """Subscribe to stream `topic` (`match/ID`) from event `from_seq`: an async iterator of
        `(number, event)`, each once and in order over all reconnects. One watch a topic. Raises
        `BadInput` for what cannot be sent, and the error that ended the client."""
        if self._over is not None:
            raise self._over
        pack(WatchRequest(topic, from_seq))
        if topic in self._watches:
            raise ValueError(f"{topic} is watched already")
        watch = Watch(topic, from_seq, self.options.watch_buffer, self._ask_watch, self._drop_watch)
        self._watches[topic] = watch
        self._ask_watch(watch)
        return watch

    def _ask_watch(self, watch: Watch) -> None:
        watch.asking = True
        self._leaving.pop(watch.topic, None)
        task = asyncio.get_running_loop().create_task(self._watching(watch), name="garrison-watch")
        task.add_done_callback(lambda done: None if done.cancelled() else done.exception())

    async def _watching(self, watch: Watch) -> None:
        """Ask for the stream from its cursor until that is answered (`_on_reply` notes it)."""
        while not watch.closed and not watch.paused:
            try:
                await self.request(WatchRequest(watch.topic, watch.next_seq))
                break
            except (ConnectionLost, DeadlineExceeded):
                continue
            except GarrisonError as error:
                if not repeatable(error):
                    watch.fail(error)
                    break
                await asyncio.sleep((error.retry_after_s or 0) + self._rng.uniform(0, 0.5))
        else:
            watch.asking = False
        if watch.closed and watch.topic not in self._watches:
            self._leave_topic(watch.topic)

    def _drop_watch(self, watch: Watch) -> None:
        if watch.closed:
            self._watches.pop(watch.topic, None)
        self._leave_topic(watch.topic)

    def _leave_topic(self, topic: str) -> None:
        """Nobody reads `topic`: unwatch it, now or after resuming, until the server has done so."""
        self._leaving[topic] = 0
        if self._link is not None:
            self._leaving[topic] = self._take_id()
            self._send(Unwatch(topic, id=self._leaving[topic]))

    def _on_left(self, reply: Reply) -> None:
        """If `reply` answers an unwatch: it is done, or is said again when an event comes or after
        resuming (a session that moves refuses it)."""
        for topic, number in self._leaving.items():
            if number == reply.id:
                self._leaving[topic] = 0
                if not isinstance(reply, Failed):
                    del self._leaving[topic]
                return

    async def pushes(self) -> AsyncIterator[Push]:
        """The server's pushes other than stream events. They wait in one bounded buffer
        (`Options.push_buffer`); when it is full, the oldest is dropped and counted."""
        while True:
            while self._pushes:
                yield self._pushes.popleft()
            if self._over is not None:
                return
            self._pushes_ready.clear()
            await self._pushes_ready.wait()


def connect(
    url: str | Sequence[str],
    token: Token,
    *,
    options: Options | None = None,
    name: str = "garrison-python",
    tls: ssl.SSLContext | None = None,
    rng: random.Random | None = None,
) -> Client:
    """A client for one url or a list of seeds (`ws://host:port` or `wss://…`); any node of the
    cluster will do. `token` may be a function, plain or async, that is asked before each
    connection. Use it as `async with garrison.connect(url, token) as client:`.
    """
    urls = [url] if isinstance(url, str) else list(url)
    return Client(urls, token, options=options or Options(), name=name, tls=tls, rng=rng or random.Random())
