"""The messages by which a match is made, played and seen, and its events as they are logged and streamed.

Every message is an array `[type, id, ...fields]` as `server/wire/messages.py` describes. Others about matches are in
`game/match/messages.py`, those of the other rooms in the file of that name there.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from game.careers.events import Rated
from game.fields import CommandId, Key, Lineage, LoggedText, Password, ShortText, Team, TimeMs
from game.match.events import (
    MAX_PROPERTIES,
    MAX_TAGS,
    Described,
    HostChanged,
    Invited,
    Kicked,
    Named,
    PasswordSet,
    Property,
    PropertyValue,
    Reserved,
    RoundEnded,
    SuccessorNamed,
    Tags,
    Uninvited,
    Unkicked,
)
from server.ids import whole
from server.texts import LINE_PATTERN
from server.wire.messages import Push, Reply, Request

CountdownMs = Annotated[int, Meta(ge=0, le=86_400_000)]
DelayMs = Annotated[int, Meta(ge=0, le=600_000)]
Teams = Annotated[int, Meta(ge=0, le=8)]
Room = Annotated[int, Meta(ge=0, le=100)]
ScoreLimit = Annotated[int, Meta(ge=0, le=1_000_000)]
Points = Annotated[int, Meta(ge=-10_000, le=10_000)]
Mode = Annotated[str, Meta(max_length=32, pattern=whole("[a-z][a-z0-9_]*"))]
"""The name of a mode that the server has (`game/modes/registry.py`)."""
Phase = Literal["lobby", "countdown", "live", "ended"]
Source = Annotated[str, Meta(max_length=64, pattern=whole(r"[a-z0-9:._-]*"))]
Term = Annotated[int, Meta(ge=1, le=2**53)]
"""The number of the event by which a host became the host of its match: a report of an earlier host is known by it."""
EndReason = Literal["score", "time", "host_ended", "host_vanished", "abandoned"]


class Saved(Reply, tag="saved", frozen=True):
    """A durable change was accepted; `version` is the entity's version that holds it."""

    entity: str
    version: int


# ---- match commands -----------------------------------------------------------------------


class PlayOptions(msgspec.Struct, array_like=True, frozen=True):
    """Options of a match's play, as every version of its state has had them."""

    mode: Mode = "slayer"
    map_name: LoggedText = ""
    teams: Teams = 2
    max_players: Room = 8
    score_limit: ScoreLimit = 50
    time_limit_ms: TimeMs = 720_000
    join_in_progress: bool = True
    countdown_ms: CountdownMs = 3_000


class MatchOptions(msgspec.Struct, array_like=True, frozen=True):
    """Rules of a match. None is as the mode has it; the `created` event says what that was. `score_limit` and
    `time_limit_ms` of 0 mean none; `teams` of 0 means everyone for themselves; `max_players` of 0 means no limit (mode
    `recorded` only). A player who is in another match moves into this one, or, with `refuses_elsewhere`, is refused.
    `private`: only those come in who are invited, named or know the password, and only they see it, unless it is
    `listed`; `open_invites`: participants may invite. `source` is that of an imported match (`imported:tf2`), which
    `counts` for careers or not: no client may set these two. `spectator_delay_ms`: who neither plays in the match nor
    hosts it sees what happens in it so much later."""

    mode: Mode = "slayer"
    map_name: LoggedText = ""
    teams: Teams | None = None
    max_players: Room | None = None
    score_limit: ScoreLimit | None = None
    time_limit_ms: TimeMs | None = None
    join_in_progress: bool | None = None
    countdown_ms: CountdownMs | None = None
    refuses_elsewhere: bool = False
    private: bool = False
    listed: bool = False
    open_invites: bool = False
    source: Source = ""
    counts: bool = False
    spectator_delay_ms: DelayMs = 0


class MatchCreate(Request, tag="match.create", frozen=True):
    """Host only. Creates match `match` with the caller as its host, to be searched by `properties` and `tags`."""

    lineage: Lineage
    command: CommandId
    match: Key
    options: MatchOptions = MatchOptions()
    password: Password = ""
    properties: Annotated[list[Property], Meta(max_length=MAX_PROPERTIES)] = []
    tags: Tags = []


class MatchJoin(Request, tag="match.join", frozen=True):
    """A player joins (`team` None: the smallest team)."""

    lineage: Lineage
    command: CommandId
    match: Key
    team: Team | None = None
    password: Password = ""


