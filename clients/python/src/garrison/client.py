"""The client: one session that outlives its connections. The asyncio shell of the core.

The core (`_core.py`) decides; this file has what the core must not have: sockets, one timer, futures, the
program's token function, and chance. A runner task takes connections one after the other: it makes a token,
opens a WebSocket, and reads it until it ends. After every event it tells the core of, `_act` carries out what the
core has decided.

Everything runs on one event loop; a `Client` is not for use from several threads.
"""

import asyncio
import contextlib
import itertools
import random
import secrets
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from inspect import isawaitable
from types import TracebackType
from typing import Any, Final, Self, TypeVar, cast, overload

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from garrison._base import Command, Event, Push, Request
from garrison._core import Core
from garrison._decisions import Answer, Decision, Deliver, Down, Drop, NeedToken, Open, Part, RenewToken, Stir, Stop, Up
from garrison._game import GameCalls
from garrison._people import Following
from garrison._pushes import Inbox, Pushes
from garrison._socket import FAILURES, check_url, close_code, close_reason, open_socket
from garrison._stats import Stats
from garrison._streams import Stream
from garrison._subscriptions import Subscription
from garrison.boards import Boards
from garrison.errors import GarrisonError, Internal, Overloaded, SessionClosed, Unavailable
from garrison.friends import Friends
from garrison.messages import PlayerPicture, PresenceList, ReplayClose, Welcome
from garrison.options import Options
from garrison.party import Party
from garrison.replay import Replay, ReplayPush
from garrison.watch import LatestWatch, PlayersWatch, Watch

R = TypeVar("R")
MOST_LISTED: Final = 200
"""Players whose presence is asked for in one request."""
CLOSE_S: Final = 1.0
"""Longest wait of a client that is closed, for the node's farewell and for its own tasks each."""
P = TypeVar("P", bound=Push)
V = TypeVar("V")
Token = str | Callable[[], str | Awaitable[str]]


