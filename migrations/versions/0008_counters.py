"""A counter of runs that is never pruned, so that rows of runs that are over may be; players that are here."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision: str | None = "0007"
branch_labels: str | None = None
depends_on: str | None = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INDEXES = (
    ("ix_nodes_living", "nodes", "node_id", "state IN ('up', 'evicting')"),
    ("ix_nodes_left_a_journal", "nodes", "node_id", "state IN ('dead', 'left') AND journal <> ''"),
    ("ix_players_here", "players", "player_id", "status <> 'offline' OR current_match <> ''"),
)


def upgrade() -> None:
    op.create_table(
        "counters",
        sa.Column("name", KEY, nullable=False),
        sa.Column("value", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_counters"),
    )
    op.execute("INSERT INTO counters (name, value) SELECT 'incarnation', coalesce(max(incarnation), 0) FROM nodes")
    for name, table, column, where in INDEXES:
        op.create_index(name, table, [column], postgresql_where=sa.text(where), sqlite_where=sa.text(where))


def downgrade() -> None:
    """Give the rows back that the older program cannot do without: of each run that an entity names as its owner,
    whichever application the table is of, and of one with the highest number, above which it goes on."""
    for name, of, _, _ in INDEXES:
        op.drop_index(name, of)
    inspector = sa.inspect(op.get_bind())
    quote = op.get_bind().dialect.identifier_preparer.quote
    for table in inspector.get_table_names():
        columns = {column["name"] for column in inspector.get_columns(table)}
        if {"owner_node", "owner_incarnation"} <= columns:
            op.execute(
                "INSERT INTO nodes (node_id, incarnation, state, journal) "
                f"SELECT DISTINCT t.owner_node, t.owner_incarnation, 'dead', '' FROM {quote(table)} AS t "
                "WHERE t.owner_node IS NOT NULL AND t.owner_incarnation IS NOT NULL AND NOT EXISTS "
                "(SELECT 1 FROM nodes AS o WHERE o.node_id = t.owner_node AND o.incarnation = t.owner_incarnation)"
            )
    op.execute(
        "INSERT INTO nodes (node_id, incarnation, state, journal) "
        "SELECT 'pruned', value, 'dead', '' FROM counters WHERE name = 'incarnation' "
        "AND value > (SELECT coalesce(max(incarnation), 0) FROM nodes)"
    )
    op.drop_table("counters")
