"""Numbers and texts are bounded where they enter."""

from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from game.app import App as Game
from server.actors.app import App
from server.errors import BadFrame, BadSetting
from server.wire.bounds import Int64, unbounded
from server.wire.codec import Codec
from server.wire.messages import ENGINE_REQUESTS, Request

REQUESTS = (*ENGINE_REQUESTS, *Game.requests)


class Inner(msgspec.Struct, array_like=True, frozen=True):
    count: int = 0


class Loose(Request, tag="loose", frozen=True):
    half: Annotated[int, Meta(ge=0)]
    wide: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    nested: list[Inner | None]
    by_name: dict[str, tuple[bool, int]]
    several: tuple[int, ...] = ()
    optional: int | None = None
    fine: Int64 = 0


@pytest.mark.parametrize("message", REQUESTS, ids=lambda message: message.__name__)
def test_numbers_of_every_request_fit_64_bits(message: type[Request]) -> None:
    """F8."""
    assert unbounded(message) == []


def test_numbers_without_bounds_are_found_at_any_depth() -> None:
    assert unbounded(Loose) == ["Loose.half", "Inner.count", "Loose.by_name", "Loose.several", "Loose.optional"]


def test_an_app_with_unbounded_numbers_is_refused() -> None:
    with pytest.raises(BadSetting, match=r"Loose\.half has no bounds"):
        App("loose", (), requests=(Loose,))


@pytest.mark.parametrize("number", [2**53, 2**63, 2**64 - 1, -(2**63) - 1])
@pytest.mark.parametrize(
    "frame",
    [
        ["watch", 2, "match/m", None],
        ["ack", 0, None],
        ["heartbeat", 3, None],
        ["hello", 1, "token", None, None],
        ["watch", None, "match/m", 1],
    ],
)
def test_numbers_beyond_the_bounds_are_bad_frames(frame: list[Any], number: int) -> None:
    """F8."""
    at = len(frame) - 1 - frame[::-1].index(None)
    if frame[1] is None and number == 2**53:
        return  # the greatest id
    for format, encode in (("json", msgspec.json.encode), ("msgpack", msgspec.msgpack.encode)):
        if format == "msgpack" and number < -(2**63):
            continue  # has no such number
        data = encode([*frame[:at], number, *frame[at + 1 :]])
        with pytest.raises(BadFrame):
            Codec("json" if format == "json" else "msgpack", REQUESTS).decode(data)
