"""A store of logs that are over, which says how it was asked: for the rule of retention and for sweeps."""

from collections.abc import Sequence
from typing import Any

from server.eventlog.ports import DeleteResult, OverLog
from server.eventlog.retention import place_of
from server.ids import ActorId, kind_of

NOW_MS = 1_000


class ListedLogs:
    """Lists its logs and deletes them but for those in `claimed`, which somebody has claimed since they were listed.
    Every statement raises `away`, if it is set."""

    def __init__(self, logs: list[OverLog]) -> None:
        self.logs, self.batches = sorted(logs, key=place_of), list[Sequence[OverLog]]()
        self.claimed: set[ActorId] = set()
        self.away: Exception | None = None
        self.asked = 0

    async def now_ms(self) -> int:
        return NOW_MS

    async def list_over(
        self, kind: str, limit: int, after: OverLog | None = None, newest_first: bool = False, sizes: bool = True
    ) -> list[OverLog]:
        self.asked += 1
        if self.away is not None:
            raise self.away
        found = [log for log in self.logs if kind_of(log.id) == kind]
        if after is not None:
            is_before = [(place_of(log) < place_of(after), log) for log in found if log.id != after.id]
            found = [log for before, log in is_before if before == newest_first]
        return (found[::-1] if newest_first else found)[:limit]

    async def delete_logs(self, kind: str, logs: Sequence[OverLog]) -> dict[ActorId, DeleteResult]:
        self.batches.append(logs)
        gone = {log.id for log in logs} - self.claimed
        self.logs = [log for log in self.logs if log.id not in gone]
        return {log.id: "deleted" if log.id in gone else "kept" for log in logs}

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"nobody is to ask for {name}")
