"""docs/actors.md and docs/application.md by the letter: their files beside a node, their commands, a client, an
operator, and the rows in the database."""

import contextlib
import json
import os
import re
import shlex
import sqlite3
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.support.program import ROOT, command, environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

APPLICATION = (ROOT / "docs/application.md").read_text()
PAGE = (ROOT / "docs/actors.md").read_text()
KEY = "0123456789abcdef0123456789abcdef"


def test_the_pages_commands_run_its_file(tmp_path: Path) -> None:
    code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    shown = re.search(r"^garrison migrate (.*)\ngarrison node (.*)$", PAGE, re.MULTILINE)
    assert code is not None
    assert shown is not None
    (tmp_path / "clan.py").write_text(code[1])
    ports = {"GARRISON_GATEWAY__PORT": "0", "GARRISON_ADMIN__PORT": "0"}
    given = {**environment(), "GARRISON_SECURITY__SIGNING_KEY": KEY, **ports}
    subprocess.run(
        command("migrate", *shlex.split(shown[1])), cwd=tmp_path, env=given, check=True, capture_output=True, timeout=60
    )
    token = subprocess.run(
        command("token", "spartan-117"), cwd=tmp_path, env=given, check=True, capture_output=True, text=True, timeout=60
    ).stdout.strip()
    with subprocess.Popen(
        command("node", *shlex.split(shown[2])), cwd=tmp_path, env=given, stdout=subprocess.PIPE, text=True
    ) as node:
        try:
            assert node.stdout is not None
            ready = json.loads(node.stdout.readline())
            with connect(ready["client_url"], subprotocols=["garrison.v1.json"], proxy=None) as client:  # type: ignore[list-item]
                client.send(json.dumps(["hello", 1, token, None, 0]))
                assert json.loads(client.recv(timeout=10))[0] == "welcome"
                client.send('["clan.join", 1, "red"]')
                assert json.loads(client.recv(timeout=10)) == ["clan", 1, "red", ["spartan-117"]]
            node.terminate()
            assert node.wait(30) == 0
        finally:
            if node.poll() is None:
                os.kill(node.pid, 9)
    with contextlib.closing(sqlite3.connect(tmp_path / "clans.db")) as database:
        rows = database.execute("SELECT kind, key, state_version FROM actors").fetchall()
    assert rows == [("clan", "red", 1)]


def test_application_of_its_page_brings_everything_of_its_own(tmp_path: Path) -> None:
    code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert code is not None
    (tmp_path / "clan.py").write_text(code[1])
    files = re.findall(r"```(?:python|js)\n(?:#|//) (\S+)\n(.*?)```", APPLICATION, re.DOTALL)
    assert len(files) == 6
    for name, text in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    shown = re.search(r"^export (GARRISON_APP=.*)$", APPLICATION, re.MULTILINE)
    assert shown is not None
    said = dict(word.split("=", 1) for word in shlex.split(shown[1]))
    ports = {"GARRISON_GATEWAY__PORT": "0", "GARRISON_ADMIN__PORT": "0", "GARRISON_STORE__FLUSH_INTERVAL_S": "0.05"}
    given = {**environment(), **said, **ports, "GARRISON_SECURITY__SIGNING_KEY": KEY}

    def garrison(*words: str) -> str:
        done = subprocess.run(
            command(*words), cwd=tmp_path, env=given, check=True, capture_output=True, text=True, timeout=60
        )
        return done.stdout + done.stderr

    assert "clans has its tables now, revision 0001" in garrison("migrate")
    token = garrison("token", "spartan-117").strip()
    with subprocess.Popen(command("node"), cwd=tmp_path, env=given, stdout=subprocess.PIPE, text=True) as node:
        try:
            assert node.stdout is not None
            ready = json.loads(node.stdout.readline())

            def operator(path: str, body: object = None) -> object:
                request = urllib.request.Request(
                    f"{ready['admin_url']}/api/v1/{path}",
                    data=None if body is None else json.dumps(body).encode(),
                    headers={"authorization": f"Bearer {said['GARRISON_ADMIN__TOKEN']}"},
                )
                with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
                    return json.loads(answer.read())

            with connect(ready["client_url"], subprotocols=["garrison.v1.json"], proxy=None) as client:  # type: ignore[list-item]
                for number, message in enumerate(
                    (["hello", 1, token, None, 0], ["clan.join", 1, "red"], ["clan.join", 2, "blue"]), 1
                ):
                    client.send(json.dumps(message))
                    assert json.loads(client.recv(timeout=10))[0] == ("welcome" if number == 1 else "clan")
                enlisted = operator("actions/enlist", {"clan": "blue", "player": "ann"})
                assert enlisted == {"members": ["spartan-117", "ann"], "by": "admin"}
                wanted, answer = ["clans", 3, [["blue", 2], ["red", 1]]], None
                deadline = time.monotonic() + 10.0
                while answer != wanted and time.monotonic() < deadline:  # until the change is flushed
                    client.send('["clan.top", 3, 10]')
                    answer = json.loads(client.recv(timeout=10))
                assert answer == wanted
            assert operator("clans?limit=1") == {"rows": [{"clan": "blue", "size": 2}]}
            assert garrison("clans", "--limit", "1") == "blue 2\n"
            node.terminate()
            assert node.wait(30) == 0
        finally:
            if node.poll() is None:
                os.kill(node.pid, 9)
    with contextlib.closing(sqlite3.connect(tmp_path / "clans.db")) as database:
        assert database.execute("SELECT clan_id, size FROM clans ORDER BY 1").fetchall() == [("blue", 2), ("red", 1)]
        assert database.execute("SELECT count(*) FROM actors").fetchone() == (0,)
