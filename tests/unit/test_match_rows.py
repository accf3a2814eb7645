"""The rows that a match's log is projected to: what the history finds it by comes with its end."""

from typing import Any

from msgspec.structs import replace

from game.careers.events import Outcome
from game.match.events import Named
from game.match.state import MatchState
from game.messages import Kill
from persistence.game.match import MatchMapping, ParticipantRows, PropertyRows, TagRows
from tests.support.matches import Played


def rows(part: Any, state: MatchState, before: MatchState | None) -> list[tuple[Any, ...]]:
    return list(zip(*part.encode(["m"], [9], [state], [before]), strict=True))


def own(state: MatchState) -> dict[str, Any]:
    """The columns of the match's row, by name."""
    return {name: column[0] for name, column in zip(MatchMapping.columns, MatchMapping().encode([state]), strict=True)}


def test_every_row_of_a_match_learns_when_it_ended_and_only_then() -> None:
    played = Played().live(3, teams=0)
    before = replace(played.state, properties={"skill": 7, "beta": True}, tags=["cup"])
    played.report(Kill(1, "p0", "p1"))
    killed = replace(played.state, properties=before.properties, tags=before.tags)
    assert [row[1] for row in rows(ParticipantRows(), killed, before)] == ["p0", "p1"], "those that differ"
    assert rows(PropertyRows(), killed, before) == rows(TagRows(), killed, before) == []
    played.wall_ms += 5_000
    played.end(2)
    ended = replace(played.state, properties=before.properties, tags=before.tags)
    last = rows(ParticipantRows(), ended, killed)
    assert [(row[1], *row[-3:]) for row in last] == [
        ("p0", ended.ended_wall_ms, "won", ""),
        ("p1", ended.ended_wall_ms, "lost", ""),
        ("p2", ended.ended_wall_ms, "lost", ""),
    ]
    assert ParticipantRows().is_whole(ended, killed) and not ParticipantRows().is_whole(ended, ended)
    assert rows(PropertyRows(), ended, killed) == [
        ("m", "beta", 9, "true", None, ended.ended_wall_ms), ("m", "skill", 9, "7", 7, ended.ended_wall_ms)
    ]  # fmt: skip
    assert rows(TagRows(), ended, killed) == [("m", "cup", 9, ended.ended_wall_ms)]
    assert rows(ParticipantRows(), ended, ended) == rows(TagRows(), ended, ended) == []


def test_a_match_without_a_decision_has_no_result() -> None:
    tied = Played().live(2, teams=0).end(5).state
    assert {row[-2] for row in rows(ParticipantRows(), tied, None)} == {"tied"}
    lobby = Played().create(countdown_ms=0).join("p0").end(0).state
    recorded = Played().create(mode="recorded", countdown_ms=0).start().report(Kill(1, "p0")).end(5).state
    assert {row[-2] for state in (lobby, recorded) for row in rows(ParticipantRows(), state, None)} == {""}


def test_the_name_that_another_game_logged_is_in_the_row() -> None:
    played = Played().live(1, teams=0)
    played.emit([Named(0, "p0", "[x] Ann")])
    assert rows(ParticipantRows(), played.state, None)[0][-1] == "[x] Ann"


def test_a_match_row_says_who_may_see_it_and_when() -> None:
    played = Played().create(private=True, listed=True, spectator_delay_ms=30_000)
    row = own(played.state)
    assert (row["private"], row["listed"], row["delayed"], row["source"], row["player_count"]) == (
        True, True, True, "", 0,
    )  # fmt: skip
    over = own(Played().live(2).end(5).state)
    assert (over["private"], over["delayed"], over["player_count"]) == (False, False, 2)


def test_a_match_with_a_delay_is_held_back_until_its_results_are_made() -> None:
    ended = replace(Played().live(2, spectator_delay_ms=30_000).end(5).state, outcome=Outcome())
    assert own(ended)["delayed"], "it has ended, and spectators may not know it yet"
    assert not own(replace(ended, outcome=Outcome(whole=True)))["delayed"]
