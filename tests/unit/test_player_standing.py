"""The mirror of a standing in a player: what it hears, whom it refuses, what it says to its sessions."""

import pytest

from game.app import App
from game.moderation.rules import CLOSED_BANNED, CODES, FOR_GOOD, lasts, left_s
from game.player import standing
from game.player.actor import Player
from game.player.state import PlayerState
from persistence.game.player import PlayerMapping
from server.actors.actor import Caller, Stamp
from server.errors import Rejected, from_wire
from server.ids import actor_id
from tests.support.engine import cluster

NEW = PlayerState()
ANN = actor_id("player", "ann")


def heard(state: PlayerState, version: int, banned: int = 0, muted: int = 0, tokens: int = 0) -> PlayerState:
    return standing.heard(state, Stamp(1, version), banned, "cheats", muted, tokens)


def test_an_end_comes_by_the_clock_alone() -> None:
    banned = heard(NEW, 1, banned=1_000, muted=2_000)
    assert standing.is_banned(banned, 999) and not standing.is_banned(banned, 1_000)
    assert standing.is_muted(banned, 1_999) and not standing.is_muted(banned, 2_000)
    assert not standing.is_banned(NEW, 0) and not standing.is_muted(NEW, 0)
    assert lasts(FOR_GOOD, 2**52) and left_s(FOR_GOOD, 1) is None and left_s(5_000, 1_000) == 4.0


def test_the_newest_word_of_a_standing_stays() -> None:
    banned = heard(NEW, 2, banned=1_000)
    assert heard(banned, 1) is banned
    assert heard(banned, 2) is banned
    assert heard(banned, 3).banned_until_ms == 0


def test_a_login_is_refused_with_its_reason_and_time() -> None:
    error = standing.login_refusal(heard(NEW, 1, banned=5_000), 0, 1_000)
    assert error is not None
    assert (error.code, error.message, error.retry_after_s) == ("banned", "banned: cheats", 4.0)
    good = standing.login_refusal(heard(NEW, 1, banned=FOR_GOOD), 0, 1_000)
    assert good is not None and good.retry_after_s is None
    assert standing.login_refusal(heard(NEW, 1, banned=5_000), 0, 5_000) is None


def test_a_token_is_refused_that_was_issued_before_a_revocation() -> None:
    revoked = heard(NEW, 1, tokens=5_000)
    error = standing.login_refusal(revoked, 4_999, 9_000)
    assert error is not None and (error.code, error.retry_after_s) == ("revoked", None)
    assert standing.login_refusal(revoked, 5_000, 9_000) is None


def test_a_refusal_keeps_its_time_between_nodes() -> None:
    error = from_wire("banned", "banned: cheats", 4.0)
    assert isinstance(error, Rejected) and error.retry_after_s == 4.0


def test_the_mirror_is_stored() -> None:
    mapping = PlayerMapping()
    state = standing.heard(NEW, Stamp(3, 4), 5_000, "cheats", 6_000, 7_000)
    columns = mapping.encode([state])
    assert mapping.decode([column[0] for column in columns]) == state


@pytest.mark.virtual_time
async def test_a_player_ends_its_sessions_at_a_ban_and_takes_none() -> None:
    async with cluster(app=App) as world:
        system = world.systems["node-1"]
        caller = Caller("player", "ann", "s1")
        await system.ask(ANN, "connected", (caller,))
        until_ms = world.clock.wall_ms() + 60_000
        word = (Stamp(1, 1), until_ms, "cheats", 0, 0)
        await system.ask(ANN, "standing", word)
        assert system.published.ends == [("ann", CLOSED_BANNED, "banned: cheats")]
        await system.ask(ANN, "standing", word)
        assert len(system.published.ends) == 1, "it was heard before"
        with pytest.raises(Rejected) as caught:
            await system.ask(ANN, "connected", (Caller("player", "ann", "s2"),))
        assert caught.value.code == "banned"
        await system.ask(ANN, "standing", (Stamp(1, 2), 0, "", 0, 0))
        await system.ask(ANN, "connected", (Caller("player", "ann", "s2"),))


@pytest.mark.virtual_time
async def test_a_subject_that_never_was_can_be_banned() -> None:
    async with cluster(app=App) as world:
        system = world.systems["node-1"]
        await system.ask(ANN, "standing", (Stamp(1, 1), FOR_GOOD, "", 0, 0))
        with pytest.raises(Rejected) as caught:
            await system.ask(ANN, "connected", (Caller("player", "ann", "s2"),))
        assert (caught.value.message, caught.value.retry_after_s) == ("banned", None)


def test_every_code_of_the_mirror_is_published() -> None:
    assert set(CODES) <= set(App.codes)
    assert Player.standing.remote  # type: ignore[attr-defined]
