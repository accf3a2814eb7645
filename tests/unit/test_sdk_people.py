"""The SDK's watched players: one picture over reconnects, requests and watches that overlap."""

import asyncio
import random
from typing import Any

import pytest

import garrison
from garrison import errors
from garrison._people import Following
from garrison.messages import PlayerPicture, PresenceItem, RichPresence
from tests.support.sdk import FAST, Talk, scripted
from tests.unit.test_sdk_core import Bench

Line = list[Any]


class Watching(Bench):
    """A core whose session watches players."""

    def follow(self, *names: str, friends: bool = False) -> Following:
        following = self.core.people.follow(names, friends, self.now)
        self.look()
        return following

    def leave(self, following: Following) -> None:
        self.core.people.leave(following, self.now)
        self.look()

    def lines(self, kind: str) -> list[Line]:
        return [line for line in self.said if line[0] == kind]

    def changes(self, cursor: str, **players: Any) -> None:
        """Changes of players, each with a version by its value."""
        items = [[name, abs(hash(str(value))) % 2**50 + 1, value] for name, value in players.items()]
        self.hear("presence.changes", cursor, items)

    def answered(self, cursor: str = "c1", bad: Line | None = None) -> None:
        self.hear("presence.watched", self.lines("presence.watch")[-1][1], cursor, 1, bad or [])

    def greeted(self, recovered: bool, presence: bool) -> None:
        self.pass_until(lambda: self.core.phase == "opening")
        self.opened()
        number = self.said[-1][1]
        self.hear("welcome", number, "s", "n", "p", "player", "r", recovered, 5_000, 30_000, 65_536, 0, 0, presence)


def begun(*names: str, friends: bool = False) -> tuple[Watching, Following]:
    bench = Watching()
    bench.welcomed()
    return bench, bench.follow(*names, friends=friends)


def test_a_watch_has_its_picture_when_it_is_answered_and_then_what_changes() -> None:
    bench, following = begun("b", "a")
    assert bench.lines("presence.watch")[0][2:] == [["a", "b"], False, []]
    bench.changes("", a=1)
    assert following.phase == "asking"
    bench.changes("c1", b=1)
    bench.answered()
    assert following.phase == "live" and bench.core.people.picture(following) == {"a": 1, "b": 1}
    following.news.clear()
    bench.changes("c2", a=1, b=2)  # of `a` it has this version
    assert following.news == {"b": 2}


def test_a_resumed_session_goes_on_from_the_newest_cursor() -> None:
    bench, following = begun("a")
    bench.changes("c1", a=1)
    bench.answered("c1")
    bench.changes("c2", a=2)
    bench.changes("", a=3)
    bench.broken()
    bench.greeted(True, True)
    assert bench.lines("hello")[-1][8] == "c2"
    assert len(bench.lines("presence.watch")) == 1 and following.phase == "live"


@pytest.mark.parametrize("recovered", [True, False])
def test_a_session_that_watches_nobody_is_asked_again_with_the_versions_that_are_here(recovered: bool) -> None:
    bench, following = begun("a", "b")
    bench.hear("presence.changes", "c1", [["a", 5, "x"]])
    bench.answered("c1")
    bench.broken()
    bench.greeted(recovered, False)
    assert bench.lines("presence.watch")[-1][2:] == [["a", "b"], False, [["a", 5]]]
    assert following.phase == "asking" and bench.core.people.picture(following) == {"a": "x"}
    following.news.clear()
    bench.answered("c9")
    assert following.phase == "live" and following.news == {}
    bench.broken()
    bench.pass_until(lambda: bench.core.phase == "opening")
    bench.opened()
    assert bench.lines("hello")[-1][8] == "c9"


def test_a_request_that_the_connection_lost_is_repeated() -> None:
    bench, following = begun("a")
    bench.broken()
    bench.greeted(True, True)
    assert len(bench.lines("presence.watch")) == 2
    bench.answered()
    assert following.phase == "live"


