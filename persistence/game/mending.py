"""Changes that make rows of `careers`, and sums over them, what they should be (`garrison stats rebuild`).

Each function runs in a transaction of its caller, who has seen to it that no node is up and no journal open: a player's
result that is in memory or in a journal alone would be lost, or counted twice.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Select, Table, and_, delete, exists, insert, literal, not_, select, text, update

from game.careers.events import Gain
from game.careers.recount import (
    COUNTS,
    RATINGS,
    TOTALS,
    CareerRow,
    Difference,
    Mending,
    page_differences,
    player_sums,
)
from game.careers.recount import Table as SumTable
from game.careers.recount import groundless as without_ground
from persistence.game.recount_queries import NamesAsked, page_of, recount_groundless, recount_page, row_of
from persistence.game.tables import career_medals, career_totals, careers, matches, players, ratings

_GAIN: Final = tuple(name for name in Gain.__struct_fields__ if name != "names")


def open_estates(connection: Connection) -> list[str]:
    """Runs of nodes whose journals nobody has read yet; of one that died last nobody has said yet that it is dead."""
    found = connection.execute(text("SELECT node_id, incarnation FROM nodes WHERE journal <> '' ORDER BY 1, 2"))
    return [f"{node}#{incarnation}" for node, incarnation in found]


def mend_rows(connection: Connection, mendings: Sequence[Mending]) -> int:
    """Put, change and take away rows of `careers`; how many that were. A row is put only where its match says still
    that all of its results are told, and where its player is there."""
    return sum(_mend(connection, mending.stored, mending.due) for mending in mendings)


def _mend(connection: Connection, stored: CareerRow | None, due: CareerRow | None) -> int:
    if due is None:
        assert stored is not None
        return connection.execute(delete(careers).where(_this(stored))).rowcount
    if stored is not None:
        return connection.execute(update(careers).where(_this(stored)).values(_columns(due))).rowcount
    m, p = matches.c, players.c
    told = exists().where(m.match_id == due.match, m.created_wall_ms == due.birth, not_(m.open_facts))
    values = _columns(due)
    row = select(*(literal(value, careers.c[name].type) for name, value in values.items()))
    row = row.where(told, exists().where(p.player_id == due.player), not_(exists().where(_this(due))))
    return connection.execute(insert(careers).from_select(list(values), row)).rowcount


def _this(row: CareerRow) -> Any:
    c = careers.c
    return and_(c.player_id == row.player, c.match_id == row.match, c.birth == row.birth)


def _columns(row: CareerRow) -> dict[str, Any]:
    gain = {name: getattr(row.gain, name) for name in _GAIN}
    first = {"player_id": row.player, "match_id": row.match, "birth": row.birth, "ended_wall_ms": row.ended_wall_ms}
    return {**first, **gain, "medal_names": row.gain.names}


def mend_sums(connection: Connection, players_of: NamesAsked) -> list[Difference]:
    """Take away rows without ground and write sums of a page of players anew where they differ; what differed."""
    found: list[Difference] = []
    for row in _rows(connection, recount_groundless(players_of)):
        findings = without_ground(row_of(row))
        found += findings.differences
        mend_rows(connection, findings.mendings)
    page = page_of(_rows(connection, recount_page(players_of)))
    differences = page_differences(page)
    if differences:
        nothing = (0,) * len(COUNTS)
        sums = player_sums(page.due.totals, page.older)
        _write(connection, career_totals, TOTALS, page.stored.totals, page.due.totals)
        _write(connection, career_medals, ("earned",), page.stored.medals, page.due.medals)
        _write(connection, ratings, RATINGS, page.stored.ratings, page.due.ratings)
        _write(connection, players, COUNTS, page.players, {key: sums.get(key, nothing) for key in page.players})
    return [*found, *differences]


def _rows(connection: Connection, statement: Select[Any]) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(statement).mappings()]


def _write(connection: Connection, table: Table, names: Iterable[str], stored: SumTable, due: SumTable) -> None:
    keys = list(table.primary_key.columns)
    for key in stored.keys() | due.keys():
        if stored.get(key) == due.get(key):
            continue
        this = and_(*(column == part for column, part in zip(keys, key, strict=True)))
        values = dict(zip(names, due.get(key, ()), strict=False))
        if key not in due:
            connection.execute(delete(table).where(this))
        elif key in stored:
            connection.execute(update(table).where(this).values(values))
        else:
            named = {column.name: part for column, part in zip(keys, key, strict=True)}
            connection.execute(insert(table).values({**named, **values}))
