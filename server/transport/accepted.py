"""The answering end of a node-to-node connection: it calls the services' handlers and writes their answers.

The first byte says whether a stranger speaks TLS. One that does not fit `transport.encryption` is refused in plain,
which both a plain link and the TLS of a dialler understand well enough for a line in its log.
"""

import asyncio
import secrets
from collections.abc import Callable
from functools import partial

from server.errors import BadFrame, GarrisonError, Internal, OutcomeUnknown, Overloaded, Unavailable, UnknownType
from server.transport.encryption import TLS_HANDSHAKE, Channel
from server.transport.frames import (
    CHALLENGE,
    COUNTED,
    ERROR,
    HEAD,
    HELLO,
    ONE_WAY,
    PING,
    PONG,
    PROOF,
    READY,
    REFUSED,
    REQUEST,
    RESPONSE,
    VERSION,
    Frame,
    encode_error,
    frame,
)
from server.transport.link import Link, LinkContext
from server.transport.login import EXPLAINED, NONCE_BYTES, LoginHello, check, decode_hello, proof
from server.transport.ports import Answer


class AcceptedLink(Link):
    """See the module's head. `admit` is called when a hello has come (it raises `Unavailable` to
    refuse), `on_open` when the dialler has proved itself, `on_closed` when the link closes."""

    def __init__(
        self,
        context: LinkContext,
        admit: Callable[[LoginHello], None],
        on_open: Callable[["AcceptedLink"], None],
        on_closed: Callable[["AcceptedLink"], None],
    ) -> None:
        super().__init__(context)
        self.peer = context.me  # until the dialler has proved who it is
        self._admit, self._on_open, self._on_closed = admit, on_open, on_closed
        self._hello: LoginHello | None = None
        self._nonce = self._binding = b""
        self._working = 0
        """Requests whose handler has given a future that is not done."""
        self._max_working = context.settings.max_in_flight
        self._handlers = context.handlers
        self._timer = context.loop.call_later(context.settings.connect_timeout_s, self._too_slow)

    def _too_slow(self) -> None:
        self.close("login too slow")

    def _greeted(self, first: int) -> bool:
        """Take up the encryption that the dialler speaks, or refuse it."""
        encryption, encrypted = self._context.encryption, first == TLS_HANDSHAKE
        if encrypted and encryption is not None:
            self._channel = Channel(encryption.ends, accepting=True)
        elif encrypted:
            self._refuse("not plain", "it speaks TLS, and transport.encryption is off here")
        elif self._context.settings.encryption == "required":
            self._refuse("not encrypted", "it is not encrypted, and transport.encryption is required here")
        return not self.reason

    def _refuse(self, reason: str, text: str) -> None:
        self._context.refused(self._stranger(), text)
        self._write(frame(REFUSED, f"this connection: {text}".encode()))
        self.close(reason, gently=True)

    def _stranger(self) -> object:
        """The address of the dialler, and its name if it has said one."""
        name = self._hello.sender if self._hello is not None else "a stranger"
        where = self._socket.get_extra_info("peername") if self._socket is not None else None
        return f"{name} at {where[0]}" if isinstance(where, tuple) else name

    def _secured(self) -> None:
        assert self._channel is not None, "it is secure"
        self._binding = self._channel.binding()

    def _insecure(self, text: str) -> None:
        self._context.refused(self._stranger(), text)

    def _login(self, kind: int, payload: bytes) -> None:
        key, binding = self._context.key, self._binding
        if kind == HELLO and self._hello is None:
            self._hello = decode_hello(payload)
            try:
                self._admit(self._hello)
            except Unavailable as error:
                self._write(frame(REFUSED, error.message.encode()))
                self.close("refused", gently=True)
                return
            self._nonce = secrets.token_bytes(NONCE_BYTES)
            mine = proof(key, "acceptor", self._hello, self._nonce, binding)
            self._write(frame(CHALLENGE, self._nonce + mine + binding))
        elif kind == PROOF and self._hello is not None:
            finding = check(payload, key, "dialler", self._hello, self._nonce, binding)
            if finding != "good":
                self._context.refused(self._stranger(), EXPLAINED[finding])
                raise BadFrame(finding)
            self._timer.cancel()
            self.peer = self._hello.sender
            self._on_open(self)
            self._write(frame(READY))
            self._logged_in()
        else:
            raise BadFrame("unexpected frame")

    def _take(self, frames: list[Frame]) -> None:
        self._held = True  # a single write for all answers of this read, at its end
        handlers, peer, out = self._handlers, self.peer, self._out
        for kind, service, number, payload in frames:
            asked = kind == REQUEST
            if not asked and kind != ONE_WAY:
                if kind != PING:
                    raise BadFrame("unexpected frame")
                out.append(frame(PONG))
                continue
            handler = handlers[service]
            try:
                if handler is None:
                    raise UnknownType(f"no service {service}")
                if self._working >= self._max_working:
                    raise Overloaded(f"too many calls under way from {peer}")
                answer = handler(peer, payload)
            except Exception as error:
                self._failed(asked, service, number, error)
                continue
            if type(answer) is bytes and asked and len(answer) <= self._max_payload:
                out.append(HEAD.pack(COUNTED + len(answer), VERSION, RESPONSE, 0, number) + answer)
                self._out_bytes += len(answer)
            else:
                self._unusual(asked, service, number, answer)
            if self.reason:
                return
        if self._out_bytes > self._max_buffered and self._paused:
            raise BadFrame("answers not read")
        self.flush()

    def _unusual(self, asked: bool, service: int, number: int, answer: Answer) -> None:
        """Deal with an answer off the hot path: a future, nothing, or too many bytes."""
        if isinstance(answer, asyncio.Future):
            self._working += 1
            answer.add_done_callback(partial(self._worked, asked, service, number))
        elif asked:
            self._answer(number, answer or b"")

    def _worked(self, asked: bool, service: int, number: int, done: "asyncio.Future[bytes]") -> None:
        assert self._working > 0, "a handler's future was done twice"
        self._working -= 1
        if done.cancelled():
            self._failed(asked, service, number, OutcomeUnknown("the call was cancelled"))
        elif (error := done.exception()) is not None:
            self._failed(asked, service, number, error)
        elif asked:
            self._answer(number, done.result())

    def _answer(self, number: int, payload: bytes) -> None:
        if len(payload) > self._max_payload:
            self._put(ERROR, number, encode_error(Internal("the answer is over transport.max_frame_bytes")))
        else:
            self._put(RESPONSE, number, payload)

    def _failed(self, asked: bool, service: int, number: int, error: BaseException) -> None:
        typed = error if isinstance(error, GarrisonError) else self._context.crashed(service, error)
        if asked:
            self._put(ERROR, number, encode_error(typed))

    def _put(self, kind: int, number: int, payload: bytes) -> None:
        if self.reason:
            return
        self._out.append(frame(kind, payload, 0, number))
        self._out_bytes += len(payload)
        if not self._held:
            self._held = True
            self._call_soon(self.flush)
        elif self._paused and self._out_bytes > self._max_buffered:
            self.close("answers not read")

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._socket is not None and not self._socket.is_closing():
            self._socket.pause_reading()

    @property
    def under_way(self) -> int:
        return self._working + super().under_way

    def resume_writing(self) -> None:
        if self._socket is not None and not self._socket.is_closing() and not self._resting:
            self._socket.resume_reading()
        super().resume_writing()

    def _on_close(self) -> None:
        self._timer.cancel()
        self._on_closed(self)
