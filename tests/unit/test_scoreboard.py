"""Scoreboards in pages, and the order that a large match keeps (F28)."""

import random
from typing import Any

import pytest
from msgspec.structs import replace

from game.match import board
from game.match.actor import Match
from game.match.board import Page, Ranking
from game.match.state import Line, Lines, MatchState
from game.messages import MatchOptions
from server.errors import BadInput


def played(players: int, teams: int, seed: int = 1) -> MatchState:
    rng = random.Random(seed)
    lines = {
        f"p{n}": Line(rng.randrange(teams) if teams else None, kills=rng.randrange(5), score=rng.randrange(-3, 9))
        for n in range(players)
    }
    return MatchState("host", MatchOptions(teams=teams), players=Lines(lines))


def pages(state: MatchState, limit: int, ranking: Ranking | None = None) -> list[str]:
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = board.scoreboard(state, "m", 1, 9, 0, Page(limit, cursor), ranking)
        assert 0 < len(page.players) <= limit and page.player_count == len(state.players)
        found += [line.player for line in page.players]
        cursor = page.next
    return found


@pytest.mark.parametrize("teams", [0, 2, 5])
@pytest.mark.parametrize("limit", [1, 7, 50, 500])
def test_pages_are_the_whole_in_order(teams: int, limit: int) -> None:
    state = played(50, teams)
    assert pages(state, limit) == [line.player for line in board.lines(state)]


@pytest.mark.parametrize("teams", [0, 3])
def test_a_ranking_follows_what_changes(teams: int) -> None:
    state, ranking, rng = played(3_000, teams), Ranking(), random.Random(2)
    steps = 0
    while not ranking.follow(state.players, 100):
        steps += 1
    assert steps == 29, "no step does more than it may"
    for _ in range(20):
        lines = state.players
        for _ in range(rng.randrange(1, 200)):
            player = rng.choice([f"p{rng.randrange(3_000)}", f"new{rng.randrange(400)}"])
            line = lines.get(player, Line(None if not teams else 1))
            lines = lines.set(player, replace(line, score=line.score + rng.randrange(-3, 9)))
        state = replace(state, players=lines)
        while not ranking.follow(state.players, 37):
            pass
        assert pages(state, 500, ranking) == [line.player for line in board.lines(state)]
        assert board.best(state, 4, ranking) == board.best(state, 4)


def test_a_ranking_that_is_behind_shows_lines_as_they_are() -> None:
    state, ranking = played(2_000, 2), Ranking()
    assert not ranking.follow(state.players, 700)
    found = board.scoreboard(state, "m", 1, 9, 0, Page(500), ranking)
    assert len(found.players) == 500 and found.player_count == 2_000
    assert all(state.players[line.player].score == line.score for line in found.players)


def test_a_ranking_that_is_overtaken_goes_on_from_where_it_is() -> None:
    state, ranking = played(2_000, 0), Ranking()
    ranking.follow(state.players, 700)
    later = replace(state, players=state.players.set("p1", Line(score=99)))
    while not ranking.follow(later.players, 700):
        pass
    assert pages(later, 500, ranking)[0] == "p1"
    assert pages(later, 500, ranking) == [line.player for line in board.lines(later)]


@pytest.mark.parametrize("cursor", ["x", "1:2/p", "1:2:3:x/p", "::::/p"])
def test_a_cursor_that_is_none_is_refused(cursor: str) -> None:
    with pytest.raises(BadInput, match="cursor is the next of another page"):
        board.scoreboard(played(3, 0), "m", 1, 9, 0, Page(5, cursor))


def test_lines_count_who_is_present() -> None:
    lines, rng = Lines(), random.Random(3)
    for _ in range(2_000):
        player = f"p{rng.randrange(150)}"
        line = lines.get(player, Line(rng.choice([None, 0, 1]), False))
        lines = lines.set(player, replace(line, present=rng.random() < 0.5, score=line.score + rng.randrange(-2, 3)))
        if rng.random() < 0.05:
            again = Lines(dict(lines))
            present = [line for line in lines.values() if line.present]
            sizes = {team: sum(line.team == team for line in present) for team in (0, 1)}
            for found in (lines, again):
                assert found.present == len(present)
                assert {team: found.team_sizes.get(team, 0) for team in (0, 1)} == sizes
                best = max(line.score for line in lines.values())
                assert not found.reach(best + 1) and (best < 1 or found.reach(best))


def test_members_are_known_without_looking_at_all_lines() -> None:
    lines = Lines({f"p{n}": Line() for n in range(3_000)})
    assert len(lines.members) == 0
    lines = (
        lines.set("p7", Line(member=3)).set("late", Line(member=4)).set("p7", Line(member=5)).set("p8", Line(score=1))
    )
    assert sorted(lines.members) == sorted(Lines(dict(lines)).members) == ["late", "p7"]


def test_facts_of_a_live_match_are_not_looked_for_among_all_lines() -> None:
    """F28: each commit asks whether a fact is open."""

    class Unwalked(Lines):
        __slots__ = ()

        def __iter__(self) -> Any:
            raise AssertionError("all lines were walked")

    for members in ({}, {"p7": Line(member=1)}):
        lines = Lines({f"p{n}": Line() for n in range(1_000)} | members)
        lines.__class__ = Unwalked
        state = MatchState("host", phase="live", players=lines)
        assert len(list(Match.facts("m", state))) == len(members)
