"""`careers(seed) -> violations`: matches end one after the other, and nodes die at every step from there to the last
word that all is told: as the end is stored, as ratings are read, as the results are, between two of them that are
told, and as the row is released. Clocks differ by hours, a store is slow and forgetful, and names of matches are used
again once retention has taken the first of that name. Players are known to have so many results behind them that each
new one makes them forget one.

What must be true when all is whole again is what the logs say, exactly once: each participant has one row for each
match, with its line, medals, streak, time and difference of the rating, and its totals are their sum.

`late_careers(seed)`: the same with a delay for onlookers. No career has anything of a match before its end is as old.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, json
from msgspec.structs import replace

from game import replay
from game.app import App
from game.careers import ratings as rating_rules
from game.careers.events import Gain, Rated
from game.careers.ratings import FIRST, Rating
from game.careers.seasons import season_at
from game.careers.tally import Tally
from game.match import endings
from game.match.state import Line, MatchState
from game.messages import (
    Ended,
    Kill,
    MatchCreate,
    MatchEnd,
    MatchJoin,
    MatchLeave,
    MatchOptions,
    MatchReport,
    MatchStart,
    Medal,
    Report,
)
from game.player.rules import MAX_SETTLED
from game.player.state import PlayerState, SettledMatch
from persistence.game.career_queries import RatingsAsked
from persistence.game.player import CareerRows
from persistence.game.queries import Career
from server.actors.actor import Caller
from server.errors import Rejected
from server.eventlog.ports import StoredLog
from server.ids import ActorId, actor_id
from server.storage.memory import EntityRow, MemoryDatabase
from server.storage.queries import MemoryQuery, MemoryStoreQueries
from tests.sim.client import until as wait_until
from tests.sim.directed import heal, play
from tests.sim.faults import StoreTroubles
from tests.sim.rosters import EXPECTED
from tests.sim.world import EPOCH_MS, World

MATCHES, PLAYERS = 10, 6
NAMES: Final = 4
"""Names of matches, which are used again."""
AGREED_S: Final = 90.0
DELAY_MS: Final = 3_000
HOUR_MS: Final = 3_600_000
SEASONS: Final = [(EPOCH_MS + hours * HOUR_MS, f"s{hours}") for hours in (-4, -1, 0, 2)]
STEPS: Final = ("append", "append", "run", "write", "write", "write", "release", "claim", "")
"""Statements at whose answer the node of a match dies, or the store is away for some
seconds, as often as each is drawn; empty: after a while."""
LATER_STEPS: Final = ("run", "write", "write", "claim", "release")
"""Statements at whose answer the next owners of a match die, where several are to."""
FORGOTTEN: Final = 3
"""Results of each player that only rows know."""
MOST_MU: Final = 15_000_000
MEDALS: Final = ("Double Kill", "Sniper", "Perfect")
HOST: Final = Caller("host", "host", "h")
_rows: Final = CareerRows()
COLUMNS: Final = CareerRows.columns
Row = tuple[Any, ...]


def careers(seed: int) -> list[str]:
    """See the module's head."""
    return played(seed)[0]


def late_careers(seed: int) -> list[str]:
    """See the module's head."""
    return played(seed, delay_ms=DELAY_MS)[0]


def played(seed: int, kills: int = 1, matches: int = MATCHES, delay_ms: int = 0) -> tuple[list[str], "CareerPlay"]:
    """The same, with all that came of it. `kills`: nodes of a match that die at most, one after the other; with more
    than one, others die all the time. `delay_ms`: after which onlookers see a match."""
    plays: list[CareerPlay] = []

    def run(world: World) -> Awaitable[list[str]]:
        plays.append(CareerPlay(world, kills, matches, delay_ms))
        return plays[0].run()

    wrong = play(
        seed,
        run,
        journal="none" if seed % 3 else "local",
        app=App,
        careers={"seasons": [f"{name}={begin}" for begin, name in SEASONS]},
        queries=queries,
    )
    return wrong, plays[0]


# ---- the store's part: rows that come with states, and sums of them --------------------------------------------------


def additions(key: str, stored: int, state: PlayerState) -> Iterable[tuple[Hashable, Row]]:
    """The rows of `careers` that a state brings along, by their primary key."""
    return [(("careers", *row[:3]), row) for row in zip(*_rows.encode([key], [stored], [state]), strict=True)]


class Queries(MemoryStoreQueries):
    """The game's queries of careers and ratings; `answers` are all that it said of ratings, and when, by group and
    players."""

    answers: dict[tuple[str, ...], list[tuple[float, dict[str, Rating]]]]


