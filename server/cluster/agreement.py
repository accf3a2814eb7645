"""Agreement of the nodes of one cluster on what is not worth a split: said by both sides, and decisive only for a
newcomer. Pure. What makes two clusters of one is in `foreign.py`.

    tokens    the keys that client tokens may be signed with. They change while the cluster runs, node by node, and
              then neighbours in that change have a key in common. A newcomer that has none in common with any node
              that serves would refuse the cluster's players at its share of the slots: it does not come up
    rules     what else a client token must have
    kinds     the kinds of actors and the form of their states, of which a rolling upgrade has two for a while
    logins    the login policy: each login is judged by that of its own node, so two of them contradict each other

A member that does not come up stays `joining`: it owns no slots, and all views agree on it.
"""

import hashlib
import hmac
from collections.abc import Iterable
from typing import Final

import msgspec

from server.cluster.terms import TOLD, Term, Terms
from server.cluster.view import Member
from server.ids import NodeId

KEY_CHARS: Final = 8
MAX_KEYS: Final = 7
"""Keys that gossip's metadata has room for; a node with more does not tell them."""
DIGEST_CHARS: Final = 12


def keys_text(cluster_key: bytes, keys: Iterable[bytes]) -> str:
    """The text of `Terms.tokens`: a fingerprint of each key, made with the cluster key. Who reads it in a log can try
    no guesses against it."""
    found = {hmac.digest(cluster_key, b"garrison token key" + key, "sha256").hex()[:KEY_CHARS] for key in keys}
    return ".".join(sorted(found)) if len(found) <= MAX_KEYS else ""


def digest(*told: object) -> str:
    """A text that differs where `told`, plain values, differ."""
    return hashlib.sha256(msgspec.msgpack.encode(told)).hexdigest()[:DIGEST_CHARS]


def newcomer_refused(me: Member, members: Iterable[Member]) -> str:
    """The reason for which `me`, which does not serve yet, must not; empty where there is none."""
    others = [member for member in members if member.node != me.node and member.state != "joining"]
    others = [member for member in others if member.terms.tokens]
    if not me.terms.tokens or not others or any(_shared(me.terms, member.terms) for member in others):
        return ""
    term = next(term for term in TOLD if term.field == "tokens")
    return f"not of one cluster: {_parts(me, others, term)}; this node does not serve: {term.remedy}"


def without_heirs(members: Iterable[Member]) -> list[NodeId]:
    """Nodes whose program takes the heir of a member for a stranger: while one of them is there, no member may go on in
    another process."""
    return sorted(member.node for member in members if not member.knows_heirs)


def disagreement(me: Member, members: Iterable[Member]) -> str:
    """A sentence about `members` that do not agree with `me`; empty where all do."""
    members = list(members)
    parts = [f"{found}: {term.remedy}" for term in TOLD if (found := _parts(me, members, term))]
    return f"nodes differ: {'; '.join(parts)}" if parts else ""


def shared_address(me: Member, members: Iterable[Member]) -> str:
    """A sentence about another member that tells clients, operators or nodes the address of `me`: whoever is sent
    there may come to either, and is redirected in circles. Empty where there is none."""
    members = [member for member in members if member.state == "up" and member.node != me.node]
    for setting, field in (
        ("gateway.advertise_url", "client_url"),
        ("admin.advertise_url", "admin_url"),
        ("transport.advertise_host", "transport"),
    ):
        url = getattr(me, field)
        others = [member.node for member in members if url and getattr(member, field) == url]
        if others:
            return f"{', '.join(sorted(others))} has this node's address, {url}: set {setting} for each node"
    return ""


def _shared(mine: Terms, theirs: Terms) -> bool:
    return not set(mine.tokens.split(".")).isdisjoint(theirs.tokens.split("."))


def _parts(me: Member, members: Iterable[Member], term: Term) -> str:
    """Words for what each of `members` tells that differs."""
    here, others = getattr(me.terms, term.field), dict[str, list[str]]()
    for member in members:
        there = getattr(member.terms, term.field)
        if here and there and here != there:
            others.setdefault(there, []).append(member.node)
    return "; ".join(
        f"{', '.join(sorted(names))} on {term.noun} {there} (here {me.node} on {here})"
        for there, names in sorted(others.items())
    )
