"""Client messages of moderation, for services. Each act is a command: repeated under its number it is the same act."""

from typing import Annotated

import msgspec
from msgspec import Meta

from game.fields import CommandId, Key, Lineage
from server.ids import whole
from server.texts import LINE_PATTERN
from server.wire.messages import Reply, Request

Reason = Annotated[str, Meta(max_length=100, pattern=whole(LINE_PATTERN))]
"""A line that the subject gets to see."""
LengthMs = Annotated[int, Meta(ge=0, le=3_155_760_000_000)]
"""At most a hundred years; 0: for good."""
PastMs = Annotated[int, Meta(ge=0, le=2**52)]


class ModerationBan(Request, tag="moderation.ban", frozen=True):
    """Services only. Let `subject` have no session for `for_ms` (0: for good): those that it has end, new ones are
    refused. A ban in force is replaced."""

    lineage: Lineage
    command: CommandId
    subject: Key
    reason: Reason = ""
    for_ms: LengthMs = 0


class ModerationUnban(Request, tag="moderation.unban", frozen=True):
    """Services only. End a ban."""

    lineage: Lineage
    command: CommandId
    subject: Key
    reason: Reason = ""


class ModerationMute(Request, tag="moderation.mute", frozen=True):
    """Services only. Hide the player's own lines and fields from others for `for_ms` (0: for good), and refuse its
    invitations. A mute in force is replaced."""

    lineage: Lineage
    command: CommandId
    subject: Key
    reason: Reason = ""
    for_ms: LengthMs = 0


class ModerationUnmute(Request, tag="moderation.unmute", frozen=True):
    """Services only. End a mute."""

    lineage: Lineage
    command: CommandId
    subject: Key
    reason: Reason = ""


class ModerationKick(Request, tag="moderation.kick", frozen=True):
    """Services only. End every session of `subject`. It may come back."""

    lineage: Lineage
    command: CommandId
    subject: Key
    reason: Reason = ""


class ModerationRevoke(Request, tag="moderation.revoke", frozen=True):
    """Services only. Take no token of `subject` that was issued before Unix time `before_ms` (0: now), and end the
    sessions that have one."""

    lineage: Lineage
    command: CommandId
    subject: Key
    reason: Reason = ""
    before_ms: PastMs = 0


class ModerationGet(Request, tag="moderation.get", frozen=True):
    """Services only. The standing of `subject`; nobody need have said anything of it."""

    subject: Key


class StandingInfo(Reply, tag="standing", frozen=True):
    """How `subject` stands. Times are Unix ms; an end of 0: not banned, not muted; of 2^53 - 1: for good. `act` is the
    number of the act that this answers, 0 for `moderation.get`; the audit has it under the subject and that number."""

    subject: str
    banned_until_ms: int
    ban_reason: str
    muted_until_ms: int
    mute_reason: str
    tokens_from_ms: int
    act: int


ModerationOrder = (
    ModerationBan | ModerationUnban | ModerationMute | ModerationUnmute | ModerationKick | ModerationRevoke
)

REQUESTS: tuple[type[Request], ...] = (
    ModerationBan,
    ModerationUnban,
    ModerationMute,
    ModerationUnmute,
    ModerationKick,
    ModerationRevoke,
    ModerationGet,
)
ANSWERS: tuple[type[msgspec.Struct], ...] = (StandingInfo,)
