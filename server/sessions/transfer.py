"""A session's change of node: what its sender and its receiver decide. Pure: events in, effects out.

    due -> queued -> shipping -> arrived    the receiver has it: the client is told, its connection closed
     |       |          |`-----> returned   refused, never sent, or its receiver is gone: it goes on here
     `-------'----------'------> off        it belongs here after all, or has ended

`Transfer` is the sender's side of one session; its methods are the events, the tuples that they return the
effects, which `mover.py` carries out in order. `admit`, `heed_reclaim` and `answer_want` are the receiver's side.

Frozen (shipping or arrived), nothing of a session changes on its sender: its cursors travel, a push is kept and
follows it. `Going` is the last push that is packed, so that its number is the session's wherever it goes on.

Only one node ever goes on with a session: a sender that does not know whether its shipment has arrived repeats it
(the receiver knows a session that it has) until it is answered or the receiver has left its view. Then it takes the
session back. A receiver that was only silent may install it all the same: it is told to forget it as soon as it is
in the view again. Until then a client that has had a push since cannot resume it there: numbers that were packed
are not given again, and pushes that the copy has numbered since and not sent to anybody the client cannot have had
(`Packed.sent`, where the copy moves on).
"""

from collections.abc import Container, Iterator
from typing import Final, Literal, NamedTuple

from server.ids import NodeAddress
from server.runtime.phases import PhaseTable
from server.sessions.end_reasons import (
    ENDED_DISMISSED,
    ENDED_MOVED,
    ENDED_REPLACED,
    ENDS_ONLY_THIS_COPY,
    TOOK_OVER,
    Ending,
)
from server.sessions.transfer_frames import INSTALLED, REFUSED, REPLACED, Packed, Verdict
from server.wire.messages import CloseCode, Push

MAX_REMEMBERED: Final = 100_000
"""Sessions that a node remembers to have had; the oldest are forgotten first."""

TransferPhase = Literal["due", "queued", "shipping", "arrived", "returned", "off"]
TRANSFER: Final = PhaseTable[TransferPhase](
    "session transfer",
    {
        "due": ("queued", "off"),
        "queued": ("queued", "shipping", "off"),
        "shipping": ("arrived", "returned", "off"),
        "arrived": (),
        "returned": (),
        "off": (),
    },
)


class Target(NamedTuple):
    """A node that should have a session, and the url that the client is told (empty: any node)."""

    to: NodeAddress
    url: str


# ---- effects ----


class JoinLine(NamedTuple):
    """Put the session at the end of the line for node `to`, and take it out of the one for `left`."""

    to: NodeAddress
    left: NodeAddress | None


class Departed(NamedTuple):
    """Remember that the session is at `to`, for everybody who asks; send `late` pushes after it."""

    to: NodeAddress
    late: tuple[Push, ...]


class ForgetThere(NamedTuple):
    """The session ended here for good while it was on its way: end the copy at `to` too."""

    to: NodeAddress
    ending: Ending


class Release(NamedTuple):
    """The session lives elsewhere: only its connection, if there is one, stays here for the moment."""


class TellClient(NamedTuple):
    """Send the packed `going`, and hang up when the client has had its time to follow."""

    going: bytes


class EndHere(NamedTuple):
    """End this node's copy; without a code nobody is told."""

    why: str
    code: int = 0
    reason: str = ""


class Reclaim(NamedTuple):
    """Node `to` may have the session, which goes on here: tell it, as soon as it is in the view again."""

    to: NodeAddress


class GoOn(NamedTuple):
    """Thaw the session: it watches `topics` again and gets the pushes that were kept.
    `stay`: its client has been sent away by a packed `going`, and is told that the session is here."""

    topics: list[tuple[str, int]]
    late: tuple[Push, ...]
    stay: bool


Effect = JoinLine | Departed | ForgetThere | Release | TellClient | EndHere | Reclaim | GoOn
Effects = tuple[Effect, ...]


