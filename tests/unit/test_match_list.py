"""`match.list`: newest first over all nodes, lobbies too, and in pages (F34)."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from game.app import App
from game.console.read_models import live_matches
from game.history.live import LOOKED_AT
from game.match.actor import Match
from game.match.hidden import Hidden
from game.match.state import MatchState
from game.messages import Matches, MatchList, PlayOptions, PropertyIs
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

    state: MatchState

    def __init__(self, key: str, created_ms: int, *, phase: Any = "live", node: str = "n1") -> None:
        started_ms = created_ms + 60_000 if phase == "live" else 0
        state = MatchState(host="h", phase=phase, created_wall_ms=created_ms, started_wall_ms=started_ms)
        super().__init__(key=key, state=state, clock_ms=0, node=node, hidden=Hidden())

    def outside(self) -> MatchState:
        """The state as onlookers see it: there is no delay."""
        return self.state


class Here:
    """The matches in memory on a node, in the order in which the node keeps them."""

    def __init__(self, matches: Sequence[Live]) -> None:
        self.looked_at = 0
        self._listing = Listing(Match.list_order)
        self._matches = {match.key: match for match in matches}
        for match in matches:
            self._listing.put(actor_id("match", match.key), match.state)

    def listed(self, kind: str, after: Any, limit: int) -> list[Any]:
        assert kind == "match"
        self.looked_at += limit
        return [self._matches[key] for key in self._listing.page(after, limit)]


def ask(
    nodes: Sequence[Sequence[Live]], limit: int, cursor: str = "", looked: list[int] | None = None, **filters: Any
) -> Matches:
    """The answer to one `match.list` of nodes that have these matches, and how many each looked at."""
    message = MatchList(1, limit, cursor, **filters)
    params = ROUTE.params(CALLER, message)  # type: ignore[union-attr]
    here = [Here(matches) for matches in nodes]
    rows = [row for each in here for row in live_matches(each, params)]  # type: ignore[arg-type]
    if looked is not None:
        looked += [each.looked_at for each in here]
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


# ---- filters ----


class Described(Live):
    """A live match with a mode, a map, properties and tags."""

    def __init__(self, key: str, created_ms: int, mode: str = "slayer", map_name: str = "", **described: Any) -> None:
        super().__init__(key, created_ms)
        self.state = replace(self.state, options=PlayOptions(mode=mode, map_name=map_name), **described)


DESCRIBED = [
    Described("a", 40, properties={"skill": 7, "ranked": True}, tags=["cup", "final"]),
    Described("b", 30, "oddball", "Recharge", properties={"skill": "7"}, tags=["cup"]),
    Described("c", 20, map_name="Recharge", properties={"ranked": 1}),
    Live("d", 10),
]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"mode": "slayer"}, "acd"),
        ({"map_name": "Recharge"}, "bc"),
        ({"mode": "slayer", "map_name": "Recharge"}, "c"),
        ({"tags": ["cup"]}, "ab"),
        ({"tags": ["cup", "final"]}, "a"),
        ({"properties": [PropertyIs("skill", 7)]}, "a"),
        ({"properties": [PropertyIs("skill", "7")]}, "b"),
        ({"properties": [PropertyIs("ranked", True), PropertyIs("skill", 7)]}, "a"),
        ({"properties": [PropertyIs("ranked", 1)]}, "c"),
        ({"properties": [PropertyIs("colour", "red")]}, ""),
    ],
)
def test_live_matches_are_found_by_what_they_are(filters: dict[str, Any], found: str) -> None:
    assert [row.match for row in ask([DESCRIBED[:2], DESCRIBED[2:]], 10, **filters).matches] == list(found)
    text = {name: value for name, value in filters.items() if isinstance(value, str)}
    text |= {"tag": ",".join(filters.get("tags", []))}
    text |= {"property": ",".join(f"{each.name}={each.value}" for each in filters.get("properties", []))}
    if "skill" not in text["property"]:  # digits in a query string are a number
        assert [row["match"] for row in live_matches(Here(DESCRIBED), text)] == list(found)  # type: ignore[arg-type]


def test_a_mode_that_the_server_lacks_is_named() -> None:
    with pytest.raises(BadInput, match="mode 'tennis'"):
        ask([[]], 10, mode="tennis")
    with pytest.raises(BadInput, match="name=value"):
        live_matches(Here([]), {"property": "skill"})  # type: ignore[arg-type]


def test_a_page_of_what_few_matches_are_looks_at_so_many_and_goes_on_behind_them() -> None:
    many = [Described(f"x-{n:05}", 100_000 - n) for n in range(2 * LOOKED_AT + 10)]
    few = [Described("rare", 5, "oddball"), Described("first", 200_000, "oddball")]
    nodes = [[*many, *few], [Described("beside", 100_000 - LOOKED_AT - 5, "oddball")]]
    listed, cursor, pages = [], "", 0
    while True:
        looked: list[int] = []
        page = ask(nodes, 10, cursor, looked=looked, mode="oddball")
        assert max(looked) <= LOOKED_AT + 10
        listed.append([row.match for row in page.matches])
        pages += 1
        if page.next is None:
            break
        cursor = page.next
    assert listed[:2] == [["first"], ["beside"]] and listed[-1] == ["rare"] and pages <= 4
