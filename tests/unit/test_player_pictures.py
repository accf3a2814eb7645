"""A player as others see it: how devices merge, the three levels, and nothing of an invisible player."""

from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from game.places import Membership
from game.player import pictures, rules
from game.player.messages import DeviceLine, PlayerPicture, PresenceField, PresenceSet, RichPresence
from game.player.pictures import MAX_PICTURE_BYTES, Party, Said
from game.player.state import PlayerState
from server.errors import Rejected
from server.texts import is_line

NEW = PlayerState()
RICH = RichPresence("Slayer", "Recharge", "24-19", join="m1", fields=[PresenceField("clan", "red")])


class Device(NamedTuple):
    session: str
    kind: str = ""
    client: str = ""


def picture(data: bytes) -> PlayerPicture:
    return msgspec.msgpack.decode(data, type=PlayerPicture)


def state_of(status: str, **fields: Any) -> PlayerState:
    return replace(NEW, **{"status": status, "last_seen_ms": 200, **fields})


# ---- what devices say -----------------------------------------------------------------------


def spoken(*words: tuple[str, str], sessions: tuple[str, ...] = ("a", "b")) -> list[str]:
    """The status after each word of a session, as the player goes through them."""
    said, status, seen = (), "online", []
    for session, word in words:
        said = pictures.choose(said, session, rules.chosen(word))
        if pictures.takes(said, session, sessions):
            status = word
        seen.append(status)
    return seen


def test_the_newest_word_of_any_device_counts_once() -> None:
    assert spoken(("a", "online"), ("b", "busy"), ("a", "online"), ("b", "busy"), ("a", "online")) == [
        *("online", "busy", "busy", "busy", "busy")
    ]
    assert spoken(("a", "online"), ("b", "invisible"), ("a", "online"), ("a", "busy")) == [
        *("online", "invisible", "invisible", "busy")
    ], "what repeats itself makes nobody visible"


def test_a_session_has_said_the_word_that_it_chose_last() -> None:
    only = pictures.choose((), "a", "busy")
    both = pictures.choose(only, "b", "away")
    assert pictures.has_said(only, "a", "busy") and pictures.has_said(both, "a", "busy")
    assert not pictures.has_said(only, "a", "away") and not pictures.has_said(both, "a", "away")
    assert not pictures.has_said(only, "b", "busy") and not pictures.has_said((), "a", "online")


def test_a_word_that_nobody_overruled_counts_again() -> None:
    said = pictures.choose((), "a", "busy")
    again = pictures.choose(said, "a", "busy")
    assert again is said and pictures.takes(again, "a", ["a"]), "the turn that took it first may have been refused"


def test_a_player_is_away_where_every_device_is() -> None:
    assert spoken(("a", "online"), ("b", "away"), ("a", "away"), ("b", "online")) == [
        *("online", "online", "away", "online")
    ]
    assert spoken(("a", "away")) == ["online"], "b never said that it is"
    assert spoken(("a", "away"), sessions=("a",)) == ["away"]


def test_a_device_that_is_away_overrules_nobody() -> None:
    assert spoken(("a", "busy"), ("b", "away"), ("a", "busy")) == ["busy"] * 3


def test_the_newest_line_that_says_something_is_shown() -> None:
    said = pictures.say((), Said("a", "online", "In the menu"))
    said = pictures.say(said, Said("b", "online", "Slayer on Recharge", RICH))
    assert pictures.newest(said).activity == "Slayer on Recharge"  # type: ignore[union-attr]
    said = pictures.say(said, Said("a", "online", "In the shop"))
    assert pictures.newest(said).activity == "In the shop"  # type: ignore[union-attr]
    said = pictures.choose(said, "b", "busy")
    assert pictures.newest(said).activity == "In the shop", "a status is no line"  # type: ignore[union-attr]
    said = pictures.say(said, Said("a", "online"))
    assert pictures.newest(said).rich == RICH  # type: ignore[union-attr]
    assert pictures.newest(pictures.kept(said, ["a"])) is None


