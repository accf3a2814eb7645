"""The messages of the protocol as frozen dataclasses. Generated from docs/protocol.json by
`python clients/codegen/python.py`; do not edit.

`to_wire` gives the array that travels, `from_wire` reads one and ignores fields that a newer
peer added at its end. `id`, `lineage` and `command` are filled in by the client.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

from garrison._base import Command, Event, Message, Notice, Push, Reply, Request, UnknownEvent, check_length


@dataclass(frozen=True, slots=True)
class Seen:
    """A latest topic that the client watches, with the cursor of the newest picture that it has."""

    topic: str
    cursor: str

    def to_wire(self) -> list[Any]:
        return [self.topic, self.cursor]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Seen":
        check_length(wire, 2, "Seen")
        return cls(topic=wire[0], cursor=wire[1])


@dataclass(frozen=True, slots=True)
class SeenPlayer:
    """A player with the version of the presence that the client has."""

    player: str
    version: int

    def to_wire(self) -> list[Any]:
        return [self.player, self.version]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "SeenPlayer":
        check_length(wire, 2, "SeenPlayer")
        return cls(player=wire[0], version=wire[1])


@dataclass(frozen=True, slots=True)
class LatestItem:
    """A key of a latest topic with its newest value, whole; nil: the key is gone."""

    key: str
    value: Any = None

    def to_wire(self) -> list[Any]:
        return [self.key, self.value]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "LatestItem":
        n = check_length(wire, 1, "LatestItem")
        return cls(key=wire[0], value=wire[1] if n > 1 else None)


@dataclass(frozen=True, slots=True)
class PresenceItem:
    """A player's presence as this client may see it. `version` names the content: equal versions are
    equal values, at every node. Version 0, with `null`: the player is watched no more.
    """

    player: str
    version: int
    value: Any = None

    def to_wire(self) -> list[Any]:
        return [self.player, self.version, self.value]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PresenceItem":
        n = check_length(wire, 2, "PresenceItem")
        return cls(player=wire[0], version=wire[1], value=wire[2] if n > 2 else None)


@dataclass(frozen=True, slots=True)
class ReplayedEvent:
    """An event of a log with its number."""

    number: int
    event: Event

    def to_wire(self) -> list[Any]:
        return [self.number, self.event.to_wire()]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "ReplayedEvent":
        check_length(wire, 2, "ReplayedEvent")
        return cls(number=wire[0], event=read_event(wire[1]))


@dataclass(frozen=True, slots=True)
class PresenceField:
    """A field of the studio's own, for its clients to show."""

    name: str
    value: str = ""

    def to_wire(self) -> list[Any]:
        return [self.name, self.value]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PresenceField":
        n = check_length(wire, 1, "PresenceField")
        return cls(name=wire[0], value=wire[1] if n > 1 else "")


@dataclass(frozen=True, slots=True)
class RichPresence:
    """The doing of a player, in parts that a program can use. Empty texts and zeros are not told. All
    of it, with the line beside it, is at most 1,024 bytes of UTF-8.

    `party_size`: Members of the player's party. The server fills it in for a party of its own.

    `party_room`: Members that the party has room for.

    `join`: A place to which a friend may follow: the name of a match, or a word of the studio's
    own.
    """

    mode: str = ""
    map_name: str = ""
    score: str = ""
    party_size: int = 0
    party_room: int = 0
    join: str = ""
    fields: list[PresenceField] = field(default_factory=list)

    def to_wire(self) -> list[Any]:
        return [
            self.mode,
            self.map_name,
            self.score,
            self.party_size,
            self.party_room,
            self.join,
            [each.to_wire() for each in self.fields],
        ]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "RichPresence":
        n = check_length(wire, 0, "RichPresence")
        return cls(
            mode=wire[0] if n > 0 else "",
            map_name=wire[1] if n > 1 else "",
            score=wire[2] if n > 2 else "",
            party_size=wire[3] if n > 3 else 0,
            party_room=wire[4] if n > 4 else 0,
            join=wire[5] if n > 5 else "",
            fields=[PresenceField.from_wire(each) for each in wire[6]] if n > 6 else [],
        )


@dataclass(frozen=True, slots=True)
class MatchOptions:
    """Rules of a match. None is as the mode has it; the `created` event says what that was.
    `score_limit` and `time_limit_ms` of 0 mean none; `teams` of 0 means everyone for themselves;
    `max_players` of 0 means no limit (mode `recorded` only). A player who is in another match moves
    into this one, or, with `refuses_elsewhere`, is refused. `private`: only those come in who are
    invited, named or know the password, and only they see it, unless it is `listed`;
    `open_invites`: participants may invite. `source` is that of an imported match (`imported:tf2`),
    which `counts` for careers or not: no client may set these two. `spectator_delay_ms`: who
    neither plays in the match nor hosts it sees what happens in it so much later.
    """

    mode: str = "slayer"
    map_name: str = ""
    teams: int | None = None
    max_players: int | None = None
    score_limit: int | None = None
    time_limit_ms: int | None = None
    join_in_progress: bool | None = None
    countdown_ms: int | None = None
    refuses_elsewhere: bool = False
    private: bool = False
    listed: bool = False
    open_invites: bool = False
    source: str = ""
    counts: bool = False
    spectator_delay_ms: int = 0

    def to_wire(self) -> list[Any]:
        return [
            self.mode,
            self.map_name,
            self.teams,
            self.max_players,
            self.score_limit,
            self.time_limit_ms,
            self.join_in_progress,
            self.countdown_ms,
            self.refuses_elsewhere,
            self.private,
            self.listed,
            self.open_invites,
            self.source,
            self.counts,
            self.spectator_delay_ms,
        ]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "MatchOptions":
        n = check_length(wire, 0, "MatchOptions")
        return cls(
            mode=wire[0] if n > 0 else "slayer",
            map_name=wire[1] if n > 1 else "",
            teams=wire[2] if n > 2 else None,
            max_players=wire[3] if n > 3 else None,
            score_limit=wire[4] if n > 4 else None,
            time_limit_ms=wire[5] if n > 5 else None,
            join_in_progress=wire[6] if n > 6 else None,
            countdown_ms=wire[7] if n > 7 else None,
            refuses_elsewhere=wire[8] if n > 8 else False,
            private=wire[9] if n > 9 else False,
            listed=wire[10] if n > 10 else False,
            open_invites=wire[11] if n > 11 else False,
            source=wire[12] if n > 12 else "",
            counts=wire[13] if n > 13 else False,
            spectator_delay_ms=wire[14] if n > 14 else 0,
        )


@dataclass(frozen=True, slots=True)
class Property:
    """Something to search matches by. None takes it away."""

    name: str
    value: bool | int | str | None

    def to_wire(self) -> list[Any]:
        return [self.name, self.value]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Property":
        check_length(wire, 2, "Property")
        return cls(name=wire[0], value=wire[1])


@dataclass(frozen=True, slots=True)
class Kill(Event):
    """A kill. In mode `recorded` it counts for the killer only; otherwise `victim` dies of it."""

    TYPE: ClassVar[str] = "kill"
    time_ms: int
    player: str
    victim: str | None = None

    def to_wire(self) -> list[Any]:
        return ["kill", self.time_ms, self.player, self.victim]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Kill":
        n = check_length(wire, 3, "kill")
        return cls(time_ms=wire[1], player=wire[2], victim=wire[3] if n > 3 else None)


@dataclass(frozen=True, slots=True)
class Death(Event):
    """An event of a stream."""

    TYPE: ClassVar[str] = "death"
    time_ms: int
    player: str

    def to_wire(self) -> list[Any]:
        return ["death", self.time_ms, self.player]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Death":
        check_length(wire, 3, "death")
        return cls(time_ms=wire[1], player=wire[2])


@dataclass(frozen=True, slots=True)
class Assist(Event):
    """An event of a stream."""

    TYPE: ClassVar[str] = "assist"
    time_ms: int
    player: str

    def to_wire(self) -> list[Any]:
        return ["assist", self.time_ms, self.player]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Assist":
        check_length(wire, 3, "assist")
        return cls(time_ms=wire[1], player=wire[2])


@dataclass(frozen=True, slots=True)
class Medal(Event):
    """An event of a stream."""

    TYPE: ClassVar[str] = "medal"
    time_ms: int
    player: str
    medal: str

    def to_wire(self) -> list[Any]:
        return ["medal", self.time_ms, self.player, self.medal]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Medal":
        check_length(wire, 4, "medal")
        return cls(time_ms=wire[1], player=wire[2], medal=wire[3])


@dataclass(frozen=True, slots=True)
class Objective(Event):
    """An event of the match's objective (`mode` in a film). `name` says which, if known."""

    TYPE: ClassVar[str] = "objective"
    time_ms: int
    player: str
    name: str = ""
    points: int = 0

    def to_wire(self) -> list[Any]:
        return ["objective", self.time_ms, self.player, self.name, self.points]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Objective":
        n = check_length(wire, 3, "objective")
        return cls(time_ms=wire[1], player=wire[2], name=wire[3] if n > 3 else "", points=wire[4] if n > 4 else 0)


@dataclass(frozen=True, slots=True)
class Score(Event):
    """Points for a team, or for a player where `team` is None."""

    TYPE: ClassVar[str] = "score"
    time_ms: int
    points: int
    team: int | None = None
    player: str | None = None

    def to_wire(self) -> list[Any]:
        return ["score", self.time_ms, self.points, self.team, self.player]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Score":
        n = check_length(wire, 3, "score")
        return cls(time_ms=wire[1], points=wire[2], team=wire[3] if n > 3 else None, player=wire[4] if n > 4 else None)


@dataclass(frozen=True, slots=True)
class PropertyIs:
    """A property that a match must have, with that value."""

    name: str
    value: bool | int | str

    def to_wire(self) -> list[Any]:
        return [self.name, self.value]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PropertyIs":
        check_length(wire, 2, "PropertyIs")
        return cls(name=wire[0], value=wire[1])


@dataclass(frozen=True, slots=True)
class PlayerLine:
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

    def to_wire(self) -> list[Any]:
        return [
            self.player,
            self.team,
            self.present,
            self.kills,
            self.deaths,
            self.assists,
            self.medals,
            self.objectives,
            self.score,
        ]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PlayerLine":
        check_length(wire, 9, "PlayerLine")
        return cls(
            player=wire[0],
            team=wire[1],
            present=wire[2],
            kills=wire[3],
            deaths=wire[4],
            assists=wire[5],
            medals=wire[6],
            objectives=wire[7],
            score=wire[8],
        )


@dataclass(frozen=True, slots=True)
class MatchRow:
    """Part of other messages."""

    match: str
    phase: Literal["countdown", "ended", "live", "lobby"]
    mode: str
    map_name: str
    players: int
    team_scores: list[int]
    time_ms: int
    started_wall_ms: int
    node: str
    created_wall_ms: int = 0
    private: bool = False
    properties: list[Property] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)

    def to_wire(self) -> list[Any]:
        return [
            self.match,
            self.phase,
            self.mode,
            self.map_name,
            self.players,
            self.team_scores,
            self.time_ms,
            self.started_wall_ms,
            self.node,
            self.created_wall_ms,
            self.private,
            [each.to_wire() for each in self.properties],
            self.tags,
        ]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "MatchRow":
        n = check_length(wire, 9, "MatchRow")
        return cls(
            match=wire[0],
            phase=wire[1],
            mode=wire[2],
            map_name=wire[3],
            players=wire[4],
            team_scores=wire[5],
            time_ms=wire[6],
            started_wall_ms=wire[7],
            node=wire[8],
            created_wall_ms=wire[9] if n > 9 else 0,
            private=wire[10] if n > 10 else False,
            properties=[Property.from_wire(each) for each in wire[11]] if n > 11 else [],
            tags=wire[12] if n > 12 else [],
        )


@dataclass(frozen=True, slots=True)
class MedalCount:
    """Medals of one name that a player earned in a match."""

    medal: str
    earned: int

    def to_wire(self) -> list[Any]:
        return [self.medal, self.earned]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "MedalCount":
        check_length(wire, 2, "MedalCount")
        return cls(medal=wire[0], earned=wire[1])


@dataclass(frozen=True, slots=True)
class CareerLine:
    """The career in one mode and one season. `win_streak`: matches won in a row up to the newest;
    `best_streak`: most kills in a row without dying; `played_ms`: time in matches while they were
    live; `best_match`: the one with most kills, `best_kills`. What was counted before matches told
    their mode is under an empty one.
    """

    mode: str
    season: str
    matches: int
    wins: int
    kills: int
    deaths: int
    assists: int
    medals: int
    best_streak: int
    played_ms: int
    best_kills: int
    best_match: str
    win_streak: int
    best_win_streak: int
    named_medals: list[MedalCount]

    def to_wire(self) -> list[Any]:
        return [
            self.mode,
            self.season,
            self.matches,
            self.wins,
            self.kills,
            self.deaths,
            self.assists,
            self.medals,
            self.best_streak,
            self.played_ms,
            self.best_kills,
            self.best_match,
            self.win_streak,
            self.best_win_streak,
            [each.to_wire() for each in self.named_medals],
        ]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "CareerLine":
        check_length(wire, 15, "CareerLine")
        return cls(
            mode=wire[0],
            season=wire[1],
            matches=wire[2],
            wins=wire[3],
            kills=wire[4],
            deaths=wire[5],
            assists=wire[6],
            medals=wire[7],
            best_streak=wire[8],
            played_ms=wire[9],
            best_kills=wire[10],
            best_match=wire[11],
            win_streak=wire[12],
            best_win_streak=wire[13],
            named_medals=[MedalCount.from_wire(each) for each in wire[14]],
        )


@dataclass(frozen=True, slots=True)
class RatingLine:
    """A rating by OpenSkill: `mu` and `sigma` in millionths, after `matches` that were rated."""

    rating_group: str
    mu: int
    sigma: int
    matches: int

    def to_wire(self) -> list[Any]:
        return [self.rating_group, self.mu, self.sigma, self.matches]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "RatingLine":
        check_length(wire, 4, "RatingLine")
        return cls(rating_group=wire[0], mu=wire[1], sigma=wire[2], matches=wire[3])


@dataclass(frozen=True, slots=True)
class Friendship:
    """An entry of the list: in `state` since Unix time `since_ms`."""

    player: str
    state: Literal["blocked", "friend", "invited", "inviting"]
    since_ms: int

    def to_wire(self) -> list[Any]:
        return [self.player, self.state, self.since_ms]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Friendship":
        check_length(wire, 3, "Friendship")
        return cls(player=wire[0], state=wire[1], since_ms=wire[2])


@dataclass(frozen=True, slots=True)
class RecentPlayer:
    """A player met last in `match`, which ended at Unix time `ended_ms`."""

    player: str
    match: str
    ended_ms: int

    def to_wire(self) -> list[Any]:
        return [self.player, self.match, self.ended_ms]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "RecentPlayer":
        check_length(wire, 3, "RecentPlayer")
        return cls(player=wire[0], match=wire[1], ended_ms=wire[2])


