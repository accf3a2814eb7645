"""Questions over columns: the answer of nodes that each scan their part is the one over all rows together."""

import math
import random
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from game import columns as game
from server.columns.layout import Schema, Writer
from server.columns.table import Table, TableLimits
from server.columns.tables import CALLS, QUESTIONS, SESSIONS, schema
from server.columns.tables import TABLES as TABLES_OF_NODES
from server.errors import BadInput
from tests.support.session_parts import ManualClock

duckdb = pytest.importorskip("duckdb")
pa = pytest.importorskip("pyarrow")

from server.questions import histogram, leaf  # noqa: E402
from server.questions.engine import KeptEngine, engine, table  # noqa: E402
from server.questions.partial import Coverage, Merger, Partial, finished, quantile, sketch_of  # noqa: E402
from server.questions.plan import BadQuestion, Plan, bucket_sql, bucket_value, plan  # noqa: E402
from server.questions.process import Answerer  # noqa: E402
from server.questions.rows import TextNumbers, bucket_numbers  # noqa: E402
from server.questions.wire import encode  # noqa: E402

NOW = 1_764_000_000_000
EVENTS = schema("events", map_name="text", kind="text", player="text", points="i32", clock_ms="u32", share="f64")
TABLES = {table.table: table for table in (EVENTS, CALLS, SESSIONS)}
SCANNER = leaf.Scanner()
LIMITS = TableLimits(16 * 1024 * 1024, 1e9, 1.0)


def event(rng: random.Random, number: int) -> tuple[Any, ...]:
    return (
        NOW - 600_000 + number * 37,
        rng.choice(("Guardian", "The Pit", "Valhalla")),
        rng.choice(("kill", "medal", "objective")),
        f"spartan-{rng.randrange(300)}",
        rng.randrange(-50, 100),
        rng.randrange(1, 10**6),
        rng.random(),
    )


def fill(directory: Path, of: Schema, rows: list[tuple[Any, ...]], limits: TableLimits = LIMITS) -> Path:
    directory.mkdir()
    table = Table(directory, of, Writer("n", 1), limits, ManualClock())
    for row in rows:
        table.append(row)
    table.close()
    return directory


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[tuple[Any, ...]]]:
    """The directories of three nodes, and all their rows."""
    rng, folder = random.Random(5), tmp_path_factory.mktemp("columns")
    parts = [[event(rng, number * 3 + node) for number in range(5_000)] for node in range(3)]
    rows = [row for part in parts for row in part]
    return [fill(folder / f"n{node}", EVENTS, part) for node, part in enumerate(parts)], rows


def opened(directory: Path) -> list[Any]:
    blocks = leaf.OpenBlocks(directory)
    assert blocks.refresh(list(TABLES.values())) == []
    return blocks.of("events")


def ask(
    sql: str, directories: list[Path], since_ms: int = 0, until_ms: int = 0, plainly: bool = False
) -> tuple[list[list[Any]], Coverage]:
    question = msgspec.msgpack.decode(encode(plan(sql, TABLES, NOW)), type=Plan)
    if plainly:
        question = msgspec.structs.replace(question, split=None)
    merger = Merger(question)
    for directory in directories:
        found = SCANNER.scan(question, opened(directory), since_ms, until_ms, time.monotonic() + 30)
        merger.add(msgspec.msgpack.decode(encode(found), type=Partial))
    merged = merger.result()
    rows = SCANNER.finish(question, finished(question, merged))
    return [
        [each.replace(tzinfo=None) if hasattr(each, "tzinfo") else each for each in row] for row in rows
    ], merged.coverage


def directly(sql: str, rows: list[tuple[Any, ...]]) -> list[list[Any]]:
    """The rows of the same SQL over one table with all rows."""
    names = [column.name for column in EVENTS.columns]
    table = pa.table({name: [row[at] for row in rows] for at, name in enumerate(names)})
    times = pa.array(table["time"].to_pylist(), pa.int64()).cast(pa.timestamp("ms"))
    connection = duckdb.connect()
    connection.register("events", table.set_column(0, "time", times))
    return [list(row) for row in connection.execute(sql.replace("now()", f"make_timestamp({NOW}000)")).fetchall()]


