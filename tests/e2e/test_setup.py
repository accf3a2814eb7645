"""`make setup`: what is missing is said in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Stands in for an interpreter: answers the questions of .ci/setup as the test wants.
STAND_IN = """#!/bin/sh
case "$2" in
  "") exit 0 ;;
  *print*) echo {version} ;;
  *"import venv"*) exit {venv} ;;
  *) exit {old} ;;
esac
"""


def setup(python: str, venv: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", ".ci/setup", "requirements.lock"],
        cwd=ROOT,
        env={**os.environ, "PYTHON": python, "VENV": str(venv)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def stand_in(path: Path, version: str, *, old: int = 0, venv: int = 0) -> str:
    path.write_text(STAND_IN.format(version=version, old=old, venv=venv))
    path.chmod(0o755)
    return str(path)


def the_one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode != 0
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line]
    assert len(lines) == 1, lines
    return lines[0]


def test_an_interpreter_that_is_not_there(tmp_path: Path) -> None:
    line = the_one_line(setup("/nowhere/python3.11", tmp_path / "venv"))
    assert "no working interpreter '/nowhere/python3.11'" in line
    assert "PYTHON=" in line


def test_an_interpreter_that_is_too_old(tmp_path: Path) -> None:
    python = stand_in(tmp_path / "python", "3.9", old=1)
    line = the_one_line(setup(python, tmp_path / "venv"))
    assert "Python 3.11 or later is needed" in line
    assert "3.9" in line


def test_no_venv_module(tmp_path: Path) -> None:
    python = stand_in(tmp_path / "python", "3.11", venv=1)
    line = the_one_line(setup(python, tmp_path / "venv"))
    assert "venv module of Python 3.11 is missing" in line


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc to stand for an unwritable place")
def test_a_directory_that_cannot_be_written() -> None:
    line = the_one_line(setup(sys.executable, Path("/proc/garrison/venv")))
    assert "cannot write to" in line


def test_the_larger_lock_holds_the_smaller_one_at_the_same_versions() -> None:
    running, checking = (_pins(ROOT / name) for name in ("requirements.lock", "requirements-dev.lock"))
    assert running.items() <= checking.items()
    assert "pytest" in checking and "pytest" not in running


def _pins(path: Path) -> dict[str, str]:
    lines = (line.split(";")[0].split() for line in path.read_text("utf-8").splitlines())
    return dict(words[0].split("==") for words in lines if words and "==" in words[0])
