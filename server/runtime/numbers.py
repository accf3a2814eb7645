"""Numbers that only rise, in a process and in the one that goes on after it. Pure."""


class Rising:
    """`next(rising)` is the next number, from 1 on."""

    __slots__ = ("newest",)

    def __init__(self) -> None:
        self.newest = 0
        """The number that was given last."""

    def __next__(self) -> int:
        self.newest += 1
        return self.newest

    def raise_to(self, number: int) -> None:
        """Give no number up to `number` any more: another process may have."""
        self.newest = max(self.newest, number)
