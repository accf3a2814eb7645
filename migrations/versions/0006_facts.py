"""Rows say whether a fact is open, so that actors that have to tell one are found when their node is gone."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision: str | None = "0005"
branch_labels: str | None = None
depends_on: str | None = None

TABLES = ("actors", "matches", "players")
LIVE_MATCH = "next_seq > 1 AND (phase <> 'ended' OR owner_node IS NOT NULL)"
LIVE_OR_OPEN = f"({LIVE_MATCH}) OR (open_facts)"


def _index(name: str, table: str, columns: list[str], condition: str) -> None:
    op.create_index(name, table, columns, postgresql_where=sa.text(condition), sqlite_where=sa.text(condition))


def upgrade() -> None:
    for table in TABLES:
        op.add_column(table, sa.Column("open_facts", sa.Boolean, nullable=False, server_default=sa.false()))
    # Matches that are not over, and those whose owner was about to tell the results.
    op.execute(f"UPDATE matches SET open_facts = true WHERE {LIVE_MATCH}")
    op.drop_index("ix_matches_live", "matches")
    _index("ix_matches_live", "matches", ["match_id"], LIVE_OR_OPEN)
    _index("ix_players_open_facts", "players", ["player_id"], "open_facts")
    _index("ix_actors_open_facts", "actors", ["kind", "key"], "open_facts")


def downgrade() -> None:
    op.drop_index("ix_actors_open_facts", "actors")
    op.drop_index("ix_players_open_facts", "players")
    op.drop_index("ix_matches_live", "matches")
    _index("ix_matches_live", "matches", ["match_id"], LIVE_MATCH)
    for table in TABLES:
        op.drop_column(table, "open_facts")
