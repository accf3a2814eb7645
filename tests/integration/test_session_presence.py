"""Players who watch players, through the gateway: a snapshot, then the newest of what changed, and never what they may
not see. The engine of presence is a test's (`tests/support/presences.py`)."""

import asyncio
from typing import Any

import pytest

from server.errors import Unavailable
from server.wire.messages import PresenceList, PresenceWatch
from tests.support.waiting import until
from tests.support.watchers import (
    Circle,
    StrangersApp,
    Watcher,
    back,
    looks,
    watched,
    watcher,
)

pytestmark = pytest.mark.virtual_time


@pytest.mark.parametrize("format", ["msgpack", "json"])
async def test_a_watcher_gets_a_snapshot_and_then_what_changes(format: str) -> None:
    async with watched() as world:
        world.show("anna", looks("on", ["on", "é"]))
        world.relate("v", 1, ["anna"])
        viewer = await watcher(world, "node-1", "v", format=format)
        answer = await viewer.watch("anna", "ben")
        assert answer == ["presence.watched", answer[1], viewer.cursor, 2, []]
        assert viewer.picture == {"anna": ["on", "é"], "ben": "gone"}
        world.show("ben", looks("here"))
        await viewer.shows({"anna": ["on", "é"], "ben": "here"})
        assert [[item[0] for item in frame[2]] for frame in viewer.frames] == [["anna", "ben"], ["ben"]]
        await viewer.unwatch("anna", "ben")
        world.show("ben", looks("again"))
        await viewer.quiet()
        assert world.engines["node-1"].entries == {}
        assert world.world.nodes["node-1"].metrics.presence_watched == 0


async def test_a_bad_name_among_2000_is_named_and_the_others_are_watched() -> None:
    async with watched(gateway={"latest_tick_ms": 20, "max_frame_bytes": 65_536}) as world:
        viewer = await watcher(world, "node-1", "v", "service")
        names = [f"p{number}" for number in range(1_998)]
        answer = await viewer.watch(*names[:700], "no/name", "", *names[700:])
        assert answer[3:] == [1_998, ["no/name", ""]]
        assert viewer.picture == dict.fromkeys(names, "gone")


async def test_a_request_past_its_bound_is_refused_whole_with_the_bound() -> None:
    async with watched(presence={"max_watched": 3, "max_watched_here": 5}) as world:
        viewer = await watcher(world, "node-1", "v", "service")
        refused = await viewer.client.ask(PresenceWatch, [f"p{number}" for number in range(2_001)])
        assert refused[0] == "error" and refused[2] == "bad_frame" and "2000" in refused[3]
        refused = await viewer.client.ask(PresenceList, [f"p{number}" for number in range(201)])
        assert refused[2] == "bad_frame" and "200" in refused[3]
        refused = await viewer.watch("a", "b", "c", "d")
        assert refused[2] == "too_many_watched" and "3" in refused[3]
        assert world.engines["node-1"].entries == {}
        assert (await viewer.watch("a", "b", "c"))[3] == 3
        assert (await viewer.watch("a", "b"))[3] == 3  # watched already
        other = await watcher(world, "node-1", "w", "service")
        refused = await other.watch("a", "b", "c")
        assert refused[2] == "overloaded" and "5" in refused[3]
        assert (await other.watch("a", "x"))[3] == 2


async def test_presence_is_not_among_the_64_topics() -> None:
    async with watched(gateway={"latest_tick_ms": 20, "max_subscriptions": 1}) as world:
        viewer = await watcher(world, "node-1", "v", "service")
        assert (await viewer.watch(*(f"p{number}" for number in range(100))))[3] == 100


