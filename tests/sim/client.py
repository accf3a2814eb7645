"""A simulated game client, player or host, speaking the real wire over an in-memory connection.

It does what an SDK must: follows redirects, heartbeats with acknowledgement, reconnects with
backoff and resumes, watches streams from its own cursor, and repeats requests, commands under
their id, until they are answered. It takes nothing for granted: whatever arrives goes into the
history as it came, and the checkers judge it.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol, Union, cast

import msgspec
from msgspec.structs import replace

from game.app import App
from game.messages import MatchAssigned
from server.actors.devices import CODES
from server.errors import (
    BadInput,
    ConnectionLost,
    DeadlineExceeded,
    Forbidden,
    GarrisonError,
    OutcomeUnknown,
    Rejected,
    Retryable,
    from_wire,
)
from server.runtime.backoff import backoff_s
from server.wire.messages import (
    ENGINE_ANSWERS,
    Ack,
    Close,
    CloseCode,
    Events,
    Failed,
    Going,
    Heartbeat,
    Hello,
    Latest,
    PresenceChanges,
    Push,
    Redirect,
    Reply,
    Request,
    Snapshot,
    Watch,
    WatchEnded,
    WatchLatest,
    Welcome,
)
from tests.sim.history import (
    Answered,
    Asked,
    Command,
    Connected,
    Disconnected,
    History,
    Pushed,
    Saw,
    Served,
    Subscribed,
    canonical,
)

_ANSWERS = cast(Any, Union[ENGINE_ANSWERS + App.answers])  # noqa: UP007 - a union made at run time
_from_msgpack = msgspec.msgpack.Decoder(_ANSWERS)
_from_json = msgspec.json.Decoder(_ANSWERS)
HELLO_TIMEOUT_S = 5.0
REQUEST_TIMEOUT_S = 12.0
FINAL = (CloseCode.BAD_TOKEN, CloseCode.REPLACED, CloseCode.OCCUPIED)
"""Close codes after which a client does not come back. It comes again, with a new token, where its player is banned or
its token revoked, and not where the login policy refuses it."""


class Link(Protocol):
    """The client's end of one connection."""

    def send(self, frame: bytes) -> None: ...

    def close(self, code: int, reason: str) -> None:
        """Close in order."""
        ...

    def abort(self) -> None:
        """Drop the connection without a word."""
        ...


class Dial(Protocol):
    async def __call__(
        self, url: str, text: bool, on_frame: Callable[[bytes], None], on_close: Callable[[int, str], None]
    ) -> Link:
        """Raises `ConnectionError` where nobody answers at `url`."""
        ...


class Subscription:
    """A watched stream: the newest event number that arrived, and the events so far. `over`: the client may not watch
    it any more."""

    def __init__(self, topic: str, from_seq: int) -> None:
        self.topic, self.next_seq = topic, from_seq
        self.number = 0
        self.confirmed = self.over = False
        self.events: list[Any] = []
        self.arrived = asyncio.Event()


