"""The context of an application's admin action or console route: `server.actors.app.AdminContext`."""

from collections.abc import Callable, Mapping
from typing import Any

from server.actors.actor import Actor
from server.actors.app import Principal
from server.admin.ports import AdminSystem
from server.eventlog.ports import LogReader, StoredLog
from server.ids import actor_id
from server.runtime.clock import Clock
from server.storage.queries import StoreQueries


class NodeContext:
    """The node as a request sees it; see the Protocol."""

    def __init__(
        self,
        principal: Principal,
        system: AdminSystem,
        store_queries: StoreQueries,
        logs: LogReader | None,
        kept: dict[str, Any],
        clock: Clock,
    ) -> None:
        self.principal, self.kept = principal, kept
        self._system, self._store_queries, self._logs, self._clock = system, store_queries, logs, clock

    async def ask(self, cls: type[Actor[Any]], key: str, method: Callable[..., Any], *args: Any) -> Any:
        return await self._system.ask(actor_id(cls.kind, key), method.__name__, args)

    async def pin_log(self, cls: type[Actor[Any]], key: str, pinned: bool) -> bool:
        return await self._system.pin_log(actor_id(cls.kind, key), pinned)

    async def read(self, read_model: str, params: Mapping[str, Any]) -> tuple[list[Any], list[str]]:
        answer = await self._system.query(read_model, dict(params))
        return list(answer.rows), sorted(answer.missing)

    async def query(self, name: str, params: Mapping[str, Any]) -> list[dict[str, Any]]:
        return await self._store_queries.run(name, params)

    async def read_log(self, kind: str, key: str, from_seq: int = 1, to_seq: int | None = None) -> StoredLog | None:
        if self._logs is None:
            return None
        return await self._logs.read_log(kind, actor_id(kind, key), from_seq, to_seq)

    def wall_ms(self) -> int:
        return self._clock.wall_ms()
