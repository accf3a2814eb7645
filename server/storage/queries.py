"""Named store queries: reads across entities (a list, a leaderboard, a history) that no single actor can answer.

    rows = await queries.run("ended_matches", {"limit": 20})        # a list of plain dicts

An application names its queries (`App.store_queries`); actors, client messages (`StoreRoute`), console routes
and commands run them by name. A query reads what is stored: a write-behind change is seen once it is flushed.
Its parameters are checked against a struct, its rows and its time are bounded, and it runs beside
the connections on which states and logs are written, so that a slow one delays no flush.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol, TypeVar

import msgspec

from server import states
from server.errors import BadInput, NotFound
from server.ids import key_of, kind_of
from server.storage.memory import MemoryDatabase

P = TypeVar("P", bound=msgspec.Struct)
MAX_ROWS: Final = 1_000
"""Rows of an answer, for a query that does not say otherwise."""


class StoreQueries(Protocol):
    """Runs the queries that it was built with."""

    async def run(self, name: str, params: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The rows of query `name`, in its order; values are plain data. Raises `NotFound` for a name that
        it does not have, `BadInput` for parameters that are not the query's, `Unavailable` where the store is
        not reached or takes too long."""
        ...

    async def close(self) -> None: ...


def checked(name: str, shape: type[P], params: Mapping[str, Any]) -> P:
    """The parameters of query `name` as its struct; numbers may come as text. Raises `BadInput`."""
    if unknown := sorted(set(params) - set(shape.__struct_fields__)):
        raise BadInput(f"query {name} has no parameter {unknown[0]!r}")
    try:
        return msgspec.convert(dict(params), shape, strict=False)
    except msgspec.ValidationError as error:
        raise BadInput(f"query {name}: {error}") from None


def row_limit(params: msgspec.Struct, max_rows: int) -> int:
    """How many rows are asked for: the parameter `limit`, if there is one, and never more than `max_rows`."""
    return max(0, min(getattr(params, "limit", max_rows), max_rows))


States = Callable[[str], Iterable[tuple[str, Any]]]
"""`states(kind)`: key and state of every entity of that kind that has a state, in key order."""


class MemoryQuery(msgspec.Struct, frozen=True):
    """A query of the memory twin: `rows(states, params)` gives every row, in order."""

    params: type[msgspec.Struct]
    rows: Callable[[States, Any], Iterable[dict[str, Any]]]
    max_rows: int = MAX_ROWS


class MemoryStoreQueries:
    """`StoreQueries` over a `MemoryDatabase`: for tests and simulation."""

    def __init__(
        self,
        database: MemoryDatabase,
        state_types: Mapping[str, type[msgspec.Struct]],
        queries: Mapping[str, MemoryQuery],
    ) -> None:
        self._database, self._queries = database, dict(queries)
        self._decoders = {kind: states.decoder(cls) for kind, cls in state_types.items()}

    async def run(self, name: str, params: Mapping[str, Any]) -> list[dict[str, Any]]:
        query = self._queries.get(name)
        if query is None:
            raise NotFound(f"no store query {name!r}")
        given = checked(name, query.params, params)
        return list(query.rows(self._states, given))[: row_limit(given, query.max_rows)]

    async def close(self) -> None:
        pass

    def _states(self, kind: str) -> Iterable[tuple[str, Any]]:
        for identity, entity in sorted(self._database.entities.items()):
            if kind_of(identity) == kind and entity.state is not None:
                yield key_of(identity), self._decoders[kind](entity.state)


class NoStoreQueries:
    """`StoreQueries` of an application that names none."""

    async def run(self, name: str, params: Mapping[str, Any]) -> list[dict[str, Any]]:
        raise NotFound(f"no store query {name!r}")

    async def close(self) -> None:
        pass