def queries(database: MemoryDatabase) -> Queries:
    """See `Queries`."""
    database.additions["player"] = additions
    answers: dict[tuple[str, ...], list[tuple[float, dict[str, Rating]]]] = {}

    def career(states: Any, given: Career) -> list[dict[str, Any]]:
        row = database.rows.get(("careers", given.player, given.match, given.birth))
        return [] if row is None else [{"birth": given.birth}]

    def ratings(states: Any, given: RatingsAsked) -> list[dict[str, Any]]:
        known = rated(given.rating_group, database.rows.values())
        found = {player: known[player] for player in given.players if player in known}
        answers.setdefault((given.rating_group, *given.players), []).append((database.clock.now(), found))
        return [{"player": player, "mu": rating.mu, "log_sigma": rating.log_sigma} for player, rating in found.items()]

    types = {cls.kind: cls.State for cls in App.actors if cls.durability != "volatile"}
    named = {"career": MemoryQuery(Career, career), "ratings": MemoryQuery(RatingsAsked, ratings)}
    made = Queries(database, types, named)
    made.answers = answers
    return made


def rated(group: str, rows: Iterable[Row]) -> dict[str, Rating]:
    """Ratings of a group by player: where everybody begins, and what rows of `careers` add."""
    found: dict[str, Rating] = {}
    for row in rows:
        named = dict(zip(COLUMNS, row, strict=True))
        if named["rating_group"] == group:
            mu, log_sigma = found.get(named["player_id"], FIRST)
            found[named["player_id"]] = Rating(mu + named["mu"], log_sigma + named["log_sigma"])
    return found


# ---- the run ---------------------------------------------------------------------------------------------------------