async def test_a_version_that_the_client_has_is_left_out() -> None:
    async with watched() as world:
        world.show("anna", looks("on"))
        viewer = await watcher(world, "node-1", "v", "service")
        await viewer.watch("anna", "ben", "carl")
        world.show("ben", looks("on"))
        await viewer.shows({"anna": "on", "ben": "on", "carl": "gone"})
        versions = dict(viewer.versions)
        assert versions["anna"] == versions["ben"] != versions["carl"]
        frames = len(viewer.frames)
        world.engines["node-1"].shown.pop("carl", None)
        assert (await viewer.watch("anna", "ben", "carl", seen=True))[3] == 3
        assert viewer.frames[frames:] == []
        world.engines["node-1"].show("carl", looks("on"))
        await viewer.shows({"anna": "on", "ben": "on", "carl": "on"})


async def test_a_snapshot_is_chunked_and_the_cursor_comes_with_the_last_chunk() -> None:
    async with watched(gateway={"latest_tick_ms": 20, "max_frame_bytes": 4_096}) as world:
        names = [f"p{number}" for number in range(20)]
        for name in names:
            world.show(name, looks("x" * 1_000))
        viewer = await watcher(world, "node-1", "v", "service")
        answer = await viewer.watch(*names)
        assert viewer.picture == dict.fromkeys(names, "x" * 1_000)
        cursors = [frame[1] for frame in viewer.frames]
        assert len(cursors) == 7 and cursors[:-1] == [""] * 6 and cursors[-1] == answer[2]
        assert all(len(frame[2]) <= 3 for frame in viewer.frames)


async def test_several_changes_within_a_tick_are_one_frame_with_the_newest() -> None:
    async with watched() as world:
        viewer = await watcher(world, "node-1", "v", "service")
        await viewer.watch("a", "b", "c")
        for turn in range(5):
            for name in "ab":
                world.show(name, looks(turn))
        await viewer.shows({"a": 4, "b": 4, "c": "gone"})
        assert len(viewer.frames) == 2


async def test_a_change_that_is_taken_back_within_a_tick_is_none() -> None:
    async with watched() as world:
        viewer = await watcher(world, "node-1", "v", "service")
        await viewer.watch("a")
        world.show("a", looks("on"))
        world.show("a", None)
        await viewer.quiet()
        world.show("a", looks("on", "more"))
        world.show("a", None)
        world.show("a", looks("gone", "changed"))  # the same for everybody
        await viewer.quiet()


async def test_not_known_right_now_is_said_as_such() -> None:
    async with watched() as world:
        world.show("anna", looks("on"))
        viewer = await watcher(world, "node-1", "v", "service")
        await viewer.watch("anna")
        world.lose("anna")
        await viewer.shows({"anna": "?"})
        world.found("anna")
        await viewer.shows({"anna": "on"})


async def test_levels_follow_from_relations_and_are_asked_once() -> None:
    async with watched() as world:
        for name in ("friend", "stranger", "blocked", "v"):
            world.show(name, looks("e", "f", "o"), relations=3)
        world.relate("v", 3, ["friend"], ["blocked"])
        viewer = await watcher(world, "node-1", "v")
        await viewer.watch("friend", "stranger", "blocked", "v")
        assert viewer.picture == {"friend": "f", "stranger": "e", "blocked": "gone", "v": "o"}
        assert Circle.asked == ["v"]
        host = await watcher(world, "node-1", "h", "host")
        await host.watch("friend", "blocked")
        assert host.picture == {"friend": "e", "blocked": "e"} and Circle.asked == ["v"]


@pytest.mark.parametrize(
    ("visibility", "seen"),
    [("status", ["f", "e", "gone"]), ("friends", ["f", "gone", "gone"]), ("everybody", ["f", "f", "gone"])],
)
async def test_the_studio_says_who_may_watch_whom(visibility: str, seen: list[str]) -> None:
    async with watched(presence={"visibility": visibility}) as world:
        for name in ("friend", "stranger", "blocked"):
            world.show(name, looks("e", "f", "o"))
        world.relate("v", 3, ["friend"], ["blocked"])
        viewer = await watcher(world, "node-1", "v")
        await viewer.watch("friend", "stranger", "blocked")
        assert list(viewer.picture.values()) == seen


