"""docs/actors.md by the letter: its file beside a node, its commands, one client, one row."""

import contextlib
import json
import os
import re
import shlex
import sqlite3
import subprocess
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.support.program import ROOT, command, environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

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
