"""Fewer bytes a change: appends to a match's log touch no column of an index, and pages keep room for the next
version of a row, so that PostgreSQL writes it beside the one before (HOT) and leaves the indexes alone."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision: str | None = "0009"
branch_labels: str | None = None
depends_on: str | None = None

LIVE_BEFORE = "(next_seq > 1 AND (phase <> 'ended' OR owner_node IS NOT NULL)) OR (open_facts)"
LIVE = "(phase <> 'ended' OR owner_node IS NOT NULL) OR (open_facts)"
ROOM = {"matches": 50, "nodes": 50, "actors": 70, "participants": 70, "players": 70}
"""Per cent of a page that new rows fill."""


def _index(live: str) -> None:
    op.drop_index("ix_matches_live", "matches")
    op.create_index(
        "ix_matches_live", "matches", ["match_id"], postgresql_where=sa.text(live), sqlite_where=sa.text(live)
    )


def upgrade() -> None:
    _index(LIVE)
    if op.get_bind().dialect.name == "postgresql":
        for table, share in ROOM.items():
            op.execute(f"ALTER TABLE {table} SET (fillfactor = {share})")
        # Every open chunk is deleted once its segment is there.
        op.execute("ALTER TABLE log_chunks SET (autovacuum_vacuum_scale_factor = 0.02)")


def downgrade() -> None:
    _index(LIVE_BEFORE)
    if op.get_bind().dialect.name == "postgresql":
        for table in ROOM:
            op.execute(f"ALTER TABLE {table} RESET (fillfactor)")
        op.execute("ALTER TABLE log_chunks RESET (autovacuum_vacuum_scale_factor)")
