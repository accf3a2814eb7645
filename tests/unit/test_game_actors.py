"""Players and matches as actors of a running host: turns, tells, timers, what is stored."""

import asyncio
import inspect
from typing import Any

import pytest
from msgspec.structs import replace

from game.app import App
from game.match import codes, rules
from game.match.actor import Match
from game.match.events import Property
from game.match.face import MatchFace
from game.match.messages import MatchDescribe
from game.messages import (
    Kill,
    MatchAssigned,
    MatchCreate,
    MatchEnd,
    MatchGet,
    MatchJoin,
    MatchLeave,
    MatchOptions,
    MatchReport,
    MatchStart,
    MatchTick,
    Medal,
    Objective,
    Saved,
)
from game.party.actor import Party
from game.party.face import PartyFace
from game.player.actor import Player
from game.player.face import PlayerFace
from game.player.messages import PresenceField, PresenceGet, PresenceSet, ProfileGet, ProfileSet, RichPresence
from game.replay import MATCH, verify
from server.actors.actor import Actor
from server.actors.app import QueryRoute
from server.actors.devices import UNKNOWN_SESSION, Login
from server.errors import BadInput, NotFound, Rejected, Unavailable
from server.ids import actor_id
from tests.support.engine import TestSystem, cluster
from tests.support.game import FAST, HOST, MATCH_LIST, Client, player, running, session
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time


async def presence(system: TestSystem, name: str, by: str = "watcher") -> Any:
    return await Client(system, player(by)).send(PresenceGet(1, name))


async def live_match(system: TestSystem, match: str = "m", **options: Any) -> Client:
    """A live match of ann and bob, who are connected; returns its host."""
    game_host = Client(system, HOST)
    await game_host.command(MatchCreate, match, MatchOptions(**{"countdown_ms": 0, **options}))
    for name in ("ann", "bob"):
        await session(system, name)
        await Client(system, player(name)).command(MatchJoin, match)
    await game_host.command(MatchStart, match)
    return game_host


def no_lease(system: TestSystem, patch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object) -> bool:
        raise Unavailable("planted: no lease")

    for name in ("accept", "accept_logged"):
        patch.setattr(system.durability, name, refuse)


# ---- players -----------------------------------------------------------------------------------


async def test_a_player_comes_and_goes_with_its_sessions() -> None:
    async with running() as system:
        ann = actor_id("player", "ann")
        assert (await presence(system, "ann")).status == "offline"
        for name in ("s1", "s2", "s2"):
            await system.ask(ann, "connected", (player("ann", name),))
        await system.ask(ann, "disconnected", (player("ann", "s1"), "closed"))
        assert (await presence(system, "ann")).status == "online"
        await system.ask(ann, "disconnected", (player("ann", "s2"), "closed"))
        gone = await presence(system, "ann")
        assert gone.status == "offline" and gone.last_seen_ms > 0


async def test_a_player_that_leaves_while_nothing_can_be_stored_is_offline_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running() as system:
        await session(system, "ann")
        with monkeypatch.context() as patch:
            no_lease(system, patch)
            with pytest.raises(Unavailable):
                await session(system, "ann", opened=False)

        async def offline() -> bool:
            return bool((await presence(system, "ann")).status == "offline")

        await until(offline, 60.0)


async def test_a_heartbeat_changes_the_status_and_nothing_else() -> None:
    async with running() as system:
        ann = actor_id("player", "ann")
        await session(system, "ann")
        activation = system.find(ann)
        assert activation is not None
        version, boundary = activation.version, activation.boundary
        for _ in range(10):
            assert activation.call("beat", (player("ann"), None)) is None
            activation.call("beat", (player("ann"), "online"))
        assert (activation.version, activation.boundary) == (version, boundary)
        activation.call("beat", (player("ann"), "busy"))
        assert activation.version == version + 1
        assert (await presence(system, "ann")).status == "busy"
        with pytest.raises(Rejected):
            activation.call("beat", (player("ann"), "asleep"))


