"""The durable state of a subject's standing: a row of table `standings`, and rows of `moderation_acts`. Immutable."""

from typing import Literal

import msgspec

from server.actors.facts import NEVER, Stamp

ActName = Literal["ban", "unban", "mute", "unmute", "kick", "revoke", "erase"]


class Order(msgspec.Struct, array_like=True, frozen=True):
    """An act that somebody wants: `principal` is the subject of a service's token, or an operator, as `role` says
    (`service`, `admin`). `for_ms`: the length of a ban or a mute, 0 for good. `before_ms`: tokens issued before that
    Unix time are revoked, 0 for now. An order with a `lineage` is carried out once, however often it is given."""

    act: ActName
    principal: str
    role: str
    reason: str = ""
    for_ms: int = 0
    before_ms: int = 0
    lineage: str = ""
    command: int = 0


class Act(msgspec.Struct, array_like=True, frozen=True):
    """An order that took effect at Unix time `at_ms`: a row of the audit. `number` is the version of the standing that
    has it. `until_ms`: the end of a ban or a mute; for a revocation the time before which tokens were issued."""

    number: int
    at_ms: int
    act: ActName
    principal: str
    role: str
    reason: str
    until_ms: int
    lineage: str = ""
    command: int = 0


class StandingState(msgspec.Struct, frozen=True):
    """The whole row. Ends are Unix ms, 0 for never and `rules.FOR_GOOD` for none. `number` is the stamp of the newest
    word about the five fields before it, `told` that of the newest one that the player has stored. `acts` are the
    newest ones, in their order; of the `forgotten` ones before them only the store knows."""

    banned_until_ms: int = 0
    ban_reason: str = ""
    muted_until_ms: int = 0
    mute_reason: str = ""
    tokens_from_ms: int = 0
    number: Stamp = NEVER
    told: Stamp = NEVER
    acts: tuple[Act, ...] = ()
    forgotten: int = 0
