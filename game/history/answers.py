"""Answers about matches that are over, of the store's rows. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from game.careers.events import MedalCount
from game.history.asking import cursor_after
from game.history.messages import History, HistoryRow, MatchHistory, MatchPage, MatchPageGet, OwnLine, PageLine
from game.match.events import Property
from game.modes.registry import MODES
from server.errors import BadInput, Forbidden, NotFound
from server.eventlog.entry import mark_of

Row = Mapping[str, Any]
_OWN: Final = OwnLine.__struct_fields__
_OF_ROW: Final = tuple(name for name in HistoryRow.__struct_fields__ if name not in ("properties", "tags", "own"))
_OF_PAGE: Final = MatchPage.__struct_fields__
_COUNTED: Final = ("best_streak", "played_ms", "mu", "log_sigma")
"""Fields of a line that are there once the result is in the player's career."""


def history(message: MatchHistory, rows: Sequence[Row]) -> History:
    """A page, of one row more than it has. Raises `BadInput` for a mode or a property that there never was."""
    _must_be_known(message, rows)
    found = [_row(message, row) for row in rows if row["match"] is not None]
    shown = found[: message.limit]
    return History(message.id, shown, cursor_after(message, shown[-1]) if len(found) > len(shown) else None)


def _must_be_known(message: MatchHistory, rows: Sequence[Row]) -> None:
    names = [f"mode {message.mode!r}"] if message.mode else []
    names += [f"property {wanted.name!r}" for wanted in message.properties]
    for number, name in enumerate(names):
        is_mode = bool(message.mode) and number == 0
        if rows and not rows[0][f"known_{number}"] and not (is_mode and message.mode in MODES.names()):
            raise BadInput(f"no match has {'the' if is_mode else 'a'} {name}")


def _row(message: MatchHistory, row: Row) -> HistoryRow:
    own = OwnLine(*(row[f"own_{name}"] for name in _OWN)) if message.player is not None else None
    values: list[Any] = [*(row[name] for name in _OF_ROW), *_described(row), own]
    return HistoryRow(*values)


def page(message: MatchPageGet, rows: Sequence[Row]) -> MatchPage:
    """The match. Raises `NotFound` for a match that was never created and, to others than its host and those who are in
    it, one that is not over; `Forbidden` for a private one."""
    if not rows:
        raise NotFound(f"no match {message.match}, or none of its players after {message.skip}")
    first = rows[0]
    if not first["sees_all"]:
        _must_see(message.match, first)
    lines = [_line(row) for row in rows if row["player"] is not None]
    shown = message.skip + len(lines)
    counted = next((row for row in rows if row["season"] is not None), {"season": "", "rating_group": ""})
    properties, tags = _described(first)
    more: dict[str, Any] = {
        "id": message.id,
        "private": first["private"] is not False,
        "season": counted["season"],
        "rating_group": counted["rating_group"],
        "properties": properties,
        "tags": tags,
        "lines": lines,
        "next_skip": shown if shown < first["player_count"] else None,
        "mark": mark_of(bytes(first["head"])),
    }
    return MatchPage(**{name: more[name] if name in more else first[name] for name in _OF_PAGE})


def _must_see(match: str, row: Row) -> None:
    if (row["phase"] != "ended" or row["delayed"]) and not row["is_present"]:
        raise NotFound(f"match {match} is not over: match.get tells of it")
    if not row["is_part"] and row["private"] is not False and not row["listed"]:
        raise Forbidden(f"match {match} is private")


def _line(row: Row) -> PageLine:
    names = PageLine.__struct_fields__
    medals = [MedalCount(*named) for named in sorted((row["medal_names"] or {}).items())]
    made: dict[str, Any] = {"name": row["logged_name"] or row["display_name"] or "", "named_medals": medals}
    made |= {name: row[name] or 0 for name in _COUNTED}
    return PageLine(**{name: made[name] if name in made else row[name] for name in names})


def _described(row: Row) -> tuple[list[Property], list[str]]:
    """The properties, by name, and the tags of a match. A text `true` or `false` is told as the truth value, which is
    stored alike."""
    return [
        Property(name, _value(value, number)) for name, value, number in sorted(_listed(row["properties"]))
    ], sorted(tag for (tag,) in _listed(row["tags"]))


def _listed(found: Iterable[Any] | None) -> list[Any]:
    return [] if found is None else list(found)


def _value(value: str, number: int | None) -> str | int | bool:
    if number is not None:
        return number
    return value == "true" if value in ("true", "false") else value