SAME = [
    "SELECT count(*) FROM events",
    "SELECT count(*), sum(points), min(points), max(share), min(map_name) FROM events WHERE kind = 'nobody''s'",
    "SELECT map_name, count(*) AS n FROM events WHERE kind = 'kill' AND points > 0 GROUP BY map_name ORDER BY n DESC",
    "SELECT kind, map_name, sum(points), min(clock_ms), max(clock_ms) FROM events GROUP BY ALL ORDER BY 1, 2",
    "SELECT map_name, sum(points) * 2 + count(*) FROM events GROUP BY map_name HAVING count(*) > 100 "
    "ORDER BY map_name LIMIT 2",
    "SELECT time_bucket(INTERVAL 1 MINUTE, time) AS t, map_name, count(*) FROM events WHERE kind = 'kill' AND "
    "time > now() - INTERVAL 5 MINUTE GROUP BY t, map_name ORDER BY t, map_name",
    "SELECT date_trunc('minute', time), count(*) FROM events GROUP BY 1 ORDER BY 1 LIMIT 5",
    "SELECT player, count(*) FROM events WHERE map_name LIKE 'The%' OR map_name IN ('Valhalla') GROUP BY player "
    "ORDER BY 2 DESC, 1 LIMIT 10",
    "SELECT upper(map_name), CASE WHEN points < 0 THEN 'bad' ELSE 'good' END AS way, count(points) FROM events "
    "GROUP BY 1, 2 ORDER BY 1, 2",
    "SELECT time, player, points FROM events WHERE points > 90 ORDER BY time DESC, player LIMIT 7",
    "SELECT player FROM events WHERE map_name = 'Guardian' ORDER BY share LIMIT 3",
    "SELECT max(time) FROM events",
    "SELECT map_name, kind, min(player), count(*) FROM events WHERE kind <> 'medal' AND (player LIKE '%7' AND "
    "points > 5) AND kind <> player AND lower(map_name) >= 'h' GROUP BY kind, map_name ORDER BY map_name, kind",
    "SELECT map_name, map_name || '!', sum(points) FROM events WHERE length(kind) GROUP BY 1, 2 ORDER BY 1",
    "SELECT kind, sum(points) AS points FROM events GROUP BY kind ORDER BY points DESC",
    "SELECT -points AS points, time FROM events ORDER BY points, time LIMIT 9",
    "SELECT count(*) FROM events WHERE player = 'spartan-7' AND map_name = 'Guardian' AND 1 < 2",
    "SELECT coalesce(nullif(kind, 'kill'), 'K') k, count(*) FROM events WHERE NOT (points BETWEEN -10 AND 10) "
    "GROUP BY k ORDER BY count(*) DESC",
    "SELECT nullif(kind, 'kill') AS k, time, player FROM events WHERE points > 95 ORDER BY k DESC, time LIMIT 300",
    "SELECT KIND, count(*) FROM events WHERE Events.kind > 'l' GROUP BY \"kind\" ORDER BY events.Kind",
    "SELECT kind, sum(points) AS points FROM events GROUP BY kind HAVING sum(points) > 3 ORDER BY kind",
    "SELECT count(*), max(time) < now() - INTERVAL 1 MINUTE, now() FROM events",
    "SELECT CAST(points / 0 AS VARCHAR) AS p, count(*), count(DISTINCT kind) FROM events GROUP BY p ORDER BY p",
    "SELECT points / 0 > 0 AS p, count(*) FROM events GROUP BY points / 0 ORDER BY 2",
    "SELECT CAST(min(points / 0) AS VARCHAR), CAST(max(points / 0) AS VARCHAR) FROM events",
    "SELECT sum(CAST(points AS BIGINT) * 9007199254740992) FROM events",
]


@pytest.mark.parametrize("plainly", [False, True], ids=["by numbers of texts", "plainly"])
@pytest.mark.parametrize("sql", SAME)
def test_parts_of_three_nodes_are_the_whole(
    nodes: tuple[list[Path], list[tuple[Any, ...]]], sql: str, plainly: bool
) -> None:
    directories, rows = nodes
    if "GROUP BY ALL" in sql:
        with pytest.raises(BadQuestion):
            ask(sql, directories)
        sql = sql.replace("GROUP BY ALL", "GROUP BY kind, map_name")
    answer, coverage = ask(sql, directories, plainly=plainly)
    assert answer == directly(sql, rows)
    assert (coverage.rows_held, coverage.answered) == (15_000, 3)


