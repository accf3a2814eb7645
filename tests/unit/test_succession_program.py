"""How a process names the program that it is, so that what stands at that name now is started."""

import os
from pathlib import Path

import pytest

from server.errors import CalledOff
from server.succession.program import Start

WORDS = ("node", "--name", "node-1")


def a_start(*whole: str, directory: Path, interpreter: str = "/bin/sh", by_kernel: bool = False) -> Start:
    own = ("/src/server/main.py", *whole[whole.index("-m") + 2 :]) if "-m" in whole else whole[-len(WORDS) - 1 :]
    return Start(whole, own, interpreter, str(directory), by_kernel)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "bin" / "garrison"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_a_module_is_run_by_the_interpreter_with_the_options_that_it_had(tmp_path: Path) -> None:
    start = a_start("sh", "-X", "dev", "-m", "server.main", *WORDS, directory=tmp_path)
    program = start.again({"A": "b"}, ("--succeed", "7"))
    assert program.arguments == ("/bin/sh", "-X", "dev", "-m", "server.main", *WORDS, "--succeed", "7")
    assert (program.directory, program.environment) == (str(tmp_path), {"A": "b"})


def test_a_script_that_the_kernel_ran_is_run_itself(script: Path, tmp_path: Path) -> None:
    start = a_start(
        "/old/python3.11", str(script), *WORDS, directory=tmp_path, interpreter="/old/python3.11", by_kernel=True
    )
    assert start.again({}).arguments == (str(script), *WORDS)


def test_a_script_given_to_an_interpreter_is_given_to_it_again(script: Path, tmp_path: Path) -> None:
    start = a_start("sh", "-O", "bin/garrison", *WORDS, directory=tmp_path)
    assert start.again({}).arguments == ("/bin/sh", "-O", str(script), *WORDS)


def test_an_heir_does_not_pass_its_own_birth_on(tmp_path: Path) -> None:
    whole = ("sh", "-m", "server.main", *WORDS, "--succeed", "7:8:1:2:0")
    start = Start(whole, ("main.py", *WORDS, "--succeed", "7:8:1:2:0"), "/bin/sh", str(tmp_path))
    assert start.again({}).arguments == ("/bin/sh", "-m", "server.main", *WORDS)


def test_a_link_to_a_release_is_named_and_not_what_it_led_to(script: Path, tmp_path: Path) -> None:
    current = tmp_path / "current"
    current.symlink_to(script.parent)
    start = a_start("x", str(current / "garrison"), *WORDS, directory=current, by_kernel=True)
    assert start.again({}).arguments[0] == str(current / "garrison")


def test_an_interpreter_of_another_version_is_found_by_the_name_that_every_one_has(tmp_path: Path) -> None:
    (tmp_path / "python3").write_text("#!/bin/sh\n")
    (tmp_path / "python3").chmod(0o755)
    start = a_start("x", "-m", "server.main", *WORDS, directory=tmp_path, interpreter=str(tmp_path / "python3.11"))
    assert start.again({}).arguments[0] == str(tmp_path / "python3")


@pytest.mark.parametrize(
    ("whole", "why"),
    [
        (("sh", "-m", "pytest", "tests", "-q", "-x"), "not started as"),
        (("sh", "/nowhere/garrison", *WORDS), "/nowhere/garrison is not there"),
        (("sh", *WORDS), "not started as"),
    ],
)
def test_a_process_that_cannot_be_started_again_is_refused(whole: tuple[str, ...], why: str, tmp_path: Path) -> None:
    with pytest.raises(CalledOff, match=why):
        a_start(*whole, directory=tmp_path).again({})


def test_an_interpreter_or_directory_that_is_gone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CalledOff, match=r"interpreter .*python3.11 is not there"):
        a_start("x", "-m", "server.main", *WORDS, directory=tmp_path, interpreter=str(tmp_path / "python3.11")).again(
            {}
        )
    with pytest.raises(CalledOff, match="directory"):
        a_start("x", "-m", "server.main", *WORDS, directory=tmp_path / "gone").again(os.environ)
