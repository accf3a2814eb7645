"""The README is true: its script runs against a demo, its commands exist, its links lead somewhere."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from server.cli.app import application_commands, own_commands
from tests.support.program import ROOT, Running, environment, here

PAGES = [ROOT / "README.md", ROOT / "clients/python/README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_its_script_runs_against_a_demo(tmp_path: Path) -> None:
    script = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert script is not None
    code = script[1]
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    (tmp_path / "hello.py").write_text(code)
    with Running("demo", "--port", "0", "--players", "16", cwd=tmp_path) as running:
        url = running.line("node-1     ws://").split()[1]
        running.line("starting the bots")
        token = here("token", "spartan-117", cwd=tmp_path).stdout.strip()
        printed = run_for_lines(tmp_path, [url, token], 5)
        refused = subprocess.run(
            [sys.executable, "hello.py", url, token[:-4]],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        running.interrupt()
        assert running.end()[0] == 0
    assert [line.split()[0] for line in printed] == ["1", "2", "3", "4", "5"]
    assert "Created" in printed[0]
    assert (refused.returncode, "Traceback" in refused.stderr) == (1, False)
    assert refused.stderr.strip()


def hearing_ctrl_c() -> None:
    """A program hears Ctrl-C also where the tests run in the background of a shell, which has it ignored there."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run_for_lines(place: Path, arguments: list[str], count: int) -> list[str]:
    """The first `count` lines that `hello.py` prints. It needs a live match: tried until there is one."""
    for _ in range(10):
        with subprocess.Popen(
            [sys.executable, "hello.py", *arguments],
            cwd=place,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=hearing_ctrl_c,  # noqa: PLW1509 - one call into the kernel
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            lines = [process.stdout.readline() for _ in range(count)]
            process.send_signal(signal.SIGINT)
            told = process.communicate(timeout=30)[1]
            if all(lines):
                assert (process.returncode, told) == (0, "")  # Ctrl-C ends it
                return lines
            assert "IndexError" in told
    raise AssertionError("never a live match")


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