def test_many_names_go_in_several_requests() -> None:
    names = [f"p{number}" for number in range(1_000)]
    bench, following = begun(*names)
    asked = bench.lines("presence.watch")
    assert [len(line[2]) for line in asked] == [400, 400, 200]
    for line in asked:
        assert following.phase == "asking"
        bench.hear("presence.watched", line[1], "c", 1, [])
    assert following.phase == "live"


def test_watches_that_overlap_share_what_is_known() -> None:
    bench, first = begun("a", "b")
    bench.changes("c1", a=1, b=1)
    bench.answered()
    second = bench.follow("b", "c")
    assert bench.lines("presence.watch")[-1][2] == ["c"] and second.news == {"b": 1}
    bench.changes("c2", c=1)
    bench.answered()
    bench.leave(first)
    assert bench.lines("presence.unwatch")[-1][2:] == [["a"], False]
    bench.changes("c3", b=2, a=2)  # on its way while the unwatch was
    assert bench.core.people.picture(second) == {"b": 2, "c": 1}
    assert len(bench.lines("presence.unwatch")) == 1
    bench.hear("done", bench.lines("presence.unwatch")[-1][1])
    bench.changes("c4", a=3)
    assert len(bench.lines("presence.unwatch")) == 2  # whom nobody wants is left again


def test_friends_are_whom_the_server_names() -> None:
    bench, by_name = begun("a")
    bench.changes("c1", a=1)
    bench.answered()
    friends = bench.follow(friends=True)
    assert bench.lines("presence.watch")[-1][2:] == [[], True, []]
    bench.hear("presence.friends", ["a", "b"])
    bench.changes("c2", b=1)
    bench.answered()
    assert bench.core.people.picture(friends) == {"a": 1, "b": 1}
    assert dict(friends.news) == {"a": 1, "b": 1} and bench.core.people.picture(by_name) == {"a": 1}
    friends.news.clear()
    bench.hear("presence.friends", ["c"])
    bench.hear("presence.changes", "c3", [["b", 0, None], ["c", 7, "x"]])
    assert friends.news == {"a": None, "b": None, "c": "x"}
    assert bench.core.people.picture(friends) == {"c": "x"}
    bench.leave(friends)
    assert bench.lines("presence.unwatch")[-1][2:] == [[], True]
    assert bench.core.people.values == {"a": 1}


def test_a_refused_watch_fails_alone() -> None:
    bench, good = begun("a")
    bench.answered()
    refused = bench.follow("b")
    number = bench.lines("presence.watch")[-1][1]
    bench.hear("error", number, "too_many_watched", "at most 1", None)
    assert refused.phase == "failed" and isinstance(refused.error, errors.Rejected) and good.phase == "live"
    later = bench.follow("c")
    bench.hear("error", bench.lines("presence.watch")[-1][1], "overloaded", "later", 100)
    assert later.phase == "asking"
    bench.pass_alive(1.0)
    assert [line[2] for line in bench.lines("presence.watch")] == [["a"], ["b"], ["c"], ["c"]]
    bench.answered(bad=["c"])
    assert later.phase == "live" and later.bad == ["c"]


def test_an_item_that_is_none_breaks_the_connection() -> None:
    bench, _ = begun("a")
    bench.hear("presence.changes", "c", [[1, 2, 3]])
    assert bench.core.phase == "broken" and bench.core.people.values == {}


def test_the_end_of_the_client_ends_its_watches() -> None:
    bench, following = begun("a")
    bench.core.close(bench.now)
    assert isinstance(following.error, errors.SessionClosed)


