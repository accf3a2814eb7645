"""Mutual login of two nodes: a challenge each way, answered with HMAC-SHA256. Pure.

    dialler  -> HELLO      label, both addresses, nonce a
    acceptor -> CHALLENGE  nonce b, proof of the acceptor
    dialler  -> PROOF      proof of the dialler
    acceptor -> READY

A proof is keyed by the cluster key and covers the protocol version, the cluster label, both
node addresses with their incarnations, both nonces and the role of the one who makes it, so
it is good for this one connection in this one direction. Login proves who is there when a
connection opens; it does not encrypt or sign what follows. Where the network between nodes is
not trusted, run it inside a tunnel.
"""

import hmac
from typing import Final, Literal

import msgspec

from server.errors import BadFrame
from server.ids import Incarnation, NodeAddress, NodeId
from server.transport.frames import VERSION
from server.wire.codec import UNDECODABLE

NONCE_BYTES: Final = 32
PROOF_BYTES: Final = 32
Role = Literal["dialler", "acceptor"]


class LoginHello(msgspec.Struct, array_like=True, frozen=True):
    """The first message of the dialler. `to` is the run of a node that it expects to reach."""

    cluster: str
    from_node: str
    from_incarnation: int
    to_node: str
    to_incarnation: int
    nonce: bytes

    @property
    def sender(self) -> NodeAddress:
        return NodeAddress(NodeId(self.from_node), Incarnation(self.from_incarnation))

    @property
    def target(self) -> NodeAddress:
        return NodeAddress(NodeId(self.to_node), Incarnation(self.to_incarnation))


_hello = msgspec.msgpack.Decoder(LoginHello)
_encode = msgspec.msgpack.encode


def hello(cluster: str, me: NodeAddress, to: NodeAddress, nonce: bytes) -> LoginHello:
    return LoginHello(cluster, me.node, me.incarnation, to.node, to.incarnation, nonce)


def encode_hello(message: LoginHello) -> bytes:
    return _encode(message)


def decode_hello(payload: bytes) -> LoginHello:
    """Raises `BadFrame` if `payload` is no hello."""
    try:
        message = _hello.decode(payload)
    except UNDECODABLE:
        raise BadFrame("bad login") from None
    if len(message.nonce) != NONCE_BYTES:
        raise BadFrame("bad login")
    return message


def proof(key: bytes | None, role: Role, first: LoginHello, nonce: bytes) -> bytes:
    """The HMAC that only a holder of `key` can make for this connection and this role. Without a key it is made
    with an empty one, which is allowed on loopback only."""
    text = _encode(("garrison node login", VERSION, role, first, nonce))
    return hmac.digest(key or b"", text, "sha256")


def split_challenge(payload: bytes) -> tuple[bytes, bytes]:
    """Nonce and proof of a CHALLENGE. Raises `BadFrame`."""
    if len(payload) != NONCE_BYTES + PROOF_BYTES:
        raise BadFrame("bad login")
    return payload[:NONCE_BYTES], payload[NONCE_BYTES:]


def same(left: bytes, right: bytes) -> bool:
    """Equality in a time that does not depend on where they differ."""
    return hmac.compare_digest(left, right)