class CareerPlay:
    """One run of the scenario."""

    def __init__(self, world: World, kills: int, matches: int, delay_ms: int = 0) -> None:
        self.matches, self.most_kills, self.kills_left, self.killed = matches, kills, 0, 0
        self.again, self.waits = world.rng("more kills"), False
        self.world, self.rng, self.delay_ms = world, world.rng("careers"), delay_ms
        self.players = [f"p{number}" for number in range(PLAYERS)]
        self.kept: dict[tuple[str, int], StoredLog] = {}
        """Logs of matches that are over, by name and birth: those that retention took among them."""
        self.dying: asyncio.Queue[str] = asyncio.Queue()
        self.ending: dict[ActorId, float] = {}
        self.ended: dict[tuple[str, int], float] = {}
        """When a match of a name, and of a name and birth, was asked to end."""
        self.fatal: tuple[ActorId, str, int] | None = None
        """The match whose node is to die, the statement at whose answer, and how many of that go before."""
        self.clocks: set[str] = set()
        self.rows: set[Hashable] = set()
        """Rows of careers that were there before."""
        self.early: list[str] = []
        """Those that came before the match's end was public."""

    async def run(self) -> list[str]:
        world = self.world
        for name in self.players:
            veteran(world.database, name, world.rng(f"clock {name}").randint(-3, 3) * HOUR_MS)
        world.store.tapped = self._tap
        world.store.faults = troubles = StoreTroubles(self.rng)
        dying = world.loop.create_task(self._die())
        tasks = [dying, *([world.loop.create_task(self._harass())] if self.most_kills > 1 else [])]
        for number in range(self.matches):
            self._set_clocks()
            statement = self.rng.choice(("write", "append", "run", "release", "claim"))
            trouble = troubles.begin(0.4, frozenset({statement}), None, (self.rng.choice(("slow", "late", "forget")),))
            await self._match(f"m{number % NAMES}", number)
            troubles.end(trouble)
        self.fatal = None
        for task in tasks[1:]:
            task.cancel()
        heal(world)
        try:
            await world.started(3, 15.0)
            await wait_until(lambda: not self._wrong(), AGREED_S, "careers are what the logs say", 0.5)
        except AssertionError as error:
            return [str(error), *self._wrong()]
        finally:
            dying.cancel()
        return [*self.early, *(line for line in world.faults if not any(words in line for words in EXPECTED))]

    def _set_clocks(self) -> None:
        """Each new run of a node gets a clock that is some hours off."""
        for node in self.world.nodes.values():
            if node.domain.name not in self.clocks:
                self.clocks.add(node.domain.name)
                node.clock.step_wall(self.world.rng(f"clock {node.domain.name}").randint(-5, 5) * HOUR_MS)

    def _tap(self, node: str, statement: str) -> None:
        if self.delay_ms:
            self._look_at_rows()
        if self.fatal is None:
            return
        match, fatal, left = self.fatal
        entity = self.world.database.entities.get(match)
        if statement != fatal or entity is None or entity.owner is None or entity.owner.node != node:
            return
        if left:
            self.fatal = (match, fatal, left - 1)
        else:
            self.fatal = None
            if self.kills_left:  # its next owner dies, too
                self.kills_left -= 1
                self.fatal = (match, self.again.choice(LATER_STEPS), self.again.randint(0, 1))
            dies = self.rng.random() < 0.7 or self.kills_left
            self.dying.put_nowait(node if dies else "")

    def _look_at_rows(self) -> None:
        new = self.world.database.rows.keys() - self.rows
        self.rows |= new
        for table, player, match, *_ in new:
            ending = self.ending.get(actor_id("match", match)) if table == "careers" else None
            if ending is not None and (age_s := self.world.loop.time() - ending) < self.delay_ms / 1000:
                self.early.append(f"{match} counted for {player} {age_s:.3f} s after it was to end")

    async def _die(self) -> None:
        """Kill nodes as `_tap` says, and have each come back."""
        while True:
            node = await self.dying.get()
            if not node:  # answers that are as long on their way as nobody waits for them
                self.world.store.down = True
                await asyncio.sleep(self.rng.uniform(5.0, 9.0))
                self.world.store.down = False
            elif node in self.world.processes:
                self.world.crash_process(node)
                self.killed += 1
                await asyncio.sleep(
                    self.rng.uniform(0.0, 3.0) if self.most_kills == 1 else self.again.uniform(0.0, 0.5)
                )
                self.world.launch(node)
                await self.world.started(3, 15.0)
                self._set_clocks()

    async def _harass(self) -> None:
        """Where several nodes of a match are to die, have others die too, whatever they are at."""
        while True:
            await asyncio.sleep(self.again.uniform(2.0, 5.0) if self.waits else self.again.uniform(0.1, 1.0))
            if self.dying.empty() and len(self.world.nodes) > 2:
                self.dying.put_nowait(self.again.choice(sorted(self.world.nodes)))

    async def _match(self, name: str, number: int) -> None:
        """Play a match to its end; its node dies somewhere on the way to its last word."""
        world, rng, match = self.world, self.rng, actor_id("match", name)
        await self._retention(match)
        teams = rng.choice((0, 2))
        mode = rng.choice(("slayer", "slayer", "recorded"))
        options = MatchOptions(mode=mode, teams=teams, score_limit=0, time_limit_ms=0, countdown_ms=0)
        options = replace(options, spectator_delay_ms=self.delay_ms)
        line = f"l{number}"
        await self._insist(match, "create", HOST, MatchCreate(1, line, 1, name, options))
        roster = rng.sample(self.players, rng.randint(3, PLAYERS))
        for player in roster:
            await self._insist(match, "join", Caller("player", player, "s"), MatchJoin(1, line, 1, name))
        await self._insist(match, "start", HOST, MatchStart(1, line, 2, name))
        for command in range(3, 5):
            events = list(self._events(roster, command))
            await self._insist(match, "report", HOST, MatchReport(1, line, command, name, events))
        if rng.random() < 0.3:
            await self._insist(match, "leave", Caller("player", roster[0], "s"), MatchLeave(1, line, 2, name))
        if (statement := rng.choice(STEPS)) != "":
            self.fatal = (match, statement, rng.randint(0, 3))
            self.kills_left = self.most_kills - 1
        self.ending[match] = world.loop.time()
        await self._insist(match, "end", HOST, MatchEnd(1, line, 9, name, 10_000))
        entity = world.database.entities[match]
        if not statement:
            await asyncio.sleep(rng.uniform(0.0, 2.0))
            if entity.owner is not None:
                self.dying.put_nowait(entity.owner.node)
        await self._tell_again(rng.choice(self.players))
        await asyncio.sleep(rng.uniform(0.0, 4.0))

    async def _tell_again(self, player: str) -> None:
        """Tell a player a result that it has forgotten: the match that has it died before it knew that all is told."""
        number = self.rng.randrange(FORGOTTEN)
        told = (f"older{number}", EPOCH_MS - number, Line(kills=9), False, 1 + number, Gain("slayer", kills=9))
        await self._insist(actor_id("player", player), "settle", *told)

    def _events(self, roster: Sequence[str], command: int) -> Iterable[Report]:
        for place in range(self.rng.randint(3, 9)):
            killer, victim = self.rng.sample(roster, 2)
            yield Kill(command * 1_000 + place, killer, victim)
            if self.rng.random() < 0.4:
                yield Medal(command * 1_000 + place, killer, self.rng.choice(MEDALS))

    async def _retention(self, match: ActorId) -> None:
        """Take away a match of that name that is over, once all of it is told, as retention does; keep its log."""
        database = self.world.database
        if match not in database.entities:
            return
        self.fatal = None
        self.waits = True
        await wait_until(lambda: self._may_go(match), AGREED_S, f"{match} is told", 0.2)
        self.waits = False
        entity = database.entities[match]
        self._keep(match, entity)
        database.entities[match] = EntityRow(
            entity.epoch, owner=entity.owner, last=entity.last
        )  # epochs are never given out again

    def _may_go(self, match: ActorId) -> bool:
        """Whether all is told; where nodes die all the time, by its row too: one that claims it has it in memory a
        moment later."""
        entity = self.world.database.entities[match]
        if self.most_kills == 1:
            return _is_told(self.world, match, entity)
        in_memory = any(node.node.system.find(match) is not None for node in self.world.nodes.values())
        return not entity.open_facts and entity.next_seq > 1 and not in_memory

    async def _insist(self, match: ActorId, method: str, *args: Any) -> None:
        """Ask from any node until there is an answer."""
        while True:
            nodes = list(self.world.nodes.values())
            if nodes:
                node = self.rng.choice(nodes)
                asked = node.domain.run(self.world.loop.create_task, node.node.system.ask(match, method, args))
                asked.add_done_callback(lambda done: done.cancelled() or done.exception())
                await asyncio.wait({asked}, timeout=3.0)
                error = asked.exception() if asked.done() and not asked.cancelled() else TimeoutError()
                if error is None or isinstance(error, Rejected):  # a player was away for too long, and is out of it
                    return
            await asyncio.sleep(0.1)

    def _keep(self, match: ActorId, entity: EntityRow) -> None:
        log = StoredLog(entity.next_seq, entity.head, entity.chunks)
        birth = replay.final_state(log).created_wall_ms
        self.kept[match, birth] = log
        self.ended[match.partition("/")[2], birth] = self.ending.get(match, 0.0)

    def keep_all(self) -> None:
        """Keep the logs of the matches that are there."""
        for id, entity in self.world.database.entities.items():
            if id.startswith("match/") and entity.next_seq > 1:
                self._keep(id, entity)

    def _wrong(self) -> list[str]:
        database, wrong = self.world.database, []
        for id, entity in database.entities.items():
            if id.startswith("match/") and entity.next_seq > 1:
                self._keep(id, entity)
                if not _is_told(self.world, id, entity):
                    wrong.append(f"{id} is not told")
        states = {
            key: msgspec.msgpack.decode(database.entities[actor_id("player", key)].state or b"\x80", type=PlayerState)
            for key in self.players
        }
        logs = {(id.partition("/")[2], birth): log for (id, birth), log in self.kept.items()}
        answers = self.world.queries.answers  # type: ignore[attr-defined]
        return [*wrong, *careers_differ(logs, database.rows, states), *ratings_differ(logs, answers, self.ended)]


