"""What `garrison matches` and `garrison status` print: texts of clients are texts, not markup."""

import io
from typing import Any

import pytest
from msgspec.structs import fields
from rich.console import Console
from rich.table import Table

from game.commands import matches
from game.commands.stored import StoredMatch
from server.cli import status

MARKUP = "[/x] [link=https://example.org]Recharge[/link]"


def shown(table: Table) -> str:
    console = Console(file=io.StringIO(), width=400)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def stored() -> Table:
    blank: dict[str, Any] = {field.name: "" if field.type is str else 0 for field in fields(StoredMatch)}
    return matches._table([StoredMatch(**{**blank, "map_name": MARKUP, "team_scores": [1], "winner": None})], 0)


def live() -> Table:
    row = dict.fromkeys(("match", "phase", "mode", "node"), "m") | {"map_name": MARKUP, "team_scores": [1]}
    return matches._live_table([row | {"players": 1, "time_ms": 0, "started_wall_ms": 0}], 0)


def nodes() -> Table:
    node = {"node": "n", "incarnation": 1, "state": "up", "suspect": False, "slots": 1, "lag_ms": 0.0, "report": None}
    return status._table({"cluster": "c", "node": "n", "nodes": [node | {"client_url": MARKUP}]})


@pytest.mark.parametrize("table", [stored, live, nodes])
def test_text_like_markup_is_shown_as_it_is(table: Any) -> None:
    assert MARKUP in shown(table())
