"""The tree's structure: what a machine can hold of the house. Failures name the module and what is wrong."""

import pytest

from tests.house import checks
from tests.house.checks import read_tree, within

SETTING_APP = ("server.settings", "game.app:App")


def test_the_tree_is_read() -> None:
    names = set(read_tree())
    assert {"server.node", "game.app", "persistence.sql_store", "migrations.env", "garrison.client"} <= names
    assert len(names) > 200


def test_there_is_no_import_circle() -> None:
    assert checks.circles(read_tree()) == []


def test_no_class_name_stands_twice_in_server() -> None:
    assert checks.doubled_classes(within(read_tree(), "server")) == []


def test_no_module_is_longer_than_a_reader_bears() -> None:
    assert checks.long_modules(within(read_tree(), "server", "game", "persistence", "garrison", "garrison_bots")) == []


@pytest.mark.parametrize("package", ["server", "persistence", "game", "garrison", "garrison_bots"])
def test_comments_begin_with_the_thing(package: str) -> None:
    for path in sorted((checks.ROOT / checks.PACKAGES[package]).rglob("*.py")):
        found = checks.comment_clauses(path.read_text("utf-8"))
        assert not found, f"{path.relative_to(checks.ROOT)}: {found}"


def test_docstrings_begin_with_the_thing() -> None:
    assert checks.clauses(within(read_tree(), "server", "persistence", "game", "garrison", "garrison_bots")) == []


def test_the_engine_names_no_game() -> None:
    assert checks.game_names(read_tree(), [SETTING_APP]) == []


def test_the_laboratory_is_imported_by_nothing() -> None:
    assert checks.lab_imports(read_tree()) == []


def test_actors_of_the_game_import_faces_of_each_other() -> None:
    assert checks.actor_imports(read_tree()) == []


GLOSSARY = checks.glossary_rows((checks.ROOT / "docs/glossary.md").read_text("utf-8"))


def test_the_glossary_has_each_word_once() -> None:
    words = [row.word for row in GLOSSARY]
    assert len(words) >= 40 and len(set(words)) == len(words)


def test_every_word_of_the_glossary_is_used_where_it_lives() -> None:
    assert checks.misplaced(GLOSSARY) == []


IP_HOSTS = {
    "server.admin.app", "server.admin.security", "server.cli.admin_side", "server.cli.common",
    "server.cli.local_cluster", "server.cli.viewer", "server.cluster.membership", "server.lab.bench.raw_socket",
    "server.lab.chaos.stores", "server.runtime.listening", "server.sessions.accepting",
    "server.sessions.picows_driver", "server.settings", "server.storage.journal.local",
    "server.transport.addresses", "server.transport.tcp",
}  # fmt: skip
"""Modules of the engine in which a host is a machine or its address."""
CLIENTS_ROLE = {"server.cli.token"}
"""Modules in which a host is the role of a client."""


def test_handover_is_no_word_of_the_house() -> None:
    """Slots are handed off, activations migrate, sessions transfer."""
    assert checks.banned_words(within(read_tree(), "server", "game", "persistence"), "handover") == []


@pytest.mark.parametrize("word", ["settle", "settled", "settling"])
def test_only_results_of_matches_are_settled(word: str) -> None:
    """An estate is closed, a future resolved; a slot is known."""
    assert checks.banned_words(within(read_tree(), "server", "persistence.engine", "persistence.sql_store"), word) == []


def test_a_host_in_the_engine_is_an_address() -> None:
    """A node's runtime is its actor system, an activation's node its home."""
    modules = [module for module in within(read_tree(), "server") if module.name not in IP_HOSTS | CLIENTS_ROLE]
    assert checks.banned_words(modules, "host") == []


def test_no_variable_is_called_one() -> None:
    assert checks.banned_words(within(read_tree(), "server", "game", "persistence"), "one", whole=True) == []
