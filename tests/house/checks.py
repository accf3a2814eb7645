"""Checkers of the tree's structure: each takes parsed modules and gives the violations as lines of text.

    read_tree() -> {name: Module} -> circles, doubled_classes, long_modules, clauses, … -> [line, …]

Only syntax trees are read, nothing is imported. A checker that finds nothing gives an empty list. Each
one is tried on planted violations in `test_checks.py` before `test_tree.py` holds the tree to it.
"""

import ast
import io
import re
import tokenize
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGES: Final = {
    "server": "server",
    "game": "game",
    "persistence": "persistence",
    "migrations": "migrations",
    "garrison": "clients/python/src/garrison",
    "garrison_bots": "clients/bots/garrison_bots",
    "codegen": "clients/codegen",
}
"""Package name to its folder; a folder that is not there yet is passed over."""

MAX_LINES: Final = 600
GENERATED: Final = frozenset({"garrison.messages"})
CLAUSE: Final = re.compile(
    r"(What|Who|Whose|Whom|Which|Of which|Of whom|Those|These|It|They|One|Where|Of|That|Whoever|Whatever)\b"
)
"""Beginnings of a docstring in which the reader has to look for the thing that is meant."""


class Module(NamedTuple):
    """One source file. `lines` counts all of them; `is_package` is true for an `__init__`."""

    name: str
    tree: ast.Module
    lines: int
    is_package: bool = False


Tree = Mapping[str, Module]


def parse(name: str, source: str, is_package: bool = False) -> Module:
    """The module `name` (dotted) made of `source`."""
    return Module(name, ast.parse(source), len(source.splitlines()), is_package)


@cache
def read_tree() -> Tree:
    """Every module of the product, by dotted name."""
    tree: dict[str, Module] = {}
    for package, folder in PACKAGES.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = [package, *path.relative_to(ROOT / folder).with_suffix("").parts]
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            tree[name] = parse(name, path.read_text("utf-8"), is_package)
    return tree


def within(tree: Tree, *packages: str) -> list[Module]:
    """The modules of `packages`, which may be dotted."""
    return [module for name, module in tree.items() if any(_is_in(name, package) for package in packages)]


# ---- imports --------------------------------------------------------------------------------


