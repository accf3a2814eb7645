"""The plan of a question: what each node computes of its rows, how two such parts become one, and what is made of all.

    SELECT client, avg(duration_ms) FROM sessions GROUP BY client HAVING count(*) > 9 ORDER BY 2 DESC LIMIT 5
    leaf    SELECT client, sum(duration_ms * w), sum(w where duration_ms is not null), sum(w) ... GROUP BY client
    merge   by client: add, add, add
    finish  SELECT k0, a0 / a1 FROM merged WHERE a2 > 9 ORDER BY 2 DESC LIMIT 5

Aggregates merge by construction: counts, sums, minima and maxima as they are, an average as a sum and a count, distinct
values as a HyperLogLog sketch (Flajolet et al., 2007), quantiles as counts in buckets of which each is 2 % wider than
the one before it (Masson et al., DDSketch, VLDB 2019): the answer is within 1 % of a value that has that rank. A table
whose rows stand for several (`weight`) counts each of them so often.

A question is one SELECT over one table. It is taken apart and written anew from what is known here: whatever is not
named in this file does not reach an engine. Pure, but for `now()`, which is handed in and is the same on every node.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

import msgspec
import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, TokenError

from server.columns.layout import Column, Schema
from server.errors import BadInput

MAX_SQL: Final = 8_192
"""Characters of a question."""
MAX_ITEMS: Final = 64
"""Columns of an answer, and expressions that it groups by."""
MAX_PARTS: Final = 8_192
"""Parts of a question that stand where an answer's column was named or numbered: each is the whole column again."""
MAX_LIMIT: Final = 10_000
DEFAULT_LIMIT: Final = 1_000
WEIGHT: Final = "weight"
DIALECT: Final = "duckdb"
GROWTH: Final = 1.02
"""The ratio of the ends of a quantile's bucket."""
SHIFT: Final = 1_000_000
"""Added to the numbers of buckets, so that none of a value above zero is below zero."""
SMALLEST: Final = 1e-9
"""Values nearer to zero count as zero."""

Op = Literal["add", "least", "greatest", "sketch", "buckets"]


class Aggregate(msgspec.Struct, frozen=True):
    """A part of an answer that each node computes: `sql` over its rows, and how two of them become one. Of `buckets`,
    `sql` is the number of a value's bucket, and `wants` the share of values below the answer."""

    op: Op
    sql: str
    wants: float = 0.0


class Split(msgspec.Struct, frozen=True):
    """The parts of a plan that are asked of texts alone. `filters`: conditions of `where` that each read one column of
    texts, with its name; `where`: the others. `keys`: by their place, those keys that are a column of texts, with its
    name. `columns`: those that the rest of the plan reads."""

    filters: list[tuple[str, str]]
    where: str
    keys: dict[int, str]
    columns: list[str]


class Plan(msgspec.Struct, frozen=True):
    """See the module's head. `keys`: what is grouped by, over rows; without `grouped` the answer has rows of the table,
    `keys` of each, in the order of `order`. `columns`: those of the table that are read. `names`: of the answer's
    columns. `finish` reads table `merged`, whose columns are `k0`, `k1` … and `a0`, `a1` …
    `split`: None where a node of an earlier version made the plan."""

    table: str
    columns: list[str]
    keys: list[str]
    aggregates: list[Aggregate]
    where: str
    grouped: bool
    order: str
    limit: int
    names: list[str]
    finish: str
    weighted: bool
    split: Split | None = None


class BadQuestion(BadInput):
    """A question that cannot be answered; the message has the position where there is one."""


def bucket_sql(value: str) -> str:
    """The number of the bucket of SQL expression `value`, a DOUBLE; what is no number counts as zero."""
    rank = f"CAST(least(ceil(ln(abs({value})) / {math.log(GROWTH)!r}), {SHIFT}) AS BIGINT) + {SHIFT}"
    above, below = f"{value} > {SMALLEST} AND NOT isnan({value})", f"{value} < -{SMALLEST}"
    return f"CASE WHEN {above} THEN {rank} WHEN {below} THEN -({rank}) ELSE 0 END"


def bucket_value(bucket: int) -> float:
    """The value in the middle of a bucket, within 1 % of each in it; infinite past the largest number."""
    if not bucket:
        return 0.0
    try:
        value = 2.0 * GROWTH ** (abs(bucket) - SHIFT) / (1.0 + GROWTH)
    except OverflowError:
        value = math.inf
    return value if bucket > 0 else -value


