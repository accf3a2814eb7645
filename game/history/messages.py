"""Client messages about matches that are over: pages of the history, and one match whole."""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from game.careers.events import MedalCount
from game.fields import Key, LoggedText, ShortText
from game.match.events import MAX_PROPERTIES, MAX_TAGS, Property
from game.messages import Phase, PropertyIs
from server.ids import whole
from server.texts import LINE_PATTERN
from server.wire.messages import Reply, Request

WallMs = Annotated[int, Meta(ge=0, le=2**53)]
MAX_PAGE: Final = 100
Outcome = Literal["won", "lost", "tied"]


class MatchHistory(Request, tag="match.history", frozen=True):
    """Matches that are over and that fit all that is given, those first that ended last. `opponent` was in them beside
    `player`, on another side where there were sides; `result` is that of `player`. They ended from Unix time `from_ms`
    on and before `to_ms`; 0: whenever. `imported` null: of other games' logs or not."""

    player: Key | None = None
    opponent: Key | None = None
    mode: ShortText = ""
    map_name: LoggedText = ""
    properties: Annotated[list[PropertyIs], Meta(max_length=MAX_PROPERTIES)] = []
    tags: Annotated[list[ShortText], Meta(max_length=MAX_TAGS)] = []
    result: Outcome | None = None
    from_ms: WallMs = 0
    to_ms: WallMs = 0
    imported: bool | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 20
    cursor: Annotated[str, Meta(max_length=160, pattern=whole(LINE_PATTERN))] = ""
    """The `next` of a page of the same filters; empty for the first page."""


class OwnLine(msgspec.Struct, array_like=True, frozen=True):
    """The player's own line. `result` is `won`, `lost`, `tied`, or empty where nothing was decided."""

    team: int | None
    result: str
    kills: int
    deaths: int
    assists: int
    medals: int
    objectives: int
    score: int


class HistoryRow(msgspec.Struct, array_like=True, frozen=True):
    """A match that is over. `player_count` counts all that were in it; `own` is the line of the player that was asked
    for."""

    match: str
    mode: str
    map_name: str
    source: str
    created_wall_ms: int
    started_wall_ms: int
    ended_wall_ms: int
    time_ms: int
    end_reason: str | None
    winner: str | None
    team_scores: list[int]
    player_count: int
    properties: list[Property]
    tags: list[str]
    own: OwnLine | None = None


class History(Reply, tag="history", frozen=True):
    """A page. `next` is the cursor of the next one, None where this is the last."""

    matches: list[HistoryRow]
    next: str | None = None


class MatchPageGet(Request, tag="match.page", frozen=True):
    """A match as it is stored, with lines of players, best score first, those after the first `skip`."""

    match: Key
    skip: Annotated[int, Meta(ge=0, le=2**31)] = 0
    limit: Annotated[int, Meta(ge=1, le=500)] = 200


class PageLine(msgspec.Struct, array_like=True, frozen=True):
    """A player's line. `name`: as another game's log has it, or the display name. `best_streak`, `played_ms`,
    `named_medals`, and by how much the rating changed (`mu` and the logarithm of sigma, in millionths), once the result
    is in the player's career."""

    player: str
    name: str
    team: int | None
    present: bool
    result: str
    kills: int
    deaths: int
    assists: int
    medals: int
    objectives: int
    score: int
    best_streak: int = 0
    played_ms: int = 0
    named_medals: list[MedalCount] = []
    mu: int = 0
    log_sigma: int = 0


class MatchPage(Reply, tag="page", frozen=True):
    """A match and its players. `team_scores` are of the last round. `next_skip`: the `skip` of the next page, None
    where this is the last. Its log ends before event `next_seq`, where its mark is `mark`. `pinned`: it
    stays whatever the retention says. `redacted`: how often its log was chained anew because a person was taken out."""

    match: str
    phase: Phase
    mode: str
    rules: int
    map_name: str
    host: str
    source: str
    created_wall_ms: int
    started_wall_ms: int
    ended_wall_ms: int
    time_ms: int
    end_reason: str | None
    winner: str | None
    team_scores: list[int]
    teams: int
    max_players: int
    score_limit: int
    time_limit_ms: int
    join_in_progress: bool
    countdown_ms: int
    private: bool
    listed: bool
    season: str
    rating_group: str
    properties: list[Property]
    tags: list[str]
    player_count: int
    lines: list[PageLine]
    next_skip: int | None
    next_seq: int
    mark: str
    pinned: bool = False
    redacted: int = 0


REQUESTS: Final[tuple[type[Request], ...]] = (MatchHistory, MatchPageGet)
ANSWERS: Final[tuple[type[Reply], ...]] = (History, MatchPage)
