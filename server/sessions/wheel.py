"""A coarse timer for very many deadlines (a timing wheel: Varghese and Lauck, 1987). Pure: it is handed `now`.

A check is called when its time has come and gives back when to call it next, or None. So a
heartbeat costs no timer: it moves a number, and the check, once a period, looks at that number.
"""

from collections.abc import Callable

Check = Callable[[float], float | None]


class Wheel:
    """Checks run at most `tick_s` late (and as late as `turn` is called)."""

    __slots__ = ("_done", "_slots", "_tick_s")

    def __init__(self, tick_s: float, now: float) -> None:
        self._tick_s = tick_s
        self._slots: dict[int, list[Check]] = {}
        self._done = int(now / tick_s)

    def __len__(self) -> int:
        return sum(len(slot) for slot in self._slots.values())

    def add(self, due: float, check: Check) -> None:
        number = max(self._done, int(due / self._tick_s)) + 1
        slot = self._slots.get(number)
        if slot is None:
            self._slots[number] = [check]
        else:
            slot.append(check)

    def turn(self, now: float) -> None:
        """Run every check that is due."""
        current = int(now / self._tick_s)
        if current <= self._done:
            return
        self._done = current
        for number in sorted(number for number in self._slots if number <= current):
            slot = self._slots[number]
            slot.reverse()
            while slot:  # singly: a check that raises must not cost the others
                check = slot.pop()
                again = check(now)
                if again is not None:
                    self.add(again, check)
            del self._slots[number]
