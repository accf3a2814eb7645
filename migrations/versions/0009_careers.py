"""Results that are in a player's totals are rows, so that no result counts twice and none is taken for counted."""

from typing import Any

import msgspec
import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision: str | None = "0008"
branch_labels: str | None = None
depends_on: str | None = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
PAGE = 500
PLAYERS = sa.text(
    "SELECT player_id, recent FROM players WHERE player_id > :after AND recent IS NOT NULL "
    "ORDER BY player_id LIMIT :limit"
)
RESULTS = sa.text(
    "SELECT p.match_id, m.created_wall_ms, m.ended_wall_ms FROM participants AS p "
    "JOIN matches AS m ON m.match_id = p.match_id WHERE p.player_id = :player AND m.phase = 'ended'"
)


def upgrade() -> None:
    careers = op.create_table(
        "careers",
        sa.Column("player_id", KEY, nullable=False),
        sa.Column("match_id", KEY, nullable=False),
        sa.Column("birth", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("ended_wall_ms", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.PrimaryKeyConstraint("player_id", "match_id", "birth", name="pk_careers"),
    )
    assert careers is not None
    connection, after = op.get_bind(), ""
    while rows := connection.execute(PLAYERS, {"after": after, "limit": PAGE}).fetchall():
        after = rows[-1][0]
        found = [result for player, recent in rows for result in _counted(connection, player, recent)]
        if found:
            connection.execute(careers.insert(), found)
    # Results that a node had not told, and that a reminder was to tell half an hour later.
    op.execute(
        "UPDATE matches SET open_facts = true WHERE phase = 'ended' AND match_id IN "
        "(SELECT key FROM reminders WHERE kind = 'match' AND name = 'settle_again')"
    )


def _counted(connection: Any, player: str, recent: bytes) -> list[dict[str, Any]]:
    """The results that were in the player's totals, as far as it was known: those that its row named, and all that
    ended at its floor or before."""
    try:
        parts = msgspec.msgpack.decode(recent)
        settled, floor_ms = {(one[0], one[1]) for one in parts[1]}, parts[2]
    except (msgspec.MsgspecError, IndexError, TypeError):
        return []  # the row is corrupt, and says so when it is read
    return [
        {"player_id": player, "match_id": match, "birth": birth, "ended_wall_ms": ended}
        for match, birth, ended in connection.execute(RESULTS, {"player": player}).fetchall()
        if (match, ended) in settled or ended <= floor_ms
    ]


def downgrade() -> None:
    op.drop_table("careers")