async def test_a_session_that_its_player_does_not_know_is_asked_for_its_login() -> None:
    """The activation was lost with its node and is another one now."""
    async with running() as system:
        ann = actor_id("player", "ann")
        for call in (("beat", (player("ann"), None)), ("presence_set", (player("ann"), PresenceSet(7, "busy")))):
            with pytest.raises(Rejected) as caught:
                await system.ask(ann, *call)
            assert caught.value.code == UNKNOWN_SESSION
        assert (await presence(system, "ann")).status == "offline"
        await session(system, "ann")
        await system.ask(ann, "beat", (player("ann"), None))
        assert (await presence(system, "ann")).status == "online"


async def test_a_session_that_is_over_beats_no_more_though_it_was_the_last_that_did() -> None:
    async with running() as system:
        ann, first, later = actor_id("player", "ann"), player("ann"), replace(player("ann"), session="later")
        for ended_by in ("disconnected", "connected"):
            await system.ask(ann, "connected", (first,))
            activation = system.find(ann)
            assert activation is not None
            for _ in range(3):
                activation.call("beat", (first, None))
            if ended_by == "disconnected":
                activation.call("disconnected", (first, "closed"))
            else:
                activation.call("connected", (later, Login("later", node="n1", incarnation=1, number=1)))
            with pytest.raises(Rejected) as caught:
                activation.call("beat", (first, None))
            assert caught.value.code == UNKNOWN_SESSION
            first = replace(first, session="again")


async def test_presence_is_set_and_hidden() -> None:
    async with running() as system:
        await session(system, "ann")
        ann = Client(system, player("ann"))
        saved = await ann.send(PresenceSet(7, "away", "Slayer on Recharge, 24-19"))
        assert saved == Saved(7, "player/ann", 2)
        assert (await ann.send(PresenceSet(8, "away", "In menus"))).version == 2, "the line is not stored"
        seen = await presence(system, "ann")
        assert (seen.status, seen.activity) == ("away", "In menus")
        await ann.send(PresenceSet(9, "invisible"))
        assert (await presence(system, "ann")).status == "offline"
        assert (await presence(system, "ann", by="ann")).status == "invisible"


async def test_a_profile_does_not_tell_others_of_what_an_invisible_player_does() -> None:
    async with running() as system:
        ann, bob = Client(system, player("ann")), Client(system, player("bob"))
        await session(system, "ann")
        await ann.send(ProfileSet(1, "c", 1, "Ann"))
        await ann.send(PresenceSet(2, "invisible"))
        before, own = await bob.send(ProfileGet(3, "ann")), await ann.send(ProfileGet(3, "ann"))
        await session(system, "ann", opened=False)
        await session(system, "ann")
        await live_match(system)
        await until(lambda: system.find(actor_id("player", "ann")).boundary.match == "m")  # type: ignore[union-attr]
        assert await bob.send(ProfileGet(3, "ann")) == before
        assert (await ann.send(ProfileGet(3, "ann"))).version > own.version, "planted: it did something"
        changed = await ann.send(ProfileSet(4, "c", 2, "Annie"))
        assert (await bob.send(ProfileGet(3, "ann"))).version == changed.version


async def test_rich_presence_is_answered_and_ends_with_its_session() -> None:
    async with running() as system:
        phone, console = (Client(system, player("ann", name)) for name in ("phone", "console"))
        for name in ("phone", "console"):
            await system.ask(actor_id("player", "ann"), "connected", (player("ann", name),))
        await phone.send(PresenceSet(1, "online", "In the menu"))
        rich = RichPresence("Slayer", "Recharge", fields=[PresenceField("clan", "red")])
        await console.send(PresenceSet(2, "busy", "On Recharge", rich))
        seen = await presence(system, "ann")
        assert (seen.status, seen.activity, seen.rich) == ("busy", "On Recharge", rich)
        twice = replace(rich, fields=rich.fields * 2)
        with pytest.raises(Rejected) as caught:
            await console.send(PresenceSet(3, "away", "", twice))
        assert caught.value.code == "bad_presence" and await presence(system, "ann") == seen
        await system.ask(actor_id("player", "ann"), "disconnected", (player("ann", "console"), "closed"))
        seen = await presence(system, "ann")
        assert (seen.status, seen.activity, seen.rich) == ("busy", "In the menu", None)


