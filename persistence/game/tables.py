"""The game's tables, in real columns, so that people can ask them with SQL.

Wall times are ms since 1970, 0 for never; match times are ms of the match's own clock.
`players.recent` is msgpack and only the server's affair: answered commands and settled matches. So are the binary
columns of `friends`.
`matches` and `participants` are projections: the truth is the match's log in `log_chunks`.
"""

from typing import Final

from sqlalchemy import JSON, BigInteger, Boolean, Column, Index, Integer, LargeBinary, Table, Text, false, text, true
from sqlalchemy.dialects.postgresql import JSONB

from persistence.engine.tables import KeyText, facts, log_end, metadata, number, ownership


def _text(name: str, default: str = "") -> Column[str]:
    return Column(name, Text, nullable=False, server_default=text(f"'{default}'"))


LIVE_MATCH: Final = "phase <> 'ended' OR owner_node IS NOT NULL"
"""A match that is not over lives on with nobody calling it, if it was ever created. No number of an event is in this:
a column that each append changes may be in no index, or PostgreSQL writes all of them anew for each (no HOT)."""
LIVE_OR_OPEN: Final = f"({LIVE_MATCH}) OR (open_facts)"
"""The condition by which matches without a living owner are looked for (`persistence.engine.statements`)."""
MATCH_OVER: Final = "phase = 'ended'"
PLAYER_HERE: Final = "status <> 'offline' OR current_match <> ''"
"""A player who is connected or in a match, or was when the node died (`game.player.rules.is_here`)."""
IMPORTED: Final = "source <> ''"
"""A match that was made of another game's log."""

players = Table(
    "players",
    metadata,
    Column("player_id", KeyText, primary_key=True),
    *ownership(),
    _text("display_name"),
    _text("emblem"),
    _text("status", "offline"),
    _text("chosen", "online"),
    number("last_seen_ms"),
    _text("current_match"),
    number("matches"),
    number("wins"),
    number("kills"),
    number("deaths"),
    number("assists"),
    number("medals"),
    Column("recent", LargeBinary),
    _text("current_party"),
    facts(),
    Index("ix_players_open_facts", "player_id", postgresql_where=text("open_facts"), sqlite_where=text("open_facts")),
    Index("ix_players_here", "player_id", postgresql_where=text(PLAYER_HERE), sqlite_where=text(PLAYER_HERE)),
)

careers = Table(
    "careers",
    metadata,
    Column("player_id", KeyText, primary_key=True),
    Column("match_id", KeyText, primary_key=True),
    Column("birth", BigInteger, primary_key=True, autoincrement=False),
    number("ended_wall_ms"),
    _text("mode"),
    _text("season"),
    Column("won", Boolean, nullable=False, server_default=false()),
    number("kills"),
    number("deaths"),
    number("assists"),
    number("medals"),
    number("best_streak"),
    number("played_ms"),
    _text("rating_group"),
    number("mu"),
    number("log_sigma"),
    Column("medal_names", JSON().with_variant(JSONB(), "postgresql"), nullable=False, server_default=text("'{}'")),
    Index("ix_careers_player_id_ended_wall_ms", "player_id", "ended_wall_ms"),
    Index("ix_careers_ended_wall_ms", "ended_wall_ms"),
)
"""A row for each result that is in a player's totals, written with them. `birth` is the match's `created_wall_ms`,
which tells matches of one name apart. `mu` and `log_sigma` are what it adds to the rating, in millionths."""

career_totals = Table(
    "career_totals",
    metadata,
    Column("player_id", KeyText, primary_key=True),
    Column("mode", KeyText, primary_key=True),
    Column("season", KeyText, primary_key=True),
    number("matches"),
    number("wins"),
    number("kills"),
    number("deaths"),
    number("assists"),
    number("medals"),
    number("best_streak"),
    number("played_ms"),
    number("best_kills"),
    _text("best_match"),
)
"""The career of a player by mode and season: sums over its rows of `careers`. What was counted before those had modes
is under an empty one."""

career_medals = Table(
    "career_medals",
    metadata,
    Column("player_id", KeyText, primary_key=True),
    Column("mode", KeyText, primary_key=True),
    Column("season", KeyText, primary_key=True),
    Column("medal", KeyText, primary_key=True),
    number("earned"),
)

