"""Reasons for which an heir is refused, and differences that are fine."""

from enum import Enum
from typing import Any, Literal

import msgspec
import pytest
from msgspec.structs import replace

from game.app import App
from server.actors.forms import described, unreadable
from server.settings import load
from server.succession.account import account_of
from server.succession.fits import Account, KindForm, misfits


def an_account(**changed: Any) -> Account:
    settings = load(None, None, {"journal.mode": "local", "security.cluster_key": "a" * 43 + "="})
    account = account_of(
        settings, App, "1.0", "uuid-1", {"schema": "0020"}, system=lambda: {"boot": "b1", "user": "0:0"}
    )
    return replace(account, **changed)


def test_the_same_program_fits_also_after_it_has_travelled() -> None:
    account = an_account()
    told = msgspec.msgpack.decode(msgspec.msgpack.encode(account), type=Account)
    assert misfits(account, told) == []


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"protocol": 2}, "speaks version 2 of a succession"),
        ({"node": "node-9"}, "would be node node-9, and this is node node-1"),
        ({"cluster": "other"}, "would be cluster other"),
        ({"app": "chess"}, "would be application chess"),
        ({"database": "uuid-2"}, "another database (uuid-2"),
        ({"cluster_key": ""}, "another security.cluster_key"),
        ({"machine": {"boot": "b2", "user": "0:0"}}, "another boot (b2, this node has b1)"),
        ({"machine": {"boot": "b1", "user": "5:5"}}, "another user (5:5"),
        ({"machine": {"boot": "b1"}}, "another user (unknown"),
        ({"layouts": {**an_account().layouts, "schema": "0021"}}, "layout 0021 of tables of the database"),
        ({"layouts": {**an_account().layouts, "columns": "2"}}, "layout 2 of columns, this node has 1"),
        ({"kinds": {}}, "no actors of kind boards any more"),
        ({"settings": {**an_account().settings, "gateway.port": "1"}}, "setting gateway.port is 1 for the new program"),
        ({"settings": {**an_account().settings, "journal.mode": "none"}}, "setting journal.mode is none"),
        ({"settings": {**an_account().settings, "journal.directory": "/x"}}, "setting journal.directory is /x"),
    ],
)
def test_another_heir_is_refused_with_the_difference(changed: dict[str, Any], why: str) -> None:
    found = misfits(an_account(), an_account(**changed))
    assert any(why in reason for reason in found), found


@pytest.mark.parametrize("fine", [{"program": "2.0"}, {"python": "3.14.0"}])
def test_another_version_of_program_or_interpreter_is_fine(fine: dict[str, Any]) -> None:
    assert misfits(an_account(), an_account(**fine)) == []


def test_every_setting_that_must_not_change_is_compared() -> None:
    names = ["gateway.port", "admin.port", "transport.port", "columns.enabled", "store.lease", "weight"]
    account = an_account()
    for name in names:
        other = an_account(settings={**account.settings, name: "something else"})
        assert any(name in reason for reason in misfits(account, other))


def test_the_redis_of_a_journal_is_told_without_its_password() -> None:
    settings = load(None, None, {"journal.mode": "redis", "journal.redis_url": "redis://me:secret@there:6379/3"})
    account = account_of(settings, App, "1.0", "uuid", {})
    assert account.settings["journal.redis_url"] == "redis://there:6379/3"
    assert "me:secret" not in repr(account)


class Colour(Enum):
    RED = "red"


class MoreColours(Enum):
    RED = "red"
    BLUE = "blue"


class Plain(msgspec.Struct):
    n: int
    tags: list[str]
    colour: Colour = Colour.RED
    mood: Literal["good"] = "good"


class Grown(msgspec.Struct):
    n: int
    tags: list[str]
    colour: MoreColours = MoreColours.RED
    mood: Literal["good", "bad"] = "good"
    more: int = 0


class GrownWithout(msgspec.Struct):
    n: int
    tags: list[str]
    more: int
    colour: Colour = Colour.RED
    mood: Literal["good"] = "good"


class Shrunk(msgspec.Struct):
    n: int


class Row(msgspec.Struct, array_like=True):
    a: int
    b: int = 0


class RowOfFloats(msgspec.Struct, array_like=True):
    a: float
    b: int = 0
    c: str = ""


class RowTurned(msgspec.Struct, array_like=True):
    b: int
    a: int = 0


class Began(msgspec.Struct, tag="began"):
    at: int


class Ended(msgspec.Struct, tag="ended"):
    at: int


class EndedAnew(msgspec.Struct, tag="ended"):
    at: str


class Tree(msgspec.Struct):
    leaves: "dict[str, Tree]"


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (Plain, Grown, ""),
        (Grown, Plain, "colour has no 'blue' any more"),
        (Plain, GrownWithout, "more is new and has no default"),
        (Plain, Shrunk, "tags is gone"),
        (Row, RowOfFloats, ""),
        (RowOfFloats, Row, "a is int and was float"),
        (Row, RowTurned, "a is not at its place any more: b is"),
        (Row, Plain, "it has another tag, or is laid out in another way"),
        (Began, Began | Ended, ""),
        (Began | Ended, Began, "it is no struct 'ended' any more"),
        (Began | Ended, Began | EndedAnew, "at is str and was int"),
        (int, int | None, ""),
        (int | None, int, "it is no none any more"),
        (dict[str, int], dict[str, str], "[] is str and was int"),
        (list[int], Any, ""),
        (tuple[int, str], tuple[int, str, int], "it has another length"),
        (list[Row], list[RowTurned], "[].a is not at its place any more: b is"),
        (Tree, Tree, ""),
    ],
)
def test_a_type_reads_what_another_wrote_or_says_why_not(old: Any, new: Any, why: str) -> None:
    assert unreadable(described(old), described(new)) == why


def test_states_that_the_new_program_cannot_read_are_refused_by_the_name_of_their_kind() -> None:
    def kinds(state: Any, event: Any = None, durability: str = "volatile") -> dict[str, KindForm]:
        return {"hero": KindForm(durability, described(state), described(event) if event else "")}

    def reasons(before: dict[str, KindForm], after: dict[str, KindForm]) -> list[str]:
        return misfits(an_account(kinds=before), an_account(kinds=after))

    assert reasons(kinds(Plain), kinds(Grown)) == []
    assert reasons(kinds(Plain), {**kinds(Plain), "monster": KindForm("volatile", described(Plain))}) == []
    assert reasons(kinds(Plain), kinds(Shrunk)) == [
        "the new program would not read the state of kind hero: tags is gone"
    ]
    assert reasons(kinds(Plain, Began | Ended), kinds(Plain, Began)) != []
    assert reasons(kinds(Plain, Began), kinds(Plain)) == ["actors of kind hero have no log in the new program"]
    assert reasons(kinds(Plain), kinds(Plain, None, "logged")) == [
        "actors of kind hero are logged in the new program, and volatile here"
    ]