class MatchLeave(Request, tag="match.leave", frozen=True):
    lineage: Lineage
    command: CommandId
    match: Key


class MatchStart(Request, tag="match.start", frozen=True):
    """Host only: begin the countdown, or go live at once if it is 0."""

    lineage: Lineage
    command: CommandId
    match: Key
    time_ms: TimeMs = 0
    term: Term = 1


class Kill(msgspec.Struct, tag="kill", array_like=True, frozen=True):
    """A kill. In mode `recorded` it counts for the killer only; otherwise `victim` dies of it."""

    time_ms: TimeMs
    player: Key
    victim: Key | None = None


class Death(msgspec.Struct, tag="death", array_like=True, frozen=True):
    time_ms: TimeMs
    player: Key


class Assist(msgspec.Struct, tag="assist", array_like=True, frozen=True):
    time_ms: TimeMs
    player: Key


class Medal(msgspec.Struct, tag="medal", array_like=True, frozen=True):
    time_ms: TimeMs
    player: Key
    medal: LoggedText


class Objective(msgspec.Struct, tag="objective", array_like=True, frozen=True):
    """An event of the match's objective (`mode` in a film). `name` says which, if known."""

    time_ms: TimeMs
    player: Key
    name: LoggedText = ""
    points: Points = 0


class Score(msgspec.Struct, tag="score", array_like=True, frozen=True):
    """Points for a team, or for a player where `team` is None."""

    time_ms: TimeMs
    points: Points
    team: Team | None = None
    player: Key | None = None


Report = Kill | Death | Assist | Medal | Objective | Score


class MatchReport(Request, tag="match.report", frozen=True):
    """Host only: events of play, in the match's clock, at most 256 at once, all or none.
    `time_ms` values may be equal but never fall below what was reported before."""

    lineage: Lineage
    command: CommandId
    match: Key
    events: Annotated[list[Report], Meta(min_length=1, max_length=256)]
    term: Term = 1


class MatchTick(Request, tag="match.tick", frozen=True):
    """Host only: the match clock now. It shows that the host lives and lets time limits end a match; nothing is stored
    by itself."""

    match: Key
    time_ms: TimeMs
    term: Term = 1


class MatchEnd(Request, tag="match.end", frozen=True):
    """Host only: end the match."""

    lineage: Lineage
    command: CommandId
    match: Key
    time_ms: TimeMs = 0
    term: Term = 1


class Accepted(Reply, tag="accepted", frozen=True):
    """A match command took effect and is durable: its events are `first_seq` to
    `next_seq - 1` (none if they are equal)."""

    match: str
    first_seq: int
    next_seq: int


class MatchGet(Request, tag="match.get", frozen=True):
    """The scoreboard of a match, or a page of it."""

    match: Key
    limit: Annotated[int, Meta(ge=1, le=500)] = 200
    cursor: Annotated[str, Meta(max_length=128, pattern=whole(LINE_PATTERN))] = ""
    """The `next` of the page before; empty for the first page."""


class PlayerLine(msgspec.Struct, array_like=True, frozen=True):
    """A row of a scoreboard."""

    player: str
    team: int | None
    present: bool
    kills: int
    deaths: int
    assists: int
    medals: int
    objectives: int
    score: int


class Scoreboard(Reply, tag="scoreboard", frozen=True):
    """A match and its players: by team, then points, then kills, then name. `next` is the cursor for the next page,
    None where this is the last; `player_count` counts the rows of all pages."""

    match: str
    phase: Phase
    mode: str
    map_name: str
    host: str
    time_ms: int
    team_scores: list[int]
    players: list[PlayerLine]
    next_seq: int
    winner: str | None
    end_reason: str | None
    next: str | None = None
    player_count: int = 0
    term: int = 1
    """The number of the event that made `host` the host."""
    private: bool = False
    rules: int = 1
    """The version of the mode's rules."""
    respawn_ms: int = 0
    """Time from a death until the player is there again, as the mode has it."""
    rounds_won: list[int] = []
    """Rounds that each team has won; empty until one is over."""
    rounds_played: int = 0
    properties: list[Property] = []
    tags: list[str] = []


class PropertyIs(msgspec.Struct, array_like=True, frozen=True):
    """A property that a match must have, with that value."""

    name: ShortText
    value: PropertyValue


