"""Mutual login of two nodes: a challenge each way, answered with HMAC-SHA256. Pure.

    dialler  -> HELLO      label, both addresses, nonce a
    acceptor -> CHALLENGE  nonce b, proof of the acceptor, its binding
    dialler  -> PROOF      proof of the dialler, its binding
    acceptor -> READY

A proof is keyed by the cluster key and covers the protocol version, the cluster label, both
node addresses with their incarnations, both nonces, the role of the one who makes it and its
binding, so it is good for this one connection in this one direction.

The binding of an encrypted connection is a digest of the certificates that its maker has seen
(`encryption.py`); that of a plain one is empty. A proof that is right for a binding that is not the
reader's own says that each end has an encrypted connection with somebody in between.
"""

import hmac
from typing import Final, Literal

import msgspec

from server.errors import BadFrame
from server.ids import Incarnation, NodeAddress, NodeId
from server.transport.encryption import BINDING_BYTES
from server.transport.frames import VERSION
from server.wire.codec import UNDECODABLE

NONCE_BYTES: Final = 32
PROOF_BYTES: Final = 32
Role = Literal["dialler", "acceptor"]
Finding = Literal["good", "wrong key", "man in the middle"]

EXPLAINED: Final[dict[str, str]] = {
    "wrong key": "it has another cluster key (security.cluster_key)",
    "man in the middle": "somebody is in between: it names other certificates than those seen here",
}


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


def proof(key: bytes, role: Role, first: LoginHello, nonce: bytes, binding: bytes = b"") -> bytes:
    """The HMAC that only a holder of `key` can make for this connection and this role."""
    bound = (binding,) if binding else ()
    text = _encode(("garrison node login", VERSION, role, first, nonce, *bound))
    return hmac.digest(key, text, "sha256")


def split_challenge(payload: bytes) -> tuple[bytes, bytes]:
    """Nonce, and proof with binding, of a CHALLENGE; `check` looks at their lengths too."""
    return payload[:NONCE_BYTES], payload[NONCE_BYTES:]


def check(shown: bytes, key: bytes, role: Role, first: LoginHello, nonce: bytes, binding: bytes) -> Finding:
    """The finding about `shown`, a proof of the other end with its binding, at an end with `binding` of its own.
    Raises `BadFrame` if it is none."""
    theirs, bound = shown[:PROOF_BYTES], shown[PROOF_BYTES:]
    if len(theirs) != PROOF_BYTES or len(bound) not in (0, BINDING_BYTES):
        raise BadFrame("bad login")
    if not same(theirs, proof(key, role, first, nonce, bound)):
        return "wrong key"
    return "good" if same(bound, binding) else "man in the middle"


def same(left: bytes, right: bytes) -> bool:
    """Equality in a time that does not depend on where they differ."""
    return hmac.compare_digest(left, right)
