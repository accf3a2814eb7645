"""Columns and indexes by which matches that are over are found: by player, mode, map, property and tag.

What is stored already learns what its match's row says. Whether a match was private its row has never said: `private`
stays null there, and others than its participants do not find it.
"""

import sqlalchemy as sa
from alembic import op

from migrations.columns import number

revision = "0016"
down_revision: str | None = "0015"
branch_labels: str | None = None
depends_on: str | None = None

SIDE = "CASE WHEN p.team IS NULL THEN p.player_id ELSE 'team:' || p.team END"
RESULTS = (
    "UPDATE participants SET ended_wall_ms = m.ended_wall_ms, result = m.result FROM ("
    "SELECT p.match_id, p.player_id, g.ended_wall_ms, CASE WHEN c.won THEN 'won' "
    f"WHEN c.won IS NULL AND g.winner = {SIDE} THEN 'won' WHEN g.winner IS NOT NULL THEN 'lost' "
    "WHEN g.mode <> 'recorded' AND g.started_wall_ms > 0 "
    "AND g.end_reason IN ('score', 'time', 'host_ended') THEN 'tied' ELSE '' END AS result "
    "FROM participants AS p JOIN matches AS g ON g.match_id = p.match_id "
    "LEFT JOIN careers AS c ON c.player_id = p.player_id AND c.match_id = p.match_id AND c.birth = g.created_wall_ms "
    "WHERE g.phase = 'ended') AS m WHERE participants.match_id = m.match_id AND participants.player_id = m.player_id"
)
COUNTS = (
    "UPDATE matches SET player_count = (SELECT count(*) FROM participants AS p WHERE p.match_id = matches.match_id)"
)
ENDS = (
    "UPDATE {0} SET ended_wall_ms = m.ended_wall_ms FROM matches AS m "
    "WHERE m.match_id = {0}.match_id AND m.phase = 'ended'"
)
CHILDREN = ("participants", "match_properties", "match_tags")
BEFORE = (
    ("ix_participants_player_id", "participants", ["player_id"]),
    ("ix_match_properties_name_value", "match_properties", ["name", "value", "match_id"]),
    ("ix_match_properties_name_number", "match_properties", ["name", "number", "match_id"]),
    ("ix_match_tags_tag", "match_tags", ["tag", "match_id"]),
)
END = ["ended_wall_ms", "match_id"]
AFTER = (
    ("ix_participants_player_ended", "participants", ["player_id", *END]),
    ("ix_match_properties_value_ended", "match_properties", ["name", "value", *END]),
    ("ix_match_properties_number_ended", "match_properties", ["name", "number", *END]),
    ("ix_match_tags_tag_ended", "match_tags", ["tag", *END]),
    ("ix_matches_ended", "matches", END),
    ("ix_matches_mode_ended", "matches", ["mode", *END]),
    ("ix_matches_map_name_ended", "matches", ["map_name", *END]),
)


def _text(name: str) -> "sa.Column[str]":
    return sa.Column(name, sa.Text, nullable=False, server_default=sa.text("''"))


def upgrade() -> None:
    op.add_column("matches", sa.Column("private", sa.Boolean))
    op.add_column("matches", sa.Column("listed", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("matches", sa.Column("delayed", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("matches", _text("source"))
    op.add_column("matches", number("player_count"))
    for table in CHILDREN:
        op.add_column(table, number("ended_wall_ms"))
    op.add_column("participants", _text("result"))
    op.add_column("participants", _text("name"))
    for statement in (RESULTS, COUNTS, *(ENDS.format(table) for table in CHILDREN[1:])):
        op.execute(statement)
    for name, table, _ in BEFORE:
        op.drop_index(name, table)
    for name, table, columns in AFTER:
        op.create_index(name, table, columns)
    imported = sa.text("source <> ''")
    op.create_index("ix_matches_imported", "matches", END, postgresql_where=imported, sqlite_where=imported)


def downgrade() -> None:
    op.drop_index("ix_matches_imported", "matches")
    for name, table, _ in reversed(AFTER):
        op.drop_index(name, table)
    for name, table, columns in BEFORE:
        op.create_index(name, table, columns)
    for table, column in (
        ("participants", "name"),
        ("participants", "result"),
        *((table, "ended_wall_ms") for table in CHILDREN),
        *(("matches", name) for name in ("player_count", "source", "delayed", "listed", "private")),
    ):
        op.drop_column(table, column)