class MatchList(Request, tag="match.list", frozen=True):
    """Live matches of the whole cluster that fit all that is given, newest first."""

    limit: Annotated[int, Meta(ge=1, le=500)] = 100
    cursor: Annotated[str, Meta(max_length=128, pattern=whole(LINE_PATTERN))] = ""
    """The `next` of the page before; empty for the first page."""
    mode: ShortText = ""
    map_name: LoggedText = ""
    properties: Annotated[list[PropertyIs], Meta(max_length=MAX_PROPERTIES)] = []
    tags: Annotated[list[ShortText], Meta(max_length=MAX_TAGS)] = []


class MatchRow(msgspec.Struct, array_like=True, frozen=True):
    match: str
    phase: Phase
    mode: str
    map_name: str
    players: int
    team_scores: list[int]
    time_ms: int
    started_wall_ms: int
    node: str
    created_wall_ms: int = 0
    private: bool = False
    properties: list[Property] = []
    tags: list[str] = []


class Matches(Reply, tag="matches", frozen=True):
    """Live matches. `missing` names the nodes that did not answer in time: the list lacks theirs.
    `next` is the cursor for the next page, None where this is the last one."""

    matches: list[MatchRow]
    missing: list[str]
    next: str | None = None


# ---- events of the match log that only the server makes -------------------------------------


class Created(msgspec.Struct, tag="created", array_like=True, frozen=True):
    """A match was made. It counts by version `rules` of its mode, for ever."""

    time_ms: int
    host: str
    options: MatchOptions
    wall_ms: int
    rules: int = 1


class Joined(msgspec.Struct, tag="joined", array_like=True, frozen=True):
    """`number` is that of the membership that begins, rising in each match (0 in logs of earlier versions)."""

    time_ms: int
    player: str
    team: int | None
    number: int = 0


class Left(msgspec.Struct, tag="left", array_like=True, frozen=True):
    """A player left: `reason` is `left`, `disconnected`, or `in_another_match` (the match does not take players out of
    others, and this one was in another by then)."""

    time_ms: int
    player: str
    reason: str


class Countdown(msgspec.Struct, tag="countdown", array_like=True, frozen=True):
    """A countdown of `length_ms` began at Unix time `wall_ms` (0 in logs of earlier versions)."""

    time_ms: int
    length_ms: int
    wall_ms: int = 0


class Started(msgspec.Struct, tag="started", array_like=True, frozen=True):
    time_ms: int
    wall_ms: int


class Ended(msgspec.Struct, tag="ended", array_like=True, frozen=True):
    """The end of the match. `winner` is a player, `team:N`, or None for a draw. `rated`: events of that name follow."""

    time_ms: int
    reason: EndReason
    winner: str | None
    wall_ms: int
    rated: bool = False


class PartyPlace(msgspec.Struct, array_like=True, frozen=True):
    """A member of a party on the roster; `number` is that of the membership that begins."""

    player: str
    team: int | None
    number: int


class PartyJoined(msgspec.Struct, tag="party_joined", array_like=True, frozen=True):
    """A party came, all of it at once. `number` is the party's own, of this coming."""

    time_ms: int
    party: str
    number: int
    members: list[PartyPlace]


MatchEvent = (
    Created
    | Joined
    | Left
    | Countdown
    | Started
    | Report
    | Ended
    | PartyJoined
    | PasswordSet
    | Invited
    | Uninvited
    | Reserved
    | Kicked
    | Unkicked
    | SuccessorNamed
    | HostChanged
    | RoundEnded
    | Described
    | Named
    | Rated
)


class MatchAssigned(Push, tag="match.assigned", frozen=True):
    """Sent to a player that joined a match, so that every client of the player may watch it."""

    match: str


REQUESTS: tuple[type[Request], ...] = (
    MatchCreate,
    MatchJoin,
    MatchLeave,
    MatchStart,
    MatchReport,
    MatchTick,
    MatchEnd,
    MatchGet,
    MatchList,
)
ANSWERS: tuple[type[msgspec.Struct], ...] = (
    Saved,
    Accepted,
    Scoreboard,
    Matches,
    MatchAssigned,
)
EVENTS: tuple[type[msgspec.Struct], ...] = (
    Created,
    Joined,
    Left,
    Countdown,
    Started,
    Kill,
    Death,
    Assist,
    Medal,
    Objective,
    Score,
    Ended,
    PartyJoined,
    PasswordSet,
    Invited,
    Uninvited,
    Reserved,
    Kicked,
    Unkicked,
    SuccessorNamed,
    HostChanged,
    RoundEnded,
    Described,
    Named,
    Rated,
)
