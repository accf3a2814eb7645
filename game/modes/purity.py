"""The check of a mode's file before it runs: rules must be pure, or a replay is not the match. Pure itself.

Allowed is what is listed here: imports without clock, chance and I/O, and builtins that read nothing from outside. A
function changes nothing but what it has made itself. This finds mistakes, not malice: whoever names a mode's file in
the settings could name another application.
"""

import ast
import builtins
import importlib
from types import ModuleType
from typing import Final

IMPORTS: Final = frozenset(
    {"collections", "collections.abc", "dataclasses", "enum", "functools", "itertools", "math", "msgspec"}
    | {"msgspec.structs", "operator", "types", "typing", "__future__"}
    | {"game.messages", "game.match.events", "game.match.state"}
    | {f"game.modes.{name}" for name in ("mode", "slayer", "objective", "free_for_all", "capture_the_flag", "custom")}
    | {f"game.modes.{name}" for name in ("oddball", "king_of_the_hill")}
)
"""Modules that a mode's file may import."""
_REFUSED_BUILTINS: Final = frozenset(
    {"open", "input", "print", "exec", "eval", "compile", "globals", "locals", "vars", "breakpoint", "exit", "quit"}
    | {"help", "getattr", "setattr", "delattr", "id", "hash", "memoryview", "copyright", "credits", "license"}
)
"""`hash` and `id` differ from process to process; attributes by name get around the rest."""
BUILTINS: Final = frozenset(name for name in dir(builtins) if not name.startswith("_")) - _REFUSED_BUILTINS
"""Builtins that a mode's file has, beside what statements need."""
_SAFE_ATTRIBUTES: Final = frozenset({"_replace", "_asdict", "_fields"})
_REFUSED_ATTRIBUTES: Final = frozenset({"get_type_hints", "ForwardRef", "make_dataclass"})
"""Names of modules above that run text as code."""
_CHANGING: Final = frozenset(
    {"append", "add", "clear", "discard", "extend", "insert", "pop", "popitem", "remove", "reverse", "setdefault"}
    | {"sort", "update", "appendleft", "popleft", "extendleft", "rotate", "move_to_end", "subtract"}
)


class Impure(Exception):
    """A file has something at `line` that a mode's rules may not have."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line, self.reason = line, reason


def check(source: str) -> None:
    """Raises `Impure` with the first thing of a file that is not pure, or no Python."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        raise Impure(getattr(error, "lineno", None) or 1, f"is no Python: {getattr(error, 'msg', error)}") from None
    except RecursionError:
        raise Impure(1, "is nested too deeply") from None
    modules = _imported(tree)
    found: list[Impure] = []
    for node in ast.walk(tree):
        reason = _import_reason(node) or _word_reason(node) or _attribute_reason(node, modules)
        if reason:
            found.append(Impure(getattr(node, "lineno", 1), reason))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            found += _changes(node)
    if found:
        raise min(found, key=lambda impure: impure.line)


# ---- imports --------------------------------------------------------------------------------


def _import_reason(node: ast.AST) -> str | None:
    if isinstance(node, ast.Import):
        return next((reason for alias in node.names if (reason := _module_reason(alias.name))), None)
    if not isinstance(node, ast.ImportFrom):
        return None
    if node.level or node.module is None:
        return "a relative import: the file stands alone"
    if any(alias.name == "*" for alias in node.names):
        return f"imports everything of {node.module}"
    reason = _module_reason(node.module)
    if reason:
        return reason
    for alias in node.names:
        if alias.name in _REFUSED_ATTRIBUTES:
            return f"{node.module}.{alias.name}, which runs text as code"
        found = getattr(importlib.import_module(node.module), alias.name, None)
        if isinstance(found, ModuleType) and (reason := _module_reason(found.__name__)):
            return reason
    return None


def _module_reason(name: str) -> str | None:
    if name in IMPORTS:
        return None
    return f"imports {name}: rules are pure, and may import {', '.join(sorted(IMPORTS - {'__future__'}))}"


def _imported(tree: ast.AST) -> dict[str, str]:
    """Modules by the names that they have in the file."""
    out: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                package = alias.name.partition(".")[0]
                out[alias.asname or package] = alias.name if alias.asname else package
    return out


# ---- words and attributes -------------------------------------------------------------------


def _word_reason(node: ast.AST) -> str | None:
    if isinstance(node, ast.Global | ast.Nonlocal):
        return f"changes {', '.join(node.names)} outside of its function"
    if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
        return "waits: rules answer at once"
    if isinstance(node, ast.Name):
        if node.id in _REFUSED_BUILTINS:
            return f"uses {node.id}()"
        if node.id.startswith("__"):
            return f"uses {node.id}"
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and ".__" in node.value:
        return "a text that names an attribute with underscores"
    return None


def _attribute_reason(node: ast.AST, modules: dict[str, str]) -> str | None:
    if not isinstance(node, ast.Attribute):
        return None
    if node.attr.startswith("_") and node.attr not in _SAFE_ATTRIBUTES:
        return f"uses .{node.attr}, which is not for it"
    if node.attr in _REFUSED_ATTRIBUTES:
        return f"uses .{node.attr}, which runs text as code"
    if isinstance(node.value, ast.Name) and node.value.id in modules and not _module_reason(modules[node.value.id]):
        found = getattr(importlib.import_module(modules[node.value.id]), node.attr, None)
        if isinstance(found, ModuleType):
            return _module_reason(found.__name__)
    return None


# ---- changes of what others see -------------------------------------------------------------


def _changes(function: ast.FunctionDef | ast.Lambda) -> list[Impure]:
    """Changes of things that the function has not made itself, and defaults that calls would share."""
    own = _locals(function)
    out = [
        Impure(default.lineno, "a default value that calls share, and may change")
        for default in (*function.args.defaults, *function.args.kw_defaults)
        if isinstance(default, ast.List | ast.Dict | ast.Set)
    ]
    for node in ast.walk(function):
        target: ast.expr | None = None
        if isinstance(node, ast.Subscript | ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            target = node
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _CHANGING:
            target = node.func
        if target is not None and (root := _root(target)) is not None and root not in own:
            out.append(Impure(target.lineno, f"changes {root}, which it has not made itself"))
    return out


def _root(node: ast.expr) -> str | None:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _locals(function: ast.FunctionDef | ast.Lambda) -> set[str]:
    """Names that the function binds itself; its parameters are others' things."""
    return {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