@pytest.mark.parametrize(
    "rich",
    [
        RichPresence(fields=[PresenceField("clan", "red"), PresenceField("clan", "blue")]),
        RichPresence(*(["\U0001f600" * 64] * 3), fields=[PresenceField(f"f{n}", "\U0001f600" * 64) for n in range(8)]),
    ],
)
def test_rich_presence_is_bounded(rich: RichPresence) -> None:
    with pytest.raises(Rejected) as caught:
        pictures.check("", rich)
    assert caught.value.code == "bad_presence"


@pytest.mark.parametrize(
    "wire",
    [
        ["presence.set", 1, "online", "", ["x" * 65]],
        ["presence.set", 1, "online", "", ["a\nb"]],
        ["presence.set", 1, "online", "", ["", "", "", 1_001]],
        ["presence.set", 1, "online", "", ["", "", "", -1]],
        ["presence.set", 1, "online", "", ["", "", "", 0, 0, "", [["Clan", "x"]]]],
        ["presence.set", 1, "online", "", ["", "", "", 0, 0, "", [["clan", {}]]]],
        ["presence.set", 1, "online", "", ["", "", "", 0, 0, "", [["c", "x"]] * 9]],
        ["presence.set", 1, "online", "", "Slayer"],
    ],
)
def test_a_presence_out_of_shape_is_no_message(wire: list[Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wire, PresenceSet)


def test_the_two_fields_of_earlier_clients_are_enough() -> None:
    assert msgspec.convert(["presence.set", 1, "busy", "x"], PresenceSet) == PresenceSet(1, "busy", "x")
    assert msgspec.convert(["presence.set", 1, "busy", "x", ["Slayer"]], PresenceSet).rich == RichPresence("Slayer")


# ---- pictures -------------------------------------------------------------------------------


def test_everybody_sees_the_status_friends_the_rest_and_the_player_its_devices() -> None:
    said = (Said("a", "online", "In the menu"), Said("b", "busy", "Slayer on Recharge", RICH))
    devices = (Device("a", "phone", "app 1"), Device("b", "console"), Device("c", "pc"))
    shown = pictures.pictures(state_of("busy", match="m1"), said, devices, Party(2, 4))
    rich = replace(RICH, party_size=2, party_room=4)
    friends = PlayerPicture("busy", 0, "Slayer on Recharge", "m1", rich)
    assert picture(shown.everybody) == PlayerPicture("busy")
    assert picture(shown.friends) == friends
    lines = [
        *(
            DeviceLine("console", "", "busy", "Slayer on Recharge"),
            DeviceLine("phone", "app 1", "online", "In the menu"),
        ),
        DeviceLine("pc"),
    ]
    assert picture(shown.own) == replace(friends, devices=lines)


def test_a_picture_ends_with_what_is_told() -> None:
    assert msgspec.msgpack.decode(pictures.pictures(state_of("online")).friends) == ["online"]
    assert msgspec.msgpack.decode(pictures.gone({"status": "offline", "last_seen_ms": 0}).everybody) == ["offline"]
    shown = pictures.pictures(state_of("online"), (Said("a", "online", "", RichPresence("Slayer")),)).friends
    assert msgspec.msgpack.decode(shown) == ["online", 0, "", None, ["Slayer"]]


def test_a_muted_player_is_read_by_itself_only() -> None:
    said = (Said("a", "busy", "rude", RICH),)
    shown = pictures.pictures(state_of("busy", match="m1"), said, (), Party(2, 4), muted=True)
    assert picture(shown.friends) == PlayerPicture("busy", 0, "", "m1", RichPresence(party_size=2, party_room=4))
    assert picture(shown.own).activity == "rude"


texts = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=64).filter(is_line)
riches = st.builds(
    RichPresence,
    texts,
    texts,
    texts,
    st.integers(0, 1000),
    st.integers(0, 1000),
    texts,
    st.lists(st.builds(PresenceField, st.from_regex(r"[a-z][a-z0-9_.-]{0,31}", fullmatch=True), texts), max_size=8),
)
sayings = st.lists(
    st.builds(Said, st.sampled_from("abc"), st.sampled_from(["", *rules.CHOSEN]), texts, st.none() | riches),
    max_size=3,
    unique_by=lambda line: line.session,
).map(tuple)
devices_of = st.lists(st.builds(Device, st.text("abcdef", min_size=1, max_size=9), texts, texts), max_size=20)
parties = st.none() | st.builds(Party, st.integers(1, 1000), st.integers(1, 1000))
matches = st.sampled_from(["", "m1", "x" * 64])


