"""Rights of the database's role are checked when a node starts, not when they are first needed (F43)."""

import asyncpg
import pytest
from sqlalchemy.engine import make_url

from server.errors import BadSetting
from tests.support.databases import postgres_url, sql_store

TABLES = ("nodes", "actors", "log_chunks", "reminders", "players", "matches", "participants")


@pytest.mark.parametrize("right", ["SELECT", "INSERT", "UPDATE", "DELETE"])
async def test_missing_right_on_any_table_is_named_at_start(right: str) -> None:
    owner = make_url(postgres_url()).set(drivername="postgresql")
    connection = await asyncpg.connect(owner.render_as_string(hide_password=False))
    role = f"limited_{owner.database}"
    await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")
    limited = owner.set(username=role, password="secret").render_as_string(hide_password=False)
    try:
        with pytest.raises(BadSetting, match=r"lacks SELECT on alembic_version"):
            await sql_store(limited).open()
        await connection.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
        store = sql_store(limited)
        await store.open()
        await store.close()
        for table in TABLES:
            await connection.execute(f"REVOKE {right} ON {table} FROM {role}")
            with pytest.raises(BadSetting, match=rf"setting store\.url: .* lacks {right} on {table}: GRANT") as caught:
                await sql_store(limited).open()
            assert "secret" not in str(caught.value)
            if right != "SELECT":
                reader = sql_store(limited)
                await reader.open(reads_only=True)
                await reader.close()
            await connection.execute(f"GRANT {right} ON {table} TO {role}")
    finally:
        await connection.execute(f"DROP OWNED BY {role}")
        await connection.execute(f"DROP ROLE {role}")
        await connection.close()
