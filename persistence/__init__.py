"""The relational side: tables, mappings of game states to columns, and the SQL stores."""
