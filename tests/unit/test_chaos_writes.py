"""The audit of accepted writes: what a double write is, and what is none."""

import pytest

from server.lab.chaos.triggers import kind_of, owned_tables
from server.lab.chaos.writes import Write, double_writes, from_row

A, B = "node-1#1", "node-2#2"


def row(epoch: int, version: int, owner: str, before: Write | None = None, **more: object) -> Write:
    """A write after `before`; its state, if it has a new version, under its own epoch."""
    old = before or Write("player/p", 0, 0, 0, 0, 0, 0, "", 1, 1, False)
    state_epoch = epoch if version != old.version else old.state_epoch
    values = {
        "entity": old.entity, "old_epoch": old.epoch, "epoch": epoch, "old_state_epoch": old.state_epoch,
        "state_epoch": state_epoch, "old_version": old.version, "version": version, "owner": owner,
        "old_next_seq": old.next_seq, "next_seq": old.next_seq, "rewritten": False,
    }  # fmt: skip
    return Write(**{**values, **more})  # type: ignore[arg-type]


def story(*steps: tuple[int, int, str] | tuple[int, int, str, dict[str, object]]) -> list[Write]:
    """Writes of one entity, each on top of the one before."""
    found: list[Write] = []
    for epoch, version, owner, *more in steps:
        found.append(row(epoch, version, owner, found[-1] if found else None, **(more[0] if more else {})))
    return found


def whys(writes: list[Write]) -> list[str]:
    return [one.why for one in double_writes(writes)]


def test_an_orderly_life_has_no_double_write() -> None:
    life = story(
        (0, 0, ""), (1, 0, A), (1, 4, A), (1, 4, A, {"next_seq": 9}), (1, 9, A), (1, 9, ""), (2, 9, B), (2, 12, B),
        (3, 12, A), (3, 13, A), (4, 13, A),
    )  # fmt: skip
    assert whys(life) == []


def test_an_epoch_that_goes_down() -> None:
    assert whys(story((1, 0, A), (2, 0, B), (1, 3, A))) == ["epoch 1 after 2"]


def test_a_row_that_was_made_anew() -> None:
    anew = [*story((1, 0, A), (2, 5, B)), row(0, 0, "")]
    assert whys(anew) == ["epoch 0 after 2"]


def test_two_owners_under_one_epoch() -> None:
    assert whys(story((1, 0, A), (1, 2, B))) == [f"epoch 1 of {A} and of {B}"]
    assert whys(story((1, 0, A), (1, 0, "node-1#3"))) == [f"epoch 1 of {A} and of node-1#3"]


def test_a_state_written_under_an_older_epoch() -> None:
    found = whys(story((1, 0, A), (2, 0, B), (2, 7, B, {"state_epoch": 1})))
    assert found == ["version 7 written under epoch 1, the row's being 2"]


def test_versions_that_two_numbered() -> None:
    assert whys(story((1, 5, A), (1, 4, A))) == ["version 4 after 5"]
    assert whys(story((1, 5, A), (1, 5, A, {"rewritten": True}))) == ["version 5 has two contents"]
    assert whys(story((1, 5, A, {"next_seq": 8}), (1, 5, A, {"next_seq": 6}))) == ["log ends at 6 after 8"]


@pytest.mark.parametrize("stored_before", [False, True])
def test_a_move_is_its_old_owners(stored_before: bool) -> None:
    one, two = {"writer": "node-1/1"}, {"writer": "node-2/2"}
    last = [] if stored_before else [(2, 6, B, {**one, "transaction": "3"})]
    moved = story(
        (1, 0, A, {**one, "transaction": "1"}),
        (1, 5, A, {**one, "transaction": "2"}),
        (2, 5, B, {**one, "transaction": "3"}),
        *last,
        (2, 9, B, {**two, "transaction": "4"}),
    )
    assert whys(moved) == []
    late = row(2, 10, B, moved[-1], **one, transaction="5")
    assert whys([*moved, late]) == ["epoch 2 written by node-2/2 and by node-1/1"]


def test_a_late_write_of_a_log_by_another_process() -> None:
    one, two = {"writer": "node-1/1", "transaction": "1"}, {"writer": "node-2/2", "transaction": "2"}
    life = story((1, 0, A, one), (1, 0, A, {"next_seq": 4, **one}), (2, 0, B, two), (2, 0, B, {"next_seq": 6, **one}))
    assert whys(life) == ["epoch 2 written by node-2/2 and by node-1/1"]


def test_entities_are_apart_and_findings_name_their_place() -> None:
    first, other = story((3, 1, A)), row(1, 1, B, Write("match/m", 0, 0, 0, 0, 0, 0, "", 1, 1, False))
    found = double_writes([*first, other, row(3, 0, A, first[-1])])
    assert [(one.entity, one.place) for one in found] == [("player/p", 1)]


def test_rows_of_sqlite_have_numbers_for_truth() -> None:
    write = from_row(("player/p", 0, 1, 0, 0, 0, 0, A, 1, 1, 0, "", ""))
    assert write == row(1, 0, A)


def test_each_table_with_owners_is_of_a_kind_of_its_own() -> None:
    """Players and their lists of friends have the same keys: writes to one are none of the other."""
    kinds = [kind_of(table) for table in owned_tables() if "kind" not in table.c]
    assert len(set(kinds)) == len(kinds)
    assert {"player", "friends", "match", "party"} <= set(kinds)
