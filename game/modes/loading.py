"""Modes of a studio's own: files outside of the tree, which the setting `application.files` names. Each is checked for
purity and run once, when the application is loaded; it has `VERSIONS`, as the modes of this folder have."""

import builtins
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from game.modes import purity
from game.modes.mode import ModeRules
from game.modes.registry import BUILT_IN, MODES, Modes
from server.errors import BadSetting

FIELD: Final = "application.files"
MAX_FILE_BYTES: Final = 1024 * 1024
_ITS_OWN: Final = frozenset(versions[0].name for versions in BUILT_IN)


class BadModeFile(BadSetting):
    """A file that is no mode: at `line` of `file` there is something that may not be."""

    def __init__(self, file: str, line: int, reason: str) -> None:
        super().__init__(FIELD, f"{file}:{line}: {reason}" if line else f"{file}: {reason}")
        self.file, self.line, self.reason = file, line, reason


def take_files(files: Sequence[str]) -> None:
    """Add the modes of `files` to those of the program. Raises `BadModeFile`; then none is added."""
    add_files(MODES, files)


def add_files(modes: Modes, files: Sequence[str]) -> None:
    """Add the modes of `files` to `modes`, all or none. Raises `BadModeFile`."""
    found: dict[str, tuple[ModeRules, ...]] = {}
    for file in files:
        versions = read_file(file)
        if versions[0].name in found:
            raise BadModeFile(file, 0, f"mode {versions[0].name} is in another file too")
        found[versions[0].name] = versions
    for versions in found.values():
        modes.add(versions)


def read_file(file: str) -> tuple[ModeRules, ...]:
    """All versions of the mode that is in `file`. Raises `BadModeFile`."""
    source = _source(file)
    try:
        purity.check(source)
    except purity.Impure as error:
        raise BadModeFile(file, error.line, error.reason) from None
    module = ModuleType(f"mode_of_{Path(file).stem}")
    words = {*purity.BUILTINS, "__import__", "__build_class__"}
    module.__dict__["__builtins__"] = {word: getattr(builtins, word) for word in words}
    try:
        exec(compile(source, file, "exec"), module.__dict__)  # checked above, and named by an operator
    except Exception as error:
        raise BadModeFile(file, _line_of(error, file), f"{type(error).__name__}: {error}") from None
    return _versions(file, getattr(module, "VERSIONS", None))


def _source(file: str) -> str:
    try:
        data = Path(file).read_bytes()
    except OSError as error:
        raise BadModeFile(file, 0, f"cannot be read: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise BadModeFile(file, 0, f"is larger than {MAX_FILE_BYTES:,} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise BadModeFile(file, 0, "is no UTF-8") from None


def _versions(file: str, found: Any) -> tuple[ModeRules, ...]:
    """The file's `VERSIONS`, if they are versions of one mode that is not the program's own."""
    if not isinstance(found, tuple) or not found or not all(isinstance(rules, ModeRules) for rules in found):
        raise BadModeFile(file, 0, "has no VERSIONS, a tuple of ModeRules")
    if len({rules.name for rules in found}) > 1:
        raise BadModeFile(file, 0, "has several modes: VERSIONS are those of one")
    if len({rules.version for rules in found}) < len(found):
        raise BadModeFile(file, 0, "has a version twice")
    if found[0].name in _ITS_OWN:
        raise BadModeFile(file, 0, f"mode {found[0].name} is the program's own: give it another name")
    return found


def _line_of(error: BaseException, file: str) -> int:
    """The last line of `file` in the error's trace."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
