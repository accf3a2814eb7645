"""A real Chromium for tests, driven over its DevTools protocol. Debian's package, headless, with
a profile of its own and nothing that calls home."""

import asyncio
import base64
import itertools
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

NAMES = ("chromium", "chromium-browser", "google-chrome")
WATCH_POLICY = """
  window.violations = [];
  addEventListener("securitypolicyviolation", (event) =>
    window.violations.push(`${event.effectiveDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
"""
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--remote-debugging-port=0", "--window-size=1440,1100",
)  # fmt: skip
START_S = 30.0
CALL_S = 20.0


def chromium_or_skip() -> str:
    """The browser's path; the test is skipped, visibly, where there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("Chromium is not installed")
    return found


class Page:
    """A tab. `errors` gathers uncaught exceptions and console errors of the page."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._ids = socket, itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._session = ""
        self.errors: list[str] = []

    async def attach(self) -> None:
        """Make the tab."""
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            await self.call(f"{domain}.enable")
        await self.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH_POLICY)

    async def violations(self) -> list[str]:
        """Breaches of its Content-Security-Policy since the page was loaded."""
        found: list[str] = await self.evaluate("window.violations")
        return found

    async def open(self, url: str, *, dark: bool = False) -> None:
        """Go to `url`, as a person who prefers dark or light pages."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])
        await self.call("Page.navigate", url=url)

    async def size(self, width: int, height: int) -> None:
        """Set the size of the window's inside, in CSS pixels."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    async def evaluate(self, script: str) -> Any:
        """The value (plain data) of a JavaScript expression or promise. Raises AssertionError if it throws."""
        answer = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, condition: str, timeout_s: float = 10.0) -> Any:
        """Wait until the expression is truthy; its value. Raises AssertionError with the page's text."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_s
        while True:
            # the page itself watches; a navigation in between ends that watch, so ask again
            left = end - loop.time()
            script = f"""new Promise((done) => {{
                const stop = performance.now() + {max(left, 0.05) * 1000};
                const look = () => {{
                    const value = (() => {{ try {{ return {condition}; }} catch {{ return null; }} }})();
                    if (value || performance.now() > stop) done(value); else setTimeout(look, 25);
                }};
                look();
            }})"""
            with suppress(AssertionError, KeyError):
                if value := await self.evaluate(script):
                    return value
            if loop.time() >= end:
                text = await self.evaluate("document.body.innerText")
                raise AssertionError(f"not within {timeout_s} s: {condition}\nerrors: {self.errors}\npage:\n{text}")

    async def screenshot(self) -> bytes:
        """The visible page as a PNG."""
        data = await self.call("Page.captureScreenshot", format="png")
        return base64.b64decode(data["data"])

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._ids)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps(message))
        async with asyncio.timeout(CALL_S):
            answer = await self._waiting[number]
        del self._waiting[number]
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    async def listen(self) -> None:
        """Hand on answers and note errors until the connection ends."""
        with suppress(ConnectionClosed):
            async for text in self._socket:
                message = json.loads(text)
                if (waiting := self._waiting.get(message.get("id", 0))) is not None:
                    waiting.set_result(message)
                elif message.get("method") == "Runtime.exceptionThrown":
                    self.errors.append(str(message["params"]["exceptionDetails"]))
                elif message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                    entry = message["params"]["entry"]
                    self.errors.append(f"{entry['source']}: {entry['text']} {entry.get('url', '')}")


@asynccontextmanager
async def browser() -> AsyncIterator[Page]:
    """A fresh browser with one tab; ended, with its profile, on leaving."""
    program = chromium_or_skip()
    with tempfile.TemporaryDirectory(prefix="garrison-chromium-", ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            program, *FLAGS, f"--user-data-dir={profile}", "about:blank",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stderr is not None
        drained = None
        try:
            async with asyncio.timeout(START_S):
                address = await _devtools(process.stderr)
            drained = asyncio.create_task(process.stderr.read())
            async with connect(address, max_size=64 * 1024 * 1024, proxy=None) as socket:
                page = Page(socket)
                listening = asyncio.create_task(page.listen())
                try:
                    await page.attach()
                    yield page
                    with suppress(Exception):
                        await page.call("Browser.close")
                finally:
                    listening.cancel()
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
            await process.wait()
            if drained is not None:
                drained.cancel()


async def _devtools(stderr: asyncio.StreamReader) -> str:
    """The address that Chromium prints once it listens."""
    said: list[str] = []
    async for line in stderr:
        text = line.decode(errors="replace").strip()
        said.append(text)
        if text.startswith("DevTools listening on "):
            return text.removeprefix("DevTools listening on ")
    raise AssertionError("Chromium ended at once:\n" + "\n".join(said[-10:]))
