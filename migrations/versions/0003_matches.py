"""Matches and their participants, projections of the match logs."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision: str | None = "0002"
branch_labels: str | None = None
depends_on: str | None = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _number(name: str) -> "sa.Column[int]":
    return sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0"))


def _text(name: str, default: str = "") -> "sa.Column[str]":
    return sa.Column(name, sa.Text, nullable=False, server_default=sa.text(f"'{default}'"))


def upgrade() -> None:
    op.create_table(
        "matches",
        sa.Column("match_id", KEY, nullable=False),
        _number("epoch"),
        _number("state_epoch"),
        _number("state_version"),
        sa.Column("owner_node", KEY),
        sa.Column("owner_incarnation", sa.BigInteger),
        _number("claim_token"),
        sa.Column("next_seq", sa.BigInteger, nullable=False, server_default=sa.text("1")),
        sa.Column("head", sa.LargeBinary, nullable=False),
        _number("projected_seq"),
        _text("host"),
        _text("mode"),
        _text("map_name"),
        _number("teams"),
        _number("max_players"),
        _number("score_limit"),
        _number("time_limit_ms"),
        sa.Column("join_in_progress", sa.Boolean, nullable=False, server_default=sa.true()),
        _number("countdown_ms"),
        _text("phase", "lobby"),
        _number("time_ms"),
        _number("created_wall_ms"),
        _number("started_wall_ms"),
        _number("ended_wall_ms"),
        sa.Column("end_reason", sa.Text),
        sa.Column("winner", sa.Text),
        sa.Column(
            "team_scores",
            sa.JSON().with_variant(JSONB(), "postgresql"),
            nullable=False,
            server_default=sa.text("'[]'"),
        ),
        sa.PrimaryKeyConstraint("match_id", name="pk_matches"),
    )
    op.create_index("ix_matches_created_wall_ms", "matches", ["created_wall_ms"])
    op.create_table(
        "participants",
        sa.Column("match_id", KEY, nullable=False),
        sa.Column("player_id", KEY, nullable=False),
        _number("projected_seq"),
        sa.Column("team", sa.Integer),
        sa.Column("present", sa.Boolean, nullable=False),
        _number("kills"),
        _number("deaths"),
        _number("assists"),
        _number("medals"),
        _number("objectives"),
        _number("score"),
        sa.PrimaryKeyConstraint("match_id", "player_id", name="pk_participants"),
    )
    op.create_index("ix_participants_player_id", "participants", ["player_id"])


def downgrade() -> None:
    op.drop_table("participants")
    op.drop_table("matches")