@dataclass(frozen=True, slots=True)
class PartyMember:
    """`number` is that of the membership: the lower, the longer. `here`: it has a session."""

    player: str
    number: int
    here: bool
    ready: bool

    def to_wire(self) -> list[Any]:
        return [self.player, self.number, self.here, self.ready]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PartyMember":
        check_length(wire, 4, "PartyMember")
        return cls(player=wire[0], number=wire[1], here=wire[2], ready=wire[3])


@dataclass(frozen=True, slots=True)
class PartyInvitation:
    """An invitation to `party` from its member `by`, good until `until_ms`, wall time."""

    party: str
    by: str
    until_ms: int

    def to_wire(self) -> list[Any]:
        return [self.party, self.by, self.until_ms]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PartyInvitation":
        check_length(wire, 3, "PartyInvitation")
        return cls(party=wire[0], by=wire[1], until_ms=wire[2])


@dataclass(frozen=True, slots=True)
class BoardRow:
    """A player's row. Places count from 1; of players with equal points the one whose name comes first
    is before.
    """

    place: int
    player: str
    points: int

    def to_wire(self) -> list[Any]:
        return [self.place, self.player, self.points]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "BoardRow":
        check_length(wire, 3, "BoardRow")
        return cls(place=wire[0], player=wire[1], points=wire[2])


@dataclass(frozen=True, slots=True)
class OwnLine:
    """The player's own line. `result` is `won`, `lost`, `tied`, or empty where nothing was decided."""

    team: int | None
    result: str
    kills: int
    deaths: int
    assists: int
    medals: int
    objectives: int
    score: int

    def to_wire(self) -> list[Any]:
        return [self.team, self.result, self.kills, self.deaths, self.assists, self.medals, self.objectives, self.score]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "OwnLine":
        check_length(wire, 8, "OwnLine")
        return cls(
            team=wire[0],
            result=wire[1],
            kills=wire[2],
            deaths=wire[3],
            assists=wire[4],
            medals=wire[5],
            objectives=wire[6],
            score=wire[7],
        )


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """A match that is over. `player_count` counts all that were in it; `own` is the line of the player
    that was asked for.
    """

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

    def to_wire(self) -> list[Any]:
        return [
            self.match,
            self.mode,
            self.map_name,
            self.source,
            self.created_wall_ms,
            self.started_wall_ms,
            self.ended_wall_ms,
            self.time_ms,
            self.end_reason,
            self.winner,
            self.team_scores,
            self.player_count,
            [each.to_wire() for each in self.properties],
            self.tags,
            None if self.own is None else self.own.to_wire(),
        ]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "HistoryRow":
        n = check_length(wire, 14, "HistoryRow")
        return cls(
            match=wire[0],
            mode=wire[1],
            map_name=wire[2],
            source=wire[3],
            created_wall_ms=wire[4],
            started_wall_ms=wire[5],
            ended_wall_ms=wire[6],
            time_ms=wire[7],
            end_reason=wire[8],
            winner=wire[9],
            team_scores=wire[10],
            player_count=wire[11],
            properties=[Property.from_wire(each) for each in wire[12]],
            tags=wire[13],
            own=OwnLine.from_wire(wire[14]) if n > 14 and wire[14] is not None else None,
        )


@dataclass(frozen=True, slots=True)
class PageLine:
    """A player's line. `name`: as another game's log has it, or the display name. `best_streak`,
    `played_ms`, `named_medals`, and by how much the rating changed (`mu` and the logarithm of
    sigma, in millionths), once the result is in the player's career.
    """

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
    named_medals: list[MedalCount] = field(default_factory=list)
    mu: int = 0
    log_sigma: int = 0

    def to_wire(self) -> list[Any]:
        return [
            self.player,
            self.name,
            self.team,
            self.present,
            self.result,
            self.kills,
            self.deaths,
            self.assists,
            self.medals,
            self.objectives,
            self.score,
            self.best_streak,
            self.played_ms,
            [each.to_wire() for each in self.named_medals],
            self.mu,
            self.log_sigma,
        ]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PageLine":
        n = check_length(wire, 11, "PageLine")
        return cls(
            player=wire[0],
            name=wire[1],
            team=wire[2],
            present=wire[3],
            result=wire[4],
            kills=wire[5],
            deaths=wire[6],
            assists=wire[7],
            medals=wire[8],
            objectives=wire[9],
            score=wire[10],
            best_streak=wire[11] if n > 11 else 0,
            played_ms=wire[12] if n > 12 else 0,
            named_medals=[MedalCount.from_wire(each) for each in wire[13]] if n > 13 else [],
            mu=wire[14] if n > 14 else 0,
            log_sigma=wire[15] if n > 15 else 0,
        )


@dataclass(frozen=True, slots=True)
class Created(Event):
    """A match was made. It counts by version `rules` of its mode, for ever."""

    TYPE: ClassVar[str] = "created"
    time_ms: int
    host: str
    options: MatchOptions
    wall_ms: int
    rules: int = 1

    def to_wire(self) -> list[Any]:
        return ["created", self.time_ms, self.host, self.options.to_wire(), self.wall_ms, self.rules]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Created":
        n = check_length(wire, 5, "created")
        return cls(
            time_ms=wire[1],
            host=wire[2],
            options=MatchOptions.from_wire(wire[3]),
            wall_ms=wire[4],
            rules=wire[5] if n > 5 else 1,
        )


@dataclass(frozen=True, slots=True)
class Joined(Event):
    """`number` is that of the membership that begins, rising in each match (0 in logs of earlier
    versions).
    """

    TYPE: ClassVar[str] = "joined"
    time_ms: int
    player: str
    team: int | None
    number: int = 0

    def to_wire(self) -> list[Any]:
        return ["joined", self.time_ms, self.player, self.team, self.number]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Joined":
        n = check_length(wire, 4, "joined")
        return cls(time_ms=wire[1], player=wire[2], team=wire[3], number=wire[4] if n > 4 else 0)


@dataclass(frozen=True, slots=True)
class Left(Event):
    """A player left: `reason` is `left`, `disconnected`, or `in_another_match` (the match does not
    take players out of others, and this one was in another by then).
    """

    TYPE: ClassVar[str] = "left"
    time_ms: int
    player: str
    reason: str

    def to_wire(self) -> list[Any]:
        return ["left", self.time_ms, self.player, self.reason]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Left":
        check_length(wire, 4, "left")
        return cls(time_ms=wire[1], player=wire[2], reason=wire[3])


@dataclass(frozen=True, slots=True)
class Countdown(Event):
    """A countdown of `length_ms` began at Unix time `wall_ms` (0 in logs of earlier versions)."""

    TYPE: ClassVar[str] = "countdown"
    time_ms: int
    length_ms: int
    wall_ms: int = 0

    def to_wire(self) -> list[Any]:
        return ["countdown", self.time_ms, self.length_ms, self.wall_ms]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Countdown":
        n = check_length(wire, 3, "countdown")
        return cls(time_ms=wire[1], length_ms=wire[2], wall_ms=wire[3] if n > 3 else 0)


@dataclass(frozen=True, slots=True)
class Started(Event):
    """An event of a stream."""

    TYPE: ClassVar[str] = "started"
    time_ms: int
    wall_ms: int

    def to_wire(self) -> list[Any]:
        return ["started", self.time_ms, self.wall_ms]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Started":
        check_length(wire, 3, "started")
        return cls(time_ms=wire[1], wall_ms=wire[2])


@dataclass(frozen=True, slots=True)
class Ended(Event):
    """The end of the match. `winner` is a player, `team:N`, or None for a draw. `rated`: events of
    that name follow.
    """

    TYPE: ClassVar[str] = "ended"
    time_ms: int
    reason: Literal["abandoned", "host_ended", "host_vanished", "score", "time"]
    winner: str | None
    wall_ms: int
    rated: bool = False

    def to_wire(self) -> list[Any]:
        return ["ended", self.time_ms, self.reason, self.winner, self.wall_ms, self.rated]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Ended":
        n = check_length(wire, 5, "ended")
        return cls(time_ms=wire[1], reason=wire[2], winner=wire[3], wall_ms=wire[4], rated=wire[5] if n > 5 else False)


@dataclass(frozen=True, slots=True)
class PartyPlace:
    """A member of a party on the roster; `number` is that of the membership that begins."""

    player: str
    team: int | None
    number: int

    def to_wire(self) -> list[Any]:
        return [self.player, self.team, self.number]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PartyPlace":
        check_length(wire, 3, "PartyPlace")
        return cls(player=wire[0], team=wire[1], number=wire[2])


@dataclass(frozen=True, slots=True)
class PartyJoined(Event):
    """A party came, all of it at once. `number` is the party's own, of this coming."""

    TYPE: ClassVar[str] = "party_joined"
    time_ms: int
    party: str
    number: int
    members: list[PartyPlace]

    def to_wire(self) -> list[Any]:
        return ["party_joined", self.time_ms, self.party, self.number, [each.to_wire() for each in self.members]]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PartyJoined":
        check_length(wire, 5, "party_joined")
        return cls(
            time_ms=wire[1],
            party=wire[2],
            number=wire[3],
            members=[PartyPlace.from_wire(each) for each in wire[4]],
        )


@dataclass(frozen=True, slots=True)
class PasswordSet(Event):
    """A password lets into the match: scrypt's `digest` of it with `salt`, both as hexadecimal digits."""

    TYPE: ClassVar[str] = "password_set"
    time_ms: int
    salt: str
    digest: str

    def to_wire(self) -> list[Any]:
        return ["password_set", self.time_ms, self.salt, self.digest]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PasswordSet":
        check_length(wire, 4, "password_set")
        return cls(time_ms=wire[1], salt=wire[2], digest=wire[3])


@dataclass(frozen=True, slots=True)
class Invited(Event):
    """Players may come in. `by` invited them; it is empty where the host let them in without a word to
    them.
    """

    TYPE: ClassVar[str] = "invited"
    time_ms: int
    by: str
    players: list[str]

    def to_wire(self) -> list[Any]:
        return ["invited", self.time_ms, self.by, self.players]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Invited":
        check_length(wire, 4, "invited")
        return cls(time_ms=wire[1], by=wire[2], players=wire[3])


@dataclass(frozen=True, slots=True)
class Uninvited(Event):
    """Players may not come in any more, unless something else lets them in."""

    TYPE: ClassVar[str] = "uninvited"
    time_ms: int
    players: list[str]

    def to_wire(self) -> list[Any]:
        return ["uninvited", self.time_ms, self.players]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Uninvited":
        check_length(wire, 3, "uninvited")
        return cls(time_ms=wire[1], players=wire[2])


@dataclass(frozen=True, slots=True)
class Reserved(Event):
    """Places are kept until Unix time `until_wall_ms`, or, where that is 0, kept no longer: one for
    each of `players`, and `places` for `party`.
    """

    TYPE: ClassVar[str] = "reserved"
    time_ms: int
    players: list[str]
    party: str | None
    places: int
    until_wall_ms: int
    wall_ms: int

    def to_wire(self) -> list[Any]:
        return ["reserved", self.time_ms, self.players, self.party, self.places, self.until_wall_ms, self.wall_ms]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Reserved":
        check_length(wire, 7, "reserved")
        return cls(
            time_ms=wire[1],
            players=wire[2],
            party=wire[3],
            places=wire[4],
            until_wall_ms=wire[5],
            wall_ms=wire[6],
        )


@dataclass(frozen=True, slots=True)
class Kicked(Event):
    """The host removed a player, who may not come back until `unkicked` names the same `number`."""

    TYPE: ClassVar[str] = "kicked"
    time_ms: int
    player: str
    reason: str
    number: int

    def to_wire(self) -> list[Any]:
        return ["kicked", self.time_ms, self.player, self.reason, self.number]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Kicked":
        check_length(wire, 5, "kicked")
        return cls(time_ms=wire[1], player=wire[2], reason=wire[3], number=wire[4])


@dataclass(frozen=True, slots=True)
class Unkicked(Event):
    """An event of a stream."""

    TYPE: ClassVar[str] = "unkicked"
    time_ms: int
    player: str
    number: int

    def to_wire(self) -> list[Any]:
        return ["unkicked", self.time_ms, self.player, self.number]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Unkicked":
        check_length(wire, 4, "unkicked")
        return cls(time_ms=wire[1], player=wire[2], number=wire[3])


@dataclass(frozen=True, slots=True)
class SuccessorNamed(Event):
    """The host said who takes over from it; None: nobody."""

    TYPE: ClassVar[str] = "successor_named"
    time_ms: int
    host: str | None

    def to_wire(self) -> list[Any]:
        return ["successor_named", self.time_ms, self.host]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "SuccessorNamed":
        check_length(wire, 3, "successor_named")
        return cls(time_ms=wire[1], host=wire[2])


@dataclass(frozen=True, slots=True)
class HostChanged(Event):
    """The match has another host, since the one before `passed` its role on or was `silent`. `term` is
    the number of this event, which the new host's commands name.
    """

    TYPE: ClassVar[str] = "host_changed"
    time_ms: int
    host: str
    reason: Literal["passed", "silent"]
    term: int
    wall_ms: int

    def to_wire(self) -> list[Any]:
        return ["host_changed", self.time_ms, self.host, self.reason, self.term, self.wall_ms]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "HostChanged":
        check_length(wire, 6, "host_changed")
        return cls(time_ms=wire[1], host=wire[2], reason=wire[3], term=wire[4], wall_ms=wire[5])


@dataclass(frozen=True, slots=True)
class RoundEnded(Event):
    """The end of a round, of a mode that has several: by score or by time, won by `team:N`, or by
    nobody. The teams' scores, which were `team_scores`, begin anew.
    """

    TYPE: ClassVar[str] = "round_ended"
    time_ms: int
    number: int
    reason: Literal["score", "time"]
    winner: str | None
    team_scores: list[int]
    wall_ms: int

    def to_wire(self) -> list[Any]:
        return ["round_ended", self.time_ms, self.number, self.reason, self.winner, self.team_scores, self.wall_ms]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "RoundEnded":
        check_length(wire, 7, "round_ended")
        return cls(
            time_ms=wire[1],
            number=wire[2],
            reason=wire[3],
            winner=wire[4],
            team_scores=wire[5],
            wall_ms=wire[6],
        )


@dataclass(frozen=True, slots=True)
class Described(Event):
    """The host has said what to search the match by: `properties` are set, or taken away by None,
    others stay; `tags` replace those before them, None leaves them.
    """

    TYPE: ClassVar[str] = "described"
    time_ms: int
    properties: list[Property]
    tags: list[str] | None

    def to_wire(self) -> list[Any]:
        return ["described", self.time_ms, [each.to_wire() for each in self.properties], self.tags]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Described":
        check_length(wire, 4, "described")
        return cls(time_ms=wire[1], properties=[Property.from_wire(each) for each in wire[2]], tags=wire[3])


