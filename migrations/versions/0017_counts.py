"""Matches that do not count for careers, told apart in the store: imported ones, unless that was asked for."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision: str | None = "0016"
branch_labels: str | None = None
depends_on: str | None = None

UNCOUNTED = (
    "UPDATE matches SET counts = false WHERE phase = 'ended' AND NOT open_facts AND NOT EXISTS "
    "(SELECT 1 FROM participants AS p JOIN careers AS c ON c.player_id = p.player_id AND c.match_id = p.match_id "
    "WHERE p.match_id = matches.match_id AND c.birth = matches.created_wall_ms) AND (owner_incarnation IS NULL "
    "OR EXISTS (SELECT 1 FROM match_properties AS s WHERE s.match_id = matches.match_id AND s.name = 'source' "
    "AND s.value LIKE 'imported:%'))"
)
"""A match that gave nobody anything and has nothing to tell, and that no node ever owned, or whose log says where it is
from."""


def upgrade() -> None:
    op.add_column("matches", sa.Column("counts", sa.Boolean, nullable=False, server_default=sa.true()))
    op.execute(UNCOUNTED)


def downgrade() -> None:
    op.drop_column("matches", "counts")
