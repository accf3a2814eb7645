"""Latest topics without any node: the source's orders, and the picture of a watching node."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.actors.latest import MAX_KEYS, WATCH_S, LatestSource
from server.errors import Unavailable
from server.ids import Incarnation, NodeAddress, NodeId
from server.sessions.picture import NOTHING, Picture

A, B = (NodeAddress(NodeId(name), Incarnation(1)) for name in ("a", "b"))


def test_an_older_difference_does_not_overwrite_a_newer() -> None:
    picture = Picture()
    picture.learn_all("s", (1, 0), {})
    assert picture.learn((1, 2), "k", b"new")
    assert not picture.learn((1, 1), "k", b"old")
    assert picture.whole() == [("k", b"new")]


def test_a_difference_that_overtakes_the_whole_picture_stays() -> None:
    picture = Picture()
    picture.learn((1, 6), "k", b"new")
    picture.learn((1, 7), "gone", None)
    assert picture.learn_all("s", (1, 5), {"k": b"old", "gone": b"still", "other": b"x"})
    assert sorted(picture.whole()) == [("k", b"new"), ("other", b"x")]
    assert picture.gap  # it cannot know whether 6 and 7 are all that there is


def test_a_removed_key_is_not_brought_back_by_a_late_value() -> None:
    picture = Picture()
    picture.learn_all("s", (1, 3), {"k": b"v"})
    picture.learn((1, 5), "k", None)
    assert not picture.learn((1, 4), "k", b"late")
    assert picture.whole() == []
    picture.learn((1, 7), "never here", None)
    assert not picture.learn((1, 6), "never here", b"late")


def test_a_missing_difference_is_noticed_and_the_whole_picture_closes_the_gap() -> None:
    picture = Picture()
    picture.learn_all("s", (1, 3), {"k": b"3"})
    assert (picture.known, picture.gap) == ((1, 3), False)
    picture.learn((1, 5), "k", b"5")
    assert (picture.known, picture.gap) == ((1, 3), True)
    picture.learn_all("s", (1, 5), {"k": b"5", "other": b"4"})
    assert (picture.known, picture.gap) == ((1, 5), False)


def test_a_late_answer_of_a_source_that_is_over_changes_nothing() -> None:
    picture = Picture()
    picture.learn_all("s", (2, 0), {"k": b"new"})
    assert not picture.learn_all("s", (1, 99), {"k": b"old"})
    assert not picture.learn((1, 100), "k", b"old")
    assert picture.whole() == [("k", b"new")]


def test_a_watcher_gets_the_newest_of_what_it_lacks() -> None:
    picture = Picture()
    picture.learn_all("s", (1, 0), {"a": b"1", "b": b"1"})
    slot = picture.revision
    for n, value in enumerate((b"2", b"3", b"4"), 1):
        picture.learn((1, n), "a", value)
    picture.learn((1, 4), "b", None)
    assert picture.since(slot) == [("a", b"4"), ("b", None)]
    assert picture.since(picture.revision) == []


def test_the_same_value_again_is_no_visible_change() -> None:
    picture = Picture()
    assert picture.learn_all("s", (1, 0), {"a": b"1"})
    before = picture.revision
    assert not picture.learn((1, 1), "a", b"1") and not picture.learn_all("s", (2, 0), {"a": b"1"})
    assert picture.revision == before
    assert not picture.learn((1, 9), "a", b"old epoch")


def test_tombstones_are_bounded_and_a_watcher_from_before_gets_everything() -> None:
    picture = Picture()
    picture.learn_all("s", (1, 0), {"stays": b"x"})
    early = picture.revision
    for n in range(1, 4 * MAX_KEYS, 2):
        picture.learn((1, n), f"k{n}", b"v")
        picture.learn((1, n + 1), f"k{n}", None)
    assert len(picture._items) <= 2 * MAX_KEYS
    assert picture.since(early) is None
    assert picture.whole() == [("stays", b"x")]
    assert not picture.learn((1, 1), "k1", b"late")


def test_a_source_that_breaks_its_bound_fills_no_memory() -> None:
    picture = Picture()
    picture.learn_all("s", (1, 0), {})
    for n in range(1, 4 * MAX_KEYS):
        picture.learn((1, n), f"k{n}", b"v")
    assert len(picture._items) <= 2 * MAX_KEYS


changes = st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.integers(0, 3)), max_size=12)


@given(changes, st.randoms(use_true_random=False), st.integers(0, 12))
def test_the_newest_of_each_key_is_left_in_whatever_order_differences_come(
    published: list[tuple[str, int | None]], rng: object, snapshot_at: int
) -> None:
    truth: dict[str, bytes] = {}
    messages: list[tuple[int, str, bytes | None] | tuple[int, dict[str, bytes]]] = []
    for n, (key, value) in enumerate(published, 1):
        data = None if value is None else msgspec.msgpack.encode(value)
        if data is None:
            truth.pop(key, None)
        else:
            truth[key] = data
        messages.append((n, key, data))
        if n == snapshot_at:
            messages.append((n, dict(truth)))
    if not published or snapshot_at not in range(1, len(published) + 1):
        messages.append((len(published), dict(truth)))
    rng.shuffle(messages)  # type: ignore[attr-defined]
    picture = Picture()
    seen: dict[str, bytes] = {}
    revision = -1
    for message in messages:
        if len(message) == 2:
            picture.learn_all("s", (1, message[0]), message[1])
        else:
            picture.learn((1, message[0]), message[1], message[2])
        changed = picture.since(revision) if revision >= 0 else None
        if changed is None:
            seen = dict(picture.whole())
        for key, value in changed or ():
            if value is None:
                seen.pop(key, None)
            else:
                seen[key] = value
        revision = picture.revision
    assert dict(picture.whole()) == truth == seen


# ---- the source ----


def test_a_source_numbers_what_it_publishes_for_the_nodes_that_watch() -> None:
    source = LatestSource("s", 3)
    assert source.publish(0.0) == ((3, 1), [])
    assert not source.attach(A, "", NOTHING, True, 0.0)
    assert source.attach(B, "s", (3, 1), True, 0.0)
    assert source.publish(0.0) == ((3, 2), [A, B])
    assert source.attach(B, "s", (3, 2), True, WATCH_S)
    assert not source.attach(B, "s", (3, 1), True, WATCH_S)
    assert source.publish(WATCH_S + 0.1) == ((3, 3), [B])


@pytest.mark.parametrize("known", [(0, 0), (0, 2), (0, 7), (4, 2)])
def test_a_volatile_source_goes_on_above_the_one_before(known: tuple[int, int]) -> None:
    source = LatestSource("later", 0)
    for _ in range(2):
        source.publish(0.0)
    assert not source.attach(A, "before", known, False, 0.0), "the same numbers, and not the same picture"
    assert (source.epoch, source.n) > (known[0], 10**6)
    assert source.attach(A, "later", (source.epoch, source.n), False, 0.0)


def test_a_source_that_has_another_owner_by_now_says_so() -> None:
    with pytest.raises(Unavailable):
        LatestSource("s", 3).attach(A, "other", (4, 0), True, 0.0)
    again = LatestSource("loaded anew", 3)  # by the same claim
    assert not again.attach(A, "s", (3, 9), True, 0.0)
    assert again.publish(0.0)[0] > (3, 10)
    later = LatestSource("later", 5)
    assert not later.attach(A, "s", (3, 9), True, 0.0)
    assert later.publish(0.0)[0] == (5, 1)
