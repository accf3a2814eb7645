"""The engine's client messages. Each travels as the array `[type, id, ...fields]`.

Arrays grow only at the end, by fields with a default. A `Request` carries the client's id and
gets exactly one `Reply` or `Failed` with the same id; a `Push` carries the session's sequence
number in that place. Applications add theirs in the same way (see `server/actors/app.py`).
"""

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from server.ids import whole
from server.texts import LINE_PATTERN

MAX_SEQ: Final = 2**53 - 1
"""No number of a push or an event is greater: each is a number of its own in every client's language."""

MAX_PLAYERS: Final = 2_000
"""Players of one `presence.watch` or `presence.unwatch` at most."""
MAX_SEEN: Final = 5_000
MAX_LISTED: Final = 200

RequestId = Annotated[int, Meta(ge=0, le=2**53)]
Seq = Annotated[int, Meta(ge=0, le=MAX_SEQ)]
Word = Annotated[str, Meta(max_length=64, pattern=whole(LINE_PATTERN))]
Token = Annotated[str, Meta(max_length=4096)]


class Request(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Client to server; answered under the same `id`."""

    id: RequestId


class Reply(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Server to client; the one answer to request `id`."""

    id: int


class Push(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Server to client, unasked; `seq` counts the session's pushes from 1 without a gap."""

    seq: int


TopicName = Annotated[str, Meta(max_length=128)]
ReplayNumber = Annotated[int, Meta(ge=1, le=2**53 - 1)]
ReplaySpeed = Annotated[int, Meta(ge=25, le=6_400)]
Followed = Annotated[str, Meta(max_length=128, pattern=whole(LINE_PATTERN))]
LogTime = Annotated[int, Meta(ge=0, le=2**53 - 1)]
DEVICE_PATTERN: Final = r"[A-Za-z0-9_.-]{0,32}"
"""A kind of device, such as `console`; empty where it is not told."""
DeviceKind = Annotated[str, Meta(max_length=32, pattern=whole(DEVICE_PATTERN))]
Cursor = Annotated[str, Meta(max_length=64, pattern=whole(LINE_PATTERN))]


class Seen(msgspec.Struct, array_like=True, frozen=True):
    """A latest topic that the client watches, with the cursor of the newest picture that it has."""

    topic: TopicName
    cursor: Cursor


class Hello(Request, tag="hello", frozen=True):
    """First message of a connection. `resume` is the token of an earlier `Welcome`, `ack` the
    last push sequence number that the client has of that session."""

    token: Token
    resume: Word | None = None
    ack: Seq = 0
    client: Word = ""
    redirects: bool = True
    """False: the client cannot follow redirects; serve it here and forward."""
    latest: Annotated[list[Seen], Meta(max_length=256)] = []
    """Latest topics of the session to resume, which go on from these cursors. Others are sent whole."""
    presence: Cursor | None = None
    """With `resume`: the newest cursor of `presence.changes` or `presence.watched` that the client has."""
    device: DeviceKind = ""
    """The kind of the device, such as `console`, where the token does not say it and the node takes it from here."""


class Welcome(Reply, tag="welcome", frozen=True):
    session: str
    node: str
    subject: str
    role: str
    resume: str
    recovered: bool
    """True: everything after `ack` follows, in order. False: subscribe again."""
    heartbeat_interval_ms: int
    resume_window_ms: int
    max_frame_bytes: int
    server_time_ms: int
    token_expires_in_ms: int = 0
    """Time for which the session's token is good from now on; then the connection is closed with 4002. 0: not told."""
    presence: bool = False
    """True: the session goes on watching the players that it watched, from the cursor that `hello` named. False: it
    watches nobody; watch again, with the versions that you have."""


class Redirect(Reply, tag="redirect", frozen=True):
    """Connect to `url` instead; the server closes with 4005 after this."""

    url: str
    node: str


class Heartbeat(Request, tag="heartbeat", frozen=True):
    """Still here. `ack` acknowledges pushes up to that sequence number. Id 0: acknowledged
    cumulatively by `Beats`. `state` is a word for the application's session actor."""

    ack: Seq = 0
    state: Word | None = None


class Beat(Reply, tag="beat", frozen=True):
    """The answer to one heartbeat."""


class Beats(msgspec.Struct, tag="beats", array_like=True, frozen=True, gc=False):
    """Acknowledges all heartbeats with id 0 so far; `count` of them took effect since the session began."""

    count: int


class Ack(Request, tag="ack", frozen=True):
    """Acknowledges pushes up to `seq`; id 0, never answered."""

    seq: Seq


class Watch(Request, tag="watch", frozen=True):
    """Subscribe to the stream of actor `topic` (`kind/key`) from event number `from_seq`
    (1 is the first). Answered by `Watching`; the events follow as `Events`, each exactly once
    and in order. `known` is the `mark` that came with event `known_seq`: refused with `history_changed` if the log does
    not have it there any more."""

    topic: Annotated[str, Meta(max_length=128)]
    from_seq: Annotated[int, Meta(ge=1, le=MAX_SEQ)] = 1
    known_seq: Annotated[int, Meta(ge=0, le=MAX_SEQ)] = 0
    known: Annotated[str, Meta(max_length=32, pattern=whole("[0-9a-f]*"))] = ""


class Watching(Reply, tag="watching", frozen=True):
    topic: str
    next_seq: int


class TokenRenew(Request, tag="token.renew", frozen=True):
    """Go on under another token of the same subject and role, before the present one expires."""

    token: Token


class Renewed(Reply, tag="renewed", frozen=True):
    """The session's token is good for so long from now on."""

    token_expires_in_ms: int


class Unwatch(Request, tag="unwatch", frozen=True):
    topic: Annotated[str, Meta(max_length=128)]


class WatchLatest(Request, tag="watch_latest", frozen=True):
    """Subscribe to the latest topic of actor `topic` (`kind/key`): of its values only the newest matter. Answered by
    `Snapshot`; changes follow as `Latest`. `unwatch` ends it."""

    topic: TopicName


class LatestItem(msgspec.Struct, array_like=True, frozen=True):
    """A key of a latest topic with its newest value, whole; nil: the key is gone."""

    key: str
    value: Any = None


class Snapshot(Reply, tag="snapshot", frozen=True):
    """All keys of latest topic `topic`. `cursor` names this picture, for a `hello` that resumes."""

    topic: str
    cursor: str
    items: list[LatestItem]


class Latest(msgspec.Struct, tag="latest", array_like=True, frozen=True, gc=False):
    """Keys of latest topic `topic` that changed since the picture that was sent before. No push: it has no number, is
    not acknowledged and not sent again; a client that reads slowly gets fewer and newer. `whole`: these are all keys,
    and others are gone."""

    topic: str
    cursor: str
    whole: bool
    items: list[LatestItem]


class SeenPlayer(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A player with the version of the presence that the client has."""

    player: str
    version: Annotated[int, Meta(ge=0, le=MAX_SEQ)]


class PresenceWatch(Request, tag="presence.watch", frozen=True):
    """Watch the presence of players, and go on watching those of before. Answered by `presence.watched`, after the
    presence of each of them has come in `presence.changes`; changes follow in the same message."""

    players: Annotated[list[str], Meta(max_length=MAX_PLAYERS)] = []
    friends: bool = False
    """Watch one's friends, too: those of now, and from then on whoever is one."""
    seen: Annotated[list[SeenPlayer], Meta(max_length=MAX_SEEN)] = []
    """Versions that the client has. What is of the same version is left out of what comes before the answer."""


class PresenceFriends(msgspec.Struct, tag="presence.friends", array_like=True, frozen=True, gc=False):
    """All players that are watched as friends now. Comes before the answer of a `presence.watch` with `friends`, and
    whenever the list has changed. No push, like `presence.changes`, in which it is told how they are."""

    players: list[str]


class PresenceWatched(Reply, tag="presence.watched", frozen=True):
    """The presence of all that were asked for has been sent. `watched`: players that the session watches now.
    `bad`: names that no player can have, which are not watched."""

    cursor: str
    watched: int
    bad: list[str] = []


class PresenceUnwatch(Request, tag="presence.unwatch", frozen=True):
    """Watch these players no more, unless they are watched as friends; with `friends`, one's friends no more, unless
    they are watched by name. Others are no error. Answered by `done`; players that are watched no more come
    in `presence.changes` before it, with version 0."""

    players: Annotated[list[str], Meta(max_length=MAX_PLAYERS)] = []
    friends: bool = False


class PresenceList(Request, tag="presence.list", frozen=True):
    """The presence of players, once. Answered by `presence.listed`."""

    players: Annotated[list[str], Meta(max_length=MAX_LISTED)]


class PresenceItem(msgspec.Struct, array_like=True, frozen=True):
    """A player's presence as this client may see it. `version` names the content: equal versions are equal values, at
    every node. Version 0, with `null`: the player is watched no more."""

    player: str
    version: int
    value: Any = None


class PresenceListed(Reply, tag="presence.listed", frozen=True):
    """The presence of the players that were asked for; `bad`: names that no player can have."""

    items: list[PresenceItem]
    bad: list[str] = []


class PresenceChanges(msgspec.Struct, tag="presence.changes", array_like=True, frozen=True, gc=False):
    """The newest presence of watched players. No push: it has no number, is not acknowledged and not sent again; a
    client that reads slowly gets fewer and newer. `cursor`: for a `hello` that resumes; empty while more of the same
    follows: keep the one before."""

    cursor: str
    items: list[PresenceItem]


class Done(Reply, tag="done", frozen=True):
    """A success that carries nothing more."""


class Events(Push, tag="events", frozen=True):
    """Durable events `first_seq`, `first_seq + 1`, … of stream `topic`. `mark`: a hash of the log up to the last of
    them; empty where it is not at hand."""

    topic: str
    first_seq: int
    events: list[msgspec.Raw]
    mark: str = ""


class WatchEnded(Push, tag="watch_ended", frozen=True):
    """Stream `topic` is not watched any more: its actor does not let this client watch it now, which `code` says:
    `forbidden`. No event follows."""

    topic: str
    code: str


class ReplayOpen(Request, tag="replay.open", frozen=True):
    """Replay the log of actor `topic` (`kind/key`) from clock `from_ms` on, or from event `from_seq` where that is
    not 0. `replay` is the client's own number for it; a replay of that number which is open is closed. Answered by
    `replay.status`; then come `replay.scene` and, at their pace, `replay.events`."""

    replay: ReplayNumber
    topic: TopicName
    from_ms: LogTime = 0
    from_seq: Seq = 0
    speed: ReplaySpeed = 100
    """Hundredths of the log's own speed: 100 is as it was, 25 a quarter, 6,400 is 64 times as fast."""
    playing: bool = True
    """False: show where it begins, and wait for `replay.control`."""
    follow: Followed = ""
    """Show only events that name this player, and those that name nobody. Empty: all events."""


class ReplayControl(Request, tag="replay.control", frozen=True):
    """Pause a replay or let it go on, change its speed, seek, follow somebody else: what is not `null`. Answered by
    `replay.status`; after a seek comes `replay.scene`."""

    replay: ReplayNumber
    playing: bool | None = None
    speed: ReplaySpeed | None = None
    seek_ms: LogTime | None = None
    follow: Followed | None = None


class ReplayClose(Request, tag="replay.close", frozen=True):
    """Close a replay. One that is not open is no error. Answered by `done`."""

    replay: ReplayNumber


class ReplayStatus(Reply, tag="replay.status", frozen=True):
    """A replay as it is now: its clock, and the number of the next event to come. `end_seq` is the number that the
    log's next event would have, `end_ms` the clock up to which it can be seen; `finished`: nothing is added to it any
    more."""

    replay: int
    time_ms: int
    speed: int
    playing: bool
    next_seq: int
    end_seq: int
    end_ms: int
    finished: bool


class ReplayScene(Push, tag="replay.scene", frozen=True):
    """A replay shows another place: forget what you show of it. `scene` is the whole state before event `next_seq`, as
    the application shows it, at clock `time_ms`."""

    replay: int
    next_seq: int
    time_ms: int
    scene: Any


class ReplayedEvent(msgspec.Struct, array_like=True, frozen=True):
    """An event of a log with its number."""

    number: int
    event: msgspec.Raw


class ReplayEvents(Push, tag="replay.events", frozen=True):
    """The next events of a replay, whose clock is `time_ms`."""

    replay: int
    time_ms: int
    events: list[ReplayedEvent]


class ReplayGap(Push, tag="replay.gap", frozen=True):
    """Events `first_seq` to `last_seq` of the log cannot be read, for the reason in `why`. A `replay.scene` follows
    where it goes on after them."""

    replay: int
    first_seq: int
    last_seq: int
    why: str


class ReplayState(Push, tag="replay.state", frozen=True):
    """The clock of a replay stands at `time_ms`, since `why`: `end` (all of the log was shown, the replay is paused),
    `limit` (more may not be seen yet, or has not happened: it goes on with whatever can be seen), `slow` (the client
    does not acknowledge what it was sent). Empty: it goes on after `slow`."""

    replay: int
    time_ms: int
    why: str


class ReplayEnded(Push, tag="replay.ended", frozen=True):
    """A replay is over, and was at clock `time_ms` before event `next_seq`. `code`: `moved` (the session goes to
    another node: open it again from there), `history_changed` (the log is not the one that it was any more), or the
    code of the error that ended it."""

    replay: int
    time_ms: int
    next_seq: int
    code: str


class Close(Request, tag="close", frozen=True):
    """The client leaves for good: its session is not kept for resuming."""


class Failed(Reply, tag="error", frozen=True):
    """The typed error of request `id` (0 where no id could be read)."""

    code: str
    message: str
    retry_after_ms: int | None = None


class Going(Push, tag="going", frozen=True):
    """This session moves: resume it at `url` (any node if empty) within `within_ms`."""

    url: str
    within_ms: int


class CloseCode:
    """WebSocket close codes. Those of RFC 6455 keep their meaning; see docs/protocol.md."""

    NORMAL = 1000
    GOING_AWAY = 1001  # the node stops, or does not take this session in: retry elsewhere, at once
    PROTOCOL_ERROR = 1002
    UNSUPPORTED = 1003
    BAD_UTF8 = 1007
    TOO_BIG = 1009
    INTERNAL = 1011
    BAD_TOKEN = 4001  # do not retry
    TOKEN_EXPIRED = 4002  # retry with a new token
    HELLO_TIMEOUT = 4003
    REPLACED = 4004  # another connection took the session: do not retry
    REDIRECTED = 4005  # retry at the url of the redirect
    FLOOD = 4006  # retry after a pause
    SLOW_READER = 4007  # may resume
    HEARTBEAT_MISSED = 4008  # retry
    MOVED = 4009  # the session is at another node: retry
    OWNERSHIP_LOST = 4010  # the node lost its lease: retry elsewhere
    FULL = 4011  # no room for another connection: retry elsewhere
    DISMISSED = 4012  # the application ended the session: do not retry
    OCCUPIED = 4013  # the login policy keeps another session of this player: do not retry by itself

    APPLICATION = range(4100, 5000)  # the application's own reasons to end a session: do not retry


ENGINE_REQUESTS: tuple[type[Request], ...] = (
    Hello,
    Heartbeat,
    Ack,
    Watch,
    Unwatch,
    Close,
    WatchLatest,
    TokenRenew,
    PresenceWatch,
    PresenceUnwatch,
    PresenceList,
    ReplayOpen,
    ReplayControl,
    ReplayClose,
)
ENGINE_ANSWERS: tuple[type[msgspec.Struct], ...] = (
    Welcome,
    Redirect,
    Beat,
    Beats,
    Watching,
    Done,
    Events,
    WatchEnded,
    Failed,
    Going,
    Snapshot,
    Latest,
    Renewed,
    PresenceWatched,
    PresenceListed,
    PresenceChanges,
    PresenceFriends,
    ReplayStatus,
    ReplayScene,
    ReplayEvents,
    ReplayGap,
    ReplayState,
    ReplayEnded,
)
