"""Every file, folder, module and class that a text of the project names is there."""

import re
import tomllib
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


def test_the_table_of_rooms_has_the_order_of_the_import_rules() -> None:
    """Each room may import only from rooms below it in the table; `make imports` holds that for the layers."""
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    rows = re.findall(r"^\| (`server/[^|]*) \|", page[page.index("| room |") :], re.MULTILINE)
    place = {name: at for at, row in enumerate(rows) for name in re.findall(r"`server/(\w+)", row)}
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    layers = next(contract for contract in contracts if contract.get("containers") == ["server"])["layers"]
    names = [name.strip() for layer in layers for name in layer.split(":")]
    assert sorted(place) == sorted(names)
    assert [place[name] for name in names] == sorted(place[name] for name in names)
