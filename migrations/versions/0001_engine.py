"""Nodes, generic actors and event logs."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "nodes",
        sa.Column("node_id", KEY, nullable=False),
        sa.Column("incarnation", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("lease_until", sa.Double),
        sa.PrimaryKeyConstraint("node_id", "incarnation", name="pk_nodes"),
        sa.CheckConstraint("state IN ('up', 'dead', 'left')", name=op.f("ck_nodes_state")),
    )
    op.create_table(
        "actors",
        sa.Column("kind", KEY, nullable=False),
        sa.Column("key", KEY, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("state_epoch", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("state_version", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("owner_node", KEY),
        sa.Column("owner_incarnation", sa.BigInteger),
        sa.Column("claim_token", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("next_seq", sa.BigInteger, nullable=False, server_default=sa.text("1")),
        sa.Column("head", sa.LargeBinary, nullable=False),
        sa.Column("projected_seq", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("state", sa.LargeBinary),
        sa.PrimaryKeyConstraint("kind", "key", name="pk_actors"),
    )
    op.create_table(
        "log_chunks",
        sa.Column("kind", KEY, nullable=False),
        sa.Column("key", KEY, nullable=False),
        sa.Column("first_seq", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("sealed", sa.Boolean, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.current_timestamp()),
        sa.PrimaryKeyConstraint("kind", "key", "first_seq", name="pk_log_chunks"),
    )


def downgrade() -> None:
    op.drop_table("log_chunks")
    op.drop_table("actors")
    op.drop_table("nodes")
