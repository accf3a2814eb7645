"""The signals that ask a process to stop, known at once.

A handler of the event loop is called at the loop's next turn. A predecessor has none after its last stretch, in which
SIGTERM may come: whoever sent it would wait for a node that goes on in its heir, and knows of nothing.
"""

import asyncio
import contextlib
import os
import signal
from types import FrameType
from typing import Any, Final

STOPPING: Final = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """SIGTERM and SIGINT from now on, in the event loop that runs. `stop` is set by the loop; `came` has those that
    came, also in a stretch in which the loop has no turn."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.came: list[int] = []
        loop = asyncio.get_running_loop()
        for number in STOPPING:
            loop.add_signal_handler(number, self.stop.set)
            self._notice(number, signal.getsignal(number))

    def _notice(self, number: int, loops: Any) -> None:
        def notice(came: int, frame: FrameType | None) -> None:
            self.came.append(came)
            loops(came, frame)

        signal.signal(number, notice)
        signal.siginterrupt(number, False)

    def pass_on(self, process: int) -> None:
        """Ask `process` to stop, where this one was asked to."""
        if self.came:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
