"""Load for measurements: many sockets, frames encoded beforehand, and as little work a frame as Python
allows, so that the server saturates first. Give it cores of its own, or several processes.

Each connection has a ring of *steps*; a step is a few frames that are written together, and one
answer that ends it. The next step goes out when the answer is in (closed loop), or when its time
has come (`rate_per_s`). A step counts as many units as it has frames.

    heartbeat    one heartbeat with an id, answered by `beat`; every `change_every`-th carries
                 another status, which is a durable change
    cumulative   heartbeats with id 0 and one with an id at the end of each step
    raw          `frame`, answered by any frame (an echo server)

The server allows a session 200 messages a second: have enough connections to stay below it.

As a program it takes one JSON line of `LoadOptions` on standard input, says `ready`, and then
obeys the lines `start`, `count`, `stop`, one JSON line each in answer; `LoadProcess` drives that.
"""

import asyncio
import json
import os
import sys
import time
from array import array
from collections.abc import Sequence
from typing import Any, Final, Literal, Self

import msgspec
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

SUBPROTOCOL: Final = "garrison.v1.msgpack"
CONNECTS_AT_ONCE: Final = 64
SAMPLE_EVERY: Final = 16
MAX_SAMPLES: Final = 200_000
TICK_S: Final = 0.001
_encode = msgspec.msgpack.encode
_BEAT: Final = _encode(["beat", 1])
_BEATS: Final = _encode(["beats", 0])[:-1]
_ERROR: Final = _encode(["error"])[1:]


class LoadOptions(msgspec.Struct, frozen=True, kw_only=True):
    """A load. `tokens`: as many as connections (unused for `raw`). `cpus`: those that the process is pinned to."""

    url: str
    connections: int
    tokens: list[str] = []
    mode: Literal["heartbeat", "cumulative", "raw"] = "heartbeat"
    change_every: int = 10
    """0: no durable changes."""
    burst: int = 10
    """Heartbeats in a step of mode `cumulative`."""
    rate_per_s: float | None = None
    """Steps a second over all connections; None: each connection as fast as it is answered."""
    frame: bytes = b""
    cpus: list[int] = []
    connect_timeout_s: float = 30.0


class LoadCount(msgspec.Struct, frozen=True):
    """Units acknowledged since the start, CPU time of this process, latencies of sampled steps."""

    units: int
    errors: int
    closed: int
    seconds: float
    cpu_s: float
    p50_ms: float
    p99_ms: float


def steps_for(options: LoadOptions) -> list[list[bytes]]:
    """The ring of steps of a connection: lists of frames."""
    plain = _encode(["heartbeat", 1, 0, None])
    if options.mode == "raw":
        return [[options.frame or plain]]
    if options.mode == "cumulative":
        return [[*[_encode(["heartbeat", 0, 0, None])] * (options.burst - 1), plain]]
    if not options.change_every:
        return [[plain]]
    steps: list[list[bytes]] = []
    for status in ("away", "online"):
        steps += [[plain]] * (options.change_every - 1) + [[_encode(["heartbeat", 1, 0, status])]]
    return steps


