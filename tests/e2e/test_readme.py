"""The README is true: its commands exist, its links lead somewhere. Its script is played by `test_play.py`."""

import re

from server.cli.app import application_commands, own_commands
from tests.support.program import ROOT

PAGES = [ROOT / "README.md", ROOT / "clients/python/README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_its_commands_exist() -> None:
    """Every `garrison …` in the pages names a command that there is."""
    called = re.compile(r"(?:^|[`(/ ])garrison (?!import)([a-z]+)", re.MULTILINE)
    commands = {**own_commands(), **application_commands()}
    for page in PAGES:
        text = page.read_text()
        brought = set(re.findall(r'commands=\{"(\w+)"', text))  # by the application that the page writes
        for command in called.findall(fenced_or_quoted(text)):
            assert command in {*commands, *brought}, f"{page.name}: garrison {command}"


def fenced_or_quoted(text: str) -> str:
    """What a page shows as code."""
    fences = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    bare = re.sub(r"^```[a-z]*\n.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return "\n".join([*fences, *re.findall(r"`([^`\n]+)`", bare)])


def test_its_links_and_paths_are_real() -> None:
    for page in PAGES:
        text = page.read_text()
        links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in link]
        assert [link for link in links if not (page.parent / link).exists()] == [], page.name
        paths = re.findall(r"`((?:server|game|persistence|migrations|clients|tests|docs|deploy)/[\w./]*)`", text)
        assert [path for path in paths if not (ROOT / path).exists()] == [], page.name


def test_make_has_what_it_says() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make ([a-z]+)", fenced_or_quoted((ROOT / "README.md").read_text())):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
