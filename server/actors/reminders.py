"""Reminders as an author writes them: the mark `@reminder`, and the check of a class that has some.

How a reminder is set and comes: `server/activations/reminding.py`. Which node looks for those that are due:
`server/catalog/reminders.py`.
"""

from collections.abc import Callable
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from server.errors import BadSetting

M = TypeVar("M", bound=Callable[..., Any])


def reminder(method: M) -> M:
    """Mark `def method(self, due_ms: int)`: reminders may call it. It may come late, and again
    where its earlier effect was lost; so it looks at the state and the clock."""
    method.reminder = True  # type: ignore[attr-defined]
    return method


def is_reminder(cls: type, name: str) -> bool:
    """Tell whether `name` is a method of `cls` that is marked so."""
    return bool(getattr(getattr(cls, name, None), "reminder", False))


def has_reminders(cls: type) -> bool:
    """Tell whether any method of actor class `cls` is marked so."""
    return any(is_reminder(cls, name) for name in dir(cls))


def check_reminders(cls: Any) -> None:
    """Raises `BadSetting` for an actor class with reminders whose state cannot remember them."""
    name = next((name for name in dir(cls) if is_reminder(cls, name)), None)
    if name is None or cls.durability == "logged":
        return
    if cls.durability == "volatile":
        raise BadSetting("app", f"{cls.__name__}.{name} is a reminder, and a volatile actor can have none")
    kept = get_type_hints(cls.State).get("reminded")
    if get_origin(kept) is not dict or get_args(kept) != (str, int):
        field = "`reminded: dict[str, int] = {}`"
        raise BadSetting("app", f"{cls.__name__}.{name} is a reminder, so {cls.State.__name__} needs a field {field}")
