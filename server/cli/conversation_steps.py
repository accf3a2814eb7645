"""Steps of which golden conversations are made, and the values that their `$` names stand for.

The steps and what a player does with each are described in `docs/protocol.md`.
"""

from collections.abc import Collection, Iterator
from typing import Any, Final

Step = dict[str, Any]

# ---- the steps -------------------------------------------------------------------------------------


def opens() -> Step:
    """The program wants a session."""
    return {"program": "open"}


def wants(name: str, *message: Any, retry: bool = False) -> Step:
    """The program makes request `name`: a message without its numbers. `retry`: repeat it though it is no command."""
    return {"program": "request", "as": name, "message": list(message), **({"retry": True} if retry else {})}


def watches(topic: str, from_seq: int = 1) -> Step:
    """The program subscribes to a stream."""
    return {"program": "watch", "topic": topic, "from_seq": from_seq}


def watches_latest(topic: str) -> Step:
    """The program subscribes to a latest topic."""
    return {"program": "watch_latest", "topic": topic}


def watches_players(*players: str) -> Step:
    """The program watches players."""
    return {"program": "watch_players", "players": list(players)}


def leaves_players(*players: str) -> Step:
    """The program ends that watch."""
    return {"program": "unwatch_players", "players": list(players)}


def leaves(topic: str) -> Step:
    """The program ends the subscription."""
    return {"program": "unwatch", "topic": topic}


def connects(url: str, *after_ms: int, fails: bool = False) -> Step:
    """The client opens a connection."""
    return {"client": "connect", "to": url, **_after(after_ms), **({"fails": True} if fails else {})}


def says(*line: Any, after_ms: Collection[int] = ()) -> Step:
    """The client sends a line."""
    return {"client": "say", "line": list(line), **_after(after_ms)}


def parts(code: int, *after_ms: int) -> Step:
    """The client closes the connection."""
    return {"client": "close", "code": code, **_after(after_ms)}


def drops(*after_ms: int) -> Step:
    """The client breaks the connection without a word."""
    return {"client": "drop", **_after(after_ms)}


def hears(*line: Any, lost: bool = False, fault: bool = False) -> Step:
    """The server sends a line. `lost`: it never arrives. `fault`: no right server sends it."""
    return {"server": "say", "line": list(line), **_flags(lost=lost, fault=fault)}


def closed(code: int, *, connection: int | None = None) -> Step:
    """The server closes the latest connection, or the numbered one."""
    return {"server": "close", "code": code, **({"connection": connection} if connection is not None else {})}


def breaks() -> Step:
    """The connection breaks."""
    return {"server": "break"}


def tells(*told: Any) -> Step:
    """The program hears from its client."""
    return {"tells": list(told)}


def passes(ms: int) -> Step:
    """Time passes, in which the client does nothing."""
    return {"passes_ms": ms}


def happens(*what: Any) -> Step:
    """Somebody else does something to the cluster."""
    return {"world": list(what)}


def _after(after_ms: Collection[int]) -> Step:
    return {"after_ms": list(after_ms)} if after_ms else {}


def _flags(**flags: bool) -> Step:
    return {name: True for name, is_set in flags.items() if is_set}


# ---- the values ------------------------------------------------------------------------------------