def _is_told(world: World, match: ActorId, entity: EntityRow) -> bool:
    """Whether all is told, and its row says so; where the answer of a release was lost it does so once the node ends,
    which has put the match away."""
    if entity.owner is None:
        return not entity.open_facts and entity.next_seq > 1
    node = world.nodes.get(entity.owner.node)
    return node is not None and node.address == entity.owner and node.node.system.find(match) is None


def veteran(database: MemoryDatabase, name: str, off_ms: int) -> None:
    """Store a player who remembers as many results as it can; those it forgot ended later than any here will."""
    floor_ms = EPOCH_MS + 24 * HOUR_MS
    settled = tuple(SettledMatch(f"old{n}", EPOCH_MS + off_ms - n, 1 + n, 1) for n in range(MAX_SETTLED))
    state = PlayerState(matches=1_000, kills=5_000, settled=settled, settled_floor_ms=floor_ms)
    row = EntityRow(epoch=1, state_epoch=1, state_version=1, state=msgspec.msgpack.encode(state))
    database.entities[actor_id("player", name)] = row
    older = tuple(SettledMatch(f"older{n}", EPOCH_MS - n, 1 + n, 1) for n in range(FORGOTTEN))
    database.rows.update(additions(name, 0, state))
    database.rows.update(additions(name, 0, PlayerState(settled=older)))


# ---- the checker -----------------------------------------------------------------------------------------------------


