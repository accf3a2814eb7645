"""Logins of a player: what the session's actor is told of a session, beside who calls.

A *device* is a player's session as its actor knows it. The actor keeps its devices in memory only; sessions tell their
logins again to an actor that may not know them, so that a new activation learns of all that are left.
"""

from typing import Final

import msgspec

DEVICE_PATTERN: Final = r"[A-Za-z0-9_.-]{0,32}"
"""A kind of device, such as `console`; empty where it is not told."""


class Login(msgspec.Struct, array_like=True, frozen=True):
    """A session that says that it is there; one of an earlier version says nothing, and has the defaults.

    `session`: its name, which no other session ever has. `kind`: of its device, by its token or its client's word;
    empty where neither says. `node` and `incarnation`: the run that has the session. `stint`: 0 before its client is
    welcomed, then rising each time that the session tells its login again or changes its node: of two logins of a
    session the one with the higher stint is newer. `client`: its client's own word for itself. `issued_ms`: when its
    token was made (0: not told). `policy`: the login policy in force at its node. `age_ms`: time since the hello that
    began the session, when this was said: clocks of nodes need not agree for logins to be put in order."""

    session: str = ""
    kind: str = ""
    node: str = ""
    incarnation: int = 0
    stint: int = 0
    client: str = ""
    issued_ms: int = 0
    policy: str = "newest_wins"
    age_ms: int = 0


UNTOLD: Final = Login()
"""In place of the login of a session at a node of an earlier version."""
