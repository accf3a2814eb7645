"""The checkers of the tree find what they are for: each is tried on a planted violation."""

from pathlib import Path

import pytest

from tests.house import checks
from tests.house.checks import Row, Tree, parse


def tree(**sources: str) -> Tree:
    """Modules by name; `__` stands for a dot, a trailing `__init` marks a package."""
    modules = {}
    for key, source in sources.items():
        name = key.removesuffix("__init").replace("__", ".")
        modules[name] = parse(name, source, is_package=key.endswith("__init"))
    return modules


@pytest.mark.parametrize(
    "back",
    [
        "import a.x",
        "from a import x",
        "from a.x import thing",
        "from . import x",
        "from .x import thing",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a.x import thing",
        "def late():\n    from a.x import thing",
        "class C:\n    def late(self):\n        import a.x",
    ],
)
def test_circles_through_any_kind_of_import_are_named(back: str) -> None:
    assert checks.circles(tree(a__init="", a__x="from a.y import other", a__y=back)) == ["a.x -> a.y -> a.x"]


def test_circles_between_a_package_and_its_files_are_named() -> None:
    package = tree(a__init="from .x import thing", a__x="from a import other")
    assert checks.circles(package) == ["a -> a.x -> a"]
    relative = tree(a__init="from . import x", a__x="from . import other")
    assert checks.circles(relative) == ["a -> a.x -> a"]


def test_circles_are_told_apart_and_the_shortest_way_is_shown() -> None:
    found = checks.circles(
        tree(a="import b", b="import c\nimport d", c="import a", d="import b", e="import f", f="import e", g="import a")
    )
    assert found == ["b -> d -> b", "e -> f -> e"]


def test_imports_without_a_way_back_are_no_circle() -> None:
    assert checks.circles(tree(a="import b\nimport c", b="import c", c="import os")) == []


def test_class_names_are_found_twice_also_when_nested_or_private() -> None:
    modules = tree(
        a="class Move: ...", b="class Move: ...", c="class _P: ...\ndef f():\n    class _P: ...", d="class X: ..."
    )
    assert checks.doubled_classes(modules.values()) == ["class Move: a, b", "class _P: c, c"]


def test_modules_over_the_limit_are_found_but_generated_ones() -> None:
    long = "x = 1\n" * 601
    modules = {name: parse(name, long) for name in ("server.a", "garrison.messages")}
    modules["server.b"] = parse("server.b", "x = 1\n" * 600)
    assert checks.long_modules(modules.values()) == ["server.a has 601 lines"]


@pytest.mark.parametrize("first", ["What", "Who", "Whose", "Which", "Of which", "Those", "It", "One", "Where", "That"])
def test_docstrings_that_begin_with_a_clause_are_found_wherever_they_stand(first: str) -> None:
    text = f'"""{first} is meant."""'
    for source in (
        text,
        f"class C:\n    {text}",
        f"def f():\n    {text}",
        f"X = 1\n{text}",
        f"class C:\n    x: int\n    {text}",
    ):
        assert len(checks.clauses([parse("m", source)])) == 1, source


def test_docstrings_that_begin_with_the_thing_are_fine() -> None:
    source = '"""Turns of an actor."""\nX = "What is this"\ndef f():\n    """Whether it is. Which one?"""\n'
    assert checks.clauses([parse("m", source)]) == []


def test_comments_that_begin_with_a_clause_are_found() -> None:
    source = (
        "# Turns of an actor:\n# which may wait.\nx = 1  # what it was\ny = 2  # a number\n\n# It is late.\nz = 3\n"
    )
    assert checks.comment_clauses(source) == ["line 3: # what it was", "line 6: # It is late."]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import game.app", "server.a imports game.app"),
        ("def f():\n    from game.match import rules", "server.a imports game.match"),
        ("from persistence.game import tables", "server.a imports persistence.game"),
        ("import persistence.game.tables", "server.a imports persistence.game.tables"),
        ("X = 'game.app:App'", "server.a:1 names game.app"),
        ("X = 'game'", "server.a:1 names game"),
        ("X = 'persistence.game.mappings'", "server.a:1 names persistence.game"),
        ("'''Like game/match/rules.py.'''", "server.a:1 names game/match"),
        ("X = f'game.commands.{1}'", "server.a:1 names game.commands"),
    ],
)
def test_modules_of_the_engine_that_name_the_game_are_found(source: str, found: str) -> None:
    assert found in checks.game_names({"server.a": parse("server.a", source)})


