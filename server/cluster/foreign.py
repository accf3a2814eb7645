"""Foreign nodes: those that gossip hears and whose terms (`terms.py`) differ from this node's. Pure.

A foreign node is in nobody's view. That alone would leave two clusters under one name, so the nodes of all terms but
one refuse to serve. Each decides it for itself, from what gossip tells all: the nodes that agree on terms are a
group, and of two groups that one goes on

    of which more nodes serve    a newcomer, which does not serve yet, so never stops those that do
    that has served for longer   by the wall clocks of the nodes, where numbers are equal
    whose terms sort first       where none serves: nodes that start at the same moment

Equal pictures give equal answers, and of two nodes with different terms at least one refuses. Pictures may differ for
a moment while news travels: a node that serves already gives up only when it has lost for a while (`Stand` does not
know time; `belonging.py` does).
"""

from collections.abc import Iterable
from math import inf

import msgspec

from server.cluster.terms import Terms, differences
from server.cluster.view import Member


class Stand(msgspec.Struct, frozen=True):
    """A node's place among what gossip hears. `own`: the members that agree with it, itself included. `refused`: why
    it must not serve; `ignored`: of whom it takes no notice while it does. Both are sentences for people, at least
    one of them is empty."""

    own: tuple[Member, ...] = ()
    foreign: tuple[Member, ...] = ()
    refused: str = ""
    ignored: str = ""


def stand(me: Member, heard: Iterable[Member]) -> Stand:
    """The stand of `me` among `heard`, in which it is itself too."""
    heard = tuple(heard)
    own = tuple(member for member in heard if not differences(me.terms, member.terms))
    if len(own) == len(heard):
        return Stand(own)
    foreign = tuple(member for member in heard if differences(me.terms, member.terms))
    mine = _rank(me.terms, own)
    better = sorted({member.terms for member in foreign if _rank(member.terms, heard) < mine})
    if not better:
        return Stand(own, foreign, ignored=_told(me, foreign, "that node is ignored", "those nodes are ignored"))
    stronger = tuple(member for member in foreign if member.terms in better)
    return Stand(own, foreign, refused=_told(me, stronger, "this node does not serve", "this node does not serve"))


def _rank(terms: Terms, heard: Iterable[Member]) -> tuple[int, float, Terms]:
    """The place of the group that agrees on `terms`: the lowest goes on."""
    serving = [member for member in heard if member.state != "joining" and not differences(terms, member.terms)]
    return -len(serving), min((member.since_ms or inf for member in serving), default=inf), terms


def _told(me: Member, foreign: tuple[Member, ...], single: str, many: str) -> str:
    """Words that name both sides: `node-2 has database b, and node-1 database a: …`."""
    parts: list[str] = []
    remedies: dict[str, None] = {}
    for terms in sorted({member.terms for member in foreign}):
        names = ", ".join(sorted(member.node for member in foreign if member.terms == terms))
        for term in differences(me.terms, terms):
            theirs, mine = getattr(terms, term.field), getattr(me.terms, term.field)
            parts.append(f"{names} on {term.noun} {theirs} (here {me.node} on {mine})")
            remedies[term.remedy] = None
    what = single if len(foreign) == 1 else many
    return f"not of one cluster: {'; '.join(parts)}; {what}: {'; '.join(remedies)}"
