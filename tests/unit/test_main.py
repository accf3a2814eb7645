"""What the composition root adds to its parts: keys, and the gossip library's lines."""

import logging
from pathlib import Path

import pytest

from server.cli.node import _not_about_encryption
from server.drivers import signing_key
from server.errors import BadSetting
from server.settings import from_tree

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


def test_the_gossip_library_does_not_name_a_setting_that_is_not_there() -> None:
    def shown(text: str) -> bool:
        return _not_about_encryption(logging.LogRecord("kinship", logging.WARNING, "", 0, "%s", (text,), None))

    assert not shown("running without encryption: insecure_plaintext is set")
    assert shown("startup join failed; retrying in the background")
