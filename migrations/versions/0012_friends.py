"""Friends and blocks: a row for each player, a row for each entry of a list, and views for people."""

import sqlalchemy as sa
from alembic import op

from migrations.columns import KEY, facts_v1, number, owned_v1

revision = "0012"
down_revision: str | None = "0011"
branch_labels: str | None = None
depends_on: str | None = None

FRIEND_PAIRS = (
    "CREATE VIEW friend_pairs AS SELECT one.player_id AS player_id, one.other_id AS other_id, one.since_ms AS since_ms "
    "FROM friendships AS one JOIN friendships AS two ON two.player_id = one.other_id AND two.other_id = one.player_id "
    "WHERE one.player_id < one.other_id AND one.state = 'friend' AND two.state = 'friend'"
)
BLOCKS = (
    "CREATE VIEW blocks AS SELECT player_id, other_id AS blocked_id, since_ms FROM friendships WHERE state = 'blocked'"
)


def upgrade() -> None:
    op.create_table(
        "friends",
        sa.Column("player_id", KEY, nullable=False),
        *owned_v1(),
        number("relations"),
        number("told"),
        *(sa.Column(name, sa.LargeBinary) for name in ("links", "untold", "answered", "dropped")),
        facts_v1(),
        sa.PrimaryKeyConstraint("player_id", name="pk_friends"),
    )
    is_open = sa.text("open_facts")
    op.create_index("ix_friends_open_facts", "friends", ["player_id"], postgresql_where=is_open, sqlite_where=is_open)
    op.create_table(
        "friendships",
        sa.Column("player_id", KEY, nullable=False),
        sa.Column("other_id", KEY, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        number("since_ms"),
        sa.PrimaryKeyConstraint("player_id", "other_id", name="pk_friendships"),
    )
    op.create_index("ix_friendships_other_id", "friendships", ["other_id"])
    op.create_index("ix_careers_player_id_ended_wall_ms", "careers", ["player_id", "ended_wall_ms"])
    op.execute(FRIEND_PAIRS)
    op.execute(BLOCKS)


def downgrade() -> None:
    op.execute("DROP VIEW blocks")
    op.execute("DROP VIEW friend_pairs")
    op.drop_index("ix_careers_player_id_ended_wall_ms", "careers")
    op.drop_table("friendships")
    op.drop_table("friends")
