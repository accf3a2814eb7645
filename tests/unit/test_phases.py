"""The table of phases: what it lets pass, what it refuses, and the story that it tells then."""

import re
from pathlib import Path

import pytest

import server
from server.runtime.phases import IllegalTransition, PhaseTable
from tests.support.phases import TABLES

DOOR: PhaseTable[str] = PhaseTable("door", {"open": ("shut",), "shut": ("open", "locked"), "locked": ()}, remembered=6)


def test_a_legal_transition_gives_the_new_phase() -> None:
    assert DOOR.move("front", "open", "shut") == "shut"
    assert DOOR.may("shut", "locked")
    assert DOOR.ends("locked") and not DOOR.ends("shut")
    assert DOOR.phases == ("open", "shut", "locked")


def test_an_illegal_transition_raises_with_the_story_of_that_entity_alone() -> None:
    DOOR.move("back", "open", "shut")
    DOOR.move("side", "shut", "open")
    DOOR.move("back", "shut", "locked")
    with pytest.raises(IllegalTransition, match="door back: locked -> open; its story: open -> shut -> locked"):
        DOOR.move("back", "locked", "open")


def test_a_refused_transition_is_no_part_of_the_story() -> None:
    with pytest.raises(IllegalTransition):
        DOOR.move("attic", "open", "locked")
    assert DOOR.story("attic") == "nothing remembered"


def test_the_memory_of_transitions_is_bounded_over_all_entities() -> None:
    for _ in range(20):
        DOOR.move("cellar", "open", "shut")
    DOOR.move("roof", "open", "shut")
    assert DOOR.story("cellar").count("->") == 5
    assert DOOR.story("front") == "nothing remembered"


def test_a_table_whose_phases_lead_nowhere_known_is_refused() -> None:
    with pytest.raises(AssertionError, match="phases without a row: \\['gone'\\]"):
        PhaseTable("door", {"open": ("gone",)})


def test_refused_transitions_are_kept_for_whoever_did_not_see_them_raise() -> None:
    door: PhaseTable[str] = PhaseTable("door", {"open": ("shut",), "shut": ()})
    with pytest.raises(IllegalTransition):
        door.move("back", "shut", "open")
    assert list(door.refused) == ["door back: shut -> open; its story: nothing remembered"]


def test_refused_steps_of_every_table_fail_the_test_that_has_seen_them() -> None:
    root = Path(server.__file__).parent
    made: dict[str, tuple[str, ...]] = {}
    for path in root.rglob("*.py"):
        if names := re.findall(r"^(\w+)\b.* = PhaseTable\b", path.read_text(), re.MULTILINE):
            made[".".join(("server", *path.relative_to(root).with_suffix("").parts))] = tuple(names)
    assert made == TABLES
