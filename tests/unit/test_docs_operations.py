"""docs/operations.md: its table has every setting with its default, and its metrics exist."""

import json
import re
from pathlib import Path

import msgspec
import pytest

from server.cli.drain import _report
from server.runtime.metrics import Metrics
from server.settings import Settings

PAGE = (Path(__file__).resolve().parents[2] / "docs/operations.md").read_text()


def shown(value: object) -> str:
    if value is None or value == []:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"`{value}`"
    if isinstance(value, list):
        return ", ".join(map(shown, value))
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def defaults(settings: msgspec.Struct, prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name in settings.__struct_fields__:
        value = getattr(settings, name)
        if isinstance(value, msgspec.Struct):
            found |= defaults(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = shown(value)
    return found


def test_every_setting_has_its_line_and_its_default() -> None:
    table = PAGE.partition("| setting |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `([a-z_.]+)` \| (.+?) \| (.+?) \|$", table, re.MULTILINE)
    assert len(rows) == len({name for name, _, _ in rows})
    assert {name: default for name, default, _ in rows} == defaults(Settings())


def test_every_key_of_a_drain_has_its_word(capsys: pytest.CaptureFixture[str]) -> None:
    told = dict.fromkeys(("node", "incarnation", "moved", "activations_left", "sessions_left"), 1)
    _report({**told, "done": True}, 1.0, True)
    part = PAGE.partition("**Draining**")[2].partition("\n**")[0]
    assert {key for key in json.loads(capsys.readouterr().out) if f"`{key}`" not in part} == set()


def test_every_metric_it_names_exists() -> None:
    named = set(re.findall(r"`garrison_([a-z_]+)`", PAGE))
    assert len(named) > 10
    assert named - set(vars(Metrics())) == set()
