"""Functions of SQL whose names differ between the two databases."""

from typing import Any

from sqlalchemy import JSON
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class Together(FunctionElement[Any]):
    """An aggregate: one array of the rows, each an array of the values that are given, in no order. None of no row on
    PostgreSQL."""

    inherit_cache = True
    type = JSON().with_variant(JSONB(), "postgresql")


@compiles(Together, "sqlite")
def _sqlite_together(element: Any, compiler: Any, **options: Any) -> str:
    return f"json_group_array(json_array({compiler.process(element.clauses, **options)}))"


@compiles(Together, "postgresql")
def _postgres_together(element: Any, compiler: Any, **options: Any) -> str:
    return f"jsonb_agg(jsonb_build_array({compiler.process(element.clauses, **options)}))"
