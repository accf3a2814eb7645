"""What `make autobahn` makes of the suite's reports."""

from pathlib import Path

from tests.autobahn.__main__ import EXCEPTIONS, best_of, complaints, outcome


def told(behavior: str, close: str = "OK") -> dict[str, str]:
    return {"behavior": behavior, "behaviorClose": close}


def test_a_case_is_as_good_as_the_worse_of_behaviour_and_close() -> None:
    assert outcome(told("OK")) == "OK"
    assert outcome(told("NON-STRICT", "FAILED BY CLIENT")) == "FAILED BY CLIENT"
    assert outcome(told("INFORMATIONAL", "UNCLEAN")) == "UNCLEAN"
    assert outcome(told("A NEW WORD", "FAILED")) == "A NEW WORD"


def test_the_subprotocol_that_takes_a_cases_messages_counts() -> None:
    found = {
        "msgpack": {"1.1.1": "FAILED", "10.1.1": "OK", "2.2": "OK"},
        "json": {"1.1.1": "OK", "10.1.1": "FAILED", "2.2": "OK"},
    }
    assert list(best_of(found).items()) == [("1.1.1", "OK"), ("2.2", "OK"), ("10.1.1", "OK")]


def test_a_failed_case_and_a_missing_one_are_named() -> None:
    good = {"1.1.1": "OK", "2.1": "NON-STRICT", "7.1.6": "INFORMATIONAL", "2.10": "FAILED"}
    assert complaints(good, 4) == []
    assert complaints(good | {"3.1": "UNCLEAN"}, 5) == ["case 3.1: UNCLEAN"]
    assert complaints(good | {"3.1": "A NEW WORD"}, 5) == ["case 3.1: A NEW WORD"]
    assert complaints(good, 247) == ["4 cases were played, not 247"]


def test_the_protocols_page_names_every_exception() -> None:
    page = Path("docs/protocol.md").read_text("utf-8")
    assert all(f"`{case}`" in page for case in EXCEPTIONS)
