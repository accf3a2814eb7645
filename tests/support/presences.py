"""A presence engine in memory, for tests of what stands on it: the test says who is shown."""

import asyncio
from collections.abc import Sequence

from server.actors.pictures import Pictures
from server.presence.ports import Changed, WatchedPlayer


class MemoryPresence:
    """See `server.presence.ports.Presence`. Players are answered at once, unless `answers` is False: then by `answer`.
    Who is not shown is offline and looks like `gone`."""

    def __init__(self, gone: Pictures = Pictures(b"\xa3off", b"\xa3off", b"\xa3off")) -> None:  # noqa: B008 - immutable
        self.gone, self.answers = gone, True
        self.entries: dict[str, WatchedPlayer] = {}
        self.shown: dict[str, tuple[Pictures, int]] = {}
        self.lost: set[str] = set()
        self.looks: list[list[str]] = []
        self._told: list[Changed] = []
        self._waiting: list[tuple[list[WatchedPlayer], asyncio.Future[None]]] = []

    # ---- the test's part ----

    def show(self, player: str, pictures: Pictures | None, relations: int = 0) -> None:
        """Let `player` look so; None: offline."""
        if pictures is None:
            self.shown.pop(player, None)
        else:
            self.shown[player] = (pictures, relations)
        self._change([player])

    def lose(self, *players: str) -> None:
        """Let nobody know how these look, until they are `found`."""
        self.lost.update(players)
        self._change(players)

    def found(self, *players: str) -> None:
        self.lost.difference_update(players)
        self._change(players)

    def answer(self) -> None:
        """Answer what was asked."""
        asked = [entry for entry in self.entries.values() if entry.state == "asked"]
        for entry in asked:
            self._fill(entry)
        for told in self._told if asked else ():
            told(asked)
        self._resolve()

    def _resolve(self) -> None:
        for entries, future in self._waiting:
            live = [entry for entry in entries if self.entries.get(entry.player) is entry]
            if not future.done() and not any(entry.state == "asked" for entry in live):
                future.set_result(None)

    def _change(self, players: Sequence[str]) -> None:
        entries = [self.entries[player] for player in players if player in self.entries]
        entries = [entry for entry in entries if entry.state != "asked"]
        for entry in entries:
            self._fill(entry)
        for told in self._told if entries else ():
            told(entries)

    def _fill(self, entry: WatchedPlayer) -> None:
        entry.last_pictures, entry.relations = self.shown.get(entry.player, (self.gone, 0))
        entry.state = "unknown" if entry.player in self.lost else "known"

    # ---- the port ----

    def watch(self, players: Sequence[str]) -> list[WatchedPlayer]:
        entries = []
        for player in players:
            entry = self.entries.get(player)
            if entry is None:
                entry = self.entries[player] = WatchedPlayer(player)
                if self.answers:
                    self._fill(entry)
            entries.append(entry)
        return entries

    def release(self, entry: WatchedPlayer) -> None:
        assert self.entries.pop(entry.player) is entry
        self._resolve()

    def answered(self, entries: Sequence[WatchedPlayer]) -> "asyncio.Future[None]":
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if any(entry.state == "asked" for entry in entries):
            self._waiting.append((list(entries), future))
        else:
            future.set_result(None)
        return future

    def on_change(self, told: Changed) -> None:
        self._told.append(told)

    def look(self, players: Sequence[str]) -> "asyncio.Future[list[WatchedPlayer]]":
        self.looks.append(list(players))
        entries = [WatchedPlayer(player) for player in players]
        for entry in entries:
            self._fill(entry)
        future: asyncio.Future[list[WatchedPlayer]] = asyncio.get_running_loop().create_future()
        future.set_result(entries)
        return future
