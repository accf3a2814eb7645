"""Floor of `heartbeat` and `memory`: a bare picows server that decodes msgpack and answers."""

import asyncio
import json

import msgspec
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, WSUpgradeResponse, ws_create_server
from picows import WSUpgradeResponseWithListener as Accepted

decode, encode = msgspec.msgpack.Decoder().decode, msgspec.msgpack.Encoder().encode
SUBPROTOCOL = {"Sec-WebSocket-Protocol": "garrison.v1.msgpack"}


class Echo(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        message = decode(frame.get_payload_as_memoryview())
        transport.send(WSMsgType.BINARY, encode(["beat", message[1]]))


def accept(_request: WSUpgradeRequest) -> Accepted:
    return Accepted(WSUpgradeResponse.create_101_response(SUBPROTOCOL), Echo())


async def main() -> None:
    server = await ws_create_server(accept, "127.0.0.1", 0, read_buffer_init_size=1024, use_aiofastnet=False)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"ready": True, "client_url": f"ws://127.0.0.1:{port}"}), flush=True)
    await asyncio.Event().wait()


uvloop.run(main())