def plan(sql: str, schemas: Mapping[str, Schema], now_ms: int) -> Plan:
    """The plan of a question over the tables `schemas`. Raises `BadQuestion`."""
    if len(sql) > MAX_SQL:
        raise BadQuestion(f"a question has at most {MAX_SQL} characters")
    try:
        statements = sqlglot.parse(sql, read=DIALECT)
    except ParseError as error:
        first = error.errors[0] if error.errors else {}
        told = str(first.get("description") or error).partition(" but got <Token")[0]
        raise BadQuestion(f"line {first.get('line', 1)}, column {first.get('col', 1)}: {told}") from None
    except TokenError as error:
        raise BadQuestion(str(error)[:200]) from None
    except RecursionError:
        raise BadQuestion("the question is nested too deeply") from None
    statements = [statement for statement in statements if statement is not None]
    if len(statements) != 1 or not isinstance(statements[0], exp.Select):
        raise BadQuestion("a question is one SELECT")
    try:
        return _Planner(statements[0], schemas, now_ms).plan()
    except RecursionError:
        raise BadQuestion("the question is nested too deeply") from None


_CLAUSES: Final = {"expressions", "from_", "where", "group", "having", "order", "limit", "kind", "hint"}
_ALLOWED: Final = (
    exp.Column, exp.Identifier, exp.Literal, exp.Boolean, exp.Null, exp.Paren, exp.Alias, exp.Star, exp.Var,
    exp.And, exp.Or, exp.Not, exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Is, exp.In, exp.Between,
    exp.Like, exp.ILike, exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv, exp.Mod, exp.Neg, exp.DPipe,
    exp.Case, exp.If, exp.Coalesce, exp.Nullif, exp.Greatest, exp.Least, exp.Cast, exp.TryCast, exp.DataType,
    exp.DataTypeParam, exp.Lower, exp.Upper, exp.Length, exp.Substring, exp.Concat, exp.Trim, exp.StartsWith,
    exp.Abs, exp.Round, exp.Floor, exp.Ceil, exp.Ln, exp.Log, exp.Pow, exp.Sqrt, exp.Interval, exp.TimestampTrunc,
    exp.DateTrunc, exp.DateBin, exp.Extract, exp.Ordered,
)  # fmt: skip
"""Expressions that a question may have, besides aggregates."""
_CASTS: Final = {
    exp.DataType.Type.INT, exp.DataType.Type.BIGINT, exp.DataType.Type.DOUBLE, exp.DataType.Type.FLOAT,
    exp.DataType.Type.VARCHAR, exp.DataType.Type.TEXT, exp.DataType.Type.BOOLEAN, exp.DataType.Type.TIMESTAMP,
    exp.DataType.Type.DATE,
}  # fmt: skip
_AGGREGATES: Final = (exp.Count, exp.Sum, exp.Min, exp.Max, exp.Avg, exp.ApproxQuantile, exp.ApproxDistinct)

_NAMES: Final = "count, count(DISTINCT …), sum, min, max, avg, approx_quantile and approx_distinct"


_ReadSql = tuple[str, list[str]]
"""SQL, and the columns that it reads."""


