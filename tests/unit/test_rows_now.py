"""Rows of the game's matches and players that live now."""

from typing import Any

import pytest

from game.app import App
from game.columns import MATCHES_NOW, PLAYERS_NOW, match_now_row, player_now_row
from game.match.state import EntryOptions, Line, Lines, MatchState
from game.messages import PlayOptions
from game.player.actor import Player
from server.actors.actor import Caller
from server.actors.devices import ALLOW, Login
from server.ids import ActorId
from tests.support.engine import cluster


def named(schema: Any, values: tuple[Any, ...] | None) -> dict[str, Any]:
    assert values is not None
    return dict(zip((column.name for column in schema.columns[1:]), values, strict=True))


def test_row_of_a_match() -> None:
    assert match_now_row("m", None, MatchState(), 5_000) is None
    players = Lines({"ann": Line(), "bob": Line(present=False)})
    state = MatchState(
        "eu-1", PlayOptions(map_name="Guardian", max_players=16), "live", 9, 1_000, players=players,
        team_scores=(3, 7), entry=EntryOptions(private=True),
    )  # fmt: skip
    assert named(MATCHES_NOW, match_now_row("m", None, state, 61_500)) == {
        "match": "m", "map_name": "Guardian", "mode": "slayer", "phase": "live", "host": "eu-1", "players": 1,
        "max_players": 16, "score": 7, "private": True, "clock_ms": 9, "since_s": 60,
    }  # fmt: skip
    hosted = match_now_row("m", None, MatchState("player/ann", created_wall_ms=9_000), 5_000)
    row = named(MATCHES_NOW, hosted)
    assert (row["host"], row["score"], row["since_s"]) == ("player", 0, 0)  # nobody's name, nor a time before its start


@pytest.mark.virtual_time
async def test_row_of_a_player() -> None:
    async with cluster(app=App, gateway={"login_policy": "allow:4"}) as w:
        system, identity = w.systems["node-1"], ActorId("player/ann")

        def row() -> dict[str, Any]:
            activation = system.find(identity)
            assert activation is not None and isinstance(activation.actor, Player)
            return named(PLAYERS_NOW, player_now_row("ann", activation.actor, activation.boundary, 0))

        for session, age_s in (("s1", 30), ("s2", 10)):
            login = Login(session, "phone", client=f"app of {session}", policy=f"{ALLOW}4", age_ms=1_000 * age_s)
            await system.ask(identity, "connected", (Caller("player", "ann", session), login))
        assert row() == {
            "player": "ann", "status": "online", "match": "", "party": "", "sessions": 2, "client": "app of s2",
            "device": "phone", "since_s": 30,
        }  # fmt: skip
        for session in ("s1", "s2"):
            await system.ask(identity, "disconnected", (Caller("player", "ann", session), "closed"))
        assert row()["status"] == "offline" and row()["sessions"] == row()["since_s"] == 0
