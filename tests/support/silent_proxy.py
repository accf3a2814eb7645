"""A way to PostgreSQL that can go silent: what is sent is taken, nothing comes through, nothing is
closed. So a firewall behaves that has forgotten its connections, or a network that is cut."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.engine import make_url


class SilentProxy:
    """Listens on loopback; `url` leads through it to the same database."""

    def __init__(self, url: str) -> None:
        self._direct = make_url(url)
        self._silent: set[asyncio.StreamWriter] = set()
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.silence_on = b""
        """When a client says this everything goes silent, new connections too, until `speak`; the
        server does not hear it."""
        self._cut = False
        self.url = ""

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        through = self._direct.set(host="127.0.0.1", port=port, query={})
        self.url = through.render_as_string(hide_password=False)

    def speak(self) -> None:
        """New connections go through again; those that were open stay silent."""
        self.silence_on, self._cut = b"", False

    def silence(self) -> int:
        """From now on nothing goes through on the connections that are open; how many those are."""
        self._silent |= self._open
        return len(self._open)

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        query = self._direct.query.get("host")
        if query is not None:
            up = await asyncio.open_unix_connection(f"{query}/.s.PGSQL.{self._direct.port or 5432}")
        else:
            up = await asyncio.open_connection(self._direct.host, self._direct.port or 5432)
        self._open.add(writer)
        if self._cut:
            self._silent.add(writer)
        try:
            await asyncio.gather(self._copy(reader, up[1], writer), self._copy(up[0], writer, writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(writer)
            up[1].close()
            writer.close()

    async def _copy(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, client: asyncio.StreamWriter
    ) -> None:
        while data := await source.read(65_536):
            if sink is not client and self.silence_on and self.silence_on in data:
                self._cut = True
                self.silence()
            if client not in self._silent:
                sink.write(data)
        if client in self._silent:
            await asyncio.Event().wait()  # nor does the other side hear of an end
        sink.close()


@asynccontextmanager
async def silent_proxy(url: str) -> AsyncIterator[SilentProxy]:
    proxy = SilentProxy(url)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
