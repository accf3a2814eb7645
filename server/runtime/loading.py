"""How a program loads its modules when it starts."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_collection() -> Iterator[None]:
    """No look for garbage during the block, and none ever at what it makes: all of it stays, and there is much."""
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def load_structlog() -> None:
    """Load structlog without `rich`, before anything else loads either: that would be three quarters of its time, for
    tracebacks in colours, and no log here has any."""
    sys.modules["rich"] = None  # type: ignore[assignment]  # an import of it fails from here on
    try:
        import structlog  # noqa: F401
    finally:
        del sys.modules["rich"]
