"""The game's tables and the mappings of its states."""
