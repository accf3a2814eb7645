"""Bot players in matches: squads of eight players and a host, match after match.

A squad's host makes a match, its players join and watch it, the host reports what `generate`
makes up at the match's own pace times `speed`, and each player checks that the stream brings each
event exactly once and in order. Between matches the players change their profile. Every durable
acknowledgement goes into the ledger. What fails costs the squad its match, never the swarm. The bots may have friends
and parties (`circles.py`).
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import garrison
from garrison import Client, GarrisonError, Host
from garrison.errors import Rejected
from garrison.messages import Ended, MatchOptions, ProfileSet, RichPresence, Started
from garrison_bots import MakeToken
from garrison_bots.circles import Band, Ring
from garrison_bots.generate import Mode, generate
from garrison_bots.ledger import Ledger
from garrison_bots.probes import MatchProbe, PlayerProbe, Probe, Pulse

log = logging.getLogger(__name__)

MAPS = ("Aquarius", "Bazaar", "Behemoth", "Live Fire", "Recharge", "Streets")
TICK_S = 0.5
LAST_TICK_S = 1.0
"""Seconds that a tick may take to end a match by time before the host ends it."""
STATUSES = ("online", "busy", "away")
BAND_EVERY = 2
"""Squads of which one has a party: every other one of its players, a team of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SwarmOptions:
    """Sizes and paces of a swarm. Times in seconds are real, those in ms the match's own."""

    players: int = 240
    squad: int = 8
    speed: float = 30.0
    """Times faster than recorded matches."""
    length_ms: tuple[int, int] = (240_000, 480_000)
    """Bounds of a match's time limit, which is drawn."""
    seed: int | None = None
    prefix: str = "bot"
    ramp_s: float = 2.0
    """Time over which the starts of the squads are spread."""
    pause_s: tuple[float, float] = (0.2, 1.0)
    """Bounds of the pause between two matches of a squad."""
    patience_s: float = 30.0
    """Wait for a match's start or end after which a squad gives it up."""
    friends: int = 0
    """Neighbours on either side that each player befriends and watches."""
    parties: bool = False
    ledger: Path | None = None
    ledger_every_s: float = 1.0
    probe_players: int = 0
    """Players that do nothing but change their profile, and tell when the answer is late."""
    probe_matches: int = 0
    """Hosts that do nothing but report, and tell when the answer is late."""
    probe_every_s: float = 0.1
    gap_s: float = 0.25
    """An answer that comes so long after the one before is late."""


