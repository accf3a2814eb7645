"""Terms: what the nodes of one cluster must have in common, as each tells it of itself in gossip. Pure.

Nodes that share a cluster's name and key hear each other, and may not belong together all the same: one is on
another database. Both would own slots in one table and serve different players under one name. So each node
compares what the others tell with its own terms:

    not told     no difference: an earlier version does not know the term
    different    the other node is *foreign*: it is in nobody's view, and owns no slot (`foreign.py`)

A new term is a field of `Terms` at its end, and a line of `TERMS`; or of `TOLD`, where it makes nobody foreign
(`agreement.py`).
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Final

import msgspec

from server.errors import BadInput

_TEXT: Final = re.compile(r"[0-9A-Za-z.:_-]{0,64}", re.ASCII)


class Terms(msgspec.Struct, frozen=True, array_like=True, order=True):
    """The terms of one node, short texts without blanks; an empty one is not told.

    `database`: the identity of its database, see `server/storage/ports.py`. `app`: the application's name. `tokens`:
    fingerprints of its keys of client tokens, between dots. `rules`: a digest of its other conditions of a good token.
    `kinds`: the fingerprint of the application's kinds, see `server/actors/forms.py`. `logins`: the login policy, of
    sessions that begin at its node."""

    database: str = ""
    app: str = ""
    tokens: str = ""
    rules: str = ""
    kinds: str = ""
    logins: str = ""


class Term(msgspec.Struct, frozen=True):
    """A term. `field` is that of `Terms`, `letter` its key in gossip's metadata, which has little room; `noun` and
    `remedy` are for people."""

    field: str
    letter: str
    noun: str
    remedy: str


TERMS: Final = (
    Term("database", "d", "database", "set one store.url for all, or a cluster name for each cluster"),
    Term("app", "n", "app", "start all with one --app, or set a cluster name for each app"),
)
TOLD: Final = (
    Term(
        "tokens", "k", "token keys", "set one security.signing_key for all, or add its keys to security.token_key_files"
    ),
    Term("rules", "r", "token rules", "set one gateway.token_audience and gateway.token_issuers for all"),
    Term("kinds", "f", "kinds and states", "run one version of the app on all"),
    Term("logins", "p", "login policy", "set one gateway.login_policy for all"),
)


def text_of(name: str) -> str:
    """A term's text for any `name`: itself, or a digest of it where it is no such text."""
    return name if name and _TEXT.fullmatch(name) else hashlib.sha256(name.encode()).hexdigest()[:12]


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
    return {term.letter: told for term in (*TERMS, *TOLD) if (told := getattr(terms, term.field))}


def from_meta(meta: Mapping[str, str]) -> Terms:
    """The terms that `meta` tells. Raises `BadInput` for a text that is none."""
    told = {term.field: meta[term.letter] for term in (*TERMS, *TOLD) if term.letter in meta}
    for field, text in told.items():
        if _TEXT.fullmatch(text) is None:
            raise BadInput(f"metadata: {field} {text[:60]!r}")
    return Terms(**told)
