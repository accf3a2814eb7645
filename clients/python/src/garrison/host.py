"""A match as its host sees it: create, start, report, tick, end; guests, and another host.

Reports go out through one pump: while one report is on its way, later events wait and
then travel together in the next. So at most one command of the match is under way, which keeps
the match clock in order whatever is refused and repeated, and a slow server makes reports larger
instead of more. What waits is bounded: `report` holds its caller back when the window is full.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Self

from garrison._frames import pack
from garrison.client import Client
from garrison.errors import OutcomeUnknown, Retryable, SessionClosed
from garrison.messages import (
    Accepted,
    Assist,
    Death,
    Kill,
    MatchAllow,
    MatchCreate,
    MatchDescribe,
    MatchEnd,
    MatchGet,
    MatchInvite,
    MatchKick,
    MatchOptions,
    MatchPassHost,
    MatchReport,
    MatchReserve,
    MatchStart,
    MatchSuccessor,
    MatchTick,
    MatchUnkick,
    Medal,
    Objective,
    Property,
    Score,
    Scoreboard,
)

Report = Kill | Death | Assist | Medal | Objective | Score
BATCH = 256
"""Events in one report at most; the protocol's limit."""
BATCH_BYTES = 32 * 1024


class Host:
    """The host of match `match`, over `client`, whose token must be a host's. Use it with `async with`,
    which stops the ticks and the pump, not the match.

    `window`: events that may wait before `report` holds back. `tick_interval_s`: ticks are sent
    this often while nothing else is, with the time that `clock_ms` gives (default: that of the
    last event). `on_accepted` hears of every acknowledged command.
    """

    def __init__(
        self,
        client: Client,
        match: str,
        *,
        options: MatchOptions | None = None,
        window: int = 4_096,
        tick_interval_s: float = 1.0,
        clock_ms: Callable[[], int] | None = None,
        on_accepted: Callable[[Accepted], None] | None = None,
    ) -> None:
        self.client = client
        self.match = match
        self.options = options or MatchOptions()
        self.time_ms = 0
        """The match clock of the last event that was reported."""
        self.term = 1
        """The number of the event that made this host the host; commands of other terms are refused."""
        self.next_seq = 1
        """The number that the match's next event will have, as last acknowledged."""
        self.events_acknowledged = 0
        self.ticks_acknowledged = 0
        self._window = window
        self._tick_interval_s = tick_interval_s
        self._clock_ms = clock_ms
        self._on_accepted = on_accepted
        self._waiting: deque[tuple[Report, int]] = deque()
        """Events with their packed sizes."""
        self._sending = 0
        self._changed = asyncio.Event()
        self._error: Exception | None = None
        self._live = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop sending. Events that still wait are dropped (`drain` first to keep them), and calls that wait for
        them raise `SessionClosed`."""
        if self._error is None:
            self._error = SessionClosed("the host was closed")
        self._signal()
        await self._stop_pump()

    async def _stop_pump(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def create(
        self, password: str = "", properties: Mapping[str, bool | int | str] | None = None, tags: Iterable[str] = ()
    ) -> Accepted:
        """Create the match with the caller as its host, to be searched by properties and tags; the password is for a
        private one."""
        known = _properties(properties or {})
        return self._took(await self.client.request(MatchCreate(self.match, self.options, password, known, list(tags))))

    async def describe(
        self, properties: Mapping[str, bool | int | str | None] | None = None, tags: Iterable[str] | None = None
    ) -> Accepted:
        """Set properties by which the match is searched (None takes one away, others stay), and replace its tags
        (None: leave them)."""
        said = MatchDescribe(self.match, _properties(properties or {}), None if tags is None else list(tags), self.term)
        return self._took(await self.client.request(said))

    async def take_over(self) -> Scoreboard:
        """Go on with a match of which the caller is the host by now (`HostChanged`), or is still, in another program:
        reports go on from the clock of the scoreboard that is given, and ticks begin where it is under way."""
        board = await self.client.request(MatchGet(self.match), retry=True)
        self.term, self.time_ms, self.next_seq = board.term, board.time_ms, max(self.next_seq, board.next_seq)
        if board.phase in ("countdown", "live"):
            self._live = True
            self._run_pump()
        return board

    async def start(self, time_ms: int = 0) -> Accepted:
        """Begin the countdown, or go live at once where it is 0; ticks begin."""
        accepted = self._took(await self.client.request(MatchStart(self.match, time_ms, self.term)))
        self._live = True
        self._run_pump()
        return accepted

    async def report(self, *events: Report) -> None:
        """Queue events in the order of the match clock. Waits only while the window is full.
        Raises `BadInput`, with nothing queued, if one cannot be sent; the error that an earlier
        report, a tick or the program's own `on_accepted` or `clock_ms` met, after which nothing
        more is sent; `SessionClosed` after `aclose`."""
        sized = [(event, len(pack(event))) for event in events]
        for event, size in sized:
            while len(self._waiting) + self._sending >= self._window and self._error is None:
                await self._change()
            if self._error is not None:
                raise self._error
            self._waiting.append((event, size))
            self.time_ms = max(self.time_ms, event.time_ms)
        self._run_pump()
        self._signal()

    async def drain(self) -> None:
        """Wait until every reported event is acknowledged. Raises like `report`."""
        while (self._waiting or self._sending) and self._error is None:
            await self._change()
        if self._error is not None:
            raise self._error

    async def end(self, time_ms: int | None = None) -> Accepted:
        """Drain, then end the match (at the time of the last event unless told). Raises like
        `report`, and typed errors where the end is refused or its outcome unknown."""
        await self.drain()
        self._live = False
        await self._stop_pump()
        at_ms = self.time_ms if time_ms is None else time_ms
        return self._took(await self.client.request(MatchEnd(self.match, at_ms, self.term)))

    # ---- guests ---------------------------------------------------------------------------------

    async def invite(self, *players: str) -> Accepted:
        """Let players into a private match, and tell them."""
        return self._took(await self.client.request(MatchInvite(self.match, list(players), self.term)))

    async def allow(self, *players: str, allowed: bool = True) -> Accepted:
        """Let players into a private match, or no longer, without a word to them."""
        return self._took(await self.client.request(MatchAllow(self.match, list(players), allowed, self.term)))

    async def reserve(self, *players: str, party: str | None = None, places: int = 0, for_s: float = 60.0) -> Accepted:
        """Keep a place for each of `players`, and so many for a party, for a while (0: no longer)."""
        wanted = MatchReserve(self.match, list(players), party, places, round(for_s * 1000), self.term)
        return self._took(await self.client.request(wanted))

    async def kick(self, player: str, reason: str = "") -> Accepted:
        """Remove a player, or keep one out, until `unkick`. The first number of the answer is that of the kick."""
        return self._took(await self.client.request(MatchKick(self.match, player, reason, self.term)))

    async def unkick(self, player: str, number: int = 0) -> Accepted:
        """Let a player come again; with a `number` only if that is the kick which keeps it out."""
        return self._took(await self.client.request(MatchUnkick(self.match, player, number, self.term)))

    # ---- another host ---------------------------------------------------------------------------

    async def name_successor(self, host: str | None) -> Accepted:
        """Say who takes over when this host is silent for too long; None: nobody, and the match ends then."""
        return self._took(await self.client.request(MatchSuccessor(self.match, host, self.term)))

    async def pass_on(self, host: str | None = None) -> Accepted:
        """Drain, then make another the host (None: the successor). This one reports nothing any more."""
        await self.drain()
        self._live = False
        await self._stop_pump()
        return self._took(await self.client.request(MatchPassHost(self.match, host, self.term)))

    @property
    def unacknowledged(self) -> int:
        """Events reported and not yet acknowledged."""
        return len(self._waiting) + self._sending

    # ---- the pump -------------------------------------------------------------------------------

    def _run_pump(self) -> None:
        if self._task is None and self._error is None:
            self._task = asyncio.get_running_loop().create_task(self._pump(), name="garrison-host")

    async def _pump(self) -> None:
        try:
            while True:
                if self._waiting:
                    await self._send_batch()
                elif not await self._changed_within(self._tick_interval_s) and self._live:
                    await self._tick()
        except Exception as error:  # the program's own too: its waiting calls have to learn of it
            self._error = error
            self._signal()

    async def _send_batch(self) -> None:
        batch = self._take_batch()
        self._sending = len(batch)
        self._took(await self.client.request(MatchReport(self.match, batch, self.term)))
        self._sending = 0
        self.events_acknowledged += len(batch)
        self._signal()

    def _take_batch(self) -> list[Report]:
        """The oldest events, as many as fit one message."""
        room = BATCH_BYTES if self.client.welcome is None else self.client.welcome.max_frame_bytes // 2
        batch: list[Report] = []
        while self._waiting and len(batch) < BATCH:
            event, size = self._waiting[0]
            room -= size
            if batch and room < 0:
                break
            batch.append(event)
            self._waiting.popleft()
        return batch

    async def _tick(self) -> None:
        """A tick that is lost is replaced by the next; a refusal by a rule ends the reports."""
        now_ms = self.time_ms if self._clock_ms is None else max(self.time_ms, self._clock_ms())
        with contextlib.suppress(Retryable, OutcomeUnknown):
            await self.client.request(MatchTick(self.match, now_ms, self.term), retry=True)
            self.ticks_acknowledged += 1

    def _took(self, accepted: Accepted) -> Accepted:
        self.next_seq = max(self.next_seq, accepted.next_seq)
        if self._on_accepted is not None:
            self._on_accepted(accepted)
        return accepted

    # ---- waking ---------------------------------------------------------------------------------

    def _signal(self) -> None:
        self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _changed_within(self, seconds: float) -> bool:
        """Wait for something to send; False if nothing came in time."""
        try:
            async with asyncio.timeout(seconds):
                while not self._waiting:
                    await self._change()
        except TimeoutError:
            return False
        return True


def _properties(named: Mapping[str, bool | int | str | None]) -> list[Property]:
    return [Property(name, value) for name, value in named.items()]
