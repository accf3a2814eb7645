"""Views for people who ask with SQL: who is online, results by player, opponents, kills a death, medals. And imported
matches that were stored before rows said where a match is from learn it of the property that every import has set."""

from alembic import op
from sqlalchemy import Connection

revision = "0018"
down_revision: str | None = "0017"
branch_labels: str | None = None
depends_on: str | None = None

NOW = {
    "sqlite": "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
    "postgresql": "CAST(extract(epoch from now()) * 1000 AS bigint)",
}
"""Unix time in ms, by the database's clock."""
VIEWS = (
    (
        "online_players",
        "SELECT player_id, display_name, status, last_seen_ms, current_match, current_party FROM players "
        "WHERE status IN ('online', 'away', 'busy') OR last_seen_ms >= {now} - 300000",
    ),
    (
        "player_results",
        "SELECT c.player_id, coalesce(n.display_name, '') AS display_name, c.match_id, c.mode, c.season, "
        "coalesce(m.map_name, '') AS map_name, p.team, coalesce(p.result, '') AS result, "
        "c.won, c.kills, c.deaths, c.assists, c.medals, c.best_streak, c.played_ms, c.ended_wall_ms, "
        "c.rating_group, c.mu, c.log_sigma FROM careers AS c "
        "LEFT JOIN matches AS m ON m.match_id = c.match_id AND m.created_wall_ms = c.birth "
        "LEFT JOIN participants AS p ON p.match_id = m.match_id AND p.player_id = c.player_id "
        "LEFT JOIN players AS n ON n.player_id = c.player_id",
    ),
    (
        "week_killers",
        "SELECT c.player_id, max(n.display_name) AS display_name, sum(c.kills) AS kills, sum(c.deaths) AS deaths, "
        "count(*) AS matches FROM careers AS c LEFT JOIN players AS n ON n.player_id = c.player_id "
        "WHERE c.ended_wall_ms >= {now} - 604800000 GROUP BY c.player_id",
    ),
    (
        "match_opponents",
        "SELECT me.player_id, me.match_id, m.mode, m.map_name, m.ended_wall_ms, me.result, me.kills, me.deaths, "
        "other.player_id AS opponent_id, other.kills AS opponent_kills, other.deaths AS opponent_deaths "
        "FROM participants AS me JOIN matches AS m ON m.match_id = me.match_id "
        "JOIN participants AS other ON other.match_id = me.match_id AND other.player_id <> me.player_id "
        "AND (other.team IS NULL OR me.team IS NULL OR other.team <> me.team) WHERE m.phase = 'ended'",
    ),
    (
        "kills_by_map",
        "SELECT player_id, map_name, mode, count(*) AS matches, sum(kills) AS kills, sum(deaths) AS deaths, "
        "1.0 * sum(kills) / CASE WHEN sum(deaths) = 0 THEN 1 ELSE sum(deaths) END AS ratio "
        "FROM player_results GROUP BY player_id, map_name, mode",
    ),
    (
        "medals_earned",
        "SELECT m.player_id, coalesce(n.display_name, '') AS display_name, m.mode, m.season, m.medal, m.earned "
        "FROM career_medals AS m LEFT JOIN players AS n ON n.player_id = m.player_id",
    ),
)

FROM_PROPERTY = (
    "UPDATE matches SET source = p.value FROM match_properties AS p "
    "WHERE p.match_id = matches.match_id AND p.name = 'source' AND p.value LIKE 'imported:%' "
    "AND matches.source = '' AND matches.owner_incarnation IS NULL"
)
"""An import has no owner; a match of this server that only says such a thing had one."""


def upgrade() -> None:
    op.execute(FROM_PROPERTY)
    bind: Connection = op.get_bind()
    for name, select in VIEWS:
        op.execute(f"CREATE VIEW {name} AS {select.format(now=NOW[bind.dialect.name])}")


def downgrade() -> None:
    for name, _ in reversed(VIEWS):
        op.execute(f"DROP VIEW {name}")
