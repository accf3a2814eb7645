"""How the tests are spread over processes."""

from pathlib import Path

import pytest

from tests.support.spread import TOGETHER, unit_of


def test_modules_that_share_something_are_one_unit() -> None:
    assert unit_of("tests/e2e/test_audit.py::test_a[x::y]") == unit_of("tests/e2e/test_audit.py::test_b")
    assert unit_of("tests/unit/test_ids.py::test_a") != unit_of("tests/unit/test_ids.py::test_b")


@pytest.mark.parametrize("module", sorted(TOGETHER))
def test_modules_that_are_named_exist(module: str) -> None:
    assert (Path(__file__).parents[2] / module).is_file()