class _Planner:
    def __init__(self, select: exp.Select, schemas: Mapping[str, Schema], now_ms: int) -> None:
        self._select, self._now_ms = select, now_ms
        for name, part in select.args.items():
            if part and name not in _CLAUSES:
                raise BadQuestion(f"a question has no {name.strip('_').replace('_', ' ').upper()}")
        self._schema = self._table(schemas)
        self._columns: dict[str, Column] = {column.name: column for column in self._schema.columns}
        self._weighted = WEIGHT in self._columns
        self._read: dict[str, None] = {}
        self._aggregates: list[Aggregate] = []
        self._parts = 0

    def _table(self, schemas: Mapping[str, Schema]) -> Schema:
        source = self._select.args.get("from_")
        table = source.this if source is not None else None
        if not isinstance(table, exp.Table) or not isinstance(table.this, exp.Identifier) or table.args.get("db"):
            raise BadQuestion(f"a question is FROM one of {', '.join(sorted(schemas))}")
        schema = schemas.get(table.name.lower())
        if schema is None:
            raise _at(table.this, f"no table {table.name[:64]!r}; there are {', '.join(sorted(schemas))}")
        if table.args.get("joins") or table.alias:
            raise BadQuestion("a question has one table, without an alias")
        for name in _more(table, "this"):
            raise BadQuestion(f"a question has no {name.upper()}")
        return schema

    def plan(self) -> Plan:
        select = self._select
        items = self._items(select.expressions)
        names = _names(items)
        bodies = [item.this if isinstance(item, exp.Alias) else item for item in items]
        aliases = {
            item.alias.lower(): body for item, body in zip(items, bodies, strict=True) if isinstance(item, exp.Alias)
        }
        self._call_columns_by_one_name(aliases)
        where = select.args.get("where")
        conditions = [] if where is None else self._conditions(where.this, aliases)
        condition = " AND ".join(f"({sql})" for sql, _ in conditions)
        group, having, order = select.args.get("group"), select.args.get("having"), select.args.get("order")
        grouped = group is not None or any(_aggregated(body) for body in bodies)
        ordered = [] if order is None else self._ordered(order)
        limit = self._limit()
        if not grouped:
            if having is not None:
                raise BadQuestion("HAVING is for groups")
            return self._rows_plan(bodies, names, conditions, ordered, aliases, limit)
        keys = self._keys(group, bodies, aliases)
        read_keys = [self._read_by(key, {}) for key in keys]
        key_sql = [sql for sql, _ in read_keys]
        sources = {key: number for number, key in reversed(list(enumerate(keys)))}
        outer = [self._finish(body, sources) for body in bodies]
        finish = "SELECT " + ", ".join(f'{sql} AS "c{number}"' for number, sql in enumerate(outer)) + " FROM merged"
        if having is not None:
            finish += f" WHERE {self._finish(self._with_aliases(having.this, aliases), sources)}"
        if ordered:
            finish += " ORDER BY " + ", ".join(self._order_sql(each, bodies, aliases, sources) for each in ordered)
        split = self._split(conditions, read_keys)
        return Plan(
            self._schema.table, list(self._read), key_sql, self._aggregates,
            condition, True, "", limit, names, f"{finish} LIMIT {limit}", self._weighted, split,
        )  # fmt: skip

    def _rows_plan(
        self,
        bodies: list[exp.Expr],
        names: list[str],
        conditions: "list[_ReadSql]",
        ordered: list[exp.Expr],
        aliases: Mapping[str, exp.Expr],
        limit: int,
    ) -> Plan:
        keys = [self._rows_sql(body, {}) for body in bodies]
        parts = []
        for each in ordered:
            sql = self._rows_sql(self._ordering(each.this, bodies, aliases), aliases)
            if sql not in keys:
                keys.append(sql)
            parts.append(f"k{keys.index(sql)}{' DESC' if each.args.get('desc') else ''}")
        order = f" ORDER BY {', '.join(parts)}" if parts else ""
        shown = ", ".join(f'k{number} AS "c{number}"' for number in range(len(bodies)))
        finish = f"SELECT {shown} FROM merged{order} LIMIT {limit}"
        condition = " AND ".join(f"({sql})" for sql, _ in conditions)
        split = self._split(conditions, [])
        return Plan(
            self._schema.table, list(self._read), keys, [], condition, False, order, limit, names, finish,
            self._weighted, split,
        )  # fmt: skip

    def _split(self, conditions: "list[_ReadSql]", keys: "list[_ReadSql]") -> Split:
        """The plan's split. From here on `_read` has what conditions and keys read, too."""
        texts = {name for name, column in self._columns.items() if column.type == "text"}
        filters = {sql: read[0] for sql, read in conditions if len(read) == 1 and read[0] in texts}
        numbered = {at: read[0] for at, (sql, read) in enumerate(keys) if read and sql == f'"{read[0]}"'}
        numbered = {at: name for at, name in numbered.items() if name in texts}
        others = [each for each in conditions if each[0] not in filters]
        others += [key for at, key in enumerate(keys) if at not in numbered]
        columns = dict.fromkeys([*self._read, *(name for _, read in others for name in read)])
        self._read.update(dict.fromkeys(name for _, read in [*conditions, *keys] for name in read))
        where = " AND ".join(f"({sql})" for sql, _ in conditions if sql not in filters)
        return Split([(name, sql) for sql, name in filters.items()], where, numbered, list(columns))

    def _items(self, items: Sequence[exp.Expr]) -> list[exp.Expr]:
        """The columns of the answer, `*` as all of the table's."""
        found: list[exp.Expr] = []
        for item in items:
            if isinstance(item, exp.Star):
                if _more(item):
                    raise BadQuestion("* is all columns of the table")
                found += [exp.column(name) for name in self._columns]
            else:
                found.append(item)
            if len(found) > MAX_ITEMS:
                raise BadQuestion(f"an answer has at most {MAX_ITEMS} columns")
        return found

    def _call_columns_by_one_name(self, aliases: Mapping[str, exp.Expr]) -> None:
        """Each column of the table by the same name all over the question: `Kind`, "kind" and events.kind are one."""
        for column in self._select.find_all(exp.Column):
            name = column.name.lower()
            if name in self._columns and not _more(column, "this", "table"):
                column.this.set("this", name)
                column.this.set("quoted", False)
                if column.table.lower() == self._schema.table and name not in aliases:
                    column.set("table", None)

    def _ordered(self, order: exp.Expr) -> list[exp.Expr]:
        if len(order.expressions) > MAX_ITEMS:
            raise BadQuestion(f"a question is ordered by at most {MAX_ITEMS} expressions")
        if any(each.args.get("nulls_first") or _more(each, "this", "desc") for each in order.expressions):
            raise BadQuestion("ORDER BY takes expressions, each with DESC or without; what is NULL comes last")
        return list(order.expressions)

    def _keys(self, group: exp.Expr | None, bodies: list[exp.Expr], aliases: Mapping[str, exp.Expr]) -> list[exp.Expr]:
        if group is None:
            return []
        if any(part for name, part in group.args.items() if name != "expressions"):
            raise BadQuestion("GROUP BY takes expressions")
        if len(group.expressions) > MAX_ITEMS:
            raise BadQuestion(f"a question groups by at most {MAX_ITEMS} expressions")
        keys = [self._with_aliases(self._positioned(key, bodies), self._own(aliases)) for key in group.expressions]
        for key in keys:
            if _aggregated(key):
                raise BadQuestion("GROUP BY takes no aggregate")
        return keys

    def _own(self, aliases: Mapping[str, exp.Expr]) -> dict[str, exp.Expr]:
        """Aliases that are no columns of the table: there the column is meant."""
        return {name: body for name, body in aliases.items() if name not in self._columns}

    def _limit(self) -> int:
        clause = self._select.args.get("limit")
        if clause is None:
            return DEFAULT_LIMIT
        number = _whole(clause.expression)
        if number is None or _more(clause, "expression"):
            raise BadQuestion("LIMIT takes a number")
        return min(MAX_LIMIT, number)

    # ---- expressions over rows ----

    def _rows_sql(self, expression: exp.Expr, aliases: Mapping[str, exp.Expr]) -> str:
        """SQL of `expression` over rows of the table, everything in it checked."""
        expression = self._with_aliases(expression, self._own(aliases))
        if _aggregated(expression):
            raise BadQuestion(f"an aggregate cannot stand in {expression.sql(DIALECT)[:80]}")
        self._check(expression)
        return self._with_now(expression).sql(DIALECT)

    def _read_by(self, expression: exp.Expr, aliases: Mapping[str, exp.Expr]) -> "_ReadSql":
        """SQL of `expression` over rows, and the columns that it reads, which are not in `_read` yet."""
        others, self._read = self._read, {}
        try:
            return self._rows_sql(expression, aliases), list(self._read)
        finally:
            self._read = others

    def _conditions(self, where: exp.Expr, aliases: Mapping[str, exp.Expr]) -> "list[_ReadSql]":
        """The conditions that all must be true."""
        while isinstance(where, exp.Paren):
            where = where.this
        parts = where.flatten() if isinstance(where, exp.And) else [where]
        return [self._read_by(part, aliases) for part in parts]

    def _check(self, expression: exp.Expr) -> None:
        for node in expression.walk():
            if isinstance(node, exp.Column):
                if node.args.get("db") or (node.table and node.table.lower() != self._schema.table):
                    raise _at(node, f"no table {node.table[:64]!r} in this question")
                name = node.name.lower()
                if name not in self._columns:
                    raise _at(
                        node, f"no column {node.name[:64]!r} in {self._schema.table}; it has {_list(self._columns)}"
                    )
                self._read[name] = None
            elif isinstance(node, exp.Anonymous):
                if node.name.lower() != "now" or node.expressions:
                    raise BadQuestion(f"no function {node.name[:64]}()")
            else:
                _check_allowed(node)

    def _with_now(self, expression: exp.Expr) -> exp.Expr:
        def replaced(node: exp.Expr) -> exp.Expr:
            if isinstance(node, exp.CurrentTimestamp) or (
                isinstance(node, exp.Anonymous) and node.name.lower() == "now"
            ):
                return sqlglot.parse_one(f"make_timestamp({self._now_ms * 1000})", read=DIALECT)
            if isinstance(node, exp.Column):
                return exp.column(exp.to_identifier(node.name.lower(), quoted=True))
            return node

        return expression.copy().transform(replaced)

    # ---- aggregates ----

    def _finish(self, expression: exp.Expr, keys: Mapping[exp.Expr, int]) -> str:
        """SQL of `expression` over the merged groups. `keys`: each with its number."""

        def replaced(node: exp.Expr) -> exp.Expr:
            if node in keys:
                return exp.column(f"k{keys[node]}")
            if isinstance(node, _AGGREGATES):
                return sqlglot.parse_one(self._aggregate(node), read=DIALECT)
            if isinstance(node, exp.AggFunc):
                raise BadQuestion(f"{node.sql(DIALECT)[:64]}: no aggregate like this; there are {_NAMES}")
            if isinstance(node, exp.Column):
                raise _at(node, f"column {node.name[:64]!r} is neither grouped by nor in an aggregate")
            return node

        copy = expression.copy()
        # Top down, and not into what has been replaced: the replacement's columns are those of the merged groups.
        result = _transformed(copy, replaced)
        for node in result.walk():
            if isinstance(node, exp.Anonymous) and (node.name.lower() != "now" or node.expressions):
                raise BadQuestion(f"no function {node.name[:64]}()")
            if not isinstance(node, (exp.Column, exp.Anonymous)):
                _check_allowed(node)
        return self._with_now(result).sql(DIALECT)

    def _aggregate(self, node: exp.Expr) -> str:
        """SQL over the merged parts of an aggregate, which are added to the plan."""
        if self._weighted:
            self._read[WEIGHT] = None
        inner = node.this
        if _more(node, "this", "quantile", "big_int"):
            raise BadQuestion(f"{node.sql(DIALECT)[:64]}: an aggregate takes one expression")
        if isinstance(node, exp.Count) and isinstance(inner, exp.Distinct):
            if len(inner.expressions) != 1:
                raise BadQuestion("count(DISTINCT …) takes one expression")
            return self._part("sketch", self._rows_sql(inner.expressions[0], {}))
        if isinstance(node, exp.ApproxDistinct):
            return self._part("sketch", self._rows_sql(inner, {}))
        if isinstance(node, exp.Count):
            if inner is None or isinstance(inner, exp.Star):
                return self._sum(f'sum("{WEIGHT}")' if self._weighted else "count(*)")
            return self._count(f"({self._rows_sql(inner, {})})")
        if isinstance(node, exp.ApproxQuantile):
            share = node.args.get("quantile")
            if not isinstance(share, exp.Literal) or share.is_string or not 0.0 <= float(share.this) <= 1.0:
                raise BadQuestion("approx_quantile takes a column and a share between 0 and 1")
            return self._part("buckets", self._rows_sql(inner, {}), float(share.this))
        value = f"({self._rows_sql(inner, {})})"
        if isinstance(node, exp.Sum):
            return self._total(value)
        if isinstance(node, exp.Avg):
            return f"({self._total(value)} / nullif({self._count(value)}, 0))"
        return self._part("least" if isinstance(node, exp.Min) else "greatest", f"{node.key}({value})")

    def _total(self, value: str) -> str:
        return self._part("add", f'sum({value} * "{WEIGHT}")' if self._weighted else f"sum({value})")

    def _count(self, value: str) -> str:
        weighted = f'sum("{WEIGHT}") FILTER (WHERE {value} IS NOT NULL)'
        return self._sum(weighted if self._weighted else f"count({value})")

    def _sum(self, sql: str) -> str:
        return f"coalesce({self._part('add', sql)}, 0)"

    def _part(self, op: Op, sql: str, wants: float = 0.0) -> str:
        aggregate = Aggregate(op, sql, wants)
        if aggregate not in self._aggregates:
            self._aggregates.append(aggregate)
            if len(self._aggregates) > 2 * MAX_ITEMS:
                raise BadQuestion(f"a question has at most {2 * MAX_ITEMS} aggregates")
        return f"a{self._aggregates.index(aggregate)}"

    def _order_sql(
        self, ordered: exp.Expr, bodies: list[exp.Expr], aliases: Mapping[str, exp.Expr], keys: Mapping[exp.Expr, int]
    ) -> str:
        body = self._with_aliases(self._ordering(ordered.this, bodies, aliases), self._own(aliases))
        return self._finish(body, keys) + (" DESC" if ordered.args.get("desc") else "") + " NULLS LAST"

    # ---- names and numbers of the answer's columns ----

    def _again(self, body: exp.Expr) -> exp.Expr:
        """A copy of a column of the answer, in the place of its name or number: of a long one not too often."""
        self._parts += sum(1 for _ in body.walk())
        if self._parts > MAX_PARTS:
            raise BadQuestion("columns of the answer are named too often in the question")
        return body.copy()

    def _with_aliases(self, expression: exp.Expr, aliases: Mapping[str, exp.Expr]) -> exp.Expr:
        """`expression` with aliases of the answer's columns put in; in an aggregate a column of the table is meant."""
        own = self._own(aliases)

        def replaced(node: exp.Expr) -> exp.Expr:
            if isinstance(node, _AGGREGATES) and len(own) < len(aliases):
                return self._with_aliases(node, own) if own else node.copy()
            if isinstance(node, exp.Column) and not node.args.get("table") and node.name.lower() in aliases:
                return self._again(aliases[node.name.lower()])
            return node

        return _transformed(expression.copy(), replaced) if aliases else expression

    def _positioned(self, expression: exp.Expr, bodies: list[exp.Expr]) -> exp.Expr:
        """The expression that `ORDER BY 2` means. Raises `BadQuestion` for a number that no column has."""
        if isinstance(expression, exp.Literal) and not expression.is_string:
            number = _whole(expression) or 0
            if not 1 <= number <= len(bodies):
                raise BadQuestion(f"no column {expression.this[:64]} in the answer, which has {len(bodies)}")
            return self._again(bodies[number - 1])
        return expression

    def _ordering(self, expression: exp.Expr, bodies: list[exp.Expr], aliases: Mapping[str, exp.Expr]) -> exp.Expr:
        """The expression that an answer is ordered by: of a name alone, the answer's column before the table's."""
        if isinstance(expression, exp.Column) and not expression.args.get("table"):
            named = aliases.get(expression.name.lower())
            return expression if named is None else self._again(named)
        return self._positioned(expression, bodies)


