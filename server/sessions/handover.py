"""A session on its way to another node: its wire form, and what a node remembers of it. Pure.

    Ship       sessions, frozen, from the node that has them; answered by one verdict for each
    Want       who has these? From a node where their client has just said hello
    Forget     a session that was shipped has ended for good, on its old connection, or goes on at
               its sender, which did not learn that it had arrived

A session is a `Packed` between two of its messages: everything that resuming needs, its pushes as
the frames that the client will see. Shipping the same one again is the same answer, so that a
sender who does not know what became of a shipment repeats it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Final, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from server.errors import BadInput, Corrupt
from server.ids import NodeAddress, actor_id, parse_actor_id
from server.sessions.outbox import Outbox
from server.wire.codec import UNDECODABLE, Format
from server.wire.messages import Push

MAX_BATCH: Final = 100
"""Sessions in one shipment, and questions in one `Want`."""
MAX_BATCH_BYTES: Final = 256 * 1024
"""About what one shipment holds; a session with more in its outbox travels alone."""
MAX_REMEMBERED: Final = 100_000

Verdict = Literal[0, 1, 2]
INSTALLED: Final = 0
REFUSED: Final = 1
"""Nothing was installed: no room, or the receiver is leaving too, or it does not know yet whether it
keeps the session of that player that it has."""
REPLACED: Final = 2
"""The receiver has a session of that player that stays (see `takes_over`)."""

ClientRole = Literal["player", "host", "service"]
Text = Annotated[str, Meta(min_length=1, max_length=128)]
ResumeToken = Annotated[str, Meta(min_length=1, max_length=64)]
Count = Annotated[int, Meta(ge=0)]
T = TypeVar("T")


class Packed(msgspec.Struct, array_like=True, frozen=True):
    """One session. `moves` counts its shipments. `frames` are the pushes `acked + 1`,
    `acked + 2`, … `beats`: heartbeats that `Beats` acknowledges. `topics`: what it watches, with
    the number of the event that it gets next. `sent`: the newest push that was ever written to the
    client; absent where it is connected, and so may get all of `frames`."""

    resume: ResumeToken
    session: Text
    subject: Text
    role: ClientRole
    format: Format
    stays: bool
    moves: Count
    since_ms: int
    beats: Count
    acked: Count
    frames: list[bytes]
    topics: list[tuple[Text, Annotated[int, Meta(ge=1)]]]
    sent: Count | None = None


class Wanted(msgspec.Struct, array_like=True, frozen=True):
    """A resume token and whose it must be."""

    resume: ResumeToken
    subject: Text
    role: ClientRole


class Ship(msgspec.Struct, array_like=True, frozen=True, tag=0):
    """Answered by a list of `Verdict`, one for each session."""

    sessions: Annotated[list[Packed], Meta(max_length=MAX_BATCH)]


class Want(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """Answered by a list of text, one for each: empty (never heard of it), the asker's own address
    (it is on its way there now) or the address of the node that it went to."""

    wanted: Annotated[list[Wanted], Meta(max_length=MAX_BATCH)]


class Forget(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """End shipment `moves` of session `resume`, for the reason `why`: `moved` if it goes on at the
    sender."""

    resume: ResumeToken
    moves: Count
    why: Text


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Ship | Want | Forget).decode
_decode_verdicts = msgspec.msgpack.Decoder(list[Verdict]).decode
_decode_places = msgspec.msgpack.Decoder(list[Annotated[str, Meta(max_length=128)]]).decode


def encode(message: "Ship | Want | Forget | Sequence[int] | Sequence[str]") -> bytes:
    """A message, or an answer to one, as bytes."""
    return _encode(message)


def decode(payload: bytes) -> Ship | Want | Forget:
    """Raises `BadInput` for anything but a message, whole and plausible."""
    try:
        message: Ship | Want | Forget = _decode(payload)
    except UNDECODABLE as error:
        raise BadInput(f"session message: {error}") from None
    if isinstance(message, Ship):
        for packed in message.sessions:
            actor_id("session", packed.subject)
            for topic, _ in packed.topics:
                parse_actor_id(topic)
    return message


def decode_verdicts(payload: bytes, count: int) -> list[Verdict]:
    """The answer to a `Ship` of `count` sessions. Raises `Corrupt`."""
    return _answers(_decode_verdicts, payload, count)


def decode_places(payload: bytes, count: int) -> list[str]:
    """The answer to a `Want` of `count` sessions. Raises `Corrupt`."""
    return _answers(_decode_places, payload, count)


def _answers(decode: Callable[[bytes], list[T]], payload: bytes, count: int) -> list[T]:
    try:
        answers = decode(payload)
    except UNDECODABLE as error:
        raise Corrupt(f"answer of a gateway: {error}") from None
    if len(answers) != count:
        raise Corrupt(f"{len(answers)} answers to {count} questions")
    return answers


def unpack_outbox(packed: Packed, max_messages: int, max_bytes: int) -> Outbox | None:
    """The session's outbox: what was sent, or may have been, and the client's own number decide on
    resuming. None if it is over the bounds here, with one frame's grace."""
    size = sum(map(len, packed.frames))
    if len(packed.frames) > max_messages + 1 or size > max_bytes + 1024:
        return None
    return Outbox.restored(max_messages, max_bytes, packed.acked, packed.frames, packed.sent)


