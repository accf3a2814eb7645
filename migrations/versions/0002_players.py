"""Players."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _number(name: str) -> "sa.Column[int]":
    return sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0"))


def upgrade() -> None:
    op.create_table(
        "players",
        sa.Column("player_id", KEY, nullable=False),
        _number("epoch"),
        _number("state_epoch"),
        _number("state_version"),
        sa.Column("owner_node", KEY),
        sa.Column("owner_incarnation", sa.BigInteger),
        _number("claim_token"),
        sa.Column("display_name", sa.Text, nullable=False, server_default=sa.text("''")),
        sa.Column("emblem", sa.Text, nullable=False, server_default=sa.text("''")),
        sa.Column("status", sa.Text, nullable=False, server_default=sa.text("'offline'")),
        sa.Column("chosen", sa.Text, nullable=False, server_default=sa.text("'online'")),
        _number("last_seen_ms"),
        sa.Column("current_match", sa.Text, nullable=False, server_default=sa.text("''")),
        _number("matches"),
        _number("wins"),
        _number("kills"),
        _number("deaths"),
        _number("assists"),
        _number("medals"),
        sa.Column("recent", sa.LargeBinary),
        sa.PrimaryKeyConstraint("player_id", name="pk_players"),
    )


def downgrade() -> None:
    op.drop_table("players")
