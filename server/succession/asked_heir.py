"""The heir, as its predecessor asks it: each message with its answer, within a time of its own."""

import asyncio
from collections.abc import Sequence
from typing import Any

from server.errors import Unavailable
from server.succession import messages
from server.succession.limits import SuccessionLimits
from server.succession.messages import FromHeir, FromPredecessor, HeirHello, LastWord, NoHeir
from server.succession.ports import HeirChannel


class AskedHeir:
    """See the module's head. Each method raises `Unavailable` where the heir refuses, is gone, or does not answer in
    time."""

    def __init__(self, channel: HeirChannel, limits: SuccessionLimits) -> None:
        self._channel, self._limits = channel, limits

    async def hello(self) -> HeirHello:
        """The first message, which is the heir's: the program has to start before it."""
        try:
            async with asyncio.timeout(self._limits.start_s):
                hello = _heard((await self._channel.receive()).message)
        except TimeoutError:
            why = f"the new program does not say what it is within {self._limits.start_s:.0f} s"
            raise Unavailable(why) from None
        if not isinstance(hello, HeirHello):
            raise Unavailable(f"the heir says {type(hello).__name__}, where HeirHello was due")
        return hello

    async def ask(self, message: FromPredecessor, descriptors: Sequence[int] = ()) -> Any:
        """The answer, while this node serves."""
        try:
            async with asyncio.timeout(self._limits.answer_s):
                await self._channel.send(messages.encode(message), descriptors)
                answer = await self._channel.receive()
        except TimeoutError:
            raise Unavailable("the heir does not answer in time") from None
        return _heard(answer.message)

    def ask_frozen(self, message: FromPredecessor) -> Any:
        """The answer, while this process does nothing else."""
        return _heard(self._channel.exchange(messages.encode(message), self._limits.frozen_s))

    async def refuse(self, why: str) -> None:
        """Tell it that it is no heir."""
        await self._channel.send(messages.encode(NoHeir(why)))

    def last_word(self, word: LastWord) -> None:
        """Tell it that it serves from now on."""
        self._channel.last_word(messages.encode(word))


def _heard(data: bytes) -> FromHeir:
    answer = messages.decode_from_heir(data)
    if isinstance(answer, NoHeir):
        raise Unavailable(f"the heir refuses: {answer.why}")
    return answer
