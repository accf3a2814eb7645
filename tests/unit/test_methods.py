"""What may be called on an actor, and how its arguments travel."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from server.actors.actor import Actor, Caller, read_only, remote
from server.actors.app import App, Route
from server.actors.devices import UNTOLD, Login
from server.actors.methods import is_remote, methods_of
from server.catalog.calls import decode_call
from server.errors import BadInput, BadSetting
from server.wire.messages import Request
from tests.support.tiny import Ledger, Total

_encode = msgspec.msgpack.encode


class Shapes(Actor[Total]):
    kind = "shapes"
    State = Total

    @remote
    def plain(self, n: int, word: str = "seven", many: list[int] = []) -> int:  # noqa: B006 - never changed
        return n

    @remote
    def promise(self) -> Awaitable[int]:
        raise NotImplementedError

    @remote
    def either(self, n: int) -> int | Awaitable[int]:
        return n

    @remote
    async def coroutine(self) -> int:
        return 1

    @read_only
    def glance(self) -> int:
        return 1

    @read_only
    def look(self) -> Awaitable[int]:
        raise NotImplementedError

    @read_only
    async def stare(self) -> int:
        return 1

    @remote
    def untyped(self, anything):  # type: ignore[no-untyped-def]
        return anything

    def unmarked(self) -> None: ...

    def _private(self) -> None: ...

    @property
    def prop(self) -> int:
        return 1

    @staticmethod
    def helper() -> int:
        return 1


METHODS = methods_of(Shapes).remote


def test_marked_methods_of_the_class_and_its_bases_are_callable_by_others_and_nothing_else() -> None:
    assert set(METHODS) == {
        "admits", "coroutine", "either", "glance", "look", "plain", "promise", "reminded", "stare", "untyped", "wake",
    }  # fmt: skip
    assert {"read_events", "attach", "add"} <= set(methods_of(Ledger).remote)
    assert not {"emit", "evolve", "finished", "state", "context"} & set(methods_of(Ledger).remote)


def test_timers_run_unmarked_methods_of_the_actor_and_none_of_the_engine() -> None:
    own = methods_of(Shapes).own
    assert set(own) - set(METHODS) == {"unmarked"}
    assert not is_remote(Shapes, "unmarked") and is_remote(Shapes, "plain")


def test_methods_that_override_a_marked_one_are_marked() -> None:
    class Deep(Shapes):
        def plain(self, n: int, word: str = "seven", many: list[int] = []) -> int:  # noqa: B006 - never changed
            return n + 1

        def wake(self) -> None: ...

    methods = methods_of(Deep).remote
    assert methods["plain"].function is Deep.plain and "wake" in methods


def test_an_application_that_routes_to_an_unmarked_method_is_refused() -> None:
    with pytest.raises(BadSetting, match=r"Shapes\.unmarked is called from other nodes"):
        App("shapes", (Shapes,), routes={Request: Route(Shapes, Shapes.unmarked, lambda caller, message: "a")})
    with pytest.raises(BadSetting, match="Shapes, the session's actor, has no method connected"):
        App("shapes", (Shapes,), session_actor=Shapes)


def test_a_volatile_actor_that_lives_on_is_refused() -> None:
    class Immortal(Actor[Total]):
        kind = "immortal"
        State = Total
        lives_on = True

    with pytest.raises(BadSetting, match="Immortal lives on"):
        App("immortals", (Immortal,))


@pytest.mark.parametrize(
    ("name", "plain", "only", "aside"),
    [
        ("plain", True, False, False),
        ("promise", False, False, False),
        ("either", False, False, False),
        ("coroutine", False, False, False),
        ("glance", True, True, False),
        ("look", False, True, True),
        ("stare", False, True, False),
        ("untyped", False, False, False),
    ],
)
def test_how_each_kind_of_method_runs(name: str, plain: bool, only: bool, aside: bool) -> None:
    method = METHODS[name]
    assert (method.plain, method.read_only, method.aside) == (plain, only, aside)


def test_arguments_left_out_get_the_methods_own_defaults() -> None:
    assert METHODS["plain"].decode_args(_encode([1])) == (1, "seven", [])
    assert METHODS["plain"].decode_args(_encode([1, "two"])) == (1, "two", [])


@pytest.mark.parametrize("bad", [[], ["one"], [1, 2], [1, "two", ["x"]], [1, "two", [], 4], {"n": 1}, 5])
def test_arguments_that_do_not_fit_are_the_callers_fault(bad: Any) -> None:
    with pytest.raises(BadInput, match="plain"):
        METHODS["plain"].decode_args(_encode(bad))


@pytest.mark.parametrize("raw", [b"", b"\xc1", b"\x91", b"\x91\x01\x01"])
def test_broken_bytes_are_the_callers_fault(raw: bytes) -> None:
    with pytest.raises(BadInput):
        METHODS["plain"].decode_args(raw)


@pytest.mark.parametrize(
    ("name", "raw"),
    [("plain", b"\x92\x01\xa1\xff"), ("untyped", b"\x91" + b"\x91" * 100_000)],
    ids=["no UTF-8", "nested too deep"],
)
def test_bytes_that_no_decoder_takes_are_the_callers_fault(name: str, raw: bytes) -> None:
    with pytest.raises(BadInput, match=name):
        METHODS[name].decode_args(raw)
    with pytest.raises(BadInput):
        METHODS["untyped"].decode_result(raw)


@pytest.mark.parametrize("frame", [b"", b"\x96\xa1\xff", b"\x96\xa1x\xa1y" + b"\x91" * 100_000])
def test_a_call_frame_of_any_bytes_is_refused(frame: bytes) -> None:
    with pytest.raises(BadInput, match="call frame"):
        decode_call(frame)


@pytest.mark.parametrize("name", ["plain", "promise", "either", "coroutine"])
def test_results_are_checked_by_what_is_promised(name: str) -> None:
    assert METHODS[name].decode_result(_encode(3)) == 3
    with pytest.raises(BadInput):
        METHODS[name].decode_result(_encode("three"))


class Takes(Actor[Total]):
    kind = "takes"
    State = Total
    __slots__ = ()

    @remote
    def connected(self, caller: Caller, login: Login = UNTOLD) -> None: ...

    @remote
    def disconnected(self, caller: Caller, reason: str) -> None: ...

    @remote
    def beat(self, caller: Caller, state: str | None) -> None: ...


def _without_beat() -> type[Actor[Any]]:
    class Silent(Actor[Total]):
        kind = "silent"
        State = Total
        __slots__ = ()
        connected, disconnected = Takes.connected, Takes.disconnected

    return Silent


def _with_short_farewell() -> type[Actor[Any]]:
    class Short(Takes):
        __slots__ = ()

        @remote
        def disconnected(self, caller: Caller) -> None:  # type: ignore[override]
            ...

    return Short


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (_without_beat, r"Silent.*no method beat\(caller, state\)"),
        (_with_short_farewell, r"Short.disconnected is called as disconnected\(caller, reason\)"),
    ],
)
def test_a_session_actor_that_the_engine_cannot_call_is_refused_at_load(
    make: Callable[[], type[Actor[Any]]], wrong: str
) -> None:
    assert App("takes", (Takes,), session_actor=Takes).session_actor is Takes
    cls = make()
    with pytest.raises(BadSetting, match=wrong):
        App("wrong", (cls,), session_actor=cls)