@given(sayings, devices_of, parties, matches, st.booleans(), st.integers(0, 2**52))
def test_an_invisible_player_is_an_offline_one_to_the_last_byte(
    said: pictures.Sayings, devices: list[Device], party: Party | None, match: str, muted: bool, last_seen_ms: int
) -> None:
    hidden = state_of("invisible", last_seen_ms=last_seen_ms, match=match)
    offline = state_of("offline", last_seen_ms=last_seen_ms)
    shown, away = pictures.pictures(hidden, said, devices, party, muted), pictures.pictures(offline)
    assert (
        shown.everybody
        == shown.friends
        == away.everybody
        == away.friends
        == pictures.gone({"status": "offline", "last_seen_ms": last_seen_ms}).friends
    )
    assert picture(shown.own).status == "invisible"
    asked = pictures.view(hidden, "p", 1, said, party, muted, own=False)
    assert asked == pictures.view(offline, "p", 1, (), None, False, own=False)


@given(sayings, devices_of, parties, matches, st.sampled_from(["online", "busy", "invisible"]))
def test_pictures_are_read_as_they_were_made_and_stay_small(
    said: pictures.Sayings, devices: list[Device], party: Party | None, match: str, status: str
) -> None:
    for line in said:
        try:
            pictures.check(line.activity, line.rich)
        except Rejected:
            return
    shown = pictures.pictures(state_of(status, match=match), said, devices, party)
    assert max(map(len, (shown.everybody, shown.friends, shown.own))) <= MAX_PICTURE_BYTES
    own, friends = picture(shown.own), picture(shown.friends)
    line = pictures.newest(said)
    assert own.activity == ("" if line is None else line.activity)
    assert pictures.packed(own) == shown.own and pictures.packed(friends) == shown.friends
    if status != "invisible":
        assert friends == replace(own, devices=[])


@given(st.sampled_from(["online", "away", "busy"]), st.sampled_from(["", *rules.CHOSEN]), texts, texts, st.booleans())
def test_most_players_look_as_others_do_and_their_pictures_are_made_once(
    status: str, word: Any, kind: str, client: str, muted: bool
) -> None:
    looks = []
    for name in ("a", "b"):
        said = (Said(name, word),) if word else ()
        looks.append(pictures.pictures(state_of(status), said, (Device(name, kind, client),), muted=muted))
    shown, other = looks
    assert shown is other
    seen = pictures.packed(PlayerPicture(status))  # type: ignore[arg-type]
    own = PlayerPicture(status, devices=[DeviceLine(kind, client, word)])  # type: ignore[arg-type]
    assert shown == pictures.Pictures(seen, seen, pictures.packed(own))


def test_an_invisible_player_leaves_no_trace() -> None:
    """Coming, going, a match and the minutes between: `last_seen_ms` of all of it is that of becoming invisible."""
    state = rules.choose(rules.arrived(NEW, 100), "invisible", 200)
    shown = {pictures.pictures(state).friends}
    for then in (
        lambda s: rules.seen(s, 60_200),
        lambda s: rules.entered(s, Membership("m1", 1, 1)),
        lambda s: rules.departed(s, 130_000),
        lambda s: rules.depart(s, "disconnected"),
        lambda s: rules.arrived(s, 140_000),
        rules.vanished,
    ):
        state = then(state)
        shown.add(pictures.pictures(state, (Said("a", "invisible", "Slayer", RICH),)).friends)
    assert shown == {pictures.gone({"status": "offline", "last_seen_ms": 200}).friends}


def test_a_player_who_is_there_by_its_row_only_is_unknown() -> None:
    seen = [pictures.view(state_of(status), "p", 1, (), None, False, False, known=False) for status in STATUSES]
    assert [each.status for each in seen] == ["unknown", "unknown", "unknown", "offline", "offline"]


STATUSES = ("online", "away", "busy", "invisible", "offline")