def careers_differ(
    logs: Mapping[tuple[str, int], StoredLog], rows: Mapping[Hashable, Row], players: Mapping[str, PlayerState]
) -> list[str]:
    """How rows and totals differ from what the logs of matches that are over say."""
    wrong: list[str] = []
    due: dict[tuple[Any, ...], dict[str, Any]] = {}
    for (match, birth), log in logs.items():
        steps = list(replay.steps(log))
        wrong += _log_is_wrong(match, steps[-1].after, [step.record.event for step in steps])
        for player, expected in _expected(steps[-1].after, [step.record.event for step in steps]).items():
            due["careers", player, match, birth] = expected
    found = {key: dict(zip(COLUMNS, row, strict=True)) for key, row in rows.items() if not row[1].startswith("old")}
    for key in {*due, *found}:
        if key not in found or key not in due:
            wrong.append(f"{key} is {'no row' if key in due else 'in no log'}")
        elif wrongs := [name for name, value in due[key].items() if found[key][name] != value]:
            said = [(name, found[key][name], due[key][name]) for name in wrongs]
            wrong.append(f"{key} differs: {said}")
    for player, state in players.items():
        mine = [expected for key, expected in due.items() if key[1] == player]
        sums = (1_000 + len(mine), sum(row["won"] for row in mine), 5_000 + sum(row["kills"] for row in mine))
        if (state.matches, state.wins, state.kills) != sums:
            wrong.append(f"{player} has {(state.matches, state.wins, state.kills)} matches, wins, kills; due: {sums}")
    return wrong


def ratings_differ(
    logs: Mapping[tuple[str, int], StoredLog],
    answers: Mapping[tuple[str, ...], Sequence[tuple[float, Mapping[str, Rating]]]],
    ended: Mapping[tuple[str, int], float],
) -> list[str]:
    """How ratings changed otherwise than by what the store said of them after the match had `ended`."""
    wrong = []
    for (match, birth), log in logs.items():
        steps = list(replay.steps(log))
        outcome, tally = steps[-1].after.outcome, Tally()
        if outcome is UNSET or not outcome.rating_group:
            continue
        tally.take_all(step.record.event for step in steps)
        before = steps[-1].before
        sides = rating_rules.sides_of(before, tally)
        asked = (outcome.rating_group, *sorted(player for side in sides for player in side))
        found = {result.player: (result.mu, result.log_sigma) for result in outcome.results if result.mu}
        due = [
            rating_rules.differences(before, sides, known)
            for at, known in answers.get(asked, ())
            if at >= ended[match, birth]
        ]
        if found not in [{player: change for player, change in changes.items() if change[0]} for changes in due]:
            wrong.append(f"match {match} changes ratings by {found}, due: {due}")
    return wrong


def _log_is_wrong(match: str, state: MatchState, events: Sequence[Any]) -> list[str]:
    """The results are in the log once, after its end, and whoever won a match that is rated gains by it."""
    after = [event for place, event in enumerate(events) if any(isinstance(before, Ended) for before in events[:place])]
    said = [event for event in after if isinstance(event, Rated)]
    if len(said) != 1 or len(after) != 1:
        return [f"match {match} has {len(said)} results and {len(after)} events after its end"]
    winners = [name for name, line in state.players.items() if line.present and endings.won(state, name)]
    gained = {result.player for result in said[0].results if result.mu > 0}
    if any(abs(result.mu) > MOST_MU for result in said[0].results):
        return [f"match {match} changes a rating by more than one can be"]
    if said[0].rating_group and not gained.issuperset(winners):
        return [f"match {match} is rated, and {winners} won, and {gained} gained"]
    return []


def _expected(state: MatchState, events: Sequence[Any]) -> dict[str, dict[str, Any]]:
    """The columns of each participant's row, counted anew."""
    outcome = state.outcome
    results = {} if outcome is UNSET else {result.player: result for result in outcome.results}
    found = {}
    for player, line in state.players.items():
        names = Counter(event.medal for event in events if isinstance(event, Medal) and event.player == player)
        result = results.get(player)
        found[player] = {
            "mode": state.options.mode,
            "season": season_at(SEASONS, state.created_wall_ms),
            "won": endings.won(state, player),
            "ended_wall_ms": state.ended_wall_ms,
            "kills": line.kills,
            "deaths": line.deaths,
            "medals": line.medals,
            "best_streak": streak(state, events, player),
            "medal_names": json.encode(dict(sorted(names.items()))).decode(),
            "mu": result.mu if result else None,
            "log_sigma": result.log_sigma if result else None,
        }
    return found


def streak(state: MatchState, events: Sequence[Any], player: str) -> int:
    """Most kills of others in a row."""
    team, best, now = state.players[player].team, 0, 0
    for event in events:
        if isinstance(event, Kill):
            if event.player == player:
                friendly = team is not None and team == state.players[event.victim or ""].team
                now += state.options.mode == "recorded" or not friendly
            elif event.victim == player and state.options.mode != "recorded":
                now = 0
            best = max(best, now)
    return best
