"""A database's identity: a name that no other has, and the place where its nodes have found it. Runs say which
database they registered in."""

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision: str | None = "0006"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    identity = op.create_table(
        "database_identity",
        sa.Column("single", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("uuid", sa.Text, nullable=False),
        sa.Column("timeline", sa.BigInteger, nullable=False),
        sa.Column("place", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("single", name="pk_database_identity"),
        sa.CheckConstraint("single = 1", name=op.f("ck_database_identity_single")),
    )
    op.execute(sa.insert(identity).values(single=1, uuid=uuid.uuid4().hex, timeline=1, place=""))
    op.add_column("nodes", sa.Column("database", sa.Text, nullable=False, server_default=sa.text("''")))


def downgrade() -> None:
    op.drop_column("nodes", "database")
    op.drop_table("database_identity")
