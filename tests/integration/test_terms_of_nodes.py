"""Nodes of a cluster that differ in what they must have in common (F62): real processes, as operators start them."""

import base64
import json
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from server.cli.local_cluster import NodePlace, free_places
from tests.support.program import Running, here

KEY, OTHER_KEY = "a signing key of thirty-two bytes and more", "another key of thirty-two bytes and more"
SERVED_S = 60.0


def words(folder: Path, name: str, place: NodePlace, seeds: list[NodePlace], **more: str) -> list[str]:
    values = {
        "cluster": "terms",
        "security.cluster_key": base64.b64encode(bytes(32)).decode(),
        "security.signing_key": KEY,
        "store.url": f"sqlite:///{folder}/x.db",
        "admin.token": "t" * 20,
        **more,
    }
    told = [*place.settings(seeds), *(f"{name}={value}" for name, value in values.items())]
    return ["--name", name, *(word for told_one in told for word in ("--set", told_one))]


def readyz(place: NodePlace) -> tuple[int, str]:
    try:
        with urlopen(f"http://127.0.0.1:{place.admin}/readyz", timeout=5) as answer:
            return answer.status, json.load(answer).get("reason", "")
    except HTTPError as error:
        return error.code, json.load(error).get("reason", "")
    except OSError:  # it is not there yet, or takes its time
        return 0, ""


def until(place: NodePlace, status: int, text: str) -> str:
    """The reason of `/readyz` once it has `status` and says `text`."""
    deadline, last = time.monotonic() + SERVED_S, (0, "")
    while time.monotonic() < deadline:
        last = readyz(place)
        if last[0] == status and text in last[1]:
            return last[1]
        time.sleep(0.1)  # another process
    raise AssertionError(last)


@pytest.mark.parametrize(
    ("more", "noun", "remedy"),
    [
        ({"security.signing_key": OTHER_KEY}, "token keys", "security.signing_key"),
        ({"app": "tests.support.tiny:TinyApp"}, "app", "--app"),
    ],
    ids=["signing key", "app"],
)
def test_a_node_that_differs_does_not_serve_and_both_name_the_difference(
    more: dict[str, str], noun: str, remedy: str, tmp_path: Path
) -> None:
    first, second = free_places(2)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    store = f"store.url=sqlite:///{tmp_path}/x.db"
    for app in ("game.app:App", "tests.support.tiny:TinyApp"):  # both have their tables there
        assert here("migrate", "--set", store, "--set", f"app={app}", cwd=tmp_path).returncode == 0
    with Running("node", *words(tmp_path, "node-1", first, [first]), cwd=tmp_path / "one") as one:
        assert one.process.stdout is not None
        assert '"ready": true' in one.process.stdout.readline()
        with Running("node", *words(tmp_path, "node-2", second, [first], **more), cwd=tmp_path / "two") as other:
            reason = until(second, 503, noun)
            assert "not of one cluster: node-1 on" in reason and "this node does not serve" in reason
            assert remedy in reason
            assert KEY not in reason and OTHER_KEY not in reason
            other.line("not of one cluster: node-1 on")
            until(first, 200, f"node-2 on {noun}")
            one.line(f"node-2 on {noun}")
            status = here("status", *words(tmp_path, "node-1", first, [first])[2:], cwd=tmp_path)
            assert f"node-2 on {noun}" in status.stdout
            other.process.terminate()
            assert other.end()[0] == 0
        until(first, 200, "")