async def test_new_relations_change_what_is_seen() -> None:
    async with watched() as world:
        for name in ("a", "b"):
            world.show(name, looks("e", "f"))
        world.show("same", looks("e"))
        world.relate("v", 1)
        viewer = await watcher(world, "node-1", "v")
        await viewer.watch("a", "b", "same")
        world.relate("v", 2, ["a", "same"], ["b"])
        world.show("v", looks("me"), relations=2)
        await viewer.shows({"a": "f", "b": "gone", "same": "e"})
        assert [item[0] for item in viewer.frames[-1][2]] == ["a", "b"]  # of `same` nothing else is visible
        world.show("b", looks("changed"))
        await viewer.quiet()
        assert viewer.ever["b"] == {"e", "gone"}


async def test_nothing_is_sent_while_new_relations_are_on_their_way() -> None:
    async with watched() as world:
        world.show("b", looks("e"))
        viewer = await watcher(world, "node-1", "v")
        await viewer.watch("b")
        Circle.gate = asyncio.Event()
        world.relate("v", 1, hidden=["b"])
        world.show("v", looks("me"), relations=1)
        world.show("b", looks("secret"))
        await viewer.quiet()
        Circle.gate.set()
        await viewer.shows({"b": "gone"})
        assert viewer.ever["b"] == {"e", "gone"}


async def test_relations_that_cannot_be_had_are_asked_for_again() -> None:
    async with watched() as world:
        world.show("b", looks("e"))
        viewer = await watcher(world, "node-1", "v")
        Circle.error = Unavailable("planted")
        refused = await viewer.watch("b")
        assert refused[2] == "unavailable" and world.engines["node-1"].entries == {}
        Circle.error = None
        await viewer.watch("b")
        Circle.error = Unavailable("planted")
        world.relate("v", 1, hidden=["b"])
        world.show("v", looks("me"), relations=1)
        world.show("b", looks("secret"))
        await viewer.quiet()
        Circle.error = None
        await viewer.shows({"b": "gone"})
        assert viewer.ever["b"] == {"e", "gone"}


async def test_my_friends_are_watched_as_the_list_changes() -> None:
    async with watched() as world:
        for name in ("a", "b", "c"):
            world.show(name, looks("e", "f"))
        world.relate("v", 1, ["a", "b"])
        viewer = await watcher(world, "node-1", "v")
        assert (await viewer.watch("b", friends=True))[3] == 2
        assert viewer.picture == {"a": "f", "b": "f"} and sorted(viewer.friends) == ["a", "b"]
        world.relate("v", 2, ["c"])
        world.show("v", looks("me"), relations=2)
        await viewer.shows({"b": "e", "c": "f"})
        assert sorted(world.engines["node-1"].entries) == ["b", "c", "v"]
        world.show("a", looks("unseen"))
        world.show("c", looks("e", "f2"))
        await viewer.shows({"b": "e", "c": "f2"})
        await viewer.unwatch(friends=True)
        assert viewer.friends == ["c"] and viewer.picture == {"b": "e"}
        world.relate("v", 3, ["c", "a"])
        world.show("v", looks("me"), relations=3)
        world.show("c", looks("e", "f3"))
        await viewer.quiet()
        assert sorted(world.engines["node-1"].entries) == ["b", "v"]


async def test_only_players_have_friends() -> None:
    async with watched() as world:
        host = await watcher(world, "node-1", "h", "host")
        assert (await host.watch(friends=True))[2] == "forbidden"
    async with watched(app=StrangersApp) as world:
        viewer = await watcher(world, "node-1", "v")
        assert (await viewer.watch(friends=True))[2] == "forbidden"
        world.show("a", looks("e", "f"))
        await viewer.watch("a")
        assert viewer.picture == {"a": "e"}


