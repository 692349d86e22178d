"""A headless browser spoken to over a pipe, in real time.

The protocol is Chromium's own (DevTools, messages of JSON ended by a zero byte). A virtual clock would be simpler to
start, but it runs out while the browser still reads a blob, so that a busy machine sees half of a page.
"""

import fcntl
import json
import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LONGEST = 120.0
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run")
QUIET = ("--disable-background-networking", "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND")


class Page:
    """One tab: commands are answered, and events in between are kept."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading = reading
        self._writing = writing
        self._rest = b""
        self._asked = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.ask("Network.enable")
        self.ask("Page.enable")

    def _next(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._reading], [], [], max(0.0, until - time.monotonic()))
            assert ready, f"the browser did not answer within {LONGEST:.0f} seconds"
            read = os.read(self._reading, 1 << 20)
            assert read, "the browser has ended"
            self._rest += read
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)

    def ask(self, method: str, **wanted: Any) -> dict[str, Any]:
        """The answer to one command of the protocol."""
        until = time.monotonic() + LONGEST
        self._asked += 1
        message = {"id": self._asked, "method": method, "params": wanted}
        if self._session is not None:
            message["sessionId"] = self._session
        sent = json.dumps(message).encode() + b"\0"
        while sent:
            sent = sent[os.write(self._writing, sent) :]
        while (answer := self._next(until)).get("id") != self._asked:
            self.events.append(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def open(self, page: Path, before: str = "") -> None:
        """Open a file; `before` is a script that runs ahead of the page's own."""
        self.ask("Page.addScriptToEvaluateOnNewDocument", source=before)
        self.ask("Page.navigate", url=page.as_uri())
        until = time.monotonic() + LONGEST
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next(until))

    def size(self, width: int, height: int) -> None:
        """A window of this many pixels, be it as narrow as a telephone's."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise is awaited."""
        done = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def asked_for(self) -> list[str]:
        """Every address of the network that the page has asked for."""
        sent = [event["params"] for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        addresses = {each["request"]["url"] for each in sent}
        return sorted(address for address in addresses if not address.startswith(("file:", "data:", "blob:", "about:")))


@contextmanager
def tab(browser: str, folder: Path) -> Iterator[Page]:
    """A new browser with one empty tab; all of it ends with the block."""
    to_browser, writing = os.pipe()
    reading, from_browser = os.pipe()
    command = [browser, *OPTIONS, *QUIET, "--remote-debugging-pipe", f"--user-data-dir={folder / 'user'}"]
    noise = os.open(folder / "browser.log", os.O_CREAT | os.O_WRONLY)
    # The protocol's pipes are the numbers 3 and 4; copies above both, so that neither overwrites the other.
    far = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (to_browser, from_browser, noise)]
    child = os.posix_spawn(
        browser,
        command,
        dict(os.environ),
        file_actions=[
            (os.POSIX_SPAWN_DUP2, far[0], 3),
            (os.POSIX_SPAWN_DUP2, far[1], 4),
            (os.POSIX_SPAWN_DUP2, far[2], 1),
            (os.POSIX_SPAWN_DUP2, far[2], 2),
        ],
        setpgroup=0,
    )
    for end in (to_browser, from_browser, noise, *far):
        os.close(end)
    try:
        yield Page(reading, writing)
    finally:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)
