"""Generations of runs: which of its processes may speak for it."""

import sqlalchemy as sa
from alembic import op

from migrations.columns import number

revision = "0021"
down_revision: str | None = "0020"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.add_column("nodes", number("generation"))
    op.add_column("nodes", sa.Column("heir", sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("nodes", "heir")
    op.drop_column("nodes", "generation")
