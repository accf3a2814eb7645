"""Seasons: names, and the Unix ms from which on each is. A match belongs to the one in which it was made. Pure."""

from collections.abc import Sequence


def season_at(seasons: Sequence[tuple[int, str]], wall_ms: int) -> str:
    """The name of the last of `seasons` (first Unix ms and name) that had begun by then; empty before the first."""
    return max((season for season in seasons if season[0] <= wall_ms), default=(0, ""))[1]
