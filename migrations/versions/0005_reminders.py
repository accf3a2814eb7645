"""Reminders say under which epoch they were set, and as which statement of their activation."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision: str | None = "0004"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    for name in ("epoch", "number"):
        op.add_column("reminders", sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0")))


def downgrade() -> None:
    for name in ("number", "epoch"):
        op.drop_column("reminders", name)
