"""Columns that the engine asks of a kind's table, for the migrations of applications.

    op.create_table("clans", key_column("clan_id"), *owned_v1(), sa.Column("motto", sa.Text), …)

A migration is history, so these never change: should the engine ask for other columns one day, they get
functions of their own (`owned_v2`), and the release says which statement an application's next migration needs.
"""

from typing import Any

import sqlalchemy as sa

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
"""Keys compare byte by byte, so that every node locks rows in one order."""


def number(name: str) -> "sa.Column[int]":
    """A 64-bit column that begins at 0."""
    return sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0"))


def key_column(name: str) -> "sa.Column[str]":
    """The key of the kind: the table's primary key."""
    return sa.Column(name, KEY, primary_key=True)


def owned_v1() -> "tuple[sa.Column[Any], ...]":
    """Ownership: every kind's table has it. `persistence.engine.tables.ownership` are the same columns."""
    return (
        number("epoch"),
        number("state_epoch"),
        number("state_version"),
        sa.Column("owner_node", KEY),
        sa.Column("owner_incarnation", sa.BigInteger),
        number("claim_token"),
    )


def logged_v1() -> "tuple[sa.Column[Any], ...]":
    """The end of the event log, for a `logged` kind. `persistence.engine.tables.log_end` are the same columns."""
    return (
        sa.Column("next_seq", sa.BigInteger, nullable=False, server_default=sa.text("1")),
        sa.Column("head", sa.LargeBinary, nullable=False),
        number("projected_seq"),
    )


def facts_v1() -> "sa.Column[bool]":
    """Whether a fact is open, for a kind with `facts`. `persistence.engine.tables.facts` is the same column."""
    return sa.Column("open_facts", sa.Boolean, nullable=False, server_default=sa.false())
