"""`python -m server.cli.protocol [--check] [--app module:Name]`: `docs/protocol.json` from the message structs
of the engine and of an app.

The structs are the one place where a message is defined. `--check` writes nothing and fails when the file is
not what the structs give. The description is plain JSON: the head of `docs/protocol.md` says how to read it.
The SDKs' messages are rendered from it by the scripts in `clients/codegen`, which see no server code.
"""

import argparse
import ast
import importlib
import inspect
import itertools
import json
import re
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast, get_args

import msgspec
from msgspec import inspect as shapes

import server.errors
from server.actors.app import AnyRoute, App, Route
from server.actors.devices import CODES as LOGIN_CODES
from server.cli.conversation_steps import messages_of
from server.cli.conversations import CONVERSATIONS
from server.cli.conversations_of_endings import OF_ENDINGS
from server.cli.conversations_of_onlookers import OF_ONLOOKERS
from server.cli.conversations_of_players import BETWEEN_PLAYERS
from server.errors import BadSetting, CalledOff, GarrisonError, LogExists, OutcomeUnknown, Rejected, Retryable
from server.sessions.watching import CODES as WATCHING_CODES
from server.settings import Settings
from server.wire.codec import SUBPROTOCOLS
from server.wire.messages import (
    ENGINE_ANSWERS,
    ENGINE_REQUESTS,
    Ack,
    Beat,
    Beats,
    Close,
    CloseCode,
    Done,
    Heartbeat,
    Hello,
    PresenceList,
    PresenceListed,
    PresenceUnwatch,
    PresenceWatch,
    PresenceWatched,
    Push,
    Redirect,
    Renewed,
    ReplayClose,
    ReplayControl,
    ReplayOpen,
    ReplayStatus,
    Reply,
    Request,
    Snapshot,
    TokenRenew,
    Unwatch,
    Watch,
    Watching,
    WatchLatest,
    Welcome,
)

Spec = dict[str, Any]
ROOT: Final = Path(__file__).resolve().parents[2]
JSON_FILE: Final = ROOT / "docs" / "protocol.json"

ENGINE_REPLIES: Final[dict[type[Request], tuple[type[msgspec.Struct], ...]]] = {
    Hello: (Welcome, Redirect),
    Heartbeat: (Beat, Beats),
    Ack: (),
    Watch: (Watching,),
    Unwatch: (Done,),
    Close: (Done,),
    WatchLatest: (Snapshot,),
    TokenRenew: (Renewed,),
    PresenceWatch: (PresenceWatched,),
    PresenceUnwatch: (Done,),
    PresenceList: (PresenceListed,),
    ReplayOpen: (ReplayStatus,),
    ReplayControl: (ReplayStatus,),
    ReplayClose: (Done,),
}
"""Answers of each engine request beside `error`; empty: it has none."""

LINE: Final = 120
"""Characters of a line in protocol.json, where a value can be split."""
KINDS: Final = ((Request, "request"), (Reply, "reply"), (Push, "push"))
CLOSE_MEANINGS: Final[dict[int, tuple[str, str]]] = {
    CloseCode.NORMAL: ("The client left: it sent `close`, or closed with this code.", "no"),
    CloseCode.GOING_AWAY: ("The node stops, or does not take this session in.", "elsewhere"),
    CloseCode.PROTOCOL_ERROR: (
        "A frame broke RFC 6455, the first message was no good `hello`, too much was sent before the welcome, "
        "or a push was acknowledged that was never sent.",
        "no",
    ),
    CloseCode.UNSUPPORTED: ("A frame of the wrong kind for the subprotocol.", "no"),
    CloseCode.BAD_UTF8: ("A text message, or a close reason, is not UTF-8.", "no"),
    CloseCode.TOO_BIG: (
        "A message, its fragments together, is larger than `max_frame_bytes`, or than 8 KiB before the welcome.",
        "no",
    ),
    CloseCode.INTERNAL: (
        "The player cannot be loaded just now, or the token is not good yet or its key not known here (see the "
        "`error`), or a fault here.",
        "later",
    ),
    CloseCode.BAD_TOKEN: (
        "The token is missing, forged or foreign (the `error` before says `bad_token`), or the game refuses this "
        "player (another code, and no other node is to be asked).",
        "each_once",
    ),
    CloseCode.TOKEN_EXPIRED: ("The token was good once.", "new_token"),
    CloseCode.HELLO_TIMEOUT: ("No `hello` in time.", "later"),
    CloseCode.REPLACED: ("Another connection of this player took its place, or resumed the session.", "no"),
    CloseCode.REDIRECTED: ("Connect to the url of the `redirect` before this.", "redirect"),
    CloseCode.FLOOD: (
        "Too many refused messages in a row (over the rate, or unreadable), or far over the rate for long.",
        "later",
    ),
    CloseCode.SLOW_READER: ("Too much is unacknowledged (the session is over), or too long unread.", "now"),
    CloseCode.HEARTBEAT_MISSED: ("The server heard nothing for several intervals.", "now"),
    CloseCode.MOVED: ("The session is at another node now.", "now"),
    CloseCode.OWNERSHIP_LOST: ("The node lost its lease.", "elsewhere"),
    CloseCode.FULL: ("The node has no room for another connection or session.", "elsewhere"),
    CloseCode.DISMISSED: ("The application ended the session, for the reason that the close gives.", "no"),
    CloseCode.OCCUPIED: (
        "The login policy keeps another session of this player, which is there; it may end within the resume window.",
        "no",
    ),
}
RETRIES: Final = {
    "no": "do not reconnect by yourself",
    "each_once": "try the other addresses that you know, and stop when each has answered so since the last welcome",
    "now": "reconnect at once, with the resume token",
    "redirect": "connect to the url that was told",
    "elsewhere": "reconnect at once, to another node first",
    "later": "reconnect after a pause",
    "new_token": "reconnect with a new token",
}


