"""The Python client of Garrison, a presence and session backend for multiplayer games.

async with garrison.connect("ws://127.0.0.1:7350", token) as client:
    await client.set_presence("online", "In the menu")
    async with client.watch("match/quick-1") as events:
        async for number, event in events:
            print(number, event)
"""

from garrison import errors, messages
from garrison._base import Command, Event, Message, Push, Reply, Request, UnknownEvent
from garrison._stats import Stats
from garrison.client import Client, connect
from garrison.errors import GarrisonError
from garrison.friends import Friends
from garrison.host import Host, Report
from garrison.moderation import Moderation
from garrison.options import Options
from garrison.party import Party, PartyPicture
from garrison.replay import Moment, Replay
from garrison.watch import LatestWatch, PlayersWatch, Watch

__all__ = [
    "Client",
    "Command",
    "Event",
    "Friends",
    "GarrisonError",
    "Host",
    "LatestWatch",
    "Message",
    "Moderation",
    "Moment",
    "Options",
    "Party",
    "PartyPicture",
    "PlayersWatch",
    "Push",
    "Replay",
    "Reply",
    "Report",
    "Request",
    "Stats",
    "UnknownEvent",
    "Watch",
    "connect",
    "errors",
    "messages",
]
__version__ = "0.1.0"
