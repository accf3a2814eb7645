"""The command line: help with examples, and one clear line for what goes wrong."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jwt
import pytest

from server.cli.common import HELP_COLUMNS
from tests.support.program import here as garrison

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (
    "demo",
    "node",
    "migrate",
    "token",
    "play",
    "matches",
    "replay",
    "bench",
    "status",
    "drain",
    "upgrade",
    "log",
    "chaos",
)
COMMANDS += ("soak", "ban", "unban", "mute", "unmute", "kick", "revoke", "standing", "moderation")
SIGNING_KEY = "0123456789abcdef0123456789abcdef"


def the_one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("garrison: ")
    return lines[0]


def test_as_a_program(tmp_path: Path) -> None:
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "clients/bots", ROOT / "clients/python/src")))
    done = subprocess.run(
        [sys.executable, "-m", "server.main", "replay", "m-1", "--set", "store.url=sqlite:///none.db"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "none.db" in the_one_line(done)
    assert done.stdout == ""


def test_a_token_needs_neither_a_driver_nor_a_database() -> None:
    code = "import sys, server.main, server.cli.app as app; app.build(['token']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = {"numpy", "sqlalchemy", "litestar", "uvicorn", "picows", "kinship", "alembic"}
    assert heavy & set(done.stdout.split()) == set()


def test_a_node_on_sqlite_starts_without_what_it_does_not_need(tmp_path: Path) -> None:
    """The program itself, as far as the store that it does not find; it ends there without an `atexit`."""
    code = "import os, sys; os._exit = lambda _: print(*sys.modules); import server.main as program; program.main()"
    settings = {
        "store.url": f"sqlite:///{tmp_path}/a.db", "columns.enabled": "true", "columns.directory": str(tmp_path),
        "security.signing_key": SIGNING_KEY, "log.level": "error",
    }  # fmt: skip
    words = ["node", *(word for field, value in settings.items() for word in ("--set", f"{field}={value}"))]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "no database" in done.stderr
    loaded = set(done.stdout.split())
    assert {"server.node", "server.admin.app", "persistence.sql_store", "server.cli.succeeding"} <= loaded
    heavy = {"asyncpg", "sqlalchemy.orm", "sqlalchemy.ext.asyncio", "alembic", "redis", "duckdb", "pyarrow", "sqlglot"}
    heavy |= {"cyclopts", "rich"}
    assert heavy & loaded == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(command: str, tmp_path: Path) -> None:
    done = garrison(command, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Examples" in done.stdout
    assert f"garrison {command}" in done.stdout
    frames = [line for line in done.stdout.splitlines() if line[:1] in {"╭", "│", "╰"}]
    assert {len(line) for line in frames} <= {HELP_COLUMNS}


def test_help_names_every_command(tmp_path: Path) -> None:
    done = garrison("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert [command for command in COMMANDS if command not in done.stdout] == []
    assert "audit" not in done.stdout  # the demo's own affair


def test_commands_of_a_laboratory_that_is_not_installed_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.cli.app.LABORATORY", "server.no_such_laboratory.commands:COMMANDS")
    done = garrison("--help", cwd=tmp_path)
    assert (done.returncode, "chaos" in done.stdout) == (0, False)
    assert "matches" in done.stdout and "drain" in done.stdout
    assert '"chaos"' in the_one_line(garrison("chaos", cwd=tmp_path))


@pytest.mark.parametrize("words", [("--config", "own.toml"), ("--config=own.toml",), ("--set", "app=nowhere:App")])
def test_application_is_looked_for_where_the_arguments_say(words: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('app = "nowhere:App"\n')
    assert "cannot load nowhere:App" in the_one_line(garrison("matches", *words, cwd=tmp_path))


def test_an_unknown_command_and_option(tmp_path: Path) -> None:
    assert '"dmeo"' in the_one_line(garrison("dmeo", cwd=tmp_path))
    assert "--secnods" in the_one_line(garrison("demo", "--secnods", "3", cwd=tmp_path))
    assert "garrison demo --help" in the_one_line(garrison("demo", "--secnods", "3", cwd=tmp_path))


def test_a_bad_setting_is_named_wherever_it_comes_from(tmp_path: Path) -> None:
    (tmp_path / "garrison.toml").write_text("[gateway]\nport = 70000\n")
    assert "gateway.port" in the_one_line(garrison("node", cwd=tmp_path))
    (tmp_path / "garrison.toml").write_text("[gateway]\nprot = 7000\n")
    assert "prot" in the_one_line(garrison("node", cwd=tmp_path))
    (tmp_path / "garrison.toml").unlink()
    variable = garrison("node", cwd=tmp_path, GARRISON_STORE__FLUSH_INTERVAL_S="0")
    assert "store.flush_interval_s" in the_one_line(variable)
    assert "admin.port" in the_one_line(garrison("node", "--set", "admin.port=many", cwd=tmp_path))
    assert "--set takes" in the_one_line(garrison("node", "--set", "admin.port", cwd=tmp_path))


def test_a_missing_settings_file(tmp_path: Path) -> None:
    assert "none.toml" in the_one_line(garrison("node", "--config", "none.toml", cwd=tmp_path))


def test_a_taken_port_of_the_demo(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        if port > 65_000:
            pytest.skip("the free port is too high to be the first of forty")
        line = the_one_line(garrison("demo", "--port", str(port), cwd=tmp_path))
    assert str(port) in line
    assert "--port 0" in line


def test_a_token_is_good_for_what_was_asked(tmp_path: Path) -> None:
    done = garrison(
        "token",
        "dedicated-7",
        "--role",
        "host",
        "--ttl",
        "7d",
        cwd=tmp_path,
        GARRISON_SECURITY__SIGNING_KEY=SIGNING_KEY,
    )
    assert done.returncode == 0, done.stderr
    claims = jwt.decode(done.stdout.strip(), SIGNING_KEY, algorithms=["HS256"], issuer="garrison")
    assert (claims["sub"], claims["role"]) == ("dedicated-7", "host")
    assert claims["exp"] - claims["iat"] == 7 * 86_400
    document = garrison("token", "spartan-117", "--json", cwd=tmp_path, GARRISON_SECURITY__SIGNING_KEY=SIGNING_KEY)
    assert json.loads(document.stdout)["url"] == "ws://127.0.0.1:7350"


def test_a_token_without_a_key_a_name_or_a_time(tmp_path: Path) -> None:
    assert "security.signing_key" in the_one_line(garrison("token", "spartan-117", cwd=tmp_path))
    key = {"GARRISON_SECURITY__SIGNING_KEY": SIGNING_KEY}
    assert "not a subject" in the_one_line(garrison("token", "a b", cwd=tmp_path, **key))
    assert "garrison: --ttl: 'soon' is no length of time" in the_one_line(
        garrison("token", "a", "--ttl", "soon", cwd=tmp_path, **key)
    )
    assert "garrison: --wait: 'abc'" in the_one_line(garrison("drain", "node-2", "--wait", "abc", cwd=tmp_path))
    assert "GARRISON_SECURITY__SIGNING_KEY" in the_one_line(garrison("token", "a", cwd=tmp_path))
    file = {"GARRISON_SECURITY__SIGNING_KEY_FILE": "no/such.key"}
    assert "cannot read no/such.key" in the_one_line(garrison("token", "a", cwd=tmp_path, **file))
    (tmp_path / "short.key").write_text("short")
    file = {"GARRISON_SECURITY__SIGNING_KEY_FILE": "short.key"}
    assert "short.key must hold 32 bytes" in the_one_line(garrison("token", "a", cwd=tmp_path, **file))


def test_the_settings_of_this_directory_come_before_those_of_the_demo(tmp_path: Path) -> None:
    demo = tmp_path / ".garrison/demo/garrison.toml"
    demo.parent.mkdir(parents=True)
    demo.write_text(f'[security]\nsigning_key = "{SIGNING_KEY[::-1]}"\n')
    done = garrison("token", "a", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr == "settings of the demo: .garrison/demo/garrison.toml\n"
    jwt.decode(done.stdout.strip(), SIGNING_KEY[::-1], algorithms=["HS256"], issuer="garrison")
    named = garrison("token", "a", "--config", str(demo), cwd=tmp_path)
    assert (named.returncode, named.stderr) == (0, "")
    (tmp_path / "garrison.toml").write_text(f'[security]\nsigning_key = "{SIGNING_KEY}"\n')
    done = garrison("token", "a", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    jwt.decode(done.stdout.strip(), SIGNING_KEY, algorithms=["HS256"], issuer="garrison")


def test_nobody_answers_status(tmp_path: Path) -> None:
    line = the_one_line(garrison("status", "--url", "http://127.0.0.1:1", cwd=tmp_path))
    assert "no node answers at http://127.0.0.1:1" in line


@pytest.mark.parametrize("url", ["nonsense", "ws://127.0.0.1:7350", "ftp://127.0.0.1", "http://", "http://a:b"])
def test_malformed_admin_addresses_are_refused(url: str, tmp_path: Path) -> None:
    for words in (("status",), ("drain", "node-2")):
        line = the_one_line(garrison(*words, "--url", url, cwd=tmp_path))
        assert line == "garrison: --url takes http://host:port, an admin address"


def test_no_database_to_read(tmp_path: Path) -> None:
    for arguments in (("matches",), ("replay", "latest"), ("replay", "m-1")):
        line = the_one_line(garrison(*arguments, cwd=tmp_path, GARRISON_STORE__URL="sqlite:///none.db"))
        assert "none.db" in line


def test_migrating_to_a_revision_that_is_not_there(tmp_path: Path) -> None:
    url = {"GARRISON_STORE__URL": "sqlite:///new.db"}
    line = the_one_line(garrison("migrate", "--down", "0099", "--yes", cwd=tmp_path, **url))
    assert "--down: " in line and "0099" in line


def test_migrating_says_what_it_did_and_back_only_with_yes(tmp_path: Path) -> None:
    url = {"GARRISON_STORE__URL": "sqlite:///new.db"}
    assert "has its tables now, revision 0" in garrison("migrate", cwd=tmp_path, **url).stderr
    assert "is up to date, revision 0" in garrison("migrate", cwd=tmp_path, **url).stderr
    line = the_one_line(garrison("migrate", "--down", "0001", cwd=tmp_path, **url))
    assert "--yes" in line
    assert "is up to date, revision 0" in garrison("migrate", cwd=tmp_path, **url).stderr
    done = garrison("migrate", "--down", "0001", "--yes", cwd=tmp_path, **url)
    assert done.returncode == 0 and "is at revision 0001" in done.stderr
    assert "went from revision 0001 to 0" in garrison("migrate", cwd=tmp_path, **url).stderr


def test_an_empty_store_has_no_match(tmp_path: Path) -> None:
    url = {"GARRISON_STORE__URL": "sqlite:///empty.db"}
    assert garrison("migrate", cwd=tmp_path, **url).returncode == 0
    done = garrison("matches", "--json", cwd=tmp_path, **url)
    assert json.loads(done.stdout) == {"matches": []}
    assert "no match" in the_one_line(garrison("replay", "latest", cwd=tmp_path, **url))
    assert "m-1" in the_one_line(garrison("replay", "m-1", cwd=tmp_path, **url))


def test_a_file_to_play_that_is_missing_or_no_match(tmp_path: Path) -> None:
    assert "none.jsonl" in the_one_line(garrison("play", "none.jsonl", cwd=tmp_path))
    (tmp_path / "bad.jsonl").write_text('{"time_ms": 5, "player": "a", "type": "kill"}\n{"time_ms": 6}\n')
    assert "bad.jsonl:2" in the_one_line(garrison("play", "bad.jsonl", cwd=tmp_path))


def test_playing_where_nobody_answers(tmp_path: Path) -> None:
    (tmp_path / "good.jsonl").write_text('{"time_ms": 5, "player": "a", "type": "kill"}\n')
    for url in ("ws://127.0.0.1:1", "ws://a..b:1"):
        line = the_one_line(garrison("play", "good.jsonl", "--url", url, cwd=tmp_path))
        assert line == f"garrison: no node answers at {url}; is the cluster running?"
    for url in ("nonsense", "http://127.0.0.1:7350", "ws://127.0.0.1:many"):
        line = the_one_line(garrison("play", "good.jsonl", "--url", url, cwd=tmp_path))
        assert line == "garrison: --url takes ws://host:port, a client address"


def test_a_second_demo_in_the_same_directory_is_refused(tmp_path: Path) -> None:
    import fcntl

    (tmp_path / ".garrison").mkdir()
    with (tmp_path / ".garrison/demo.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another demo" in the_one_line(garrison("demo", "--port", "0", cwd=tmp_path))


def test_fresh_never_empties_a_directory_that_is_not_a_demos(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/one.jpg").write_text("precious")
    line = the_one_line(garrison("demo", "--fresh", "--home", "photos", "--port", "0", cwd=tmp_path))
    assert "not a demo's directory" in line
    assert (tmp_path / "photos/one.jpg").exists()
