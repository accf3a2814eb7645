"""Upgrades as chaos hits them: which blows there are, and what counts as lost."""

from itertools import islice

from server.lab.chaos.plan import plan
from server.lab.chaos.upgrades import MOMENTS, blow_of
from server.lab.upgrading import Noticed


def test_a_plan_has_clean_upgrades_and_every_kind_of_blow() -> None:
    blows = [blow_of(fault) for fault in islice(plan(7, ["upgrade"]), 400)]
    assert 0.3 < blows.count(None) / len(blows) < 0.5
    hit = [blow for blow in blows if blow is not None]
    kinds = {(blow.heir, blow.killed, blow.moment) for blow in hit}
    assert kinds == {(heir, killed, moment) for heir in (True, False) for killed in (True, False) for moment in MOMENTS}
    assert all(0 <= blow.share < 1 and 0.5 <= blow.seconds <= 4.0 for blow in hit)
    assert str(hit[0]).startswith("the ")


def test_connections_that_were_told_to_come_again_are_not_lost() -> None:
    assert Noticed(nodes=1, connections_closed=3, sessions_going=3).connections_lost == 0
    assert Noticed(nodes=1, connections_closed=4, sessions_going=3).connections_lost == 1
    assert Noticed(nodes=1).connections_lost == 0
