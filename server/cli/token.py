"""`garrison token`: a signed token for a client."""

import time
from typing import Annotated, Literal

import msgspec
from cyclopts import App, Parameter

from server.cli.common import Config, Json, Set, client_url, out, seconds_of
from server.cli.config import read_settings

EXAMPLES = """
Examples:

- `garrison token spartan-117` for a player, good for twelve hours
- `garrison token dedicated-7 --role host --ttl 7d` for a game server that reports matches
"""


def token(
    name: Annotated[str, Parameter(help="The subject: letters, digits and . _ : @ ~ + = -")],
    *,
    role: Annotated[Literal["player", "host", "service"], Parameter(help="What it may do.")] = "player",
    ttl: Annotated[str, Parameter(help="How long it is good: 90s, 15m, 12h, 7d.")] = "12h",
    json: Json = False,
    config: Config = None,
    set_: Set = None,
) -> int:
    """Sign a token with the cluster's key and print it. With --json also the node's address for clients, null where
    the settings do not say it."""
    settings = read_settings(config, set_)
    ttl_s = seconds_of(ttl, "--ttl")

    from server.drivers import signing_key
    from server.sessions.tokens import issue

    made = issue(
        signing_key(settings), name, role, ttl_s, time.time_ns() // 1_000_000,
        settings.gateway.token_audience, settings.security.signing_key_id,
    )  # fmt: skip
    if json:
        told = {"token": made, "subject": name, "role": role, "expires_in_s": ttl_s}
        document = {**told, "url": client_url(settings)}
        out().print(msgspec.json.encode(document).decode(), markup=False)
    else:
        out().print(made, markup=False)
    return 0


def register(app: App) -> None:
    app.command(token, name="token", help_epilogue=EXAMPLES)