async def test_a_list_answers_once() -> None:
    async with watched() as world:
        for name in ("a", "b", "c"):
            world.show(name, looks("e", "f"))
        world.lose("c")
        world.relate("v", 1, ["a"], ["b"])
        for format in ("msgpack", "json"):
            viewer = await watcher(world, "node-1", "v", format=format)
            answer = await viewer.client.ask(PresenceList, ["a", "b", "c", "d", "a", "bad/"])
            assert answer[0] == "presence.listed" and answer[3] == ["bad/"]
            assert [[item[0], item[2]] for item in answer[2]] == [["a", "f"], ["b", "gone"], ["c", "?"], ["d", "gone"]]
        assert world.engines["node-1"].entries == {}
        assert world.engines["node-1"].looks == [["a", "b", "c", "d"]] * 2


async def test_an_application_without_presence_says_so() -> None:
    from tests.support.gateways import SessionApp

    async with watched(app=SessionApp) as world:
        viewer = await watcher(world, "node-1", "v")
        assert (await viewer.watch("a"))[2] == "not_found"
        assert (await viewer.client.ask(PresenceList, ["a"]))[2] == "not_found"


async def test_first_pictures_are_waited_for() -> None:
    async with watched() as world:
        engine = world.engines["node-1"]
        engine.answers = False
        world.show("a", looks("on"))
        viewer = await watcher(world, "node-1", "v", "service")
        asked = asyncio.create_task(viewer.watch("a", "b"))
        await asyncio.sleep(0.1)
        assert not asked.done() and viewer.frames == []
        engine.answer()
        await asked
        assert viewer.picture == {"a": "on", "b": "gone"} and len(viewer.frames) == 1


async def test_a_session_that_is_back_goes_on_from_its_cursor() -> None:
    async with watched() as world:
        viewer = await watcher(world, "node-1", "v")
        await viewer.watch("a", "b", "c")
        viewer.client.end.drop()
        await asyncio.sleep(0.05)
        for turn in range(3):
            world.show("a", looks(turn))
            await asyncio.sleep(0.05)
        again, goes_on = await back(world, viewer, "node-1")
        assert goes_on
        await again.shows({"a": 2, "b": "gone", "c": "gone"})
        assert [frame[2][0][0] for frame in again.frames] == ["a"] and len(again.frames[0][2]) == 1
        world.show("b", looks("on"))
        await again.shows({"a": 2, "b": "on", "c": "gone"})


async def test_a_difference_that_was_sent_and_got_lost_with_the_connection_comes_again() -> None:
    async with watched() as world:
        viewer = await watcher(world, "node-1", "v")
        await viewer.watch("a", "b", "c")
        world.show("a", looks("on"))
        await viewer.shows({"a": "on", "b": "gone", "c": "gone"})
        has = viewer.cursor
        for name in "bc":
            world.show(name, looks("lost"))
            await asyncio.sleep(0.05)  # sent, and the client never reads it
        viewer.client.end.drop()
        await asyncio.sleep(0.05)
        world.show("c", looks("newer"))
        again, goes_on = await back(world, viewer, "node-1", has)
        assert goes_on
        await again.shows({"a": "on", "b": "lost", "c": "newer"})
        assert sorted(item[0] for frame in again.frames for item in frame[2]) == ["b", "c"]


@pytest.mark.parametrize("cursor", ["", "node-1-1:999999", "node-2-1:1", "nonsense", "node-1-1:0"])
async def test_a_cursor_that_says_nothing_ends_the_watching(cursor: str) -> None:
    async with watched() as world:
        viewer = await watcher(world, "node-1", "v")
        await viewer.watch("a")
        viewer.client.end.drop()
        await asyncio.sleep(0.05)
        again, goes_on = await back(world, viewer, "node-1", cursor)
        assert not goes_on and world.engines["node-1"].entries == {}
        world.show("a", looks("on"))
        await again.quiet()
        await again.watch("a", seen=True)
        assert again.picture == {"a": "on"}