class SimClient:
    """See the module's head. `urls` are the nodes that it may try; `token` is called for each
    connection. Run `run` as a task in a domain of its own."""

    def __init__(
        self,
        name: str,
        dial: Dial,
        urls: Callable[[], Sequence[str]],
        token: Callable[[], str],
        rng: random.Random,
        history: History,
        *,
        text: bool = False,
        stays: bool = False,
        device: str = "",
    ) -> None:
        self.name, self.lineage = name, f"{name}-1"
        self._dial, self._urls, self._token, self._rng, self._history, self._text = (
            dial, urls, token, rng, history, text,
        )  # fmt: skip
        self._stays, self._device = stays, device
        self._encode = msgspec.json.encode if text else msgspec.msgpack.encode
        self.session = self.node = ""
        self.connections = 0
        self.finished: str | None = None
        self.strange: list[str] = []
        self.assigned: list[str] = []
        self.pictures: dict[str, dict[str, Any]] = {}
        self.saw_picture: Callable[[str, str], None] = lambda topic, cursor: None
        """Called with topic and cursor when the picture of a latest topic may have changed."""
        self.people_cursor: str | None = None
        """The newest cursor of the players that it watches, for the hello that resumes."""
        self.saw_people: Callable[[PresenceChanges], None] = lambda changes: None
        self.welcomed: Callable[[Welcome], None] = lambda welcome: None
        self._resume: str | None = None
        self._seen = 0
        self._request = self._command = self._subscription = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._watching: dict[str, asyncio.Task[None]] = {}
        self._link: Link | None = None
        self._online = asyncio.Event()
        self._lost: asyncio.Future[tuple[int, str]] | None = None
        self._goto: str | None = None
        self._url = ""
        self._stopping = False
        self._heard = 0.0

    # ---- what a test does with it ----

    async def ask(self, make: Callable[[int], Request], *, deadline_s: float = 60.0) -> Any:
        """The reply to `make(request_id)`; asked again, under a new id, while the failure says
        that it may be or the outcome is unknown. Raises the typed error otherwise."""
        return await self._ask(make, None, deadline_s)

    async def command(self, make: Callable[[int, str, int], Request], *, deadline_s: float = 60.0) -> Any:
        """The reply to the command `make(request_id, lineage, number)`, repeated under its
        number until it is answered."""
        self._command += 1
        number = self._command
        key: Command = (f"{self.name}/{self.lineage}", number)
        return await self._ask(lambda request: make(request, self.lineage, number), key, deadline_s)

    def watch(self, topic: str, from_seq: int = 1) -> Subscription:
        """Subscribe, and stay subscribed over reconnections."""
        subscription = self._subscriptions[topic] = Subscription(topic, from_seq)
        if self._online.is_set():
            self._subscribe(subscription)
        return subscription

    async def watch_latest(self, topic: str) -> None:
        """Watch a latest topic in the present session; its picture is in `pictures`."""
        answer = await self.ask(lambda number: WatchLatest(number, topic))
        assert isinstance(answer, Snapshot)

    @property
    def is_online(self) -> bool:
        return self._online.is_set()

    async def online(self) -> None:
        await self._online.wait()

    @property
    def link(self) -> Link | None:
        """The connection of this moment, for a test that breaks it."""
        return self._link

    def stop(self) -> None:
        """Say goodbye; `run` ends soon."""
        self._stopping = True
        if self._link is not None and self._online.is_set():
            self._send(Close(self._next_request()))
        if self._lost is not None and not self._lost.done():
            self._lost.set_result((CloseCode.NORMAL, "done"))

    def vanish(self) -> None:
        """Go without a word, for ever."""
        self._stopping = True
        if self._link is not None:
            self._link.abort()
        if self._lost is not None and not self._lost.done():
            self._lost.set_result((0, "vanished"))
        self._fail_waiting()

    # ---- connections ----

    async def run(self) -> None:
        """Be connected until `stop` or a final close code."""
        attempt = 0
        while not self._stopping:
            url, self._goto = self._goto or self._any_url(), None
            try:
                connected = await self._connect(url)
            except (ConnectionError, GarrisonError, TimeoutError) as error:
                if isinstance(error, BadInput) or (isinstance(error, Rejected) and error.code in CODES):
                    self.finished = f"{error.code} {error.message}"
                    break
                connected = False
            if connected:
                attempt = 0
                code, reason = await self._stay()
                if code in FINAL:
                    self.finished = f"{code} {reason}"
                    break
            self._drop()
            if self._goto is None and not self._stopping:
                await asyncio.sleep(backoff_s(attempt, self._rng, 0.2, 2.0))
                attempt += 1
        self._drop()
        for task in self._watching.values():
            task.cancel()
        await asyncio.gather(*self._watching.values(), return_exceptions=True)

    def _any_url(self) -> str:
        """The URL of a node, drawn; where all are down, an address where nobody is."""
        return self._rng.choice(list(self._urls()) or ["nowhere"])

    async def _connect(self, url: str) -> bool:
        """Dial and greet. False: redirected."""
        loop = asyncio.get_running_loop()
        lost = self._lost = loop.create_future()
        self._heard, self._url = loop.time(), url

        def on_frame(frame: bytes) -> None:
            if self._lost is lost:
                self._received(frame)

        def on_close(code: int, reason: str) -> None:
            if not lost.done():
                self._note(Disconnected(at=loop.time(), client=self.name, code=code, reason=reason))
                lost.set_result((code, reason))
            if self._lost is lost:
                self._fail_waiting()

        self._link = await self._dial(url, self._text, on_frame, on_close)
        if self._resume is None:
            self._seen = 0
        self.pictures = {}  # the hello names none: what it watches comes whole
        hello = Hello(self._next_request(), self._token(), self._resume, self._seen, "sim", not self._stays)
        hello = replace(hello, device=self._device, presence=self.people_cursor if self._resume else None)
        answer = await self._exchange(hello, None, HELLO_TIMEOUT_S)
        if isinstance(answer, Redirect):
            self._goto = answer.url
            return False
        assert isinstance(answer, Welcome), answer
        return True

    def _welcome(self, welcome: Welcome) -> None:
        self.connections += 1
        self._note(
            Connected(
                at=asyncio.get_running_loop().time(),
                client=self.name,
                session=welcome.session,
                node=welcome.node,
                recovered=welcome.recovered,
            )
        )
        self.session, self.node, self._resume = welcome.session, welcome.node, welcome.resume
        self._interval_s = welcome.heartbeat_interval_ms / 1000
        self._online.set()
        if not welcome.recovered:
            self._seen = 0
        for subscription in self._subscriptions.values():
            if not subscription.over and (not welcome.recovered or not subscription.confirmed):
                self._subscribe(subscription)
        self.welcomed(welcome)

    async def _stay(self) -> tuple[int, str]:
        """Heartbeat until the connection is lost: its close code and reason."""
        assert self._lost is not None
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout(self._interval_s * self._rng.uniform(0.8, 1.0)):
                    return await asyncio.shield(self._lost)
            except TimeoutError:
                if self._goto is not None:
                    return CloseCode.MOVED, "asked to move"
                if loop.time() - self._heard > 3 * self._interval_s:
                    self._note(Disconnected(at=loop.time(), client=self.name, code=0, reason="nothing heard"))
                    return 0, "nothing heard"
                self._send(Heartbeat(0, self._seen, None))

    def _drop(self) -> None:
        """This connection is over, however it ended."""
        self._online.clear()
        link, self._link, self._lost = self._link, None, None
        if any(each.number and not each.confirmed and not each.over for each in self._subscriptions.values()):
            self._resume = None  # whether the session has that subscription is not known: begin anew
        if link is not None:
            link.close(CloseCode.NORMAL, "")
        self._fail_waiting()

    def _fail_waiting(self) -> None:
        self._online.clear()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionLost("the connection broke"))
        self._waiting.clear()

    # ---- frames ----

    def _next_request(self) -> int:
        self._request += 1
        return self._request

    def _send(self, message: Request) -> None:
        assert self._link is not None
        self._link.send(self._encode(message))

    def _received(self, frame: bytes) -> None:
        self._heard = asyncio.get_running_loop().time()
        try:
            message = (_from_json if self._text else _from_msgpack).decode(frame)
        except msgspec.DecodeError as error:
            self.strange.append(f"{self.name}: {error}: {frame!r}")
            return
        if isinstance(message, Push):
            self._pushed(message)
        elif isinstance(message, Reply):
            self._answered(message)
        elif isinstance(message, Latest):
            self._changed(message)
        elif isinstance(message, PresenceChanges):
            self.saw_people(message)

    def _changed(self, message: Latest) -> None:
        picture = {} if message.whole else self.pictures.get(message.topic, {})
        for item in message.items:
            if item.value is None:
                picture.pop(item.key, None)
            else:
                picture[item.key] = item.value
        self.pictures[message.topic] = picture
        self.saw_picture(message.topic, message.cursor)

    def _answered(self, message: Reply) -> None:
        now = asyncio.get_running_loop().time()
        self._note(Answered(at=now, client=self.name, request_id=message.id, reply=message))
        future = self._waiting.pop(message.id, None)
        if future is None or future.done():
            return
        if isinstance(message, Failed):
            retry_s = None if message.retry_after_ms is None else message.retry_after_ms / 1000
            future.set_exception(from_wire(message.code, message.message, retry_s))
        else:
            if isinstance(message, Welcome):
                self._welcome(message)  # now: a push may be right behind it
            elif isinstance(message, Snapshot):  # now: a difference may be right behind it
                self.pictures[message.topic] = {item.key: item.value for item in message.items}
                self.saw_picture(message.topic, message.cursor)
            future.set_result(message)

    def _pushed(self, message: Push) -> None:
        now = asyncio.get_running_loop().time()
        self._note(Pushed(at=now, client=self.name, session=self.session, seq=message.seq))
        self._seen = message.seq
        if isinstance(message, Events):
            self._events(message, now)
        elif isinstance(message, WatchEnded):
            self._subscriptions[message.topic].over = True
        elif isinstance(message, Going):
            if message.url != self._url:  # else it is here already
                self._goto = message.url or self._any_url()
        elif isinstance(message, MatchAssigned):
            self.assigned.append(message.match)
        if message.seq % 50 == 0:
            self._send(Ack(0, message.seq))

    def _events(self, message: Events, now: float) -> None:
        subscription = self._subscriptions.get(message.topic)
        number = subscription.number if subscription is not None else 0
        decode = msgspec.json.decode if self._text else msgspec.msgpack.decode
        for seq, raw in enumerate(message.events, message.first_seq):
            event = decode(raw)
            self._note(
                Saw(
                    at=now,
                    client=self.name,
                    subscription=number,
                    topic=message.topic,
                    seq=seq,
                    event=canonical(event),
                )
            )
            if subscription is not None:
                subscription.next_seq = seq + 1
                subscription.events.append(event)
        if subscription is not None:
            subscription.arrived.set()
            subscription.arrived.clear()

    # ---- requests ----

    async def _ask(self, make: Callable[[int], Request], command: Command | None, deadline_s: float) -> Any:
        attempt, loop = 0, asyncio.get_running_loop()
        since = loop.time()
        async with asyncio.timeout(deadline_s):
            while True:
                await self._online.wait()
                request = make(self._next_request())
                try:
                    answer = await self._exchange(request, command, REQUEST_TIMEOUT_S)
                    self._note(Served(at=loop.time(), client=self.name, since=since))
                    return answer
                except Retryable as error:
                    pause_s = error.retry_after_s or 0.0
                except OutcomeUnknown:
                    pause_s = 0.0
                await asyncio.sleep(pause_s + backoff_s(attempt, self._rng, 0.1, 1.0))
                attempt += 1

    async def _exchange(self, request: Request, command: Command | None, timeout_s: float) -> Any:
        """Ask one request and wait for its answer. Raises the typed error, `ConnectionLost` or
        `DeadlineExceeded`."""
        loop = asyncio.get_running_loop()
        future = self._waiting[request.id] = loop.create_future()
        if not isinstance(request, Hello):
            self._note(Asked(at=loop.time(), client=self.name, request_id=request.id, request=request, command=command))
        else:
            self._note(Asked(at=loop.time(), client=self.name, request_id=request.id, request="hello"))
        self._send(request)
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise DeadlineExceeded(f"no answer to {type(request).__name__}") from None
        finally:
            self._waiting.pop(request.id, None)

    def _subscribe(self, subscription: Subscription) -> None:
        old = self._watching.pop(subscription.topic, None)
        if old is not None:
            old.cancel()
        work = self._keep_watching(subscription)
        task = asyncio.get_running_loop().create_task(work, name=f"{self.name}:watch {subscription.topic}")
        self._watching[subscription.topic] = task

    async def _keep_watching(self, subscription: Subscription) -> None:
        """Send `watch` until it is answered on this connection."""
        attempt = 0
        while self._online.is_set():
            self._subscription += 1
            subscription.number = self._subscription
            subscription.confirmed = False
            self._note(
                Subscribed(
                    at=asyncio.get_running_loop().time(),
                    client=self.name,
                    subscription=subscription.number,
                    topic=subscription.topic,
                    from_seq=subscription.next_seq,
                )
            )
            watch = Watch(self._next_request(), subscription.topic, subscription.next_seq)
            try:
                await self._exchange(watch, None, REQUEST_TIMEOUT_S)
            except Forbidden:
                subscription.over = True
                return
            except Retryable as error:
                await asyncio.sleep((error.retry_after_s or 0.0) + backoff_s(attempt, self._rng, 0.1, 1.0))
                attempt += 1
            except OutcomeUnknown:  # if this connection is gone, the next one subscribes again
                await asyncio.sleep(backoff_s(attempt, self._rng, 0.1, 1.0))
                attempt += 1
            else:
                subscription.confirmed = True
                return

    def _note(self, observation: Any) -> None:
        self._history.append(observation)


async def until(holds: Callable[[], bool], timeout_s: float, what: str, poll_s: float = 0.05) -> None:
    """Wait, on virtual time, until `holds()`. Raises `AssertionError` naming `what`."""
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout_s
    while not holds():
        assert loop.time() < end, f"not within {timeout_s} s: {what}"
        await asyncio.sleep(poll_s)
