"""Modes of a studio's own: files that are taken in, and those that are refused, with file, line and reason."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from game.app import App
from game.messages import Kill, Objective
from game.modes import loading, purity
from game.modes.loading import BadModeFile, add_files, read_file
from game.modes.registry import BUILT_IN, MODES, Modes
from server.cli import app as program
from server.drivers import load_app, terms_of, token_rules
from server.errors import BadSetting
from server.settings import from_tree
from tests.support.matches import Played

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/modes.md").read_text()
EXAMPLE = re.search(r"```python\n(.*?)```", PAGE, re.S)
GOOD = """
from game.modes.mode import ModeRules, kill_points

VERSIONS = (ModeRules(name="brawl", title="Brawl", points=kill_points),)
"""


@pytest.fixture(autouse=True)
def _no_mode_stays() -> Iterator[None]:
    yield
    for name in ("brawl", "juggernaut"):
        MODES.remove(name)


def written(folder: Path, text: str, name: str = "mode.py") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_the_example_of_the_page_is_a_mode(tmp_path: Path) -> None:
    assert EXAMPLE is not None
    load_app(from_tree({"application": {"files": [written(tmp_path, EXAMPLE[1])]}}))
    played = Played().live(mode="juggernaut")
    played.report(Objective(1, "p0", "crowned"), Kill(2, "p0", "p1"), Kill(3, "p1", "p0"), Kill(4, "p2", "p3"))
    assert [played.state.players[name].score for name in ("p0", "p1", "p2")] == [1, 5, 1]
    assert (played.state.options.score_limit, played.state.options.teams) == (30, 0)


def test_the_page_names_every_mode_and_field() -> None:
    for versions in BUILT_IN:
        assert f"| `{versions[0].name}` |" in PAGE
        for field in versions[0].__struct_fields__:
            assert f"`{field}" in PAGE, field


@pytest.mark.parametrize("path", sorted((ROOT / "game/modes").glob("*.py")), ids=lambda path: path.stem)
def test_the_programs_own_modes_are_as_pure(path: Path) -> None:
    if path.stem not in ("__init__", "loading", "mode", "purity", "registry"):
        purity.check(path.read_text())


BODY = "def points(state, event):\n    {}\n    return 1\n"
BAD = [
    ("import time", 1, "imports time"),
    ("import os.path", 1, "imports os.path"),
    ("x = 1\nfrom datetime import datetime", 2, "imports datetime"),
    ("from game.match import actor", 1, "imports game.match"),
    ("from game.modes import registry", 1, "imports game.modes"),
    ("from server.drivers import load", 1, "imports server.drivers"),
    ("from .slayer import VERSIONS", 1, "relative"),
    ("from math import *", 1, "imports everything"),
    ("import functools, secrets", 1, "imports secrets"),
    ("import enum\nx = enum.sys", 2, "imports sys"),
    ("from enum import sys", 1, "imports sys"),
    ("from typing import get_type_hints", 1, "runs text"),
    (BODY.format("import random"), 2, "imports random"),
    (BODY.format("open('x')"), 2, "uses open()"),
    (BODY.format("eval('1')"), 2, "uses eval()"),
    (BODY.format("print(state)"), 2, "uses print()"),
    (BODY.format("hash('a')"), 2, "uses hash()"),
    (BODY.format("getattr(state, 'x')"), 2, "uses getattr()"),
    (BODY.format("__import__('os')"), 2, "uses __import__"),
    (BODY.format("().__class__.__base__"), 2, "uses .__"),
    (BODY.format("'{0.__class__}'.format(1)"), 2, "underscores"),
    (BODY.format("state.players._peak"), 2, "uses ._peak"),
    ("n = 0\n" + BODY.format("global n; n = 1"), 3, "changes n"),
    ("seen = {}\n" + BODY.format("seen[event.player] = 1"), 3, "changes seen"),
    ("seen = []\n" + BODY.format("seen.append(1)"), 3, "changes seen"),
    ("f = lambda state, event: state.x.append(1)", 1, "changes state"),
    (BODY.format("event.points = 3"), 2, "changes event"),
    ("def points(state, event, seen=[]):\n    return 1", 1, "default value"),
    ("async def points(state, event):\n    return 1", 1, "waits"),
    ("def points(:", 1, "no Python"),
    ("x = 1\x00", 1, "no Python"),
]


@pytest.mark.parametrize(("source", "line", "why"), BAD, ids=[why + str(place) for place, (*_, why) in enumerate(BAD)])
def test_a_file_that_is_not_pure_is_refused(source: str, line: int, why: str, tmp_path: Path) -> None:
    file = written(tmp_path, source)
    with pytest.raises(BadModeFile) as refused:
        read_file(file)
    assert (refused.value.file, refused.value.line) == (file, line)
    assert why in refused.value.reason
    assert refused.value.message.startswith(f"setting application.files: {file}:{line}: ")
    assert "\n" not in refused.value.message


@pytest.mark.parametrize(
    "source",
    [
        "import math\nx = math.floor(1.5)",
        "def f(state):\n    out = []\n    out.append(1)\n    out[0] = 2\n    return out",
        "from typing import NamedTuple\nclass P(NamedTuple):\n    x: int = 0\ny = P()._replace(x=1)",
        "import collections.abc\nfrom itertools import chain\nfrom functools import cache",
        "LIMITS = {'a': 1}\ndef f(state):\n    return LIMITS['a']",
    ],
)
def test_a_pure_file_passes(source: str) -> None:
    purity.check(source)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("x = 1", "has no VERSIONS"),
        ("VERSIONS = ()", "has no VERSIONS"),
        ("VERSIONS = (1,)", "has no VERSIONS"),
        (GOOD.replace("brawl", "slayer"), "the program's own"),
        (GOOD.replace("),)", "), ModeRules(name='brawl', title='Again'))"), "a version twice"),
        (GOOD.replace("),)", "), ModeRules(name='other', title='Other', version=2))"), "several modes"),
        (GOOD.replace("title=", "rounds=99, title="), "rounds must be"),
        (GOOD.replace("title=", "titel="), "titel"),
        ("x = 1 // 0", "ZeroDivisionError"),
    ],
)
def test_a_file_that_is_no_mode_is_refused(source: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(BadModeFile, match=why):
        read_file(written(tmp_path, source))


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "latin.py").write_bytes(b"# \xff")
    (tmp_path / "large.py").write_bytes(b"#" * (loading.MAX_FILE_BYTES + 1))
    for name, why in (("absent.py", "cannot be read"), ("latin.py", "no UTF-8"), ("large.py", "larger")):
        with pytest.raises(BadModeFile, match=why):
            read_file(str(tmp_path / name))


def test_one_bad_file_keeps_all_out(tmp_path: Path) -> None:
    modes, good = Modes(), written(tmp_path, GOOD)
    for files in ([good, written(tmp_path, "import time", "bad.py")], [good, good]):
        with pytest.raises(BadModeFile):
            add_files(modes, files)
        assert modes.names() == []
    add_files(modes, [good])
    add_files(modes, [good])  # whoever loads the application again
    assert modes.names() == ["brawl"]


def test_a_program_with_a_bad_file_says_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, "import random")
    monkeypatch.setenv("GARRISON_APPLICATION__FILES", file)
    assert program.run(["matches"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"garrison: setting application.files: {file}:1: imports random: ")
    assert said.count("\n") == 1


def test_an_application_that_takes_no_files_says_so() -> None:
    with pytest.raises(BadSetting, match="takes no files"):
        load_app(from_tree({"app": "tests.support.tiny:TinyApp", "application": {"files": ["x"]}}))


def test_nodes_with_other_mode_files_tell_each_other_another_version(tmp_path: Path) -> None:
    rules = token_rules(from_tree({"security": {"signing_key": "k" * 32}}))
    (tmp_path / "there").mkdir()
    here, there = written(tmp_path, GOOD), written(tmp_path / "there", GOOD, "same.py")
    other = written(tmp_path, GOOD + "# changed", "other.py")
    told = [terms_of(App, rules, b"k" * 32, "", files).kinds for files in ([], [here], [there], [other])]
    assert told[1] == told[2] and len(set(told)) == 3


def test_files_in_another_order_are_the_same_version(tmp_path: Path) -> None:
    rules = token_rules(from_tree({"security": {"signing_key": "k" * 32}}))
    files = [written(tmp_path, GOOD), written(tmp_path, "# other", "other.py")]
    told = [terms_of(App, rules, b"k" * 32, "", order).kinds for order in (files, files[::-1])]
    assert told[0] == told[1]