async def test_heartbeats_of_two_devices_do_not_take_turns() -> None:
    async with running() as system:
        phone, console = player("ann", "phone"), player("ann", "console")
        for caller in (phone, console):
            await system.ask(actor_id("player", "ann"), "connected", (caller,))
        activation = system.find(actor_id("player", "ann"))
        assert activation is not None
        activation.call("beat", (console, "online"))
        await Client(system, phone).send(PresenceSet(1, "invisible"))
        version = activation.version
        for _ in range(3):
            activation.call("beat", (console, "online"))
            activation.call("beat", (phone, "invisible"))
        assert activation.version == version, "and a device that repeats itself makes nobody visible"
        activation.call("beat", (console, "busy"))
        assert (await presence(system, "ann")).status == "busy"
        activation.call("beat", (console, "away"))
        assert (await presence(system, "ann")).status == "busy", "the phone is not away"
        activation.call("beat", (phone, "online"))
        await system.ask(actor_id("player", "ann"), "disconnected", (phone, "closed"))
        assert (await presence(system, "ann")).status == "away", "whoever is left is"


async def test_a_profile_is_stored_once_a_command() -> None:
    async with running() as system:
        ann = Client(system, player("ann"))
        with pytest.raises(NotFound):
            await ann.send(ProfileGet(1, "ann"))
        await session(system, "ann")
        first = await ann.send(ProfileSet(2, "c", 1, "Ann", "sword"))
        assert (await ann.send(ProfileSet(3, "c", 1, "Ann", "sword"))) == Saved(3, first.entity, first.version)
        second = await ann.send(ProfileSet(4, "c", 2, "Annie"))
        assert second.version == first.version + 1
        profile = await Client(system, player("bob")).send(ProfileGet(5, "ann"))
        assert (profile.display_name, profile.version) == ("Annie", second.version)

        async def stored() -> bool:
            rows = await system.store.read("player", [actor_id("player", "ann")])
            return bool(rows) and rows[actor_id("player", "ann")].state_version == second.version

        await until(stored)


async def test_a_player_that_was_loaded_as_connected_goes_offline() -> None:
    async with running() as system:
        await session(system, "ann")
        await system.catalog.deactivate(list(system.catalog.live.values()))

        async def offline() -> bool:
            return (await presence(system, "ann")).status == "offline"

        assert not await offline()
        await until(offline, 60.0)


# ---- matches -----------------------------------------------------------------------------------


async def test_an_unknown_match_leaves_no_trace() -> None:
    async with running() as system:
        client = Client(system, HOST)
        with pytest.raises(NotFound):
            await client.send(MatchGet(1, "nothing"))
        with pytest.raises(NotFound):
            await client.command(MatchStart, "nothing")
        with pytest.raises(NotFound):
            await client.send(MatchTick(1, "nothing", 5))
        with pytest.raises(NotFound):
            await system.ask(actor_id("match", "watched"), "attach", ("node-1", 1))
        with pytest.raises(NotFound):
            await system.ask(actor_id("match", "nothing"), "player_gone", ("ann",))
        assert not system.catalog.live and not system.store.database.entities


async def test_a_look_at_an_unknown_player_leaves_no_trace() -> None:
    async with running() as system:
        with pytest.raises(NotFound):
            await Client(system, player("ann")).send(ProfileGet(1, "nobody"))
        assert (await presence(system, "nobody")).status == "offline"
        assert not system.catalog.live and not system.store.database.entities


async def test_a_player_in_memory_is_told_to_operators_with_its_devices() -> None:
    async with running() as system:
        assert (await system.query("player_here", {"player": "ann"})).rows == []
        ann = Client(system, player("ann"))
        await system.ask(actor_id("player", "ann"), "connected", (player("ann"),))
        await ann.send(PresenceSet(1, "invisible", "In the menu", RichPresence("slayer")))
        (row,) = (await system.query("player_here", {"player": "ann"})).rows
        assert (row["status"], row["activity"], row["rich"]["mode"], row["party"]) == (
            "invisible", "In the menu", "slayer", "",
        )  # fmt: skip
        assert [(line["status"], line["activity"]) for line in row["devices"]] == [("invisible", "In the menu")]
        with pytest.raises(BadInput):
            await system.query("player_here", {})


