"""Pairs of sessions and the players that they watch, compactly: a node may have millions of them. Pure.

A *pair* is a session that watches a player. It stands in two rows: in the session's *table* at a slot, and in the
player's *audience* at a place; each side knows the other's number, so that a pair is removed in constant time from
both, also when all of ten thousand watchers leave. Slots never move (a free one is used again), places do: the last
pair of an audience takes the place of one that goes. With arrays and lists a pair takes some 30 bytes; a dict on each
side would take ninety.

A pair has a mark, a byte: the look of the session (level and format), why it is there, and whether it is *late*: the
session has not been sent the newest yet. A session that cannot be written to stays behind with the slots of late pairs
only, each once.
"""

from array import array
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

from server.errors import GarrisonError
from server.sessions.presence_pictures import JSON, LEVELS, LOOK_BITS, LOOKS, Values, frame, item

S = TypeVar("S")

BY_NAME: Final = 0x10
"""The client asked for this player by name."""
BY_FRIENDS: Final = 0x20
"""The client asked for its friends, of whom this is one."""
WAITING: Final = 0x40
"""Asked for, and not answered yet: nothing is sent before."""
LATE: Final = 0x80
ASKED_FOR: Final = BY_NAME | BY_FRIENDS


class Audience(Generic[S]):
    """A watched player with the pairs that it is in. `entry`: the presence engine's. `values`: what is shown to
    watchers, which moves at ticks only, so that all of them are told of the same moves; None before it is known for
    the first time. `moved`: for each level the revision at which that moved last."""

    __slots__ = ("_items", "entry", "moved", "player", "relations", "slots", "tables", "values")

    def __init__(self, player: str, entry: Any) -> None:
        self.player, self.entry = player, entry
        self.relations = 0
        """The greatest number of relations that its own sessions have heard of."""
        self.values: Values | None = None
        self.moved: tuple[int, ...] = _NEVER
        self.tables: list[WatchTable[S]] = []
        self.slots = array("I")
        """The slots of the pairs, each with its look in the lowest `LOOK_BITS`: whoever sends to thousands reads both
        here, one after the other."""
        self._items: list[bytes | None] | None = None
        """Encoded items by look."""

    def show(self, values: Values, revision: int) -> int:
        """Show other values from `revision` on. Returns the levels that moved, as bits."""
        before = self.values
        if before == values:
            return 0
        self.values = values
        self._items = None
        if before is None:
            self.moved = (revision,) * len(values)
            return (1 << len(values)) - 2
        levels = [level for level in range(1, len(values)) if values[level] != before[level]]
        moved = list(self.moved)
        for level in levels:
            moved[level] = revision
        self.moved = tuple(moved)
        return sum(1 << level for level in levels)

    def item(self, look: int) -> bytes:
        """The player's item at a look."""
        items = self._items
        if items is None:
            items = self._items = [None] * (LOOKS + 1)
        found = items[look]
        if found is None:
            assert self.values is not None and look & LEVELS
            found = items[look] = item(self.player, self.values[look & LEVELS], "json" if look & JSON else "msgpack")
        return found

    def frame(self, look: int, cursor: str) -> bytes:
        """A frame with this player alone."""
        return frame(cursor, (self.item(look),), "json" if look & JSON else "msgpack")


class _EachDifference(Generic[S]):
    """The slots that every difference touches, which lie together as those of a base class do."""

    __slots__ = ("late", "session")

    def __init__(self, session: S) -> None:
        self.session = session
        self.late: list[int] | None = None
        """Slots of pairs that are late, or were; None where the next difference may be sent at once."""


