"""Files that a command writes: they appear whole, or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from server.errors import BadInput


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A stream to a file that takes its name once it is whole and on the disk. Raises `BadInput` where it cannot be
    written."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from None
    finally:
        beside.unlink(missing_ok=True)