def test_averages_and_shares_merge(nodes: tuple[list[Path], list[tuple[Any, ...]]]) -> None:
    directories, rows = nodes
    sql = "SELECT map_name, avg(share), avg(points) / 2 FROM events GROUP BY map_name ORDER BY map_name"
    for ours, whole in zip(ask(sql, directories)[0], directly(sql, rows), strict=True):
        assert ours == pytest.approx(whole)


def test_quantiles_are_within_a_percent(nodes: tuple[list[Path], list[tuple[Any, ...]]]) -> None:
    directories, rows = nodes
    sql = "SELECT kind, approx_quantile(clock_ms, {}) FROM events WHERE points > 0 GROUP BY kind ORDER BY kind"
    exact = sql.replace("approx_quantile", "quantile_disc")
    for share in (0, 0.01, 0.5, 0.99, 1):
        for ours, whole in zip(
            ask(sql.format(share), directories)[0], directly(exact.format(share), rows), strict=True
        ):
            assert ours[0] == whole[0] and ours[1] == pytest.approx(whole[1], rel=0.02), share


def test_distinct_values_are_within_a_few_percent(nodes: tuple[list[Path], list[tuple[Any, ...]]]) -> None:
    directories, rows = nodes
    sql = "SELECT map_name, count(DISTINCT player) FROM events GROUP BY map_name ORDER BY map_name"
    for ours, whole in zip(ask(sql, directories)[0], directly(sql, rows), strict=True):
        assert ours[0] == whole[0] and abs(ours[1] - whole[1]) <= 0.05 * whole[1]


def test_saved_questions_are_good() -> None:
    tables = (*TABLES_OF_NODES, *(each.schema for each in game.RECORDED), game.MATCHES_NOW, game.PLAYERS_NOW)
    for saved in (*QUESTIONS, *game.QUESTIONS):
        assert plan(saved.sql, {table.table: table for table in tables}, NOW).names, saved.title


def test_conditions_and_keys_of_texts_alone_are_split_off() -> None:
    sql = (
        "SELECT map_name, lower(kind), approx_quantile(clock_ms, 0.5) FROM events WHERE kind = 'kill' AND points > 3 "
        "AND (player < kind) GROUP BY 1, 2"
    )
    split = plan(sql, TABLES, NOW).split
    assert split is not None
    assert split.filters == [("kind", "\"kind\" = 'kill'")] and split.keys == {0: "map_name"}
    assert split.where == '("points" > 3) AND ("player" < "kind")'
    assert sorted(split.columns) == ["clock_ms", "kind", "player", "points"]


def test_filter_that_texts_of_other_columns_cannot_have_is_no_error(tmp_path: Path) -> None:
    rows = [(NOW + n, str(n % 7), "player", "", n, 1) for n in range(1_000)]
    blocks = leaf.OpenBlocks(fill(tmp_path / "n", CALLS, rows))
    blocks.refresh([CALLS])
    question = plan("SELECT method, count(*) FROM calls WHERE CAST(method AS INT) > 4 GROUP BY method", TABLES, NOW)
    for _ in range(2):
        found = SCANNER.scan(question, blocks.of("calls"), 0, 0, time.monotonic() + 30)
        assert sorted(found.rows) == [["5", 143], ["6", 142]]


