"""Numbers and texts are bounded where they enter."""

import io
import subprocess
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta
from msgspec import inspect as shapes
from rich.table import Table
from rich.text import Text

from game.app import App as Game
from server.actors.app import App
from server.cli.common import PlainConsole
from server.errors import BadFrame, BadSetting
from server.texts import escaped, escaped_json, escaped_lines
from server.wire.bounds import Int64, unbounded
from server.wire.codec import Codec
from server.wire.messages import ENGINE_REQUESTS, Request

RUDE = "\x00\n\x1b\x7f\x85\x9b\xad\u061c\u200b\u200e\u202a\u202e\u2028\u2066\u2069\ufeff\ufff9\U000e0041"
FINE = "Zoë\u00a0龍 ねこ \u0645\u06cc\u200c\u062e \U0001f468\u200d\U0001f469 \u0301 \\x9b"
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


# ---- texts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("message", REQUESTS, ids=lambda message: message.__name__)
def test_texts_of_every_request_are_lines(message: type[Request]) -> None:
    """F29, F66: each text has a pattern, or is looked up and never shown (a topic, a token, a password)."""
    looked_up = {"MatchCreate.password", "MatchJoin.password", "PartyPlay.password"}
    looked_up |= {"Hello.token", "TokenRenew.token", "Watch.topic", "Unwatch.topic", "Seen.topic", "ReplayOpen.topic"}
    looked_up |= {"PresenceWatch.players", "PresenceUnwatch.players", "PresenceList.players", "SeenPlayer.player"}
    looked_up |= {"MatchCreate.password", "MatchJoin.password"}
    assert [name for name in texts(message) if name not in looked_up and not name.endswith("atest.topic")] == []


def texts(cls: Any, seen: frozenset[Any] = frozenset()) -> Iterator[str]:
    """The fields of text without a pattern."""
    for field in shapes.type_info(cls).fields:  # type: ignore[attr-defined]
        yield from _texts(field.type, f"{cls.__name__}.{field.name}")


def _texts(info: Any, where: str) -> Iterator[str]:
    match info:
        case shapes.StrType(pattern=None):
            yield where
        case shapes.StructType():
            yield from texts(info.cls)
        case shapes.UnionType():
            for part in info.types:
                yield from _texts(part, where)
        case shapes.ListType():
            yield from _texts(info.item_type, where)


@pytest.mark.parametrize("char", RUDE, ids=ascii)
@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_control_and_format_characters_are_refused(char: str, format: Any) -> None:
    """F29, F66."""
    frame = ["profile.set", 7, "a", 1, f"name{char}", ""]
    encode = msgspec.json.encode if format == "json" else msgspec.msgpack.encode
    with pytest.raises(BadFrame, match="of one line, without control and format characters - at") as caught:
        Codec(format, REQUESTS).decode(encode(frame))
    assert caught.value.request_id == 7 and char not in caught.value.message


def test_letters_of_all_languages_are_taken() -> None:
    decoded: Any = Codec("json", REQUESTS).decode(msgspec.json.encode(["profile.set", 7, "a", 1, FINE, FINE]))
    assert (decoded.display_name, decoded.emblem) == (FINE, FINE)


def test_characters_of_no_line_are_shown_as_escapes() -> None:
    """F29."""
    assert escaped(FINE) == FINE
    assert escaped("a\x9b\u202e\U000e0041\n\ud800z") == "a\\x9b\\u202e\\U000e0041\\n\\ud800z"
    assert escaped_lines("a\x9b\nb") == "a\\x9b\nb"


@given(st.text(), st.booleans())
def test_escaped_json_means_the_same(text: str, ascii_only: bool) -> None:
    shown = escaped_json(msgspec.json.encode({"a": [text]}).decode(), ascii_only)
    assert msgspec.json.decode(shown) == {"a": [text]}
    assert escaped(shown) == shown and (shown.isascii() or not ascii_only)


def test_a_console_shows_what_it_must_not_obey() -> None:
    """F29: in tables, lines and markup alike."""
    table = Table(box=None)
    table.add_column("map")
    table.add_row(Text("\x9b2J\u202e"))  # and cut to its width, unless it is escaped before
    table.add_row(Text(escaped("Re\x9b2Jcharge\u202e")))
    said = io.StringIO()
    console = PlainConsole(file=said, force_terminal=True, width=80, color_system=None)
    console.print(table)
    console.print("[bold]x\x9dy[/bold]")
    assert "Re\\x9b2Jcharge\\u202e" in said.getvalue() and "x\\x9dy" in said.getvalue()
    assert not set(said.getvalue()) & {"\x9b", "\x9d", "\u202e"}


def test_logs_for_people_show_what_a_terminal_would_obey(capfd: pytest.CaptureFixture[str]) -> None:
    """F29: also in the text of an exception."""
    program = """
import structlog
from server.runtime.logs import configure
from server.settings import LogSettings
configure(LogSettings(), "node-1")
log = structlog.get_logger()
log.warning("a client", client="x\\x9b2J\\u202e\\ny")
try:
    raise ValueError("bad \\x9d")
except ValueError as error:
    log.error("failed", exc_info=error)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    said = capfd.readouterr().err
    assert "x\\x9b2J\\u202e\\ny" in said and "bad \\x9d" in said
    assert not set(said) & {"\x9b", "\x9d", "\u202e"}
