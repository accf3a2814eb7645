"""Promises that the bots were given, in a file, so that another process can compare them with the store.

    {"entities": {"player/bot-1": 7}, "profiles": {"bot-1": {"shown": ["Ann", "emblem-3"], "open": []}},
     "matches": {"m-1": 120}, "events": {"m-1": [1, 119, "9f…"]}, "ended": ["m-1"],
     "changes": 431, "lost": 0, "lost_from": [], "counts": {…}}

`entities`: the newest version of each entity that a `saved` named; the store must hold that
version or a later one. `profiles`: name and emblem of a player as last acknowledged, and those `open`, which were sent
and whose outcome is not known, so that they may show instead. `matches`: the number after the last event that an
`accepted` acknowledged or the stream brought; all before it must be stored. `events`: first and last number of the
events whose contents the client knows, and the digest of these (see `chained`). `ended`: matches whose end the stream
brought. `changes` counts acknowledgements. `lost` counts changes that the bots themselves saw undone (there before a
failure, not there after it), and `lost_from` names up to twenty. The store does not show such a loss any more,
because later changes have the same version numbers.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from garrison._base import Event
from garrison._frames import pack
from garrison.messages import Accepted, Saved

NAMED_LOSSES = 20
"""Losses that `lost_from` names."""
OPEN_CONTENTS = 8
"""Contents without a known outcome that are remembered of a player, the newest."""


def chained(digest: bytes, number: int, packed: bytes) -> bytes:
    """The digest after event `number`, whose msgpack is `packed`; that of no events is empty. The audit computes the
    same from the store."""
    return hashlib.sha256(digest + number.to_bytes(8, "big") + packed).digest()


class Shown:
    """Contents of a profile: the acknowledged ones, and those whose outcome is open."""

    __slots__ = ("acknowledged", "open")

    def __init__(self) -> None:
        self.acknowledged: list[str] | None = None
        self.open: list[list[str]] = []


class Events:
    """A row of events of a match, from `first` to `last`, by their digest."""

    __slots__ = ("digest", "first", "last")

    def __init__(self, first: int) -> None:
        self.first, self.last, self.digest = first, first - 1, b""


class Ledger:
    """Acknowledgements by entity and by match: its size is that of their names, however long the bots play."""

    def __init__(self) -> None:
        self.entities: dict[str, int] = {}
        self.profiles: dict[str, Shown] = {}
        self.next_seqs: dict[str, int] = {}
        self.events: dict[str, Events] = {}
        self.ended: dict[str, None] = {}
        self.changes = 0
        self.lost = 0
        self.lost_from: list[str] = []

    def saved(self, saved: Saved, *, new: bool = False) -> None:
        """Note an acknowledged durable change. The changes of an entity are made one after the other, so a
        version below an earlier one means that the difference is lost. `new`: the change always makes a version
        of its own."""
        self.changes += 1
        before = self.entities.get(saved.entity, 0)
        missing = before + new - saved.version
        if missing > 0:
            self.undone(saved.entity, missing, f"version {saved.version} after {before}")
        self.entities[saved.entity] = saved.version

    def saved_for_many(self, saved: Saved) -> None:
        """Note an acknowledged change of an entity that several clients change, whose answers come in any order."""
        self.changes += 1
        self.entities[saved.entity] = max(saved.version, self.entities.get(saved.entity, 0))

    def sends_profile(self, player: str, *contents: str) -> None:
        """Note that name and emblem are about to be sent: until `shows_profile` their outcome is open."""
        shown = self.profiles.setdefault(player, Shown())
        shown.open = [*shown.open, list(contents)][-OPEN_CONTENTS:]

    def shows_profile(self, player: str, *contents: str) -> None:
        """Note that the last sent name and emblem are acknowledged."""
        shown = self.profiles.setdefault(player, Shown())
        shown.acknowledged = list(contents)
        shown.open = [other for other in shown.open if other != shown.acknowledged]

    def undone(self, entity: str, changes: int, why: str) -> None:
        """Count so many acknowledged `changes` as lost. The entity's contents are not known then."""
        kind, _, key = entity.partition("/")
        (self.profiles if kind == "player" else self.events).pop(key, None)
        self.lost += changes
        if len(self.lost_from) < NAMED_LOSSES:
            self.lost_from.append(f"{entity}: {changes} ({why})")

    def saved_anew(self, saved: Saved) -> None:
        """Note a change after a look at the entity: losses are counted already, and its versions go on from
        `saved`."""
        self.changes += 1
        self.entities[saved.entity] = saved.version

    def accepted(self, accepted: Accepted) -> None:
        """Note an acknowledged match command."""
        self.changes += 1
        self.next_seqs[accepted.match] = max(accepted.next_seq, self.next_seqs.get(accepted.match, 0))

    def streamed(self, match: str, number: int, event: Event) -> None:
        """Note a published event: it must be stored."""
        self.next_seqs[match] = max(number + 1, self.next_seqs.get(match, 0))
        self.knows_event(match, number, event)

    def knows_event(self, match: str, number: int, event: Event) -> None:
        """Note the contents of an event that must be stored. After a gap a new row of events begins."""
        row = self.events.get(match)
        if row is not None and number <= row.last:
            return
        if row is None or number != row.last + 1:
            row = self.events[match] = Events(number)
        row.last, row.digest = number, chained(row.digest, number, pack(event))

    def match_ended(self, match: str) -> None:
        """Note that the end of `match` was published."""
        self.ended[match] = None

    def to_json(self, counts: Mapping[str, Any]) -> dict[str, Any]:
        """The ledger as plain values."""
        return {
            "entities": dict(self.entities),
            "profiles": {
                player: {"shown": shown.acknowledged, "open": shown.open} for player, shown in self.profiles.items()
            },
            "matches": dict(self.next_seqs),
            "events": {match: [row.first, row.last, row.digest.hex()] for match, row in self.events.items()},
            "ended": list(self.ended),
            "changes": self.changes,
            "lost": self.lost,
            "lost_from": list(self.lost_from),
            "counts": dict(counts),
        }

    def write(self, path: Path, counts: Mapping[str, Any]) -> None:
        """Replace the file at once: a reader sees the old or the new one, never a part."""
        partial = path.with_name(path.name + ".part")
        partial.write_text(json.dumps(self.to_json(counts)), "utf-8")
        os.replace(partial, path)