def test_texts_are_numbered_while_their_blocks_are_there(tmp_path: Path) -> None:
    (tmp_path / "n").mkdir()
    table = Table(tmp_path / "n", EVENTS, Writer("n", 1), LIMITS, ManualClock())
    opened_blocks, numbers = leaf.OpenBlocks(tmp_path / "n"), TextNumbers()
    row = event(random.Random(3), 0)

    def refreshed() -> list[Any]:
        table.close()
        opened_blocks.refresh([EVENTS])
        blocks = opened_blocks.of("events")
        numbers.refresh(blocks)
        return blocks

    def texts(blocks: list[Any]) -> set[str]:
        return {numbers.texts[int(number)].as_py() for block in blocks for number in numbers.of(block)}

    table.append((*row[:3], "first", *row[4:]))
    assert "first" in texts(refreshed()) and numbers.kind is np.uint16
    table.append((*row[:3], "second", *row[4:]))
    assert {"first", "second"} <= texts(refreshed())
    for number in range(70_000):
        table.append((*row[:3], f"many-{number}", *row[4:]))
    blocks = refreshed()
    assert (
        len(blocks) > 2 and texts(blocks) >= {"first", "second", "many-0", "many-69999"} and numbers.kind is np.uint32
    )
    few = TextNumbers(most=20_000)
    assert few.refresh(blocks[:1]) and not few.refresh(blocks) and not few.refresh(blocks)
    assert 20_000 < len(few.texts) < 70_000 and few.refresh(blocks[:1])
    for block in blocks[1:]:
        block.path.unlink()
    del blocks, block
    assert "many-69999" in texts(refreshed()) and "first" not in numbers.texts.to_pylist()


@pytest.mark.parametrize(("slice_rows", "most_rows"), [(1, 1), (1, 10**6), (10**6, 10**6)])
def test_rows_are_the_same_however_many_are_scanned_at_once(tmp_path: Path, slice_rows: int, most_rows: int) -> None:
    rows = [(NOW + n, f"m{n % 7}", "player", f"e{n % 3}", n, 1) for n in range(100_000)]
    blocks = leaf.OpenBlocks(fill(tmp_path / "n", CALLS, rows))
    blocks.refresh([CALLS])
    assert len(blocks.of("calls")) == 4
    question = plan("SELECT method, count(*), max(latency_us) FROM calls WHERE error = 'e1' GROUP BY 1", TABLES, NOW)
    scanner = leaf.Scanner(slice_rows, most_rows)
    found = scanner.scan(question, blocks.of("calls"), 0, 0, time.monotonic() + 30)
    expected = [[row[4] for row in rows if row[1] == f"m{n}" and row[3] == "e1"] for n in range(7)]
    assert sorted(found.rows) == [[f"m{n}", len(part), max(part)] for n, part in enumerate(expected)]
    assert found.coverage.rows_scanned == 100_000


@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "i4", "i8", "f8"])
def test_buckets_of_columns_are_those_of_statements(kind: str) -> None:
    values = np.array([0, 1, 2, 3, 57, 200, *((30_000, 2**31 - 1) if kind[1] in "48" else ())], kind)
    if kind[0] != "u":
        values = np.concatenate([values, -values])
    if kind == "f8":
        values = np.concatenate([values, [1e-12, 1e-7, -0.3, 1e300]])
    connection = engine()
    for value, bucket in zip(values.tolist(), bucket_numbers(values).tolist(), strict=True):
        row = connection.execute(f"SELECT {bucket_sql(f'CAST({value!r} AS DOUBLE)')}").fetchone()
        assert row is not None and abs(row[0] - bucket) <= 1, (value, row[0], bucket)
        assert bucket_value(bucket) == pytest.approx(value, rel=0.0101, abs=1e-9)
    assert bucket_numbers(np.array([np.nan, np.inf])).tolist()[0] == 0


