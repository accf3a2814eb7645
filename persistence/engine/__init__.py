"""The engine's tables and the stores for PostgreSQL and SQLite; knows no game."""
