"""Actor ids, node addresses and slots."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import BadInput
from server.ids import (
    KEY_PATTERN,
    KIND_PATTERN,
    SLOT_COUNT,
    Incarnation,
    NodeAddress,
    NodeId,
    actor_id,
    key_of,
    kind_of,
    parse_actor_id,
    slot,
    whole,
)

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("text", ["a\n", "a b", "", "a\n\n", "\na"])
def test_a_whole_text_has_no_line_feed_at_its_end(text: str) -> None:
    key = Annotated[str, msgspec.Meta(pattern=whole(KEY_PATTERN))]
    assert msgspec.convert("a", key) == "a"
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(text, key)


@given(st.from_regex(KIND_PATTERN, fullmatch=True), st.from_regex(KEY_PATTERN, fullmatch=True))
def test_kind_and_key_come_back(kind: str, key: str) -> None:
    identity = actor_id(kind, key)
    assert (kind_of(identity), key_of(identity)) == (kind, key)
    assert parse_actor_id(identity) == identity
    assert 0 <= slot(identity) < SLOT_COUNT


@pytest.mark.parametrize(
    "text",
    ["", "/", "player/", "/x", "player", "Player/x", "player/a/b", "player/a b", "player/x\n", "player/é",
     "1player/x", "player/" + "x" * 65, "p" * 33 + "/x", "player/\u0661", "player/\x00"],
)  # fmt: skip
def test_malformed_actor_ids_are_refused(text: str) -> None:
    with pytest.raises(BadInput):
        parse_actor_id(text)


@given(st.text(max_size=200))
def test_any_text_is_an_id_or_bad_input(text: str) -> None:
    try:
        assert parse_actor_id(text) == text
    except BadInput as error:
        assert len(error.message) < 1_000


def test_an_address_shows_its_incarnation() -> None:
    assert str(NodeAddress(NodeId("node-1"), Incarnation(12))) == "node-1#12"


def test_slots_are_fixed_for_ever() -> None:
    """These numbers are on other machines and in other versions: they must not change."""
    slots = [slot(actor_id("player", f"spartan-{i}")) for i in range(4)]
    assert slots == EXPECTED


EXPECTED = [24538, 49202, 5078, 12105]


def test_slots_do_not_depend_on_the_process() -> None:
    script = "from server.ids import *; print([slot(actor_id('player', f'spartan-{i}')) for i in range(4)])"
    for seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=True,
        )
        assert done.stdout.decode().strip() == str(EXPECTED)