@dataclass(slots=True)
class Counts:
    """Counts of a swarm. `stream_faults`: events that came twice, late or never. `friendships`: pairs of players that
    see each other; `watched`: friends that players see; `presence_changes`: presences of friends that came;
    `parties`: those that are together; `party_joins`: matches that parties joined."""

    sessions: int = 0
    matches_live: int = 0
    matches_started: int = 0
    matches_ended: int = 0
    matches_given_up: int = 0
    heartbeats: int = 0
    heartbeats_per_s: float = 0.0
    match_events_sent: int = 0
    match_events_received: int = 0
    stream_faults: int = 0
    friendships: int = 0
    watched: int = 0
    presence_changes: int = 0
    parties: int = 0
    party_joins: int = 0
    reconnects: int = 0
    sessions_resumed: int = 0
    """Reconnects with everything that was missed."""
    sessions_dropped: int = 0
    """Reconnects whose session had to begin anew."""
    errors: int = 0
    last_error: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values by name."""
        return {name: getattr(self, name) for name in self.__slots__}


class Swarm:
    """Bot players and their hosts: `run` until `stop`, `counts()` at any time. `on_ended` hears of each match
    that ended, `on_gap` of an entity with a late answer and of the times of the answers before and after."""

    def __init__(
        self,
        urls: Sequence[str],
        token: MakeToken,
        options: SwarmOptions,
        *,
        on_ended: Callable[[str], None] | None = None,
        on_gap: Callable[[str, float, float], None] | None = None,
    ) -> None:
        self.urls = list(urls)
        self.token = token
        self.options = options
        self.ledger = Ledger()
        self.clients: list[Client] = []
        self.hosts: dict[str, Host] = {}
        self.rounds: dict[str, _Round] = {}
        """Hosts of the matches that are played now, by match."""
        self.events_before = 0
        self.stopping = asyncio.Event()
        self.tally = Counts()
        self.run_name = f"{random.SystemRandom().randrange(36**4):x}"
        """Part of match names, so that a second run on the same store makes new ones."""
        self.probes: list[Probe] = []
        self.ring = Ring([], 0, self.ledger, self.failed)
        self._circles: list[asyncio.Task[None]] = []
        self._on_ended = on_ended
        self._on_gap = on_gap
        self._rng = random.Random(options.seed)
        self._beats: list[tuple[float, int]] = []

    async def run(self) -> None:
        """Play until `stop`, then finish the reports under way and leave. Raises the error that keeps every
        bot from connecting."""
        count = max(1, round(self.options.players / self.options.squad))
        sizes = [self.options.players // count + (place < self.options.players % count) for place in range(count)]
        keeper = asyncio.create_task(self._keep(), name="bots-ledger")
        groups = [Squad(self, number, size, random.Random(self._rng.random())) for number, size in enumerate(sizes)]
        names = [name for group in groups for name in group.names]
        self.ring = Ring(names, self.options.friends, self.ledger, self.failed)
        squads = [asyncio.create_task(group.run(), name=f"squad-{group.number}") for group in groups]
        self.probes = self._make_probes()
        squads += [asyncio.create_task(probe.run(self.stopping), name=probe.pulse.entity) for probe in self.probes]
        try:
            await asyncio.gather(*squads)
        finally:
            for task in (*squads, *self._circles, keeper):
                task.cancel()
            await asyncio.gather(*squads, *self._circles, keeper, return_exceptions=True)
            await asyncio.gather(*(client.aclose() for client in self.clients), return_exceptions=True)
            self._write()

    def _make_probes(self) -> list[Probe]:
        options, ledger, prefix = self.options, self.ledger, f"probe-{self.run_name}"
        made: list[Probe] = []
        for number in range(options.probe_players):
            name = f"{prefix}-{number}"
            pulse = Pulse(f"player/{name}", options.gap_s, self._gap)
            made.append(PlayerProbe(self.client(name, "player"), name, pulse, ledger, options.probe_every_s, self))
        for number in range(options.probe_matches):
            name = f"{prefix}-m{number}"
            pulse = Pulse(f"match/{name}", options.gap_s, self._gap)
            client = self.client(f"{prefix}-host-{number}", "host")
            made.append(MatchProbe(client, name, pulse, ledger, options.probe_every_s, self))
        return made

    def _gap(self, entity: str, since: float, until: float) -> None:
        if self._on_gap is not None:
            self._on_gap(entity, since, until)

    def stop(self) -> None:
        """Ask `run` to finish."""
        self.stopping.set()
        for round_ in self.rounds.values():
            round_.woken.set()

    def counts(self) -> Counts:
        """The counts as of now."""
        tally = self.tally
        tally.sessions = sum(client.connected for client in self.clients)
        tally.heartbeats = sum(client.stats.heartbeats_acknowledged for client in self.clients)
        tally.match_events_sent = self.events_before + sum(host.events_acknowledged for host in self.hosts.values())
        ring = self.ring
        tally.friendships, tally.watched, tally.presence_changes = ring.friendships, ring.watched, ring.changes
        tally.reconnects = sum(max(0, client.stats.connects - 1) for client in self.clients)
        tally.sessions_resumed = sum(client.stats.recovered for client in self.clients)
        tally.sessions_dropped = tally.reconnects - tally.sessions_resumed
        return tally

    def client(self, subject: str, role: str) -> Client:
        """A client that counts towards the swarm."""
        client = garrison.connect(
            self.urls, lambda: self.token(subject, role), name="garrison-bots", rng=random.Random(self._rng.random())
        )
        self.clients.append(client)
        return client

    def befriend(self, name: str, client: Client) -> None:
        """Let a player that was here once have friends, if players do."""
        if self.options.friends:
            self._circles.append(asyncio.create_task(self.ring.enter(name, client), name=f"friends-{name}"))

    def ended(self, match: str) -> None:
        """Count a match whose end was seen."""
        self.tally.matches_ended += 1
        self.ledger.match_ended(match)
        if self._on_ended is not None:
            self._on_ended(match)

    def failed(self, error: Exception) -> None:
        """Count an error."""
        self.tally.errors += 1
        self.tally.last_error = f"{type(error).__name__}: {error}"
        log.info("%s", self.tally.last_error)

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            counts = self.counts()
            self._beats = [*self._beats[-5:], (loop.time(), counts.heartbeats)]
            (since, before), (now, after) = self._beats[0], self._beats[-1]
            counts.heartbeats_per_s = round((after - before) / (now - since), 1) if now > since else 0.0
            self._write()
            await asyncio.sleep(self.options.ledger_every_s)

    def _write(self) -> None:
        if self.options.ledger is not None:
            self.ledger.write(self.options.ledger, self.counts().to_json())


@dataclass(slots=True)
class _Round:
    """A match of a squad, while it is played."""

    name: str
    options: MatchOptions
    mode: Mode
    live: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the round is over or the swarm stops: no report is waited for any more."""


