"""Friends and parties of bots, and the comparison of their pictures with the truth: a wrong one is counted."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from garrison import GarrisonError
from garrison.errors import NotFound, Rejected, Unavailable
from garrison.messages import (
    Accepted,
    Friendship,
    PartyCreate,
    PartyGet,
    PartyInbox,
    PartyInfo,
    PartyInvite,
    PartyInvites,
    PartyJoin,
    PartyMember,
    PartyPlay,
    PlayerPicture,
    Presence,
    RichPresence,
    Saved,
)
from garrison_bots.circles import Band, Circle, Ring
from garrison_bots.ledger import Ledger
from garrison_bots.pictures import KNOWN_S, LOOK_AGAIN_S, check, fault

pytestmark = pytest.mark.virtual_time

PLAYS = Presence("b", "online", "slayer on Streets", "m-1", 17, RichPresence("slayer", "Streets"))
SLAYER = RichPresence("slayer", "Streets")
ITS_PICTURE = PlayerPicture("online", 0, "slayer on Streets", "m-1", SLAYER)
AWAY = Presence("b", "offline", "", None, 17)


# ---- one picture ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("picture", "truth", "here", "why"),
    [
        (ITS_PICTURE, PLAYS, True, ""),
        (PlayerPicture("offline", 17), AWAY, False, ""),
        (None, PLAYS, True, "no picture"),
        (replace(ITS_PICTURE, match="m-0"), PLAYS, True, "match 'm-0'"),
        (replace(ITS_PICTURE, rich=RichPresence("slayer")), PLAYS, True, "rich "),
        (replace(ITS_PICTURE, status="busy"), PLAYS, True, "status 'busy'"),
        (PlayerPicture("online"), PLAYS, True, "activity ''"),  # as to a stranger
        (PlayerPicture("offline", 16), AWAY, False, "last seen at 16"),
        (ITS_PICTURE, AWAY, False, "it is 'offline'"),
        (PlayerPicture("offline", 17), AWAY, True, "it is connected"),  # though the player's actor says the same
        (PlayerPicture("unknown"), Presence("b", "unknown", "", None, 17), False, "'unknown'"),
    ],
)
def test_a_picture_is_right_or_why_it_is_not(picture: Any, truth: Presence, here: bool, why: str) -> None:
    found = fault(picture, truth, here)
    assert why in found and bool(found) == bool(why)


# ---- all pictures ---------------------------------------------------------------------------


class Truths:
    """A client that says who the friends are and how they are; `looks` is called at each question."""

    def __init__(self, friends: list[str], truth: Presence, looks: Callable[[], None] = lambda: None) -> None:
        self.connected = True
        self.friends = self
        self._friends, self._truth, self._looks = friends, truth, looks
        self.error: GarrisonError | None = None

    async def list(self, state: str) -> AsyncIterator[Friendship]:
        assert state == "friend"
        for name in self._friends:
            yield Friendship(name, "friend", 1)

    async def get_presence(self, player: str) -> Presence:
        self._looks()
        if self.error is not None:
            raise self.error
        return self._truth


class Bot:
    def __init__(self, name: str, client: Truths, **pictures: Any) -> None:
        self.name, self.client, self.pictures = name, client, pictures


async def checked(*bots: Bot) -> tuple[int, int, list[str]]:
    found = await check(cast(Any, {bot.name: bot for bot in bots}), patience_s=3.0)
    return found.compared, found.wrong, found.wrong_in


def friend_b() -> Bot:
    return Bot("b", Truths([], PLAYS))


async def test_right_pictures_of_all_bots_are_counted_at_once() -> None:
    bots = [Bot(f"a{number}", Truths(["b"], PLAYS), b=ITS_PICTURE) for number in range(40)]
    assert await checked(*bots, friend_b()) == (40, 0, [])


async def test_a_planted_wrong_picture_counts_and_is_named() -> None:
    wrong = Bot("a", Truths(["b"], PLAYS), b=replace(ITS_PICTURE, activity="slayer on Bazaar"))
    right = Bot("c", Truths(["b"], PLAYS), b=ITS_PICTURE)
    assert await checked(wrong, right, friend_b()) == (
        2, 1, ["a of b: activity 'slayer on Bazaar', and it is 'slayer on Streets'"],
    )  # fmt: skip


async def test_a_picture_that_comes_right_in_time_does_not_count() -> None:
    asked: list[None] = []

    def looks() -> None:
        asked.append(None)
        if len(asked) == 4:
            bot.pictures["b"] = ITS_PICTURE

    bot = Bot("a", Truths(["b"], PLAYS, looks), b=PlayerPicture("unknown"))
    assert await checked(bot, friend_b()) == (1, 0, [])
    assert len(asked) == 4


@pytest.mark.parametrize(("connected", "wrong"), [(True, 1), (False, 0)])
async def test_a_friend_who_is_connected_and_unknown_for_too_long_counts_also_if_known_in_the_end(
    connected: bool, wrong: int
) -> None:
    asked: list[None] = []

    def looks() -> None:
        asked.append(None)
        if len(asked) == 3 + KNOWN_S / LOOK_AGAIN_S:
            bot.pictures["b"] = ITS_PICTURE

    bot, friend = Bot("a", Truths(["b"], PLAYS, looks), b=PlayerPicture("unknown")), friend_b()
    friend.client.connected = connected
    found = await check(cast(Any, {"a": bot, "b": friend}), patience_s=3 * KNOWN_S)
    assert (found.compared, found.wrong) == (1, wrong)
    assert found.unknown_s == (pytest.approx(KNOWN_S + LOOK_AGAIN_S) if connected else 0.0)
    assert found.wrong_in == [f"a of b: 'unknown' for more than {KNOWN_S:.0f} s, and it is connected"] * wrong


async def test_a_friend_without_a_picture_and_a_stranger_with_one_count() -> None:
    compared, wrong, named = await checked(Bot("a", Truths(["b"], PLAYS), c=PlayerPicture("online")), friend_b())
    assert (compared, wrong) == (2, 2)
    assert sorted(named) == ["a of b: there is no picture", "a of c: watched, and no friend"]


async def test_truth_that_nobody_tells_counts_as_wrong() -> None:
    bot = Bot("a", Truths(["b"], PLAYS), b=ITS_PICTURE)
    bot.client.error = Unavailable("the node is away")
    assert await checked(bot) == (1, 1, ["a of its friends: Unavailable: the node is away"])


# ---- the ring -------------------------------------------------------------------------------


def ring(count: int, reach: int) -> Ring:
    return Ring([str(number) for number in range(count)], reach, Ledger(), lambda error: None)


@pytest.mark.parametrize(
    ("count", "reach", "neighbours"), [(8, 2, "1276"), (8, 1, "17"), (3, 2, "12"), (2, 2, "1"), (1, 2, ""), (8, 0, "")]
)
def test_neighbours_on_either_side(count: int, reach: int, neighbours: str) -> None:
    assert "".join(ring(count, reach).neighbours("0")) == neighbours
    whole = ring(count, reach)
    assert all(name in whole.neighbours(other) for name in whole.names for other in whole.neighbours(name))


def test_a_friendship_counts_where_both_see_each_other() -> None:
    pair = ring(2, 1)
    one, other = (pair.circles.setdefault(name, Circle(name, cast(Any, None), pair)) for name in ("0", "1"))
    pair.news(one, "1", ["online"])
    assert (pair.watched, pair.friendships) == (1, 0)
    for _ in range(2):
        pair.news(other, "0", ["online"])
    assert (pair.watched, pair.friendships, pair.changes) == (2, 1, 3)
    for _ in range(2):
        pair.news(one, "1", None)
    assert (pair.watched, pair.friendships) == (1, 0)


class Inviter(Truths):
    """A client with a list of friends, which notes its invites. The first `away` invites find nobody."""

    def __init__(self, entries: dict[str, str], away: int = 0) -> None:
        super().__init__([], PLAYS)
        self.entries, self.away = entries, away
        self.invites: list[str] = []

    async def list(self, state: str = "") -> AsyncIterator[Friendship]:
        for name, known in self.entries.items():
            yield Friendship(name, cast(Any, known), 1)

    async def invite(self, player: str) -> Saved:
        if self.away:
            self.away -= 1
            raise NotFound(player)
        self.invites.append(player)
        return Saved("friends/0", len(self.invites))


async def test_only_those_are_invited_who_are_not_yet() -> None:
    whole = ring(8, 2)
    client = Inviter({"1": "friend", "2": "invited", "7": "inviting"}, away=3)
    await Circle("0", cast(Any, client), whole).befriend()
    assert client.invites == ["7", "6"]
    assert whole.ledger.entities == {"friends/0": 2}


# ---- parties --------------------------------------------------------------------------------


class Parties:
    """Parties as a server keeps them: who is in them, and who was invited."""

    def __init__(self) -> None:
        self.members: dict[str, list[str]] = {}
        self.invited: set[tuple[str, str]] = set()
        self.played: list[tuple[str, str, str]] = []
        self.asked: list[str] = []

    def of(self, player: str) -> str | None:
        return next((party for party, names in self.members.items() if player in names), None)

    def enter(self, party: str, player: str) -> Saved:
        before = self.of(player)
        if before is not None:
            self.members[before].remove(player)
        self.members[party].append(player)
        return Saved(f"party/{party}", 1)

    async def request(self, player: str, message: Any) -> Any:
        self.asked.append(type(message).__name__)
        match message:
            case PartyInvites():
                return PartyInbox(self.of(player), 1, [])
            case PartyCreate():
                party = f"p{len(self.members)}"
                self.members[party] = []
                return self.enter(party, player)
            case PartyGet(party=party):
                if player not in self.members[party]:
                    raise Rejected("not_in_party", "")
                members = [PartyMember(name, 1, True, False) for name in self.members[party]]
                return PartyInfo(party, self.members[party][0], 4, "", None, members, [], 1)
            case PartyInvite(party=party):
                self.invited.add((party, message.player))
                return Saved(f"party/{party}", 1)
            case PartyJoin(party=party):
                assert (party, player) in self.invited
                return self.enter(party, player)
            case PartyPlay():
                self.played.append((player, message.party, message.match))
                return Accepted(message.match, 1, 2)
        raise AssertionError(message)

    def band(self, *names: str) -> Band:
        return Band({name: cast(Any, Player(self, name)) for name in names}, Ledger())


class Player:
    def __init__(self, parties: Parties, name: str) -> None:
        self.parties, self.name = parties, name

    async def request(self, message: Any, retry: bool = False) -> Any:
        return await self.parties.request(self.name, message)


async def test_a_party_is_made_once_and_plays_on() -> None:
    parties = Parties()
    band = parties.band("a", "b", "c")
    await band.play("m-1", 0)
    parties.asked.clear()
    await band.play("m-2", 0)
    assert parties.asked == ["PartyGet", "PartyPlay"]
    assert parties.members == {"p0": ["a", "b", "c"]}
    assert parties.played == [("a", "p0", "m-1"), ("a", "p0", "m-2")]
    again = parties.band("a", "b", "c")  # a run that comes later
    await again.play("m-3", 0)
    assert parties.members == {"p0": ["a", "b", "c"]}


async def test_a_party_is_mended_led_by_whoever_leads_it_and_made_anew_where_it_is_over() -> None:
    parties = Parties()
    band = parties.band("a", "b", "c")
    await band.muster()
    parties.members["p0"] = ["b", "a"]  # c was let go, and b leads
    await band.play("m-1", 0)
    assert parties.members == {"p0": ["b", "a", "c"]}
    assert parties.played == [("b", "p0", "m-1")]
    parties.members["p0"] = ["b", "c"]  # a is in it no more
    await band.muster()
    assert (band.party, parties.members) == ("p1", {"p0": [], "p1": ["a", "b", "c"]})
    parties.members["p1"] = ["stranger", "a"]
    await band.muster()
    assert parties.members["p2"] == ["a", "b", "c"]
