"""`python clients/codegen/python.py [--check]`: the Python SDK's `messages.py` from docs/protocol.json.

Frozen dataclasses with slots that turn into wire arrays and back, and tables of close codes. Needs the JSON
and Python's own library only: another language's messages are rendered by a script beside this one, from the
same file. `--check` writes nothing and fails when `messages.py` is not what the JSON gives.

The text is laid out so that the formatter leaves it as it is.
"""

import argparse
import json
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

Spec = dict[str, Any]
ROOT: Final = Path(__file__).resolve().parents[2]
DESCRIPTION: Final = ROOT / "docs" / "protocol.json"
MESSAGES: Final = ROOT / "clients" / "python" / "src" / "garrison" / "messages.py"
WIDTH: Final = 120

HEAD: Final = '''"""The messages of the protocol as frozen dataclasses. Generated from docs/protocol.json by
`python clients/codegen/python.py`; do not edit.

`to_wire` gives the array that travels, `from_wire` reads one and ignores fields that a newer
peer added at its end. `id`, `lineage` and `command` are filled in by the client.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

from garrison._base import Command, Event, Message, Notice, Push, Reply, Request, UnknownEvent, check_length
'''


def render(described: Spec) -> str:
    """Render the text of `messages.py`."""
    structs = {struct["name"]: struct for struct in described["structs"]}
    events = [struct for struct in described["structs"] if struct["type"] in described["events"]]
    answers = [message for message in described["messages"] if message["from"] == "server"]
    requests = [message for message in described["messages"] if message["from"] == "client"]
    blocks = [
        HEAD,
        *(_struct(struct) for struct in _nested_first(structs)),
        _alias("StreamEvent", [struct["name"] for struct in events], "The events of a stream."),
        _table("_EVENTS", "dict[str, Callable[[Sequence[Any]], Event]]", events, ".from_wire"),
        _READ_EVENT,
        *(_message(message) for message in answers),
        *(_message(message) for message in requests),
        _table("ANSWERS", "dict[str, Callable[[Sequence[Any]], Message]]", answers, ".from_wire"),
        _table("REQUESTS", "dict[str, Callable[[Sequence[Any]], Request[Any]]]", requests, ".from_wire"),
        _close_codes(described),
    ]
    return "\n\n".join(block.rstrip("\n") + "\n" for block in blocks).replace("\n\n\n\n", "\n\n\n")


_READ_EVENT: Final = '''def read_event(wire: Sequence[Any]) -> Event:
    """The stream event in an array; one of a newer server is an `UnknownEvent`."""
    read = _EVENTS.get(wire[0]) if wire else None
    return UnknownEvent(tuple(wire)) if read is None else read(wire)


def _read_one_of(wire: Sequence[Any]) -> Any:
    return read_event(wire)
'''


def _nested_first(structs: dict[str, Spec]) -> list[Spec]:
    """The structs in an order in which each comes after those that it holds."""
    done: dict[str, Spec] = {}

    def visit(struct: Spec) -> None:
        for field in struct["fields"]:
            for name in _names(field):
                if name not in done:
                    visit(structs[name])
        done[struct["name"]] = struct

    for struct in structs.values():
        if struct["name"] not in done:
            visit(struct)
    return list(done.values())


def _names(spec: Spec) -> list[str]:
    if spec["type"] == "list":
        return _names(spec["of"])
    return [spec["struct"]] if spec["type"] == "struct" else list(spec.get("structs", []))


def _struct(struct: Spec) -> str:
    base = "Event" if struct["type"] else ""
    return _class(struct, base, second=None, first=1 if struct["type"] else 0)


def _message(message: Spec) -> str:
    base = {"reply": "Reply", "push": "Push", "notice": "Notice"}.get(message["kind"], "")
    if not base:
        answers = " | ".join(message["answers"]) or "None"
        base = f"{'Command' if message['command'] else 'Request'}[{answers}]"
    return _class(message, base, second=message["second"], first=2 if message["second"] else 1)