def takes_over(packed: Packed, since_ms: int, attached: bool, sought: bool = False) -> bool:
    """Does the arriving session of a player take the place of the one here, begun at `since_ms`? One
    with a connection, or whose client waits for it here (`sought`), goes before one without: the
    clocks of two nodes differ, and a client that is replaced stops. Of two with a connection, or two
    without, the later one, as at one node.

    Never both: only the receiver decides, and it ends its own or lets the sender end the other.
    Never none: a session that is itself on its way is not compared (`REFUSED`), so no two nodes decide."""
    arrives_attached = packed.sent is None or sought
    return arrives_attached if arrives_attached != attached else packed.since_ms > since_ms


class Move:
    """A session that should go to node `to`, known to clients as `url`. Frozen: it is packed and
    on its way. `queued`: the node in whose line it waits. `pulled`: its client is there already, so
    that it need not be told. `over`: why it ended here meanwhile. Kept from the freezing on: `topics`,
    what it watches; `late`, pushes that came after it was packed, which follow it; `going`, the last
    frame that was packed, which tells the client where the session is, empty if nobody is there to be
    told."""

    __slots__ = ("attempt", "frozen", "going", "late", "over", "pulled", "queued", "to", "topics", "url")

    def __init__(self, to: NodeAddress, url: str, attempt: int = 0) -> None:
        self.to, self.url, self.attempt = to, url, attempt
        self.queued: NodeAddress | None = None
        self.frozen = self.pulled = False
        self.topics: list[tuple[str, int]] = []
        self.late: list[Push] = []
        self.going = b""
        self.over = ""

    def keep(self, push: Push, bound: int) -> bool:
        """Keep a late push. False: there are `bound` already."""
        if len(self.late) >= bound:
            return False
        self.late.append(push)
        return True


class _Went(NamedTuple):
    to: NodeAddress
    moves: int
    player: str
    until: float


class Remembered:
    """Where sessions went that were here, for as long as somebody may ask: by resume token, and
    by player. Bounded; the oldest are forgotten first."""

    def __init__(self, bound: int = MAX_REMEMBERED) -> None:
        self._bound = bound
        self._tokens: dict[str, _Went] = {}
        self._players: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._tokens)

    def note(self, resume: str, player: str, to: NodeAddress, moves: int, until: float) -> None:
        """Session `resume` (of `player`, empty if it is none's) is at `to` now, by move `moves`."""
        self.forget(resume)
        self._tokens[resume] = _Went(to, moves, player, until)
        if player:
            self._players[player] = resume
        if len(self._tokens) > self._bound:
            self.forget(next(iter(self._tokens)))

    def forget(self, resume: str) -> None:
        """It is here again, or nowhere."""
        entry = self._tokens.pop(resume, None)
        if entry is not None and self._players.get(entry.player) == resume:
            del self._players[entry.player]

    def where(self, resume: str, now: float) -> NodeAddress | None:
        entry = self._tokens.get(resume)
        return entry.to if entry is not None and now < entry.until else None

    def moves(self, resume: str) -> int:
        """The number of the move by which the session went; 0 if that is not known."""
        entry = self._tokens.get(resume)
        return entry.moves if entry is not None else 0

    def of_player(self, player: str, now: float) -> NodeAddress | None:
        resume = self._players.get(player)
        return self.where(resume, now) if resume is not None else None

    def expire(self, now: float) -> None:
        """Forget what nobody asks for any more."""
        for resume in [resume for resume, entry in self._tokens.items() if entry.until <= now]:
            self.forget(resume)


def batches(items: Iterable[T]) -> Iterator[list[T]]:
    """`items` in lists of at most `MAX_BATCH`."""
    out: list[T] = []
    for item in items:
        out.append(item)
        if len(out) == MAX_BATCH:
            yield out
            out = []
    if out:
        yield out
