"""Floor of `remote-call`: msgpack requests and answers over TCP, each behind its length."""

import asyncio
import struct
from collections import defaultdict
from typing import Any

import msgspec
import uvloop

from server.lab.bench.floors.call import FloorCounter

decode, encode = msgspec.msgpack.Decoder(list[Any]).decode, msgspec.msgpack.Encoder().encode
registry: dict[str, FloorCounter] = defaultdict(FloorCounter)


class Server(asyncio.Protocol):
    held = b""

    def connection_made(self, transport: Any) -> None:
        self.write = transport.write

    def data_received(self, data: bytes) -> None:
        data, at, answers = self.held + data, 0, []
        while len(data) - at >= 4 and len(data) - at >= 4 + (size := struct.unpack_from(">I", data, at)[0]):
            number, identity, method, args, *_ = decode(data[at + 4 : at + 4 + size])
            answer = encode([number, getattr(registry[identity], method)(*args)])
            answers.append(struct.pack(">I", len(answer)) + answer)
            at += 4 + size
        self.held = data[at:]
        self.write(b"".join(answers))


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
    print(f'{{"port": {server.sockets[0].getsockname()[1]}}}', flush=True)
    await server.serve_forever()


uvloop.run(main())