class Transfer:
    """A session on its way to node `to`, known to clients as `url`.

    `line`: the node in whose line it stands. `pulled`: its client is at `to` already and need not be told.
    `frozen`: it is packed, and nothing of it changes here (a bool beside the phase: each heartbeat without an id
    reads it). From the freezing on: `topics`, what it watches; `late`, pushes that came since; `going`,
    the last frame that was packed, empty if nobody is there to be told; `over`, why it ended here meanwhile."""

    __slots__ = (
        "attempt",
        "frozen",
        "going",
        "late",
        "line",
        "name",
        "over",
        "phase",
        "pulled",
        "to",
        "topics",
        "url",
    )

    def __init__(self, name: str, target: Target, attempt: int = 0) -> None:
        self.name = name
        self.to, self.url = target
        self.attempt = attempt
        self.phase: TransferPhase = "due"
        self.line: NodeAddress | None = None
        self.frozen = self.pulled = False
        self.topics: list[tuple[str, int]] = []
        self.late: list[Push] = []
        self.going = b""
        self.over = Ending(ENDED_MOVED)

    def _enter(self, phase: TransferPhase) -> None:
        self.phase = TRANSFER.move(self.name, self.phase, phase)
        assert self.frozen or phase not in ("shipping", "arrived"), f"{self.name} is {phase} and not frozen"
        if phase != "queued":
            self.line = None

    # ---- until it is packed ----

    def retarget(self, target: Target) -> None:
        """The view has changed, and another node should have the session."""
        assert not self.frozen and not self.pulled
        self.to, self.url = target

    def call_off(self) -> None:
        """The session belongs here after all, or it has ended before it was packed."""
        self._enter("off")

    def join_line(self) -> Effects:
        """Its moment has come: to the end of the line for its node."""
        if self.line == self.to:
            return ()
        self._enter("queued")
        left, self.line = self.line, self.to
        return (JoinLine(self.to, left),)

    def pull(self, target: Target) -> Effects:
        """Its client is at `target` and wants it: it waits for no other node."""
        assert not self.frozen
        self.to, self.url = target
        self.pulled = True
        return self.join_line()

    def at_head(self, line: NodeAddress) -> Literal["pack", "elsewhere", "not here"]:
        """Its turn in the line for node `line`: it is packed, or belongs into another line by now (`join_line`), or
        its place here is an old one."""
        if self.phase != "queued" or self.line != line:
            return "not here"
        self.line = None
        return "pack" if self.to == line else "elsewhere"

    def freeze(self, topics: list[tuple[str, int]], going: bytes) -> None:
        """Note that it is packed: from here on nothing of the session changes on this node."""
        self.frozen = True
        self._enter("shipping")
        self.topics, self.going = topics, going

    # ---- on its way ----

    def keep(self, push: Push, bound: int) -> bool:
        """Keep a push that came after it was packed. False: there are `bound` already."""
        assert self.frozen
        if len(self.late) >= bound:
            return False
        self.late.append(push)
        return True

    def answered(self, verdict: Verdict, ended: bool, attached: bool) -> Effects:
        """The receiver has said what became of it; `ended`: the session has ended here meanwhile."""
        if self.phase != "shipping":
            return ()  # the session has been back since
        if verdict == INSTALLED:
            return self.arrived(self.to, ended, attached)
        if verdict == REPLACED:
            self._enter("off")
            return (EndHere(ENDED_REPLACED, CloseCode.REPLACED, TOOK_OVER),)
        return self._returned(ended, stay=False)

    def lost(self, ended: bool) -> Effects:
        """Its receiver has left the view, and whether it had the session is not known."""
        if self.phase != "shipping":
            return ()
        return (Reclaim(self.to), *self._returned(ended, stay=bool(self.going)))

    def given_up(self) -> Effects:
        """The receiver is in the view and has not answered for a whole resume window."""
        if self.phase != "shipping":
            return ()
        self._enter("off")
        return (EndHere(ENDED_MOVED, CloseCode.MOVED, "the player is served by another node now"),)

    def arrived(self, at: NodeAddress, ended: bool, attached: bool) -> Effects:
        """Node `at` has it: by its answer, or because it sends the session back."""
        self._enter("arrived")
        late, self.late = tuple(self.late), []
        departed = Departed(at, late)
        if ended:
            return (departed, *_forget(at, self.over))
        if not attached:
            return (departed, Release(), EndHere(ENDED_MOVED))
        if self.pulled:
            # Its client is at `at`, or was just now: one that has come back here since is to try again, not to stop.
            return (departed, Release(), EndHere(ENDED_MOVED, CloseCode.MOVED, "resumed at another node"))
        return (departed, Release(), TellClient(self.going))

    def _returned(self, ended: bool, stay: bool) -> Effects:
        self._enter("returned")
        self.frozen = False
        late, self.late = tuple(self.late), []
        return () if ended else (GoOn(self.topics, late, stay),)

    def session_ended(self, ending: Ending) -> Effects:
        """The session has ended on this node, for whatever reason."""
        if not self.frozen:
            if self.phase in ("due", "queued"):
                self._enter("off")
            return ()
        self.over = ending
        if self.phase == "arrived" or ending.why == ENDED_DISMISSED:  # else told once it is known to have arrived
            return _forget(self.to, ending)
        return ()


