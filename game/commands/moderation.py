"""`garrison ban`, `unban`, `mute`, `unmute`, `kick`, `revoke`, `standing` and `moderation`: moderation of a running
cluster, by its admin API."""

import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode

import msgspec
from cyclopts import App, Parameter, validators
from rich.table import Table
from rich.text import Text

from game.moderation.rules import FOR_GOOD, lasts
from server.cli.admin_side import BY_SETTINGS, AdminOptions
from server.cli.common import Json, out, print_json, seconds_of
from server.cli.tables import print_table
from server.errors import BadInput
from server.ids import actor_id
from server.texts import escaped

Why = Annotated[str, Parameter(help="A line that the subject gets to see, and that stands in the log.")]
For = Annotated[str | None, Parameter(name="--for", help="How long: 90s, 15m, 12h, 7d. Without it: for good.")]

STANDING: Final = (
    "subject", "banned_until_ms", "ban_reason", "muted_until_ms", "mute_reason", "tokens_from_ms",
)  # fmt: skip
"""Members of a standing as a node tells it."""
LOG_EXAMPLES: Final = """
Examples:

- `garrison moderation` shows the newest acts
- `garrison moderation --subject spartan-117` all about one subject
- `garrison moderation --principal admin --limit 200 --json`
"""


def ban(
    subject: str,
    /,
    *,
    reason: Why = "",
    for_: For = None,
    json: Json = False,
    admin: AdminOptions = BY_SETTINGS,
) -> int:
    """Let a player, host or service have no session: those that it has end, new ones are refused."""
    body = {"subject": subject, "reason": reason, "for_ms": _length_ms(for_)}
    return _act("ban", body, json, admin)


def unban(
    subject: str,
    /,
    *,
    reason: Why = "",
    json: Json = False,
    admin: AdminOptions = BY_SETTINGS,
) -> int:
    """End a ban."""
    return _act("unban", {"subject": subject, "reason": reason}, json, admin)


def mute(
    subject: str,
    /,
    *,
    reason: Why = "",
    for_: For = None,
    json: Json = False,
    admin: AdminOptions = BY_SETTINGS,
) -> int:
    """Hide a player's own lines and fields from others, and refuse its invitations."""
    body = {"subject": subject, "reason": reason, "for_ms": _length_ms(for_)}
    return _act("mute", body, json, admin)


def unmute(
    subject: str,
    /,
    *,
    reason: Why = "",
    json: Json = False,
    admin: AdminOptions = BY_SETTINGS,
) -> int:
    """End a mute."""
    return _act("unmute", {"subject": subject, "reason": reason}, json, admin)


def kick(
    subject: str,
    /,
    *,
    reason: Why = "",
    json: Json = False,
    admin: AdminOptions = BY_SETTINGS,
) -> int:
    """End every session of a player, host or service. It may come back."""
    return _act("kick", {"subject": subject, "reason": reason}, json, admin)


def revoke(
    subject: str,
    /,
    *,
    reason: Why = "",
    before: Annotated[
        str | None, Parameter(help="Tokens issued before this time (2026-11-29T12:00:00Z). Without it: before now.")
    ] = None,
    json: Json = False,
    admin: AdminOptions = BY_SETTINGS,
) -> int:
    """Take no token any more that a subject has now, and end the sessions that use one."""
    body = {"subject": subject, "reason": reason, "before_ms": _time_ms(before)}
    return _act("revoke", body, json, admin)


def standing(
    subject: str,
    /,
    *,
    json: Json = False,
    admin: AdminOptions = BY_SETTINGS,
) -> int:
    """Show how a subject stands: banned, muted, from when on its tokens count."""
    side = admin.side()
    actor_id("standing", subject)
    told = side.ask(f"/api/v1/standings/{quote(subject, safe='')}", has=STANDING)
    return _show(msgspec.json.decode(told), told, json)


def moderation(
    *,
    subject: Annotated[str | None, Parameter(help="Only acts about this subject.")] = None,
    principal: Annotated[str | None, Parameter(help="Only acts by this operator or service.")] = None,
    limit: Annotated[int, Parameter(help="At most so many.", validator=validators.Number(gte=1, lte=500))] = 50,
    cursor: Annotated[str, Parameter(help="The `next` of another page.")] = "",
    json: Json = False,
    admin: AdminOptions = BY_SETTINGS,
) -> int:
    """Show the log of moderation: who did what to whom and why, newest first."""
    asked = {"subject": subject, "principal": principal, "cursor": cursor, "limit": limit}
    params = urlencode({name: value for name, value in asked.items() if value})
    told = admin.side().ask(f"/api/v1/moderation?{params}", has=("rows", "next"))
    if json:
        print_json(told)
        return 0
    page = msgspec.json.decode(told)
    if page["rows"]:
        print_table(_log_table(page["rows"]), out())
    else:
        out().print("nobody has moderated anything yet")
    if page["next"]:
        out().print(f"more: --cursor {page['next']}", markup=False)
    return 0


