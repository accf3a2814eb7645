"""Floor of `fanout`: a bare picows server that sends the same bytes to all of its connections, as often as it is told.

A frame is `[number, bytes]`: send the bytes to every connection so many times. Empty bytes: only count me in."""

import asyncio
import json

import msgspec
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, WSUpgradeResponse, ws_create_server
from picows import WSUpgradeResponseWithListener as Accepted

decode = msgspec.msgpack.Decoder().decode
SUBPROTOCOL = {"Sec-WebSocket-Protocol": "garrison.v1.msgpack"}
CONNECTIONS: dict[WSTransport, None] = {}


class Fan(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        times, data = decode(frame.get_payload_as_memoryview())
        if not data:
            CONNECTIONS[transport] = None
            return
        for _ in range(times):
            for each in CONNECTIONS:
                each.send(WSMsgType.BINARY, data)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        CONNECTIONS.pop(transport, None)


def accept(_request: WSUpgradeRequest) -> Accepted:
    return Accepted(WSUpgradeResponse.create_101_response(SUBPROTOCOL), Fan())


async def main() -> None:
    server = await ws_create_server(accept, "127.0.0.1", 0, read_buffer_init_size=1024, use_aiofastnet=False)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"ready": True, "client_url": f"ws://127.0.0.1:{port}"}), flush=True)
    await asyncio.Event().wait()


uvloop.run(main())
