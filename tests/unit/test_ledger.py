"""The bots' ledger: contents that it knows, and that it does not claim to know (F61)."""

import msgspec

from garrison.messages import Created, Joined, MatchOptions, Medal
from garrison_bots.ledger import Ledger, chained


def test_profile_is_known_once_acknowledged_and_open_until_then() -> None:
    ledger = Ledger()
    ledger.sends_profile("p", "Ann", "owl")
    assert ledger.to_json({})["profiles"] == {"p": {"shown": None, "open": [["Ann", "owl"]]}}
    ledger.shows_profile("p", "Ann", "owl")
    ledger.sends_profile("p", "Bob", "cat")  # the outcome is never heard of
    assert ledger.to_json({})["profiles"] == {"p": {"shown": ["Ann", "owl"], "open": [["Bob", "cat"]]}}
    ledger.undone("player/p", 1, "gone")
    assert ledger.to_json({})["profiles"] == {}


def test_events_are_a_row_without_gaps() -> None:
    ledger = Ledger()
    events = [Created(0, "h", MatchOptions(), 5), Joined(0, "p", 1), Medal(3, "p", "Perfect")]
    for number, event in enumerate(events, 1):
        ledger.streamed("m", number, event)
    ledger.streamed("m", 2, events[1])  # again, after a resume
    digest = b""
    for number, event in enumerate(events, 1):
        digest = chained(digest, number, msgspec.msgpack.encode(event.to_wire()))
    assert ledger.to_json({})["events"] == {"m": [1, 3, digest.hex()]}
    ledger.knows_event("m", 9, events[2])
    packed = msgspec.msgpack.encode(events[2].to_wire())
    assert ledger.to_json({})["events"] == {"m": [9, 9, chained(b"", 9, packed).hex()]}
    ledger.undone("match/m", 1, "number 4 after 9")
    assert ledger.to_json({})["events"] == {}
