"""Files of the dashboard and of the application's pages, read once at start and served from
memory by exact name, so that no request can name a path."""

import hashlib
from pathlib import Path
from typing import Final

import msgspec

from server.errors import BadSetting

MAX_FILES: Final = 256
MAX_BYTES: Final = 8 * 1024 * 1024
_TYPES: Final = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
}


class Asset(msgspec.Struct, frozen=True):
    body: bytes
    media_type: str
    etag: str


class Assets:
    """The servable files below `folder`, by their path in it with forward slashes. Raises
    `BadSetting` naming `field` if the folder is absent or past `MAX_FILES` or `MAX_BYTES`."""

    def __init__(self, folder: Path, field: str) -> None:
        if not folder.is_dir():
            raise BadSetting(field, f"the folder of dashboard pages does not exist: {folder}")
        self._files: dict[str, Asset] = {}
        total = 0
        for file in sorted(folder.rglob("*")):
            media_type = _TYPES.get(file.suffix)
            if media_type is None or not file.is_file():
                continue
            body = file.read_bytes()
            total += len(body)
            if len(self._files) >= MAX_FILES or total > MAX_BYTES:
                raise BadSetting(field, f"more than {MAX_FILES} files or {MAX_BYTES} bytes of pages in {folder}")
            tag = hashlib.sha256(body).hexdigest()[:32]
            self._files[file.relative_to(folder).as_posix()] = Asset(body, media_type, f'"{tag}"')

    def get(self, name: str) -> Asset | None:
        """The file called `name`, such as `js/main.js`."""
        return self._files.get(name)

    def modules(self) -> list[str]:
        """The ES modules at the top of the folder: each is one page."""
        return [name for name in self._files if name.endswith(".js") and "/" not in name]
