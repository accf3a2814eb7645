"""`garrison matches`: the matches of the store, or the live ones of a running cluster."""

import asyncio
import time
from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter, validators
from rich.table import Table
from rich.text import Text

from game import replay as replays
from game.commands.stored import StoredMatch, list_matches
from server.cli.admin_side import AdminSide
from server.cli.common import Config, Json, Set, err, out, print_json
from server.cli.config import read_settings
from server.cli.tables import print_table
from server.texts import escaped

EXAMPLES = """
Examples:

- `garrison matches` lists the newest stored matches; no cluster needs to run
- `garrison matches --live` asks the running cluster
- `garrison matches --limit 100 --json`
"""


def matches(
    *,
    live: Annotated[
        bool, Parameter(help="Ask the running cluster for live matches.", negative="", show_default=False)
    ] = False,
    limit: Annotated[int, Parameter(help="At most so many.", validator=validators.Number(gte=1, lte=10_000))] = 20,
    json: Json = False,
    config: Config = None,
    set_: Set = None,
) -> int:
    """List matches, newest first."""
    settings = read_settings(config, set_)
    if live:
        answer = msgspec.json.decode(AdminSide.of(settings).ask("/api/v1/matches", has=("rows", "missing")))
        rows, missing = sorted(answer["rows"], key=_newest_first)[:limit], answer["missing"]
        if json:
            print_json(msgspec.json.encode({"matches": rows, "missing": missing}))
        else:
            if rows:
                print_table(_live_table(rows, time.time_ns() // 1_000_000), out())
            else:
                out().print("no match is live")
            if missing:
                err().print(f"no answer from {', '.join(missing)}")
        return 0
    lines = asyncio.run(list_matches(settings, limit))
    if json:
        print_json(msgspec.json.encode({"matches": lines}))
    elif lines:
        print_table(_table(lines, time.time_ns() // 1_000_000), out())
    else:
        out().print("the store has no match yet")
    return 0


def _newest_first(row: dict[str, Any]) -> tuple[int, str]:
    """Sort key: by when a match was made, as in a client's `match.list`."""
    return -row.get("created_wall_ms", 0), row["match"]


def _table(lines: list[StoredMatch], now_ms: int) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("match", "phase", "mode", "map", "players", "score", "clock", "events", "began", ""):
        # The name is there to be copied: other columns give way.
        justify: Any = "right" if name in {"players", "clock", "events"} else "left"
        table.add_column(name, justify=justify, no_wrap=name == "match", overflow="fold")
    for line in lines:
        table.add_row(
            line.match,
            line.phase,
            line.mode,
            Text(escaped(line.map_name)),
            str(line.players),
            _score(line.team_scores, line.winner),
            replays.clock(line.time_ms)[:-4],
            f"{line.events:,}",
            _ago(now_ms - line.created_wall_ms) if line.created_wall_ms else "",
            "pinned" if line.pinned else "",
        )
    return table


def _live_table(rows: list[dict[str, Any]], now_ms: int) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("match", "phase", "mode", "map", "players", "score", "clock", "began", "node"):
        justify: Any = "right" if name in {"players", "clock"} else "left"
        table.add_column(name, justify=justify, no_wrap=name == "match", overflow="fold")
    for row in rows:
        table.add_row(
            row["match"],
            row["phase"],
            row["mode"],
            Text(escaped(row["map_name"])),
            str(row["players"]),
            _score(row["team_scores"], None),
            replays.clock(row["time_ms"])[:-4],
            _ago(now_ms - row["started_wall_ms"]) if row["started_wall_ms"] else "",
            row["node"],
        )
    return table


def _score(team_scores: list[int], winner: str | None) -> str:
    score = " : ".join(map(str, team_scores))
    return f"{score} ({winner})" if winner and score else winner or score


def _ago(span_ms: int) -> str:
    for unit, length_ms in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000)):
        if span_ms >= length_ms:
            return f"{span_ms // length_ms} {unit} ago"
    return f"{max(0, span_ms) // 1000} s ago"


def register(app: App) -> None:
    app.command(matches, name="matches", help_epilogue=EXAMPLES)
