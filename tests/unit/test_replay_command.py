"""`garrison replay` in this process, on a log that was never stored: the terminal's view, and the figures."""

import asyncio
import io
import re

import pytest
from rich.console import Console

from game.commands import replay, stored
from game.messages import Kill, Medal
from server.settings import Settings
from tests.support.matches import Played

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def played() -> Played:
    match = Played().live(players=4, teams=2, map_name="Recharge")
    match.report(Kill(1_000, "p0", "p1"), Medal(1_500, "p0", "Snipe"), Kill(60_000, "p2", "p3"))
    return match.end(61_000)


def watched(match: Played, from_ms: int = 0) -> str:
    """The terminal's text after the whole match has been shown, as fast as it goes."""
    said = io.StringIO()
    console = Console(file=said, force_terminal=True, width=120, height=50, highlight=False)
    replay._watch(console, "ranked-42", match.stored(), from_ms, speed=1e9)
    return ANSI.sub("", said.getvalue())


def test_terminal_ends_with_the_scoreboard_and_the_newest_events() -> None:
    last = watched(played()).rpartition("ranked-42")[2]
    assert "slayer on Recharge  ended" in last and "1:01" in last
    rows = [line.split() for line in last.splitlines() if line.strip().startswith("p0")]
    assert rows and "1" in rows[0]
    assert "p2" in last and "Snipe" in last


def test_terminal_goes_through_the_match_in_order() -> None:
    shown = watched(played())
    assert shown.index("p0") < shown.index("Snipe") < shown.rindex("ended")


def test_terminal_begins_at_the_moment_that_is_asked_for() -> None:
    late = watched(played(), from_ms=30_000)
    assert "Snipe" not in late and "p3" in late


def test_nothing_after_the_end_shows_the_final_state() -> None:
    last = watched(played(), from_ms=600_000)
    assert "ended" in last and "1:01" in last and "Snipe" not in last


def test_summary_counts_what_happened() -> None:
    match = played()
    found = replay.summary("ranked-42", match.stored())
    assert (found["match"], found["phase"], found["time_ms"]) == ("ranked-42", "ended", 61_000)
    assert found["events"] == match.next_seq - 1
    totals = {player: (line.kills, line.deaths, line.medals) for player, line in found["players"].items()}
    assert totals == {"p0": (1, 0, 1), "p1": (0, 1, 0), "p2": (1, 0, 0), "p3": (0, 1, 0)}


@pytest.mark.parametrize("name", ["latest", "..", "--help"])
def test_a_match_that_an_earlier_version_called_so_is_found_by_its_whole_name(name: str) -> None:
    """F30."""
    assert asyncio.run(stored.find_match(Settings(), f"match/{name}")) == f"match/{name}"