ratings = Table(
    "ratings",
    metadata,
    Column("player_id", KeyText, primary_key=True),
    Column("rating_group", KeyText, primary_key=True),
    number("mu"),
    number("log_sigma"),
    number("matches"),
    Index("ix_ratings_rating_group_mu", "rating_group", "mu"),
)
"""OpenSkill ratings in millionths: where everybody begins, and all that rated matches added."""

matches = Table(
    "matches",
    metadata,
    Column("match_id", KeyText, primary_key=True),
    *ownership(),
    *log_end(),
    _text("host"),
    _text("mode"),
    _text("map_name"),
    number("teams"),
    number("max_players"),
    number("score_limit"),
    number("time_limit_ms"),
    Column("join_in_progress", Boolean, nullable=False, server_default=true()),
    number("countdown_ms"),
    _text("phase", "lobby"),
    number("time_ms"),
    number("created_wall_ms"),
    number("started_wall_ms"),
    number("ended_wall_ms"),
    Column("end_reason", Text),
    Column("winner", Text),
    Column("team_scores", JSON().with_variant(JSONB(), "postgresql"), nullable=False, server_default=text("'[]'")),
    Index("ix_matches_created_wall_ms", "created_wall_ms"),
    facts(),
    Column("rules", BigInteger, nullable=False, server_default=text("1")),
    Column("private", Boolean),
    Column("listed", Boolean, nullable=False, server_default=false()),
    Column("delayed", Boolean, nullable=False, server_default=false()),
    _text("source"),
    number("player_count"),
    Column("counts", Boolean, nullable=False, server_default=true()),
    Index("ix_matches_ended", "ended_wall_ms", "match_id"),
    Index("ix_matches_mode_ended", "mode", "ended_wall_ms", "match_id"),
    Index("ix_matches_map_name_ended", "map_name", "ended_wall_ms", "match_id"),
    Index(
        "ix_matches_imported", "ended_wall_ms", "match_id", postgresql_where=text(IMPORTED), sqlite_where=text(IMPORTED)
    ),
    Column("pinned", Boolean, nullable=False, server_default=false()),
    Index("ix_matches_live", "match_id", postgresql_where=text(LIVE_OR_OPEN), sqlite_where=text(LIVE_OR_OPEN)),
)
"""`private` is null where an earlier version wrote the row, and did not say. `delayed`: its spectators may not
know yet how it stands. `source`: of an imported match. `counts`: whether it adds to careers, as an imported one may
not."""

PARTY_HERE: Final = "is_due"
"""A party that waits for time to pass: a member is away, and is let go, or replaced as the leader."""

parties = Table(
    "parties",
    metadata,
    Column("party_id", KeyText, primary_key=True),
    *ownership(),
    _text("leader"),
    number("room"),
    _text("code"),
    _text("match_id"),
    number("created_wall_ms"),
    number("ended_wall_ms"),
    number("newest"),
    Column("members", LargeBinary),
    Column("invited", LargeBinary),
    Column("untold", LargeBinary),
    Column("answered", LargeBinary),
    number("size"),
    Column("player_ids", JSON().with_variant(JSONB(), "postgresql"), nullable=False, server_default=text("'[]'")),
    Column("is_due", Boolean, nullable=False, server_default=false()),
    facts(),
    Index("ix_parties_code", "code", postgresql_where=text("code <> ''"), sqlite_where=text("code <> ''")),
    Index("ix_parties_open_facts", "party_id", postgresql_where=text("open_facts"), sqlite_where=text("open_facts")),
    Index("ix_parties_here", "party_id", postgresql_where=text(PARTY_HERE), sqlite_where=text(PARTY_HERE)),
)
"""A row for each party. `size` and `player_ids` tell its members; `members`, `invited`, `untold` and `answered` are
msgpack and only the server's affair. `is_due`: a member is away."""

