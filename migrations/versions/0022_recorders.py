"""Nodes that keep the events of a log as columns, each from an event on."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision: str | None = "0021"
branch_labels: str | None = None
depends_on: str | None = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "log_recorders",
        sa.Column("kind", KEY, nullable=False),
        sa.Column("key", KEY, nullable=False),
        sa.Column("first_seq", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("node_id", KEY, nullable=False),
        sa.Column("incarnation", sa.BigInteger, nullable=False),
        sa.Column("began_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("kind", "key", "first_seq", name="pk_log_recorders"),
    )
    op.create_index("ix_log_recorders_node_id", "log_recorders", ["kind", "node_id", "began_ms"])


def downgrade() -> None:
    op.drop_table("log_recorders")