def describe(app: App) -> Spec:
    """The whole protocol of the engine with `app`, as plain JSON values."""
    shape = _Shapes()
    messages = [
        *(_message(cls, "engine", shape, app) for cls in (*ENGINE_REQUESTS, *ENGINE_ANSWERS)),
        *(_message(cls, app.name, shape, app) for cls in (*app.requests, *app.answers)),
    ]
    events = [str(cls.__struct_config__.tag) for cls in app.events if shape.struct(cls)]
    for cls in app.shapes:
        shape.struct(cls)
    described: Spec = {
        "protocol": "garrison.v1",
        "subprotocols": {name: "binary" if kind == "msgpack" else "text" for name, kind in SUBPROTOCOLS.items()},
        "app": app.name,
        "messages": messages,
        "structs": list(shape.structs.values()),
        "events": events,
        "errors": _errors(),
        "rule_codes": [
            {"code": code, "part": part, "meaning": meaning}
            for part, codes in (("engine", WATCHING_CODES | LOGIN_CODES), (app.name, app.codes))
            for code, meaning in codes.items()
        ],
        "close_codes": _close_codes(),
        "application_close_codes": [CloseCode.APPLICATION.start, CloseCode.APPLICATION.stop - 1],
        "retries": RETRIES,
    }
    described["golden"] = _golden(described, (*ENGINE_REQUESTS, *ENGINE_ANSWERS, *app.requests, *app.answers))
    known = {message["type"] for message in messages}
    described["conversations"] = [
        script
        for script in (*CONVERSATIONS, *OF_ENDINGS, *BETWEEN_PLAYERS, *OF_ONLOOKERS)
        if messages_of(script) <= known
    ]
    return described


# ---- messages and their fields ------------------------------------------------------------------


_PLAIN: Final = (shapes.BoolType, shapes.IntType, shapes.StrType, shapes.Metadata)
"""Types of which a field may have any."""