async def test_a_match_from_lobby_to_result() -> None:
    async with running() as system:
        game_host = await live_match(system, score_limit=2)
        assert [(subject, message) for subject, message in system.published.pushes] == [
            ("ann", MatchAssigned(0, "m")),
            ("bob", MatchAssigned(0, "m")),
        ]

        async def in_match() -> bool:
            return (await presence(system, "ann")).match == "m"

        await until(in_match)
        answer = await game_host.command(MatchReport, "m", [Kill(10, "ann", "bob"), Medal(10, "ann", "Snipe")])
        assert answer.next_seq - answer.first_seq == 2
        await game_host.send(MatchTick(1, "m", 5_000))
        board = await Client(system, player("ann")).send(MatchGet(3, "m"))
        assert (board.phase, board.team_scores, board.time_ms) == ("live", [1, 0], 5_000)
        rows = (await system.query("live_matches", {})).rows
        assert [(row["match"], row["players"], row["team_scores"]) for row in rows] == [("m", 2, [1, 0])]
        last = await game_host.command(MatchReport, "m", [Kill(6_000, "ann", "bob")])
        assert last.next_seq - last.first_seq == 2, "the end came with it"
        await asyncio.sleep(App.shared_s["live_matches"])
        assert (await system.query("live_matches", {})).rows == []

        async def settled() -> bool:
            rows = await system.store.read("player", [actor_id("player", "ann"), actor_id("player", "bob")])
            states = [row.state for row in rows.values()]
            return len(states) == 2 and all(state.matches == 1 and not state.match for state in states)

        await until(settled)
        rows = await system.store.read("player", [actor_id("player", "ann")])
        ann = rows[actor_id("player", "ann")].state
        assert (ann.wins, ann.kills, ann.deaths, ann.medals) == (1, 2, 0, 1)
        activation = system.find(actor_id("match", "m"))
        assert activation is not None
        await until(lambda: activation.retiring)
        await until(lambda: activation.has_told_all)
        log = await system.logs.read_log("match", actor_id("match", "m"))
        assert log is not None
        report = verify(log)
        assert report.end_hash and report.state == activation.boundary


async def test_results_are_told_again_when_the_match_is_loaded_and_count_once() -> None:
    async with running() as system:
        game_host = await live_match(system)
        await game_host.command(MatchReport, "m", [Kill(10, "ann", "bob")])
        await game_host.command(MatchEnd, "m", 20)
        for _ in range(3):
            activation = system.find(actor_id("match", "m"))
            assert activation is not None
            await until(lambda activation=activation: activation.retiring and activation.idle)  # type: ignore[misc]
            await system.catalog.deactivate([activation])
            assert (await game_host.send(MatchGet(1, "m"))).phase == "ended"
        profile = await game_host.send(ProfileGet(1, "ann"))
        assert (profile.matches, profile.wins, profile.kills) == (1, 1, 1)


async def test_a_repeated_command_gets_the_first_answer_also_after_a_reload() -> None:
    async with running() as system:
        await live_match(system, score_limit=0)
        client = Client(system, HOST)
        message = MatchReport(1, "again", 5, "m", [Kill(10, "ann", "bob"), Medal(10, "ann", "Snipe")])
        first = await client.send(message)
        assert await client.send(message) == first
        activation = system.find(actor_id("match", "m"))
        assert activation is not None
        assert await system.catalog.deactivate([activation]) == 1
        assert await client.send(message) == first
        board = await client.send(MatchGet(1, "m"))
        assert board.next_seq == first.next_seq


async def test_a_countdown_runs_out_by_itself() -> None:
    async with running() as system:
        client = await live_match(system, countdown_ms=30)

        async def live() -> bool:
            return bool((await client.send(MatchGet(1, "m"))).phase == "live")

        await until(live)


async def test_a_countdown_goes_on_where_it_was_when_its_match_is_brought_back() -> None:
    """F63: after ten of fifteen seconds."""
    async with running() as system:
        loop = asyncio.get_running_loop()
        client = await live_match(system, countdown_ms=15_000)
        began = loop.time()
        await asyncio.sleep(10.0)
        activation = system.find(actor_id("match", "m"))
        assert activation is not None and await system.catalog.deactivate([activation]) == 1
        assert (await client.send(MatchGet(1, "m"))).phase == "countdown"

        async def live() -> bool:
            return bool((await client.send(MatchGet(1, "m"))).phase == "live")

        await until(live, 20.0)
        assert 14.9 < loop.time() - began < 15.5


