"""Every file, folder, module and class that a text of the project names is there."""

from pathlib import Path

import pytest

from tests.house import checks
from tests.house.checks import PACKAGES, ROOT, read_tree

PAGES = sorted([*ROOT.glob("docs/*.md"), ROOT / "README.md", ROOT / "clients/python/README.md"])
MADE_BY_READERS = {"clan.py", "clans.py", "hello.py", "log.json"}
"""Files that a page tells its reader to make."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_name_what_there_is(page: Path) -> None:
    text = page.read_text("utf-8")
    assert [path for path in checks.dead_paths(text) if path not in MADE_BY_READERS] == []
    assert checks.dead_names(text, read_tree()) == []


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_comments_and_docstrings_name_what_there_is(package: str) -> None:
    for path in sorted((ROOT / PACKAGES[package]).rglob("*.py")):
        text = checks.comments_and_docstrings(path.read_text("utf-8"))
        dead = checks.dead_paths(text) + checks.dead_names(text, read_tree())
        assert not dead, f"{path.relative_to(ROOT)} names {dead}"
