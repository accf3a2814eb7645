"""Matches out of records: one assembler for all formats. Pure.

    idle -> Begin -> played -> Over -> (final scores) -> Close, or the next Begin -> Draft
      `-> a player's event, where it is not known whether a match goes on (`Phase.UNSURE`)

Formats differ in the words; the traps are the same. A clock restarts, or runs backwards: the clock of a match never
does. Warm-up stands before a second start: then it is dropped. A log is cut, at its beginning or at its end, in the
middle of a line: what is there of a match is a match. Players are there before it starts, change their names and their
teams, kill themselves and each other. A team kill is a death and nothing else.
"""

from collections.abc import Iterable
from enum import Enum
from hashlib import blake2b
from typing import Final

from game.imports import records as r
from game.imports.lines import Line
from game.imports.records import LOCAL, Reading, Record
from game.match.events import Named
from game.messages import Assist, Death, EndReason, Joined, Kill, Left, MatchEvent, Medal, Objective, Score

MAX_EVENTS: Final = 500_000
"""Events of a match; one that has more is not imported. They are in memory until it ends, 100 bytes each."""
MAX_PLAYERS: Final = 10_000
"""Players that are known at a time, and in a match."""
MAX_CLOCK_MS: Final = 2**52
MAX_POINTS: Final = 10_000
"""Points of one event."""
REASONS: Final[dict[str, EndReason]] = {"time": "time", "score": "score"}
RANKS: Final = ("", "cs", "csgo", "cs2", "tf2", "openarena", "urbanterror")
"""Games, the least certain sign first."""


class Person:
    """A player as the log has shown it last. `listed`: the match at hand has an event with its name and team."""

    __slots__ = ("key", "listed", "name", "playing", "team")

    def __init__(self, key: str) -> None:
        self.key, self.name, self.listed, self.playing = key, "", False, False
        self.team: int | None = None


class Draft:
    """A match as it was read: its events, with local keys as they are in records, and what is known of it."""

    __slots__ = (
        "digest", "events", "first_line", "game", "is_long", "last_line", "length_ms", "map_name", "played", "reason",
        "scored", "team_scores", "teams", "wall_ms", "warm_up",
    )  # fmt: skip

    def __init__(self, first_line: int, map_name: str = "", wall_ms: int = 0) -> None:
        self.first_line = self.last_line = first_line
        self.map_name, self.wall_ms = map_name, wall_ms
        """Unix ms of the match's clock at 0; 0: not known."""
        self.game = ""
        self.events: list[MatchEvent] = []
        self.played = 0
        """Events of play: a match without any is none."""
        self.length_ms = 0
        self.reason = ""
        """As in `Ended`; empty where the log does not show the end."""
        self.teams = 0
        self.team_scores: dict[int, int] = {}
        self.scored: dict[str, int] = {}
        """Points of players."""
        self.digest = blake2b(digest_size=8)
        """Hash of the match's lines, from its beginning to its end."""
        self.warm_up = self.is_long = False

    @property
    def winner(self) -> str | None:
        """The team, or where there are none the player, with most points, where the log tells points and not a draw."""
        if self.teams:
            totals = {f"team:{team}": self.team_scores.get(team, 0) for team in range(self.teams)}
        else:
            totals = self.scored
        told = self.team_scores if self.teams else self.scored
        best = max(totals.values(), default=0)
        first = [name for name, total in totals.items() if total == best]
        return first[0] if told and len(first) == 1 else None


class Phase(Enum):
    """`UNSURE`: the file's beginning, or another map: a match may go on, or warm-up."""

    UNSURE = 1
    PLAYED = 2
    OVER = 3
    IDLE = 4


