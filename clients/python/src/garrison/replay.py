"""Replays of stored matches, as the program sees them: an async iterator with controls, over all reconnections."""

import asyncio
from collections import deque
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from garrison._base import Push, Request
from garrison.errors import GarrisonError, NotFound, SessionClosed, from_wire
from garrison.messages import (
    ReplayControl,
    ReplayedEvent,
    ReplayEnded,
    ReplayEvents,
    ReplayGap,
    ReplayOpen,
    ReplayScene,
    ReplayState,
    ReplayStatus,
)

R = TypeVar("R")
Moment = ReplayScene | ReplayedEvent | ReplayGap | ReplayState
"""Part of a replay: a whole scene (forget what was shown before), an event, a gap in a damaged log, or word that the
clock stands, and why."""
ReplayPush = ReplayScene | ReplayEvents | ReplayGap | ReplayState | ReplayEnded
MOVED = "moved"


class ReplayClient(Protocol):
    """The part of a client that a replay needs."""

    async def request(self, message: Request[R], *, timeout_s: float | None = None, retry: bool | None = None) -> R:
        """Send `message` and give its typed answer."""
        ...

    def number_replay(self, replay: "Replay") -> int:
        """Take a replay in, under a number that no other one had."""
        ...

    def forget_replay(self, number: int, close: bool = False) -> None:
        """Let go of the replay of that number, and close it at the server."""
        ...


class Replay:
    """A replay of a stored match, or of another log: `async with client.replay(...) as replay`, then `async for`. Each
    event comes once and in order, at the replay's pace; after a seek, a reconnection to another node, or a gap comes a
    scene, the whole state there (`Scoreboard.from_wire(scene.scene)` of a match). The program reads as it likes: while
    `limit` events wait for it, the replay pauses. Raises the typed error that ended it, after what came before.

    `status` is the server's newest word of it: its clock, and how far the log goes."""

    def __init__(
        self, client: ReplayClient, topic: str, from_ms: int, from_seq: int, speed: float, playing: bool, follow: str,
        limit: int,
    ) -> None:  # fmt: skip
        self.topic, self.status = topic, ReplayStatus(0, from_ms, 100, playing, from_seq, 0, 0, False)
        self._client, self._limit, self._number = client, limit, 0
        self._from_ms, self._from_seq = from_ms, from_seq
        self._speed, self._playing, self._follow = round(speed * 100), playing, follow
        self._buffer: deque[Moment] = deque()
        self._opens = 0
        """How often it was opened."""
        self._opening = self._seeking = self._full = False
        self._error: GarrisonError | None = None
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the replay; what was not read is dropped."""
        for task in self._tasks:
            task.cancel()
        number, self._number = self._number, 0
        self._buffer.clear()
        self._client.forget_replay(number, close=self._error is None)
        self.end(SessionClosed("the replay was left"))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Moment:
        while self._seeking or not self._buffer:
            if self._error is not None:
                if isinstance(self._error, SessionClosed) and not self._number:
                    raise StopAsyncIteration
                raise self._error
            self._wake.clear()
            await self._wake.wait()
        moment = self._buffer.popleft()
        if self._full and len(self._buffer) <= self._limit // 2:
            self._full = False
            if self._playing:
                self._spawn(self._control(ReplayControl(self._number, playing=True)))
        return moment

    # ---- controls -------------------------------------------------------------------------------

    async def pause(self) -> None:
        """Stand still until `play`."""
        self._playing = False
        await self._control(ReplayControl(self._number, playing=False))

    async def play(self) -> None:
        """Go on."""
        self._playing = True
        await self._control(ReplayControl(self._number, playing=not self._full))

    async def set_speed(self, speed: float) -> None:
        """Go on at another speed, from 0.25 to 64. Raises `BadInput` for any other."""
        await self._control(ReplayControl(self._number, speed=round(speed * 100)))
        self._speed = round(speed * 100)

    async def seek(self, ms: int) -> None:
        """Go to another time of the log, forth or back: what was not read is dropped, and the next moment is the scene
        there. Raises `Rejected` (`past_limit`) for one that cannot be seen yet."""
        buffer, self._buffer = self._buffer, deque()
        self._seeking = True
        try:
            await self._control(ReplayControl(self._number, seek_ms=ms))
        except BaseException:
            self._buffer, self._seeking = deque([*buffer, *self._buffer]), False
            self._wake.set()
            raise

    async def follow(self, player: str | None) -> None:
        """Show only events that name this player, and those that name nobody; None: all events."""
        self._follow = player or ""
        await self._control(ReplayControl(self._number, follow=self._follow))

    async def _control(self, message: ReplayControl) -> None:
        """Raises the typed errors of `Client.request`. A replay that is opened again meanwhile is told once more."""
        opens = self._opens
        try:
            self.status = await self._client.request(message, retry=True)
        except NotFound:
            if self._opens == opens:
                raise
            self.status = await self._client.request(message, retry=True)

    # ---- from the client ------------------------------------------------------------------------

    def take_in(self, push: Push) -> None:
        """Take in a push of this replay; called by the client."""
        match push:
            case ReplayScene():
                if self._seeking:
                    self._seeking = False
                    self._buffer.clear()
                self._stand(push.next_seq, push.time_ms)
                self._buffer.append(push)
            case ReplayEvents():
                self._stand(push.events[-1].number + 1, push.time_ms)
                self._buffer.extend(push.events)
            case ReplayGap():
                self._stand(push.last_seq + 1, self._from_ms)
                self._buffer.append(push)
            case ReplayState():
                self._from_ms = push.time_ms
                self._playing = self._playing and push.why != "end"
                self._buffer.append(push)
            case ReplayEnded() if push.code == MOVED:
                self._spawn(self._open())
            case ReplayEnded():
                self.end(from_wire(push.code, f"the replay of {self.topic} is over", None))
        if len(self._buffer) >= self._limit and not self._full:
            self._full = True
            self._spawn(self._control(ReplayControl(self._number, playing=False)))
        self._wake.set()

    def lost(self) -> None:
        """Open the replay again, in a new session, from where it was; called by the client. A request to open it that
        is under way is repeated by itself."""
        if self._error is None and self._number and not self._opening:
            self._spawn(self._open())

    def end(self, error: GarrisonError) -> None:
        """No moment will come any more; called by the client."""
        self._error = self._error or error
        self._wake.set()

    def _stand(self, next_seq: int, time_ms: int) -> None:
        self._from_seq, self._from_ms = next_seq, time_ms

    async def _open(self) -> None:
        self._number = self._number or self._client.number_replay(self)
        wanted = ReplayOpen(
            self._number, self.topic, self._from_ms, self._from_seq, self._speed, self._playing and not self._full,
            self._follow,
        )  # fmt: skip
        self._opens += 1
        self._opening = True
        try:
            self.status = await self._client.request(wanted, retry=True)
        except BaseException:
            self._client.forget_replay(self._number)
            raise
        finally:
            self._opening = False

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._run(work), name="garrison-replay")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, work: Coroutine[Any, Any, None]) -> None:
        """Do what nobody waits for: the reader gets its error."""
        try:
            await work
        except GarrisonError as error:
            self.end(error)
