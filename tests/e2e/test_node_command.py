"""`garrison node` as a process: the line that it prints, its tables, a token of its own, and its end."""

import json
import re
import subprocess
import urllib.request
from pathlib import Path

import pytest

from tests.support.program import command, environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
KEY = "0123456789abcdef0123456789abcdef"


def test_node_makes_its_tables_and_a_token_and_stops_when_asked(tmp_path: Path) -> None:
    (tmp_path / "garrison.toml").write_text(
        f'[store]\nurl = "sqlite:///new.db"\nmigrate = true\n[security]\nsigning_key = "{KEY}"\n'
        "[gateway]\nport = 0\n[admin]\nport = 0\n[log]\njson = true\n"
    )
    with (tmp_path / "log").open("wb") as log:
        node = subprocess.Popen(
            command("node", "--name", "edge-3"),
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert node.stdout is not None
        ready = json.loads(node.stdout.readline())
        assert (ready["ready"], ready["node"], ready["incarnation"], ready["pid"]) == (True, "edge-3", 1, node.pid)
        said = (tmp_path / "log").read_text()
        (told,) = re.findall(r'"token": "([^"]+)"', said)
        request = urllib.request.Request(
            f"{ready['admin_url']}/api/v1/cluster", headers={"authorization": f"Bearer {told}"}
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
            assert [member["node"] for member in json.loads(answer.read())["nodes"]] == ["edge-3"]
        node.terminate()
        rest, _ = node.communicate(timeout=30)
        assert (node.returncode, rest) == (0, "")
        assert (tmp_path / "new.db").exists()
    finally:
        node.kill()
        node.wait()


def test_node_that_cannot_start_says_why_in_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        command("node", "--store", "sqlite:///none.db", "--set", f"security.signing_key={KEY}"),
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == (
        "garrison: setting store.url: no database at none.db: run `garrison migrate`"
    )
    assert list(tmp_path.iterdir()) == []
