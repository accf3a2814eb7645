"""The relations by which a client sees others: read from the store at first, asked of their actor where it must be."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from server.actors.pictures import Pictures, Relations
from server.actors.presence import PresenceKind
from server.errors import Unavailable
from server.sessions.presence_pictures import EVERYBODY, FRIENDS, HIDDEN
from server.sessions.sights import LISTS_AT_ONCE, Sights
from server.sessions.slices import Slices
from tests.support.session_parts import Parts
from tests.support.watchers import Circle

pytestmark = pytest.mark.virtual_time


def relations_of(row: Mapping[str, Any] | None) -> Relations:
    return Relations(row["number"], ["ben"], ["cyd"]) if row is not None else Relations(0, [], [])


FACE = PresenceKind(
    lambda row: Pictures(b"1", b"1", b"1"), b"2", b"3", relations=Circle, stored_relations=("lists", relations_of)
)


class Lists:
    """A store with the lists of who is not called "nobody"."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.error: Exception | None = None
        self.broken = False

    async def run(self, name: str, params: Mapping[str, Any]) -> list[dict[str, Any]]:
        assert name == "lists"
        self.asked.append(list(params["keys"]))
        await asyncio.sleep(0.01)
        if self.error is not None:
            raise self.error
        row: dict[str, Any] = {} if self.broken else {"number": 7}
        return [{"key": key, **row} for key in params["keys"] if key != "nobody"]

    async def close(self) -> None: ...


def sights(parts: Parts, lists: Lists, face: PresenceKind | None = FACE) -> Sights:
    return Sights(face, parts.actors, lists, parts.supervisor, Slices(parts.ticks.now), "status")


async def test_a_login_is_read_from_the_store_and_no_actor_is_asked() -> None:
    parts, lists = Parts(), Lists()
    sight = await sights(parts, lists).first(parts.session(subject="anna"))
    assert (sight.number, sight.friends) == (7, ["ben"])
    assert [sight.level(player) for player in ("ben", "cyd", "dan")] == [FRIENDS, HIDDEN, EVERYBODY]
    assert (await sights(parts, lists).first(parts.session(subject="nobody"))).number == 0
    assert parts.actors.calls == []


async def test_many_who_log_in_at_once_are_read_together() -> None:
    parts, lists = Parts(), Lists()
    reading = sights(parts, lists)
    names = [f"p{number}" for number in range(2 * LISTS_AT_ONCE)]
    found = await asyncio.gather(*(reading.first(parts.session(subject=name)) for name in [*names, "p0"]))
    assert {sight.number for sight in found} == {7}
    assert [len(keys) for keys in lists.asked] == [1, LISTS_AT_ONCE, LISTS_AT_ONCE]


@pytest.mark.parametrize("broken", [False, True])
async def test_the_actor_is_asked_where_the_store_does_not_tell(broken: bool) -> None:
    parts, lists = Parts(), Lists()
    lists.broken, lists.error = broken, None if broken else Unavailable("planted")
    parts.actors.answers["relations"] = Relations(9, ["eve"], [])
    sight = await sights(parts, lists).first(parts.session(subject="anna"))
    assert (sight.number, sight.friends) == (9, ["eve"])
    assert [name for _, name, _ in parts.actors.calls] == ["relations"]


async def test_the_actor_is_asked_for_later_lists_and_by_other_applications() -> None:
    parts, lists = Parts(), Lists()
    parts.actors.answers["relations"] = Relations(9, ["eve"], [])
    assert (await sights(parts, lists).newest(parts.session(subject="anna"))).number == 9
    plain = PresenceKind(FACE.gone, FACE.unknown, FACE.hidden, relations=Circle)
    assert (await sights(parts, lists, plain).first(parts.session(subject="anna"))).number == 9
    assert (await sights(parts, lists).first(parts.session(subject="s", role="service"))).number == -1
    assert lists.asked == []