COUNTED = [
    "SELECT method, approx_quantile(latency_us, 0.9) FROM calls GROUP BY method",
    "SELECT approx_quantile(latency_us, 0.5), approx_quantile(weight, 0.1) FROM calls WHERE error = 'e1'",
    "SELECT error, count(*), approx_quantile(latency_us, 0.99), approx_distinct(method) FROM calls "
    "WHERE error <> 'e2' AND starts_with(method, 'm') AND latency_us > 40 GROUP BY error",
    "SELECT method, approx_quantile(latency_us, 0.5) FROM calls WHERE nullif(weight, 2) > 1 AND role = 'player' "
    "AND error IN ('e0', 'e1', 'e2') GROUP BY method",
    "SELECT method, approx_quantile(latency_us, 0.5) FROM calls WHERE error = 'nobody''s' GROUP BY method",
    "SELECT method, approx_quantile(latency_us, 0.5) FROM calls WHERE role = '7' AND CAST(role AS INT) > weight "
    "GROUP BY method",
]


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Blocks of calls, of whose methods some come later than others."""
    rng = random.Random(3)
    rows = [
        (NOW + n, f"m{rng.randrange(1 + n // 3_000)}", "7" if n % 5 else "player", f"e{n % 7}",
         rng.choice((0, 1, 2**32 - 1, rng.randrange(10**6))), rng.randrange(1, 5))
        for n in range(8_000)
    ]  # fmt: skip
    limits = TableLimits(600_000, 1e9, 1.0)
    blocks = leaf.OpenBlocks(fill(tmp_path_factory.mktemp("calls") / "n", CALLS, rows, limits))
    blocks.refresh([CALLS])
    assert len(blocks.of("calls")) > 2 and sum(block.rows for block in blocks.of("calls")) == len(rows)
    return blocks.of("calls")


@pytest.mark.parametrize("sql", COUNTED)
def test_quantiles_that_are_counted_are_those_of_the_engine(
    calls: list[Any], sql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = plan(sql, TABLES, NOW)

    def groups() -> dict[Any, Any]:
        scanner = leaf.Scanner(4_000, 4_000)
        found = scanner.scan(question, calls, NOW + 5, NOW + 7_000, time.monotonic() + 30)
        keys = len(question.keys)
        return {tuple(row[:keys]): [each for each in row[keys:] if not isinstance(each, bytes)] for row in found.rows}

    counted = groups()
    monkeypatch.setattr(histogram, "MOST_CELLS", 0)
    assert counted == groups() and bool(counted) == ("nobody" not in sql)


def test_engine_in_which_a_statement_failed_is_not_used_again() -> None:
    kept = KeptEngine()
    with kept.lent() as first:
        first.execute("SELECT 1")
    with pytest.raises(BadQuestion), kept.lent() as same:
        assert same is first
        same.execute("SELECT CAST('x' AS INT)")
    with kept.lent() as other:
        assert other is not first and other.execute("SELECT 1").fetchall() == [(1,)]


def test_engine_that_was_made_ahead_is_the_one_that_the_first_question_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = KeptEngine()
    kept.warm()
    monkeypatch.setattr("server.questions.engine.engine", None)
    with kept.lent() as made:
        assert made.execute("SELECT 1").fetchall() == [(1,)]
        with pytest.raises(duckdb.Error, match="rows"):
            made.execute("SELECT * FROM rows")


def test_buckets_hold_their_values() -> None:
    connection = engine()
    for value in (1e-6, 0.5, 1.0, 1.5, 7.0, 123456.0, 2.0**31, 1e15, 0.0, -3.5, -1e9):
        row = connection.execute(f"SELECT {bucket_sql(f'CAST({value!r} AS DOUBLE)')}").fetchone()
        assert row is not None and bucket_value(row[0]) == pytest.approx(value, rel=0.0101)
    assert quantile({}, 0.5) is None and quantile(None, 0.5) is None


def test_time_bounds_leave_blocks_out(nodes: tuple[list[Path], list[tuple[Any, ...]]]) -> None:
    directories, rows = nodes
    since, until = NOW - 300_000, NOW - 200_000
    answer, _ = ask("SELECT count(*) FROM events", directories, since, until)
    assert answer == [[sum(since <= row[0] < until for row in rows)]]
    answer, coverage = ask("SELECT count(*) FROM events", directories, NOW + 1)
    assert answer == [[0]] and coverage.rows_held == 0


def test_weights_make_counts_true(tmp_path: Path) -> None:
    rows = [
        (NOW + n, "m", "player", "slow" if n % 4 == 0 else "", 100 * (n % 4), 10 if n % 2 else 1) for n in range(1_000)
    ]
    directory = fill(tmp_path / "n", CALLS, rows)
    sql = "SELECT count(*), sum(latency_us), avg(latency_us), max(latency_us) FROM calls"
    question = plan(sql, TABLES, NOW)
    blocks = leaf.OpenBlocks(directory)
    blocks.refresh([CALLS])
    found = SCANNER.scan(question, blocks.of("calls"), 0, 0, time.monotonic() + 30)
    (answer,) = SCANNER.finish(question, finished(question, found))
    weight = sum(row[-1] for row in rows)
    total = sum(row[-1] * row[-2] for row in rows)
    assert answer == [weight, total, total / weight, 300]
    assert (found.coverage.rows_scanned, found.coverage.stand_for) == (1_000, weight)


def test_deadline_that_is_over_scans_nothing(nodes: tuple[list[Path], list[tuple[Any, ...]]]) -> None:
    question = plan("SELECT map_name, count(*) FROM events GROUP BY map_name", TABLES, NOW)
    found = SCANNER.scan(question, opened(nodes[0][0]), 0, 0, time.monotonic() - 1)
    assert found.rows == [] and (found.coverage.rows_scanned, found.coverage.rows_held) == (0, 5_000)


def test_many_groups_end_at_the_deadline_as_the_engine_does() -> None:
    """Of a million groups the engine is quick, and Python takes seconds."""
    with duckdb.connect() as connection:
        assert len(list(leaf._fetched(connection, "FROM range(1000)", time.monotonic() - 1))) == 1_000
        numbers = pa.table({"a": list(range(20_000))})
        for _ in range(2):
            with pytest.raises(duckdb.InterruptException), table(connection, "rows", numbers):
                list(leaf._fetched(connection, "SELECT a, count(*) FROM rows GROUP BY a", time.monotonic() - 1))


def test_groups_past_the_bound_are_counted(nodes: tuple[list[Path], list[tuple[Any, ...]]], monkeypatch: Any) -> None:
    monkeypatch.setattr("server.questions.partial.MAX_GROUPS", 50)
    _, coverage = ask("SELECT player, count(*) FROM events GROUP BY player", nodes[0])
    assert coverage.groups_left_out > 0


BAD = {
    "": "one SELECT",
    "SELECT 1; SELECT 2": "one SELECT",
    "DROP TABLE events": "one SELECT",
    "SELECT count(*) FROM nowhere": "line 1, column 28: no table 'nowhere'",
    "SELECT count(*) FROM events e": "without an alias",
    "SELECT foo FROM events": "line 1, column 10: no column 'foo'",
    "SELECT kind, points FROM events GROUP BY kind": "column 'points' is neither grouped by nor in an aggregate",
    "SELECT read_text('/etc/passwd') FROM events": "no function|cannot have this",
    "SELECT * FROM read_csv('/etc/passwd')": "FROM one of",
    "SELECT * FROM 'events.parquet'": "FROM one of|no table",
    "SELECT * FROM main.events": "FROM one of",
    "SELECT map_name FROM events, calls": "no JOINS",
    "SELECT map_name FROM events UNION SELECT map_name FROM events": "one SELECT",
    "SELECT map_name FROM events WHERE map_name IN (SELECT map_name FROM events)": "cannot have this",
    "WITH x AS (SELECT 1) SELECT * FROM x": "no WITH",
    "SELECT sum(count(*)) FROM events": "aggregate cannot stand",
    "SELECT count(*) FROM events WHERE count(*) > 1": "aggregate cannot stand",
    "SELECT row_number() OVER () FROM events": "cannot have this",
    "SELECT median(points) FROM events": "no aggregate like this",
    "SELECT approx_quantile(points, 2) FROM events": "between 0 and 1",
    "SELECT map_name FROM events ORDER BY 9": "no column 9",
    "SELECT map_name FROM events LIMIT all_of_it": "LIMIT takes a number",
    "SELECT map_name FROM events WHERE": "line 1",
    "SELECT DISTINCT map_name FROM events": "no DISTINCT",
    "SELECT map_name FROM events WINDOW w AS ()": "no WINDOWS",
    "SELECT CAST(points AS BLOB) FROM events": "cast",
    "SELECT getenv('HOME') FROM events": "no function|cannot have this",
    "SELECT map_name" + "(" * 3_000 + " FROM events": "nested too deeply",
    "SELECT '" + "x" * 9_000 + "' FROM events": "at most 8192",
    "SELECT kind FROM events ORDER BY kind NULLS FIRST": "NULL comes last",
    "SELECT count(*) FROM events TABLESAMPLE 10%": "no SAMPLE",
    "SELECT kind FROM events LIMIT 10%": "LIMIT takes a number",
    "SELECT kind FROM events LIMIT " + "9" * 5_000: "LIMIT takes a number",
    "SELECT kind FROM events ORDER BY " + "9" * 5_000: "no column 999",
    "SELECT kind FROM events ORDER BY " + "points," * 1_000 + "1": "ordered by at most 64",
    "SELECT * EXCLUDE (kind) FROM events": "all columns",
    "SELECT *" + ", *" * 2_000 + " FROM events": "at most 64 columns",
    "SELECT min(points, 3) FROM events": "takes one expression",
    "SELECT count(kind, points) FROM events": "takes one expression",
    "SELECT CAST(count(*) AS JSON) FROM events": "cast",
    "SELECT x.events.kind FROM events": "no table",
    "SELECT points" + " + points" * 500 + " AS a FROM events WHERE a IN (a" + ", a" * 1_000 + ")": "named too often",
}


@pytest.mark.parametrize("sql", BAD, ids=lambda sql: sql[:40])
def test_bad_questions_are_explained(sql: str) -> None:
    with pytest.raises(BadQuestion, match=BAD[sql]):
        plan(sql, TABLES, NOW)


def test_stretches_of_time_cannot_be_merged(nodes: tuple[list[Path], list[tuple[Any, ...]]]) -> None:
    with pytest.raises(BadQuestion, match="epoch"):
        ask("SELECT max(now() - time) FROM events", nodes[0])
    assert ask("SELECT max(extract(epoch FROM now() - time)) FROM events", nodes[0])[0] == [[600.0]]


def test_quantile_of_what_is_no_number(nodes: tuple[list[Path], list[tuple[Any, ...]]]) -> None:
    sql = "SELECT approx_quantile(100.0 / points, 0.999), approx_quantile(CAST('nan' AS DOUBLE), 1) FROM events"
    assert ask(sql, nodes[0])[0] == [[math.inf, 0.0]]


def test_conversion_that_fails_is_the_questions_fault(nodes: tuple[list[Path], list[tuple[Any, ...]]]) -> None:
    with pytest.raises(BadQuestion, match="Conversion"):
        ask("SELECT sum(CAST(map_name AS INT)) FROM events", nodes[0])


def test_engine_reaches_nothing(tmp_path: Path) -> None:
    file = tmp_path / "secret.csv"
    file.write_text("a,b\n1,2\n")
    connection = engine()
    for sql in (f"SELECT * FROM '{file}'", f"COPY (SELECT 1) TO '{tmp_path}/x'", "SET threads = 8", "INSTALL httpfs"):
        with pytest.raises(duckdb.Error):
            connection.execute(sql)


@pytest.mark.parametrize("place", ["header", "numbers of texts", "offsets", "order of offsets", "texts"])
def test_damaged_block_is_named_and_the_rest_answers(tmp_path: Path, place: str) -> None:
    rows = [event(random.Random(1), number) for number in range(100)]
    directory = fill(tmp_path / "n", EVENTS, rows)
    [path] = directory.iterdir()
    shape, data = leaf.StoredRowBlock(path).shape, bytearray(path.read_bytes())
    at, bad = {
        "header": (8, b"\1" * 8_192),
        "numbers of texts": (shape.columns[1] + 20, b"\xff\xff"),
        "offsets": (shape.offsets + 4, b"\xff\xff\xff\x7f" * 100),
        "order of offsets": (shape.offsets + 12, b"\0\0\0\0"),
        "texts": (shape.heap + 2, b"\xff"),
    }[place]
    data[at : at + len(bad)] = bad
    (directory / "events.9.0.0.block").write_bytes(data)
    answerer = Answerer(directory)
    answerer.do("tables", [encode(list(TABLES.values())), encode([])])
    question = answerer.do("plan", ["SELECT count(*) FROM events WHERE map_name || 'x' > kind", NOW])
    part = answerer.do("scan", [question, 0, 0, 5.0])
    document = msgspec.json.decode(answerer.do("finish", [question, [["n1", part]], 3, ["n2", "n1"]]))
    assert document["rows"] == [[sum(row[1] + "x" > row[2] for row in rows)]] and document["columns"] == ["COUNT(*)"]
    coverage = document["coverage"]
    assert (coverage["nodes"], coverage["answered"], coverage["missing"]) == (3, 1, ["n1", "n2"])
    assert "events.9.0.0.block" in coverage["troubles"][0]


def test_node_that_is_alone_has_it_all_done_at_once(nodes: tuple[list[Path], list[tuple[Any, ...]]]) -> None:
    """The answer is that of the parts, also where the scan fails; and a bad question is told as one."""
    answerer = Answerer(nodes[0][0])
    answerer.do("tables", [encode(list(TABLES.values())), encode([])])
    sql = "SELECT kind, count(*) AS number, approx_quantile(clock_ms, 0.5) FROM events GROUP BY kind ORDER BY kind"
    question = answerer.do("plan", [sql, NOW])
    part = answerer.do("scan", [question, 0, 0, 5.0])
    whole = answerer.do("finish", [question, [["n1", part]], 1, []])
    assert answerer.do("answer", [sql, NOW, 0, 0, 5.0, "n1"]) == whole

    nothing = answerer.do("finish", [question, [], 1, ["n1"]])
    assert answerer.do("answer", [sql, NOW, "no time", 0, 5.0, "n1"]) == nothing != whole
    for bad in ("SELECT nothing FROM events", "SELECT count(*) FROM events WHERE kind > CAST(player AS INTEGER)"):
        with pytest.raises(BadInput):
            answerer.do("answer", [bad, NOW, 0, 0, 5.0, "n1"])


def test_nonsense_of_a_node_takes_nobody_along(nodes: tuple[list[Path], list[tuple[Any, ...]]]) -> None:
    answerer = Answerer(nodes[0][0])
    answerer.do("tables", [encode(list(TABLES.values())), encode([])])
    sql = "SELECT kind, sum(points), count(DISTINCT player), approx_quantile(clock_ms, 0.5), min(player) FROM events {}"
    question = answerer.do("plan", [sql.format("GROUP BY kind ORDER BY 1"), NOW])
    good = answerer.do("scan", [question, 0, 0, 5.0])
    part = msgspec.msgpack.decode(good)
    whole = msgspec.json.decode(answerer.do("finish", [question, [["n1", good]], 1, []]))["rows"]
    group = part[0][0]
    sketch = group[2]
    wrongs: dict[int, list[Any]] = {
        0: [3, [1], b"x", msgspec.msgpack.Ext(5, b"")],
        1: ["3", True, [3]],
        2: [7, b"", b"\2\1\7\x0c", sketch[:-1], b"\2" + sketch[1:], sketch + sketch, sketch[:8] + b"\xff" * 4],
        3: [[1], {"1": 1}, {1: "1"}, {1: -1}, dict.fromkeys(range(9_000), 1)],
        4: [3, b"ann"],
    }
    for at, value in [(at, value) for at, values in wrongs.items() for value in values]:
        bad = encode([[[*group[:at], value, *group[at + 1 :]]], part[1]])
        document = msgspec.json.decode(answerer.do("finish", [question, [["n1", good], ["n2", bad]], 2, []]))
        assert document["rows"] == whole, (at, value)
        assert document["coverage"]["answered"] == 1
        assert document["coverage"]["troubles"] == ["the answer of node n2 made no sense"]
    for bad in (b"", b"\xc1", encode([]), encode([[[]], part[1]]), encode([part[0], [-1, *part[1][1:]]])):
        document = msgspec.json.decode(answerer.do("finish", [question, [["n2", bad], ["n1", good]], 2, []]))
        assert document["rows"] == whole and document["coverage"]["answered"] == 1


def test_sketches_of_each_size_are_taken() -> None:
    question = plan("SELECT count(DISTINCT player) FROM events", TABLES, NOW)
    merger = Merger(question)
    for size in (0, 1, 7, 8, 20, 100, 300, 390, 5_000, 100_000):
        merger.add_checked(Partial([[sketch_of(range(size))]], Coverage()))
        part = merger.result()
        merger.add_checked(part)
        assert finished(question, part)[0][0] == pytest.approx(size, rel=0.05)