async def test_a_world_of_weeks_is_brought_back_where_it_was() -> None:
    week_ms = 7 * 86_400_000
    async with running() as system:
        client = await live_match(system, mode="custom", time_limit_ms=10 * week_ms)
        for week in range(1, 9):
            await client.command(MatchReport, "m", [Objective(week * week_ms, "ann", "harvest", 10)])
            activation = system.find(actor_id("match", "m"))
            assert activation is not None and await system.catalog.deactivate([activation]) == 1
        await client.send(MatchTick(1, "m", 9 * week_ms))
        board = await client.send(MatchGet(1, "m"))
        assert (board.phase, board.time_ms, board.players[0].score) == ("live", 9 * week_ms, 80)
        await client.send(MatchTick(1, "m", 11 * week_ms))
        board = await client.send(MatchGet(1, "m"))
        assert (board.phase, board.end_reason) == ("ended", "time")


async def test_a_match_says_its_rules_and_what_it_is_searched_by() -> None:
    async with running() as system:
        host = Client(system, HOST)
        await host.command(MatchCreate, "m", MatchOptions(mode="oddball"), "", [Property("region", "eu")], ["ranked"])
        again = MatchDescribe(1, "l", 1, "m", [Property("rank", 7)], ["ranked", "night"])
        first = await host.send(again)
        assert await host.send(again) == first and first.next_seq == first.first_seq + 1
        board = await host.send(MatchGet(1, "m"))
        assert (board.mode, board.rules, board.respawn_ms, board.rounds_played) == ("oddball", 1, 5_000, 0)
        assert board.properties == [Property("rank", 7), Property("region", "eu")]
        assert board.tags == ["ranked", "night"]
        route = App.routes[type(MATCH_LIST)]
        assert isinstance(route, QueryRoute)
        (row,) = (await system.query(route.query, route.params(HOST, MATCH_LIST))).rows
        assert (row["properties"], row["tags"]) == ([["rank", 7], ["region", "eu"]], ["ranked", "night"])


async def test_a_silent_host_has_vanished() -> None:
    async with running() as system:
        client = await live_match(system)

        async def over() -> bool:
            return bool((await client.send(MatchGet(1, "m"))).end_reason == "host_vanished")

        await until(over, 60.0)


async def test_a_host_has_vanished_also_where_its_last_word_could_not_be_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running() as system:
        client = await live_match(system)
        with monkeypatch.context() as patch:
            no_lease(system, patch)
            with pytest.raises(Unavailable):
                await client.command(MatchEnd, "m", 5)

        async def over() -> bool:
            return bool((await client.send(MatchGet(1, "m"))).end_reason == "host_vanished")

        await until(over, 60.0)