def _class(spec: Spec, base: str, second: str | None, first: int) -> str:
    """Render a dataclass. `first` is the place in the array of its first own field."""
    name, tag, fields = spec["name"], spec.get("type"), spec["fields"]
    filled = [f for f in fields if f["name"] in ("lineage", "command") and spec.get("command")]
    lines = ["@dataclass(frozen=True, slots=True)", f"class {name}({base}):" if base else f"class {name}:"]
    lines += [*_docstring(spec, fields), ""]
    if tag:
        lines.append(f'    TYPE: ClassVar[str] = "{tag}"')
    lines += [f"    {f['name']}: {_python(f)}{_default(f)}" for f in fields if f not in filled]
    if filled:
        lines.append('    lineage: str = field(default="", kw_only=True)')
        lines.append("    command: int = field(default=0, kw_only=True)")
    if second:
        lines.append(f"    {second}: int = field(default=0, kw_only=True)")
    if lines[-1]:
        lines.append("")
    head = [f'"{tag}"'] if tag else []
    out = [*head, *([f"self.{second}"] if second else []), *(_pack(f, f"self.{f['name']}") for f in fields)]
    lines += ["    def to_wire(self) -> list[Any]:", *_sequence("        return [", out, "]"), ""]
    required = first + sum("default" not in f for f in fields)
    reads = [f"{second}=wire[1]"] if second else []
    optional = any("default" in f for f in fields)
    reads += [f"{f['name']}={_unpack(f, first + place)}" for place, f in enumerate(fields)]
    check = f'check_length(wire, {required}, "{tag or name}")'
    lines += ["    @classmethod", f'    def from_wire(cls, wire: Sequence[Any]) -> "{name}":']
    lines += [f"        n = {check}" if optional else f"        {check}", *_sequence("        return cls(", reads, ")")]
    return "\n".join(lines) + "\n"


def _docstring(spec: Spec, fields: list[Spec]) -> list[str]:
    doc = spec["doc"] or _roleless(spec)
    notes = [f"`{f['name']}`: {f['doc']}" for f in fields if f.get("doc")]
    text = textwrap.wrap(doc, WIDTH - 24)
    for note in notes:
        text += ["", *textwrap.wrap(note, WIDTH - 24)]
    text = [line.replace("\\", "\\\\") for line in text]
    if len(text) == 1:
        return [f'    """{text[0]}"""']
    return [f'    """{text[0]}', *(f"    {line}".rstrip() for line in text[1:]), '    """']


def _roleless(spec: Spec) -> str:
    kind = spec.get("kind")
    if kind == "request" and spec["answers"]:
        return f"Answered by `{'` or `'.join(spec['answers'])}`."
    plain = "An event of a stream." if spec.get("type") else "Part of other messages."
    return {"reply": "A reply.", "push": "A push."}.get(str(kind), plain)


def _python(spec: Spec) -> str:
    match spec["type"]:
        case "int" | "bool" | "str":
            text = str(spec["type"])
        case "plain":
            text = " | ".join(spec["of"])
        case "word":
            text = f"Literal[{', '.join(_quoted(word) for word in spec['values'])}]"
        case "list":
            text = f"list[{_python(spec['of'])}]"
        case "struct":
            text = spec["struct"]
        case "one_of":
            text = " | ".join(spec["structs"])
        case "any":
            text = "Any"
        case _:
            text = "Event"
    return f"{text} | None" if spec.get("nullable") else text


def _default(spec: Spec) -> str:
    if "default" not in spec:
        return ""
    if spec["type"] == "list":
        return " = field(default_factory=list)"
    return f" = {_constant(spec)}"


