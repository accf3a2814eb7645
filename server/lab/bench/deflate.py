"""`deflate`: whether permessage-deflate (RFC 7692) pays at game-sized messages.

A player's frames of a match (events, beats, pictures of a latest topic, a scoreboard now and then) are written to a
socket, bare for the floor, and compressed for the figure: with one window for all of a connection's messages
(context takeover), as good as it gets. `detail` has for each format and way the bytes of a frame before and after, the
CPU of a frame, and the memory that a connection's compressor holds.
"""

import random
import socket
import tracemalloc
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from server.lab.bench.harness import Effort, Outcome, alternate, process_us
from server.wire.messages import Beats, Events, Latest, LatestItem

PLAYERS: Final = {f"spartan-{number}": number % 2 for number in range(8)}
LENGTH_MS: Final = 600_000
LEVEL: Final = 1
Way = tuple[int, int, bool]
"""Bits of the window, zlib's memory level, and whether one window is kept for all messages of a connection."""
WAYS: Final[dict[str, Way]] = {
    "window 32 KiB": (15, 8, True),
    "window 4 KiB, little memory": (12, 3, True),
    "window 1 KiB, least memory": (10, 1, True),
    "each message alone": (15, 8, False),
}
TAIL: Final = b"\x00\x00\xff\xff"
"""The end of a flushed block, which the extension leaves out."""
CONNECTIONS: Final = 50
READ_BYTES: Final = 1 << 12
_FORMATS: Final[dict[str, Callable[[Any], bytes]]] = {"msgpack": msgspec.msgpack.encode, "json": msgspec.json.encode}

Compress = Callable[[bytes], bytes]


async def run(effort: Effort) -> Outcome:
    """CPU us a frame."""
    made = {form: list(_frames(encode, effort.size(LENGTH_MS))) for form, encode in _FORMATS.items()}
    detail: dict[str, Any] = {
        form: {
            "frames": len(frames),
            "bytes_a_frame": round(sum(map(len, frames)) / len(frames), 1),
            "bare_us": round(_us(frames, bytes), 3),
            **{name: _measured(frames, way) for name, way in WAYS.items()},
        }
        for form, frames in made.items()
    }
    frames = made["msgpack"]

    async def below() -> float:
        return _us(frames, bytes)

    async def above() -> float:
        return _us(frames, _compressor(WAYS["window 32 KiB"]))

    return await alternate("deflate", "us", below, above, effort, None, **detail)


def _measured(frames: Sequence[bytes], way: Way) -> dict[str, float]:
    compress = _compressor(way)
    size = sum(len(compress(frame)) for frame in frames)
    return {
        "bytes_a_frame": round(size / len(frames), 1),
        "us": round(_us(frames, _compressor(way)), 3),
        "kib_a_connection": round(_kib(way), 1) if way[2] else 0.0,
    }


def _compressor(way: Way) -> Compress:
    """The function that makes a message of a frame."""
    bits, memory, keeps = way
    kept = zlib.compressobj(LEVEL, zlib.DEFLATED, -bits, memory)

    def compress(frame: bytes) -> bytes:
        own = kept if keeps else zlib.compressobj(LEVEL, zlib.DEFLATED, -bits, memory)
        return (own.compress(frame) + own.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)

    return compress


def _us(frames: Sequence[bytes], make: Compress) -> float:
    """CPU us a frame of making and writing all of them."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        ours.setblocking(False)

        def write() -> None:
            for frame in frames:
                ours.send(make(frame))
                theirs.recv(READ_BYTES)

        return process_us(write, len(frames))


def _kib(way: Way) -> float:
    """Memory of a connection's compressor that has worked."""
    noise = random.Random(7).randbytes(1 << 16)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        held = [_compressor(way) for _ in range(CONNECTIONS)]
        for compress in held:
            compress(noise)
        return (tracemalloc.get_traced_memory()[0] - before) / len(held) / 1024
    finally:
        tracemalloc.stop()


def _frames(encode: Callable[[Any], bytes], length_ms: int) -> Iterator[bytes]:
    """The frames that a player of a match is sent."""
    from garrison_bots.generate import generate

    board = dict.fromkeys(PLAYERS, 0)
    for seq, event in enumerate(generate(PLAYERS, length_ms, random.Random(7)), 1):
        player = event.player or ""
        board[player] = board.get(player, 0) + 1
        plain = [type(event).__name__.lower(), event.time_ms, player]
        yield encode(Events(seq, "match/match-7f3a90c2", seq, [msgspec.Raw(encode(plain))]))
        if seq % 2:
            changed = [LatestItem(player, {"kills": board[player], "score": 100 * seq})]
            yield encode(Latest("match/match-7f3a90c2", f"n1-3-7:{seq}", False, changed))
        if seq % 5 == 0:
            yield encode(Beats(seq))
        if seq % 50 == 0:
            lines = [LatestItem(name, {"kills": kills, "present": True}) for name, kills in board.items()]
            yield encode(Latest("match/match-7f3a90c2", f"n1-3-7:{seq}", True, lines))