CHOICES: Final[dict[str, Step]] = {
    "$n1": {"url_of": "n1", "example": "ws://n1.example:7350"},
    "$n2": {"url_of": "n2", "example": "ws://n2.example:7350"},
    "$player": {"player_of": "n1", "example": "noble-6"},
    "$player_of_n2": {"player_of": "n2", "example": "noble-7"},
    "$token": {"token_of": "$player", "role": "player", "example": "a-token"},
    "$token_for_n2": {"token_of": "$player_of_n2", "role": "player", "example": "b-token"},
    "$token_of_host": {"token_of": "referee", "role": "host", "example": "c-token"},
    "$token_of_friend": {"token_of": "emile", "role": "player", "example": "d-token"},
    "$expired_token": {"token_of": "$player", "role": "player", "expired": True, "example": "old-token"},
    "$forged_token": {"token_of": "$player", "role": "player", "forged": True, "example": "forged-token"},
    "$latest": {"latest_topic": True, "example": "room/7"},
    "$mark": {"from": "server", "example": "4a8e5d130297b2cd"},
    "$mark_2": {"from": "server", "example": "9c07d1f6e2a85b34"},
    "$mark_3": {"from": "server", "example": "e51b7208c3d9460f"},
    "$cursor": {"from": "server", "example": "1.4.1"},
    "$cursor_2": {"from": "server", "example": "1.4.2"},
    "$cursor_3": {"from": "server", "example": "1.4.3"},
    "$cursor_4": {"from": "server", "example": "1.5.1"},
    "$cursor_5": {"from": "server", "example": "1.5.2"},
    "$noble": {"shown_player": "noble-1", "example": "noble-1"},
    "$seen": {"from": "server", "example": 4_501_274},
    "$seen_2": {"from": "server", "example": 93_117_008},
    "$seen_3": {"from": "server", "example": 2_201_844_127},
    "$client": {"from": "client", "example": "example/1"},
    "$lineage": {"from": "client", "example": "5c0ffee5"},
    "$session": {"from": "server", "example": "n1-1-1"},
    "$session_2": {"from": "server", "example": "n1-1-2"},
    "$resume": {"from": "server", "example": "resume-1"},
    "$resume_2": {"from": "server", "example": "resume-2"},
    "$resume_3": {"from": "server", "example": "resume-3"},
    "$interval": {"from": "server", "example": 5_000},
    "$window": {"from": "server", "example": 30_000},
    "$frame_bytes": {"from": "server", "example": 65_536},
    "$entity": {"from": "server", "example": "player/noble-6"},
    "$place": {"from": "server", "example": 2},
    "$version": {"from": "server", "example": 4},
    "$version_2": {"from": "server", "example": 6},
    "$within": {"from": "server", "example": 2_000},
}
"""Names and where their values come from: the world of the play, the client or the server. Beside these:
`$id.…`, numbers of requests; `$time.…`, times in milliseconds; `$text.…`, words for people."""


def _value(name: str, requests: int) -> Step:
    if name.startswith("$id."):
        return {"from": "client", "example": requests}
    if name.startswith("$time."):
        return {"from": "server", "example": 1_700_000_000_000}
    if name.startswith("$text."):
        return {"from": "server", "example": "as it is"}
    return CHOICES[name]


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value.startswith("$"):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _names(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from _names(each)


def conversation(
    name: str,
    doc: str,
    *steps: Step,
    nodes: Collection[str] = ("n1",),
    seeds: Collection[str] = ("$n1",),
    tokens: Collection[str] = ("$token",),
    renewable: bool = False,
    settings: Step | None = None,
) -> Step:
    """A conversation. `seeds`: the urls that the client is given; `tokens`: those that it gets one after the other,
    the last one for ever, and asks anew for only if `renewable`; `settings`: those of the nodes."""
    values: dict[str, Step] = {}
    waiting = list(_names([list(seeds), list(tokens), list(steps)]))
    while waiting:
        each = waiting.pop(0)
        if each not in values and each != "$n":
            values[each] = _value(each, 1 + sum(known.startswith("$id.") for known in values))
            waiting += _names(values[each])
    return {
        "name": name,
        "doc": doc,
        "nodes": list(nodes),
        "settings": settings or {},
        "client": {"seeds": list(seeds), "tokens": list(tokens), "renewable": renewable},
        "values": values,
        "steps": list(steps),
    }


def messages_of(script: Step) -> set[str]:
    """The types of the messages in a script."""
    lines = [step.get("line") or step.get("message") for step in script["steps"]]
    lines += [step["world"][2] for step in script["steps"] if step.get("world", [""])[0] == "says"]
    return {str(line[0]) for line in lines if line}