class Assembler:
    """Takes readings in the order of lines; gives drafts of matches that are over."""

    def __init__(self, roster: bool = True) -> None:
        """`roster`: the format shows who is there; without it nobody joins, as in a recording."""
        self._roster = roster
        self._people: dict[str, Person] = {}
        self._phase = Phase.UNSURE
        self._draft = Draft(1)
        self._clock: int | None = None
        """The clock of the line before."""
        self._elapsed = 0
        self._line = 0
        self._starts = False
        """Whether the file says when matches start."""
        self.outside = self.empty = self.warm_ups = 0
        """Events outside of any match; matches without any event; such that were warm-up only."""

    def take(self, line: Line, reading: Reading) -> list[Draft]:
        """The matches that end before this line, one at most in any sane log."""
        self._line = line.number
        self._tick(reading)
        done: list[Draft] = []
        hashed = self._phase in (Phase.UNSURE, Phase.PLAYED)
        for record in reading.records:
            drafts = self._apply(record, reading)
            done += drafts
            if drafts or isinstance(record, r.Begin):
                hashed = self._phase is not Phase.IDLE
        if hashed:
            self._draft.digest.update(line.data + b"\n")
            self._draft.last_line = line.number
        return done

    def close(self) -> list[Draft]:
        """The match that the file ends in, if any."""
        return self._finish(Phase.IDLE)

    # ---- clock ----

    def _tick(self, reading: Reading) -> None:
        """Move the match's clock on by as much as the format's did; one that went back has restarted."""
        clock = reading.clock_ms
        if clock is None:
            return
        draft = self._draft
        if self._clock is None and self._phase is Phase.UNSURE:
            if reading.is_wall:
                draft.wall_ms = clock
            else:
                self._elapsed = min(clock, MAX_CLOCK_MS)
        elif self._clock is not None:
            self._elapsed = min(self._elapsed + max(0, clock - self._clock), MAX_CLOCK_MS)
        self._clock = clock

    # ---- records ----

    def _apply(self, record: Record, reading: Reading) -> list[Draft]:
        if isinstance(record, r.Begin):
            return self._begin(record, reading)
        if isinstance(record, r.Close):
            return self._close(record, reading)
        if isinstance(record, r.Met):
            self._met(record)
        elif isinstance(record, r.Named):
            self._rename(self._person(record.key), record.name)
        elif isinstance(record, r.Gone):
            self._gone(record.key)
        elif isinstance(record, r.Over):
            if self._phase in (Phase.PLAYED, Phase.UNSURE):
                self._draft.reason = REASONS.get(record.reason, "host_ended")
                self._draft.length_ms = self._elapsed
                self._phase = Phase.OVER
        elif isinstance(record, r.Game):
            if _rank(record.name) > _rank(self._draft.game):
                self._draft.game = record.name
        elif isinstance(record, r.Where):
            self._draft.map_name = record.map_name or self._draft.map_name
        elif isinstance(record, r.WarmUp):
            self._draft.warm_up = True
        elif isinstance(record, r.LengthMs):
            self._draft.length_ms = max(self._draft.length_ms, min(record.length_ms, MAX_CLOCK_MS))
        elif self._phase is Phase.IDLE:
            self.outside += 1
        else:
            self._play(record)
        return []

    def _begin(self, record: r.Begin, reading: Reading) -> list[Draft]:
        self._starts = True
        if self._phase is Phase.PLAYED and not record.hard:
            return []  # another round
        done = self._finish(Phase.IDLE) if self._phase is Phase.OVER else []
        map_name = record.map_name or self._draft.map_name
        wall_ms = record.wall_ms or (reading.clock_ms or 0 if reading.is_wall else 0)
        if record.fresh:
            self._people.clear()
        self._new_draft(map_name, wall_ms)
        self._phase, self._elapsed = Phase.PLAYED, 0
        self._clock = reading.clock_ms
        for person in self._people.values():
            if person.playing:
                self._list(person)
        return done

    def _close(self, record: r.Close, reading: Reading) -> list[Draft]:
        done = self._finish(Phase.UNSURE)
        self._draft.map_name = record.map_name
        if reading.is_wall and reading.clock_ms is not None:
            self._draft.wall_ms = reading.clock_ms
        return done

    def _finish(self, phase: Phase) -> list[Draft]:
        """End the match at hand, whatever it was, and go over to `phase`."""
        draft, before = self._draft, self._phase
        draft.length_ms = max(draft.length_ms, draft.events[-1].time_ms if draft.events else 0)
        if not draft.reason and before is not Phase.IDLE:
            draft.length_ms = max(draft.length_ms, self._elapsed)
        self._new_draft()
        self._phase, self._elapsed = phase, 0
        if before is Phase.IDLE:
            return []
        warm_up = (draft.warm_up and not draft.reason) or (before is Phase.UNSURE and self._starts)
        if not draft.played:
            self.empty += before is not Phase.UNSURE
            return []
        if warm_up:
            self.warm_ups += 1
            return []
        return [draft]

    def _new_draft(self, map_name: str = "", wall_ms: int = 0) -> None:
        self._draft = Draft(self._line, map_name, wall_ms)
        for person in self._people.values():
            person.listed = False

    # ---- players ----

    def _person(self, key: str) -> Person:
        person = self._people.get(key)
        if person is None:
            if len(self._people) >= MAX_PLAYERS:
                del self._people[next(iter(self._people))]
            person = self._people[key] = Person(key)
        return person

    def _met(self, record: r.Met) -> None:
        person = self._person(record.key)
        if record.name:
            self._rename(person, record.name)
        before = (person.playing, person.team)
        person.playing, person.team = record.playing, record.team
        if before == (record.playing, record.team) or self._phase is Phase.OVER:
            return
        if record.playing:
            self._list(person)
        elif person.listed:
            self._add(Left(self._time(), person.key, "left"))

    def _gone(self, key: str) -> None:
        person = self._people.pop(key, None)
        if person is not None and person.listed and person.playing and self._phase is not Phase.OVER:
            self._add(Left(self._time(), key, "left"))

    def _list(self, person: Person) -> None:
        """Have the match say who the player is, and in which team."""
        if self._phase is Phase.IDLE:
            return
        if self._roster:
            self._add(Joined(self._time(), person.key, person.team))
        if person.team is not None:
            self._draft.teams = max(self._draft.teams, person.team + 1, 2)
        if not person.listed and (person.name or person.key.startswith(LOCAL)):
            self._name(person)
        person.listed = True

    def _rename(self, person: Person, name: str) -> None:
        if name in ("", person.name):
            return
        person.name = name
        if person.listed and self._phase is not Phase.IDLE:
            self._name(person)

    def _name(self, person: Person) -> None:
        self._add(Named(self._time(), person.key, person.name, person.key.startswith(LOCAL)))

    def _player(self, key: str) -> Person:
        """A player in an event of play: who is in it plays."""
        person = self._person(key)
        if not person.listed:
            person.playing = True
            self._list(person)
        return person

    # ---- play ----

    def _play(self, record: Record) -> None:
        """An event of the match at hand. After its end only final scores count."""
        if isinstance(record, r.TeamTotal):
            self._team_total(record)
        elif isinstance(record, r.PlayerTotal):
            self._player_total(record)
        elif self._phase is Phase.OVER:
            self.outside += 1
        elif isinstance(record, r.Slain):
            self._slain(record)
        elif isinstance(record, r.Happened):
            self._happened(record)

    def _slain(self, record: r.Slain) -> None:
        at, victim = self._elapsed, self._player(record.victim)
        if record.killer is not None and record.killer != record.victim:
            killer = self._player(record.killer)
            if killer.team is None or killer.team != victim.team:
                self._add(Kill(at, killer.key, victim.key), 1)
        self._add(Death(at, victim.key), 1)

    def _happened(self, record: r.Happened) -> None:
        at, key = self._elapsed, self._player(record.key).key
        if record.what == "kill":
            self._add(Kill(at, key, record.victim), 1)
        elif record.what == "death":
            self._add(Death(at, key), 1)
        elif record.what == "assist":
            self._add(Assist(at, key), 1)
        elif record.what == "medal":
            self._add(Medal(at, key, record.detail), 1)
        elif record.what == "score":
            self._add(Score(at, record.points, player=key), 1)
        else:
            self._add(Objective(at, key, record.detail, record.points), 1)

    def _team_total(self, record: r.TeamTotal) -> None:
        draft = self._draft
        draft.teams = max(draft.teams, record.team + 1, 2)
        before = draft.team_scores.get(record.team, 0)
        draft.team_scores[record.team] = record.total
        for points in _portions(record.total - before):
            self._add(Score(self._time(), points, team=record.team), 1)

    def _player_total(self, record: r.PlayerTotal) -> None:
        """The points of a player, where everyone is for themselves: in teams they would be the team's too."""
        draft = self._draft
        if draft.teams or len(draft.scored) >= MAX_PLAYERS:
            return
        key = self._player(record.key).key
        before = draft.scored.get(key, 0)
        draft.scored[key] = record.total
        for points in _portions(record.total - before):
            self._add(Score(self._time(), points, player=key), 1)

    def _time(self) -> int:
        """The match's clock; after the end that of the end."""
        return min(self._elapsed, self._draft.length_ms) if self._phase is Phase.OVER else self._elapsed

    def _add(self, event: MatchEvent, play: int = 0) -> None:
        draft = self._draft
        if len(draft.events) >= MAX_EVENTS:
            draft.is_long = True
            return
        draft.events.append(event)
        draft.played += play


def _rank(game: str) -> int:
    return RANKS.index(game) if game in RANKS else 0


def _portions(points: int) -> Iterable[int]:
    """The points in as many parts as one event each can hold; none for such as no match has."""
    if abs(points) > 100 * MAX_POINTS:
        return
    while points:
        part = max(-MAX_POINTS, min(points, MAX_POINTS))
        yield part
        points -= part
