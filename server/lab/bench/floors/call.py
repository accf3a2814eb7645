"""Floor of `call`: a dictionary look-up by actor id and a method call that replaces a state."""

import msgspec
from msgspec.structs import replace


class FloorState(msgspec.Struct, frozen=True):
    total: int = 0


class FloorCounter:
    def __init__(self) -> None:
        self.state = FloorState()

    def add(self, n: int) -> int:
        self.state = replace(self.state, total=self.state.total + n)
        return self.state.total


def run(registry: dict[str, FloorCounter], identity: str, count: int) -> None:
    for _ in range(count):
        registry[identity].add(1)