def imported(module: Module) -> Iterator[str]:
    """Every dotted name that `module` imports, anywhere in it: at its head, inside functions, under
    `TYPE_CHECKING`. `from a import b` gives `a.b` (perhaps a module) and `a`."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(module, node)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _absolute(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    up = parts[: len(parts) - node.level + module.is_package]
    return ".".join([*up, *([node.module] if node.module else [])])


def circles(tree: Tree) -> list[str]:
    """Each import circle as one line, `a -> b -> a`; one line for all circles that hang together."""
    graph = {name: sorted({other for other in imported(tree[name]) if other in tree} - {name}) for name in tree}
    return [" -> ".join(_shortest_circle(graph, part)) for part in _strongly_connected(graph)]


def _strongly_connected(graph: Mapping[str, list[str]]) -> list[set[str]]:
    """The components of more than one module: those of which each reaches each other."""
    reach = {name: _reachable(graph, name) for name in graph}
    parts: list[set[str]] = []
    placed: set[str] = set()
    for name in sorted(graph):
        if name not in placed:
            part = {other for other in reach[name] if name in reach[other]}
            placed |= part
            if len(part) > 1:
                parts.append(part)
    return parts


def _reachable(graph: Mapping[str, list[str]], start: str) -> set[str]:
    found, todo = {start}, [start]
    while todo:
        for other in graph[todo.pop()]:
            if other not in found:
                found.add(other)
                todo.append(other)
    return found


def _shortest_circle(graph: Mapping[str, list[str]], part: set[str]) -> list[str]:
    """A shortest way from a module of `part` back to itself."""
    ways = (way for start in sorted(part) if (way := _way_back(graph, start)))
    return min(ways, key=len)


def _way_back(graph: Mapping[str, list[str]], start: str) -> list[str]:
    queue, seen = deque([[start]]), {start}
    while queue:
        way = queue.popleft()
        for other in graph[way[-1]]:
            if other == start:
                return [*way, start]
            if other not in seen:
                seen.add(other)
                queue.append([*way, other])
    return []


def lab_imports(tree: Tree) -> list[str]:
    """Modules outside of `server.lab` that import it."""
    return [
        f"{name} imports {other}"
        for name, module in tree.items()
        if not _is_in(name, "server.lab")
        for other in sorted({other for other in imported(module) if _is_in(other, "server.lab")})
    ]


def actor_imports(tree: Tree) -> list[str]:
    """Actors of the game that import another one instead of its face."""
    actors = [name for name in tree if _is_in(name, "game") and name.endswith(".actor")]
    return [
        f"{name} imports {other}"
        for name in actors
        for other in sorted({other for other in imported(tree[name]) if other in actors} - {name})
    ]


_GAME_IN_TEXT: Final = re.compile(
    r"(?<![\w./-])(game[./](app|commands|console|match|messages|player|replay)\b|game:|persistence[./]game\b)"
)


def game_names(tree: Tree, allowed: Iterable[tuple[str, str]] = ()) -> list[str]:
    """Modules of `server` outside of `lab` that name the game: by an import or in a string, docstrings
    included. `allowed` holds (module, whole string) pairs that may stand."""
    allow = set(allowed)
    found: list[str] = []
    for module in within(tree, "server"):
        if _is_in(module.name, "server.lab"):
            continue
        names = {name for name in imported(module) if _is_in(name, "game") or _is_in(name, "persistence.game")}
        found += [f"{module.name} imports {name}" for name in sorted(names)]
        for node in ast.walk(module.tree):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and (module.name, node.value) not in allow
            ):
                match = _GAME_IN_TEXT.search(node.value)
                if match or node.value in ("game", "persistence.game"):
                    found.append(f"{module.name}:{node.lineno} names {match.group() if match else node.value}")
    return found


def _is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


# ---- names, lengths, words ------------------------------------------------------------------


def doubled_classes(modules: Iterable[Module]) -> list[str]:
    """Names of classes that more than one of `modules` defines, or one of them twice."""
    where: dict[str, list[str]] = defaultdict(list)
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                where[node.name].append(module.name)
    return [f"class {name}: {', '.join(places)}" for name, places in sorted(where.items()) if len(places) > 1]


def long_modules(modules: Iterable[Module], max_lines: int = MAX_LINES) -> list[str]:
    """Modules of more than `max_lines` lines, other than generated ones."""
    return [
        f"{module.name} has {module.lines} lines"
        for module in modules
        if module.lines > max_lines and module.name not in GENERATED
    ]


def docstrings(module: Module) -> Iterator[tuple[int, str]]:
    """Line and text of every string that stands as a statement: docstrings and those under a name."""
    for node in ast.walk(module.tree):
        body = getattr(node, "body", None)
        for item in body if isinstance(body, list) else []:
            if (
                isinstance(item, ast.Expr)
                and isinstance(item.value, ast.Constant)
                and isinstance(item.value.value, str)
            ):
                yield item.lineno, item.value.value.strip()


def clauses(modules: Iterable[Module]) -> list[str]:
    """Docstrings that begin with a relative clause or a bare pronoun."""
    return [
        f"{module.name}:{line} begins with {match.group()!r}"
        for module in modules
        for line, text in docstrings(module)
        if (match := CLAUSE.match(text))
    ]


def comment_clauses(source: str) -> list[str]:
    """Comments that begin with a relative clause or a bare pronoun; a line below another comment goes on from it."""
    found: list[str] = []
    above = -1
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            text, alone = token.string.lstrip("# "), token.line.strip().startswith("#")
            if not (alone and above == token.start[0] - 1) and CLAUSE.match(text[:1].upper() + text[1:]):
                found.append(f"line {token.start[0]}: {token.string}")
            above = token.start[0] if alone else -1
    return found


# ---- the glossary ---------------------------------------------------------------------------


class Row(NamedTuple):
    """A row of the glossary: the word, its meaning, and the files or folders in which it lives."""

    word: str
    idea: str
    places: tuple[str, ...]


def glossary_rows(page: str) -> list[Row]:
    """The rows of the page's tables with the heading `| word | idea | where |`."""
    rows: list[Row] = []
    in_table = False
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if cells == ["word", "idea", "where"]:
            in_table = True
        elif not line.startswith("|"):
            in_table = False
        elif in_table and not set(line) <= set("|- "):
            rows.append(Row(cells[0].strip("*"), cells[1], tuple(re.findall(r"`([^`]+)`", cells[2]))))
    return rows


