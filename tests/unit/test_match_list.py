"""`match.list`: newest first over all nodes, lobbies too, and in pages (F34)."""

from types import SimpleNamespace
from typing import Any

import pytest

from game.app import App
from game.console.read_models import live_matches
from game.match.actor import Match
from game.match.hidden import Hidden
from game.match.state import MatchState
from game.messages import Matches, MatchList
from server.actors.actor import Caller
from server.actors.app import QueryRoute
from server.catalog.listings import Listing
from server.errors import BadInput
from server.ids import actor_id

CALLER = Caller("jun", "player", "s-1")
ROUTE = App.routes[MatchList]
assert isinstance(ROUTE, QueryRoute)


class Live(SimpleNamespace):
    """A match in memory, as far as the list reads it."""

    def __init__(self, key: str, created_ms: int, *, phase: Any = "live", node: str = "n1") -> None:
        started_ms = created_ms + 60_000 if phase == "live" else 0
        state = MatchState(host="h", phase=phase, created_wall_ms=created_ms, started_wall_ms=started_ms)
        super().__init__(key=key, state=state, clock_ms=0, node=node, hidden=Hidden())


class Here:
    """The matches in memory on a node, in the order in which the node keeps them."""

    def __init__(self, matches: list[Live]) -> None:
        self._listing = Listing(Match.list_order)
        self._matches = {match.key: match for match in matches}
        for match in matches:
            self._listing.put(actor_id("match", match.key), match.state)

    def listed(self, kind: str, after: Any, limit: int) -> list[Any]:
        assert kind == "match"
        return [self._matches[key] for key in self._listing.page(after, limit)]


def ask(nodes: list[list[Live]], limit: int, cursor: str = "") -> Matches:
    """The answer to one `match.list` of nodes that have these matches."""
    message = MatchList(1, limit, cursor)
    params = ROUTE.params(CALLER, message)  # type: ignore[union-attr]
    rows = [row for matches in nodes for row in live_matches(Here(matches), params)]  # type: ignore[arg-type]
    answer = ROUTE.answer(message, ROUTE.merge(rows), [])  # type: ignore[union-attr,misc]
    assert isinstance(answer, Matches)
    return answer


def test_lobbies_are_listed_by_their_age_too() -> None:
    nodes = [[Live("old", 10), Live("lobby", 30, phase="lobby")], [Live("new", 40), Live("over", 50, phase="ended")]]
    assert [row.match for row in ask(nodes, 10).matches] == ["new", "lobby", "old"]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 12, 13, 500])
def test_pages_together_have_each_match_once(limit: int) -> None:
    nodes = [
        [Live(f"m-{n}", 1_000 + n // 3, phase=("live", "lobby")[n % 2]) for n in range(at, 13, 3)] for at in range(3)
    ]
    listed, cursor, pages = [], "", 0
    while True:
        page = ask(nodes, limit, cursor)
        listed += [row.match for row in page.matches]
        pages += 1
        if page.next is None:
            break
        cursor = page.next
        for match in nodes[0]:  # begins meanwhile, which moves it nowhere
            match.state = MatchState(
                host="h", phase="live", created_wall_ms=match.state.created_wall_ms, started_wall_ms=9
            )
    assert sorted(listed) == sorted(match.key for matches in nodes for match in matches)
    assert pages == 13 // limit + 1


def test_a_match_that_moves_is_listed_once() -> None:
    assert [row.match for row in ask([[Live("m", 5)], [Live("m", 5, node="n2")]], 10).matches] == ["m"]


def test_rows_of_a_node_of_the_version_before_are_read() -> None:
    rows = live_matches(Here([Live("m", 5)]), {})  # type: ignore[arg-type]
    del rows[0]["created_wall_ms"]
    answer = ROUTE.answer(MatchList(1), ROUTE.merge(rows), [])  # type: ignore[union-attr,misc]
    assert isinstance(answer, Matches) and answer.matches[0].created_wall_ms == 0


@pytest.mark.parametrize("cursor", ["x", "7", "-1/m", "٣/m", "99999999999999999/m", "/m"])
def test_a_cursor_that_is_none_is_refused(cursor: str) -> None:
    with pytest.raises(BadInput):
        ask([[]], 10, cursor)
