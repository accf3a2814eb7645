"""The actor that keeps the leaderboards of a mode in memory, and answers from there.

    first question -> rows of the store, a page a turn -> Order -> answers
    a match's results are stored -> changed(players) -> their rows again, a moment later, for all boards here

A board is a cache of a sum over the careers (tables `career_totals`, `careers`, `ratings`): what comes in is the name
of a player whose row to read again, never a difference, so that a word that comes twice, late or in another order
changes nothing. A word that is lost, with the node of a match, is made up for by a board's end: it leaves memory when
nobody has asked for a while, or after `RENEW_S`, and is made anew by the next question. Two activations of one mode,
for the moment that a volatile actor may have two, read the same rows.
"""

from collections.abc import Sequence
from typing import Any, Final

from game.boards.face import BoardsFace
from game.boards.messages import Board, BoardAround, BoardFriends, BoardRow, BoardTop
from game.boards.order import Entry, Order
from game.boards.periods import span
from game.boards.points import points_of
from game.friends.face import FriendsFace
from server.actors.actor import Caller, remote
from server.errors import BadInput, NotFound, Overloaded, Unavailable

PAGE_ROWS: Final = 2_000
"""Rows of one reading: ten milliseconds of sorting."""
PAGES_AT_ONCE: Final = 2
"""Pages that are read while the first question waits; a larger board is there a moment later."""
MAX_BOARDS: Final = 64
"""Boards of a mode in memory; past that, the one that nobody asked for longest ends."""
MAX_ENTRIES: Final = 2_000_000
"""Players of a board, which takes some 240 bytes each."""
MAX_CHANGED: Final = 100_000
"""Players to read again; past that, every board of the mode is made anew."""
READ_AGAIN_S: Final = 0.5
CHANGED_AT_ONCE: Final = 500
IDLE_S: Final = 600.0
RENEW_S: Final = 3_600.0
RETRY_S: Final = 0.5
Name = tuple[str, str]
"""A board of a mode: what it counts, and its period."""


class Shelf:
    """A board: its order, how far it is read, and when it was made and asked for."""

    __slots__ = ("after", "asked_s", "is_whole", "made_s", "order")

    def __init__(self, now: float) -> None:
        self.order = Order()
        self.after = ""
        """The last player that was read."""
        self.is_whole = False
        self.made_s = self.asked_s = now


