"""What may be called on an actor, and how its arguments travel."""

from collections.abc import Awaitable
from typing import Any

import msgspec
import pytest

from server.actors.actor import Actor, read_only
from server.actors.methods import methods_of
from server.catalog.calls import decode_call
from server.errors import BadInput
from tests.support.tiny import Ledger, Total

_encode = msgspec.msgpack.encode


class Shapes(Actor[Total]):
    kind = "shapes"
    State = Total

    def plain(self, n: int, word: str = "seven", many: list[int] = []) -> int:  # noqa: B006 - never changed
        return n

    def promise(self) -> Awaitable[int]:
        raise NotImplementedError

    def either(self, n: int) -> int | Awaitable[int]:
        return n

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

    def untyped(self, anything):  # type: ignore[no-untyped-def]
        return anything

    def _private(self) -> None: ...

    @property
    def prop(self) -> int:
        return 1

    @staticmethod
    def helper() -> int:
        return 1


METHODS = methods_of(Shapes)


def test_public_methods_of_the_class_and_its_bases_are_callable_and_nothing_else() -> None:
    assert set(METHODS) == {
        "coroutine", "either", "glance", "look", "plain", "promise", "reminded", "stare", "untyped", "wake",
    }  # fmt: skip
    assert {"read_events", "attach", "add"} <= set(methods_of(Ledger))
    assert not {"emit", "evolve", "finished", "state", "activation"} & set(methods_of(Ledger))


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
