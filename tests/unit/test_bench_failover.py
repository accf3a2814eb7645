"""`garrison bench failover`: what it makes of its chaos runs."""

from typing import Any

import pytest

from server.errors import Unavailable
from server.lab.bench import failover
from server.lab.bench.harness import Effort
from server.lab.chaos.figures import Gap, Struck
from server.lab.chaos.run import Chaos

pytestmark = pytest.mark.virtual_time


async def test_the_figure_is_the_worst_of_each_kill_with_default_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, int | None, tuple[str, ...]]] = []

    async def run(chaos: Chaos) -> dict[str, Any]:
        options = chaos.options
        asked.append((options.store, options.journal, options.count, options.faults))
        slow = 2.0 if options.journal == "none" else 0.2
        chaos.struck = [Struck("kill", "node-1", 1.0, ("player/p", "match/m"), 9.0), Struck("kill", "node-2", 9.0, ())]
        for entity, seconds in (("player/p", slow), ("match/m", slow + 0.5)):
            chaos.gaps.add(Gap(entity, 0.9, 1.0 + seconds))
        return {"failover_s": {"median": slow, "max": slow + 0.5}}

    monkeypatch.setattr(Chaos, "run", run)
    found = await failover.run(Effort(2, short=True))
    assert asked == [("sqlite", "none", 2, ("kill",)), ("sqlite", "local", 2, ("kill",))]
    assert (found.name, found.unit, found.figure, found.floor, found.ratio, found.goal) == (
        "failover", "s", 2.5, 2.0, 1.25, 1.5,
    )  # fmt: skip
    assert found.detail["sqlite_local"] == {"median": 0.2, "max": 0.7}


@pytest.mark.parametrize("figures", [None, {"failover_s": None}])
async def test_a_run_without_an_answer_is_an_error(monkeypatch: pytest.MonkeyPatch, figures: Any) -> None:
    async def run(chaos: Chaos) -> Any:
        return figures

    monkeypatch.setattr(Chaos, "run", run)
    with pytest.raises(Unavailable):
        await failover.run(Effort(1, short=True))
