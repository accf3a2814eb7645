"""When the demo upgrades its nodes."""

from pathlib import Path

import pytest

from server.lab.demo import DemoOptions

NEVER = float("inf")


@pytest.mark.parametrize(
    ("seconds", "asked", "at_s"),
    [(None, None, 20.0), (60.0, None, 20.0), (10.0, None, NEVER), (10.0, 3.0, 3.0), (None, 0.0, NEVER)],
)
def test_a_demo_upgrades_once_where_there_is_time_or_when_asked(
    seconds: float | None, asked: float | None, at_s: float
) -> None:
    options = DemoOptions(Path("home"), seconds, 8, 3, 30.0, 0, [], None, 1.0, asked)
    assert options.upgrade_at_s == at_s