async def test_a_player_that_stays_away_leaves_its_match(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as system:
        client = await live_match(system)

        async def in_match() -> bool:
            return bool((await presence(system, "bob", by="bob")).match == "m")

        async def present() -> list[str]:
            return [line.player for line in (await client.send(MatchGet(1, "m"))).players if line.present]

        await until(in_match)
        await session(system, "bob", opened=False)

        async def gone() -> bool:
            return await present() == ["ann"]

        await until(gone, 60.0)
        await session(system, "bob")
        await Client(system, player("bob")).command(MatchJoin, "m")
        assert await present() == ["ann", "bob"]
        await Client(system, player("bob", "s2")).send(MatchLeave(1, "other", 1, "m"))
        assert await present() == ["ann"]


async def test_the_board_shows_what_happened() -> None:
    async with running() as system:
        client = await live_match(system)
        await client.command(MatchReport, "m", [Kill(10, "ann", "bob")])
        (board,) = (await system.query("match_board", {"match": "m"})).rows
        assert board["feed"][0]["what"] == "kill"
        assert {line["player"] for line in board["players"]} == {"ann", "bob"}
        route = App.routes[type(MATCH_LIST)]
        assert isinstance(route, QueryRoute)
        rows = (await system.query(route.query, route.params(HOST, MATCH_LIST))).rows
        assert route.merge is not None
        answer: Any = route.answer(MATCH_LIST, route.merge(rows), ["node-2"])
        assert [row.match for row in answer.matches] == ["m"] and answer.missing == ["node-2"]


async def test_a_player_and_a_host_of_one_name_do_not_answer_for_each_other() -> None:
    """F52: nor do two kinds of command of one number."""
    async with running() as system:
        game_host = await live_match(system)
        await session(system, HOST.subject)
        twin = Client(system, player(HOST.subject))
        twin.lineage, twin.commands = game_host.lineage, game_host.commands
        joined = await twin.command(MatchJoin, "m")
        reported = await game_host.command(MatchReport, "m", [Kill(10, "ann", "bob")])
        assert (reported.first_seq, reported.next_seq) == (joined.next_seq, joined.next_seq + 1)
        twin.commands -= 1
        left = await twin.command(MatchLeave, "m")
        assert (left.first_seq, left.next_seq) == (reported.next_seq, reported.next_seq + 1)
        for client, cls, rest, answer in ((game_host, MatchReport, ([Kill(10, "ann", "bob")],), reported),
                                          (twin, MatchJoin, (), joined), (twin, MatchLeave, (), left)):  # fmt: skip
            client.commands -= 1
            assert await client.command(cls, "m", *rest) == answer


async def test_a_command_that_an_earlier_version_has_logged_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """F52: without role and kind."""
    async with running() as system:
        game_host = await live_match(system)
        with monkeypatch.context() as earlier:
            earlier.setattr(
                "game.match.actor._scoped", lambda caller, message: rules.scoped_before(caller.subject, message.lineage)
            )
            first = await game_host.command(MatchReport, "m", [Kill(10, "ann", "bob")])
        game_host.commands -= 1
        assert await game_host.command(MatchReport, "m", [Kill(10, "ann", "bob")]) == first
        following = await game_host.command(MatchReport, "m", [Kill(20, "ann", "bob")])
        assert following.first_seq == first.next_seq


def test_every_request_has_a_route_and_every_rule_a_sentence() -> None:
    assert set(App.routes) == set(App.requests)
    assert all(codes.CODES.values())


# ---- moves -------------------------------------------------------------------------------------


async def test_a_player_and_a_live_match_move_with_what_is_in_memory_only() -> None:
    async with cluster(("node-1", "node-2"), app=App, **FAST) as world:
        source, target = world.systems.values()
        for system in (source, target):
            system.misplaced.home = lambda actor, system=system: system.me  # type: ignore[method-assign,misc]
        game_host = await live_match(source)
        await game_host.send(MatchTick(1, "m", 7_000))
        await Client(source, player("ann")).send(PresenceSet(7, "away", "Slayer on Recharge"))
        ids = [actor_id("player", "ann"), actor_id("match", "m")]
        homes = [next(system for system in (source, target) if system.find(identity) is not None) for identity in ids]
        for identity, home in zip(ids, homes, strict=True):
            activation, other = home.find(identity), target if home is source else source
            assert activation is not None
            assert await home.migrator.move([activation], other.me) == 1
            assert other.find(identity) is not None
        seen = await presence(source, "ann")
        assert (seen.status, seen.activity) == ("away", "Slayer on Recharge")
        board = await Client(target, HOST).send(MatchGet(2, "m"))
        assert board.time_ms == 7_000
        match = (target if homes[1] is source else source).find(ids[1])
        assert match is not None and match.timers == 1
        await game_host.command(MatchReport, "m", [Kill(9_000, "ann", "bob")])
        await game_host.command(MatchEnd, "m", 10_000)


@pytest.mark.parametrize(("face", "actor"), [(MatchFace, Match), (PlayerFace, Player), (PartyFace, Party)])
def test_an_actor_has_every_method_of_its_face(face: type[Actor[Any]], actor: type[Actor[Any]]) -> None:
    methods = [name for name, value in vars(face).items() if inspect.isfunction(value)]
    assert methods and (actor.kind, actor.State) == (face.kind, face.State)
    for name in methods:
        parts = actor.__mro__[: actor.__mro__.index(face)]
        assert any(name in vars(part) for part in parts), f"{actor.__name__} lacks {name}"
        assert inspect.signature(getattr(actor, name)) == inspect.signature(getattr(face, name))


def test_the_log_of_a_match_is_described_in_one_way() -> None:
    assert Match.logged_kind() == MATCH
