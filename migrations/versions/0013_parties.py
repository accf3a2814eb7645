"""Parties, and the memberships that there ever were; players say in which party they are."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from migrations.columns import facts_v1, key_column, number, owned_v1

revision = "0013"
down_revision: str | None = "0012"
branch_labels: str | None = None
depends_on: str | None = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _text(name: str) -> "sa.Column[str]":
    return sa.Column(name, sa.Text, nullable=False, server_default=sa.text("''"))


def _index(name: str, columns: list[str], condition: str) -> None:
    op.create_index(name, "parties", columns, postgresql_where=sa.text(condition), sqlite_where=sa.text(condition))


def upgrade() -> None:
    json = sa.JSON().with_variant(JSONB(), "postgresql")
    op.create_table(
        "parties",
        key_column("party_id"),
        *owned_v1(),
        _text("leader"),
        number("room"),
        _text("code"),
        _text("match_id"),
        number("created_wall_ms"),
        number("ended_wall_ms"),
        number("newest"),
        sa.Column("members", sa.LargeBinary),
        sa.Column("invited", sa.LargeBinary),
        sa.Column("untold", sa.LargeBinary),
        sa.Column("answered", sa.LargeBinary),
        number("size"),
        sa.Column("player_ids", json, nullable=False, server_default=sa.text("'[]'")),
        sa.Column("is_due", sa.Boolean, nullable=False, server_default=sa.false()),
        facts_v1(),
    )
    _index("ix_parties_code", ["code"], "code <> ''")
    _index("ix_parties_open_facts", ["party_id"], "open_facts")
    _index("ix_parties_here", ["party_id"], "is_due")
    op.create_table(
        "party_members",
        sa.Column("party_id", KEY, nullable=False),
        sa.Column("number", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("player_id", KEY, nullable=False),
        number("joined_wall_ms"),
        sa.PrimaryKeyConstraint("party_id", "number", name="pk_party_members"),
    )
    op.create_index("ix_party_members_player_id", "party_members", ["player_id"])
    op.add_column("players", _text("current_party"))


def downgrade() -> None:
    op.drop_column("players", "current_party")
    op.drop_table("party_members")
    op.drop_table("parties")
