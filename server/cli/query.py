"""`garrison query`: a question in SQL over the columns of all nodes, asked over the admin API."""

import csv
import io
import sys
import time
from typing import Annotated, Any, Final

import msgspec
from cyclopts import App, Parameter
from rich.table import Table
from rich.text import Text

from server.cli.admin_side import BY_SETTINGS, AdminOptions
from server.cli.common import Json, err, out, print_json, seconds_of
from server.cli.tables import print_table
from server.errors import BadInput
from server.texts import escaped, escaped_lines

LONGEST_S: Final = 366 * 86_400
MOST_S: Final = 30.0
MARGIN_S: Final = 5.0
EXAMPLES = """
Examples:

- `garrison query "SELECT client, count(*) FROM sessions GROUP BY client ORDER BY 2 DESC"`
- `garrison query "SELECT method, approx_quantile(latency_us, 0.99) FROM calls GROUP BY method" --since 10m`
- `garrison query --tables`
"""


def query(
    sql: str = "",
    *,
    since: Annotated[str, Parameter(help="Only rows of the last 90s, 10m, 2h or 1d.")] = "",
    timeout: Annotated[float, Parameter(help="Seconds; what is not scanned by then is left out.")] = 2.0,
    tables: Annotated[bool, Parameter(help="Show the tables and their columns.", negative="")] = False,
    csv_: Annotated[bool, Parameter(name="--csv", help="Comma-separated values.", negative="")] = False,
    json: Json = False,
    admin: AdminOptions = BY_SETTINGS,
) -> int:
    """Ask in SQL about the recent past of a running cluster."""
    side = admin.side()
    if tables or not sql:
        body = side.ask("/api/v1/questions", has=("tables", "unavailable"))
        if json:
            print_json(body)
        else:
            _show_tables(msgspec.json.decode(body))
        return 0
    if not 0 < timeout <= MOST_S:
        raise BadInput(f"--timeout takes seconds, more than 0 and at most {MOST_S:.0f}")
    asked = {"sql": sql, "since_ms": _since_ms(since) if since else 0, "timeout_s": timeout}
    has = ("columns", "rows", "coverage")
    body = side.ask("/api/v1/questions", body=asked, has=has, timeout_s=timeout + MARGIN_S)
    if json:
        print_json(body)
        return 0
    answer = msgspec.json.decode(body)
    if csv_:
        _print_csv(answer)
    else:
        print_table(_table(answer), out())
    err().print(coverage_text(answer["coverage"]), markup=False)
    return 0


def _since_ms(since: str) -> int:
    """The Unix ms that `--since` means. Raises `BadInput`."""
    seconds = seconds_of(since, "--since")
    if since[-1:] not in "smhd" or seconds > LONGEST_S:
        raise BadInput("--since takes 90s, 10m, 2h or 1d")
    return int(1000 * (time.time() - seconds))


def coverage_text(coverage: dict[str, Any]) -> str:
    """How complete an answer is, in one line."""
    parts = [f"{coverage['answered']} of {coverage['nodes']} nodes"]
    parts.append(f"{coverage['rows_scanned']:,} of {coverage['rows_held']:,} rows scanned")
    if coverage["sampled"]:
        parts.append(f"sampled: they stand for {coverage['stand_for']:,}")
    if coverage["from_ms"]:
        parts.append(f"{_clock(coverage['from_ms'])} to {_clock(coverage['to_ms'])} UTC")
    if coverage["age_ms"]:
        parts.append(f"as of {coverage['age_ms'] / 1000:,.1f} s ago at most")
    if coverage["reloading"]:
        parts.append(f"{coverage['reloading']} load events again, {coverage['rows_missing']:,} rows to come")
    if coverage["missing"]:
        parts.append(f"no answer from {escaped(', '.join(coverage['missing']))}")
    if coverage["groups_left_out"]:
        parts.append(f"{coverage['groups_left_out']:,} groups left out")
    return "; ".join([*parts, *map(escaped, coverage["troubles"])])


def _clock(ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(ms / 1000))


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.3f}".rstrip("0").rstrip(".")
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else escaped(str(value))


def _table(answer: dict[str, Any]) -> Table:
    table = Table()
    for number, name in enumerate(answer["columns"]):
        values = [row[number] for row in answer["rows"] if row[number] is not None]
        numeric = bool(values) and all(isinstance(value, (int, float)) for value in values)
        table.add_column(Text(escaped(name)), justify="right" if numeric else "left")
    for row in answer["rows"]:
        table.add_row(*(Text(_shown(value)) for value in row))
    return table


def _print_csv(answer: dict[str, Any]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(answer["columns"])
    writer.writerows(answer["rows"])
    sys.stdout.write(escaped_lines(text.getvalue()))


def _show_tables(askable: dict[str, Any]) -> None:
    for table in askable["tables"]:
        names = ", ".join(column["name"] for column in table["columns"])
        out().print(f"{table['table']}: {names}", markup=False, highlight=False)
    if askable["unavailable"]:
        err().print(askable["unavailable"], markup=False)


def register(app: App) -> None:
    app.command(query, name="query", help_epilogue=EXAMPLES)
