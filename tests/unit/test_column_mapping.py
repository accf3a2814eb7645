"""`ColumnMapping`: what it writes, what it reads back, and which tables it refuses."""

import msgspec
import pytest
from sqlalchemy import BigInteger, Column, LargeBinary, MetaData, Table, Text, text

from persistence.engine.mapping import ColumnMapping
from persistence.engine.tables import KeyText, number, ownership


class Clan(msgspec.Struct, frozen=True):
    motto: str = ""
    members: tuple[str, ...] = ()
    open: bool = True
    founder: str | None = None
    seal: bytes = b""


def table(*columns: Column) -> Table:
    return Table("clans", MetaData(), Column("clan_id", KeyText, primary_key=True), *ownership(), *columns)


def whole(**replaced: Column) -> list[Column]:
    columns = {
        "motto": Column("motto", Text, nullable=False, server_default=text("''")),
        "members": Column("members", LargeBinary),
        "open": number("open"),
        "founder": Column("founder", Text),
        "seal": Column("seal", LargeBinary),
    }
    return list((columns | replaced).values())


def test_states_come_back_from_their_columns() -> None:
    states = [Clan("semper", ("ann", "bob"), False, "ann", b"\x00"), Clan()]
    mapping = ColumnMapping(Clan, table(*whole()))
    columns = mapping.encode(states)
    assert [len(column) for column in columns] == [2] * 5
    rows = [list(row) for row in zip(*columns, strict=True)]
    assert rows[0][0] == "semper" and rows[0][4] == b"\x00"
    rows[0][2] = 0  # a database without booleans
    assert [mapping.decode(row) for row in rows] == states


def test_texts_lose_what_postgresql_cannot_take() -> None:
    columns = ColumnMapping(Clan, table(*whole())).encode([Clan(motto="a\0b"), Clan(founder=None)])
    assert (columns[0], columns[3]) == (["ab", ""], [None, None])


def test_computed_columns_are_written_and_not_read_back() -> None:
    mapping = ColumnMapping(Clan, table(*whole(), number("size")), computed={"size": lambda clan: len(clan.members)})
    columns = mapping.encode([Clan(members=("ann", "bob"))])
    assert mapping.columns[-1] == "size" and columns[-1] == [2]
    assert mapping.decode([column[0] for column in columns]) == Clan(members=("ann", "bob"))


def test_damaged_row_is_not_decoded() -> None:
    mapping = ColumnMapping(Clan, table(*whole()))
    for row in (["", b"\xc1", True, None, b""], ["", None, True, None, b""], [5, b"\x90", True, None, b""]):
        with pytest.raises((ValueError, TypeError, msgspec.MsgspecError)):
            mapping.decode(row)


def test_final_is_what_the_application_says() -> None:
    assert not ColumnMapping(Clan, table(*whole())).final(Clan())
    assert ColumnMapping(Clan, table(*whole()), final=lambda clan: not clan.open).final(Clan(open=False))


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        (whole()[1:], "clans has no column 'motto' for Clan"),
        ([*whole(), Column("rank", BigInteger, nullable=False)], "clans.rank needs a server default"),
    ],
)
def test_table_that_does_not_fit_is_refused(columns: list[Column], why: str) -> None:
    with pytest.raises(TypeError, match=why):
        ColumnMapping(Clan, table(*columns))
