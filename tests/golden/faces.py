"""All that the tests of the golden samples use of the project, in one place: where something moves, this is
what has to follow. The samples themselves never change."""

from typing import Any

import msgspec

from game import replay
from migrations import current_async
from server.activations import parcels
from server.actors.actor import Caller
from server.catalog.calls import CallFrame, decode_call
from server.cluster.membership import from_meta, to_meta
from server.directory.messages import Hint, Word, WordAnswer
from server.drivers import build_node, build_store, load_app, upgrade_store
from server.errors import BadFrame, BadInput, Corrupt, GarrisonError
from server.eventlog import segment
from server.eventlog.entry import Record, next_head, state_hash
from server.eventlog.ports import Chunk, StoredLog
from server.ids import ActorId
from server.sessions import stream_frames, transfer_frames
from server.sessions.tokens import issue
from server.settings import Settings, from_tree
from server.states import to_plain
from server.transport import frames as link_frames
from server.transport import login
from server.wire.codec import Codec
from server.wire.messages import ENGINE_ANSWERS, ENGINE_REQUESTS, Push, Request

decode_word = msgspec.msgpack.Decoder(Word | Hint).decode
decode_heard = msgspec.msgpack.Decoder(WordAnswer).decode
decode_parcel = msgspec.msgpack.Decoder(parcels.Parcel).decode


async def migrate(url: str, app: Any) -> None:
    """Do as `garrison migrate` does: the engine's tables, and those of an application that has its own."""
    await upgrade_store(from_tree({"store": {"url": url}}), app)


def decode_stream(payload: bytes) -> Any:
    """A message of the service that carries events and pushes."""
    return stream_frames.decode(payload)


__all__ = [
    "ENGINE_ANSWERS",
    "ENGINE_REQUESTS",
    "ActorId",
    "BadFrame",
    "BadInput",
    "CallFrame",
    "Caller",
    "Chunk",
    "Codec",
    "Corrupt",
    "GarrisonError",
    "Push",
    "Record",
    "Request",
    "Settings",
    "StoredLog",
    "build_node",
    "build_store",
    "current_async",
    "decode_call",
    "decode_heard",
    "decode_parcel",
    "decode_stream",
    "decode_word",
    "from_meta",
    "from_tree",
    "issue",
    "link_frames",
    "load_app",
    "login",
    "migrate",
    "next_head",
    "parcels",
    "replay",
    "segment",
    "state_hash",
    "to_meta",
    "to_plain",
    "transfer_frames",
]
