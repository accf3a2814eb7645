"""Marks of logs that were redacted, and tombstones of people who were erased."""

import secrets

import sqlalchemy as sa
from alembic import op

from migrations.columns import number

revision = "0020"
down_revision: str | None = "0019"
branch_labels: str | None = None
depends_on: str | None = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "redactions",
        sa.Column("kind", KEY, nullable=False),
        sa.Column("key", KEY, nullable=False),
        sa.Column("number", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("wall_ms", sa.BigInteger, nullable=False),
        sa.Column("head", sa.LargeBinary, nullable=False),
        sa.Column("events", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("kind", "key", "number", name="pk_redactions"),
    )
    op.create_table(
        "tombstones",
        sa.Column("hash", sa.LargeBinary, nullable=False),
        number("epoch"),
        number("barred"),
        sa.Column("until", sa.Double, nullable=False, server_default=sa.text("0")),
        sa.PrimaryKeyConstraint("hash", name="pk_tombstones"),
    )
    op.execute(f"INSERT INTO counters (name, value) VALUES ('erasure_key', {secrets.randbits(62)})")


def downgrade() -> None:
    op.execute("DELETE FROM counters WHERE name = 'erasure_key'")
    op.drop_table("tombstones")
    op.drop_table("redactions")