party_members = Table(
    "party_members",
    metadata,
    Column("party_id", KeyText, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("player_id", KeyText, nullable=False),
    number("joined_wall_ms"),
    Index("ix_party_members_player_id", "player_id"),
)
"""A row for each membership there ever was, also those that are over: `players.current_party` says who is in a party
now."""

participants = Table(
    "participants",
    metadata,
    Column("match_id", KeyText, primary_key=True),
    Column("player_id", KeyText, primary_key=True),
    number("projected_seq"),
    Column("team", Integer),
    Column("present", Boolean, nullable=False),
    number("kills"),
    number("deaths"),
    number("assists"),
    number("medals"),
    number("objectives"),
    number("score"),
    number("ended_wall_ms"),
    _text("result"),
    _text("name"),
    Index("ix_participants_player_ended", "player_id", "ended_wall_ms", "match_id"),
)
"""A row for each player of a match. `ended_wall_ms` is that of the match, 0 before its end; `result` is `won`, `lost`
or `tied`, and empty where the match goes on or nothing was decided; `name`: as another game's log has it."""

match_properties = Table(
    "match_properties",
    metadata,
    Column("match_id", KeyText, primary_key=True),
    Column("name", KeyText, primary_key=True),
    number("projected_seq"),
    Column("value", KeyText, nullable=False),
    Column("number", BigInteger),
    number("ended_wall_ms"),
    Index("ix_match_properties_value_ended", "name", "value", "ended_wall_ms", "match_id"),
    Index("ix_match_properties_number_ended", "name", "number", "ended_wall_ms", "match_id"),
)
"""A row for each property of a match: `value` as text (`true`, `false`, digits), and the `number` of a whole number.
`ended_wall_ms` is that of the match, 0 before its end; so it is in `match_tags`."""

match_tags = Table(
    "match_tags",
    metadata,
    Column("match_id", KeyText, primary_key=True),
    Column("tag", KeyText, primary_key=True),
    number("projected_seq"),
    number("ended_wall_ms"),
    Index("ix_match_tags_tag_ended", "tag", "ended_wall_ms", "match_id"),
)

standings = Table(
    "standings",
    metadata,
    Column("subject", KeyText, primary_key=True),
    *ownership(),
    number("banned_until_ms"),
    _text("ban_reason"),
    number("muted_until_ms"),
    _text("mute_reason"),
    number("tokens_from_ms"),
    Column("number", LargeBinary),
    Column("told", LargeBinary),
    Column("acts", LargeBinary),
    number("forgotten"),
    facts(),
    Index("ix_standings_open_facts", "subject", postgresql_where=text("open_facts"), sqlite_where=text("open_facts")),
    info={"kind": "standing"},
)
"""A row for each subject that was ever banned, muted, kicked, or had its tokens revoked. Ends are Unix ms, 2^53 - 1 for
none; `number`, `told` and `acts` are msgpack and only the server's affair."""

moderation_acts = Table(
    "moderation_acts",
    metadata,
    Column("subject", KeyText, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    number("at_ms"),
    _text("act"),
    Column("principal", KeyText, nullable=False, server_default=text("''")),
    _text("role"),
    _text("reason"),
    number("until_ms"),
    _text("lineage"),
    number("command"),
    Index("ix_moderation_acts_at_ms", "at_ms", "subject", "number"),
    Index("ix_moderation_acts_principal", "principal", "at_ms"),
)
"""The audit: a row for each act, inserted with the standing that it made and never changed."""

friends = Table(
    "friends",
    metadata,
    Column("player_id", KeyText, primary_key=True),
    *ownership(),
    number("relations"),
    number("told"),
    Column("links", LargeBinary),
    Column("untold", LargeBinary),
    Column("answered", LargeBinary),
    Column("dropped", LargeBinary),
    facts(),
    Index("ix_friends_open_facts", "player_id", postgresql_where=text("open_facts"), sqlite_where=text("open_facts")),
    info={"kind": "friends"},
)

friendships = Table(
    "friendships",
    metadata,
    Column("player_id", KeyText, primary_key=True),
    Column("other_id", KeyText, primary_key=True),
    Column("state", Text, nullable=False),
    number("since_ms"),
    Index("ix_friendships_other_id", "other_id"),
)
"""A row for each entry of a player's list: `state` as `friends.list` says it. Written with the row of `friends`, so a
friendship is two rows, of which one may follow the other by a moment. Views for people: `friend_pairs`, a row for each
pair who are friends by both rows, and `blocks`."""
