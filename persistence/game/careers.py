"""Careers and ratings as sums over table `careers`, kept up to date by the statement that inserts its rows.

A row of `careers` is what one match gave one player; it is inserted in the transaction that stores the player's state
with that result, or it is there already and adds nothing. So the sums have each result exactly once, and no player
carries a career in memory. A sum does not depend on the order of results: differences are added up, and of two best
games with as many kills the one whose name comes first is kept.
"""

from typing import Final

from game.careers.ratings import FIRST_LOG_SIGMA, FIRST_MU
from persistence.engine.mapping import Totals
from persistence.game import tables

_SUMS: Final = ("matches", "wins", "kills", "deaths", "assists", "medals", "played_ms")
_BEST: Final = (
    "excluded.best_kills > t.best_kills OR (excluded.best_kills = t.best_kills "
    "AND (t.best_match = '' OR excluded.best_match < t.best_match))"
)
_GREATER: Final = "CASE WHEN excluded.{0} > t.{0} THEN excluded.{0} ELSE t.{0} END"
_TOTALS: Final = (
    "INSERT INTO career_totals AS t "
    f"(player_id, mode, season, {', '.join(_SUMS)}, best_streak, best_kills, best_match) "
    "SELECT a.player_id, a.mode, a.season, count(*), sum(CASE WHEN a.won THEN 1 ELSE 0 END), sum(a.kills), "
    "sum(a.deaths), sum(a.assists), sum(a.medals), sum(a.played_ms), max(a.best_streak), max(a.kills), {best} "
    "FROM {{added}} AS a WHERE true GROUP BY a.player_id, a.mode, a.season "
    "ON CONFLICT (player_id, mode, season) DO UPDATE SET "
    f"{', '.join(f'{name} = t.{name} + excluded.{name}' for name in _SUMS)}, "
    f"best_streak = {_GREATER.format('best_streak')}, best_kills = {_GREATER.format('best_kills')}, "
    f"best_match = CASE WHEN {_BEST} THEN excluded.best_match ELSE t.best_match END"
)
_MEDALS: Final = (
    "INSERT INTO career_medals AS t (player_id, mode, season, medal, earned) "
    "SELECT a.player_id, a.mode, a.season, m.key, sum({value}) FROM {{added}} AS a, {each} WHERE true "
    "GROUP BY a.player_id, a.mode, a.season, m.key "
    "ON CONFLICT (player_id, mode, season, medal) DO UPDATE SET earned = t.earned + excluded.earned"
)
_RATINGS: Final = (
    "INSERT INTO ratings AS t (player_id, rating_group, mu, log_sigma, matches) "
    f"SELECT a.player_id, a.rating_group, {FIRST_MU} + sum(a.mu), {FIRST_LOG_SIGMA} + sum(a.log_sigma), count(*) "
    "FROM {added} AS a WHERE a.rating_group <> '' GROUP BY a.player_id, a.rating_group "
    "ON CONFLICT (player_id, rating_group) DO UPDATE SET "
    f"mu = t.mu + excluded.mu - {FIRST_MU}, log_sigma = t.log_sigma + excluded.log_sigma - {FIRST_LOG_SIGMA}, "
    "matches = t.matches + excluded.matches"
)
CAREER_TOTALS: Final = (
    Totals(
        tables.career_totals,
        _TOTALS.format(best="(array_agg(a.match_id ORDER BY a.kills DESC, a.match_id))[1]"),
        _TOTALS.format(best="min(a.match_id)"),  # a row at a time there
    ),
    Totals(
        tables.career_medals,
        _MEDALS.format(value="m.value::int8", each="jsonb_each_text(a.medal_names) AS m(key, value)"),
        _MEDALS.format(value="m.value", each="json_each(a.medal_names) AS m"),
    ),
    Totals(tables.ratings, _RATINGS),
)
"""Sums of careers by mode and season, of medals by name, and ratings."""