def _constant(spec: Spec) -> str:
    value = spec["default"]
    if spec["type"] == "struct" and value is not None:
        return f"{spec['struct']}()"
    if isinstance(value, str):
        return _quoted(value)
    if spec["type"] == "list":
        return "[]"
    return f"{value:_}" if type(value) is int else repr(value)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _pack(spec: Spec, value: str) -> str:
    nested = {"struct": f"{value}.to_wire()", "one_of": f"{value}.to_wire()", "event": f"{value}.to_wire()"}
    if spec["type"] == "list" and (inner := _pack(spec["of"], "each")) != "each":
        text = f"[{inner} for each in {value}]"
    else:
        text = nested.get(spec["type"], value)
    return f"None if {value} is None else {text}" if spec.get("nullable") and text != value else text


def _unpack(spec: Spec, place: int) -> str:
    value = f"wire[{place}]"
    text = _read(spec, value)
    if spec.get("nullable") and text != value:
        if "default" in spec:
            assert spec["default"] is None, "what may be nil and left out is nil where it is"
            return f"{text} if n > {place} and {value} is not None else None"
        text = f"None if {value} is None else {text}"
    return f"{text} if n > {place} else {_constant(spec)}" if "default" in spec else text


def _read(spec: Spec, value: str) -> str:
    match spec["type"]:
        case "struct":
            return f"{spec['struct']}.from_wire({value})"
        case "one_of":
            return f"_read_one_of({value})"
        case "event":
            return f"read_event({value})"
        case "list":
            inner = _read(spec["of"], "each")
            return value if inner == "each" else f"[{inner} for each in {value}]"
    return value


def _sequence(head: str, parts: list[str], tail: str) -> list[str]:
    """A call or list on one line where it fits, else one part a line."""
    line = head + ", ".join(parts) + tail
    if len(line) <= WIDTH:
        return [line]
    indent = " " * (len(head) - len(head.lstrip()))
    return [head, *(f"{indent}    {part}," for part in parts), indent + tail]


def _alias(name: str, names: list[str], doc: str) -> str:
    line = f"{name} = {' | '.join(names)}"
    if len(line) > WIDTH:
        line = "\n".join([f"{name} = (", f"    {names[0]}", *(f"    | {other}" for other in names[1:]), ")"])
    return f'{line}\n"""{doc}"""\n'


def _table(name: str, type_: str, specs: list[Spec], suffix: str) -> str:
    rows = [f'    "{spec["type"]}": {spec["name"]}{suffix},' for spec in specs]
    return "\n".join([f"{name}: {type_} = {{", *rows, "}"]) + "\n"


def _close_codes(described: Spec) -> str:
    first, last = described["application_close_codes"]
    retries = ", ".join(f'"{word}"' for word in described["retries"])
    rows = []
    for code in described["close_codes"]:
        parts = [_quoted(code["name"]), _quoted(code["retry"]), _quoted(code["meaning"])]
        rows += _sequence(f"    {code['code']}: CloseInfo(", parts, "),")
    return "\n".join(
        [
            "class CloseInfo(NamedTuple):",
            '    """Meaning of a WebSocket close code, and the way to go on after it."""',
            "",
            "    name: str",
            f"    retry: Literal[{retries}]",
            "    meaning: str",
            "",
            "",
            "CLOSE_CODES: dict[int, CloseInfo] = {",
            *rows,
            "}",
            f"APPLICATION_CLOSE_CODES = range({first}, {last + 1})",
            '"""Codes with which an application ends sessions, each for a reason of its own: do not reconnect."""',
        ]
    )


# ---- the command ---------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Write or check `messages.py`; return the exit status."""
    parser = argparse.ArgumentParser(prog="python clients/codegen/python.py", description="Render messages.py.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the file is out of date")
    parser.add_argument("--description", type=Path, default=DESCRIPTION, help="the protocol.json to render")
    parser.add_argument("--out", type=Path, default=MESSAGES, help="the file to write")
    options = parser.parse_args(argv)
    text = render(json.loads(options.description.read_text("utf-8")))
    if options.out.exists() and options.out.read_text("utf-8") == text:
        return 0
    if options.check:
        print(f"{options.out} is out of date: run python clients/codegen/python.py", file=sys.stderr)
        return 1
    options.out.write_text(text, "utf-8")
    print(f"wrote {options.out}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