class Client(GameCalls):
    """A client, made by `connect`; use it with `async with`. All times are in seconds."""

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
        self._token = token
        self._tls = tls
        self._core = Core(
            urls,
            first=rng.randrange(len(urls)),
            options=options,
            name=name,
            lineage=secrets.token_hex(8),
            renewable=callable(token),
            chance=lambda: rng.uniform(0.0, 1.0),
        )
        self._runner: asyncio.Task[None] | None = None
        self._jobs: asyncio.Queue[NeedToken | Open | None] = asyncio.Queue()
        """Orders for the runner, None after the last."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = 0.0
        """When `_timer` fires. uvloop's handle of a time that is now cannot tell it."""
        self._ws: ClientConnection | None = None
        self._serving = 0
        """The number of the connection that the runner opens or reads; 0: none."""
        self._scope: asyncio.Timeout | None = None
        """A time limit around that connection, which has none until the core drops it."""
        self._out: deque[bytes] = deque()
        self._out_ready = asyncio.Event()
        self._parting: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        """Set when a session comes up and when the client is over."""
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._watches: dict[Subscription, Watch | LatestWatch | PlayersWatch[Any]] = {}
        self._inbox = Inbox(options.push_buffer, self._core.stats)
        self._replays: dict[int, Replay] = {}
        self._replay_numbers = itertools.count(1)
        self.boards = Boards(self)
        self.friends = Friends(self)
        self.party = Party(self)

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
            error = self._core.last_failure or Unavailable("no connection in time")
            raise error from error.__cause__
        except BaseException:
            await self.aclose()
            raise

    async def wait_connected(self) -> None:
        """Wait until a session is up. Raises the error that ended the client."""
        while not self._core.connected:
            if self._core.over is not None:
                raise self._core.over
            self._changed.clear()
            await self._changed.wait()

    async def aclose(self) -> None:
        """Leave for good: the session is not kept, and what waits fails with `SessionClosed`. Ends within about two
        seconds, whatever the node and the program's token function do."""
        self._core.close(self._now())
        self._act()
        if self._parting is not None:
            await asyncio.wait([self._parting], timeout=CLOSE_S)
        parts = (self._parting, self._renewing, self._runner)
        tasks = [task for task in parts if task is not None and task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            ended, _ = await asyncio.wait(tasks, timeout=CLOSE_S)
            await asyncio.gather(*ended, return_exceptions=True)

    @property
    def stats(self) -> Stats:
        """Counters since the client was made."""
        return self._core.stats

    @property
    def welcome(self) -> Welcome | None:
        """The latest welcome: subject, role, node and limits."""
        return self._core.welcome

    @property
    def lineage(self) -> str:
        """The name of this client object in its commands."""
        return self._core.lineage

    @property
    def state(self) -> str | None:
        """A word that travels with each heartbeat, for the game's own use. Setting one that cannot
        be sent raises `BadInput`."""
        return self._core.state

    @state.setter
    def state(self, state: str | None) -> None:
        self._core.state = state

    @property
    def connected(self) -> bool:
        """A session is up at this moment."""
        return self._core.connected

    @property
    def url(self) -> str | None:
        """The address of the node that serves the session now."""
        return self._core.url if self._core.connected else None

    # ---- the program's calls --------------------------------------------------------------------

    async def request(self, message: Request[R], *, timeout_s: float | None = None, retry: bool | None = None) -> R:
        """Send `message` and give its typed answer.

        A command gets its `lineage` and `command` here if it has none, waits while there is no
        connection, and is repeated under that number until it is answered or `timeout_s` is over.
        Other requests are sent once and raise `ConnectionLost` when the connection breaks first;
        `retry=True` repeats them too. Raises typed errors (`garrison.errors`), among them
        `DeadlineExceeded` after `timeout_s`, `Overloaded` when too many requests wait and, at once,
        `BadInput` for what cannot be sent.
        """
        order = self._core.request(message, self._now(), timeout_s=timeout_s, retry=retry)
        answer = self._answers[order] = asyncio.get_running_loop().create_future()
        self._act()
        try:
            return cast(R, await answer)
        finally:
            if self._answers.pop(order, None) is not None:
                self._core.cancel(order, self._now())
                self._act()

    def numbered(self, message: Command[R]) -> Command[R]:
        """`message` with the next command number of this client."""
        return self._core.numbered(message)

    def watch(self, topic: str, from_seq: int = 1) -> Watch:
        """Subscribe to stream `topic` (`match/ID`) from event `from_seq`: an async iterator of
        `(number, event)`, each once and in order over all reconnects. One watch a topic. Raises
        `BadInput` for what cannot be sent, and the error that ended the client."""
        stream = self._core.watch(topic, from_seq, self._now())
        watch = self._watches[stream] = Watch(stream, self._read, self._leave)
        self._act()
        return watch

    def _read(self, stream: Stream) -> tuple[int, Event] | None:
        item = self._core.read(stream, self._now())
        self._act()
        return item

    def watch_latest(self, topic: str) -> LatestWatch:
        """Subscribe to latest topic `topic` (`kind/key`): an async iterator of pictures, each the newest value of
        every key, whenever some have changed. One watch a topic. Raises `BadInput` for what cannot be sent, and the
        error that ended the client."""
        picture = self._core.watch_latest(topic, self._now())
        watch = self._watches[picture] = LatestWatch(picture, self._leave)
        self._act()
        return watch

    @overload
    def watch_players(self, players: Iterable[str]) -> PlayersWatch[PlayerPicture]: ...

    @overload
    def watch_players(self, players: Iterable[str], picture: Callable[[Any], V]) -> PlayersWatch[V]: ...

    def watch_players(
        self, players: Iterable[str], picture: Callable[[Any], Any] = PlayerPicture.from_wire
    ) -> PlayersWatch[Any]:
        """Watch how these players are: an async iterator of `(player, presence)`, first of each, then of whoever looks
        different, over all reconnects. `picture` makes a presence of the value that the application shows. Raises
        `BadInput` for what cannot be sent, and the error that ended the client; the iterator raises what the server
        refuses the watch with."""
        return self._follow(players, False, picture)

    @overload
    def watch_friends(self) -> PlayersWatch[PlayerPicture]: ...

    @overload
    def watch_friends(self, picture: Callable[[Any], V]) -> PlayersWatch[V]: ...

    def watch_friends(self, picture: Callable[[Any], Any] = PlayerPicture.from_wire) -> PlayersWatch[Any]:
        """Watch the own friends, whoever they are from time to time; of one who is none any more the presence is
        None. Raises as `watch_players` does."""
        return self._follow((), True, picture)

    def _follow(self, players: Iterable[str], friends: bool, picture: Callable[[Any], V]) -> PlayersWatch[V]:
        if self._core.over is not None:
            raise self._core.over
        following = self._core.people.follow(players, friends, self._now())
        watch = self._watches[following] = PlayersWatch(following, self._leave, self._core, picture)
        self._act()
        return watch

    @overload
    async def presence_list(self, players: Iterable[str]) -> dict[str, PlayerPicture]: ...

    @overload
    async def presence_list(self, players: Iterable[str], picture: Callable[[Any], V]) -> dict[str, V]: ...

    async def presence_list(
        self, players: Iterable[str], picture: Callable[[Any], Any] = PlayerPicture.from_wire
    ) -> dict[str, Any]:
        """How these players are now, without watching them; names that no player can have are left out. Raises the
        typed errors of `request`."""
        names, found = list(dict.fromkeys(players)), {}
        for at in range(0, len(names), MOST_LISTED):
            listed = await self.request(PresenceList(names[at : at + MOST_LISTED]), retry=True)
            found.update({item.player: picture(item.value) for item in listed.items})
        return found

    def _leave(self, subscription: Subscription) -> None:
        if isinstance(subscription, Following):
            self._core.people.leave(subscription, self._now())
        else:
            self._core.leave(subscription)
        self._act()
        self._watches.pop(subscription, None)

    def pushes(self) -> AsyncIterator[Push]:
        """The server's pushes other than stream events. They wait in one bounded buffer
        (`Options.push_buffer`); when it is full, the oldest is dropped and counted."""
        return self._inbox.read()

    def pushes_of(self, cls: type[P]) -> Pushes[P]:
        """The pushes of one type from now on, beside what `pushes` gives."""
        return self._inbox.of(cls)

    def replay(
        self,
        match: str,
        *,
        from_ms: int = 0,
        from_seq: int = 0,
        speed: float = 1.0,
        playing: bool = True,
        follow: str | None = None,
    ) -> Replay:
        """A replay of a stored match (or of another log, `kind/key`) from a time of its clock, or from an event, at
        0.25 to 64 times its speed. Use it as `async with client.replay("m1") as replay`; entering raises `NotFound`,
        `Forbidden`, `Corrupt`, `UnknownRules` and `Rejected` (`past_limit`, `too_many_replays`)."""
        topic = match if "/" in match else f"match/{match}"
        return Replay(self, topic, from_ms, from_seq, speed, playing, follow or "", self.options.watch_buffer)

    def number_replay(self, replay: Replay) -> int:
        """See `garrison.replay.ReplayClient`."""
        if self._core.over is not None:
            raise self._core.over
        number = next(self._replay_numbers)
        self._replays[number] = replay
        return number

    def forget_replay(self, number: int, close: bool = False) -> None:
        """See `garrison.replay.ReplayClient`."""
        if self._replays.pop(number, None) is not None and close and self._core.over is None:
            with contextlib.suppress(Overloaded):
                self._core.request(ReplayClose(number), self._now())
                self._act()

    # ---- connections ----------------------------------------------------------------------------

    async def _run(self) -> None:
        """Carry out the core's orders that take time, one after the other. Nobody is left waiting for a
        connection, whatever goes wrong here."""
        try:
            self._core.start(self._now())
            self._act()
            while (job := await self._jobs.get()) is not None:
                if isinstance(job, NeedToken):
                    await self._make_token()
                elif self._core.awaits(job.connection):
                    await self._serve(job)
        except Exception as error:
            self._fault(error)
        finally:
            self._core.end(SessionClosed("the client was cancelled"), self._now())  # unless it is over already
            self._act()

    async def _new_token(self) -> str:
        """Ask the program for a token."""
        token = self._token
        made = token if isinstance(token, str) else token()
        return await made if isawaitable(made) else made

    async def _renew_token(self, connection: int) -> None:
        """Go on under a new token. Where none can be had the server ends the connection in time."""
        try:
            self._core.renew(connection, await self._new_token(), self._now())
        except Exception:
            self._core.not_renewed(connection, self._now())
        self._act()

    async def _make_token(self) -> None:
        try:
            text = await self._new_token()
        except GarrisonError as error:
            self._core.no_token(error, self._now())
        except Exception as error:
            failure = Unavailable(f"no token: {error!r}")
            failure.__cause__ = error
            self._core.no_token(failure, self._now())
        else:
            self._core.token(text, self._now())
        self._act()

    async def _serve(self, job: Open) -> None:
        """Open a connection and read it until it ends or the core drops it."""
        core, connection = self._core, job.connection
        self._serving = connection
        try:
            async with asyncio.timeout(None) as self._scope:
                try:
                    self._ws = await open_socket(job.url, self.options.max_frame_bytes, self._tls)
                except FAILURES as error:
                    core.failed(connection, str(error), self._now())
                else:
                    await self._talk(self._ws, connection)
        except TimeoutError:
            pass  # dropped
        finally:
            self._serving = 0
            if self._ws is not None:
                self._ws.transport.abort()
                self._ws = None
            self._act()

    async def _talk(self, ws: ClientConnection, connection: int) -> None:
        core = self._core
        writer = asyncio.get_running_loop().create_task(self._write(ws), name="garrison-write")
        try:
            core.opened(connection, self._now())
            self._act()
            while True:
                frame = await ws.recv()
                core.received(connection, frame, self._now())
                self._act()
        except ConnectionClosed as error:
            core.closed(connection, close_code(error), close_reason(error), self._now())
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    async def _write(self, ws: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                while self._out:
                    await ws.send(self._out.popleft())
                self._out_ready.clear()
                await self._out_ready.wait()

    # ---- carrying out what the core decides -------------------------------------------------------

    def _act(self) -> None:
        core = self._core
        while core.pending:
            for decision in core.take_decisions():
                self._carry_out(decision)
            if frames := core.take_frames():
                self._out.extend(frames)
                self._out_ready.set()
        self._set_timer()

    def _carry_out(self, decision: Decision) -> None:
        match decision:
            case Answer():
                self._answer(decision)
            case Stir():
                if (watch := self._watches.get(decision.subscription)) is not None:
                    watch.stir()
            case Deliver(push) if isinstance(push, ReplayPush):
                if (replay := self._replays.get(push.replay)) is not None:
                    replay.take_in(push)
            case Deliver():
                self._inbox.put(decision.push)
            case NeedToken() | Open():
                self._jobs.put_nowait(decision)
            case RenewToken():
                self._renewing = asyncio.get_running_loop().create_task(
                    self._renew_token(decision.connection), name="garrison-renew"
                )
            case Up():
                self._changed.set()
                for replay in [] if decision.recovered else list(self._replays.values()):
                    replay.lost()
            case Down():
                self._out.clear()
            case Drop():
                self._drop(decision.connection)
            case Part():
                self._part(decision)
            case Stop():
                self._changed.set()
                self._inbox.end()
                for replay in self._replays.values():
                    replay.end(decision.error)
                self._jobs.put_nowait(None)

    def _answer(self, answer: Answer) -> None:
        future = self._answers.pop(answer.order, None)
        if future is None or future.done():
            return
        if answer.error is not None:
            future.set_exception(answer.error)
        else:
            future.set_result(answer.value)

    def _drop(self, connection: int) -> None:
        """Make the runner leave `connection`. Where it has not begun with it, it will not."""
        self._out.clear()
        if connection == self._serving and self._scope is not None:
            self._serving = 0
            self._scope.reschedule(self._now())

    def _part(self, part: Part) -> None:
        self._out.clear()
        if self._ws is not None:
            self._parting = asyncio.get_running_loop().create_task(
                self._say_farewell(self._ws, part), name="garrison-part"
            )

    async def _say_farewell(self, ws: ClientConnection, part: Part) -> None:
        with contextlib.suppress(ConnectionClosed):
            if part.last is not None:
                await ws.send(part.last)
            await ws.close(part.code)

    # ---- time and faults --------------------------------------------------------------------------

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _set_timer(self) -> None:
        """Set the timer to the earliest time that the core waits for. A timer that is too early is left to fire."""
        wake_s = self._core.wake_s
        if self._timer is not None and (wake_s is None or wake_s < self._timer_s):
            self._timer.cancel()
            self._timer = None
        if self._timer is None and wake_s is not None:
            self._timer_s = wake_s
            self._timer = asyncio.get_running_loop().call_at(wake_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        try:
            self._core.on_time(self._now())
        except Exception as error:
            self._fault(error)
        self._act()

    def _fault(self, error: Exception) -> None:
        """The core or its shell is wrong: the program learns of it instead of waiting for ever."""
        fault = Internal(f"a fault in the client: {error!r}")
        fault.__cause__ = error
        self._core.end(fault, self._now())


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