class Load:
    """The generator in this process."""

    def __init__(self, options: LoadOptions) -> None:
        self.options = options
        self.units = 0
        self.errors = 0
        self.closed = 0
        self.running = False
        self.started_at = 0.0
        self.samples = array("d")
        self._steps = steps_for(options)
        self._lines: list[_Line] = []
        self._due = 0.0
        self._next_line = 0

    async def connect(self) -> None:
        """Open all connections and say hello on each. Raises `RuntimeError` where a connection is refused."""
        options = self.options
        gate = asyncio.Semaphore(CONNECTS_AT_ONCE)

        async def open_line(number: int) -> None:
            async with gate:
                line = _Line(self, self._steps, number)
                headers = {"Sec-WebSocket-Protocol": SUBPROTOCOL}
                await ws_connect(lambda: line, options.url, extra_headers=headers, websocket_handshake_timeout=10)
                self._lines.append(line)
                if options.mode != "raw":
                    await line.hello(options.tokens[number])

        async with asyncio.timeout(options.connect_timeout_s):
            await asyncio.gather(*(open_line(number) for number in range(options.connections)))

    def start(self) -> None:
        """Begin to send."""
        self.running = True
        self.started_at = self._due = time.perf_counter()
        if self.options.rate_per_s is None:
            for line in self._lines:
                line.step()
        else:
            asyncio.get_running_loop().call_soon(self._tick)

    def stop(self) -> None:
        """Send nothing more."""
        self.running = False

    async def close(self) -> None:
        """Close all connections."""
        self.stop()
        for line in self._lines:
            line.transport.disconnect()
        await asyncio.gather(*(line.transport.wait_disconnected() for line in self._lines), return_exceptions=True)

    def count(self) -> LoadCount:
        """Count acknowledgements until now."""
        samples = sorted(self.samples)
        middle, high = (samples[len(samples) // 2], samples[len(samples) * 99 // 100]) if samples else (0.0, 0.0)
        seconds = time.perf_counter() - self.started_at if self.started_at else 0.0
        return LoadCount(
            self.units, self.errors, self.closed, seconds, time.process_time(), middle * 1_000, high * 1_000
        )

    def sample(self, seconds: float) -> None:
        """Keep a latency, as long as there is room."""
        if len(self.samples) < MAX_SAMPLES:
            self.samples.append(seconds)

    def _tick(self) -> None:
        """Send the steps that are due; a connection that still waits for its answer is passed over."""
        if not self.running or self.options.rate_per_s is None:
            return
        now = time.perf_counter()
        lines, every_s = self._lines, 1 / self.options.rate_per_s
        for _ in range(min(len(lines), int((now - self._due) / every_s))):
            self._due += every_s
            line = lines[self._next_line]
            self._next_line = (self._next_line + 1) % len(lines)
            if not line.waiting:
                line.step()
        asyncio.get_running_loop().call_later(TICK_S, self._tick)


class _Line(WSListener):
    """A connection and its place in the ring of steps."""

    def __init__(self, load: Load, steps: Sequence[Sequence[bytes]], number: int) -> None:
        self.load = load
        self.steps = steps
        self.place = number % len(steps)  # spread over the ring
        self.waiting = 0
        self.sent_at = 0.0
        self.transport: WSTransport
        self._raw = load.options.mode == "raw"
        self._paced = load.options.rate_per_s is not None
        self._welcome: asyncio.Future[None] | None = None
        self._turns = number

    async def hello(self, token: str) -> None:
        self._welcome = asyncio.get_running_loop().create_future()
        self.transport.send(WSMsgType.BINARY, _encode(["hello", 1, token, None, 0, "garrison-load", False]))
        await self._welcome
        self._welcome = None

    def step(self) -> None:
        """Send the next step."""
        frames = self.steps[self.place]
        self.place = (self.place + 1) % len(self.steps)
        self.waiting = len(frames)
        self._turns += 1
        self.sent_at = time.perf_counter() if self._turns % SAMPLE_EVERY == 0 else 0.0
        send = self.transport.send
        for frame in frames:
            send(WSMsgType.BINARY, frame)

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type != WSMsgType.BINARY:
            return
        payload = frame.get_payload_as_bytes()
        load = self.load
        if self._welcome is not None:
            self._welcomed(payload)
            return
        if not self._raw and payload != _BEAT:
            if payload.startswith(_BEATS):
                return
            load.errors += 1
            if _ERROR not in payload[:12]:
                return
        if self.sent_at:
            load.sample(time.perf_counter() - self.sent_at)
        load.units += self.waiting
        self.waiting = 0
        if load.running and not self._paced:
            self.step()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.load.closed += 1
        if self._welcome is not None and not self._welcome.done():
            self._welcome.set_exception(RuntimeError("closed before the welcome"))

    def _welcomed(self, payload: bytes) -> None:
        answer: Any = msgspec.msgpack.decode(payload)
        if self._welcome is None or self._welcome.done():
            return
        if answer[0] == "welcome":
            self._welcome.set_result(None)
        else:
            self._welcome.set_exception(RuntimeError(f"no welcome but {answer!r:.200}"))


# ---- as a process of its own ---------------------------------------------------------------------


class LoadProcess:
    """A `Load` in another process. Use it with `async with`; the connections are open inside."""

    def __init__(self, options: LoadOptions) -> None:
        self.options = options
        self._process: asyncio.subprocess.Process

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "garrison_bots.load",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            await self._ask(msgspec.json.encode(self.options).decode())
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def start(self) -> None:
        """Begin to send."""
        await self._ask("start")

    async def count(self) -> LoadCount:
        """Count acknowledgements until now."""
        return msgspec.json.decode(await self._ask("count"), type=LoadCount)

    async def stop(self) -> LoadCount:
        """Send nothing more; the last count."""
        return msgspec.json.decode(await self._ask("stop"), type=LoadCount)

    async def _ask(self, line: str) -> bytes:
        """Send the process a line and read its answer. Raises `RuntimeError` where it has ended."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(line.encode() + b"\n")
        await stdin.drain()
        answer = await stdout.readline()
        if not answer:
            raise RuntimeError("the load generator ended; its error is above")
        return answer


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=64 * 1024 * 1024)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    options = msgspec.json.decode(await reader.readline(), type=LoadOptions)
    if options.cpus:
        os.sched_setaffinity(0, options.cpus)
    load = Load(options)
    await load.connect()
    print(json.dumps({"kind": "ready", "connections": options.connections}), flush=True)
    while line := (await reader.readline()).decode().strip():
        if line == "start":
            load.start()
        elif line == "stop":
            load.stop()
        print(msgspec.json.encode(load.count()).decode(), flush=True)
    await load.close()


def main() -> None:
    """Run as the process that `LoadProcess` drives."""
    import uvloop

    uvloop.run(_serve())


if __name__ == "__main__":
    main()
