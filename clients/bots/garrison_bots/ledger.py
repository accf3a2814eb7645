"""Promises that the bots were given, in a file, so that another process can compare them with the store.

    {"entities": {"player/bot-1": 7}, "matches": {"m-1": 120}, "ended": ["m-1"],
     "changes": 431, "lost": 0, "lost_from": [], "counts": {…}}

`entities`: the newest version of each entity that a `saved` named; the store must hold that
version or a later one. `matches`: the number after the last event that an `accepted` acknowledged
or the stream brought; all before it must be stored. `ended`: matches whose end the stream brought.
`changes` counts acknowledgements. `lost` counts changes that the bots themselves saw undone (there before a
failure, not there after it), and `lost_from` names up to twenty. The store does not show such a loss any more,
because later changes have the same version numbers.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from garrison.messages import Accepted, Saved

NAMED_LOSSES = 20
"""Losses that `lost_from` names."""


class Ledger:
    """Acknowledgements by entity and by match: its size is that of their names, however long the bots play."""

    def __init__(self) -> None:
        self.entities: dict[str, int] = {}
        self.next_seqs: dict[str, int] = {}
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

    def undone(self, entity: str, changes: int, why: str) -> None:
        """Count so many acknowledged `changes` as lost."""
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

    def streamed(self, match: str, number: int) -> None:
        """Note a published event: it must be stored."""
        self.next_seqs[match] = max(number + 1, self.next_seqs.get(match, 0))

    def match_ended(self, match: str) -> None:
        """Note that the end of `match` was published."""
        self.ended[match] = None

    def to_json(self, counts: Mapping[str, Any]) -> dict[str, Any]:
        """The ledger as plain values."""
        return {
            "entities": dict(self.entities),
            "matches": dict(self.next_seqs),
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