@cache
def identifiers(module: Module) -> set[str]:
    """Every name that `module` defines or uses: classes, functions, arguments, variables, attributes."""
    names: set[str] = set(module.name.split("."))
    for node in ast.walk(module.tree):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                names.add(name)
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.alias(name=name):
                names.add(name)
            case ast.keyword(arg=str(name)):
                names.add(name)
    return names


def words_of(text: str) -> list[str]:
    """The words in a name or a text: `EventLog`, `_event_log` and `EVENT_LOG` all give `["event", "log"]`."""
    return [part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", text)]


def misplaced(rows: Iterable[Row], root: Path = ROOT) -> list[str]:
    """Places of the glossary that are not there, and words that are not used where they are said to live."""
    found: list[str] = []
    for row in rows:
        if not row.places:
            found.append(f"{row.word}: no place is named")
        for place in row.places:
            path = root / place
            files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
            if not path.exists():
                found.append(f"{row.word}: there is no {place}")
            elif not any(_uses(file, row.word) for file in files):
                found.append(f"{row.word} is not used in {place}")
    return found


def _uses(file: Path, word: str) -> bool:
    """Whether the file's name or text has `word`, as text or as part of a name, in singular or plural."""
    parts = words_of(word)
    text = words_of(f"{file.stem} {file.read_text('utf-8')}")
    last = {parts[-1], f"{parts[-1]}s", f"{parts[-1]}es"}
    return any(
        text[start : start + len(parts) - 1] == parts[:-1] and text[start + len(parts) - 1] in last
        for start in range(len(text) - len(parts) + 1)
    )


def banned_words(modules: Iterable[Module], word: str, whole: bool = False) -> list[str]:
    """Identifiers with `word` as one of their parts, or, where `whole`, as all of them."""
    return [
        f"{module.name} uses {name}"
        for module in modules
        for name in sorted(identifiers(module))
        if (words_of(name) == [word] if whole else word in words_of(name))
    ]


# ---- names of files in texts ----------------------------------------------------------------

_PATH: Final = re.compile(r"(?<![\w./:-])(?:server|game|persistence|migrations|clients|tests|docs)/[\w.{}*/-]*[\w}*/]")
_FILE: Final = re.compile(r"`(\w+\.(?:py|md|json|js))`")
_DOTTED: Final = re.compile(r"`((?:server|game|persistence|migrations)(?:\.\w+)+)`")


def dead_paths(text: str, root: Path = ROOT) -> list[str]:
    """Paths of the project in `text` that are not there, and bare names of files in backticks that no file has."""
    paths = [path for path in _PATH.findall(text) if not set(path) & set("{}*") and not (root / path).exists()]
    return paths + [name for name in _FILE.findall(text) if name not in _file_names(root)]


@cache
def _file_names(root: Path) -> frozenset[str]:
    folders = ("server", "game", "persistence", "migrations", "clients", "tests", "docs")
    return frozenset(path.name for folder in folders for path in (root / folder).rglob("*.*"))


def dead_names(text: str, tree: Tree) -> list[str]:
    """Dotted names in backticks that are no module of `tree`, and nothing that a module has."""
    return [name for name in _DOTTED.findall(text) if not _is_known(name, tree)]


def _is_known(name: str, tree: Tree) -> bool:
    module, rest = name, ""
    while module and module not in tree:
        module, _, rest = module.rpartition(".")
    return bool(module) and (not rest or module == name or rest in identifiers(tree[module]))


def comments_and_docstrings(source: str) -> str:
    """All text of a file that is for people."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return "\n".join(token.string for token in tokens if token.type in (tokenize.COMMENT, tokenize.STRING))
