"""Keys, journals and names as the drivers read them from settings; and the gossip library's lines in the log."""

import base64
import random
import sys
from pathlib import Path

import pytest

from server.drivers import build_journal, cluster_key, load, node_key, signing_key
from server.errors import BadSetting
from server.runtime.clock import SystemClock
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.settings import from_tree
from server.storage.journal.local import LocalJournal
from server.storage.journal.redis import RedisJournal

KEY = "0123456789abcdef0123456789abcdef"


def test_the_signing_key_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY + "\n")
    assert signing_key(from_tree({"security": {"signing_key_file": str(tmp_path / "key")}})) == KEY.encode()
    assert signing_key(from_tree({"security": {"signing_key": KEY}})) == KEY.encode()


def test_a_signing_key_that_is_no_good_says_where_it_came_from(tmp_path: Path) -> None:
    (tmp_path / "short").write_text("short")
    (tmp_path / "binary").write_bytes(b"\xff" * 32)
    for name, why in (("none", "cannot read"), ("short", "32 bytes or more"), ("binary", "is not text")):
        with pytest.raises(BadSetting, match=why) as caught:
            signing_key(from_tree({"security": {"signing_key_file": str(tmp_path / name)}}))
        assert str(tmp_path / name) in caught.value.message
        assert caught.value.field == "security.signing_key_file"
    with pytest.raises(BadSetting, match="GARRISON_SECURITY__SIGNING_KEY"):
        signing_key(from_tree({}))


@pytest.mark.parametrize("text", ["short", "A" * 44, base64.b64encode(b"k" * 31).decode(), "ä" * 44])
def test_cluster_key_must_be_32_bytes_in_base64(text: str) -> None:
    with pytest.raises(BadSetting, match="32 bytes in base64") as caught:
        cluster_key(from_tree({"security": {"cluster_key": text}}))
    assert caught.value.field == "security.cluster_key" and text not in caught.value.message


def test_cluster_key_is_decoded_and_may_be_absent() -> None:
    assert cluster_key(from_tree({"security": {"cluster_key": base64.b64encode(b"k" * 32).decode()}})) == b"k" * 32
    assert cluster_key(from_tree({})) is None


def test_a_node_without_a_key_stays_alone() -> None:
    """F51: as it comes it has a key that nobody else has; as soon as others are meant to join, it is refused."""
    assert node_key(from_tree({})) != node_key(from_tree({}))
    for section, name, value in (
        ("gossip", "seeds", "127.0.0.1:7946"),
        ("gossip", "bind", "127.0.0.1:7946"),
        ("gossip", "advertise", "127.0.0.1:7946"),
        ("transport", "host", "10.0.0.1"),
        ("transport", "port", 7380),
        ("transport", "advertise_host", "node-1.example"),
    ):
        with pytest.raises(BadSetting, match=rf"\({section}\.{name} is set\).*head -c 32 /dev/urandom") as caught:
            node_key(from_tree({section: {name: value}}))
        assert caught.value.field == "security.cluster_key"
        key = base64.b64encode(b"k" * 32).decode()
        assert node_key(from_tree({section: {name: value}, "security": {"cluster_key": key}})) == b"k" * 32


@pytest.mark.parametrize(("mode", "driver"), [("none", None), ("local", LocalJournal), ("redis", RedisJournal)])
def test_journal_is_the_one_of_the_setting(mode: str, driver: type | None, tmp_path: Path) -> None:
    settings = from_tree({"journal": {"mode": mode, "directory": str(tmp_path)}})
    made = build_journal(settings, Metrics(), Supervisor("node-1"), SystemClock(), random.Random(1))
    assert made is None if driver is None else isinstance(made, driver)


def test_name_leads_to_its_object_or_says_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load("server.drivers:load") is load
    for name, why in (
        ("no_such:App", "No module named"),
        ("server.drivers:nothing", "no attribute"),
        ("x", "cannot load x"),
    ):
        with pytest.raises(BadSetting, match=why) as caught:
            load(name)
        assert caught.value.field == "app"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [path for path in sys.path if path])
    (tmp_path / "spoiled.py").write_text("APP = (\n")
    with pytest.raises(BadSetting, match=r"cannot load spoiled:APP: .*spoiled\.py, line 1"):
        load("spoiled:APP")
    (tmp_path / "stands_here_only.py").write_text("APP = 5\n")
    assert load("stands_here_only:APP") == 5  # found in the working directory