async def test_a_session_that_moves_is_dropped_and_watches_again_with_what_it_has() -> None:
    names = ("node-1", "node-2")
    async with watched(names) as world:
        subject = world.world.player_of("node-1")
        world.show("a", looks("on"))
        viewer = await watcher(world, "node-1", subject)
        await viewer.watch("a", "b")
        client = world.world.client("node-2", subject)
        assert viewer.client.welcome is not None
        answer = await client.hello(resume=viewer.client.welcome.resume, redirects=False, presence=viewer.cursor)
        assert answer[0] == "welcome" and answer[7] is True and answer[13] is False
        await until(lambda: world.engines["node-1"].entries == {})
        again = Watcher(client)
        again.picture, again.versions = dict(viewer.picture), dict(viewer.versions)
        world.show("b", looks("on"))
        await again.watch("a", "b", seen=True)
        assert again.picture == {"a": "on", "b": "on"} and [item[0] for item in again.frames[0][2]] == ["b"]


async def test_a_friend_who_is_none_any_more_is_named_to_a_client_that_watches_again() -> None:
    async with watched() as world:
        world.relate("v", 1, ["a", "b"])
        viewer = await watcher(world, "node-1", "v")
        await viewer.watch(friends=True)
        world.relate("v", 2, ["b"])
        viewer.client.end.drop()
        await asyncio.sleep(0.05)
        again, goes_on = await back(world, viewer, "node-1", "")
        assert not goes_on
        await again.watch(friends=True, seen=True)
        assert again.picture == {"b": "gone since 7"}


async def test_a_client_that_does_not_read_stays_behind_with_names_and_gets_the_newest() -> None:
    async with watched() as world:
        viewer = await watcher(world, "node-1", "v")
        await viewer.watch("a", "b")
        metrics = world.world.nodes["node-1"].metrics
        session = world.world.nodes["node-1"].gateway.table.players["v"]
        assert session.connection is not None
        session.on_blocked(session.connection)
        before = metrics.presence_differences_total
        for turn in range(20):
            world.show("a", looks(turn))
            await asyncio.sleep(0.05)
        assert session.people is not None and session.people.late is not None and len(session.people.late) == 1
        assert metrics.presence_coalesced_total == 19 and metrics.presence_differences_total == before
        session.on_writable(session.connection)
        await viewer.shows({"a": 19, "b": "gone"})
        assert metrics.presence_differences_total == before + 1


async def test_a_snapshot_waits_for_a_client_that_does_not_read() -> None:
    async with watched() as world:
        viewer = await watcher(world, "node-1", "v", "service")
        session = next(iter(world.world.nodes["node-1"].gateway.table.sessions.values()))
        asked = asyncio.create_task(viewer.watch("a", "b"))
        await asyncio.sleep(0)
        assert session.connection is not None
        session.on_blocked(session.connection)
        await asyncio.sleep(0.2)
        assert not asked.done()
        world.show("a", looks("on"))
        session.on_writable(session.connection)
        await asked
        assert viewer.picture == {"a": "on", "b": "gone"} and len(viewer.frames) == 1


async def test_a_large_request_weighs_more_than_a_message() -> None:
    async with watched() as world:
        viewer = await watcher(world, "node-1", "v", "service")
        names = [f"p{number}" for number in range(2_000)]
        refused: list[Any] = []
        for _ in range(12):
            answer = await viewer.watch(*names)
            if answer[0] == "error":
                refused.append(answer)
        assert refused and all(answer[2] == "rate_limited" and answer[4] > 0 for answer in refused)


async def test_sessions_that_end_leave_nothing_behind() -> None:
    async with watched() as world:
        watchers = [await watcher(world, "node-1", f"v{number}") for number in range(20)]
        for number, each in enumerate(watchers):
            await each.watch(*(f"v{other}" for other in range(number)), "star")
        for each in watchers[::3] + watchers[1::3] + watchers[2::3]:
            each.client.end.close(1000)
        await until(lambda: world.engines["node-1"].entries == {})
        assert world.world.nodes["node-1"].metrics.presence_watched == 0
        assert world.watches("node-1").audiences == {} and world.watches("node-1").sender._late == {}