class _Shapes:
    """Descriptions of fields, and of the nested structs that are met on the way."""

    def __init__(self) -> None:
        self.structs: dict[str, Spec] = {}

    def struct(self, cls: type[Any]) -> str:
        """The name under which struct `cls` is described."""
        name = cls.__name__
        if name not in self.structs:
            tag = cls.__struct_config__.tag
            fields = self.fields(cls, skip=0)
            self.structs[name] = {"name": name, "type": tag, "doc": _doc(cls), "fields": fields}
        return str(name)

    def fields(self, cls: type[Any], skip: int) -> list[Spec]:
        docs = _field_docs(cls)
        info = cast(shapes.StructType, shapes.type_info(cls))
        return [self._field(field, docs.get(field.name, "")) for field in info.fields[skip:]]

    def _field(self, field: shapes.Field, doc: str) -> Spec:
        spec = {"name": field.encode_name, **self.type(field.type)}
        if not field.required:
            default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
            spec["default"] = msgspec.to_builtins(default)
        if doc:
            spec["doc"] = doc
        return spec

    def type(self, info: shapes.Type) -> Spec:
        """The description of a type: `type` and its bounds. Raises `TypeError` for one that the wire does not use."""
        match info:
            case shapes.Metadata():
                return self.type(info.type)
            case shapes.BoolType():
                return {"type": "bool"}
            case shapes.IntType():
                return {"type": "int", **_bounds(min=info.ge, max=info.le)}
            case shapes.StrType():
                return {"type": "str", **_bounds(max_length=info.max_length, pattern=_portable(info.pattern))}
            case shapes.LiteralType():
                return {"type": "word", "values": list(info.values)}
            case shapes.AnyType():
                return {"type": "any"}
            case shapes.RawType():
                return {"type": "event"}
            case shapes.ListType():
                bounds = _bounds(min_length=info.min_length, max_length=info.max_length)
                return {"type": "list", "of": self.type(info.item_type), **bounds}
            case shapes.StructType():
                return {"type": "struct", "struct": self.struct(info.cls)}
            case shapes.UnionType():
                return self._union(info)
        raise TypeError(f"no wire type for {info}")

    def _union(self, info: shapes.UnionType) -> Spec:
        parts = [part for part in info.types if not isinstance(part, shapes.NoneType)]
        if len(parts) == 1:
            return {**self.type(parts[0]), "nullable": True}
        plain = [self.type(part)["type"] for part in parts if isinstance(part, _PLAIN)]
        if len(plain) == len(parts):
            bounds = {name: bound for part in parts for name, bound in self.type(part).items() if name != "type"}
            nullable = {"nullable": True} if len(parts) < len(info.types) else {}
            return {"type": "plain", "of": sorted(plain), **bounds, **nullable}
        names = [self.struct(part.cls) for part in parts if isinstance(part, shapes.StructType)]
        if len(names) != len(parts):
            raise TypeError(f"a union on the wire is of tagged structs: {info}")
        return {"type": "one_of", "structs": names, **({"nullable": True} if len(parts) < len(info.types) else {})}


def _message(cls: type[Any], part: str, shape: _Shapes, app: App) -> Spec:
    kind = next((kind for base, kind in KINDS if issubclass(cls, base)), "notice")
    spec: Spec = {
        "type": str(cls.__struct_config__.tag),
        "name": cls.__name__,
        "part": part,
        "kind": kind,
        "from": "client" if kind == "request" else "server",
        "doc": _doc(cls),
        "second": {"request": "id", "reply": "id", "push": "seq", "notice": None}[kind],
        "fields": shape.fields(cls, skip=0 if kind == "notice" else 1),
    }
    if kind == "request":
        route = app.routes.get(cls)
        spec["answers"] = [answer.__name__ for answer in _replies(cls, route, app)]
        spec["roles"] = sorted(route.roles) if route is not None else ["host", "player", "service"]
        spec["command"] = {"lineage", "command"} <= {field["name"] for field in spec["fields"]}
    return spec


def _replies(cls: type[Request], route: AnyRoute | None, app: App) -> tuple[type[msgspec.Struct], ...]:
    """The answers of a request: the engine's, or those that its route's method says it returns."""
    if route is None:
        return ENGINE_REPLIES[cls]
    returned = inspect.signature(route.method if isinstance(route, Route) else route.answer).return_annotation
    parts: Sequence[Any] = (
        re.findall(r"\w+", returned) if isinstance(returned, str) else get_args(returned) or (returned,)
    )
    kinds: tuple[type[msgspec.Struct], ...] = (*app.answers, Done)
    found = tuple(answer for answer in kinds if answer in parts or answer.__name__ in parts)
    if not found:
        raise TypeError(f"the route of {cls.__name__} does not say which message it returns: {returned!r}")
    return found


def _portable(pattern: str | None) -> str | None:
    r"""The pattern with `\u{1F600}` for `\U0001F600`, as other languages than Python write it."""
    return pattern and re.sub(r"\\U0*([0-9a-f]+)", lambda found: rf"\u{{{found[1]}}}", pattern)


def _bounds(**values: object) -> Spec:
    return {name: value for name, value in values.items() if value is not None}


def _doc(cls: type[Any]) -> str:
    own = cls.__dict__.get("__doc__") or ""
    return " ".join(inspect.cleandoc(own).split())


