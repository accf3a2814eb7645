"""Properties and tags of matches, by which they are searched, and the version of the rules that each is played by."""

import sqlalchemy as sa
from alembic import op

from migrations.columns import number

revision = "0014"
down_revision: str | None = "0013"
branch_labels: str | None = None
depends_on: str | None = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "match_properties",
        sa.Column("match_id", KEY, nullable=False),
        sa.Column("name", KEY, nullable=False),
        number("projected_seq"),
        sa.Column("value", KEY, nullable=False),
        sa.Column("number", sa.BigInteger),
        sa.PrimaryKeyConstraint("match_id", "name", name="pk_match_properties"),
    )
    op.create_index("ix_match_properties_name_value", "match_properties", ["name", "value", "match_id"])
    op.create_index("ix_match_properties_name_number", "match_properties", ["name", "number", "match_id"])
    op.create_table(
        "match_tags",
        sa.Column("match_id", KEY, nullable=False),
        sa.Column("tag", KEY, nullable=False),
        number("projected_seq"),
        sa.PrimaryKeyConstraint("match_id", "tag", name="pk_match_tags"),
    )
    op.create_index("ix_match_tags_tag", "match_tags", ["tag", "match_id"])
    op.add_column("matches", sa.Column("rules", sa.BigInteger, nullable=False, server_default=sa.text("1")))


def downgrade() -> None:
    op.drop_column("matches", "rules")
    op.drop_table("match_tags")
    op.drop_table("match_properties")
