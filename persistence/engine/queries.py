"""Named store queries over SQL: the shape of a query's parameters, and the statement that they make.

    class Newest(msgspec.Struct, frozen=True):
        limit: int = 20

    QUERIES = {"newest": StoreQuery(Newest, lambda given: select(clans.c.clan_id.label("clan")).order_by(...))}

One such mapping is all that a new statement costs: it is SQLAlchemy, so it runs on both databases, and
the labels of its columns are the keys of its rows.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import Select

from server.storage.queries import MAX_ROWS


class StoreQuery(msgspec.Struct, frozen=True):
    """`statement(params)` is a SELECT without a LIMIT: the parameter `limit`, if `params` has one, or else
    `max_rows` bounds its rows."""

    params: type[msgspec.Struct]
    statement: Callable[[Any], Select[Any]]
    max_rows: int = MAX_ROWS
    by_keys: bool = False
    """`keys`, a list of texts, are all its parameters, and its columns are texts, whole numbers and bytes. Then the
    statement is made once for a number of keys: making it costs more than a few rows do."""
