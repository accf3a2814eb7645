"""`StandingState` and tables `standings` and `moderation_acts`, and the store queries of the audit.

The audit's order is the time of the act, newest first, then its subject and number. A page begins after the last row
of the page before, so it stays what it was while newer acts come.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Select, Table, and_, or_, select

from game.moderation.state import Act, StandingState
from persistence.engine.mapping import Additions, ColumnMapping, Columns, Totals
from persistence.engine.queries import StoreQuery
from persistence.game import tables


class ActRows:
    """Rows of table `moderation_acts`: an act is in force and its row is there, or neither. PostgreSQL takes no NUL in
    a text, and one text must not keep a batch from being stored."""

    table: Table = tables.moderation_acts
    columns: tuple[str, ...] = ("subject", *Act.__struct_fields__)
    current: bool = False
    totals: tuple[Totals, ...] = ()

    def encode(self, keys: Sequence[str], stored: Sequence[int], states: Sequence[Any]) -> Columns:
        rows = [
            (key, *(part.replace("\0", "") if isinstance(part, str) else part for part in msgspec.structs.astuple(act)))
            for key, version, state in zip(keys, stored, states, strict=True)
            for act in state.acts
            if act.number > version
        ]
        return [list(column) for column in zip(*rows, strict=True)]


class StandingMapping(ColumnMapping):
    """Row of table `standings`, one for each subject."""

    additions: Additions | None = ActRows()

    def __init__(self) -> None:
        super().__init__(StandingState, tables.standings)


class ActsAsked(msgspec.Struct, frozen=True):
    """A page of the audit: of `subject` and by `principal`, each None for all, after the row of `at_ms`,
    `after_subject` and `number` (None: from the newest)."""

    limit: int = 50
    subject: str | None = None
    principal: str | None = None
    at_ms: int | None = None
    after_subject: str = ""
    number: int = 0


def acts(given: ActsAsked) -> Select[Any]:
    """Acts, newest first: the columns of the audit."""
    c = tables.moderation_acts.c
    wanted = select(c.at_ms, c.act, c.subject, c.principal, c.role, c.reason, c.until_ms, c.number)
    if given.subject is not None:
        wanted = wanted.where(c.subject == given.subject)
    if given.principal is not None:
        wanted = wanted.where(c.principal == given.principal)
    if given.at_ms is not None:
        later = or_(c.subject < given.after_subject, and_(c.subject == given.after_subject, c.number < given.number))
        wanted = wanted.where(or_(c.at_ms < given.at_ms, and_(c.at_ms == given.at_ms, later)))
    return wanted.order_by(c.at_ms.desc(), c.subject.desc(), c.number.desc())


class OrderAsked(msgspec.Struct, frozen=True):
    """An order, as it was given."""

    subject: str
    principal: str
    role: str
    lineage: str
    command: int


def order(given: OrderAsked) -> Select[Any]:
    """The number of the act by which an order was carried out, if it was."""
    c = tables.moderation_acts.c
    by = and_(c.principal == given.principal, c.role == given.role)
    this = and_(c.lineage == given.lineage, c.command == given.command)
    return select(c.number).where(c.subject == given.subject, by, this)


QUERIES: Final[Mapping[str, StoreQuery]] = {
    "moderation_acts": StoreQuery(ActsAsked, acts),
    "moderation_order": StoreQuery(OrderAsked, order, max_rows=1),
}
