"""Bans, mutes and revocations of subjects, and the audit of all acts of moderation."""

import sqlalchemy as sa
from alembic import op

from migrations.columns import KEY, facts_v1, key_column, number, owned_v1

revision = "0011"
down_revision: str | None = "0010"
branch_labels: str | None = None
depends_on: str | None = None


def _text(name: str) -> "sa.Column[str]":
    return sa.Column(name, sa.Text, nullable=False, server_default=sa.text("''"))


def upgrade() -> None:
    op.create_table(
        "standings",
        key_column("subject"),
        *owned_v1(),
        number("banned_until_ms"),
        _text("ban_reason"),
        number("muted_until_ms"),
        _text("mute_reason"),
        number("tokens_from_ms"),
        sa.Column("number", sa.LargeBinary),
        sa.Column("told", sa.LargeBinary),
        sa.Column("acts", sa.LargeBinary),
        number("forgotten"),
        facts_v1(),
    )
    is_open = sa.text("open_facts")
    op.create_index("ix_standings_open_facts", "standings", ["subject"], postgresql_where=is_open, sqlite_where=is_open)
    op.create_table(
        "moderation_acts",
        key_column("subject"),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        number("at_ms"),
        _text("act"),
        sa.Column("principal", KEY, nullable=False, server_default=sa.text("''")),
        _text("role"),
        _text("reason"),
        number("until_ms"),
        _text("lineage"),
        number("command"),
    )
    op.create_index("ix_moderation_acts_at_ms", "moderation_acts", ["at_ms", "subject", "number"])
    op.create_index("ix_moderation_acts_principal", "moderation_acts", ["principal", "at_ms"])


def downgrade() -> None:
    op.drop_table("moderation_acts")
    op.drop_table("standings")