class WatchTable(_EachDifference[S]):
    """The players that a session watches. `since`: the revision before which its client may lack more than what
    moved. `count`: players that its client asked for."""

    __slots__ = (
        "answers", "asks", "audiences", "count", "friends", "friends_due", "gone", "held", "json", "marks", "number",
        "own", "places", "since", "unasked", "unused",
    )  # fmt: skip

    def __init__(self, session: S, json: bool) -> None:
        super().__init__(session)
        self.json = JSON if json else 0
        self.audiences: list[Audience[S] | None] = []
        self.marks = bytearray()
        self.places = array("I")
        self.unused: list[int] | None = None
        self.count = 0
        self.own: Audience[S] | None = None
        """The session's own player, whose entry says when its relations have changed."""
        self.friends = False
        """Watches whoever is a friend."""
        self.friends_due = False
        """Its client has not been told who its friends are now."""
        self.number = -1
        """Number of the list of relations that its levels are from."""
        self.held = False
        """Its relations have changed, and the new list is not here yet: nothing is sent."""
        self.asks = 0
        """Requests that wait for relations or for the first pictures."""
        self.unasked = 0
        """How often its client has said that it watches its friends no more."""
        self.gone: list[str] | None = None
        """Players that its client is to be told it watches no more."""
        self.answers: list[Callable[[GarrisonError | None], None]] | None = None
        """Requests that are answered when nothing is late any more: each is called with None, or the error."""
        self.since = 0

    @property
    def behind(self) -> bool:
        """There is something that its client has not been sent."""
        return self.late is not None or self.answers is not None

    def stay_behind(self) -> None:
        """Let nothing be sent past what its client is to be told, or asked about, first."""
        if self.late is None:
            self.late = []

    def index(self) -> dict[str, int]:
        """The slots by player."""
        return {each.player: slot for slot, each in enumerate(self.audiences) if each is not None}

    def friends_now(self) -> list[str]:
        """The players that are watched as friends."""
        return [
            each.player
            for each, mark in zip(self.audiences, self.marks, strict=True)
            if each is not None and mark & BY_FRIENDS
        ]

    def see(self, slot: int, level: int) -> None:
        """Let the client see the player at `slot` at a level."""
        audience, look = self.audiences[slot], level | self.json
        assert audience is not None
        self.marks[slot] = self.marks[slot] & ~LOOKS | look
        audience.slots[self.places[slot]] = slot << LOOK_BITS | look

    def make_late(self, slot: int) -> bool:
        """Note that the pair at `slot` is to be sent. False: it was already."""
        mark = self.marks[slot]
        if mark & LATE:
            return False
        self.marks[slot] = mark | LATE
        if self.late is None:
            self.late = [slot]
        else:
            self.late.append(slot)
        return True


def link(table: WatchTable[S], audience: Audience[S], mark: int) -> int:
    """Make a pair. Returns its slot."""
    unused, place = table.unused, len(audience.tables)
    mark |= table.json
    if unused:
        slot = unused.pop()
        table.audiences[slot], table.marks[slot], table.places[slot] = audience, mark, place
    else:
        slot = len(table.audiences)
        table.audiences.append(audience)
        table.marks.append(mark)
        table.places.append(place)
    audience.tables.append(table)
    audience.slots.append(slot << LOOK_BITS | mark & LOOKS)
    return slot


def link_all(table: WatchTable[S], audiences: Sequence[Audience[S]], marks: Sequence[int]) -> None:
    """Make many pairs that are new. Those whose mark has `LATE` are to be sent."""
    if table.unused:
        slots = [link(table, audience, mark) for audience, mark in zip(audiences, marks, strict=True)]
    else:
        json, places = table.json, table.places
        slot = first = len(table.audiences)
        for audience, mark in zip(audiences, marks, strict=True):
            tables = audience.tables
            places.append(len(tables))
            tables.append(table)
            audience.slots.append(slot << LOOK_BITS | mark & LOOKS | json)
            slot += 1
        slots = list(range(first, slot))
        table.audiences += audiences
        table.marks += bytes(marks) if not json else bytes(mark | json for mark in marks)
    late = [slot for slot, mark in zip(slots, marks, strict=True) if mark & LATE]
    if late:
        table.late = late if table.late is None else table.late + late


def unlink(table: WatchTable[S], slot: int) -> Audience[S]:
    """Remove the pair at `slot`. Returns the audience, which may be empty now."""
    audience, place = table.audiences[slot], table.places[slot]
    assert audience is not None and audience.tables[place] is table
    moved, moved_slot = audience.tables.pop(), audience.slots.pop()
    if place < len(audience.tables):
        audience.tables[place], audience.slots[place] = moved, moved_slot
        moved.places[moved_slot >> LOOK_BITS] = place
    table.audiences[slot] = None
    table.marks[slot] = 0
    if table.unused is None:
        table.unused = []
    table.unused.append(slot)
    return audience


_NEVER: Final = (0, 0, 0, 0, 0)