def _forget(to: NodeAddress, ending: Ending) -> Effects:
    return () if ending.why in ENDS_ONLY_THIS_COPY else (ForgetThere(to, ending),)


class Attempts:
    """A batch on its way to one node: what each failed attempt to ship it means."""

    __slots__ = ("_give_up_at", "_unknown")

    def __init__(self, give_up_at: float) -> None:
        self._give_up_at = give_up_at
        self._unknown = False

    def failed(self, unknown: bool, listed: bool, now: float) -> Literal["refused", "lost", "given up", "again"]:
        """An attempt has failed. `unknown`: it may have arrived all the same; `listed`: the receiver is in the view.
        As long as no attempt may have arrived, nothing was sent, and the sessions go on here."""
        self._unknown = self._unknown or unknown
        if not self._unknown:
            return "refused"
        if not listed:
            return "lost"
        return "given up" if now >= self._give_up_at else "again"


# ---- the receiver's side ----

Copy = Literal["none", "moving", "untouched", "live"]
"""This node's copy of a session that a peer speaks of: on its way elsewhere; come here and not resumed yet; or with
a life of its own."""


Fate = Literal["keep", "departed", "supersede"]
"""The fate of a copy: it stays; it has arrived where it was sent; it ends, since its sender went on."""


class ArrivalFacts(NamedTuple):
    """Facts about a session that arrives. `here`: this node's copy; `last_moves`: the newest shipment of it that
    this node has had. `fits`: its outbox and topics are within the bounds here, and there is room. `rival_moving`:
    the player's other session here is on its way elsewhere; `rival_stays`: it stays (see `takes_over`). `abandoned`:
    it was sent for a client that waited here, and no client waits here for it any more."""

    moves: int
    last_moves: int
    here: Copy
    fits: bool
    rival_moving: bool
    rival_stays: bool
    abandoned: bool = False


class Admission(NamedTuple):
    """`here`: what becomes of this node's copy, before all else. `install`: take the session in."""

    verdict: Verdict
    install: bool = False
    here: Fate = "keep"


def admit(arrival: ArrivalFacts) -> Admission:
    """Decide on a session that arrives. A shipment that is no news is `INSTALLED`, also if the session that it
    brought has ended since: its client may have missed something, and is to learn that."""
    if arrival.last_moves >= arrival.moves:
        return Admission(INSTALLED)
    if arrival.here == "live":
        return Admission(REPLACED)  # believed lost with its sender, it went on here
    # Moving: it had arrived where it was sent, and comes back. Untouched: its sender never learnt that it was here.
    here: Fate = "departed" if arrival.here == "moving" else "supersede" if arrival.here == "untouched" else "keep"
    if not arrival.fits or arrival.rival_moving or arrival.abandoned:
        return Admission(REFUSED, here=here)
    if arrival.rival_stays:
        return Admission(REPLACED, here=here)
    return Admission(INSTALLED, install=True, here=here)


def takes_over(packed: Packed, since_ms: int, attached: bool, sought: bool = False) -> bool:
    """Tell whether the arriving session of a player takes the place of the one here, begun at `since_ms`. A session
    with a connection, or whose client waits for it here (`sought`), goes before one without: the
    clocks of two nodes differ, and a client that is replaced stops. Of two with a connection, or two
    without, the later one, as at one node.

    Never both: only the receiver decides, and it ends its own or lets the sender end the other.
    Never none: a session that is itself on its way is not compared (`REFUSED`), so no two nodes decide."""
    arrives_attached = packed.sent is None or sought
    return arrives_attached if arrives_attached != attached else packed.since_ms > since_ms


