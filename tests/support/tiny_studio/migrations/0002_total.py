"""The total in a column, and no note."""

import sqlalchemy as sa
from alembic import op

from migrations.columns import number

revision = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    with op.batch_alter_table("tiny_counters") as table:
        table.add_column(number("total"))
        table.drop_column("note")
    op.create_index("ix_tiny_counters_total", "tiny_counters", ["total"])


def downgrade() -> None:
    op.drop_index("ix_tiny_counters_total", "tiny_counters")
    with op.batch_alter_table("tiny_counters") as table:
        table.add_column(sa.Column("note", sa.Text))
        table.drop_column("total")
