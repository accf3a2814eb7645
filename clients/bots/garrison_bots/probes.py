"""Clients that measure: each makes one durable change after the other to an entity of its own, and
tells when an answer was late. A probe knows exactly what it wrote last, so after each reconnect it can
also tell whether an acknowledged change is lost.

Times are those of `time.monotonic`, which every process of a machine shares.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from garrison import Client, GarrisonError
from garrison.errors import NotFound, OutcomeUnknown, Retryable
from garrison.messages import MatchCreate, MatchOptions, MatchReport, MatchStart, Medal, ProfileSet
from garrison_bots.ledger import Ledger

LOOK_AGAIN_S = 0.3
LOOKS = 5
"""Reads before a loss is believed: a node that has lost its ownership may answer from its copy until it learns
of that."""
TIMEOUT_S = 60.0
"""For one change, over all faults."""


class Faults(Protocol):
    """The counter of a probe's errors."""

    def failed(self, error: Exception) -> None: ...


class Pulse:
    """The time at which `entity` was last served. `tell(entity, since, until)` hears of late answers: those
    that came `gap_s` or more after the answer before, and the first answer of each new connection."""

    def __init__(self, entity: str, gap_s: float, tell: Callable[[str, float, float], None]) -> None:
        self.entity = entity
        self.gap_s = gap_s
        self.last_s = time.monotonic()
        self._tell = tell
        self._connection = 1

    def answered(self, connection: int) -> None:
        """Note an acknowledged change. `connection` numbers the client's connections from 1."""
        now = time.monotonic()
        if now - self.last_s >= self.gap_s or connection != self._connection:
            self._tell(self.entity, self.last_s, now)
        self.last_s, self._connection = now, connection

    def pause(self) -> None:
        """Count from now: nothing was asked for since the last answer."""
        self.last_s = time.monotonic()

    @property
    def quiet(self) -> bool:
        """The next answer is late by now."""
        return time.monotonic() - self.last_s >= self.gap_s


class Probe:
    """A client that makes change after change in `run`; errors are counted and the work goes on."""

    def __init__(self, client: Client, name: str, pulse: Pulse, ledger: Ledger, every_s: float, faults: Faults) -> None:
        self.client, self.name, self.pulse, self.ledger = client, name, pulse, ledger
        self.every_s, self.faults = every_s, faults

    async def run(self, stopping: asyncio.Event) -> None:
        """Connect, and make changes until `stopping` is set. Raises the error that keeps the client from
        connecting."""
        await self.client.open()
        self.pulse.pause()
        while not stopping.is_set():
            await self._try(self.step())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.every_s):
                    await stopping.wait()
        await self._try(self.finish())

    async def step(self) -> None:
        """Make one durable change, and tell `pulse`."""
        raise NotImplementedError

    async def finish(self) -> None:
        """Look at the entity for the last time."""

    async def _try(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except (GarrisonError, TimeoutError) as error:
            self.faults.failed(error)


class PlayerProbe(Probe):
    """A player that writes numbers into its profile. After a reconnect it first changes its status, whose
    answer says that it is served again; then the profile must show the last acknowledged number, or a number that
    was sent after it. No change is repeated under its number: that would hide a loss."""

    number = 0
    acknowledged = 0
    connection = 1
    away = False

    async def step(self) -> None:
        await self.client.wait_connected()
        if self.client.stats.connects != self.connection:
            await self._come_back()
            return
        self.number += 1
        contents = f"{self.name} {self.number}", "probe"
        self.ledger.sends_profile(self.name, *contents)
        try:
            saved = await self.client.request(ProfileSet(*contents), timeout_s=TIMEOUT_S, retry=False)
        except (Retryable, OutcomeUnknown):
            return  # the next number will show the fate of this change
        self.acknowledged = self.number
        self.ledger.saved(saved, new=True)
        self.ledger.shows_profile(self.name, *contents)
        self.pulse.answered(self.client.stats.connects)

    async def finish(self) -> None:
        await self._come_back()

    async def _come_back(self) -> None:
        connection = self.client.stats.connects
        self.away = not self.away
        saved = await self.client.set_presence("away" if self.away else "online")
        self.pulse.answered(self.client.stats.connects)
        await self._look()
        self.pulse.pause()
        self.ledger.saved_anew(saved)
        self.connection = connection

    async def _look(self) -> None:
        for left in reversed(range(LOOKS)):
            found = await self._read()
            if found >= self.acknowledged:
                return
            if left:
                await asyncio.sleep(LOOK_AGAIN_S)
        lost = self.acknowledged - found
        self.ledger.undone(self.pulse.entity, lost, f"shows change {found} after {self.acknowledged}")
        self.acknowledged = found

    async def _read(self) -> int:
        """The number that the profile shows now."""
        try:
            profile = await self.client.get_profile(self.name)
        except NotFound:
            return 0
        number = profile.display_name.rpartition(" ")[2]
        return int(number) if number.isdecimal() else 0


class MatchProbe(Probe):
    """A host of one match, which ends only with the probe, that reports one medal after the other. Nobody
    else adds to its log, so each report's first number follows the number before."""

    next_seq = 1
    made = False

    async def step(self) -> None:
        if not self.made:
            await self._make()
        medal = Medal(0, "probe", "Perfect")
        accepted = await self.client.request(MatchReport(self.name, [medal]), timeout_s=TIMEOUT_S)
        if accepted.first_seq < self.next_seq:
            why = f"number {accepted.first_seq} after {self.next_seq - 1}"
            self.ledger.undone(self.pulse.entity, self.next_seq - accepted.first_seq, why)
        self.next_seq = accepted.next_seq
        self.ledger.accepted(accepted)
        self.ledger.knows_event(self.name, accepted.first_seq, medal)
        self.pulse.answered(self.client.stats.connects)

    async def _make(self) -> None:
        options = MatchOptions("recorded", "Probe", 0, 0, 0, 0, True, 0)
        self.ledger.accepted(await self.client.request(MatchCreate(self.name, options)))
        accepted = await self.client.request(MatchStart(self.name, 0))
        self.ledger.accepted(accepted)
        self.next_seq, self.made = accepted.next_seq, True