def heed_reclaim(moves: int, here: Copy, here_moves: int, gone_moves: int) -> Literal["supersede", "note", "ignore"]:
    """Decide on word that a sender has taken back shipment `moves`, whether that has arrived or still will. `note`:
    it has not arrived, and must not be installed when it does. `gone_moves`: the shipment by which the session
    left this node, 0 if it did not."""
    if here == "none":
        return "ignore" if gone_moves >= moves else "note"
    return "supersede" if here == "untouched" and here_moves == moves else "ignore"


class DepartedSession(NamedTuple):
    """A session that was here: its node now, the number of its shipment there, its player (empty: none's), and how
    long that is remembered."""

    to: NodeAddress
    moves: int
    player: str
    until: float


class DepartedSessions:
    """Sessions that were here, by resume token and by player, for as long as somebody may ask. Bounded; the oldest
    are forgotten first."""

    def __init__(self, bound: int = MAX_REMEMBERED) -> None:
        self._bound = bound
        self._tokens: dict[str, DepartedSession] = {}
        self._players: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._tokens)

    def note(self, resume: str, player: str, to: NodeAddress, moves: int, until: float) -> None:
        """Remember that session `resume` (of `player`, empty if it is none's) is at `to` now, by shipment `moves`."""
        self.forget(resume)
        self._tokens[resume] = DepartedSession(to, moves, player, until)
        if player:
            self._players[player] = resume
        if len(self._tokens) > self._bound:
            self.forget(next(iter(self._tokens)))

    def forget(self, resume: str) -> None:
        """Session `resume` is here again, or nowhere."""
        entry = self._tokens.pop(resume, None)
        if entry is not None and self._players.get(entry.player) == resume:
            del self._players[entry.player]

    def place(self, resume: str, now: float) -> NodeAddress | None:
        """The node of session `resume`, as far as this one remembers."""
        entry = self._tokens.get(resume)
        return entry.to if entry is not None and now < entry.until else None

    def moves(self, resume: str) -> int:
        """The number of the shipment by which the session went; 0 if that is not known."""
        entry = self._tokens.get(resume)
        return entry.moves if entry is not None else 0

    def of_player(self, player: str, now: float) -> NodeAddress | None:
        """The node of the player's newest session that left."""
        resume = self._players.get(player)
        return self.place(resume, now) if resume is not None else None

    def entries(self) -> Iterator[tuple[str, DepartedSession]]:
        """All that is remembered, by resume token, the oldest first."""
        return iter(self._tokens.items())

    def expire(self, now: float) -> None:
        """Forget the sessions for which nobody asks any more."""
        for resume in [resume for resume, entry in self._tokens.items() if entry.until <= now]:
            self.forget(resume)


class Reclaimed:
    """A session that goes on here although node `to` may have it by shipment `moves`. That node is told until it
    answers, or until nobody could resume the session there any more. `telling`: word is on its way."""

    __slots__ = ("moves", "resume", "telling", "to", "until")

    def __init__(self, resume: str, to: NodeAddress, moves: int, until: float) -> None:
        self.resume, self.to, self.moves, self.until = resume, to, moves, until
        self.telling = False


class Reclaims:
    """The sessions of a node that it has taken back, by resume token. Bounded as `Departures` are."""

    def __init__(self, bound: int = MAX_REMEMBERED) -> None:
        self._bound = bound
        self._entries: dict[str, Reclaimed] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Reclaimed]:
        return iter(self._entries.values())

    def note(self, entry: Reclaimed) -> None:
        """Remember a session that was just taken back."""
        self._entries.pop(entry.resume, None)
        self._entries[entry.resume] = entry
        if len(self._entries) > self._bound:
            del self._entries[next(iter(self._entries))]

    def idle(self, now: float) -> list[Reclaimed]:
        """Entries of which no word is on its way; those that are out of date are forgotten."""
        for resume in [entry.resume for entry in self._entries.values() if now >= entry.until]:
            del self._entries[resume]
        return [entry for entry in self._entries.values() if not entry.telling]

    def begin(self, entry: Reclaimed, listed: Container[NodeAddress]) -> bool:
        """True if word is to be sent now: the entry still counts, and its node is in the view again."""
        entry.telling = entry.to in listed and self._entries.get(entry.resume) is entry
        return entry.telling

    def heard(self, entry: Reclaimed) -> None:
        """The node has answered: it will not go on with the session."""
        if self._entries.get(entry.resume) is entry:
            del self._entries[entry.resume]
