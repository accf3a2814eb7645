"""The settings of a command: the file that it uses, and what is assigned besides."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from server.errors import BadSetting
from server.settings import Settings, load

DEMO_CONFIG = Path(".garrison/demo/garrison.toml")
CONFIG_PLACES = (Path("garrison.toml"), DEMO_CONFIG)


def find_config(explicit: Path | None) -> Path | None:
    """The settings file that a command uses, or None where there is none."""
    if explicit is not None:
        return explicit
    if named := os.environ.get("GARRISON_CONFIG"):
        return Path(named)
    return next((place for place in CONFIG_PLACES if place.is_file()), None)


def read_settings(
    config: Path | None, assignments: Sequence[str] | None = None, flags: dict[str, object] | None = None
) -> Settings:
    """The settings of a command: file, then variables, then flags. Says so where the file is the
    demo's and nobody named it. Raises `BadSetting`."""
    found = find_config(config)
    if config is None and found == DEMO_CONFIG and not os.environ.get("GARRISON_CONFIG"):
        print(f"settings of the demo: {found}", file=sys.stderr)
    merged: dict[str, object] = {**_assigned(assignments)}
    merged.update({name: value for name, value in (flags or {}).items() if value is not None})
    return load(found, os.environ, merged)


def check_assignments(assignments: Sequence[str]) -> None:
    """Whether these would be settings, before they are handed on to nodes that choose the journal's mode. Raises
    `BadSetting`."""
    load(None, None, {"journal.mode": "none", **_assigned(assignments)})


def _assigned(assignments: Sequence[str] | None) -> dict[str, str]:
    merged: dict[str, str] = {}
    for text in assignments or ():
        field, equals, value = text.partition("=")
        if not equals:
            raise BadSetting(field, "--set takes section.field=value")
        merged[field.strip()] = value.strip()
    return merged
