"""What is generated is up to date, and the SDK, the page and the server agree with it."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgpack
import pytest

import garrison
from game.player.actor import Player
from garrison import errors as sdk_errors
from garrison import messages as sdk
from server.cli import protocol
from server.settings import Settings
from server.wire.codec import Codec
from server.wire.messages import ENGINE_REQUESTS

DESCRIBED: dict[str, Any] = json.loads(protocol.JSON_FILE.read_text("utf-8"))
PAGE = (protocol.ROOT / "docs" / "protocol.md").read_text("utf-8")
BY_TYPE: dict[str, dict[str, Any]] = {message["type"]: message for message in DESCRIBED["messages"]}


CODEGEN = protocol.ROOT / "clients" / "codegen"


def render(script: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script of the codegen where it can import nothing but Python's own library."""
    command = [sys.executable, "-I", "-S", script, *arguments]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60, check=False)


def test_protocol_json_is_what_the_structs_give(capsys: pytest.CaptureFixture[str]) -> None:
    assert protocol.main(["--check"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("script", sorted(CODEGEN.glob("*.py")), ids=lambda path: path.stem)
def test_messages_of_each_language_are_what_the_json_gives(script: Path) -> None:
    checked = render(script, "--check")
    assert checked.returncode == 0, checked.stderr


def test_a_stale_protocol_json_is_found_and_written(tmp_path: Path) -> None:
    out = tmp_path / "protocol.json"
    out.write_text(protocol.JSON_FILE.read_text("utf-8") + "\n", "utf-8")
    assert protocol.main(["--check", "--out", str(out)]) == 1
    assert protocol.main(["--out", str(out)]) == 0
    assert protocol.main(["--check", "--out", str(out)]) == 0
    assert out.read_text("utf-8") == protocol.JSON_FILE.read_text("utf-8")


def test_stale_messages_are_found_and_written(tmp_path: Path) -> None:
    description, out = tmp_path / "protocol.json", tmp_path / "messages.py"
    renamed = protocol.JSON_FILE.read_text("utf-8").replace('"activity"', '"motto"')
    description.write_text(renamed, "utf-8")
    arguments = ("--description", description, "--out", out)
    assert render(CODEGEN / "python.py", "--check", *arguments).returncode == 1
    assert render(CODEGEN / "python.py", *arguments).returncode == 0
    assert render(CODEGEN / "python.py", "--check", *arguments).returncode == 0
    assert "motto: str" in out.read_text("utf-8")


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
        unknown = issubclass(cls, sdk_errors.OutcomeUnknown) and cls is not sdk_errors.OutcomeUnknown
        assert unknown == (error["retry"] == "same_command")
    assert isinstance(sdk_errors.from_wire("match_full", "", None), sdk_errors.Rejected)


def test_answers_and_roles_come_from_the_routes() -> None:
    assert BY_TYPE["match.get"]["answers"] == ["Scoreboard"]
    assert BY_TYPE["match.report"]["roles"] == ["host", "service"]
    assert BY_TYPE["match.report"]["command"] and not BY_TYPE["match.tick"]["command"]
    assert BY_TYPE["hello"]["answers"] == ["Welcome", "Redirect"]
    assert BY_TYPE["close"]["answers"] == ["Done"]


# ---- the page names everything --------------------------------------------------------------------


def shapes(page: str) -> list[list[str]]:
    """Each array and each table row of the page, as the names in it: defaults and bounds are dropped."""
    plain = re.sub(r"\([^)]*\)| = (?:\[\]|\"[^\"]*\"|[\w.]+)", "", page)
    rows = re.findall(r"^\| (`.*) \|$", plain, re.MULTILINE)
    arrays = [plain[at + 1 : _end(plain, at)] for at, letter in enumerate(plain) if letter == "["]
    return [re.findall(r"[A-Za-z_][\w.]*", text) for text in (*rows, *arrays)]


def _end(text: str, start: int) -> int:
    """The place of the bracket that closes the one at `start`."""
    depth = 0
    for at in range(start, len(text)):
        depth += {"[": 1, "]": -1}.get(text[at], 0)
        if depth == 0:
            return at
    return len(text)


SHAPES = shapes(PAGE)


def shows(spec: dict[str, Any], shapes: list[list[str]]) -> bool:
    """Whether the page shows the array of a message or struct: its type, then its fields in order."""
    names = [field["name"] for field in spec["fields"]]
    if spec["type"] in DESCRIBED["events"]:
        assert names.pop(0) == "time_ms"  # the table's head says that it comes first
    for words in shapes:
        if spec["type"] is not None and words[:1] != [spec["type"]]:
            continue
        if spec["type"] is None and words == names:
            return True
        if spec["type"] is not None and any(words[at : at + len(names)] == names for at in range(1, len(words) + 1)):
            return True
    return False


SPECS = [*DESCRIBED["messages"], *DESCRIBED["structs"]]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: str(spec["type"] or spec["name"]))
def test_the_page_shows_each_array_with_its_fields_in_order(spec: dict[str, Any]) -> None:
    assert shows(spec, SHAPES)
    assert not shows({**spec, "fields": [*spec["fields"], {"name": "motto"}]}, SHAPES)


@pytest.mark.parametrize(
    "message",
    [m for m in DESCRIBED["messages"] if m["part"] != "engine" and m["kind"] == "request"],
    ids=lambda message: message["type"],
)
def test_the_page_tells_who_may_send_what_and_what_answers(message: dict[str, Any]) -> None:
    row = re.search(
        rf"^\| `{re.escape(message['type'])}`( \*\*C\*\*)? \| ([^|]*) \|.*\| `(\S+)` \|$", PAGE, re.MULTILINE
    )
    assert row is not None
    letters = {"host": "H", "player": "P", "service": "S"}
    roles = "all" if len(message["roles"]) == 3 else " ".join(letters[role] for role in message["roles"])
    types = {each["name"]: each["type"] for each in DESCRIBED["messages"]}
    assert (bool(row[1]), row[2], [row[3]]) == (message["command"], roles, [types[each] for each in message["answers"]])


def test_the_page_names_all_codes_with_their_meaning() -> None:
    for code in DESCRIBED["close_codes"]:
        assert re.search(rf"^\| {code['code']} \| {code['name']} \|", PAGE, re.MULTILINE), code
    for error in DESCRIBED["errors"]:
        assert f"`{error['code']}`" in PAGE or error["code"] == "rejected", error["code"]


def test_the_pages_defaults_are_the_servers() -> None:
    gateway = Settings().gateway
    assert f"`rate_limited`; {gateway.rate_violations} refused in a row" in PAGE
    assert f"{gateway.rate_per_s} a second, {gateway.rate_burst} at once" in PAGE
    assert f"{gateway.outbox_max_messages:,}, or {gateway.outbox_max_bytes // 2**20} MiB" in PAGE
    assert f"| watched topics | {gateway.max_subscriptions} |" in PAGE
    assert f"| requests that wait for an answer | {gateway.max_in_flight} |" in PAGE
    assert f"| time for the hello | {gateway.hello_timeout_s:g} s |" in PAGE
    assert f"({gateway.max_frame_bytes // 1024} KiB unless" in PAGE


@pytest.mark.parametrize("rule", DESCRIBED["rule_codes"], ids=lambda rule: rule["code"])
def test_the_page_tells_the_meaning_of_each_rule_code(rule: dict[str, str]) -> None:
    """D10."""
    assert f"| `{rule['code']}` | {rule['meaning']} |" in PAGE


@pytest.mark.parametrize("error", DESCRIBED["errors"], ids=lambda error: error["code"])
def test_the_page_says_of_each_code_whether_to_repeat(error: dict[str, Any]) -> None:
    """D1: page and protocol.json agree, on `outcome_unknown` too."""
    if error["code"] == "rejected":
        return
    row = re.search(rf"^\|[^|]*\|[^|]*`{error['code']}`[^|]*\|[^|]*\| ([^|]*) \|$", PAGE, re.MULTILINE)
    assert row is not None
    words = {"no": "no", "yes": "yes, after the hint", "same_command": "only commands, with the same number"}
    assert row[1] == words[error["retry"]]


def test_the_page_tells_the_servers_times() -> None:
    """D2, D3, D6."""
    settings = Settings()
    quiet_s = settings.gateway.heartbeats_missed * settings.gateway.heartbeat_interval_s
    offline_s = quiet_s + settings.gateway.resume_window_s
    assert f"answers every request within {settings.actors.call_timeout_s:g} s" in PAGE
    assert f"{offline_s:g} s after the last sign of a client that fell silent" in PAGE
    assert f"Its match hears of it {Player.ABSENT_S:g} s later" in PAGE
    assert f"`iat` at most {settings.gateway.clock_skew_s:g} s ahead" in PAGE