def test_the_game_may_be_named_in_lab_and_where_it_is_allowed() -> None:
    modules = tree(server__lab__x="import game.app", game__x="import game.app", server__y="X = 'a game. A game is fun'")
    assert checks.game_names(modules) == []
    setting = {"server.settings": parse("server.settings", "app = 'game.app:App'")}
    assert checks.game_names(setting) and not checks.game_names(setting, [("server.settings", "game.app:App")])


def test_imports_of_the_laboratory_are_found() -> None:
    modules = tree(
        server__lab__x="import server.lab.y",
        server__main="def f():\n    from server.lab import x",
        game__a="import server.lab.y",
    )
    assert checks.lab_imports(modules) == [
        "server.main imports server.lab",
        "server.main imports server.lab.x",
        "game.a imports server.lab.y",
    ]


def test_actors_that_import_each_other_are_found() -> None:
    modules = tree(
        game__a__actor="from game.b import face, actor",
        game__b__actor="from game.a.face import A",
        game__app="import game.a.actor",
    )
    assert checks.actor_imports(modules) == ["game.a.actor imports game.b.actor"]


PAGE = """
| word | idea | where |
|---|---|---|
| **actor system** | a node's runtime | `a.py`, `room/` |
| epoch | a number | `a.py` |

| other | table | here |
|---|---|---|
| no | word | `b.py` |
"""


def test_the_glossary_is_read_from_its_tables() -> None:
    assert checks.glossary_rows(PAGE) == [
        Row("actor system", "a node's runtime", ("a.py", "room/")),
        Row("epoch", "a number", ("a.py",)),
    ]


def test_words_that_are_not_used_where_they_should_live_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("class ActorSystem: ...  # running epochal\n")
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "b.py").write_text("# the actor\n")
    (tmp_path / "room" / "estate.py").write_text("")
    rows = [*checks.glossary_rows(PAGE), Row("estate", "", ("room",)), Row("x", "", ()), Row("y", "", ("c.py",))]
    rows += [Row("run", "", ("a.py",)), Row("system", "", ("a.py",))]
    assert checks.misplaced(rows, tmp_path) == [
        "actor system is not used in room/",
        "epoch is not used in a.py",
        "x: no place is named",
        "y: there is no c.py",
        "run is not used in a.py",
    ]


def test_banned_words_are_found_as_parts_of_names() -> None:
    module = parse("a", "class HandoverSpec: ...\ndef f(hand_over, one): return one.HANDOVER_S, everyone, handovers")
    assert checks.banned_words([module], "handover") == ["a uses HANDOVER_S", "a uses HandoverSpec"]
    assert checks.banned_words([module], "one", whole=True) == ["a uses one"]
    assert checks.banned_words([parse("a.handover", "")], "handover") == ["a.handover uses handover"]


def test_paths_and_files_that_are_not_there_are_found(tmp_path: Path) -> None:
    (tmp_path / "server" / "room").mkdir(parents=True)
    (tmp_path / "server" / "room" / "a.py").write_text("")
    text = "See `server/room/a.py`, server/room/ and `a.py`, not server/room/b.py, `b.py` or server/gone/. Nor b.py."
    assert checks.dead_paths(text, tmp_path) == ["server/room/b.py", "server/gone/", "b.py"]
    assert checks.dead_paths("Any game/*/x.py, tests/{a,b}.py, https://server/x.py, my/server/x.py", tmp_path) == []


def test_dotted_names_that_are_not_there_are_found() -> None:
    modules = tree(server__a="class C: ...\ndef f(): ...", server__init="")
    text = "`server.a`, `server.a.C`, `server.a.D`, `server.b`, `game.x`, server.b and `service.b`"
    assert checks.dead_names(text, modules) == ["server.a.D", "server.b", "game.x"]


def test_texts_of_a_file_are_its_comments_and_strings() -> None:
    assert checks.comments_and_docstrings('"""A."""\nx = 1  # B\n') == '"""A."""\n# B'
