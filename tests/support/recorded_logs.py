"""Stored logs by name, as the admin layer reads them, and matches to fill them with."""

import random
from typing import Any

from game.messages import Assist, Death, Kill, Medal, Objective
from server.actors.app import Principal
from server.eventlog.ports import StoredLog
from server.ids import ActorId, actor_id
from tests.support.matches import Played

MEDALS = ("Double Kill", "Killing Spree", "<b>Back Smack</b>")


class LogShelf:
    """A `LogReader` over logs that a test puts in and replaces; `reads` counts."""

    def __init__(self) -> None:
        self.logs: dict[ActorId, StoredLog] = {}
        self.reads = 0

    def put(self, match: str, log: StoredLog) -> None:
        self.logs[actor_id("match", match)] = log

    async def read_log(self, kind: str, id: ActorId, from_seq: int = 1, to_seq: int | None = None) -> StoredLog | None:
        self.reads += 1
        log = self.logs.get(id)
        if log is None:
            return None
        last = log.next_seq if to_seq is None else to_seq
        return StoredLog(
            log.next_seq,
            log.head,
            [chunk for chunk in log.chunks if chunk.last_seq >= from_seq and chunk.first_seq <= last],
        )


class ShelfContext:
    """An `AdminContext` that has logs only."""

    principal = Principal("admin", "admin")

    def __init__(self, shelf: LogShelf, wall_ms: int = 1_700_000_100_000) -> None:
        self.shelf, self.now_ms = shelf, wall_ms
        self.kept: dict[str, Any] = {}

    async def read_log(self, kind: str, key: str, from_seq: int = 1, to_seq: int | None = None) -> StoredLog | None:
        return await self.shelf.read_log(kind, actor_id(kind, key), from_seq, to_seq)

    async def ask(self, *_: Any) -> Any:
        raise NotImplementedError

    async def read(self, *_: Any) -> Any:
        raise NotImplementedError

    async def query(self, *_: Any) -> Any:
        raise NotImplementedError

    def wall_ms(self) -> int:
        return self.now_ms


def busy_match(events: int = 300, players: int = 6, seed: int = 1, every_ms: int = 1_000, **options: Any) -> Played:
    """A match, not over, in which something happens every so often."""
    rng = random.Random(seed)
    match = Played().live(players, **{"score_limit": 0, "time_limit_ms": 0, **options})
    names = sorted(match.state.players)
    for number in range(events):
        time_ms = every_ms * (number + 1)
        one, other = rng.sample(names, 2)
        match.report(
            rng.choice(
                [
                    Kill(time_ms, one, other),
                    Kill(time_ms, one, other),
                    Death(time_ms, one),
                    Assist(time_ms, one),
                    Medal(time_ms, one, rng.choice(MEDALS)),
                    Objective(time_ms, one, "flag taken", 2),
                ]
            )
        )
    return match
