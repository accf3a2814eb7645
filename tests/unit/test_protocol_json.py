"""What is generated is up to date, and the SDK, the page and the server agree with it."""

import json
import re
from pathlib import Path
from typing import Any

import msgpack
import pytest

import garrison
from game.match.rules import CODES
from garrison import errors as sdk_errors
from garrison import messages as sdk
from server.cli import protocol
from server.settings import Settings
from server.wire.codec import Codec
from server.wire.messages import ENGINE_REQUESTS

DESCRIBED: dict[str, Any] = json.loads(protocol.JSON_FILE.read_text("utf-8"))
PAGE = (protocol.ROOT / "docs" / "protocol.md").read_text("utf-8")
BY_TYPE: dict[str, dict[str, Any]] = {message["type"]: message for message in DESCRIBED["messages"]}


def test_generated_files_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert protocol.main(["--check"]) == 0, capsys.readouterr().err


def test_a_stale_file_is_found_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JSON_FILE", "PYTHON_FILE"):
        file = tmp_path / name
        file.write_text(getattr(protocol, name).read_text("utf-8") + "\n# by hand")
        monkeypatch.setattr(protocol, name, file)
    monkeypatch.setattr(protocol, "ROOT", tmp_path)
    assert protocol.main(["--check"]) == 1
    assert protocol.main([]) == 0
    assert protocol.main(["--check"]) == 0
    assert json.loads((tmp_path / "JSON_FILE").read_text()) == DESCRIBED


@pytest.mark.parametrize("frame", DESCRIBED["golden"], ids=lambda frame: f"{frame['type']}-{len(frame['wire'])}")
def test_golden_frames(frame: dict[str, Any]) -> None:
    wire = frame["wire"]
    assert json.loads(frame["json"]) == wire
    assert msgpack.unpackb(bytes.fromhex(frame["msgpack"])) == wire
    message = (sdk.ANSWERS.get(frame["type"]) or sdk.REQUESTS[frame["type"]])(wire)
    again = message.to_wire()
    assert again[: len(wire)] == wire
    full = next(each["wire"] for each in DESCRIBED["golden"] if each["type"] == frame["type"])
    assert len(again) == len(full)
    if frame["type"] in sdk.REQUESTS:
        app = protocol.load_app(Settings().app)
        for format, data in (("msgpack", msgpack.packb(again)), ("json", json.dumps(again).encode())):
            codec = Codec(format, (*ENGINE_REQUESTS, *app.requests))  # type: ignore[arg-type]
            assert json.loads(Codec("json", ENGINE_REQUESTS).encode(codec.decode(data))) == again


def test_short_frames_take_the_servers_defaults() -> None:
    options = sdk.MatchOptions.from_wire([])
    assert options.to_wire() == BY_TYPE["match.create"]["fields"][3]["default"] == sdk.MatchOptions().to_wire()


def test_too_short_frames_are_typed_errors() -> None:
    with pytest.raises(sdk_errors.BadFrame, match="accepted: 3 places, 5 needed"):
        sdk.Accepted.from_wire(["accepted", 1, "m"])
    assert isinstance(sdk.read_event(["later", 1]), garrison.UnknownEvent)


def test_every_error_has_its_class_in_the_sdk() -> None:
    for error in DESCRIBED["errors"]:
        if error["code"] == "rejected":
            continue
        cls = sdk_errors.BY_CODE[error["code"]]
        assert cls.__name__ == error["name"]
        assert cls.__bases__[0].__name__ == (error["parent"] or "GarrisonError")
        assert issubclass(cls, sdk_errors.Retryable) == (error["retry"] == "yes")
        assert issubclass(cls, sdk_errors.OutcomeUnknown) == (error["retry"] == "same_command")
    assert isinstance(sdk_errors.from_wire("match_full", "", None), sdk_errors.Rejected)


def test_answers_and_roles_come_from_the_routes() -> None:
    assert BY_TYPE["match.get"]["answers"] == ["Scoreboard"]
    assert BY_TYPE["match.report"]["roles"] == ["host", "service"]
    assert BY_TYPE["match.report"]["command"] and not BY_TYPE["match.tick"]["command"]
    assert BY_TYPE["hello"]["answers"] == ["Welcome", "Redirect"]
    assert BY_TYPE["close"]["answers"] == ["Done"]


# ---- the page names everything --------------------------------------------------------------------


@pytest.mark.parametrize("message", DESCRIBED["messages"], ids=lambda message: message["type"])
def test_the_page_names_each_message_and_field(message: dict[str, Any]) -> None:
    assert re.search(rf'["`]{re.escape(message["type"])}["`]', PAGE)
    for field in message["fields"]:
        assert re.search(rf"\b{field['name']}\b", PAGE), field["name"]


@pytest.mark.parametrize("struct", DESCRIBED["structs"], ids=lambda struct: struct["name"])
def test_the_page_names_each_field_of_nested_arrays(struct: dict[str, Any]) -> None:
    assert struct["type"] is None or f"`{struct['type']}`" in PAGE
    for field in struct["fields"]:
        assert re.search(rf"\b{field['name']}\b", PAGE), field["name"]


def test_the_page_names_all_codes_with_their_meaning() -> None:
    for code in DESCRIBED["close_codes"]:
        assert re.search(rf"^\| {code['code']} \| {code['name']} \|", PAGE, re.MULTILINE), code
    for error in DESCRIBED["errors"]:
        assert f"`{error['code']}`" in PAGE or error["code"] == "rejected", error["code"]
    for code in CODES:
        assert f"`{code}`" in PAGE, code


def test_the_pages_defaults_are_the_servers() -> None:
    gateway = Settings().gateway
    assert f"`rate_limited`; {gateway.rate_violations} refused in a row" in PAGE
    assert f"{gateway.rate_per_s} a second, {gateway.rate_burst} at once" in PAGE
    assert f"{gateway.outbox_max_messages:,}, or {gateway.outbox_max_bytes // 2**20} MiB" in PAGE
    assert f"| watched topics | {gateway.max_subscriptions} |" in PAGE
    assert f"| requests that wait for an answer | {gateway.max_in_flight} |" in PAGE
    assert f"| time for the hello | {gateway.hello_timeout_s:g} s |" in PAGE
    assert f"({gateway.max_frame_bytes // 1024} KiB unless" in PAGE
