"""The engine that runs statements: DuckDB in memory, locked, kept from one question to the next.

To make an engine costs some 10 ms of CPU, more than many a question. One in which a statement has failed is not used
again: a failure may leave something behind.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import duckdb
import pyarrow as pa

from server.errors import Overloaded
from server.questions.plan import BadQuestion

MEMORY: Final = "256MB"


def engine(memory: str = MEMORY) -> "duckdb.DuckDBPyConnection":
    """An engine in memory that reaches nothing outside of it."""
    connection = duckdb.connect(
        config={
            "threads": 1,
            "memory_limit": memory,
            "enable_external_access": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,
        }
    )
    connection.execute("SET lock_configuration = true")
    return connection


class KeptEngine:
    """See the module's head."""

    def __init__(self) -> None:
        self._connection: duckdb.DuckDBPyConnection | None = None

    def warm(self) -> None:
        """Make the engine before the first question, and let it read a table, which takes it longer the first time."""
        with self.lent() as connection, table(connection, "rows", pa.table({"k0": [0]})):
            connection.execute("SELECT k0, count(*) FROM rows GROUP BY k0").fetchall()

    @contextmanager
    def lent(self) -> "Iterator[duckdb.DuckDBPyConnection]":
        """The engine, for statements one after the other. Raises `BadQuestion` where one of them fails, `Overloaded`
        where it needs too much memory."""
        connection, self._connection = self._connection or engine(), None
        try:
            yield connection
        except BaseException as error:
            connection.close()
            if isinstance(error, duckdb.OutOfMemoryException):
                raise Overloaded("the question needs more memory than it may have") from None
            if isinstance(error, duckdb.Error):
                raise BadQuestion(str(error).splitlines()[0][:300]) from None
            raise
        self._connection = connection


@contextmanager
def table(connection: "duckdb.DuckDBPyConnection", name: str, rows: Any) -> Iterator[None]:
    """Arrow table `rows` under `name` for as long as the block lasts: then the engine holds nothing of it."""
    connection.register(name, rows)
    try:
        yield
    finally:
        connection.unregister(name)
