"""The tables that every node keeps, whatever its application. Pure.

An application adds tables of its own (`server/actors/recorded.py`). The names of columns are what operators ask for,
so they say their unit.
"""

from typing import Final

import msgspec

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
    country="text",
    bytes_in="u32",
    bytes_out="u32",
)
"""`event`: opened, arrived (from another node), left (for another node) or closed. `reason` and `code`: why, and the
close code. `pushes`: how many the session was sent. `duration_ms`: of its time on this node. `country`: as a trusted
proxy has said it (`gateway.country_header`). `bytes_in`, `bytes_out`: of messages to and from this node."""

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


class SavedQuestion(msgspec.Struct, frozen=True):
    """A question to begin with, on the console's page; `view`: table, lines, areas or bars."""

    title: str
    sql: str
    view: str = "table"


QUESTIONS: Final = (
    SavedQuestion(
        "Slowest methods",
        "SELECT method, count(*) AS calls, approx_quantile(latency_us, 0.99) AS p99_us\nFROM calls\nGROUP BY method\n"
        "ORDER BY p99_us DESC\nLIMIT 20",
        "bars",
    ),
    SavedQuestion(
        "Refused calls a minute, by code",
        "SELECT time_bucket(INTERVAL 1 MINUTE, time) AS minute, error, count(*) AS calls\nFROM calls\n"
        "WHERE error <> ''\nGROUP BY minute, error\nORDER BY minute",
        "areas",
    ),
    SavedQuestion(
        "Why sessions ended",
        "SELECT reason, code, count(*) AS sessions, approx_quantile(duration_ms, 0.5) AS median_ms\nFROM sessions\n"
        "WHERE event = 'closed'\nGROUP BY reason, code\nORDER BY sessions DESC",
    ),
    SavedQuestion(
        "CPU of all nodes, ms each second",
        "SELECT time_bucket(INTERVAL 5 SECOND, time) AS t, sum(cpu_ms) / 5 AS cpu_ms\nFROM health\n"
        "GROUP BY t\nORDER BY t",
        "lines",
    ),
)

TABLES: Final = (SESSIONS, CALLS, HEALTH)
