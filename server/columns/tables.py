"""The tables that every node keeps, whatever its application. Pure.

An application adds tables of its own (`server/actors/recorded.py`). The names of columns are what operators ask for,
so they say their unit.
"""

from typing import Final

from server.columns.layout import Column, ColumnType, Schema


def schema(table: str, **columns: ColumnType) -> Schema:
    """The schema of `table`: its time, and `columns` by name."""
    return Schema(table, (Column("time", "time"), *(Column(name, kind) for name, kind in columns.items())))


SESSIONS: Final = schema(
    "sessions",
    event="text",
    player="text",
    role="text",
    client="text",
    device="text",
    reason="text",
    code="u16",
    duration_ms="u32",
    pushes="u32",
)
"""`event`: opened, arrived (from another node), left (for another node) or closed. `reason` and `code`: why, and the
close code. `pushes`: how many the session was sent. `duration_ms`: of its time on this node."""

CALLS: Final = schema("calls", method="text", role="text", error="text", latency_us="u32", weight="u16")
"""Requests of clients, each with the time until its answer. `error`: the code of its refusal, or empty. `weight`: how
many calls the row stands for; above `columns.calls_per_s` only each so-many-th call gets a row."""

HEALTH: Final = schema(
    "health",
    sessions="u32",
    activations="u32",
    frames_in="u32",
    frames_out="u32",
    heartbeats="u32",
    turns="u32",
    turn_errors="u32",
    dirty="u32",
    log_entries="u32",
    lag_us="u32",
    cpu_ms="u32",
    memory_kib="u32",
    members="u16",
)
"""A row a second: gauges, and of counters how much was counted since the row before."""

TABLES: Final = (SESSIONS, CALLS, HEALTH)
