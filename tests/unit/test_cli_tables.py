"""Tables of commands on terminals of several widths: nothing is left out for want of room."""

import io
import re

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from server.cli.common import out
from server.cli.tables import print_table

NAMES = ("node", "state", "slots", "activations", "loop lag", "clients", "gossip")
ROW = ("node-1#6", "up", "22,058", "1,234", "0 ms", "ws://127.0.0.1:7350", "[::1]:9370")


def nodes() -> Table:
    table = Table(title="demo, as node-1 sees it", title_justify="left")
    for name in NAMES:
        table.add_column(name)
    table.add_row(*map(Text, ROW))
    table.add_row("node-2#7", *[""] * 6)
    return table


def printed(table: Table, width: int) -> str:
    file = io.StringIO()
    print_table(table, Console(file=file, width=width, highlight=False))
    return file.getvalue()


@pytest.mark.parametrize("width", [200, 90, 80, 40, 20])
def test_every_value_stands_whole_in_every_width(width: int) -> None:
    text = printed(nodes(), width)
    assert max(map(len, text.splitlines())) <= width
    # Of a row over several lines each column is put together; a paragraph is one column.
    lines = [line.split("│") for line in text.splitlines()]
    columns = ["".join(line[number] for line in lines if number < len(line)) for number in range(len(ROW) + 2)]
    found = re.sub(r"\s", "", "".join(columns))
    assert [value for value in ROW if value.replace(" ", "") not in found] == []


def test_rows_are_paragraphs_where_a_table_has_no_room() -> None:
    assert [line.rstrip() for line in printed(nodes(), 40).splitlines()] == [
        "demo, as node-1 sees it",
        "node-1#6",
        "  state up · slots 22,058 · activations",
        "  1,234 · loop lag 0 ms · clients",
        "  ws://127.0.0.1:7350 · gossip",
        "  [::1]:9370",
        "node-2#7",
    ]


def test_a_pipe_takes_a_row_of_any_length_as_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table()
    table.add_column("text")
    table.add_row("x" * 5_000)
    print_table(table, out())
    assert "x" * 5_000 in capsys.readouterr().out