def _field_docs(cls: type[Any]) -> dict[str, str]:
    """The strings that stand below fields in the class's source."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    body = cast(ast.ClassDef, tree).body
    docs: dict[str, str] = {}
    for field, after in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(after, ast.Expr):
            docs[field.target.id] = " ".join(str(ast.literal_eval(after.value)).split())
    return docs


# ---- errors and close codes ----------------------------------------------------------------------


def _errors() -> list[Spec]:
    """The error tree, in the order of its drawing in `server/errors.py`."""
    drawn = dict(re.findall(r"^    (?:[ |-]*)(\w+) {2,}(\S.*)$", server.errors.__doc__ or "", re.MULTILINE))
    of_commands = (BadSetting, LogExists, CalledOff)  # no client gets them
    return [
        _error(cls, drawn[cls.__name__]) for cls in _tree(GarrisonError) if cls not in (GarrisonError, *of_commands)
    ]


def _tree(root: type[GarrisonError]) -> Iterable[type[GarrisonError]]:
    for child in root.__subclasses__():
        if child.__module__ == root.__module__:  # others may subclass for themselves
            yield child
            yield from _tree(child)


def _error(cls: type[GarrisonError], meaning: str) -> Spec:
    may_have_happened = (
        issubclass(cls, OutcomeUnknown) and cls is not OutcomeUnknown
    )  # with its bare code asking is no use
    retry = "same_command" if may_have_happened else "yes" if issubclass(cls, Retryable) else "no"
    parent = cls.__bases__[0]
    spec: Spec = {
        "code": cls.code,
        "name": cls.__name__,
        "parent": None if parent is GarrisonError else parent.__name__,
        "meaning": meaning,
        "retry": retry,
    }
    if issubclass(cls, Retryable):
        spec["default_retry_after_ms"] = int(cls.default_retry_s * 1000)
    if cls is OutcomeUnknown:
        spec["meaning"] += "; with this very code the server no longer knows, and asking again is no use"
    if cls is Rejected:
        spec["meaning"] += "; any code that is not in this list, see `rule_codes`"
    return spec


def _close_codes() -> list[Spec]:
    names = {value: name for name, value in vars(CloseCode).items() if name.isupper() and isinstance(value, int)}
    codes = []
    for code in sorted(names):
        meaning, retry = CLOSE_MEANINGS[code]
        codes.append({"code": code, "name": names[code].lower(), "meaning": meaning, "retry": retry})
    return codes


# ---- golden frames -------------------------------------------------------------------------------


def _golden(described: Spec, classes: Sequence[type[Any]]) -> list[Spec]:
    """Golden frames: for each message one with every field set and, where trailing fields have defaults,
    one without them; each checked by decoding it in both formats."""
    sample = _Samples(described)
    by_tag = {str(cls.__struct_config__.tag): cls for cls in classes}
    frames: list[Spec] = []
    for number, message in enumerate(described["messages"], 1):
        whole = sample.message(message)
        if message.get("command"):  # each a number of its own, else they would repeat one another
            whole[3] = number
        short = whole[: len(whole) - _defaults_at_end(message["fields"])]
        for wire in [whole] if len(short) == len(whole) else [whole, short]:
            text, packed = msgspec.json.encode(wire), msgspec.msgpack.encode(wire)
            cls = by_tag[message["type"]]
            msgspec.json.decode(text, type=cls)
            msgspec.msgpack.decode(packed, type=cls)
            frames.append({"type": message["type"], "wire": wire, "json": text.decode(), "msgpack": packed.hex()})
    return frames


def _defaults_at_end(fields: list[Spec]) -> int:
    count = 0
    for field in reversed(fields):
        if "default" not in field:
            break
        count += 1
    return count


SAMPLES: Final[Mapping[str, Mapping[str, Any]]] = {
    "ack": {"id": 0},
    "heartbeat": {"state": "away"},
    "watch": {"topic": "match/match-7", "known_seq": 0, "known": "4a8e5d130297b2cd"},
    "unwatch": {"topic": "match/match-7"},
    "replay.open": {"topic": "match/match-7", "from_ms": 0, "from_seq": 1, "speed": 400, "follow": "player-7"},
    "replay.control": {"speed": 400, "seek_ms": 0, "follow": "player-7"},
    "profile.set": {"display_name": "display_name \u00e9\u2713"},
    "MatchOptions": {"mode": "recorded", "source": "", "counts": False},
    "match.join": {"team": 1},
    "match.describe": {"tags": ["ranked"]},
    "board.top": {"period": "week:2026-11-23", "cursor": "12/player-7"},
    "board.around": {"period": "day:2026-11-29"},
    "board.friends": {"period": "all"},
    "match.get": {"cursor": "0:1:-12:-3/player-7"},
    "match.history": {"mode": "slayer", "properties": [], "tags": ["ranked"], "cursor": ""},
    "match.page": {"skip": 0},
    "match.list": {"cursor": "1700000000000/match-7", "mode": "slayer"},
    "score": {"team": 1, "player": None},
    "match.reserve": {"players": ["player-7"], "party": "party-7", "places": 2},
    "match.successor": {"host": "referee-2"},
    "match.pass_host": {"host": "player/player-7"},
    "match.kick": {"reason": "reason \u00e9\u2713"},
    **{f"friends.{act}": {"player": "friend-1"} for act in ("invite", "accept", "remove")},
    **{f"friends.{act}": {"player": "friend-2"} for act in ("decline", "block", "unblock")},
}
"""Values of single fields, by the type of their message or struct, where not every value that fits is one that a node
accepts."""


class _Samples:
    """Values that fit a field, the same ones each time, and different from its default: such that a node accepts each
    whole message of a client."""

    def __init__(self, described: Spec) -> None:
        self._structs = {struct["name"]: struct for struct in described["structs"]}
        self._events = [struct["name"] for struct in described["structs"] if struct["type"] in described["events"]]

    def message(self, message: Spec) -> list[Any]:
        own = SAMPLES.get(message["type"], {})
        second = {"id": [own.get("id", 12)], "seq": [345]}.get(message["second"], [])
        return [message["type"], *second, *self._values(message["fields"], own)]

    def struct(self, name: str) -> list[Any]:
        struct = self._structs[name]
        tag = [struct["type"]] if struct["type"] else []
        return [*tag, *self._values(struct["fields"], SAMPLES.get(struct["type"] or name, {}))]

    def _values(self, fields: list[Spec], own: Mapping[str, Any]) -> list[Any]:
        names = [field["name"] for field in fields]
        return [own.get(name, self.value(field, name)) for name, field in zip(names, fields, strict=True)]

    def value(self, spec: Spec, name: str) -> Any:
        match spec["type"]:
            case "bool":
                return spec.get("default") is not True
            case "int":
                wanted = 61_234 if name.endswith("_ms") else 3
                if name == "term":
                    wanted = 1  # a match that has just been made is in its first
                return max(spec.get("min", wanted), min(spec.get("max", wanted), wanted))
            case "plain":
                return 7
            case "word":
                return next(word for word in spec["values"] if word != spec.get("default"))
            case "str":
                free = "pattern" not in spec and spec.get("max_length") == 128
                text = f"{name} \u00e9\u2713" if free else f"{name}-7"
                return text[: spec.get("max_length", 64)]
            case "list":
                of = spec["of"]
                if of["type"] == "one_of":
                    return [self.struct(each) for each in of["structs"]]
                if of["type"] == "event":
                    return [self.struct(each) for each in self._events[:2]]
                return [self.value(of, name)]
            case "struct":
                return self.struct(spec["struct"])
            case "one_of":
                return self.struct(spec["structs"][0])
            case "event":
                return self.struct(self._events[0])
            case "any":
                return {"score": 3, "names": ["é", None]}
        raise TypeError(f"no sample for {spec}")


# ---- the command -----------------------------------------------------------------------------------


def load_app(path: str) -> App:
    """The `App` at `package.module:Name`. Raises `BadSetting`."""
    module, _, name = path.partition(":")
    try:
        app = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise BadSetting("app", str(error)) from None
    if not isinstance(app, App):
        raise BadSetting("app", f"{path} is no App")
    return app


def render_json(described: Spec) -> str:
    """The text of protocol.json: a value that fits on a line stands on one, for readable differences."""
    return _render(described, 0) + "\n"


def _render(value: Any, depth: int) -> str:
    line = json.dumps(value, ensure_ascii=False)
    if len(line) + depth <= LINE or not isinstance(value, dict | list) or not value:
        return line
    indent = "\n" + " " * (depth + 1)
    if isinstance(value, dict):
        parts = [f"{json.dumps(name)}: {_render(each, depth + 1)}" for name, each in value.items()]
    else:
        parts = [_render(each, depth + 1) for each in value]
    open_, close = "{}" if isinstance(value, dict) else "[]"
    return open_ + indent + f",{indent}".join(parts) + "\n" + " " * depth + close


def main(argv: Sequence[str] | None = None) -> int:
    """Write or check protocol.json; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m server.cli.protocol", description="Generate protocol.json.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the file is out of date")
    parser.add_argument("--app", default=Settings().app, help="the application, package.module:Name")
    parser.add_argument("--out", type=Path, default=JSON_FILE, help="the file to write")
    options = parser.parse_args(argv)
    text = render_json(describe(load_app(options.app)))
    if options.out.exists() and options.out.read_text("utf-8") == text:
        return 0
    if options.check:
        print(f"{options.out} is out of date: run python -m server.cli.protocol", file=sys.stderr)
        return 1
    options.out.write_text(text, "utf-8")
    print(f"wrote {options.out}; now run python clients/codegen/python.py", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
