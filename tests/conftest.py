"""What every test shares: how a test that needs a program is treated where it is missing.

Tests marked `browser` or `docker` skip, visibly, where Chromium or docker is not there. With
`GARRISON_REQUIRE_ALL=1`, as in CI, such a skip is a failure.
"""

import os
from collections.abc import Iterator

import pytest

NEEDS_A_PROGRAM = ("browser", "docker")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: pytest.TestReport = yield  # type: ignore[assignment]
    required = os.environ.get("GARRISON_REQUIRE_ALL") == "1"
    if required and report.skipped and any(item.get_closest_marker(name) for name in NEEDS_A_PROGRAM):
        report.outcome = "failed"
        report.longrepr = f"skipped, and GARRISON_REQUIRE_ALL=1 asks for it: {report.longrepr}"
    return report  # type: ignore[return-value]
