"""Names of tests: the subject comes first, and each test can fail."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
RIDDLE = re.compile(r"test_(what|who|whose|whom|whoever|whatever|it|they|those|these|which|where|of|that|one_that)_")
"""Beginnings after which a reader still does not know what the test is about."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


def parsed(source: str) -> list[ast.AST]:
    """Every node of a module, which is parsed and walked once for all checks."""
    return list(ast.walk(ast.parse(source)))


def functions(nodes: list[ast.AST]) -> Iterator[Function]:
    """The test functions of a module, also those in classes."""
    for node in nodes:
        if isinstance(node, Function) and node.name.startswith("test_"):
            yield node


def riddles(nodes: list[ast.AST]) -> list[str]:
    return [node.name for node in functions(nodes) if RIDDLE.match(node.name)]


def tautologies(nodes: list[ast.AST]) -> list[str]:
    """Assertions that hold whatever the program does: of a constant, of a tuple, `x == x` of a plain value."""
    return [ast.unparse(node) for node in nodes if isinstance(node, ast.Assert) and _always_true(node.test)]


def _always_true(test: ast.expr) -> bool:
    if isinstance(test, ast.Constant | ast.Tuple):
        return True
    if not isinstance(test, ast.Compare) or len(test.ops) != 1:
        return False
    left, right = test.left, test.comparators[0]
    plain = not any(isinstance(part, ast.Call) for part in ast.walk(left))
    return plain and isinstance(test.ops[0], ast.Eq | ast.Is | ast.LtE | ast.GtE) and ast.dump(left) == ast.dump(right)


def without_outcome(nodes: list[ast.AST]) -> list[str]:
    """Tests that only make the program run: no assertion, no expected error, and no call of a function or a method
    but those that the module imports from the product."""
    product = {
        alias.asname or alias.name
        for node in nodes
        if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("tests")
        for alias in node.names
    }
    found = []
    for test in functions(nodes):
        parts = list(ast.walk(test))
        if any(isinstance(part, ast.Assert | ast.Raise) for part in parts):
            continue
        if any(isinstance(part, ast.Attribute) and part.attr in ("raises", "warns", "fail") for part in parts):
            continue
        called = {part.func.id for part in parts if isinstance(part, ast.Call) and isinstance(part.func, ast.Name)}
        methods = [part for part in parts if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute)]
        if called <= product and not methods:
            found.append(test.name)
    return found


PLANTED = """
from server.ids import actor_id

def test_what_is_no_id() -> None:
    actor_id("a", "b")

async def test_actor_id_keeps_its_key() -> None:
    assert (1, "always")
    assert limit == limit
    assert draw(1) == draw(1)
"""


def test_planted_faults_are_found() -> None:
    nodes = parsed(PLANTED)
    assert riddles(nodes) == ["test_what_is_no_id"]
    assert tautologies(nodes) == ["assert (1, 'always')", "assert limit == limit"]
    assert without_outcome(nodes) == ["test_what_is_no_id"]


def test_tests_name_their_subject_and_can_fail() -> None:
    found = []
    for path in sorted(TESTS.rglob("*.py")):
        nodes = parsed(path.read_text("utf-8"))
        found += [(path, wrong) for check in (riddles, tautologies, without_outcome) if (wrong := check(nodes))]
    assert found == []
