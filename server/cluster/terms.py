"""Terms: what the nodes of one cluster must have in common, as each tells it of itself in gossip. Pure.

Nodes that share a cluster's name and key hear each other, and may not belong together all the same: one is on
another database. Both would own slots in one table and serve different players under one name. So each node
compares what the others tell with its own terms:

    not told     no difference: an earlier version does not know the term
    different    the other node is *foreign*: it is in nobody's view, and owns no slot (`foreign.py`)

A new term is a field of `Terms` at its end, and a line of `TERMS`.
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from server.errors import BadInput

_TEXT: Final = re.compile(r"[0-9A-Za-z.:_-]{0,64}", re.ASCII)


class Terms(msgspec.Struct, frozen=True, array_like=True, order=True):
    """The terms of one node, short texts without blanks; an empty one is not told. `database`: the identity of its
    database, see `server/storage/ports.py`."""

    database: str = ""


class Term(msgspec.Struct, frozen=True):
    """A term. `field` is that of `Terms`, `letter` its key in gossip's metadata, which has little room; `noun` and
    `remedy` are for people."""

    field: str
    letter: str
    noun: str
    remedy: str


TERMS: Final = (Term("database", "d", "database", "set one store.url for all, or a cluster name for each cluster"),)


def differences(mine: Terms, theirs: Terms) -> list[Term]:
    """The terms that both tell and that differ."""
    if mine == theirs:
        return []
    return [
        term
        for term in TERMS
        if (here := getattr(mine, term.field)) and (there := getattr(theirs, term.field)) and here != there
    ]


def to_meta(terms: Terms) -> dict[str, str]:
    """The part of gossip's metadata that tells `terms`."""
    return {term.letter: told for term in TERMS if (told := getattr(terms, term.field))}


def from_meta(meta: Mapping[str, str]) -> Terms:
    """The terms that `meta` tells. Raises `BadInput` for a text that is none."""
    told = {term.field: meta[term.letter] for term in TERMS if term.letter in meta}
    for field, text in told.items():
        if _TEXT.fullmatch(text) is None:
            raise BadInput(f"metadata: {field} {text[:60]!r}")
    return Terms(**told)
