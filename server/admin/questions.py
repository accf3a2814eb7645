"""Questions over columns in the admin API: `POST /questions` with SQL, `GET /questions` for what can be asked."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Final

import msgspec
from litestar import MediaType, Request, Response, get, post
from litestar.params import Body
from msgspec import Meta

from server.admin.own import logged
from server.columns.layout import Schema
from server.columns.tables import SavedQuestion
from server.errors import NotFound

MAX_SQL: Final = 8_192
Millis = Annotated[int, Meta(ge=0, le=2**53)]


class Asked(msgspec.Struct, frozen=True):
    """A question: `sql` over rows from `since_ms` to before `until_ms` (Unix ms, 0: no bound), to be answered within
    `timeout_s`."""

    sql: Annotated[str, Meta(min_length=1, max_length=MAX_SQL)]
    since_ms: Millis = 0
    until_ms: Millis = 0
    timeout_s: Annotated[float, Meta(gt=0, le=30)] = 2.0


class Forgotten(msgspec.Struct, frozen=True):
    """A text that no row may have any more."""

    text: Annotated[str, Meta(min_length=1, max_length=256)]


class Missing(msgspec.Struct, frozen=True):
    """Nodes that did not answer."""

    missing: list[str]


class ColumnInfo(msgspec.Struct, frozen=True):
    name: str
    type: str


class TableInfo(msgspec.Struct, frozen=True):
    """A table of columns; `rows`: those that this node has written in this run."""

    table: str
    columns: list[ColumnInfo]
    rows: int


class Askable(msgspec.Struct, frozen=True):
    """The tables that can be asked about, why nothing is answered (empty: it is), and questions to begin with."""

    tables: list[TableInfo]
    unavailable: str
    saved: list[SavedQuestion] = []


class QuestionDesk(msgspec.Struct, frozen=True):
    """The node's side of questions: `ask(sql, since_ms, until_ms, timeout_s)` gives the answer as JSON; raises
    `BadInput`, `Unavailable`, `Overloaded`. `tables` gives schemas with the rows written of each."""

    ask: Callable[[str, int, int, float], Awaitable[bytes]]
    tables: Callable[[], list[tuple[Schema, int]]]
    unavailable: Callable[[], str]
    forget: Callable[[str], Awaitable[list[str]]]
    """`forget(text)`: every node lets go of row blocks with this text; the nodes that have not said so."""
    saved: Sequence[SavedQuestion] = ()


def question_handlers(desk: QuestionDesk | None) -> list[Any]:
    """The routes; without a `desk` the node keeps no columns."""

    @get("/questions", sync_to_thread=False)
    def askable() -> Askable:
        """The tables of this node's columns, with their columns, for questions."""
        if desk is None:
            return Askable([], "this node keeps no columns: see the setting columns.enabled")
        tables = [
            TableInfo(schema.table, [ColumnInfo(column.name, _word(column.type)) for column in schema.columns], rows)
            for schema, rows in desk.tables()
        ]
        return Askable(tables, desk.unavailable(), list(desk.saved))

    @post("/questions", status_code=200)
    async def ask(data: Annotated[Asked, Body()]) -> Response[bytes]:
        """The answer to a question in SQL over the columns of all nodes: `columns`, `rows`, and `coverage`, which says
        how complete it is. Reads only."""
        if desk is None:
            raise NotFound("this node keeps no columns: see the setting columns.enabled")
        found = await desk.ask(data.sql, data.since_ms, data.until_ms, data.timeout_s)
        return Response(found, media_type=MediaType.JSON)

    @post("/questions/forget", status_code=200)
    async def forget(data: Annotated[Forgotten, Body()], request: Request[Any, Any, Any]) -> Missing:
        """Let every node go of the row blocks in which a text is a value, with all of their rows: a player's key, after
        it was erased from the store. `missing` names nodes that have not said that they did."""
        with logged("forget in columns", request):
            return Missing(await desk.forget(data.text) if desk is not None else [])

    return [askable, ask, forget]


def _word(kind: str) -> str:
    return {"text": "text", "time": "time"}.get(kind, "number")
