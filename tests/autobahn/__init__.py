"""The WebSocket cases of Autobahn's test suite against the gateway's driver; see `__main__.py`."""
