"""Tables on a terminal, also on one that is too narrow for them."""

from typing import Final

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from server.cli.common import UNBOUNDED

BROKEN: Final = 1.25
"""Times the width of the terminal that the longest words may need in a table: some of them are broken then."""


def fitting(table: Table, console: Console) -> RenderableType:
    """`table`, or, where `console` has no room for it, its rows as paragraphs: the first cell, and below it the name
    and the value of each other one that is not empty. Nothing is left out for want of room in either."""
    for column in table.columns:
        column.overflow = "fold"
    if Measurement.get(console, console.options.update(width=UNBOUNDED), table).minimum <= BROKEN * console.width:
        return table
    names = [_text(column.header) for column in table.columns]
    rows = zip(*([_text(cell) for cell in column.cells] for column in table.columns), strict=True)
    lines: list[RenderableType] = [_text(table.title)] if table.title else []
    for first, *rest in rows:
        told = [
            Text(" ").join([name, cell]) if name else cell for name, cell in zip(names[1:], rest, strict=True) if cell
        ]
        lines.append(first or Text("-"))
        if told:
            lines.append(Padding(Text(" · ").join(told), (0, 0, 0, 2), expand=False))
    return Group(*lines)


def print_table(table: Table, console: Console) -> None:
    """Print `table` on `console` as it fits there."""
    console.print(fitting(table, console), soft_wrap=False)


def _text(cell: RenderableType | None) -> Text:
    return cell.copy() if isinstance(cell, Text) else Text.from_markup(str(cell or ""))
