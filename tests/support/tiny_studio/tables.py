"""The tiny application's table, its mapping and its store queries: what a studio writes for columns of its own."""

from collections.abc import Mapping as Map
from typing import Any, Final

import msgspec
from sqlalchemy import Column, Table, select

from persistence.engine.mapping import ColumnMapping, Mapping
from persistence.engine.queries import StoreQuery
from persistence.engine.tables import KeyText, metadata, number, ownership
from tests.support.tiny import Total

counters = Table(
    "tiny_counters", metadata, Column("counter_id", KeyText, primary_key=True), *ownership(), number("total")
)


class Largest(msgspec.Struct, frozen=True):
    at_least: int = 0
    limit: int = 10


def largest(given: Largest) -> Any:
    """Counters with a total of `at_least`, the largest first."""
    wanted = select(counters.c.counter_id.label("key"), counters.c.total).where(counters.c.total >= given.at_least)
    return wanted.order_by(counters.c.total.desc(), counters.c.counter_id)


MAPPINGS: Final[Map[str, Mapping]] = {"counter": ColumnMapping(Total, counters)}
QUERIES: Final[Map[str, StoreQuery]] = {"largest": StoreQuery(Largest, largest)}
