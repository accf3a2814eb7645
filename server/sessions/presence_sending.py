"""Sends the newest presence of watched players to their watchers, at each tick.

A change is encoded once for all who see the same of it. A session that lacks one player gets a frame that all of them
share; one that lacks several gets their items, encoded once, joined in a frame of its own. A session that cannot be
written to (its client does not read, or is away, or it is on its way to another node, or its new relations are not
here yet) stays behind with the slots of what it lacks, and gets what is newest then. So a slow reader gets fewer and
newer, never a wrong one.

All of it is done in slices of the loop's time (`slices.py`): a player's new values and the notes of who lacks them are
one piece of work, what is written to some sessions another. In between a session may be sent to, go, or watch somebody
no more; what it lacks is noted in its table, so that it gets what is newest when its turn comes. A change that has few
watchers, and is the only one, is written to them at once.

*Revisions* count the moves. A frame that leaves nothing behind carries the present one as its
cursor; a client that comes back with it lacks what moved since, and nothing else. Frames with another one of the same
row to follow carry none.
"""

from collections.abc import Callable, Iterable
from typing import Final

from server.ids import NodeAddress
from server.runtime.metrics import Metrics
from server.sessions.presence_pictures import LEVELS, LOOK_BITS, LOOKS, Values, chunks, frame, gone_item
from server.sessions.presence_tables import LATE, Audience, WatchTable
from server.sessions.session import Session
from server.sessions.slices import Slices
from server.wire.messages import PresenceFriends

AT_ONCE: Final = 1_000
PIECE_UNITS: Final = 100
FRAME_HEAD_BYTES: Final = 256
"""Bytes of a frame beside its items, and some to spare."""

SessionAudience = Audience[Session]
SessionWatches = WatchTable[Session]


