"""How the clients of `garrison soak` judge the pictures that they are sent."""

from typing import Any

import msgspec
import pytest
from picows import WSMsgType

from server.lab.bench.soak_clients import GONE, NOT_KNOWN, Soaker, Soakers, SoakShare, look_of

SHARE = SoakShare("ws://nobody", "key", 3, 0, 3, 2, 1.0, 1.0, [])


class Frame:
    """A frame of changes as picows gives it."""

    def __init__(self, *items: Any) -> None:
        self.msg_type = WSMsgType.BINARY
        self._data = msgspec.msgpack.encode(["presence.changes", "c", [[player, 7, value] for player, value in items]])

    def get_payload_as_bytes(self) -> bytes:
        return self._data


def soakers(*choices: int) -> Soakers:
    """Three players who have chosen so often, and have been shown nobody yet."""
    made = Soakers(SHARE)
    for number, times in enumerate(choices):
        client = Soaker(number, made.take_lost)
        client.choices = times
        client.seen = {f"soaker-{other}": NOT_KNOWN for other in range(3) if other != number}
        made.clients.append(client)
    return made


@pytest.mark.parametrize(
    ("value", "look"),
    [
        (["online"], 0),
        (["away", 0, "4"], 17),
        (["busy", 0, "5", None], 22),
        (["offline", 7], GONE),
        (["unknown"], NOT_KNOWN),
        (None, GONE),
    ],
)
def test_a_picture_is_a_choice_and_a_status(value: Any, look: int) -> None:
    assert look_of(value) == look


def test_pictures_are_compared_with_what_players_have_chosen() -> None:
    made = soakers(4, 5, 0)
    first, second, third = made.clients
    show(first, ("soaker-1", ["busy", 0, "5"]), ("soaker-2", ["online"]))
    show(second, ("soaker-0", ["away", 0, "4"]), ("soaker-2", ["offline", 7]))
    show(third, ("soaker-0", ["online", 0, "3"]), ("soaker-1", ["away", 0, "5"]))
    assert made.compare([4, 5, 0]) == (6, 3)


def test_a_picture_after_a_newer_one_is_counted() -> None:
    client = soakers(0).clients[0]
    for choice in (3, 5, 4, 6):
        show(client, ("soaker-1", ["online", 0, str(choice)]))
    show(client, ("soaker-1", ["offline", 9]))
    show(client, ("soaker-1", ["online"]))
    assert client.went_back == 1 and client.differences == 6 and client.cursor == "c"


def show(client: Soaker, *items: Any) -> None:
    client.on_ws_frame(None, Frame(*items))  # type: ignore[arg-type]
