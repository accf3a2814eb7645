"""The state of a match, made of its log by `evolve`. Immutable; every event gives a new struct, which shares
with the one before all that the event leaves as it is: a match has eight players, or fifty thousand.

A row of table `matches` is its projection, its `players` are rows of `participants`.
Nothing here may depend on the order of a dict's keys: a keyframe stores them sorted.
"""

from typing import Any, ClassVar, Final, Literal, Self

import msgspec
from msgspec import UNSET, UnsetType

from game.careers.events import Outcome
from game.match.answered import Answered
from game.match.events import PropertyValue
from game.messages import EndReason, Phase, PlayOptions
from server.states import Map


class Line(msgspec.Struct, frozen=True):
    """A player's line of the scoreboard. `team` is None where there are no teams; `present` is
    False after the player left and for a player that only a recording names. `member` is the number of its newest
    membership, which it may have left; absent, and then not encoded, where it has none, or an earlier version's. `name`
    and `local` are of `Named` events, absent without one."""

    team: int | None = None
    present: bool = True
    kills: int = 0
    deaths: int = 0
    assists: int = 0
    medals: int = 0
    objectives: int = 0
    score: int = 0
    member: int | UnsetType = UNSET
    name: str | UnsetType = UNSET
    local: bool | UnsetType = UNSET


class Lines(Map[str, Line]):
    """The lines of a scoreboard by player. `present` counts players that are in the match now, `team_sizes` those of
    each team that has any; `members` names those with a membership, so that nobody looks for them among all."""

    __slots__ = ("_peak", "members", "present", "team_sizes")
    plain: ClassVar[Any] = dict[str, Line]

    def __init__(self, items: Any = ()) -> None:
        super().__init__(items)
        sizes: dict[int, int] = {}
        self.present, self._peak = 0, 0
        for line in self.values():
            self._peak = max(self._peak, line.score)
            if line.present:
                self.present += 1
                if line.team is not None:
                    sizes[line.team] = sizes.get(line.team, 0) + 1
        self.team_sizes = sizes
        self.members: Map[str, bool] = Map((name, True) for name, line in self.items() if line.member is not UNSET)

    def set(self, key: str, value: Line) -> Self:
        before = self.get(key, _NOBODY)
        after = super().set(key, value)
        after._peak = max(self._peak, value.score)
        after.present, after.team_sizes, after.members = self.present, self.team_sizes, self.members
        if value.member is not UNSET and key not in self.members:
            after.members = self.members.set(key, True)
        if (before.present, before.team) != (value.present, value.team):
            after.present += value.present - before.present
            after.team_sizes = dict(self.team_sizes)
            for line, more in ((before, -1), (value, 1)):
                if line.present and line.team is not None:
                    after.team_sizes[line.team] = after.team_sizes.get(line.team, 0) + more
        return after

    def without(self, key: str) -> Self:
        raise NotImplementedError("a line stays for good")

    def reach(self, score: int) -> bool:
        """Whether a line has at least so many points. All of them are looked at only where a line had once."""
        if self._peak >= score:
            self._peak = max((line.score for line in self.values()), default=0)
        return self._peak >= score


_NOBODY = Line(present=False)


class PartyEntry(msgspec.Struct, array_like=True, frozen=True):
    """The newest coming of a party: the party's own number of it, and the event that it was."""

    number: int
    first_seq: int


class EntryOptions(msgspec.Struct, array_like=True, frozen=True):
    """The options of `MatchOptions` that say who may come."""

    refuses_elsewhere: bool = False
    private: bool = False
    listed: bool = False
    open_invites: bool = False


OPEN: Final = EntryOptions()


class Secret(msgspec.Struct, array_like=True, frozen=True):
    """A password, as it is kept: see `PasswordSet`."""

    salt: str
    digest: str


class Reservation(msgspec.Struct, array_like=True, frozen=True):
    """Places that are kept until Unix time `until_wall_ms`."""

    places: int
    until_wall_ms: int


class Rounds(msgspec.Struct, array_like=True, frozen=True):
    """The rounds that are over: how many each team has won, when the last one ended, by the match clock, and why."""

    played: int
    won: tuple[int, ...]
    ended_ms: int
    reason: Literal["score", "time"]


class Origin(msgspec.Struct, array_like=True, frozen=True):
    """The options of `MatchOptions` that say where an imported match is from, and whether it counts for careers."""

    source: str
    counts: bool


class MatchState(msgspec.Struct, frozen=True):
    """The whole of a match. `host` is empty until the match is created. `time_ms` is the match clock of the newest
    event; `countdown_from_ms` and `live_from_ms` are on the same clock, None before that phase.
    Wall times are ms since 1970, 0 for not yet. `team_scores` has one number a team.
    `answered` is keyed by the caller and its lineage, `subject/lineage`. `countdown_wall_ms`: the wall time at which
    the countdown under way began, absent in any other phase and in logs of earlier versions; absent, it is not
    encoded, so that states which have none hash as they always did. So is every field after it. `parties` are those
    that came together, by name; `entry` are options that are not all the default; `allowed` are players who may come
    into a private match; `reserved` has `player/NAME` and `party/NAME`; `kicked` has the number of each kick; `term` is
    the number of the event that made `host` the host, where that is not the first one. `rules` is the version of the
    mode's rules, where that is not the first one; `rounds` is there once a round is over.
    `properties` and `tags` are what it is searched by; `origin`: of an imported match. `outcome` is what careers get of
    a match that is over; empty, and not `whole`, until that is known. `spectator_delay_ms` is the option of that name,
    where it is not 0."""

    host: str = ""
    options: PlayOptions = PlayOptions()
    phase: Phase = "lobby"
    time_ms: int = 0
    created_wall_ms: int = 0
    started_wall_ms: int = 0
    ended_wall_ms: int = 0
    countdown_from_ms: int | None = None
    live_from_ms: int | None = None
    end_reason: EndReason | None = None
    winner: str | None = None
    team_scores: tuple[int, ...] = ()
    players: Lines = Lines()
    answered: Answered = Answered()
    countdown_wall_ms: int | UnsetType = UNSET
    parties: dict[str, PartyEntry] | UnsetType = UNSET
    entry: EntryOptions | UnsetType = UNSET
    secret: Secret | UnsetType = UNSET
    allowed: dict[str, bool] | UnsetType = UNSET
    reserved: dict[str, Reservation] | UnsetType = UNSET
    kicked: dict[str, int] | UnsetType = UNSET
    term: int | UnsetType = UNSET
    successor: str | UnsetType = UNSET
    rules: int | UnsetType = UNSET
    rounds: Rounds | UnsetType = UNSET
    properties: dict[str, PropertyValue] | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET
    origin: Origin | UnsetType = UNSET
    outcome: Outcome | UnsetType = UNSET
    spectator_delay_ms: int | UnsetType = UNSET