class PresenceSender:
    """See the module's head. `frame_bytes`: about what the items of a frame may have at most. `values_of`: how a player
    looks now. `at_once`: watchers to whom a change that is alone is written in one piece; `piece`: pairs after which a
    piece of work is over."""

    def __init__(
        self,
        me: NodeAddress,
        metrics: Metrics,
        frame_bytes: int,
        slices: Slices,
        values_of: Callable[[SessionAudience], Values],
        at_once: int = AT_ONCE,
        piece: int = PIECE_UNITS,
    ) -> None:
        self._at_once, self._piece = at_once, piece
        self._metrics, self._frame_bytes, self._slices, self._values_of = metrics, frame_bytes, slices, values_of
        self.token = f"{me.node}-{me.incarnation}"
        self.revision = 1
        self._cursor = self._cursor_now()
        self._late: dict[SessionWatches, None] = {}
        """Sessions that may be written to again and lack something."""
        self._changed: dict[SessionAudience, None] = {}
        """Players who may look different, and are to be looked at."""
        self._due: dict[SessionWatches, None] = {}
        """Sessions that lack something and are to be sent it."""
        self._works = False
        """Whether there is work in line for that."""
        self._frames: dict[tuple[SessionAudience, int], bytes] = {}
        """Frames of one player, by look, of the present revision."""

    # ---- revisions ----

    def _cursor_now(self) -> str:
        return f"{self.token}:{self.revision}"

    @property
    def cursor(self) -> str:
        """The name of the present revision."""
        return self._cursor

    def go_on_from(self, token: str, revision: int) -> None:
        """Go on with the revisions of the process before, by the names that clients know."""
        self.token, self.revision = token, revision - 1
        self.next_revision()

    def next_revision(self) -> int:
        """Begin the next revision."""
        self.revision += 1
        self._frames = {}
        self._cursor = self._cursor_now()
        return self.revision

    def revision_of(self, cursor: str) -> int:
        """The revision that a cursor names; -1 for one of another node or run."""
        token, _, revision = cursor.rpartition(":")
        if token != self.token or not revision.isdecimal() or len(revision) > len(str(self.revision)):
            return -1
        return int(revision) if int(revision) <= self.revision else -1

    # ---- at ticks ----

    def catch_up(self, table: SessionWatches) -> None:
        """Send what a session lacks at the next tick."""
        self._late[table] = None

    def forget(self, table: SessionWatches) -> None:
        """The session watches nobody any more."""
        self._late.pop(table, None)
        self._due.pop(table, None)

    def send(self, changed: Iterable[SessionAudience]) -> None:
        """Show the new values of these players to their watchers, and what they lack to sessions that lagged behind."""
        late, self._late = self._late, {}
        self._due.update(late)
        self._changed.update(dict.fromkeys(changed))
        self._go_on()

    def _go_on(self) -> None:
        if (self._changed or self._due) and not self._works:
            self._works = True
            self._slices.do(self._piece, self._work)

    def _work(self) -> None:
        """Do a piece of what there is to do: look at players first, so that a session gets all that moved in one."""
        units = 0
        try:
            alone = len(self._changed) == 1 and not self._due
            while self._changed and units < self._piece:
                audience = next(iter(self._changed))
                del self._changed[audience]
                units += 1 + len(audience.tables)
                self._show(audience, alone)
            while self._due and units < self._piece:
                table = next(iter(self._due))
                del self._due[table]
                units += 1 + len(table.late or ())
                self.flush(table)
        finally:
            self._works = False
            self._go_on()

    def _show(self, audience: SessionAudience, alone: bool) -> None:
        """Let the watchers of a player have its newest values; at once, where it is alone and they are few."""
        if not audience.tables:
            return  # watched no more
        values = self._values_of(audience)
        if values != audience.values:
            levels = audience.show(values, self.next_revision())
            if alone and len(audience.tables) <= self._at_once:
                self._send_one(audience, levels)
            elif levels:
                self._note(audience, levels)

    def _send_one(self, audience: SessionAudience, levels: int) -> None:
        """Send the only change of a tick: each look's frame is made once, and each session's part is a look into a
        list and a write."""
        frames = _SharedFrames(audience, levels, self._cursor)
        sent = coalesced = 0
        for table, slot in zip(list(audience.tables), audience.slots.tolist(), strict=True):
            data = frames[slot & LOOKS]
            if data is None:
                continue  # nothing moved for that level; one that waits for its first picture has none
            if table.late is None and table.session.offer(data):
                sent += 1
            elif table.audiences[slot >> LOOK_BITS] is audience and not table.make_late(slot >> LOOK_BITS):
                coalesced += 1
        self._count(sent, sent, coalesced)
        self._metrics.frames_out_total += sent

    def _note(self, audience: SessionAudience, levels: int) -> None:
        """Note that these sessions lack what has moved at these levels."""
        due, coalesced = self._due, 0
        for table, packed in zip(audience.tables, audience.slots, strict=True):
            if not levels >> (packed & LEVELS) & 1:
                continue
            slot = packed >> LOOK_BITS
            mark = table.marks[slot]
            if mark & LATE:
                coalesced += 1
                continue
            table.marks[slot] = mark | LATE
            late = table.late
            if late is None:
                table.late = [slot]
                due[table] = None
            else:
                late.append(slot)
        self._metrics.presence_coalesced_total += coalesced

    def flush(self, table: SessionWatches) -> None:
        """Send what a session lacks, if it can be written to, and answer requests that wait for that."""
        if table.behind:
            self._flush(table)

    def _flush(self, table: SessionWatches) -> None:
        session = table.session
        if table.held or not session.takes_latest:
            return
        if table.friends_due:
            table.friends_due = False
            session.send(session.codec.encode(PresenceFriends(table.friends_now())))
        late, gone = table.late, table.gone
        if late is not None:
            if len(late) == 1 and gone is None:
                self._flush_one(table, late[0])
            else:
                self._flush_all(table, late, gone or [])
            if table.late is not None:
                return
        answers, table.answers = table.answers, None
        for answer in answers or ():
            answer(None)

    def _flush_one(self, table: SessionWatches, slot: int) -> None:
        mark = table.marks[slot]
        table.late = None
        if mark & LATE:
            table.marks[slot] = mark & ~LATE
            audience = table.audiences[slot]
            assert audience is not None
            look = mark & LOOKS
            data = self._frames.get((audience, look))
            if data is None:
                data = self._frames[audience, look] = audience.frame(look, self._cursor)
            table.session.send(data)
            self._count(1, 1, 0)

    def _flush_all(self, table: SessionWatches, late: list[int], gone: list[str]) -> None:
        marks, audiences, session = table.marks, table.audiences, table.session
        items: list[bytes] = []
        slots: list[int] = []
        for slot in late:
            mark = marks[slot]
            if mark & LATE:
                marks[slot] = mark & ~LATE
                audience = audiences[slot]
                assert audience is not None
                items.append(audience.item(mark & LOOKS))
                slots.append(slot)
        table.late = table.gone = None
        if gone:
            items = [*(gone_item(player, session.format) for player in gone), *items]
        if not items:
            return
        counts = chunks(map(len, items), self._frame_bytes)
        done = 0
        for count in counts:
            if done and not session.takes_latest:
                self._put_back(table, gone[done:], slots[max(0, done - len(gone)) :])
                break
            last = done + count == len(items)
            session.send(frame(self._cursor if last else "", items[done : done + count], session.format))
            done += count
            self._count(count, 1, 0)

    def _put_back(self, table: SessionWatches, gone: list[str], slots: list[int]) -> None:
        """Keep what was not sent."""
        table.stay_behind()
        if gone:
            table.gone = gone
        for slot in slots:
            if table.audiences[slot] is not None:
                table.make_late(slot)

    def _count(self, differences: int, frames: int, coalesced: int) -> None:
        metrics = self._metrics
        metrics.presence_differences_total += differences
        metrics.presence_sent_total += frames
        metrics.presence_coalesced_total += coalesced


class _SharedFrames(dict[int, "bytes | None"]):
    """The frames of a tick's only change by look, each made when it is first needed; None: nothing moved there."""

    def __init__(self, audience: SessionAudience, levels: int, cursor: str) -> None:
        self._audience, self._levels, self._cursor = audience, levels, cursor

    def __missing__(self, look: int) -> bytes | None:
        moved = self._levels >> (look & LEVELS) & 1
        found = self[look] = self._audience.frame(look, self._cursor) if moved else None
        return found
