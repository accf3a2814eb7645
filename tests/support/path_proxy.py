"""A reverse proxy that shows a server's HTTP below a path, for tests: it takes the path away, or passes it on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


@asynccontextmanager
async def below(path: str, port: int, *, takes_away: bool) -> AsyncIterator[str]:
    """The address under which the server on `port` is shown, without a slash at its end. Everything not below `path` is
    404, as it is where the host belongs to somebody else."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            method, target, rest = head.split(b" ", 2)
            if target != path.encode() and not target.startswith(f"{path}/".encode()):
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            else:
                if takes_away:
                    target = target.removeprefix(path.encode()) or b"/"
                there, onward = await asyncio.open_connection("127.0.0.1", port)
                onward.write(b" ".join([method, target, rest.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)]))
                body = asyncio.create_task(_copy(reader, onward))
                await _copy(there, writer)
                body.cancel()
                onward.close()
        writer.close()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{path}"
    finally:
        server.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
