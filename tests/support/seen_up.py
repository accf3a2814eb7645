"""Nodes as one of them sees them: a node is ready before gossip has told the others that it is up."""

import asyncio
from typing import Any

import httpx


async def seen_up(admin_url: str, token: str, nodes: int) -> dict[str, Any]:
    """What the node at `admin_url` says of its cluster, once it sees `nodes` that are up and all answer it."""
    headers = {"authorization": f"Bearer {token}"}
    async with asyncio.timeout(30), httpx.AsyncClient(trust_env=False, headers=headers) as http:
        while True:
            seen: dict[str, Any] = (await http.get(f"{admin_url}/api/v1/cluster")).json()
            if [node["state"] for node in seen["nodes"]] == ["up"] * nodes and not seen["missing"]:
                return seen
            await asyncio.sleep(0.05)  # the nodes are other processes
