"""Evictions, journals of runs that are over, reminders, and live matches that nobody owns."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision: str | None = "0003"
branch_labels: str | None = None
depends_on: str | None = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
LIVE_MATCH = "next_seq > 1 AND (phase <> 'ended' OR owner_node IS NOT NULL)"
CHECK = "ck_nodes_state"


def _nodes(states: str, *more: "sa.Column[str]") -> sa.Table:
    """`nodes` as it is before the step: SQLite, which copies the table, is not asked for checks."""
    return sa.Table(
        "nodes",
        sa.MetaData(),
        sa.Column("node_id", KEY, nullable=False),
        sa.Column("incarnation", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("lease_until", sa.Double),
        *more,
        sa.PrimaryKeyConstraint("node_id", "incarnation", name="pk_nodes"),
        sa.CheckConstraint(states, name=CHECK),
    )


def _journal() -> "sa.Column[str]":
    return sa.Column("journal", sa.Text, nullable=False, server_default=sa.text("''"))


BEFORE = "state IN ('up', 'dead', 'left')"
AFTER = "state IN ('up', 'evicting', 'dead', 'left')"


def upgrade() -> None:
    with op.batch_alter_table("nodes", copy_from=_nodes(BEFORE)) as nodes:
        nodes.drop_constraint(op.f(CHECK), type_="check")
        nodes.add_column(_journal())
        nodes.create_check_constraint(op.f(CHECK), AFTER)
    op.create_index(
        "ix_matches_live",
        "matches",
        ["match_id"],
        postgresql_where=sa.text(LIVE_MATCH),
        sqlite_where=sa.text(LIVE_MATCH),
    )
    op.create_table(
        "reminders",
        sa.Column("kind", KEY, nullable=False),
        sa.Column("key", KEY, nullable=False),
        sa.Column("name", KEY, nullable=False),
        sa.Column("due_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("kind", "key", "name", name="pk_reminders"),
    )
    op.create_index("ix_reminders_due_ms", "reminders", ["due_ms", "kind", "key", "name"])


def downgrade() -> None:
    op.drop_table("reminders")
    op.drop_index("ix_matches_live", "matches")
    op.execute("UPDATE nodes SET state = 'dead' WHERE state = 'evicting'")
    with op.batch_alter_table("nodes", copy_from=_nodes(AFTER, _journal())) as nodes:
        nodes.drop_constraint(op.f(CHECK), type_="check")
        nodes.drop_column("journal")
        nodes.create_check_constraint(op.f(CHECK), BEFORE)
