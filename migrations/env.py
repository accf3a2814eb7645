"""Alembic's environment. `migrations` hands it a connection that is already within a
transaction and holds the migration lock; it is never run from an ini file."""

from alembic import context

from migrations import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata(),
    version_table=context.config.attributes["version_table"],
    render_as_batch=True,
    compare_type=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
