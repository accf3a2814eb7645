"""Whether an heir fits: what a process says of itself, compared with what its predecessor says. Pure.

Each difference that forbids a succession is a sentence for people. A new program may have other code, kinds more,
fields more in what its actors keep (with a default), and other values of most settings. It must be the same node, on
the same machine, with the same places of what outlives a process.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from server.actors.forms import unreadable

PROTOCOL: Final = 1
"""The version of what predecessor and heir say to each other."""
MAX_KINDS: Final = 1_024
Text = Annotated[str, Meta(max_length=4_096)]
Form = Annotated[str, Meta(max_length=1_000_000)]
Texts = Annotated[dict[Text, Text], Meta(max_length=256)]

LAYOUTS: Final[Mapping[str, str]] = {
    "schema": "tables of the database (`garrison migrate`, and a drain instead of an upgrade)",
    "app_schema": "tables of the application (`garrison migrate`, and a drain instead of an upgrade)",
    "columns": "columns",
    "logs": "logs of events",
    "frames": "messages between nodes",
}
"""Layouts of bytes that both must have in common, and what has them."""


class KindForm(msgspec.Struct, frozen=True, array_like=True):
    """A kind of actors: its durability, and the forms of what it keeps (`server/actors/forms.py`); `event` is empty for
    a kind without a log."""

    durability: Text
    state: Form
    event: Form = ""


class Account(msgspec.Struct, frozen=True, array_like=True):
    """The account that a process gives of itself. `program` and `python` are versions, for people. `layouts`: versions
    by `LAYOUTS`. `database`: the identity of the database. `settings`: those that must not change, by dotted name.
    `machine`: names of what the two must share of their system. `cluster_key`: a digest, empty where none is set."""

    protocol: int
    program: Text
    python: Text
    app: Text
    cluster: Text
    node: Text
    kinds: Annotated[dict[Text, KindForm], Meta(max_length=MAX_KINDS)]
    layouts: Texts
    database: Text
    settings: Texts
    machine: Texts
    cluster_key: Text = ""


def misfits(old: Account, new: Account) -> list[str]:
    """The reasons why a process that says `new` cannot succeed the one that says `old`, most telling first; empty if it
    can."""
    if old.protocol != new.protocol:
        return [
            f"the new program ({new.program}) speaks version {new.protocol} of a succession, this one ({old.program}) "
            f"version {old.protocol}: drain the node and start it again"
        ]
    return [
        *_another_node(old, new),
        *_another_machine(old, new),
        *_layouts(old, new),
        *_kinds(old, new),
        *_set(old, new),
    ]


def _another_node(old: Account, new: Account) -> Iterator[str]:
    for noun, before, after in (
        ("node", old.node, new.node),
        ("cluster", old.cluster, new.cluster),
        ("application", old.app, new.app),
    ):
        if before != after:
            yield f"the new program would be {noun} {after}, and this is {noun} {before}"
    if old.database != new.database:
        yield f"the new program has another database ({new.database}, this node is on {old.database})"
    if old.cluster_key != new.cluster_key:
        yield "the new program has another security.cluster_key: the other nodes would not let it in"


def _another_machine(old: Account, new: Account) -> Iterator[str]:
    for name, before in sorted(old.machine.items()):
        after = new.machine.get(name, "")
        if before != after:
            yield f"the new program runs with another {name} ({after or 'unknown'}, this node has {before})"


def _layouts(old: Account, new: Account) -> Iterator[str]:
    for name, holder in LAYOUTS.items():
        before, after = old.layouts.get(name, ""), new.layouts.get(name, "")
        if before != after:
            yield f"the new program has layout {after or 'none'} of {holder}, this node has {before or 'none'}"


def _kinds(old: Account, new: Account) -> Iterator[str]:
    for kind, before in sorted(old.kinds.items()):
        after = new.kinds.get(kind)
        if after is None:
            yield f"the new program has no actors of kind {kind} any more"
        elif before.durability != after.durability:
            yield f"actors of kind {kind} are {after.durability} in the new program, and {before.durability} here"
        elif bool(before.event) != bool(after.event):
            yield f"actors of kind {kind} have {'a' if after.event else 'no'} log in the new program"
        elif why := unreadable(before.state, after.state):
            yield f"the new program would not read the state of kind {kind}: {why}"
        elif before.event and (why := unreadable(before.event, after.event)):
            yield f"the new program would not read the events of kind {kind}: {why}"


def _set(old: Account, new: Account) -> Iterator[str]:
    for name in sorted(old.settings.keys() | new.settings.keys()):
        before, after = (account.settings.get(name, "") for account in (old, new))
        if before != after:
            yield f"setting {name} is {after or 'not set'} for the new program, and {before or 'not set'} here"
