"""The output of commands, wherever it goes: a terminal that obeys what it is sent, an encoding without the letters of
a name, a pipe that nobody reads, no output at all."""

import asyncio
import contextlib
import json
import shlex
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from game.messages import MatchCreate, MatchOptions
from server.actors.actor import Caller
from server.cli import drain, upgrade
from server.cli.admin_side import AdminSide
from server.cli.app import INTERRUPTED, run
from server.drivers import build_node, upgrade_store
from server.ids import actor_id
from server.settings import from_tree
from tests.support.program import command, environment

KEY = "a key of this test's own, which is long enough"
TOKEN = f"token ann --set {shlex.quote('security.signing_key=' + KEY)}"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with settings and a database with one match, whose map has a name of an earlier version's."""
    path = tmp_path_factory.mktemp("output")
    asyncio.run(_write(path))
    (path / "garrison.toml").write_text('[store]\nurl = "sqlite:///stored.db"\n')
    return path


async def _write(path: Path) -> None:
    settings = from_tree(
        {
            "store": {"url": f"sqlite:///{path}/stored.db", "group_commit_s": 0.001},
            "gateway": {"port": 0},
            "admin": {"port": 0, "token": "operator"},
            "security": {"signing_key": KEY},
            "log": {"level": "warning"},
        }
    )
    await upgrade_store(settings)
    async with asyncio.timeout(30):
        node = build_node(settings)
        await node.start()
        create = MatchCreate(1, "a", 1, "m", MatchOptions(map_name="Zoë 龍"))
        await node.system.ask(actor_id("match", "m"), "create", (Caller("host", "h"), create))
        await node.stop()
    with contextlib.closing(sqlite3.connect(path / "stored.db")) as database, database:
        database.execute("UPDATE matches SET map_name = map_name || ?", ("\x9b2J\u202e",))


def shell(line: str, place: Path, **environ: str) -> subprocess.CompletedProcess[bytes]:
    """Run a shell line in which `garrison` is this tree's."""
    program = f'garrison() {{ {shlex.join(command())} "$@"; }}; set -o pipefail; {line}'
    variables = {**environment(), "PYTHONUNBUFFERED": "", **environ}
    return subprocess.run(
        ["bash", "-c", program], cwd=place, env=variables, capture_output=True, check=False, timeout=60
    )


@pytest.mark.parametrize("words", ["matches", "matches --json", "replay m", "replay m --json", "log match/m"])
def test_nothing_that_a_terminal_obeys_is_written(words: str, place: Path) -> None:
    """F29."""
    done = shell(f"garrison {words}", place, PYTHONIOENCODING="utf-8")
    assert done.returncode == 0, done.stderr
    said = done.stdout.decode()
    assert not set(said) & {"\x9b", "\u202e", "\x1b"}
    if words.startswith("matches"):
        assert "Zoë 龍" in said and "\\u202e" in said


@pytest.mark.parametrize("words", ["matches", "matches --json", "replay m", "log match/m", "--help", "matches --help"])
def test_an_encoding_without_the_letters_of_a_name_is_no_error(words: str, place: Path) -> None:
    """F65."""
    done = shell(f"garrison {words}", place, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"")
    said = done.stdout.decode("ascii")
    if words == "matches --json":
        assert json.loads(said)["matches"][0]["map_name"] == "Zoë 龍\x9b2J\u202e"
    elif words == "matches":
        assert "Zo\\xeb \\u9f8d" in said


@pytest.mark.parametrize(
    ("words", "errors"),
    [
        *(("nonsense", to) for to in ("2>&-", "2> >(true)", "2>&1 | true", "2>/dev/full", "2>&1 >/dev/null | true")),
        *(("replay nobody", to) for to in ("2>&-", "2>/dev/full", "2>&1 | true", "")),
        ("matches --set store.url=sqlite:///no/such.db", "2> >(true)"),
    ],
)
def test_a_command_that_fails_says_so_also_where_nobody_reads_why(words: str, errors: str, place: Path) -> None:
    """F65."""
    assert shell(f"garrison {words} {errors}", place).returncode == 2


def test_a_command_that_finds_something_wrong_says_so_also_where_nobody_reads_what(place: Path) -> None:
    """F65: `status` answers 1 where the node is not ready, or none is there."""
    alone = "status --url http://127.0.0.1:9 --token t"
    code = shell(f"garrison {alone}", place).returncode
    assert code != 0
    assert shell(f"garrison {alone} 2>&1 | true", place).returncode == code


@pytest.mark.parametrize(
    "line",
    [
        "garrison matches | true",
        "garrison matches --json | true",
        "garrison replay m | true",
        "garrison --help | true",
        "garrison matches --help | true",
        f"garrison {TOKEN} | true",
        "garrison log match/m | true",
        "garrison matches >&-",
        "garrison matches >&- 2>&-",
    ],
)
def test_an_output_that_nobody_reads_is_no_error(line: str, place: Path) -> None:
    """F65: no traceback, and the exit code of a pipe's well-behaved writer."""
    done = shell(line, place)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_interrupt_while_the_program_is_loaded_leaves_no_traceback() -> None:
    interrupted = """if True:
        import os, signal, sys
        class Interrupt:
            def find_spec(self, name, path=None, target=None):
                if name == "server.cli.app":
                    os.kill(os.getpid(), signal.SIGINT)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.meta_path.insert(0, Interrupt())
        from server.main import main
        main()"""
    ended = subprocess.run([sys.executable, "-c", interrupted], capture_output=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, b"")


@pytest.mark.parametrize("words", ["upgrade node-1", "drain node-1"])
def test_the_end_of_somebody_s_patience_is_not_the_node_s(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, node = words.split()
    module = {"upgrade": upgrade, "drain": drain}[name]
    row = {"node": node, "incarnation": 1, "admin_url": "http://127.0.0.1:1"}
    answer = {"node": node, "incarnation": 1, "done": False, "generation": 0, "running": True}
    monkeypatch.setattr(AdminSide, "cluster", lambda side: {"nodes": [row], "node": node})
    monkeypatch.setattr(AdminSide, "ask", lambda *_, **__: json.dumps(answer).encode())

    @contextlib.contextmanager
    def impatient(_: str) -> Iterator[object]:
        def interrupt(_: object) -> None:
            raise KeyboardInterrupt

        yield interrupt

    monkeypatch.setattr(module, "_progress", impatient)
    assert run([name, node, "--token", "operator"]) == INTERRUPTED
    assert f"{node} goes on" in capsys.readouterr().err
