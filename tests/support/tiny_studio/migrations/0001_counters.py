"""Counters in columns."""

import sqlalchemy as sa
from alembic import op

from migrations.columns import key_column, owned_v1

revision = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.create_table("tiny_counters", key_column("counter_id"), *owned_v1(), sa.Column("note", sa.Text))


def downgrade() -> None:
    op.drop_table("tiny_counters")
