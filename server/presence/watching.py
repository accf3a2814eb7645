"""The watching side of a node: an entry a watched player, and how much of it is believed. Pure.

An entry is "known" if two things hold: the owner of the player's slot has answered about it (`source`), and that owner
vouches for its answers now (`Heard.trusted`). Not knowing is never told as a difference, which could come late: it
follows here, for all players of an owner at once, from the owner's silence, or from its saying that it is not sure. So
nobody can tell by it who of them is really online.

Somebody who is offline is in no owner's records, and the answer is empty; how an offline player looks comes from a row
of the store. An entry waits for its row in `wanted`, and looks as before until then.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from server.actors.pictures import Pictures
from server.ids import NodeAddress
from server.presence.bequest import EntryCopy, WatchedCopy
from server.presence.heard import Heard
from server.presence.messages import Looks, PlayerAnswer
from server.presence.outgoing import PresenceLimits
from server.presence.ports import WatchedPlayer
from server.runtime.ahead import Ahead

Row = Mapping[str, Any]
Gone = Callable[[Row | None], Pictures]


class WatchedPlayers:
    """See the module's head. `changed` are entries that look different since it was taken, `no_longer_asked` those
    that are not "asked" any more. `gone(row)` never fails; without `has_rows` nothing is stored of anybody."""

    def __init__(self, gone: Gone, has_rows: bool, limits: PresenceLimits) -> None:
        self._gone, self._has_rows, self._limits = gone, has_rows, limits
        self.entries: dict[str, WatchedPlayer] = {}
        self.unanswered: dict[WatchedPlayer, float] = {}
        """Entries that wait for an answer that is believed, and until when they do."""
        self.wanted: dict[WatchedPlayer, bool] = {}
        """Entries that wait for a row; True: it has been asked for."""
        self.stale_rows: dict[WatchedPlayer, float] = {}
        """Players who have just gone, whose rows may not say so yet, and when to ask again."""
        self.changed: dict[WatchedPlayer, None] = {}
        self.no_longer_asked: list[WatchedPlayer] = []
        self.unknown = 0
        """Entries that are "unknown"."""
        self.answers = 0
        self.ahead: Ahead[str] = Ahead()
        """Entries that go over to the heir of this node."""

    # ---- who is watched ----

    def add(self, player: str, slot: int, now: float) -> WatchedPlayer:
        """A new entry: it is there before anybody is asked, so that no difference can come too early for it."""
        entry = self.entries[player] = WatchedPlayer(player, slot)
        self._note(entry)
        self.unanswered[entry] = now + self._limits.answer_s
        return entry

    def remove(self, entry: WatchedPlayer) -> bool:
        """Forget an entry. False where it is none (any more)."""
        if self.entries.get(entry.player) is not entry:
            return False
        self._note(entry)
        del self.entries[entry.player]
        for some in (self.unanswered, self.wanted, self.stale_rows, self.changed):
            some.pop(entry, None)
        if entry.state == "unknown":
            self.unknown -= 1
        elif entry.state == "asked":
            self.no_longer_asked.append(entry)
        return True

    # ---- what is heard ----

    def answer(self, entry: WatchedPlayer, source: Heard, answer: PlayerAnswer, now: float) -> None:
        """Take in the word of the owner of the player's slot."""
        self.answers += 1
        self._note(entry)
        entry.source = source
        if answer.looks is not None:
            self.wanted.pop(entry, None)
            self.stale_rows.pop(entry, None)
            entry.offline = False
            self._look(entry, pictures_of(answer.looks), answer.relations)
        elif not entry.offline or entry.last_pictures is None:
            if self._has_rows:
                self._want(entry, now)
                return
            entry.offline = True
            self._look(entry, self._gone(None), 0)
        self._believe(entry)

    def _want(self, entry: WatchedPlayer, now: float) -> None:
        if entry not in self.wanted:
            self.wanted[entry] = False
        self.unanswered.setdefault(entry, now + self._limits.answer_s)

    @property
    def awaits_owners(self) -> bool:
        """Whether some owners have not answered yet."""
        return any(entry not in self.wanted for entry in self.unanswered)

    def rows_wanted(self, most: int) -> list[WatchedPlayer]:
        """Entries whose rows are to be asked for now, which the caller does."""
        batch = [entry for entry, asked in self.wanted.items() if not asked][:most]
        for entry in batch:
            self.wanted[entry] = True
        return batch

    def rows(self, entries: Iterable[WatchedPlayer], rows: Mapping[str, Row] | None, again_at: float) -> None:
        """Take in the rows of `entries` by player; None where the store did not answer. A row that may be older than
        the player's going is asked for once more at `again_at`."""
        for entry in entries:
            if self.wanted.pop(entry, None) is None:
                continue  # here again, or watched no more
            if rows is None and entry.offline:
                continue
            if not entry.offline and entry.last_pictures is not None and rows is not None:
                self.stale_rows[entry] = again_at
            self._is_gone(entry, rows.get(entry.player) if rows is not None else None)

    def _is_gone(self, entry: WatchedPlayer, row: Row | None) -> None:
        self._note(entry)
        entry.offline = True
        self._look(entry, self._gone(row), 0)
        self._believe(entry)

    def _look(self, entry: WatchedPlayer, pictures: Pictures, relations: int) -> None:
        if entry.looks_like(pictures, relations):
            return
        entry.set(pictures, relations)
        if entry.state == "known":
            self.changed[entry] = None

    # ---- what is believed ----

    def _believe(self, entry: WatchedPlayer) -> None:
        source: Heard | None = entry.source
        if source is not None and source.trusted and entry not in self.wanted:
            self.unanswered.pop(entry, None)
            self._enter(entry, "known")

    def _enter(self, entry: WatchedPlayer, state: Any) -> None:
        if entry.state == state:
            return
        self._note(entry)
        if entry.state == "asked":
            self.no_longer_asked.append(entry)
        self.unknown += (state == "unknown") - (entry.state == "unknown")
        entry.state = state
        self.changed[entry] = None

    def moved(self, entry: WatchedPlayer, now: float) -> None:
        """Ask again about an entry: its slot has another owner, or the owner begins anew. It is believed as long as
        it would have been."""
        self._note(entry)
        source, entry.source = entry.source, None
        if source is not None:
            until = max(now + self._limits.silent_s / 2, source.good_at + self._limits.hold_s)
            self.unanswered.setdefault(entry, until)
        else:
            self.unanswered.setdefault(entry, now + self._limits.answer_s)

    def holds(self, entry: WatchedPlayer) -> bool:
        """Whether an entry is believed for a while although no owner vouches for it: its slot has moved."""
        return entry in self.unanswered

    def trust(self, source: Heard, now: float) -> None:
        """Believe all that `source` has answered: it vouches for it."""
        source.good_at = now
        if not source.trusted:
            source.trusted = True
            for entry in self.entries.values():
                if entry.source is source:
                    self._believe(entry)

    def tick(self, now: float) -> None:
        """Go on where no answer has come in time."""
        for entry in [entry for entry, until in self.unanswered.items() if until <= now]:
            del self.unanswered[entry]
            if self.wanted.pop(entry, None) is not None and entry.source is not None and entry.source.trusted:
                self._is_gone(entry, None)  # gone, by the owner's word; the store does not say since when
                self.stale_rows[entry] = now + self._limits.hold_s
            else:
                self._enter(entry, "unknown")
        for entry in [entry for entry, at in self.stale_rows.items() if at <= now]:
            del self.stale_rows[entry]
            self.wanted[entry] = False

    def doubt(self, source: Heard, now: float) -> None:
        """Believe nothing of `source` any more, if it has not vouched for too long."""
        if source.trusted and now - source.good_at > self._limits.hold_s:
            source.trusted = False
            for entry in self.entries.values():
                if entry.source is source:
                    self._enter(entry, "unknown")

    # ---- going over to the heir of this node ----

    def _note(self, entry: WatchedPlayer) -> None:
        if self.ahead.noting:
            self.ahead.note(entry.player)

    def copy(self, players: Iterable[str], owner: Callable[[object], NodeAddress | None]) -> WatchedCopy:
        """The entries of `players` as they are now. `owner`: whose `Heard` a source is, if it still counts."""
        found: list[EntryCopy] = []
        gone: list[str] = []
        for player in players:
            entry = self.entries.get(player)
            if entry is None:
                gone.append(player)
                continue
            looks = None if entry.last_pictures is None else looks_of(entry.last_pictures)
            source = None if entry.source is None else owner(entry.source)
            stint = entry.source.stint if source is not None else 0
            found.append(
                EntryCopy(player, entry.slot, entry.state, entry.relations, looks, entry.offline, source, stint)
            )
        return WatchedCopy(found, gone)

    def bequeath(self, owner: Callable[[object], NodeAddress | None], now: float) -> WatchedCopy:
        """All that was not copied ahead, has changed since, or waits for anything."""
        waits = dict.fromkeys((*self.unanswered, *self.wanted, *self.stale_rows, *self.changed))
        players = self.ahead.left() if self.ahead.noting else self.entries
        copy = self.copy(dict.fromkeys((*players, *(entry.player for entry in waits))), owner)
        for place, it in enumerate(copy.entries):
            entry = self.entries[it.player]
            if entry in waits:
                answer_at, row_at = self.unanswered.get(entry), self.stale_rows.get(entry)
                copy.entries[place] = msgspec.structs.replace(
                    it,
                    answer_s=None if answer_at is None else answer_at - now,
                    row_s=None if row_at is None else row_at - now,
                    wanted=entry in self.wanted,
                    changed=entry in self.changed,
                )
        return copy

    def take_copy(self, copy: WatchedCopy, source: Callable[[NodeAddress, int], Heard], now: float) -> None:
        """Take the entries of the predecessor: they are as they were there, and those of the sessions here already."""
        for it in copy.entries:
            entry = self.entries.get(it.player)
            if entry is None:
                entry = self.entries[it.player] = WatchedPlayer(it.player, it.slot)
            for some in (self.unanswered, self.wanted, self.stale_rows, self.changed):
                some.pop(entry, None)
            self.unknown += (it.state == "unknown") - (entry.state == "unknown")
            if entry.state == "asked" and it.state != "asked":
                self.no_longer_asked.append(entry)
            entry.state, entry.relations, entry.offline = it.state, it.relations, it.offline
            entry.last_pictures = None if it.looks is None else pictures_of(it.looks)
            entry.source = None if it.source is None else source(it.source, it.stint)
            if it.answer_s is not None:
                self.unanswered[entry] = now + it.answer_s
            if it.row_s is not None:
                self.stale_rows[entry] = now + it.row_s
            if it.wanted:
                self.wanted[entry] = False
            if it.changed:
                self.changed[entry] = None
        for player in copy.gone:
            gone = self.entries.get(player)
            if gone is None:
                continue
            if gone.watchers is None:
                self.remove(gone)
            else:
                gone.source = None
                self.unanswered[gone] = now + self._limits.answer_s


def pictures_of(looks: Looks) -> Pictures:
    """`looks` as the layers above have them."""
    everybody = looks.everybody
    friends = everybody if looks.friends is None else looks.friends
    own = everybody if looks.own is None else looks.own
    return Pictures(everybody, friends, own)


def looks_of(pictures: Pictures) -> Looks:
    """`pictures` as they travel."""
    everybody = pictures.everybody
    friends = None if pictures.friends == everybody else pictures.friends
    return Looks(everybody, friends, None if pictures.own == everybody else pictures.own)
