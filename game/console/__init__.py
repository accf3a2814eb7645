"""The game's part of the dashboard: read models, and the folder of its pages."""

from pathlib import Path
from typing import Final

from game.console.read_models import READ_MODELS

PAGES: Final = str(Path(__file__).parent / "pages")

__all__ = ["PAGES", "READ_MODELS"]
