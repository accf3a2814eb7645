"""The channel between predecessor and heir: frames in order, descriptors with the message that they belong to."""

import asyncio
import os
import resource
import socket
import threading
from collections.abc import Iterator

import pytest

from server.errors import BadInput, Unavailable
from server.succession.channel import HEAD, MAX_DESCRIPTORS, MAX_MESSAGE_BYTES, SocketChannel


@pytest.fixture
def pair() -> Iterator[tuple[SocketChannel, socket.socket]]:
    ours, theirs = socket.socketpair()
    channel = SocketChannel(ours)
    yield channel, theirs
    channel.close()
    theirs.close()


async def test_messages_come_whole_and_in_order(pair: tuple[SocketChannel, socket.socket]) -> None:
    channel, other = pair[0], SocketChannel(pair[1])
    messages = [os.urandom(size) for size in (0, 1, 70_000, 12_000_000, 3)]

    async def send() -> None:
        for message in messages:
            await channel.send(message)

    sending = asyncio.ensure_future(send())
    assert [(await other.receive()).message for _ in messages] == messages
    await sending


async def test_descriptors_come_with_their_message(pair: tuple[SocketChannel, socket.socket]) -> None:
    channel, other = pair[0], SocketChannel(pair[1])
    reads, writes = zip(*(os.pipe() for _ in range(MAX_DESCRIPTORS)), strict=True)
    try:
        await channel.send(b"none")
        await channel.send(b"all", reads)
        await channel.send(b"one", reads[:1])
        assert (await other.receive()).descriptors == []
        received = await other.receive()
        assert (received.message, len(received.descriptors)) == (b"all", MAX_DESCRIPTORS)
        for number, (write, descriptor) in enumerate(zip(writes, received.descriptors, strict=True)):
            os.write(write, b"%d" % number)
            assert os.read(descriptor, 9) == b"%d" % number
            os.close(descriptor)
        (descriptor,) = (await other.receive()).descriptors
        os.close(descriptor)
    finally:
        for number in (*reads, *writes):
            os.close(number)


async def test_descriptors_that_do_not_fit_are_missed(pair: tuple[SocketChannel, socket.socket]) -> None:
    channel, other = pair[0], SocketChannel(pair[1])
    await channel.send(b"some", [pair[1].fileno()] * 100)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 10, before[1]))
    try:
        with pytest.raises((Unavailable, BadInput)):
            await other.receive()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_the_end_of_the_other_process_is_told(pair: tuple[SocketChannel, socket.socket]) -> None:
    channel, other = pair
    other.sendall(HEAD.pack(10, 0) + b"half")
    other.close()
    with pytest.raises(Unavailable, match="gone"):
        await channel.receive()
    with pytest.raises(Unavailable, match="gone"):
        await channel.send(b"anybody?")
    with pytest.raises(Unavailable, match="gone"):
        channel.last_word(b"go")


@pytest.mark.parametrize(
    ("head", "why"),
    [(HEAD.pack(MAX_MESSAGE_BYTES + 1, 0), "bytes"), (HEAD.pack(0, 201), "201"), (HEAD.pack(0, 2), "0 came")],
)
async def test_bytes_that_are_no_message_are_refused(
    pair: tuple[SocketChannel, socket.socket], head: bytes, why: str
) -> None:
    pair[1].sendall(head)
    with pytest.raises(BadInput, match=why):
        await pair[0].receive()


async def test_a_message_that_an_heir_has_not_to_say_is_not_taken() -> None:
    ours, theirs = socket.socketpair()
    channel = SocketChannel(ours, 100, most_descriptors=0)
    free = os.dup(0)
    os.close(free)
    socket.send_fds(theirs, [HEAD.pack(101, 0)[:1]], [0, 1, 2])
    with pytest.raises(Unavailable, match="no message"):
        await channel.receive()
    again = os.dup(0)
    os.close(again)
    assert again == free, "what came is closed"
    theirs.sendall(HEAD.pack(101, 0))
    with pytest.raises(BadInput, match="bytes"):
        await channel.receive()
    channel.close()
    theirs.close()


async def test_an_exchange_blocks_and_has_a_limit(pair: tuple[SocketChannel, socket.socket]) -> None:
    channel, other = pair
    big = os.urandom(10_000_000)

    def answer() -> None:
        other.setblocking(True)
        heard = b""
        while len(heard) < HEAD.size + len(big):
            heard += other.recv(1 << 20)
        other.sendall(HEAD.pack(2, 0) + b"ok")

    thread = threading.Thread(target=answer)
    thread.start()
    assert channel.exchange(big, 30.0) == b"ok"
    thread.join()
    with pytest.raises(Unavailable, match="in time"):
        channel.exchange(b"again", 0.01)
    other.sendall(HEAD.pack(4, 0) + b"late")
    assert (await channel.receive()).message == b"late"
