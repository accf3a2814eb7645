"""How the tests are spread over processes."""

from pathlib import Path

from tests.support.spread import APART, LONGEST_FIRST, place_of, unit_of

TESTS = Path(__file__).parents[1]


def test_a_module_is_a_unit() -> None:
    assert unit_of("tests/e2e/test_audit.py::test_a[x::y]") == unit_of("tests/e2e/test_audit.py::test_b")
    assert unit_of("tests/unit/test_ids.py::test_a") != unit_of("tests/unit/test_codec.py::test_a")


def test_each_mutant_is_a_unit() -> None:
    (module,) = APART
    assert (TESTS.parent / module).is_file()
    assert unit_of(f"{module}::test_a[x]") != unit_of(f"{module}::test_a[y]")


def test_each_folder_with_tests_has_a_place() -> None:
    assert sorted({path.parent.name for path in TESTS.glob("*/test_*.py")}) == sorted(LONGEST_FIRST)


def test_clusters_of_processes_come_before_modules_of_a_second() -> None:
    assert place_of(TESTS / "e2e/test_demo.py") < place_of(TESTS / "unit/test_ids.py") < place_of(TESTS / "test_x.py")