class Boards(BoardsFace):
    __slots__ = ("left", "reading", "shelves", "to_read")

    def activated(self) -> None:
        self.shelves: dict[Name, Shelf] = {}
        self.to_read: dict[str, None] = {}
        """Players whose results have changed, and who are to be read for every board."""
        self.reading: list[str] = []
        self.left: list[Name] = []
        """The players who are being read, and the boards for which they are not read yet."""

    # ---- questions ----

    @remote
    async def top(self, caller: Caller, message: BoardTop) -> Board:
        after = _entry_at(message.cursor)
        order = await self._order(message)
        first, entries = order.after(after, message.limit + 1)
        shown = entries[: message.limit]
        more = len(entries) > message.limit
        return Board(message.id, _rows(first, shown), len(order), _cursor(shown[-1]) if more else None)

    @remote
    async def around(self, caller: Caller, message: BoardAround) -> Board:
        order = await self._order(message)
        first, entries = order.around(message.player, message.count)
        return Board(message.id, _rows(first, entries), len(order))

    @remote
    async def friends(self, caller: Caller, message: BoardFriends) -> Board:
        order = await self._order(message)
        related = await self.ref(FriendsFace, caller.subject).ask(FriendsFace.relations, caller)
        found = order.among([caller.subject, *related.friends])[: message.limit]
        rows = [BoardRow(place, entry.player, entry.points) for place, entry in found]
        return Board(message.id, rows, len(order))

    async def _order(self, message: Any) -> Order:
        """The board that is asked for. Raises `BadInput` for a period that there is not, `Unavailable` while it is
        being made, and where the store cannot be read."""
        name = (message.metric, message.period)
        shelf = self.shelves.get(name)
        if shelf is None:
            _check(*name)
            shelf = self._new(name)
            for _ in range(PAGES_AT_ONCE):
                if not shelf.is_whole:
                    await self._read_page(name, shelf)
        shelf.asked_s = self.now()
        if not shelf.is_whole:
            self.after(0.0, self.read_on)
            raise Unavailable("the board is being read from the store", retry_after_s=RETRY_S)
        return shelf.order

    def _new(self, name: Name) -> Shelf:
        if len(self.shelves) >= MAX_BOARDS:
            del self.shelves[min(self.shelves, key=lambda other: self.shelves[other].asked_s)]
        shelf = self.shelves[name] = Shelf(self.now())
        self.stay()
        self.after(IDLE_S / 2, self.tidy)
        return shelf

    # ---- reading ----

    async def _read_page(self, name: Name, shelf: Shelf) -> None:
        rows = await self._rows(name, shelf.after, [])
        if len(shelf.order) + len(rows) > MAX_ENTRIES:
            self.shelves.pop(name, None)
            raise Overloaded(f"more than {MAX_ENTRIES:,} players", retry_after_s=RENEW_S)
        for row in rows:
            shelf.order.set(row["player"], points_of(name[0], row))
        shelf.is_whole = len(rows) < PAGE_ROWS
        shelf.after = rows[-1]["player"] if rows else shelf.after

    async def _rows(self, name: Name, after: str, players: Sequence[str]) -> list[dict[str, Any]]:
        metric, period = name
        kind, _, season = period.partition(":")
        asked: dict[str, Any] = {"mode": self.key, "after": after, "players": list(players), "limit": PAGE_ROWS}
        try:
            if metric == "rating":
                return await self.query_store("board_ratings", asked)
            if kind == "season" or period == "all":
                return await self.query_store("board_totals", {"metric": metric, "season": season, **asked})
            from_ms, to_ms = span(period)
            return await self.query_store(
                "board_results", {"metric": metric, "from_ms": from_ms, "to_ms": to_ms, **asked}
            )
        except NotFound:  # an engine without the game's queries
            return []

    async def read_on(self) -> None:
        """Read one more page of a board that is not whole: a turn each, so that questions come between."""
        for name, shelf in list(self.shelves.items()):
            if not shelf.is_whole:
                self.after(RETRY_S, self.read_on)  # the store may say nothing now
                await self._read_page(name, shelf)
                self.after(0.0, self.read_on)
                return

    @remote
    def changed(self, players: list[str]) -> None:
        """See `BoardsFace.changed`. Where no board is in memory there is nothing to do."""
        if not self.shelves:
            self.release()
            return
        self.to_read.update(dict.fromkeys(players))
        if len(self.to_read) > MAX_CHANGED:
            self.to_read.clear()
            self.shelves.clear()
            self.reading, self.left = [], []
            return
        self.after(READ_AGAIN_S, self.read_again)

    @remote
    def forget(self, person: str, instead: str) -> None:
        """See `BoardsFace.forget`."""
        self.changed([person])

    async def read_again(self) -> None:
        """Read the rows of players whose results have changed, for one more board: a turn each, so that questions come
        between. Whoever changes meanwhile is read again, after these, for every board."""
        if not self.reading:
            self.reading, self.left = list(self.to_read)[:CHANGED_AT_ONCE], list(self.shelves)
            for player in self.reading:
                del self.to_read[player]
        if not self.reading:
            return
        self.after(2 * RETRY_S, self.read_again)  # the store may say nothing now
        if any(not shelf.is_whole for shelf in self.shelves.values()):
            return
        while self.left and self.left[-1] not in self.shelves:
            self.left.pop()
        if self.left:
            await self._read_players(self.left[-1])
            self.left.pop()
        if not self.left:
            self.reading = []
        if self.reading or self.to_read:
            self.after(0.0, self.read_again)
        else:
            self.cancel(self.read_again)

    async def _read_players(self, name: Name) -> None:
        found = {row["player"]: points_of(name[0], row) for row in await self._rows(name, "", self.reading)}
        order = self.shelves[name].order
        for player in self.reading:
            if player in found:
                order.set(player, found[player])
            else:
                order.drop(player)

    def tidy(self) -> None:
        """End boards that nobody asks for, and old ones."""
        now = self.now()
        for name, shelf in list(self.shelves.items()):
            if now - shelf.asked_s > IDLE_S or now - shelf.made_s > RENEW_S:
                del self.shelves[name]
        if self.shelves:
            self.after(IDLE_S / 2, self.tidy)
        else:
            self.release()


def _check(metric: str, period: str) -> None:
    """Raises `BadInput` for a board that cannot be."""
    if metric == "rating" and period != "all":
        raise BadInput("a rating has the period all only")
    if period.startswith("season:") and len(period) > len("season:"):
        return
    span(period)


def _rows(first: int, entries: Sequence[Entry]) -> list[BoardRow]:
    return [BoardRow(place, entry.player, entry.points) for place, entry in enumerate(entries, first)]


def _cursor(entry: Entry) -> str:
    return f"{entry.points}/{entry.player}"


def _entry_at(cursor: str) -> Entry | None:
    """The entry after which a page begins. Raises `BadInput`."""
    if not cursor:
        return None
    points, _, player = cursor.partition("/")
    try:
        return Entry(-int(points), player)
    except ValueError:
        raise BadInput("cursor is the next of another page") from None
