"""The contract of `HeirChannel`, on a pair of sockets and on its twin in memory."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from server.errors import Unavailable
from server.succession.channel import SocketChannel
from server.succession.memory import MemoryChannel
from server.succession.ports import HeirChannel, Received


class Pair(NamedTuple):
    """`answer` lets the other process answer one exchange, in a thread where there is a socket between."""

    left: HeirChannel
    right: HeirChannel
    answer: Callable[[bytes], Any]


@pytest.fixture(params=["socket", "memory"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    if request.param == "memory":
        left, right = MemoryChannel.pair(iter([0.02, *[0.0] * 100]).__next__)
        yield Pair(left, right, lambda data: setattr(right, "answering", lambda received: data + received.message))
    else:
        ours, theirs = (SocketChannel(sock) for sock in socket.socketpair())
        threads: list[threading.Thread] = []

        def answer(data: bytes) -> None:
            async def hear() -> None:
                await theirs.send(data + (await theirs.receive()).message)

            threads.append(threading.Thread(target=asyncio.run, args=(hear(),)))
            threads[-1].start()

        yield Pair(ours, theirs, answer)
        for thread in threads:
            thread.join()
        ours.close()
        theirs.close()


async def test_messages_come_in_order(pair: Pair) -> None:
    """The first one is the slowest in memory."""
    messages = [b"", b"a", b"b" * 100_000]
    for message in messages:
        await pair.left.send(message)
    await pair.right.send(b"back")
    assert [(await pair.right.receive()).message for _ in messages] == messages
    assert (await pair.left.receive()).message == b"back"


async def test_descriptors_come_with_their_message(pair: Pair) -> None:
    numbers = os.pipe()
    try:
        await pair.left.send(b"none")
        await pair.left.send(b"two", numbers)
        assert len((await pair.right.receive()).descriptors) == 0
        received: Received = await pair.right.receive()
        assert len(received.descriptors) == 2
        if isinstance(pair.left, SocketChannel):
            numbers = (*numbers, *received.descriptors)  # type: ignore[assignment]
    finally:
        for number in numbers:
            os.close(number)


async def test_an_exchange_is_answered_while_this_process_stands_still(pair: Pair) -> None:
    pair.answer(b"heard: ")
    assert pair.left.exchange(b"all", 5.0) == b"heard: all"


async def test_an_exchange_without_an_answer_ends(pair: Pair) -> None:
    with pytest.raises(Unavailable, match="in time"):
        pair.left.exchange(b"all", 0.01)


async def test_the_last_words_arrive_before_the_end_is_told(pair: Pair) -> None:
    pair.left.last_word(b"go")
    pair.left.close()
    assert (await pair.right.receive()).message == b"go"
    with pytest.raises(Unavailable, match="gone"):
        await pair.right.receive()
    with pytest.raises(Unavailable, match="gone"):
        await pair.right.send(b"anybody?")
    with pytest.raises(Unavailable, match="gone"):
        pair.right.exchange(b"anybody?", 1.0)
    with pytest.raises(Unavailable, match="gone"):
        pair.right.last_word(b"anybody?")


async def test_an_end_is_noticed_while_one_waits(pair: Pair) -> None:
    waiting = asyncio.ensure_future(pair.left.receive())
    await asyncio.sleep(0)
    pair.right.close()
    with pytest.raises(Unavailable, match="gone"):
        await asyncio.wait_for(waiting, 5.0)


async def test_silence_is_not_told() -> None:
    left, right = MemoryChannel.pair()
    left.fall_silent()
    await left.send(b"lost")
    left.last_word(b"lost")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(right.receive(), 0.01)
    with pytest.raises(Unavailable, match="in time"):
        right.exchange(b"anybody?", 1.0)