class Squad:
    """Eight players and their host."""

    def __init__(self, swarm: Swarm, number: int, size: int, rng: random.Random) -> None:
        self.swarm = swarm
        self.number = number
        self.rng = rng
        prefix = swarm.options.prefix
        self.names = [f"{prefix}-{number}-{place}" for place in range(size)]
        self.host_name = f"{prefix}-host-{number}"
        self.players: dict[str, Client] = {}
        self.band: Band | None = None
        self.rounds = 0

    async def run(self) -> None:
        """Connect, then match after match until the swarm stops."""
        swarm = self.swarm
        if await self._stopped_within(self.rng.uniform(0, swarm.options.ramp_s)):
            return
        self.players = {name: swarm.client(name, "player") for name in self.names}
        host = swarm.client(self.host_name, "host")
        await asyncio.gather(*(client.open() for client in (*self.players.values(), host)))
        await self._guard(self._each(self._dress(name, client) for name, client in self.players.items()))
        for name, client in self.players.items():
            swarm.befriend(name, client)
        together = self.names[::2]
        if swarm.options.parties and self.number % BAND_EVERY == 0 and len(together) > 1:
            self.band = Band({name: self.players[name] for name in together}, swarm.ledger)
        while not swarm.stopping.is_set():
            self.rounds += 1
            if not await self._guard(self._play(host)):
                swarm.tally.matches_given_up += 1
            if await self._stopped_within(self.rng.uniform(*swarm.options.pause_s)):
                return
            some = [name for name in self.names if self.rng.random() < 0.5]
            await self._guard(self._each(self._dress(name, self.players[name]) for name in some))

    async def _guard(self, work: Coroutine[Any, Any, None]) -> bool:
        """Run `work` and count its error. True if there was none."""
        try:
            await work
        except (GarrisonError, TimeoutError) as error:
            self.swarm.failed(error)
            return False
        return True

    # ---- one match ------------------------------------------------------------------------------

    async def _play(self, client: Client) -> None:
        swarm, patience_s = self.swarm, self.swarm.options.patience_s
        round_ = self._next_round()
        start = asyncio.get_running_loop().time()
        speed = swarm.options.speed

        def clock_ms() -> int:
            return int((asyncio.get_running_loop().time() - start) * 1_000 * speed) if round_.live.is_set() else 0

        async with Host(
            client,
            round_.name,
            options=round_.options,
            tick_interval_s=TICK_S,
            clock_ms=clock_ms,
            on_accepted=swarm.ledger.accepted,
        ) as host:
            await host.create()
            swarm.hosts[round_.name] = host
            swarm.rounds[round_.name] = round_
            watchers = [
                asyncio.create_task(self._follow(each, round_, first=place == 0), name=f"follow-{round_.name}")
                for place, each in enumerate((client, *self.players.values()))
            ]
            swarm.tally.matches_live += 1
            swarm.tally.matches_started += 1
            try:
                await self._join(round_)
                await host.start()
                async with asyncio.timeout(patience_s):
                    await round_.live.wait()
                start = asyncio.get_running_loop().time()
                await self._report(host, round_, clock_ms)
                if not swarm.stopping.is_set():
                    async with asyncio.timeout(patience_s):
                        await asyncio.gather(*watchers)
            finally:
                swarm.tally.matches_live -= 1
                del swarm.rounds[round_.name]
                swarm.events_before += swarm.hosts.pop(round_.name).events_acknowledged
                for watcher in watchers:
                    watcher.cancel()
                await asyncio.gather(*watchers, return_exceptions=True)

    def _next_round(self) -> _Round:
        rng, options = self.rng, self.swarm.options
        mode: Mode = "slayer" if rng.random() < 0.75 else "objective"
        return _Round(
            f"{options.prefix}-{self.swarm.run_name}-{self.number}-{self.rounds}",
            MatchOptions(
                mode=mode,
                map_name=rng.choice(MAPS),
                teams=2,
                max_players=max(8, len(self.names)),
                score_limit=50,
                time_limit_ms=rng.randrange(*options.length_ms),
                countdown_ms=int(3_000 / max(1.0, options.speed)),
            ),
            mode,
        )

    async def _report(self, host: Host, round_: _Round, clock_ms: Callable[[], int]) -> None:
        """Report at the match's pace until it is over or the swarm stops."""
        teams: dict[str, int | None] = {name: place % 2 for place, name in enumerate(self.names)}
        limit_ms = round_.options.time_limit_ms or 0
        try:
            for event in generate(teams, limit_ms, self.rng, round_.mode):
                wait_s = (event.time_ms - clock_ms()) / 1000 / self.swarm.options.speed
                if wait_s > 0:
                    await _set_within(round_.woken, wait_s)
                if round_.over.is_set() or self.swarm.stopping.is_set():
                    break
                await host.report(event)
            await host.drain()
            if not round_.over.is_set() and not self.swarm.stopping.is_set():
                rest_s = max(0, limit_ms - clock_ms()) / 1000 / self.swarm.options.speed
                if not await _set_within(round_.woken, rest_s + LAST_TICK_S):
                    await host.end(limit_ms)
        except Rejected as error:
            if error.code not in ("match_ended", "not_live"):
                raise

    async def _follow(self, client: Client, round_: _Round, *, first: bool) -> None:
        """Read the match's stream to its end, checking the numbers."""
        expected = 1
        tally = self.swarm.tally
        async with client.watch(f"match/{round_.name}") as events:
            async for number, event in events:
                tally.stream_faults += number != expected
                expected = number + 1
                tally.match_events_received += 1
                if first:
                    self.swarm.ledger.streamed(round_.name, number, event)
                    if isinstance(event, Started):
                        round_.live.set()
                if isinstance(event, Ended):
                    break
        if first:
            round_.over.set()
            round_.woken.set()
            self.swarm.ended(round_.name)

    async def _join(self, round_: _Round) -> None:
        """Bring everybody into the match: the party together, the others, and who was left behind, one by one."""
        there: set[str] = set()
        if self.band is not None and await self._guard(self._join_together(self.band, round_)):
            board = await self.players[self.names[0]].scoreboard(round_.name)
            there = {line.player for line in board.players if line.present}
        await self._each(
            self._enter(client, round_, None if name in there else place % 2)
            for place, (name, client) in enumerate(self.players.items())
        )

    async def _join_together(self, band: Band, round_: _Round) -> None:
        tally, had_one = self.swarm.tally, bool(band.party)
        try:
            self.swarm.ledger.accepted(await band.play(round_.name, 0))
            tally.party_joins += 1
        finally:
            tally.parties += bool(band.party) - had_one

    async def _enter(self, client: Client, round_: _Round, team: int | None) -> None:
        """Join, None: it has, and say so."""
        ledger, mode, map_name = self.swarm.ledger, round_.mode, round_.options.map_name
        if team is not None:
            ledger.accepted(await client.join(round_.name, team))
        doing = RichPresence(mode, map_name) if self.swarm.options.friends else None
        ledger.saved(await client.set_presence("online", f"{mode} on {map_name}", doing))

    async def _dress(self, name: str, client: Client) -> None:
        """Make a durable change: another display name and emblem."""
        ledger = self.swarm.ledger
        contents = f"{name} of {self.rng.choice(MAPS)}", f"emblem-{self.rng.randrange(64)}"
        ledger.sends_profile(name, *contents)
        saved = await client.request(ProfileSet(*contents))
        ledger.saved(saved, new=True)
        ledger.shows_profile(name, *contents)
        client.state = self.rng.choice(STATUSES)

    # ---- waiting --------------------------------------------------------------------------------

    async def _each(self, works: Iterable[Coroutine[Any, Any, None]]) -> None:
        """Run all; raise the first error after all are done."""
        results = await asyncio.gather(*works, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _stopped_within(self, seconds: float) -> bool:
        return await _set_within(self.swarm.stopping, seconds)


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for `event` at most so long; True if it is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()
