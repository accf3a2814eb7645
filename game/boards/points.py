"""The points of a player on a board, from a row of the store. Pure."""

from collections.abc import Mapping
from math import exp
from typing import Any, Final

MILLION: Final = 1_000_000


def points_of(metric: str, row: Mapping[str, Any]) -> int:
    """The number that `row` has for `metric`; of a rating, thousandths of mu less three sigma: the skill that somebody
    is all but sure to have (TrueSkill, and OpenSkill's `ordinal`)."""
    if metric != "rating":
        return int(row["points"])
    mu, sigma = float(row["mu"]) / MILLION, exp(float(row["log_sigma"]) / MILLION)
    return round(1000 * (mu - 3 * sigma))