@dataclass(frozen=True, slots=True)
class Named(Event):
    """The display name of a player, from here on, as another game's log has it. `local`: nobody but
    this match knows the player (a bot, or somebody known by a slot of the server), who has no
    career.
    """

    TYPE: ClassVar[str] = "named"
    time_ms: int
    player: str
    name: str
    local: bool = False

    def to_wire(self) -> list[Any]:
        return ["named", self.time_ms, self.player, self.name, self.local]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Named":
        n = check_length(wire, 4, "named")
        return cls(time_ms=wire[1], player=wire[2], name=wire[3], local=wire[4] if n > 4 else False)


@dataclass(frozen=True, slots=True)
class Result:
    """Addition of a match to the career of `player`, beside its line of the scoreboard. `best_streak`:
    most kills in a row without dying; `played_ms`: time in the match while it was live; `medals`:
    by name. `mu` and `log_sigma` are added to the rating, in millionths.
    """

    player: str
    best_streak: int = 0
    played_ms: int = 0
    medals: list[MedalCount] = field(default_factory=list)
    mu: int = 0
    log_sigma: int = 0

    def to_wire(self) -> list[Any]:
        return [
            self.player,
            self.best_streak,
            self.played_ms,
            [each.to_wire() for each in self.medals],
            self.mu,
            self.log_sigma,
        ]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Result":
        n = check_length(wire, 1, "Result")
        return cls(
            player=wire[0],
            best_streak=wire[1] if n > 1 else 0,
            played_ms=wire[2] if n > 2 else 0,
            medals=[MedalCount.from_wire(each) for each in wire[3]] if n > 3 else [],
            mu=wire[4] if n > 4 else 0,
            log_sigma=wire[5] if n > 5 else 0,
        )


@dataclass(frozen=True, slots=True)
class Rated(Event):
    """Results of a match that is over, in the order of names. `season` is the one that the match began
    in; `rating_group` names the ratings that change, empty where none does. `more`: another such
    event follows.
    """

    TYPE: ClassVar[str] = "rated"
    time_ms: int
    season: str
    rating_group: str
    results: list[Result]
    more: bool = False

    def to_wire(self) -> list[Any]:
        return [
            "rated",
            self.time_ms,
            self.season,
            self.rating_group,
            [each.to_wire() for each in self.results],
            self.more,
        ]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Rated":
        n = check_length(wire, 5, "rated")
        return cls(
            time_ms=wire[1],
            season=wire[2],
            rating_group=wire[3],
            results=[Result.from_wire(each) for each in wire[4]],
            more=wire[5] if n > 5 else False,
        )


@dataclass(frozen=True, slots=True)
class DeviceLine:
    """A session of a player, as the player itself sees it: its kind, the program that it named, the
    status that it chose last (empty: none yet) and its line of rich presence.
    """

    kind: str = ""
    client: str = ""
    status: Literal["", "away", "busy", "invisible", "online"] = ""
    activity: str = ""

    def to_wire(self) -> list[Any]:
        return [self.kind, self.client, self.status, self.activity]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "DeviceLine":
        n = check_length(wire, 0, "DeviceLine")
        return cls(
            kind=wire[0] if n > 0 else "",
            client=wire[1] if n > 1 else "",
            status=wire[2] if n > 2 else "",
            activity=wire[3] if n > 3 else "",
        )


@dataclass(frozen=True, slots=True)
class PlayerPicture:
    """A player as somebody sees it: the value that who watches players gets. The array may end early,
    fields that are left out are their defaults. Everybody sees `status` and `last_seen_ms`, friends
    the rest, the player itself its `devices` too. An invisible player is `offline` to others;
    `unknown`: nobody can say right now.

    `last_seen_ms`: Wall time at which an offline player was here last; 0 for never, and for who is
    here now.
    """

    status: Literal["away", "busy", "invisible", "offline", "online", "unknown"] = "offline"
    last_seen_ms: int = 0
    activity: str = ""
    match: str | None = None
    rich: RichPresence | None = None
    devices: list[DeviceLine] = field(default_factory=list)

    def to_wire(self) -> list[Any]:
        return [
            self.status,
            self.last_seen_ms,
            self.activity,
            self.match,
            None if self.rich is None else self.rich.to_wire(),
            [each.to_wire() for each in self.devices],
        ]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PlayerPicture":
        n = check_length(wire, 0, "PlayerPicture")
        return cls(
            status=wire[0] if n > 0 else "offline",
            last_seen_ms=wire[1] if n > 1 else 0,
            activity=wire[2] if n > 2 else "",
            match=wire[3] if n > 3 else None,
            rich=RichPresence.from_wire(wire[4]) if n > 4 and wire[4] is not None else None,
            devices=[DeviceLine.from_wire(each) for each in wire[5]] if n > 5 else [],
        )