@pytest.mark.parametrize("seed", range(40))
def test_the_picture_is_the_servers_whatever_breaks(seed: int) -> None:
    """A server of its own, which loses what was on its way when a connection breaks."""
    rng = random.Random(seed)
    bench, watch = begun("a", "b")
    watches = [watch]
    truth = {name: f"{name}0" for name in "abcdef"}
    for turn in range(30):
        match rng.randrange(5):
            case 0:
                watches.append(bench.follow(*rng.sample("abcdef", 2)))
            case 1 if len(watches) > 1:
                bench.leave(watches.pop(rng.randrange(len(watches))))
            case 2:
                bench.broken()
                bench.greeted(bool(rng.randrange(2)), False)
            case 3:
                name = rng.choice("abcdef")
                truth[name] = f"{name}{turn}"
                bench.changes("c", **{name: truth[name]})
            case 4:
                for line in bench.lines("presence.watch"):
                    bench.changes("c", **{name: truth[name] for name in line[2]})
                    bench.hear("presence.watched", line[1], "c", 1, [])
    bench.broken()
    bench.greeted(True, False)
    bench.pass_s(0.1)
    for line in bench.lines("presence.watch"):
        bench.changes("c", **{name: truth[name] for name in line[2]})
        bench.hear("presence.watched", line[1], "c", 1, [])
    for each in watches:
        assert each.phase == "live" and bench.core.people.picture(each) == {name: truth[name] for name in each.names}


# ---- the shell ----


async def test_the_client_tells_of_players_and_says_when_that_may_be_old() -> None:
    gate = asyncio.Event()

    async def first(talk: Talk) -> None:
        await talk.welcome()
        asked = await talk.expect("presence.watch")
        await talk.send("presence.changes", "c1", [["a", 1, "on"], ["b", 2, "?"]])
        await talk.send("presence.watched", asked[1], "c1", 2, ["no/name"])
        await gate.wait()
        talk.drop()

    async def second(talk: Talk) -> None:
        await talk.welcome(recovered=True)
        asked = await talk.expect("presence.watch")
        assert sorted(asked[4]) == [["a", 1], ["b", 2]]
        await talk.send("presence.changes", "c2", [["b", 3, "off"]])
        await talk.send("presence.watched", asked[1], "c2", 2)
        listed = await talk.expect("presence.list")
        await talk.send("presence.listed", listed[1], [["x", 9, "on"]], ["y/"])
        await talk.idle()

    async with (
        scripted(first, second) as server,
        garrison.connect(server.url, "tok", options=FAST) as client,
        client.watch_players(["a", "b", "no/name"], str) as watch,
    ):
        assert not watch.current
        await watch.ready()
        assert watch.current and watch.bad == ["no/name"] and watch.players == {"a": "on", "b": "?"}
        assert {await anext(watch), await anext(watch)} == {("a", "on"), ("b", "?")}
        gate.set()
        assert await anext(watch) == ("b", "off")
        assert await client.presence_list(["x", "y/"], str) == {"x": "on"}
        await watch.aclose()
        assert [each async for each in watch] == []
        with pytest.raises(errors.SessionClosed):
            await watch.ready()


async def test_presences_are_pictures_of_the_game() -> None:
    shown = ["online", 0, "In a match", "m1", ["slayer", "Lockout", "3 : 1"]]
    gate = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.welcome()
        asked = await talk.expect("presence.watch")
        await talk.send("presence.friends", ["a", "b"])
        await talk.send("presence.changes", "c1", [["a", 1, shown], ["b", 2, ["unknown"]]])
        await talk.send("presence.watched", asked[1], "c1", 2)
        await gate.wait()
        await talk.send("presence.friends", ["a"])
        listed = await talk.expect("presence.list")
        await talk.send("presence.listed", listed[1], [["c", 9, ["offline", 7, "", None, None, [], "newer"]]], [])
        await talk.idle()

    async with (
        scripted(script) as server,
        garrison.connect(server.url, "tok", options=FAST) as client,
        client.watch_friends() as watch,
        asyncio.timeout(30),
    ):
        here = PlayerPicture("online", 0, "In a match", "m1", RichPresence("slayer", "Lockout", "3 : 1"))
        pictures = {"a": here, "b": PlayerPicture("unknown")}
        assert dict([await anext(watch), await anext(watch)]) == pictures == watch.players
        gate.set()
        assert await anext(watch) == ("b", None) and watch.players == {"a": here}
        assert await client.presence_list(["c"]) == {"c": PlayerPicture("offline", 7)}


def test_items_of_newer_servers_are_read() -> None:
    assert PresenceItem.from_wire(["a", 1, "x", "more"]) == PresenceItem("a", 1, "x")
