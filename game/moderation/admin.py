"""Moderation by operators: actions of the admin API, and its reads of standings and of the audit."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from game.fields import Key, Lineage
from game.moderation.actor import Standing
from game.moderation.messages import LengthMs, ModerationGet, PastMs, Reason, StandingInfo
from game.moderation.rules import CODES
from game.moderation.state import ActName, Order
from game.people.codes import ERASED
from server.actors.actor import Caller
from server.actors.app import Action, AdminContext, ConsoleRoute
from server.errors import BadInput, NotFound, Rejected
from server.ids import actor_id, key_of

MAX_PAGE: Final = 500


class SubjectOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of an action. One with a `lineage` is carried out once, however often it is sent."""

    subject: Key
    reason: Reason = ""
    lineage: Lineage = ""
    command: Annotated[int, Meta(ge=0, le=2**53)] = 0


class TimedOrder(SubjectOrder, frozen=True, forbid_unknown_fields=True):
    """`for_ms`: its length, 0 for good."""

    for_ms: LengthMs = 0


class RevokeOrder(SubjectOrder, frozen=True, forbid_unknown_fields=True):
    """`before_ms`: tokens that were issued before that Unix time, 0 for now."""

    before_ms: PastMs = 0


def _order(act: ActName, context: AdminContext, body: Any) -> Order:
    principal = context.principal
    for_ms, before_ms = getattr(body, "for_ms", 0), getattr(body, "before_ms", 0)
    words = (principal.name, principal.role, body.reason, for_ms, before_ms, body.lineage, body.command)
    return Order(act, *words)


def _sanction(act: ActName) -> Callable[[AdminContext, Any], Awaitable[Any]]:
    async def run(context: AdminContext, body: Any) -> Any:
        order = _order(act, context, body)
        try:
            return _plain(await context.ask(Standing, body.subject, Standing.order, order))
        except Rejected as error:
            if act != "ban" or error.code != ERASED:
                raise
        return _plain(await context.ask(Standing, body.subject, Standing.ban_anew, order))

    return run


def _lifting(act: ActName, code: str) -> Callable[[AdminContext, Any], Awaitable[Any]]:
    async def run(context: AdminContext, body: Any) -> Any:
        try:
            return _plain(await context.ask(Standing, body.subject, Standing.lift, _order(act, context, body)))
        except NotFound:
            raise Rejected(code, CODES[code]) from None

    return run


def _plain(info: StandingInfo) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.structs.asdict(info)
    del fields["id"]
    return fields


async def standing(context: AdminContext, params: Mapping[str, str]) -> Any:
    """How a subject stands now: ends in Unix ms, 0 for none, 2^53 - 1 for good."""
    subject = key_of(actor_id("standing", params["subject"]))
    caller = Caller("service", context.principal.name)
    info = await context.ask(Standing, subject, Standing.get, caller, ModerationGet(0, subject))
    return {**_plain(info), "now_ms": context.wall_ms()}


async def log(context: AdminContext, params: Mapping[str, str]) -> Any:
    """The audit of moderation, newest act first: at most `limit` (50) rows, of `subject` and by `principal` where they
    are given; `next` is the `cursor` of the page after, null where there is none."""
    if unknown := sorted(set(params) - {"subject", "principal", "cursor", "limit"}):
        raise BadInput(f"the log has no parameter {unknown[0]!r}")
    limit = _limit(params.get("limit", "50"))
    asked: dict[str, Any] = {name: params[name] for name in ("subject", "principal") if params.get(name)}
    rows = await context.query("moderation_acts", {**asked, **_after(params.get("cursor", "")), "limit": limit + 1})
    page = rows[:limit]
    return {"rows": page, "next": cursor_of(page[-1]) if len(rows) > limit else None, "now_ms": context.wall_ms()}


def cursor_of(row: Mapping[str, Any]) -> str:
    """The place of an act in the audit, which stays where it is."""
    return f"{row['at_ms']}/{row['number']}/{row['subject']}"


def _after(cursor: str) -> dict[str, Any]:
    if not cursor:
        return {}
    at_ms, _, rest = cursor.partition("/")
    number, _, subject = rest.partition("/")
    if not all(part.isascii() and part.isdecimal() and len(part) <= 16 for part in (at_ms, number)) or not subject:
        raise BadInput("cursor is the next of another page")
    return {"at_ms": int(at_ms), "number": int(number), "after_subject": subject}


def _limit(text: str) -> int:
    limit = int(text) if text.isascii() and text.isdecimal() and len(text) <= 4 else 0
    if not 1 <= limit <= MAX_PAGE:
        raise BadInput(f"limit is a number from 1 to {MAX_PAGE}")
    return limit


ACTIONS: Final[Mapping[str, Action]] = {
    "ban": Action(_sanction("ban"), TimedOrder),
    "unban": Action(_lifting("unban", "not_banned"), SubjectOrder),
    "mute": Action(_sanction("mute"), TimedOrder),
    "unmute": Action(_lifting("unmute", "not_muted"), SubjectOrder),
    "kick": Action(_sanction("kick"), SubjectOrder),
    "revoke": Action(_sanction("revoke"), RevokeOrder),
}
CONSOLE: Final[Mapping[str, ConsoleRoute]] = {"standings/{subject}": standing, "moderation": log}