def _act(name: str, body: dict[str, Any], json: bool, admin: AdminOptions) -> int:
    """Carry an action out, once, and show the standing after it."""
    named = {**body, "lineage": secrets.token_hex(8), "command": 1}
    told = admin.side().ask(f"/api/v1/actions/{name}", body=named, has=STANDING)
    return _show(msgspec.json.decode(told), told, json)


def _show(found: Mapping[str, Any], document: bytes, json: bool) -> int:
    if json:
        print_json(document)
    else:
        now_ms = found.get("now_ms", time.time_ns() // 1_000_000)
        out().print(sentence(found, now_ms), markup=False)
    return 0


def sentence(found: Mapping[str, Any], now_ms: int) -> str:
    """A standing in words."""
    words = [
        f"{word} {_until(found[until])}" + (f" ({escaped(found[why])})" if found[why] else "")
        for word, until, why in (
            ("banned", "banned_until_ms", "ban_reason"),
            ("muted", "muted_until_ms", "mute_reason"),
        )
        if lasts(found[until], now_ms)
    ]
    if found["tokens_from_ms"]:
        words.append(f"tokens issued before {_when(found['tokens_from_ms'])} are revoked")
    return f"{found['subject']}: {'; '.join(words) or 'neither banned nor muted'}"


def _until(until_ms: int) -> str:
    return "for good" if until_ms >= FOR_GOOD else f"until {_when(until_ms)}"


def _when(wall_ms: int) -> str:
    try:
        return datetime.fromtimestamp(wall_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):  # after the year 9999
        return f"{wall_ms} ms after 1970"


def _log_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("time", "act", "subject", "by", "until", "reason"):
        table.add_column(name, no_wrap=name in ("time", "subject"), overflow="fold")
    for row in rows:
        by = row["principal"] if row["role"] == "admin" else f"{row['principal']} ({row['role']})"
        until = _when(row["until_ms"]) if row["act"] == "revoke" else _until(row["until_ms"]).removeprefix("until ")
        shown = until if row["until_ms"] else ""
        table.add_row(_when(row["at_ms"]), row["act"], row["subject"], by, shown, Text(escaped(row["reason"])))
    return table


def _length_ms(text: str | None) -> int:
    return 0 if text is None else max(1, round(seconds_of(text, "--for") * 1000))


def _time_ms(text: str | None) -> int:
    if text is None:
        return 0
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(f"--before: {text!r} is no time; use 2026-11-29T12:00:00Z") from None
    return max(1, round((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000))


_HELP: Final[Mapping[Any, str]] = {
    ban: '- `garrison ban spartan-117 --reason "team killing" --for 7d`\n- `garrison ban cheater` for good',
    unban: "- `garrison unban spartan-117 --reason appealed`",
    mute: "- `garrison mute spartan-117 --for 12h`",
    unmute: "- `garrison unmute spartan-117`",
    kick: '- `garrison kick spartan-117 --reason "away from the keyboard"`',
    revoke: "- `garrison revoke spartan-117`\n- `garrison revoke game-server-3 --before 2026-11-29T12:00:00Z`",
    standing: "- `garrison standing spartan-117 --json`",
}


def _registered(app: App, command: Any) -> None:
    app.command(command, name=command.__name__, help_epilogue=f"\nExamples:\n\n{_HELP[command]}\n")


def register_ban(app: App) -> None:
    _registered(app, ban)


def register_unban(app: App) -> None:
    _registered(app, unban)


def register_mute(app: App) -> None:
    _registered(app, mute)


def register_unmute(app: App) -> None:
    _registered(app, unmute)


def register_kick(app: App) -> None:
    _registered(app, kick)


def register_revoke(app: App) -> None:
    _registered(app, revoke)


def register_standing(app: App) -> None:
    _registered(app, standing)


def register_moderation(app: App) -> None:
    app.command(moderation, name="moderation", help_epilogue=LOG_EXAMPLES)
