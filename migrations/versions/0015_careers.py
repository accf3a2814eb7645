"""Careers by mode and season, medals by name, and ratings: sums over what each match gave each player."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from migrations.columns import number

revision = "0015"
down_revision: str | None = "0014"
branch_labels: str | None = None
depends_on: str | None = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
NUMBERS = ("kills", "deaths", "assists", "medals", "best_streak", "played_ms", "mu", "log_sigma")
SUMS = ("matches", "wins", "kills", "deaths", "assists", "medals")
FROM_ROWS = (
    "UPDATE careers SET "
    "mode = (SELECT m.mode FROM matches AS m WHERE m.match_id = careers.match_id), "
    "won = (SELECT m.winner IS NOT NULL AND m.winner = CASE WHEN p.team IS NULL THEN p.player_id "
    "ELSE 'team:' || p.team END FROM matches AS m JOIN participants AS p ON p.match_id = m.match_id "
    "WHERE m.match_id = careers.match_id AND p.player_id = careers.player_id), "
    + ", ".join(
        f"{name} = (SELECT p.{name} FROM participants AS p "
        "WHERE p.match_id = careers.match_id AND p.player_id = careers.player_id)"
        for name in ("kills", "deaths", "assists", "medals")
    )
    + " WHERE EXISTS (SELECT 1 FROM matches AS m JOIN participants AS p ON p.match_id = m.match_id "
    "WHERE m.match_id = careers.match_id AND m.created_wall_ms = careers.birth AND m.phase = 'ended' "
    "AND p.player_id = careers.player_id)"
)
"""What a result was, where its match is still there: one whose name was used again is of another birth."""
TO_TOTALS = (
    f"INSERT INTO career_totals (player_id, mode, season, {', '.join(SUMS)}, best_kills, best_match) "
    "SELECT c.player_id, c.mode, c.season, count(*), sum(CASE WHEN c.won THEN 1 ELSE 0 END), sum(c.kills), "
    "sum(c.deaths), sum(c.assists), sum(c.medals), max(c.kills), "
    "(SELECT b.match_id FROM careers AS b WHERE b.player_id = c.player_id AND b.mode = c.mode AND b.mode <> '' "
    "ORDER BY b.kills DESC, b.match_id LIMIT 1) "
    "FROM careers AS c WHERE c.mode <> '' GROUP BY c.player_id, c.mode, c.season"
)
THE_REST = (
    f"INSERT INTO career_totals (player_id, mode, season, {', '.join(SUMS)}) "
    f"SELECT * FROM (SELECT p.player_id, '' AS mode, '' AS season, "
    + ", ".join(
        f"p.{name} - coalesce((SELECT sum(t.{name}) FROM career_totals AS t "
        f"WHERE t.player_id = p.player_id AND t.mode <> ''), 0) AS {name}"
        for name in SUMS
    )
    + " FROM players AS p WHERE p.matches > 0) AS rest WHERE "
    + " OR ".join(f"rest.{name} > 0" for name in SUMS)
)
"""Totals of a player that no row explains any more: nothing that was counted is lost."""


def _text(name: str) -> "sa.Column[str]":
    return sa.Column(name, sa.Text, nullable=False, server_default=sa.text("''"))


def _key(name: str) -> "sa.Column[str]":
    return sa.Column(name, KEY, nullable=False)


def upgrade() -> None:
    json = sa.JSON().with_variant(JSONB(), "postgresql")
    columns: tuple[sa.Column[Any], ...] = (
        _text("mode"),
        _text("season"),
        sa.Column("won", sa.Boolean, nullable=False, server_default=sa.false()),
        *(number(name) for name in NUMBERS),
        _text("rating_group"),
        sa.Column("medal_names", json, nullable=False, server_default=sa.text("'{}'")),
    )
    for column in columns:
        op.add_column("careers", column)
    op.create_index("ix_careers_ended_wall_ms", "careers", ["ended_wall_ms"])
    op.create_table(
        "career_totals",
        _key("player_id"),
        _key("mode"),
        _key("season"),
        *(number(name) for name in (*SUMS, "best_streak", "played_ms", "best_kills")),
        _text("best_match"),
        sa.PrimaryKeyConstraint("player_id", "mode", "season", name="pk_career_totals"),
    )
    op.create_table(
        "career_medals",
        _key("player_id"),
        _key("mode"),
        _key("season"),
        _key("medal"),
        number("earned"),
        sa.PrimaryKeyConstraint("player_id", "mode", "season", "medal", name="pk_career_medals"),
    )
    op.create_table(
        "ratings",
        _key("player_id"),
        _key("rating_group"),
        number("mu"),
        number("log_sigma"),
        number("matches"),
        sa.PrimaryKeyConstraint("player_id", "rating_group", name="pk_ratings"),
    )
    op.create_index("ix_ratings_rating_group_mu", "ratings", ["rating_group", "mu"])
    for statement in (FROM_ROWS, TO_TOTALS, THE_REST):
        op.execute(statement)


def downgrade() -> None:
    op.drop_table("ratings")
    op.drop_table("career_medals")
    op.drop_table("career_totals")
    op.drop_index("ix_careers_ended_wall_ms", "careers")
    for name in ("medal_names", "rating_group", *reversed(NUMBERS), "won", "season", "mode"):
        op.drop_column("careers", name)
