"""The options of `garrison node`, and how they are read where nobody needs to be told anything about them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

SUPERVISED: Final = "--supervised"
_PORTS: Final = ("gateway_port", "admin_port")


class NodeOptions(msgspec.Struct, frozen=True):
    """The options of `garrison node`; None where one is not given. `supervised` and `succeed` are said by programs:
    see `server/cli/supervise.py` and `server/succession/launch.py`."""

    config: Path | None = None
    name: str | None = None
    gateway_port: int | None = None
    admin_port: int | None = None
    seeds: str | None = None
    app: str | None = None
    store: str | None = None
    supervised: bool = False
    set_: tuple[str, ...] = ()
    succeed: str | None = None


_FIELDS: Final = {
    f"--{name.replace('_', '-')}": name for name in NodeOptions.__struct_fields__ if name not in ("supervised", "set_")
}
"""Fields by the options that have one value."""


def plain_options(words: Sequence[str]) -> NodeOptions | None:
    """The options of `words` where they are `node` and options with values, as programs give them that start nodes.
    None for everything else: that is for the command line (`server/cli/node_command.py`), which explains, converts and
    refuses, and takes longer to load than a node to open its store."""
    if not words or words[0] != "node":
        return None
    found: dict[str, Any] = {}
    assigned: list[str] = []
    rest = iter(words[1:])
    for word in rest:
        if word == SUPERVISED:
            found["supervised"] = True
            continue
        option, equals, value = word.partition("=")
        value = value if equals else next(rest, "")
        field = _FIELDS.get(option, "")
        if not value or value.startswith("-"):
            return None
        if option == "--set":
            assigned.append(value)
        elif not field or field in found:
            return None
        elif field in _PORTS:
            if not (value.isascii() and value.isdigit()):
                return None
            found[field] = int(value)
        else:
            found[field] = Path(value) if field == "config" else value
    return NodeOptions(**found, set_=tuple(assigned))