def _transformed(node: exp.Expr, change: Callable[[exp.Expr], exp.Expr]) -> exp.Expr:
    """`node` with `change` made to each part, from the outside in; what was changed is not looked into."""
    changed = change(node)
    if changed is not node:
        return changed
    for name, part in list(node.args.items()):
        if isinstance(part, exp.Expr):
            node.set(name, _transformed(part, change))
        elif isinstance(part, list):
            node.set(name, [_transformed(each, change) if isinstance(each, exp.Expr) else each for each in part])
    return node


def _check_allowed(node: exp.Expr) -> None:
    """Raises `BadQuestion` for a part of an expression that is not in `_ALLOWED`, or a type that is not in `_CASTS`."""
    if isinstance(node, exp.DataType) and node.this not in _CASTS:
        raise BadQuestion(f"nothing can be cast to {node.sql(DIALECT)[:64]}")
    if not isinstance(node, (*_ALLOWED, exp.CurrentTimestamp)):
        raise BadQuestion(f"{node.sql(DIALECT)[:64]}: a question cannot have this ({node.key})")


def _more(node: exp.Expr, *known: str) -> list[str]:
    """The names of the parts of `node` that are there besides the `known` ones: what would be passed over."""
    return [name for name, part in node.args.items() if part and name not in known]


def _whole(node: exp.Expr | None) -> int | None:
    """The whole number that a literal is; None for what is none, or a longer one than anything here needs."""
    if not isinstance(node, exp.Literal) or node.is_string or not node.this.isdecimal() or len(node.this) > 18:
        return None
    return int(node.this)


def _aggregated(expression: exp.Expr) -> bool:
    return any(isinstance(node, (exp.AggFunc, *_AGGREGATES)) for node in expression.walk())


def _names(items: Sequence[exp.Expr]) -> list[str]:
    return [item.alias if isinstance(item, exp.Alias) else item.sql(DIALECT) for item in items]


def _at(node: exp.Expr, told: str) -> BadQuestion:
    meta = node.meta or getattr(node.this, "meta", {})
    where = f"line {meta['line']}, column {meta['col']}: " if "line" in meta else ""
    return BadQuestion(where + told)


def _list(names: Mapping[str, object]) -> str:
    return ", ".join(names)
