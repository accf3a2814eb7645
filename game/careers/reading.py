"""A career as it is shown: what is stored of it, and the results that are not stored yet. Pure.

Each stored row says which version of the player it goes with: results of later versions are added to it, so that a
result counts once, whether it was stored a moment before the question or is a moment after it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from game.careers.events import Gain, MedalCount
from game.careers.messages import MAX_LINES, Career, CareerGet, CareerLine, RatingLine
from game.careers.ratings import FIRST, MILLION, Rating
from game.player.state import SettledMatch

Rows = Sequence[Mapping[str, Any]]
_SUMS: Final = ("matches", "wins", "kills", "deaths", "assists", "medals", "played_ms")


def career(message: CareerGet, settled: Iterable[SettledMatch], totals: Rows, medals: Rows, ratings: Rows) -> Career:
    """The answer to `message`, of stored rows and what is newer than they are."""
    gains = [done for done in settled if done.gain is not None and _asked(message, done.gain)]
    lines: dict[tuple[str, str], dict[str, Any]] = {}
    for row in _of_career(totals):
        lines[row["season"], row["mode"]] = {**row, "named": {}}
    for row in _of_career(medals):
        if (row["season"], row["mode"]) in lines:
            lines[row["season"], row["mode"]]["named"][row["medal"]] = row["earned"]
    for done, gain in _newer(gains, totals):
        _add(lines.setdefault((gain.season, gain.mode), _empty(gain)), done.match, gain)
    for _, gain in _newer(gains, medals):
        named = lines[gain.season, gain.mode]["named"]
        for medal, earned in gain.names.items():
            named[medal] = named.get(medal, 0) + earned
    known = {row["rating_group"]: (Rating(row["mu"], row["log_sigma"]), row["matches"]) for row in _of_career(ratings)}
    for _, gain in _newer([done for done in settled if done.gain is not None], ratings):
        if gain.rating_group:
            rating, matches = known.get(gain.rating_group, (FIRST, 0))
            known[gain.rating_group] = (Rating(rating.mu + gain.mu, rating.log_sigma + gain.log_sigma), matches + 1)
    shown = [_line(lines[key]) for key in sorted(lines)[-MAX_LINES:]]
    return Career(message.id, message.player, shown, [_rating(group, *known[group]) for group in sorted(known)])


def _asked(message: CareerGet, gain: Gain) -> bool:
    return message.mode in (None, gain.mode) and message.season in (None, gain.season)


def _of_career(rows: Rows) -> Iterable[Mapping[str, Any]]:
    """Rows without the one that only says the version, where there are no others."""
    return (row for row in rows if row["matches"] is not None)


def _newer(gains: Iterable[SettledMatch], rows: Rows) -> Iterable[tuple[SettledMatch, Gain]]:
    stored = rows[0]["version"] if rows else 0
    return [(done, done.gain) for done in gains if done.gain is not None and done.version > stored]


def _empty(gain: Gain) -> dict[str, Any]:
    names = (*_SUMS, "best_streak", "best_kills", "win_streak", "best_win_streak")
    return {"mode": gain.mode, "season": gain.season, "best_match": "", "named": {}, **dict.fromkeys(names, 0)}


def _add(line: dict[str, Any], match: str, gain: Gain) -> None:
    more = (1, gain.won, gain.kills, gain.deaths, gain.assists, gain.medals, gain.played_ms)
    for name, number in zip(_SUMS, more, strict=True):
        line[name] += number
    line["best_streak"] = max(line["best_streak"], gain.best_streak)
    if (-gain.kills, match) < (-line["best_kills"], line["best_match"] or "~"):
        line["best_kills"], line["best_match"] = gain.kills, match


def _line(line: Mapping[str, Any]) -> CareerLine:
    medals = [MedalCount(*named) for named in sorted(line["named"].items())]
    names = CareerLine.__struct_fields__[:-1]
    return CareerLine(**{name: line[name] for name in names}, named_medals=medals)


def _rating(group: str, rating: Rating, matches: int) -> RatingLine:
    return RatingLine(group, rating.mu, round(rating.floats()[1] * MILLION), matches)