StreamEvent = (
    Kill
    | Death
    | Assist
    | Medal
    | Objective
    | Score
    | Created
    | Joined
    | Left
    | Countdown
    | Started
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
"""The events of a stream."""


_EVENTS: dict[str, Callable[[Sequence[Any]], Event]] = {
    "kill": Kill.from_wire,
    "death": Death.from_wire,
    "assist": Assist.from_wire,
    "medal": Medal.from_wire,
    "objective": Objective.from_wire,
    "score": Score.from_wire,
    "created": Created.from_wire,
    "joined": Joined.from_wire,
    "left": Left.from_wire,
    "countdown": Countdown.from_wire,
    "started": Started.from_wire,
    "ended": Ended.from_wire,
    "party_joined": PartyJoined.from_wire,
    "password_set": PasswordSet.from_wire,
    "invited": Invited.from_wire,
    "uninvited": Uninvited.from_wire,
    "reserved": Reserved.from_wire,
    "kicked": Kicked.from_wire,
    "unkicked": Unkicked.from_wire,
    "successor_named": SuccessorNamed.from_wire,
    "host_changed": HostChanged.from_wire,
    "round_ended": RoundEnded.from_wire,
    "described": Described.from_wire,
    "named": Named.from_wire,
    "rated": Rated.from_wire,
}


def read_event(wire: Sequence[Any]) -> Event:
    """The stream event in an array; one of a newer server is an `UnknownEvent`."""
    read = _EVENTS.get(wire[0]) if wire else None
    return UnknownEvent(tuple(wire)) if read is None else read(wire)


def _read_one_of(wire: Sequence[Any]) -> Any:
    return read_event(wire)


@dataclass(frozen=True, slots=True)
class Welcome(Reply):
    """A reply.

    `recovered`: True: everything after `ack` follows, in order. False: subscribe again.

    `token_expires_in_ms`: Time for which the session's token is good from now on; then the
    connection is closed with 4002. 0: not told.

    `presence`: True: the session goes on watching the players that it watched, from the cursor that
    `hello` named. False: it watches nobody; watch again, with the versions that you have.
    """

    TYPE: ClassVar[str] = "welcome"
    session: str
    node: str
    subject: str
    role: str
    resume: str
    recovered: bool
    heartbeat_interval_ms: int
    resume_window_ms: int
    max_frame_bytes: int
    server_time_ms: int
    token_expires_in_ms: int = 0
    presence: bool = False
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return [
            "welcome",
            self.id,
            self.session,
            self.node,
            self.subject,
            self.role,
            self.resume,
            self.recovered,
            self.heartbeat_interval_ms,
            self.resume_window_ms,
            self.max_frame_bytes,
            self.server_time_ms,
            self.token_expires_in_ms,
            self.presence,
        ]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Welcome":
        n = check_length(wire, 12, "welcome")
        return cls(
            id=wire[1],
            session=wire[2],
            node=wire[3],
            subject=wire[4],
            role=wire[5],
            resume=wire[6],
            recovered=wire[7],
            heartbeat_interval_ms=wire[8],
            resume_window_ms=wire[9],
            max_frame_bytes=wire[10],
            server_time_ms=wire[11],
            token_expires_in_ms=wire[12] if n > 12 else 0,
            presence=wire[13] if n > 13 else False,
        )


@dataclass(frozen=True, slots=True)
class Redirect(Reply):
    """Connect to `url` instead; the server closes with 4005 after this."""

    TYPE: ClassVar[str] = "redirect"
    url: str
    node: str
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["redirect", self.id, self.url, self.node]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Redirect":
        check_length(wire, 4, "redirect")
        return cls(id=wire[1], url=wire[2], node=wire[3])


@dataclass(frozen=True, slots=True)
class Beat(Reply):
    """The answer to one heartbeat."""

    TYPE: ClassVar[str] = "beat"
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["beat", self.id]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Beat":
        check_length(wire, 2, "beat")
        return cls(id=wire[1])


@dataclass(frozen=True, slots=True)
class Beats(Notice):
    """Acknowledges all heartbeats with id 0 so far; `count` of them took effect since the session
    began.
    """

    TYPE: ClassVar[str] = "beats"
    count: int

    def to_wire(self) -> list[Any]:
        return ["beats", self.count]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Beats":
        check_length(wire, 2, "beats")
        return cls(count=wire[1])


@dataclass(frozen=True, slots=True)
class Watching(Reply):
    """A reply."""

    TYPE: ClassVar[str] = "watching"
    topic: str
    next_seq: int
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["watching", self.id, self.topic, self.next_seq]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Watching":
        check_length(wire, 4, "watching")
        return cls(id=wire[1], topic=wire[2], next_seq=wire[3])


@dataclass(frozen=True, slots=True)
class Done(Reply):
    """A success that carries nothing more."""

    TYPE: ClassVar[str] = "done"
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["done", self.id]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Done":
        check_length(wire, 2, "done")
        return cls(id=wire[1])


@dataclass(frozen=True, slots=True)
class Events(Push):
    """Durable events `first_seq`, `first_seq + 1`, … of stream `topic`. `mark`: a hash of the log up
    to the last of them; empty where it is not at hand.
    """

    TYPE: ClassVar[str] = "events"
    topic: str
    first_seq: int
    events: list[Event]
    mark: str = ""
    seq: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["events", self.seq, self.topic, self.first_seq, [each.to_wire() for each in self.events], self.mark]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Events":
        n = check_length(wire, 5, "events")
        return cls(
            seq=wire[1],
            topic=wire[2],
            first_seq=wire[3],
            events=[read_event(each) for each in wire[4]],
            mark=wire[5] if n > 5 else "",
        )


@dataclass(frozen=True, slots=True)
class WatchEnded(Push):
    """Stream `topic` is not watched any more: its actor does not let this client watch it now, which
    `code` says: `forbidden`. No event follows.
    """

    TYPE: ClassVar[str] = "watch_ended"
    topic: str
    code: str
    seq: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["watch_ended", self.seq, self.topic, self.code]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "WatchEnded":
        check_length(wire, 4, "watch_ended")
        return cls(seq=wire[1], topic=wire[2], code=wire[3])


@dataclass(frozen=True, slots=True)
class Failed(Reply):
    """The typed error of request `id` (0 where no id could be read)."""

    TYPE: ClassVar[str] = "error"
    code: str
    message: str
    retry_after_ms: int | None = None
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["error", self.id, self.code, self.message, self.retry_after_ms]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Failed":
        n = check_length(wire, 4, "error")
        return cls(id=wire[1], code=wire[2], message=wire[3], retry_after_ms=wire[4] if n > 4 else None)


@dataclass(frozen=True, slots=True)
class Going(Push):
    """This session moves: resume it at `url` (any node if empty) within `within_ms`."""

    TYPE: ClassVar[str] = "going"
    url: str
    within_ms: int
    seq: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["going", self.seq, self.url, self.within_ms]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Going":
        check_length(wire, 4, "going")
        return cls(seq=wire[1], url=wire[2], within_ms=wire[3])


@dataclass(frozen=True, slots=True)
class Snapshot(Reply):
    """All keys of latest topic `topic`. `cursor` names this picture, for a `hello` that resumes."""

    TYPE: ClassVar[str] = "snapshot"
    topic: str
    cursor: str
    items: list[LatestItem]
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["snapshot", self.id, self.topic, self.cursor, [each.to_wire() for each in self.items]]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Snapshot":
        check_length(wire, 5, "snapshot")
        return cls(id=wire[1], topic=wire[2], cursor=wire[3], items=[LatestItem.from_wire(each) for each in wire[4]])


@dataclass(frozen=True, slots=True)
class Latest(Notice):
    """Keys of latest topic `topic` that changed since the picture that was sent before. No push: it
    has no number, is not acknowledged and not sent again; a client that reads slowly gets fewer and
    newer. `whole`: these are all keys, and others are gone.
    """

    TYPE: ClassVar[str] = "latest"
    topic: str
    cursor: str
    whole: bool
    items: list[LatestItem]

    def to_wire(self) -> list[Any]:
        return ["latest", self.topic, self.cursor, self.whole, [each.to_wire() for each in self.items]]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Latest":
        check_length(wire, 5, "latest")
        return cls(topic=wire[1], cursor=wire[2], whole=wire[3], items=[LatestItem.from_wire(each) for each in wire[4]])


@dataclass(frozen=True, slots=True)
class Renewed(Reply):
    """The session's token is good for so long from now on."""

    TYPE: ClassVar[str] = "renewed"
    token_expires_in_ms: int
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["renewed", self.id, self.token_expires_in_ms]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Renewed":
        check_length(wire, 3, "renewed")
        return cls(id=wire[1], token_expires_in_ms=wire[2])


@dataclass(frozen=True, slots=True)
class PresenceWatched(Reply):
    """The presence of all that were asked for has been sent. `watched`: players that the session
    watches now. `bad`: names that no player can have, which are not watched.
    """

    TYPE: ClassVar[str] = "presence.watched"
    cursor: str
    watched: int
    bad: list[str] = field(default_factory=list)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["presence.watched", self.id, self.cursor, self.watched, self.bad]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PresenceWatched":
        n = check_length(wire, 4, "presence.watched")
        return cls(id=wire[1], cursor=wire[2], watched=wire[3], bad=wire[4] if n > 4 else [])


@dataclass(frozen=True, slots=True)
class PresenceListed(Reply):
    """The presence of the players that were asked for; `bad`: names that no player can have."""

    TYPE: ClassVar[str] = "presence.listed"
    items: list[PresenceItem]
    bad: list[str] = field(default_factory=list)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["presence.listed", self.id, [each.to_wire() for each in self.items], self.bad]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PresenceListed":
        n = check_length(wire, 3, "presence.listed")
        return cls(id=wire[1], items=[PresenceItem.from_wire(each) for each in wire[2]], bad=wire[3] if n > 3 else [])


@dataclass(frozen=True, slots=True)
class PresenceChanges(Notice):
    """The newest presence of watched players. No push: it has no number, is not acknowledged and not
    sent again; a client that reads slowly gets fewer and newer. `cursor`: for a `hello` that
    resumes; empty while more of the same follows: keep the one before.
    """

    TYPE: ClassVar[str] = "presence.changes"
    cursor: str
    items: list[PresenceItem]

    def to_wire(self) -> list[Any]:
        return ["presence.changes", self.cursor, [each.to_wire() for each in self.items]]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PresenceChanges":
        check_length(wire, 3, "presence.changes")
        return cls(cursor=wire[1], items=[PresenceItem.from_wire(each) for each in wire[2]])


@dataclass(frozen=True, slots=True)
class PresenceFriends(Notice):
    """All players that are watched as friends now. Comes before the answer of a `presence.watch` with
    `friends`, and whenever the list has changed. No push, like `presence.changes`, in which it is
    told how they are.
    """

    TYPE: ClassVar[str] = "presence.friends"
    players: list[str]

    def to_wire(self) -> list[Any]:
        return ["presence.friends", self.players]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PresenceFriends":
        check_length(wire, 2, "presence.friends")
        return cls(players=wire[1])


@dataclass(frozen=True, slots=True)
class ReplayStatus(Reply):
    """A replay as it is now: its clock, and the number of the next event to come. `end_seq` is the
    number that the log's next event would have, `end_ms` the clock up to which it can be seen;
    `finished`: nothing is added to it any more.
    """

    TYPE: ClassVar[str] = "replay.status"
    replay: int
    time_ms: int
    speed: int
    playing: bool
    next_seq: int
    end_seq: int
    end_ms: int
    finished: bool
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return [
            "replay.status",
            self.id,
            self.replay,
            self.time_ms,
            self.speed,
            self.playing,
            self.next_seq,
            self.end_seq,
            self.end_ms,
            self.finished,
        ]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "ReplayStatus":
        check_length(wire, 10, "replay.status")
        return cls(
            id=wire[1],
            replay=wire[2],
            time_ms=wire[3],
            speed=wire[4],
            playing=wire[5],
            next_seq=wire[6],
            end_seq=wire[7],
            end_ms=wire[8],
            finished=wire[9],
        )


@dataclass(frozen=True, slots=True)
class ReplayScene(Push):
    """A replay shows another place: forget what you show of it. `scene` is the whole state before
    event `next_seq`, as the application shows it, at clock `time_ms`.
    """

    TYPE: ClassVar[str] = "replay.scene"
    replay: int
    next_seq: int
    time_ms: int
    scene: Any
    seq: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["replay.scene", self.seq, self.replay, self.next_seq, self.time_ms, self.scene]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "ReplayScene":
        check_length(wire, 6, "replay.scene")
        return cls(seq=wire[1], replay=wire[2], next_seq=wire[3], time_ms=wire[4], scene=wire[5])


@dataclass(frozen=True, slots=True)
class ReplayEvents(Push):
    """The next events of a replay, whose clock is `time_ms`."""

    TYPE: ClassVar[str] = "replay.events"
    replay: int
    time_ms: int
    events: list[ReplayedEvent]
    seq: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["replay.events", self.seq, self.replay, self.time_ms, [each.to_wire() for each in self.events]]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "ReplayEvents":
        check_length(wire, 5, "replay.events")
        return cls(
            seq=wire[1],
            replay=wire[2],
            time_ms=wire[3],
            events=[ReplayedEvent.from_wire(each) for each in wire[4]],
        )


@dataclass(frozen=True, slots=True)
class ReplayGap(Push):
    """Events `first_seq` to `last_seq` of the log cannot be read, for the reason in `why`. A
    `replay.scene` follows where it goes on after them.
    """

    TYPE: ClassVar[str] = "replay.gap"
    replay: int
    first_seq: int
    last_seq: int
    why: str
    seq: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["replay.gap", self.seq, self.replay, self.first_seq, self.last_seq, self.why]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "ReplayGap":
        check_length(wire, 6, "replay.gap")
        return cls(seq=wire[1], replay=wire[2], first_seq=wire[3], last_seq=wire[4], why=wire[5])


@dataclass(frozen=True, slots=True)
class ReplayState(Push):
    """The clock of a replay stands at `time_ms`, since `why`: `end` (all of the log was shown, the
    replay is paused), `limit` (more may not be seen yet, or has not happened: it goes on with
    whatever can be seen), `slow` (the client does not acknowledge what it was sent). Empty: it goes
    on after `slow`.
    """

    TYPE: ClassVar[str] = "replay.state"
    replay: int
    time_ms: int
    why: str
    seq: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["replay.state", self.seq, self.replay, self.time_ms, self.why]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "ReplayState":
        check_length(wire, 5, "replay.state")
        return cls(seq=wire[1], replay=wire[2], time_ms=wire[3], why=wire[4])


@dataclass(frozen=True, slots=True)
class ReplayEnded(Push):
    """A replay is over, and was at clock `time_ms` before event `next_seq`. `code`: `moved` (the
    session goes to another node: open it again from there), `history_changed` (the log is not the
    one that it was any more), or the code of the error that ended it.
    """

    TYPE: ClassVar[str] = "replay.ended"
    replay: int
    time_ms: int
    next_seq: int
    code: str
    seq: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["replay.ended", self.seq, self.replay, self.time_ms, self.next_seq, self.code]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "ReplayEnded":
        check_length(wire, 6, "replay.ended")
        return cls(seq=wire[1], replay=wire[2], time_ms=wire[3], next_seq=wire[4], code=wire[5])


@dataclass(frozen=True, slots=True)
class Presence(Reply):
    """A player as the asking one may see it (an invisible player is `offline` to others).
    `last_seen_ms` is wall time, 0 if never.
    """

    TYPE: ClassVar[str] = "presence"
    player: str
    status: Literal["away", "busy", "invisible", "offline", "online", "unknown"]
    activity: str
    match: str | None
    last_seen_ms: int
    rich: RichPresence | None = None
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return [
            "presence",
            self.id,
            self.player,
            self.status,
            self.activity,
            self.match,
            self.last_seen_ms,
            None if self.rich is None else self.rich.to_wire(),
        ]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Presence":
        n = check_length(wire, 7, "presence")
        return cls(
            id=wire[1],
            player=wire[2],
            status=wire[3],
            activity=wire[4],
            match=wire[5],
            last_seen_ms=wire[6],
            rich=RichPresence.from_wire(wire[7]) if n > 7 and wire[7] is not None else None,
        )


@dataclass(frozen=True, slots=True)
class Profile(Reply):
    """A reply."""

    TYPE: ClassVar[str] = "profile"
    player: str
    display_name: str
    emblem: str
    matches: int
    kills: int
    deaths: int
    assists: int
    medals: int
    wins: int
    version: int
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return [
            "profile",
            self.id,
            self.player,
            self.display_name,
            self.emblem,
            self.matches,
            self.kills,
            self.deaths,
            self.assists,
            self.medals,
            self.wins,
            self.version,
        ]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Profile":
        check_length(wire, 12, "profile")
        return cls(
            id=wire[1],
            player=wire[2],
            display_name=wire[3],
            emblem=wire[4],
            matches=wire[5],
            kills=wire[6],
            deaths=wire[7],
            assists=wire[8],
            medals=wire[9],
            wins=wire[10],
            version=wire[11],
        )


@dataclass(frozen=True, slots=True)
class Saved(Reply):
    """A durable change was accepted; `version` is the entity's version that holds it."""

    TYPE: ClassVar[str] = "saved"
    entity: str
    version: int
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["saved", self.id, self.entity, self.version]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Saved":
        check_length(wire, 4, "saved")
        return cls(id=wire[1], entity=wire[2], version=wire[3])


@dataclass(frozen=True, slots=True)
class Accepted(Reply):
    """A match command took effect and is durable: its events are `first_seq` to `next_seq - 1` (none
    if they are equal).
    """

    TYPE: ClassVar[str] = "accepted"
    match: str
    first_seq: int
    next_seq: int
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["accepted", self.id, self.match, self.first_seq, self.next_seq]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Accepted":
        check_length(wire, 5, "accepted")
        return cls(id=wire[1], match=wire[2], first_seq=wire[3], next_seq=wire[4])


@dataclass(frozen=True, slots=True)
class Scoreboard(Reply):
    """A match and its players: by team, then points, then kills, then name. `next` is the cursor for
    the next page, None where this is the last; `player_count` counts the rows of all pages.

    `term`: The number of the event that made `host` the host.

    `rules`: The version of the mode's rules.

    `respawn_ms`: Time from a death until the player is there again, as the mode has it.

    `rounds_won`: Rounds that each team has won; empty until one is over.
    """

    TYPE: ClassVar[str] = "scoreboard"
    match: str
    phase: Literal["countdown", "ended", "live", "lobby"]
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
    private: bool = False
    rules: int = 1
    respawn_ms: int = 0
    rounds_won: list[int] = field(default_factory=list)
    rounds_played: int = 0
    properties: list[Property] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return [
            "scoreboard",
            self.id,
            self.match,
            self.phase,
            self.mode,
            self.map_name,
            self.host,
            self.time_ms,
            self.team_scores,
            [each.to_wire() for each in self.players],
            self.next_seq,
            self.winner,
            self.end_reason,
            self.next,
            self.player_count,
            self.term,
            self.private,
            self.rules,
            self.respawn_ms,
            self.rounds_won,
            self.rounds_played,
            [each.to_wire() for each in self.properties],
            self.tags,
        ]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Scoreboard":
        n = check_length(wire, 13, "scoreboard")
        return cls(
            id=wire[1],
            match=wire[2],
            phase=wire[3],
            mode=wire[4],
            map_name=wire[5],
            host=wire[6],
            time_ms=wire[7],
            team_scores=wire[8],
            players=[PlayerLine.from_wire(each) for each in wire[9]],
            next_seq=wire[10],
            winner=wire[11],
            end_reason=wire[12],
            next=wire[13] if n > 13 else None,
            player_count=wire[14] if n > 14 else 0,
            term=wire[15] if n > 15 else 1,
            private=wire[16] if n > 16 else False,
            rules=wire[17] if n > 17 else 1,
            respawn_ms=wire[18] if n > 18 else 0,
            rounds_won=wire[19] if n > 19 else [],
            rounds_played=wire[20] if n > 20 else 0,
            properties=[Property.from_wire(each) for each in wire[21]] if n > 21 else [],
            tags=wire[22] if n > 22 else [],
        )


@dataclass(frozen=True, slots=True)
class Matches(Reply):
    """Live matches. `missing` names the nodes that did not answer in time: the list lacks theirs.
    `next` is the cursor for the next page, None where this is the last one.
    """

    TYPE: ClassVar[str] = "matches"
    matches: list[MatchRow]
    missing: list[str]
    next: str | None = None
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["matches", self.id, [each.to_wire() for each in self.matches], self.missing, self.next]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Matches":
        n = check_length(wire, 4, "matches")
        return cls(
            id=wire[1],
            matches=[MatchRow.from_wire(each) for each in wire[2]],
            missing=wire[3],
            next=wire[4] if n > 4 else None,
        )


@dataclass(frozen=True, slots=True)
class MatchAssigned(Push):
    """Sent to a player that joined a match, so that every client of the player may watch it."""

    TYPE: ClassVar[str] = "match.assigned"
    match: str
    seq: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["match.assigned", self.seq, self.match]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "MatchAssigned":
        check_length(wire, 3, "match.assigned")
        return cls(seq=wire[1], match=wire[2])


@dataclass(frozen=True, slots=True)
class Career(Reply):
    """Totals by season and mode, at most 200 of them, and ratings. A result counts as soon as the
    player has it; win streaks are as they are stored.
    """

    TYPE: ClassVar[str] = "career"
    player: str
    lines: list[CareerLine]
    ratings: list[RatingLine]
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return [
            "career",
            self.id,
            self.player,
            [each.to_wire() for each in self.lines],
            [each.to_wire() for each in self.ratings],
        ]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Career":
        check_length(wire, 5, "career")
        return cls(
            id=wire[1],
            player=wire[2],
            lines=[CareerLine.from_wire(each) for each in wire[3]],
            ratings=[RatingLine.from_wire(each) for each in wire[4]],
        )


@dataclass(frozen=True, slots=True)
class MatchInvited(Push):
    """Sent to a player who may come into a private match."""

    TYPE: ClassVar[str] = "match.invited"
    match: str
    by: str
    seq: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["match.invited", self.seq, self.match, self.by]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "MatchInvited":
        check_length(wire, 4, "match.invited")
        return cls(seq=wire[1], match=wire[2], by=wire[3])


@dataclass(frozen=True, slots=True)
class MatchKicked(Push):
    """Sent to a player whom a match's host has removed."""

    TYPE: ClassVar[str] = "match.kicked"
    match: str
    reason: str
    seq: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["match.kicked", self.seq, self.match, self.reason]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "MatchKicked":
        check_length(wire, 4, "match.kicked")
        return cls(seq=wire[1], match=wire[2], reason=wire[3])


@dataclass(frozen=True, slots=True)
class StandingInfo(Reply):
    """How `subject` stands. Times are Unix ms; an end of 0: not banned, not muted; of 2^53 - 1: for
    good. `act` is the number of the act that this answers, 0 for `moderation.get`; the audit has it
    under the subject and that number.
    """

    TYPE: ClassVar[str] = "standing"
    subject: str
    banned_until_ms: int
    ban_reason: str
    muted_until_ms: int
    mute_reason: str
    tokens_from_ms: int
    act: int
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return [
            "standing",
            self.id,
            self.subject,
            self.banned_until_ms,
            self.ban_reason,
            self.muted_until_ms,
            self.mute_reason,
            self.tokens_from_ms,
            self.act,
        ]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "StandingInfo":
        check_length(wire, 9, "standing")
        return cls(
            id=wire[1],
            subject=wire[2],
            banned_until_ms=wire[3],
            ban_reason=wire[4],
            muted_until_ms=wire[5],
            mute_reason=wire[6],
            tokens_from_ms=wire[7],
            act=wire[8],
        )


@dataclass(frozen=True, slots=True)
class FriendsPage(Reply):
    """Entries by name. `next` is the cursor for the next page, None where this is the last; an entry
    that is there all the while is on one page, whatever changes meanwhile.
    """

    TYPE: ClassVar[str] = "friends"
    friends: list[Friendship]
    next: str | None = None
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["friends", self.id, [each.to_wire() for each in self.friends], self.next]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "FriendsPage":
        n = check_length(wire, 3, "friends")
        return cls(
            id=wire[1],
            friends=[Friendship.from_wire(each) for each in wire[2]],
            next=wire[3] if n > 3 else None,
        )


@dataclass(frozen=True, slots=True)
class RecentPlayers(Reply):
    """A reply."""

    TYPE: ClassVar[str] = "friends.met"
    players: list[RecentPlayer]
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["friends.met", self.id, [each.to_wire() for each in self.players]]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "RecentPlayers":
        check_length(wire, 3, "friends.met")
        return cls(id=wire[1], players=[RecentPlayer.from_wire(each) for each in wire[2]])


@dataclass(frozen=True, slots=True)
class FriendsChanged(Push):
    """An entry of the own list has changed: in `state` now, since Unix time `since_ms`; `none`: it is
    gone.
    """

    TYPE: ClassVar[str] = "friends.changed"
    player: str
    state: Literal["blocked", "friend", "invited", "inviting", "none"]
    since_ms: int
    seq: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["friends.changed", self.seq, self.player, self.state, self.since_ms]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "FriendsChanged":
        check_length(wire, 5, "friends.changed")
        return cls(seq=wire[1], player=wire[2], state=wire[3], since_ms=wire[4])


@dataclass(frozen=True, slots=True)
class PartyInfo(Reply):
    """A party, its members by the length of their membership, and who is invited. `match` is the one
    that it joined last, None if none.
    """

    TYPE: ClassVar[str] = "party"
    party: str
    leader: str
    room: int
    code: str
    match: str | None
    members: list[PartyMember]
    invited: list[str]
    version: int
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return [
            "party",
            self.id,
            self.party,
            self.leader,
            self.room,
            self.code,
            self.match,
            [each.to_wire() for each in self.members],
            self.invited,
            self.version,
        ]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PartyInfo":
        check_length(wire, 10, "party")
        return cls(
            id=wire[1],
            party=wire[2],
            leader=wire[3],
            room=wire[4],
            code=wire[5],
            match=wire[6],
            members=[PartyMember.from_wire(each) for each in wire[7]],
            invited=wire[8],
            version=wire[9],
        )


@dataclass(frozen=True, slots=True)
class PartyInbox(Reply):
    """`party` is the one that the player is in, None if none, `number` that of its membership;
    `invitations` are those that are open, the oldest first.
    """

    TYPE: ClassVar[str] = "party.inbox"
    party: str | None
    number: int
    invitations: list[PartyInvitation]
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["party.inbox", self.id, self.party, self.number, [each.to_wire() for each in self.invitations]]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PartyInbox":
        check_length(wire, 5, "party.inbox")
        return cls(
            id=wire[1],
            party=wire[2],
            number=wire[3],
            invitations=[PartyInvitation.from_wire(each) for each in wire[4]],
        )


@dataclass(frozen=True, slots=True)
class PartyInvited(Push):
    """Somebody invites the player: `by`, a member of `party`; good until `until_ms`, wall time."""

    TYPE: ClassVar[str] = "party.invited"
    party: str
    by: str
    until_ms: int
    seq: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["party.invited", self.seq, self.party, self.by, self.until_ms]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PartyInvited":
        check_length(wire, 5, "party.invited")
        return cls(seq=wire[1], party=wire[2], by=wire[3], until_ms=wire[4])


@dataclass(frozen=True, slots=True)
class PartyAssigned(Push):
    """Sent to a player that is in a party now, so that every client of the player may watch it."""

    TYPE: ClassVar[str] = "party.assigned"
    party: str
    seq: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["party.assigned", self.seq, self.party]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PartyAssigned":
        check_length(wire, 3, "party.assigned")
        return cls(seq=wire[1], party=wire[2])


@dataclass(frozen=True, slots=True)
class PartyOver(Push):
    """Sent to a player whom the party has let go: `reason` is `kicked`, `disbanded` or `away`."""

    TYPE: ClassVar[str] = "party.over"
    party: str
    reason: str
    seq: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["party.over", self.seq, self.party, self.reason]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PartyOver":
        check_length(wire, 4, "party.over")
        return cls(seq=wire[1], party=wire[2], reason=wire[3])


@dataclass(frozen=True, slots=True)
class Board(Reply):
    """Rows of a board in order. `total` counts all its players; `next` is the cursor of the next page,
    None where this is the last, or none of pages. The points of `rating` are thousandths of mu less
    three sigma.
    """

    TYPE: ClassVar[str] = "board"
    rows: list[BoardRow]
    total: int
    next: str | None = None
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["board", self.id, [each.to_wire() for each in self.rows], self.total, self.next]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Board":
        n = check_length(wire, 4, "board")
        return cls(
            id=wire[1],
            rows=[BoardRow.from_wire(each) for each in wire[2]],
            total=wire[3],
            next=wire[4] if n > 4 else None,
        )


@dataclass(frozen=True, slots=True)
class History(Reply):
    """A page. `next` is the cursor of the next one, None where this is the last."""

    TYPE: ClassVar[str] = "history"
    matches: list[HistoryRow]
    next: str | None = None
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["history", self.id, [each.to_wire() for each in self.matches], self.next]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "History":
        n = check_length(wire, 3, "history")
        return cls(
            id=wire[1],
            matches=[HistoryRow.from_wire(each) for each in wire[2]],
            next=wire[3] if n > 3 else None,
        )


@dataclass(frozen=True, slots=True)
class MatchPage(Reply):
    """A match and its players. `team_scores` are of the last round. `next_skip`: the `skip` of the
    next page, None where this is the last. Its log ends before event `next_seq`, where its mark is
    `mark`. `pinned`: it stays whatever the retention says. `redacted`: how often its log was
    chained anew because a person was taken out.
    """

    TYPE: ClassVar[str] = "page"
    match: str
    phase: Literal["countdown", "ended", "live", "lobby"]
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
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return [
            "page",
            self.id,
            self.match,
            self.phase,
            self.mode,
            self.rules,
            self.map_name,
            self.host,
            self.source,
            self.created_wall_ms,
            self.started_wall_ms,
            self.ended_wall_ms,
            self.time_ms,
            self.end_reason,
            self.winner,
            self.team_scores,
            self.teams,
            self.max_players,
            self.score_limit,
            self.time_limit_ms,
            self.join_in_progress,
            self.countdown_ms,
            self.private,
            self.listed,
            self.season,
            self.rating_group,
            [each.to_wire() for each in self.properties],
            self.tags,
            self.player_count,
            [each.to_wire() for each in self.lines],
            self.next_skip,
            self.next_seq,
            self.mark,
            self.pinned,
            self.redacted,
        ]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "MatchPage":
        n = check_length(wire, 33, "page")
        return cls(
            id=wire[1],
            match=wire[2],
            phase=wire[3],
            mode=wire[4],
            rules=wire[5],
            map_name=wire[6],
            host=wire[7],
            source=wire[8],
            created_wall_ms=wire[9],
            started_wall_ms=wire[10],
            ended_wall_ms=wire[11],
            time_ms=wire[12],
            end_reason=wire[13],
            winner=wire[14],
            team_scores=wire[15],
            teams=wire[16],
            max_players=wire[17],
            score_limit=wire[18],
            time_limit_ms=wire[19],
            join_in_progress=wire[20],
            countdown_ms=wire[21],
            private=wire[22],
            listed=wire[23],
            season=wire[24],
            rating_group=wire[25],
            properties=[Property.from_wire(each) for each in wire[26]],
            tags=wire[27],
            player_count=wire[28],
            lines=[PageLine.from_wire(each) for each in wire[29]],
            next_skip=wire[30],
            next_seq=wire[31],
            mark=wire[32],
            pinned=wire[33] if n > 33 else False,
            redacted=wire[34] if n > 34 else 0,
        )


@dataclass(frozen=True, slots=True)
class Hello(Request[Welcome | Redirect]):
    """First message of a connection. `resume` is the token of an earlier `Welcome`, `ack` the last
    push sequence number that the client has of that session.

    `redirects`: False: the client cannot follow redirects; serve it here and forward.

    `latest`: Latest topics of the session to resume, which go on from these cursors. Others are
    sent whole.

    `presence`: With `resume`: the newest cursor of `presence.changes` or `presence.watched` that
    the client has.

    `device`: The kind of the device, such as `console`, where the token does not say it and the
    node takes it from here.
    """

    TYPE: ClassVar[str] = "hello"
    token: str
    resume: str | None = None
    ack: int = 0
    client: str = ""
    redirects: bool = True
    latest: list[Seen] = field(default_factory=list)
    presence: str | None = None
    device: str = ""
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return [
            "hello",
            self.id,
            self.token,
            self.resume,
            self.ack,
            self.client,
            self.redirects,
            [each.to_wire() for each in self.latest],
            self.presence,
            self.device,
        ]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Hello":
        n = check_length(wire, 3, "hello")
        return cls(
            id=wire[1],
            token=wire[2],
            resume=wire[3] if n > 3 else None,
            ack=wire[4] if n > 4 else 0,
            client=wire[5] if n > 5 else "",
            redirects=wire[6] if n > 6 else True,
            latest=[Seen.from_wire(each) for each in wire[7]] if n > 7 else [],
            presence=wire[8] if n > 8 else None,
            device=wire[9] if n > 9 else "",
        )


@dataclass(frozen=True, slots=True)
class Heartbeat(Request[Beat | Beats]):
    """Still here. `ack` acknowledges pushes up to that sequence number. Id 0: acknowledged
    cumulatively by `Beats`. `state` is a word for the application's session actor.
    """

    TYPE: ClassVar[str] = "heartbeat"
    ack: int = 0
    state: str | None = None
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["heartbeat", self.id, self.ack, self.state]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Heartbeat":
        n = check_length(wire, 2, "heartbeat")
        return cls(id=wire[1], ack=wire[2] if n > 2 else 0, state=wire[3] if n > 3 else None)


@dataclass(frozen=True, slots=True)
class Ack(Request[None]):
    """Acknowledges pushes up to `seq`; id 0, never answered."""

    TYPE: ClassVar[str] = "ack"
    seq: int
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["ack", self.id, self.seq]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Ack":
        check_length(wire, 3, "ack")
        return cls(id=wire[1], seq=wire[2])


@dataclass(frozen=True, slots=True)
class Watch(Request[Watching]):
    """Subscribe to the stream of actor `topic` (`kind/key`) from event number `from_seq` (1 is the
    first). Answered by `Watching`; the events follow as `Events`, each exactly once and in order.
    `known` is the `mark` that came with event `known_seq`: refused with `history_changed` if the
    log does not have it there any more.
    """

    TYPE: ClassVar[str] = "watch"
    topic: str
    from_seq: int = 1
    known_seq: int = 0
    known: str = ""
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["watch", self.id, self.topic, self.from_seq, self.known_seq, self.known]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Watch":
        n = check_length(wire, 3, "watch")
        return cls(
            id=wire[1],
            topic=wire[2],
            from_seq=wire[3] if n > 3 else 1,
            known_seq=wire[4] if n > 4 else 0,
            known=wire[5] if n > 5 else "",
        )


@dataclass(frozen=True, slots=True)
class Unwatch(Request[Done]):
    """Answered by `Done`."""

    TYPE: ClassVar[str] = "unwatch"
    topic: str
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["unwatch", self.id, self.topic]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Unwatch":
        check_length(wire, 3, "unwatch")
        return cls(id=wire[1], topic=wire[2])


@dataclass(frozen=True, slots=True)
class Close(Request[Done]):
    """The client leaves for good: its session is not kept for resuming."""

    TYPE: ClassVar[str] = "close"
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["close", self.id]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "Close":
        check_length(wire, 2, "close")
        return cls(id=wire[1])


@dataclass(frozen=True, slots=True)
class WatchLatest(Request[Snapshot]):
    """Subscribe to the latest topic of actor `topic` (`kind/key`): of its values only the newest
    matter. Answered by `Snapshot`; changes follow as `Latest`. `unwatch` ends it.
    """

    TYPE: ClassVar[str] = "watch_latest"
    topic: str
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["watch_latest", self.id, self.topic]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "WatchLatest":
        check_length(wire, 3, "watch_latest")
        return cls(id=wire[1], topic=wire[2])


@dataclass(frozen=True, slots=True)
class TokenRenew(Request[Renewed]):
    """Go on under another token of the same subject and role, before the present one expires."""

    TYPE: ClassVar[str] = "token.renew"
    token: str
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["token.renew", self.id, self.token]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "TokenRenew":
        check_length(wire, 3, "token.renew")
        return cls(id=wire[1], token=wire[2])


@dataclass(frozen=True, slots=True)
class PresenceWatch(Request[PresenceWatched]):
    """Watch the presence of players, and go on watching those of before. Answered by
    `presence.watched`, after the presence of each of them has come in `presence.changes`; changes
    follow in the same message.

    `friends`: Watch one's friends, too: those of now, and from then on whoever is one.

    `seen`: Versions that the client has. What is of the same version is left out of what comes
    before the answer.
    """

    TYPE: ClassVar[str] = "presence.watch"
    players: list[str] = field(default_factory=list)
    friends: bool = False
    seen: list[SeenPlayer] = field(default_factory=list)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["presence.watch", self.id, self.players, self.friends, [each.to_wire() for each in self.seen]]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PresenceWatch":
        n = check_length(wire, 2, "presence.watch")
        return cls(
            id=wire[1],
            players=wire[2] if n > 2 else [],
            friends=wire[3] if n > 3 else False,
            seen=[SeenPlayer.from_wire(each) for each in wire[4]] if n > 4 else [],
        )


@dataclass(frozen=True, slots=True)
class PresenceUnwatch(Request[Done]):
    """Watch these players no more, unless they are watched as friends; with `friends`, one's friends
    no more, unless they are watched by name. Others are no error. Answered by `done`; players that
    are watched no more come in `presence.changes` before it, with version 0.
    """

    TYPE: ClassVar[str] = "presence.unwatch"
    players: list[str] = field(default_factory=list)
    friends: bool = False
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["presence.unwatch", self.id, self.players, self.friends]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PresenceUnwatch":
        n = check_length(wire, 2, "presence.unwatch")
        return cls(id=wire[1], players=wire[2] if n > 2 else [], friends=wire[3] if n > 3 else False)


@dataclass(frozen=True, slots=True)
class PresenceList(Request[PresenceListed]):
    """The presence of players, once. Answered by `presence.listed`."""

    TYPE: ClassVar[str] = "presence.list"
    players: list[str]
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["presence.list", self.id, self.players]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PresenceList":
        check_length(wire, 3, "presence.list")
        return cls(id=wire[1], players=wire[2])


@dataclass(frozen=True, slots=True)
class ReplayOpen(Request[ReplayStatus]):
    """Replay the log of actor `topic` (`kind/key`) from clock `from_ms` on, or from event `from_seq`
    where that is not 0. `replay` is the client's own number for it; a replay of that number which
    is open is closed. Answered by `replay.status`; then come `replay.scene` and, at their pace,
    `replay.events`.

    `speed`: Hundredths of the log's own speed: 100 is as it was, 25 a quarter, 6,400 is 64 times as
    fast.

    `playing`: False: show where it begins, and wait for `replay.control`.

    `follow`: Show only events that name this player, and those that name nobody. Empty: all events.
    """

    TYPE: ClassVar[str] = "replay.open"
    replay: int
    topic: str
    from_ms: int = 0
    from_seq: int = 0
    speed: int = 100
    playing: bool = True
    follow: str = ""
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return [
            "replay.open",
            self.id,
            self.replay,
            self.topic,
            self.from_ms,
            self.from_seq,
            self.speed,
            self.playing,
            self.follow,
        ]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "ReplayOpen":
        n = check_length(wire, 4, "replay.open")
        return cls(
            id=wire[1],
            replay=wire[2],
            topic=wire[3],
            from_ms=wire[4] if n > 4 else 0,
            from_seq=wire[5] if n > 5 else 0,
            speed=wire[6] if n > 6 else 100,
            playing=wire[7] if n > 7 else True,
            follow=wire[8] if n > 8 else "",
        )


@dataclass(frozen=True, slots=True)
class ReplayControl(Request[ReplayStatus]):
    """Pause a replay or let it go on, change its speed, seek, follow somebody else: what is not
    `null`. Answered by `replay.status`; after a seek comes `replay.scene`.
    """

    TYPE: ClassVar[str] = "replay.control"
    replay: int
    playing: bool | None = None
    speed: int | None = None
    seek_ms: int | None = None
    follow: str | None = None
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["replay.control", self.id, self.replay, self.playing, self.speed, self.seek_ms, self.follow]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "ReplayControl":
        n = check_length(wire, 3, "replay.control")
        return cls(
            id=wire[1],
            replay=wire[2],
            playing=wire[3] if n > 3 else None,
            speed=wire[4] if n > 4 else None,
            seek_ms=wire[5] if n > 5 else None,
            follow=wire[6] if n > 6 else None,
        )


@dataclass(frozen=True, slots=True)
class ReplayClose(Request[Done]):
    """Close a replay. One that is not open is no error. Answered by `done`."""

    TYPE: ClassVar[str] = "replay.close"
    replay: int
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["replay.close", self.id, self.replay]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "ReplayClose":
        check_length(wire, 3, "replay.close")
        return cls(id=wire[1], replay=wire[2])


@dataclass(frozen=True, slots=True)
class PresenceSet(Request[Saved]):
    """Choose a status, a line of rich presence ("Slayer on Recharge, 24-19") and its parts. Each
    replaces what this session said before.
    """

    TYPE: ClassVar[str] = "presence.set"
    status: Literal["away", "busy", "invisible", "online"]
    activity: str = ""
    rich: RichPresence | None = None
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["presence.set", self.id, self.status, self.activity, None if self.rich is None else self.rich.to_wire()]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PresenceSet":
        n = check_length(wire, 3, "presence.set")
        return cls(
            id=wire[1],
            status=wire[2],
            activity=wire[3] if n > 3 else "",
            rich=RichPresence.from_wire(wire[4]) if n > 4 and wire[4] is not None else None,
        )


@dataclass(frozen=True, slots=True)
class PresenceGet(Request[Presence]):
    """Answered by `Presence`."""

    TYPE: ClassVar[str] = "presence.get"
    player: str
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["presence.get", self.id, self.player]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PresenceGet":
        check_length(wire, 3, "presence.get")
        return cls(id=wire[1], player=wire[2])


@dataclass(frozen=True, slots=True)
class ProfileSet(Command[Saved]):
    """Change the stored profile. Write-behind: the reply's version is in the store within the flush
    interval.
    """

    TYPE: ClassVar[str] = "profile.set"
    display_name: str
    emblem: str = ""
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["profile.set", self.id, self.lineage, self.command, self.display_name, self.emblem]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "ProfileSet":
        n = check_length(wire, 5, "profile.set")
        return cls(id=wire[1], lineage=wire[2], command=wire[3], display_name=wire[4], emblem=wire[5] if n > 5 else "")


@dataclass(frozen=True, slots=True)
class ProfileGet(Request[Profile]):
    """Answered by `Profile`."""

    TYPE: ClassVar[str] = "profile.get"
    player: str
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["profile.get", self.id, self.player]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "ProfileGet":
        check_length(wire, 3, "profile.get")
        return cls(id=wire[1], player=wire[2])


@dataclass(frozen=True, slots=True)
class MatchCreate(Command[Accepted]):
    """Host only. Creates match `match` with the caller as its host, to be searched by `properties` and
    `tags`.
    """

    TYPE: ClassVar[str] = "match.create"
    match: str
    options: MatchOptions = MatchOptions()
    password: str = ""
    properties: list[Property] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return [
            "match.create",
            self.id,
            self.lineage,
            self.command,
            self.match,
            self.options.to_wire(),
            self.password,
            [each.to_wire() for each in self.properties],
            self.tags,
        ]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "MatchCreate":
        n = check_length(wire, 5, "match.create")
        return cls(
            id=wire[1],
            lineage=wire[2],
            command=wire[3],
            match=wire[4],
            options=MatchOptions.from_wire(wire[5]) if n > 5 else MatchOptions(),
            password=wire[6] if n > 6 else "",
            properties=[Property.from_wire(each) for each in wire[7]] if n > 7 else [],
            tags=wire[8] if n > 8 else [],
        )


@dataclass(frozen=True, slots=True)
class MatchJoin(Command[Accepted]):
    """A player joins (`team` None: the smallest team)."""

    TYPE: ClassVar[str] = "match.join"
    match: str
    team: int | None = None
    password: str = ""
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["match.join", self.id, self.lineage, self.command, self.match, self.team, self.password]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "MatchJoin":
        n = check_length(wire, 5, "match.join")
        return cls(
            id=wire[1],
            lineage=wire[2],
            command=wire[3],
            match=wire[4],
            team=wire[5] if n > 5 else None,
            password=wire[6] if n > 6 else "",
        )


@dataclass(frozen=True, slots=True)
class MatchLeave(Command[Accepted]):
    """Answered by `Accepted`."""

    TYPE: ClassVar[str] = "match.leave"
    match: str
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["match.leave", self.id, self.lineage, self.command, self.match]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "MatchLeave":
        check_length(wire, 5, "match.leave")
        return cls(id=wire[1], lineage=wire[2], command=wire[3], match=wire[4])


@dataclass(frozen=True, slots=True)
class MatchStart(Command[Accepted]):
    """Host only: begin the countdown, or go live at once if it is 0."""

    TYPE: ClassVar[str] = "match.start"
    match: str
    time_ms: int = 0
    term: int = 1
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["match.start", self.id, self.lineage, self.command, self.match, self.time_ms, self.term]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "MatchStart":
        n = check_length(wire, 5, "match.start")
        return cls(
            id=wire[1],
            lineage=wire[2],
            command=wire[3],
            match=wire[4],
            time_ms=wire[5] if n > 5 else 0,
            term=wire[6] if n > 6 else 1,
        )


@dataclass(frozen=True, slots=True)
class MatchReport(Command[Accepted]):
    """Host only: events of play, in the match's clock, at most 256 at once, all or none. `time_ms`
    values may be equal but never fall below what was reported before.
    """

    TYPE: ClassVar[str] = "match.report"
    match: str
    events: list[Kill | Death | Assist | Medal | Objective | Score]
    term: int = 1
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return [
            "match.report",
            self.id,
            self.lineage,
            self.command,
            self.match,
            [each.to_wire() for each in self.events],
            self.term,
        ]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "MatchReport":
        n = check_length(wire, 6, "match.report")
        return cls(
            id=wire[1],
            lineage=wire[2],
            command=wire[3],
            match=wire[4],
            events=[_read_one_of(each) for each in wire[5]],
            term=wire[6] if n > 6 else 1,
        )


@dataclass(frozen=True, slots=True)
class MatchTick(Request[Accepted]):
    """Host only: the match clock now. It shows that the host lives and lets time limits end a match;
    nothing is stored by itself.
    """

    TYPE: ClassVar[str] = "match.tick"
    match: str
    time_ms: int
    term: int = 1
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["match.tick", self.id, self.match, self.time_ms, self.term]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "MatchTick":
        n = check_length(wire, 4, "match.tick")
        return cls(id=wire[1], match=wire[2], time_ms=wire[3], term=wire[4] if n > 4 else 1)


@dataclass(frozen=True, slots=True)
class MatchEnd(Command[Accepted]):
    """Host only: end the match."""

    TYPE: ClassVar[str] = "match.end"
    match: str
    time_ms: int = 0
    term: int = 1
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["match.end", self.id, self.lineage, self.command, self.match, self.time_ms, self.term]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "MatchEnd":
        n = check_length(wire, 5, "match.end")
        return cls(
            id=wire[1],
            lineage=wire[2],
            command=wire[3],
            match=wire[4],
            time_ms=wire[5] if n > 5 else 0,
            term=wire[6] if n > 6 else 1,
        )


@dataclass(frozen=True, slots=True)
class MatchGet(Request[Scoreboard]):
    """The scoreboard of a match, or a page of it.

    `cursor`: The `next` of the page before; empty for the first page.
    """

    TYPE: ClassVar[str] = "match.get"
    match: str
    limit: int = 200
    cursor: str = ""
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["match.get", self.id, self.match, self.limit, self.cursor]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "MatchGet":
        n = check_length(wire, 3, "match.get")
        return cls(id=wire[1], match=wire[2], limit=wire[3] if n > 3 else 200, cursor=wire[4] if n > 4 else "")


@dataclass(frozen=True, slots=True)
class MatchList(Request[Matches]):
    """Live matches of the whole cluster that fit all that is given, newest first.

    `cursor`: The `next` of the page before; empty for the first page.
    """

    TYPE: ClassVar[str] = "match.list"
    limit: int = 100
    cursor: str = ""
    mode: str = ""
    map_name: str = ""
    properties: list[PropertyIs] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return [
            "match.list",
            self.id,
            self.limit,
            self.cursor,
            self.mode,
            self.map_name,
            [each.to_wire() for each in self.properties],
            self.tags,
        ]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "MatchList":
        n = check_length(wire, 2, "match.list")
        return cls(
            id=wire[1],
            limit=wire[2] if n > 2 else 100,
            cursor=wire[3] if n > 3 else "",
            mode=wire[4] if n > 4 else "",
            map_name=wire[5] if n > 5 else "",
            properties=[PropertyIs.from_wire(each) for each in wire[6]] if n > 6 else [],
            tags=wire[7] if n > 7 else [],
        )


@dataclass(frozen=True, slots=True)
class CareerGet(Request[Career]):
    """Ask for a player's career; only that of a mode or a season, where one is given."""

    TYPE: ClassVar[str] = "career.get"
    player: str
    mode: str | None = None
    season: str | None = None
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["career.get", self.id, self.player, self.mode, self.season]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "CareerGet":
        n = check_length(wire, 3, "career.get")
        return cls(id=wire[1], player=wire[2], mode=wire[3] if n > 3 else None, season=wire[4] if n > 4 else None)


@dataclass(frozen=True, slots=True)
class MatchInvite(Command[Accepted]):
    """Let players into a private match, and tell them: the host, or a participant where the options
    say so.
    """

    TYPE: ClassVar[str] = "match.invite"
    match: str
    players: list[str]
    term: int = 1
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["match.invite", self.id, self.lineage, self.command, self.match, self.players, self.term]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "MatchInvite":
        n = check_length(wire, 6, "match.invite")
        return cls(
            id=wire[1],
            lineage=wire[2],
            command=wire[3],
            match=wire[4],
            players=wire[5],
            term=wire[6] if n > 6 else 1,
        )


@dataclass(frozen=True, slots=True)
class MatchAllow(Command[Accepted]):
    """Host only: let players into a private match, or no longer, without a word to them."""

    TYPE: ClassVar[str] = "match.allow"
    match: str
    players: list[str]
    allowed: bool = True
    term: int = 1
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["match.allow", self.id, self.lineage, self.command, self.match, self.players, self.allowed, self.term]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "MatchAllow":
        n = check_length(wire, 6, "match.allow")
        return cls(
            id=wire[1],
            lineage=wire[2],
            command=wire[3],
            match=wire[4],
            players=wire[5],
            allowed=wire[6] if n > 6 else True,
            term=wire[7] if n > 7 else 1,
        )


@dataclass(frozen=True, slots=True)
class MatchDescribe(Command[Accepted]):
    """Host only: set properties by which the match is searched (None takes one away, others stay), and
    replace its tags (None: leave them). Also of a match that goes on; at most 16 of each.
    """

    TYPE: ClassVar[str] = "match.describe"
    match: str
    properties: list[Property] = field(default_factory=list)
    tags: list[str] | None = field(default_factory=list)
    term: int = 1
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return [
            "match.describe",
            self.id,
            self.lineage,
            self.command,
            self.match,
            [each.to_wire() for each in self.properties],
            self.tags,
            self.term,
        ]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "MatchDescribe":
        n = check_length(wire, 5, "match.describe")
        return cls(
            id=wire[1],
            lineage=wire[2],
            command=wire[3],
            match=wire[4],
            properties=[Property.from_wire(each) for each in wire[5]] if n > 5 else [],
            tags=wire[6] if n > 6 else [],
            term=wire[7] if n > 7 else 1,
        )


@dataclass(frozen=True, slots=True)
class MatchReserve(Command[Accepted]):
    """Host only: keep a place for each of `players`, and `places` for `party`, for `for_ms`; 0: no
    longer.
    """

    TYPE: ClassVar[str] = "match.reserve"
    match: str
    players: list[str] = field(default_factory=list)
    party: str | None = None
    places: int = 0
    for_ms: int = 60_000
    term: int = 1
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return [
            "match.reserve",
            self.id,
            self.lineage,
            self.command,
            self.match,
            self.players,
            self.party,
            self.places,
            self.for_ms,
            self.term,
        ]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "MatchReserve":
        n = check_length(wire, 5, "match.reserve")
        return cls(
            id=wire[1],
            lineage=wire[2],
            command=wire[3],
            match=wire[4],
            players=wire[5] if n > 5 else [],
            party=wire[6] if n > 6 else None,
            places=wire[7] if n > 7 else 0,
            for_ms=wire[8] if n > 8 else 60_000,
            term=wire[9] if n > 9 else 1,
        )


@dataclass(frozen=True, slots=True)
class MatchKick(Command[Accepted]):
    """Host only: remove a player, or keep out one who is not there, until `match.unkick`."""

    TYPE: ClassVar[str] = "match.kick"
    match: str
    player: str
    reason: str = ""
    term: int = 1
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["match.kick", self.id, self.lineage, self.command, self.match, self.player, self.reason, self.term]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "MatchKick":
        n = check_length(wire, 6, "match.kick")
        return cls(
            id=wire[1],
            lineage=wire[2],
            command=wire[3],
            match=wire[4],
            player=wire[5],
            reason=wire[6] if n > 6 else "",
            term=wire[7] if n > 7 else 1,
        )


@dataclass(frozen=True, slots=True)
class MatchUnkick(Command[Accepted]):
    """Host only: let a player come again. `number`: of the `kicked` that is taken back, 0 for
    whichever it is.
    """

    TYPE: ClassVar[str] = "match.unkick"
    match: str
    player: str
    number: int = 0
    term: int = 1
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["match.unkick", self.id, self.lineage, self.command, self.match, self.player, self.number, self.term]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "MatchUnkick":
        n = check_length(wire, 6, "match.unkick")
        return cls(
            id=wire[1],
            lineage=wire[2],
            command=wire[3],
            match=wire[4],
            player=wire[5],
            number=wire[6] if n > 6 else 0,
            term=wire[7] if n > 7 else 1,
        )


@dataclass(frozen=True, slots=True)
class MatchSuccessor(Command[Accepted]):
    """Host only: say who takes over when the host is silent for too long. None: nobody."""

    TYPE: ClassVar[str] = "match.successor"
    match: str
    host: str | None
    term: int = 1
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["match.successor", self.id, self.lineage, self.command, self.match, self.host, self.term]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "MatchSuccessor":
        n = check_length(wire, 6, "match.successor")
        return cls(
            id=wire[1],
            lineage=wire[2],
            command=wire[3],
            match=wire[4],
            host=wire[5],
            term=wire[6] if n > 6 else 1,
        )


@dataclass(frozen=True, slots=True)
class MatchPassHost(Command[Accepted]):
    """Host only: make another the host at once. None: the successor."""

    TYPE: ClassVar[str] = "match.pass_host"
    match: str
    host: str | None = None
    term: int = 1
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["match.pass_host", self.id, self.lineage, self.command, self.match, self.host, self.term]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "MatchPassHost":
        n = check_length(wire, 5, "match.pass_host")
        return cls(
            id=wire[1],
            lineage=wire[2],
            command=wire[3],
            match=wire[4],
            host=wire[5] if n > 5 else None,
            term=wire[6] if n > 6 else 1,
        )


@dataclass(frozen=True, slots=True)
class ModerationBan(Command[StandingInfo]):
    """Services only. Let `subject` have no session for `for_ms` (0: for good): those that it has end,
    new ones are refused. A ban in force is replaced.
    """

    TYPE: ClassVar[str] = "moderation.ban"
    subject: str
    reason: str = ""
    for_ms: int = 0
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["moderation.ban", self.id, self.lineage, self.command, self.subject, self.reason, self.for_ms]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "ModerationBan":
        n = check_length(wire, 5, "moderation.ban")
        return cls(
            id=wire[1],
            lineage=wire[2],
            command=wire[3],
            subject=wire[4],
            reason=wire[5] if n > 5 else "",
            for_ms=wire[6] if n > 6 else 0,
        )


@dataclass(frozen=True, slots=True)
class ModerationUnban(Command[StandingInfo]):
    """Services only. End a ban."""

    TYPE: ClassVar[str] = "moderation.unban"
    subject: str
    reason: str = ""
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["moderation.unban", self.id, self.lineage, self.command, self.subject, self.reason]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "ModerationUnban":
        n = check_length(wire, 5, "moderation.unban")
        return cls(id=wire[1], lineage=wire[2], command=wire[3], subject=wire[4], reason=wire[5] if n > 5 else "")


@dataclass(frozen=True, slots=True)
class ModerationMute(Command[StandingInfo]):
    """Services only. Hide the player's own lines and fields from others for `for_ms` (0: for good),
    and refuse its invitations. A mute in force is replaced.
    """

    TYPE: ClassVar[str] = "moderation.mute"
    subject: str
    reason: str = ""
    for_ms: int = 0
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["moderation.mute", self.id, self.lineage, self.command, self.subject, self.reason, self.for_ms]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "ModerationMute":
        n = check_length(wire, 5, "moderation.mute")
        return cls(
            id=wire[1],
            lineage=wire[2],
            command=wire[3],
            subject=wire[4],
            reason=wire[5] if n > 5 else "",
            for_ms=wire[6] if n > 6 else 0,
        )


@dataclass(frozen=True, slots=True)
class ModerationUnmute(Command[StandingInfo]):
    """Services only. End a mute."""

    TYPE: ClassVar[str] = "moderation.unmute"
    subject: str
    reason: str = ""
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["moderation.unmute", self.id, self.lineage, self.command, self.subject, self.reason]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "ModerationUnmute":
        n = check_length(wire, 5, "moderation.unmute")
        return cls(id=wire[1], lineage=wire[2], command=wire[3], subject=wire[4], reason=wire[5] if n > 5 else "")


@dataclass(frozen=True, slots=True)
class ModerationKick(Command[StandingInfo]):
    """Services only. End every session of `subject`. It may come back."""

    TYPE: ClassVar[str] = "moderation.kick"
    subject: str
    reason: str = ""
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["moderation.kick", self.id, self.lineage, self.command, self.subject, self.reason]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "ModerationKick":
        n = check_length(wire, 5, "moderation.kick")
        return cls(id=wire[1], lineage=wire[2], command=wire[3], subject=wire[4], reason=wire[5] if n > 5 else "")


@dataclass(frozen=True, slots=True)
class ModerationRevoke(Command[StandingInfo]):
    """Services only. Take no token of `subject` that was issued before Unix time `before_ms` (0: now),
    and end the sessions that have one.
    """

    TYPE: ClassVar[str] = "moderation.revoke"
    subject: str
    reason: str = ""
    before_ms: int = 0
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["moderation.revoke", self.id, self.lineage, self.command, self.subject, self.reason, self.before_ms]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "ModerationRevoke":
        n = check_length(wire, 5, "moderation.revoke")
        return cls(
            id=wire[1],
            lineage=wire[2],
            command=wire[3],
            subject=wire[4],
            reason=wire[5] if n > 5 else "",
            before_ms=wire[6] if n > 6 else 0,
        )


@dataclass(frozen=True, slots=True)
class ModerationGet(Request[StandingInfo]):
    """Services only. The standing of `subject`; nobody need have said anything of it."""

    TYPE: ClassVar[str] = "moderation.get"
    subject: str
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["moderation.get", self.id, self.subject]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "ModerationGet":
        check_length(wire, 3, "moderation.get")
        return cls(id=wire[1], subject=wire[2])


@dataclass(frozen=True, slots=True)
class FriendsInvite(Command[Saved]):
    """Ask `player` to be a friend; where that player has asked already, this accepts."""

    TYPE: ClassVar[str] = "friends.invite"
    player: str
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["friends.invite", self.id, self.lineage, self.command, self.player]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "FriendsInvite":
        check_length(wire, 5, "friends.invite")
        return cls(id=wire[1], lineage=wire[2], command=wire[3], player=wire[4])


@dataclass(frozen=True, slots=True)
class FriendsAccept(Command[Saved]):
    """Accept the invite of `player` that waits for an answer."""

    TYPE: ClassVar[str] = "friends.accept"
    player: str
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["friends.accept", self.id, self.lineage, self.command, self.player]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "FriendsAccept":
        check_length(wire, 5, "friends.accept")
        return cls(id=wire[1], lineage=wire[2], command=wire[3], player=wire[4])


@dataclass(frozen=True, slots=True)
class FriendsDecline(Command[Saved]):
    """Decline the invite of `player` that waits for an answer."""

    TYPE: ClassVar[str] = "friends.decline"
    player: str
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["friends.decline", self.id, self.lineage, self.command, self.player]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "FriendsDecline":
        check_length(wire, 5, "friends.decline")
        return cls(id=wire[1], lineage=wire[2], command=wire[3], player=wire[4])


@dataclass(frozen=True, slots=True)
class FriendsRemove(Command[Saved]):
    """End the friendship with `player`, or take the own invite back; nothing where there is neither."""

    TYPE: ClassVar[str] = "friends.remove"
    player: str
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["friends.remove", self.id, self.lineage, self.command, self.player]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "FriendsRemove":
        check_length(wire, 5, "friends.remove")
        return cls(id=wire[1], lineage=wire[2], command=wire[3], player=wire[4])


@dataclass(frozen=True, slots=True)
class FriendsBlock(Command[Saved]):
    """Block `player`: no friendship and no invite in either direction, and each is offline to the
    other. The other one is not told.
    """

    TYPE: ClassVar[str] = "friends.block"
    player: str
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["friends.block", self.id, self.lineage, self.command, self.player]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "FriendsBlock":
        check_length(wire, 5, "friends.block")
        return cls(id=wire[1], lineage=wire[2], command=wire[3], player=wire[4])


@dataclass(frozen=True, slots=True)
class FriendsUnblock(Command[Saved]):
    """End the own block of `player`; what was before it does not come back."""

    TYPE: ClassVar[str] = "friends.unblock"
    player: str
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["friends.unblock", self.id, self.lineage, self.command, self.player]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "FriendsUnblock":
        check_length(wire, 5, "friends.unblock")
        return cls(id=wire[1], lineage=wire[2], command=wire[3], player=wire[4])


@dataclass(frozen=True, slots=True)
class FriendsList(Request[FriendsPage]):
    """A page of the own list, by name. `state`: only entries in it.

    `cursor`: The `next` of the page before; empty for the first page.
    """

    TYPE: ClassVar[str] = "friends.list"
    limit: int = 100
    cursor: str = ""
    state: Literal["blocked", "friend", "invited", "inviting"] | None = None
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["friends.list", self.id, self.limit, self.cursor, self.state]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "FriendsList":
        n = check_length(wire, 2, "friends.list")
        return cls(
            id=wire[1],
            limit=wire[2] if n > 2 else 100,
            cursor=wire[3] if n > 3 else "",
            state=wire[4] if n > 4 else None,
        )


@dataclass(frozen=True, slots=True)
class FriendsRecent(Request[RecentPlayers]):
    """Players met in the newest matches that are over, the latest first, without those that are
    blocked either way.
    """

    TYPE: ClassVar[str] = "friends.recent"
    limit: int = 50
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["friends.recent", self.id, self.limit]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "FriendsRecent":
        n = check_length(wire, 2, "friends.recent")
        return cls(id=wire[1], limit=wire[2] if n > 2 else 50)


@dataclass(frozen=True, slots=True)
class PartyCreate(Command[Saved]):
    """Make a party with room for `room` players and be its leader. The answer's `entity` is `party/`
    and its name. A player is in one party: this leaves the one before.
    """

    TYPE: ClassVar[str] = "party.create"
    room: int = 8
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["party.create", self.id, self.lineage, self.command, self.room]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PartyCreate":
        n = check_length(wire, 4, "party.create")
        return cls(id=wire[1], lineage=wire[2], command=wire[3], room=wire[4] if n > 4 else 8)


@dataclass(frozen=True, slots=True)
class PartyInvite(Command[Saved]):
    """Invite a player; any member may. The player's clients are sent `party.invited`, and find it by
    `party.invites`, unless one of the two has blocked the other; the answer is the same.
    """

    TYPE: ClassVar[str] = "party.invite"
    party: str
    player: str
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["party.invite", self.id, self.lineage, self.command, self.party, self.player]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PartyInvite":
        check_length(wire, 6, "party.invite")
        return cls(id=wire[1], lineage=wire[2], command=wire[3], party=wire[4], player=wire[5])


@dataclass(frozen=True, slots=True)
class PartyJoin(Command[Saved]):
    """Accept an invitation. This leaves the party before."""

    TYPE: ClassVar[str] = "party.join"
    party: str
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["party.join", self.id, self.lineage, self.command, self.party]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PartyJoin":
        check_length(wire, 5, "party.join")
        return cls(id=wire[1], lineage=wire[2], command=wire[3], party=wire[4])


@dataclass(frozen=True, slots=True)
class PartyJoinCode(Command[Saved]):
    """Join the party that has this code, in capitals or not, with or without its dashes. Wrong codes
    are counted, for the player and for its address: too many of them, and `rate_limited` says when
    to come again.
    """

    TYPE: ClassVar[str] = "party.join_code"
    code: str
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["party.join_code", self.id, self.lineage, self.command, self.code]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PartyJoinCode":
        check_length(wire, 5, "party.join_code")
        return cls(id=wire[1], lineage=wire[2], command=wire[3], code=wire[4])


@dataclass(frozen=True, slots=True)
class PartyKick(Command[Saved]):
    """Leader only: take a member out, by the number of its membership, so that nobody who has come
    back meanwhile is meant. The party gets a new code.
    """

    TYPE: ClassVar[str] = "party.kick"
    party: str
    player: str
    number: int
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["party.kick", self.id, self.lineage, self.command, self.party, self.player, self.number]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PartyKick":
        check_length(wire, 7, "party.kick")
        return cls(id=wire[1], lineage=wire[2], command=wire[3], party=wire[4], player=wire[5], number=wire[6])


@dataclass(frozen=True, slots=True)
class PartyPromote(Command[Saved]):
    """Leader only: make a member who is here the leader."""

    TYPE: ClassVar[str] = "party.promote"
    party: str
    player: str
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["party.promote", self.id, self.lineage, self.command, self.party, self.player]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PartyPromote":
        check_length(wire, 6, "party.promote")
        return cls(id=wire[1], lineage=wire[2], command=wire[3], party=wire[4], player=wire[5])


@dataclass(frozen=True, slots=True)
class PartyReady(Command[Saved]):
    """Say whether one is ready. A match that the party joins takes it back from all."""

    TYPE: ClassVar[str] = "party.ready"
    party: str
    ready: bool = True
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["party.ready", self.id, self.lineage, self.command, self.party, self.ready]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PartyReady":
        n = check_length(wire, 5, "party.ready")
        return cls(id=wire[1], lineage=wire[2], command=wire[3], party=wire[4], ready=wire[5] if n > 5 else True)


@dataclass(frozen=True, slots=True)
class PartyLeave(Command[Saved]):
    """Answered by `Saved`."""

    TYPE: ClassVar[str] = "party.leave"
    party: str
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["party.leave", self.id, self.lineage, self.command, self.party]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PartyLeave":
        check_length(wire, 5, "party.leave")
        return cls(id=wire[1], lineage=wire[2], command=wire[3], party=wire[4])


@dataclass(frozen=True, slots=True)
class PartyDisband(Command[Saved]):
    """Leader only: end the party."""

    TYPE: ClassVar[str] = "party.disband"
    party: str
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["party.disband", self.id, self.lineage, self.command, self.party]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PartyDisband":
        check_length(wire, 5, "party.disband")
        return cls(id=wire[1], lineage=wire[2], command=wire[3], party=wire[4])


@dataclass(frozen=True, slots=True)
class PartyRecode(Command[Saved]):
    """Leader only: give the party another code; the one before is good no more."""

    TYPE: ClassVar[str] = "party.recode"
    party: str
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["party.recode", self.id, self.lineage, self.command, self.party]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PartyRecode":
        check_length(wire, 5, "party.recode")
        return cls(id=wire[1], lineage=wire[2], command=wire[3], party=wire[4])


@dataclass(frozen=True, slots=True)
class PartyPlay(Command[Accepted]):
    """Leader only: join a match with all members who are here, in one event or not at all (`team`
    None: the smallest team). Members who are away stay behind. `password`: that of a private match,
    for all of them.
    """

    TYPE: ClassVar[str] = "party.play"
    party: str
    match: str
    team: int | None = None
    password: str = ""
    lineage: str = field(default="", kw_only=True)
    command: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["party.play", self.id, self.lineage, self.command, self.party, self.match, self.team, self.password]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PartyPlay":
        n = check_length(wire, 6, "party.play")
        return cls(
            id=wire[1],
            lineage=wire[2],
            command=wire[3],
            party=wire[4],
            match=wire[5],
            team=wire[6] if n > 6 else None,
            password=wire[7] if n > 7 else "",
        )


@dataclass(frozen=True, slots=True)
class PartyGet(Request[PartyInfo]):
    """Members only: the party as it is now. Watch its latest topic, `party/` and its name, to see how
    it changes.
    """

    TYPE: ClassVar[str] = "party.get"
    party: str
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["party.get", self.id, self.party]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PartyGet":
        check_length(wire, 3, "party.get")
        return cls(id=wire[1], party=wire[2])


@dataclass(frozen=True, slots=True)
class PartyInvites(Request[PartyInbox]):
    """The party that one is in, and the invitations that are open."""

    TYPE: ClassVar[str] = "party.invites"
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["party.invites", self.id]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "PartyInvites":
        check_length(wire, 2, "party.invites")
        return cls(id=wire[1])


@dataclass(frozen=True, slots=True)
class BoardTop(Request[Board]):
    """The first of a board, or a page of it.

    `cursor`: The `next` of the page before; empty for the first page.
    """

    TYPE: ClassVar[str] = "board.top"
    metric: Literal["assists", "kills", "matches", "medals", "rating", "wins"]
    mode: str = "all"
    period: str = "all"
    limit: int = 10
    cursor: str = ""
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["board.top", self.id, self.metric, self.mode, self.period, self.limit, self.cursor]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "BoardTop":
        n = check_length(wire, 3, "board.top")
        return cls(
            id=wire[1],
            metric=wire[2],
            mode=wire[3] if n > 3 else "all",
            period=wire[4] if n > 4 else "all",
            limit=wire[5] if n > 5 else 10,
            cursor=wire[6] if n > 6 else "",
        )


@dataclass(frozen=True, slots=True)
class BoardAround(Request[Board]):
    """The place of `player` and its neighbours, `count` rows with it; 1: its place only."""

    TYPE: ClassVar[str] = "board.around"
    metric: Literal["assists", "kills", "matches", "medals", "rating", "wins"]
    player: str
    mode: str = "all"
    period: str = "all"
    count: int = 11
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["board.around", self.id, self.metric, self.player, self.mode, self.period, self.count]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "BoardAround":
        n = check_length(wire, 4, "board.around")
        return cls(
            id=wire[1],
            metric=wire[2],
            player=wire[3],
            mode=wire[4] if n > 4 else "all",
            period=wire[5] if n > 5 else "all",
            count=wire[6] if n > 6 else 11,
        )


@dataclass(frozen=True, slots=True)
class BoardFriends(Request[Board]):
    """The own place and those of the own friends, best first, at most `limit`."""

    TYPE: ClassVar[str] = "board.friends"
    metric: Literal["assists", "kills", "matches", "medals", "rating", "wins"]
    mode: str = "all"
    period: str = "all"
    limit: int = 100
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["board.friends", self.id, self.metric, self.mode, self.period, self.limit]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "BoardFriends":
        n = check_length(wire, 3, "board.friends")
        return cls(
            id=wire[1],
            metric=wire[2],
            mode=wire[3] if n > 3 else "all",
            period=wire[4] if n > 4 else "all",
            limit=wire[5] if n > 5 else 100,
        )


@dataclass(frozen=True, slots=True)
class MatchHistory(Request[History]):
    """Matches that are over and that fit all that is given, those first that ended last. `opponent`
    was in them beside `player`, on another side where there were sides; `result` is that of
    `player`. They ended from Unix time `from_ms` on and before `to_ms`; 0: whenever. `imported`
    null: of other games' logs or not.

    `cursor`: The `next` of a page of the same filters; empty for the first page.
    """

    TYPE: ClassVar[str] = "match.history"
    player: str | None = None
    opponent: str | None = None
    mode: str = ""
    map_name: str = ""
    properties: list[PropertyIs] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    result: Literal["lost", "tied", "won"] | None = None
    from_ms: int = 0
    to_ms: int = 0
    imported: bool | None = None
    limit: int = 20
    cursor: str = ""
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return [
            "match.history",
            self.id,
            self.player,
            self.opponent,
            self.mode,
            self.map_name,
            [each.to_wire() for each in self.properties],
            self.tags,
            self.result,
            self.from_ms,
            self.to_ms,
            self.imported,
            self.limit,
            self.cursor,
        ]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "MatchHistory":
        n = check_length(wire, 2, "match.history")
        return cls(
            id=wire[1],
            player=wire[2] if n > 2 else None,
            opponent=wire[3] if n > 3 else None,
            mode=wire[4] if n > 4 else "",
            map_name=wire[5] if n > 5 else "",
            properties=[PropertyIs.from_wire(each) for each in wire[6]] if n > 6 else [],
            tags=wire[7] if n > 7 else [],
            result=wire[8] if n > 8 else None,
            from_ms=wire[9] if n > 9 else 0,
            to_ms=wire[10] if n > 10 else 0,
            imported=wire[11] if n > 11 else None,
            limit=wire[12] if n > 12 else 20,
            cursor=wire[13] if n > 13 else "",
        )


@dataclass(frozen=True, slots=True)
class MatchPageGet(Request[MatchPage]):
    """A match as it is stored, with lines of players, best score first, those after the first `skip`."""

    TYPE: ClassVar[str] = "match.page"
    match: str
    skip: int = 0
    limit: int = 200
    id: int = field(default=0, kw_only=True)

    def to_wire(self) -> list[Any]:
        return ["match.page", self.id, self.match, self.skip, self.limit]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> "MatchPageGet":
        n = check_length(wire, 3, "match.page")
        return cls(id=wire[1], match=wire[2], skip=wire[3] if n > 3 else 0, limit=wire[4] if n > 4 else 200)


ANSWERS: dict[str, Callable[[Sequence[Any]], Message]] = {
    "welcome": Welcome.from_wire,
    "redirect": Redirect.from_wire,
    "beat": Beat.from_wire,
    "beats": Beats.from_wire,
    "watching": Watching.from_wire,
    "done": Done.from_wire,
    "events": Events.from_wire,
    "watch_ended": WatchEnded.from_wire,
    "error": Failed.from_wire,
    "going": Going.from_wire,
    "snapshot": Snapshot.from_wire,
    "latest": Latest.from_wire,
    "renewed": Renewed.from_wire,
    "presence.watched": PresenceWatched.from_wire,
    "presence.listed": PresenceListed.from_wire,
    "presence.changes": PresenceChanges.from_wire,
    "presence.friends": PresenceFriends.from_wire,
    "replay.status": ReplayStatus.from_wire,
    "replay.scene": ReplayScene.from_wire,
    "replay.events": ReplayEvents.from_wire,
    "replay.gap": ReplayGap.from_wire,
    "replay.state": ReplayState.from_wire,
    "replay.ended": ReplayEnded.from_wire,
    "presence": Presence.from_wire,
    "profile": Profile.from_wire,
    "saved": Saved.from_wire,
    "accepted": Accepted.from_wire,
    "scoreboard": Scoreboard.from_wire,
    "matches": Matches.from_wire,
    "match.assigned": MatchAssigned.from_wire,
    "career": Career.from_wire,
    "match.invited": MatchInvited.from_wire,
    "match.kicked": MatchKicked.from_wire,
    "standing": StandingInfo.from_wire,
    "friends": FriendsPage.from_wire,
    "friends.met": RecentPlayers.from_wire,
    "friends.changed": FriendsChanged.from_wire,
    "party": PartyInfo.from_wire,
    "party.inbox": PartyInbox.from_wire,
    "party.invited": PartyInvited.from_wire,
    "party.assigned": PartyAssigned.from_wire,
    "party.over": PartyOver.from_wire,
    "board": Board.from_wire,
    "history": History.from_wire,
    "page": MatchPage.from_wire,
}


REQUESTS: dict[str, Callable[[Sequence[Any]], Request[Any]]] = {
    "hello": Hello.from_wire,
    "heartbeat": Heartbeat.from_wire,
    "ack": Ack.from_wire,
    "watch": Watch.from_wire,
    "unwatch": Unwatch.from_wire,
    "close": Close.from_wire,
    "watch_latest": WatchLatest.from_wire,
    "token.renew": TokenRenew.from_wire,
    "presence.watch": PresenceWatch.from_wire,
    "presence.unwatch": PresenceUnwatch.from_wire,
    "presence.list": PresenceList.from_wire,
    "replay.open": ReplayOpen.from_wire,
    "replay.control": ReplayControl.from_wire,
    "replay.close": ReplayClose.from_wire,
    "presence.set": PresenceSet.from_wire,
    "presence.get": PresenceGet.from_wire,
    "profile.set": ProfileSet.from_wire,
    "profile.get": ProfileGet.from_wire,
    "match.create": MatchCreate.from_wire,
    "match.join": MatchJoin.from_wire,
    "match.leave": MatchLeave.from_wire,
    "match.start": MatchStart.from_wire,
    "match.report": MatchReport.from_wire,
    "match.tick": MatchTick.from_wire,
    "match.end": MatchEnd.from_wire,
    "match.get": MatchGet.from_wire,
    "match.list": MatchList.from_wire,
    "career.get": CareerGet.from_wire,
    "match.invite": MatchInvite.from_wire,
    "match.allow": MatchAllow.from_wire,
    "match.describe": MatchDescribe.from_wire,
    "match.reserve": MatchReserve.from_wire,
    "match.kick": MatchKick.from_wire,
    "match.unkick": MatchUnkick.from_wire,
    "match.successor": MatchSuccessor.from_wire,
    "match.pass_host": MatchPassHost.from_wire,
    "moderation.ban": ModerationBan.from_wire,
    "moderation.unban": ModerationUnban.from_wire,
    "moderation.mute": ModerationMute.from_wire,
    "moderation.unmute": ModerationUnmute.from_wire,
    "moderation.kick": ModerationKick.from_wire,
    "moderation.revoke": ModerationRevoke.from_wire,
    "moderation.get": ModerationGet.from_wire,
    "friends.invite": FriendsInvite.from_wire,
    "friends.accept": FriendsAccept.from_wire,
    "friends.decline": FriendsDecline.from_wire,
    "friends.remove": FriendsRemove.from_wire,
    "friends.block": FriendsBlock.from_wire,
    "friends.unblock": FriendsUnblock.from_wire,
    "friends.list": FriendsList.from_wire,
    "friends.recent": FriendsRecent.from_wire,
    "party.create": PartyCreate.from_wire,
    "party.invite": PartyInvite.from_wire,
    "party.join": PartyJoin.from_wire,
    "party.join_code": PartyJoinCode.from_wire,
    "party.kick": PartyKick.from_wire,
    "party.promote": PartyPromote.from_wire,
    "party.ready": PartyReady.from_wire,
    "party.leave": PartyLeave.from_wire,
    "party.disband": PartyDisband.from_wire,
    "party.recode": PartyRecode.from_wire,
    "party.play": PartyPlay.from_wire,
    "party.get": PartyGet.from_wire,
    "party.invites": PartyInvites.from_wire,
    "board.top": BoardTop.from_wire,
    "board.around": BoardAround.from_wire,
    "board.friends": BoardFriends.from_wire,
    "match.history": MatchHistory.from_wire,
    "match.page": MatchPageGet.from_wire,
}


class CloseInfo(NamedTuple):
    """Meaning of a WebSocket close code, and the way to go on after it."""

    name: str
    retry: Literal["no", "each_once", "now", "redirect", "elsewhere", "later", "new_token"]
    meaning: str


CLOSE_CODES: dict[int, CloseInfo] = {
    1000: CloseInfo("normal", "no", "The client left: it sent `close`, or closed with this code."),
    1001: CloseInfo("going_away", "elsewhere", "The node stops, or does not take this session in."),
    1002: CloseInfo(
        "protocol_error",
        "no",
        "A frame broke RFC 6455, the first message was no good `hello`, too much was sent before the welcome, or a push was acknowledged that was never sent.",
    ),
    1003: CloseInfo("unsupported", "no", "A frame of the wrong kind for the subprotocol."),
    1007: CloseInfo("bad_utf8", "no", "A text message, or a close reason, is not UTF-8."),
    1009: CloseInfo(
        "too_big",
        "no",
        "A message, its fragments together, is larger than `max_frame_bytes`, or than 8 KiB before the welcome.",
    ),
    1011: CloseInfo(
        "internal",
        "later",
        "The player cannot be loaded just now, or the token is not good yet or its key not known here (see the `error`), or a fault here.",
    ),
    4001: CloseInfo(
        "bad_token",
        "each_once",
        "The token is missing, forged or foreign (the `error` before says `bad_token`), or the game refuses this player (another code, and no other node is to be asked).",
    ),
    4002: CloseInfo("token_expired", "new_token", "The token was good once."),
    4003: CloseInfo("hello_timeout", "later", "No `hello` in time."),
    4004: CloseInfo("replaced", "no", "Another connection of this player took its place, or resumed the session."),
    4005: CloseInfo("redirected", "redirect", "Connect to the url of the `redirect` before this."),
    4006: CloseInfo(
        "flood",
        "later",
        "Too many refused messages in a row (over the rate, or unreadable), or far over the rate for long.",
    ),
    4007: CloseInfo("slow_reader", "now", "Too much is unacknowledged (the session is over), or too long unread."),
    4008: CloseInfo("heartbeat_missed", "now", "The server heard nothing for several intervals."),
    4009: CloseInfo("moved", "now", "The session is at another node now."),
    4010: CloseInfo("ownership_lost", "elsewhere", "The node lost its lease."),
    4011: CloseInfo("full", "elsewhere", "The node has no room for another connection or session."),
    4012: CloseInfo("dismissed", "no", "The application ended the session, for the reason that the close gives."),
    4013: CloseInfo(
        "occupied",
        "no",
        "The login policy keeps another session of this player, which is there; it may end within the resume window.",
    ),
}
APPLICATION_CLOSE_CODES = range(4100, 5000)
"""Codes with which an application ends sessions, each for a reason of its own: do not reconnect."""
