"""`Browser`: a headless Chromium, driven over a pipe by its DevTools protocol.

It opens pages, presses keys and takes pictures.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, final

__all__ = ["CHROMIUM", "Browser", "open_browser"]

CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser")
_FLAGS: Final = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-extensions"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--remote-debugging-pipe", "about:blank"),
)
_PATIENCE: Final = 60.0
_CODES: Final = {"Enter": 13, "Escape": 27, "ArrowDown": 40, "ArrowUp": 38}


@final
class Browser:
    """One tab."""

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive = send, receive
        self._number = 0
        self._data = b""
        self._session = ""
        (page,) = [one for one in self._call("Target.getTargets")["targetInfos"] if one["type"] == "page"]
        self._session = self._call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        self._call("Page.enable")

    def open(self, page: Path | str, width: int = 1280, height: int = 900, *, dark: bool = False) -> None:
        """Open the file or URL in a window of that size. Return when it is loaded."""
        url = page.as_uri() if isinstance(page, Path) else page
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self._call("Emulation.setEmulatedMedia", features=scheme)
        self.resize(width, height)
        self._call("Page.navigate", url=url)
        self._await(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    def resize(self, width: int, height: int) -> None:
        """Give the window this size."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def evaluate(self, expression: str) -> Any:
        """Return the value of the expression in the page."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, *keys: str) -> None:
        """Press these keys, one after the other."""
        for key in keys:
            text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
            self._call(
                "Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=_CODES.get(key, 0), **text
            )
            self._call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=_CODES.get(key, 0))

    def hover(self, selector: str) -> None:
        """Move the pointer over the first element of that selector."""
        box = self.evaluate(
            f"(r => [r.left + r.width / 2, r.top + r.height / 2])"
            f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
        )
        self._call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])

    def picture(self) -> bytes:
        """Return the window as a PNG."""
        return base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"])

    def _await(self, condition: str) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not self.evaluate(condition):
            assert time.monotonic() < deadline, condition
            time.sleep(0.01)

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        call = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            call["sessionId"] = self._session
        os.write(self._send, json.dumps(call).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def _next(self) -> dict[str, Any]:
        """Return the next message; events between the answers are skipped by the caller."""
        while b"\0" not in self._data:
            ready, _, _ = select.select([self._receive], [], [], _PATIENCE)
            assert ready, "Chromium does not answer"
            data = os.read(self._receive, 1 << 20)
            assert data, "Chromium has ended"
            self._data += data
        line, _, self._data = self._data.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message


@contextmanager
def open_browser(profile: Path) -> Iterator[Browser]:
    """Start Chromium with an empty profile in that directory; it ends with the block."""
    assert CHROMIUM is not None
    (reads, send), (receive, writes) = _pipe(0), _pipe(1)
    wire = f"import os, sys; os.dup2({reads}, 3); os.dup2({writes}, 4); os.execv(sys.argv[1], sys.argv[1:])"
    with subprocess.Popen(
        [sys.executable, "-S", "-c", wire, CHROMIUM, f"--user-data-dir={profile}", *_FLAGS],
        pass_fds=(reads, writes),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        os.close(reads)
        os.close(writes)
        try:
            yield Browser(send, receive)
        finally:
            process.kill()
            os.close(send)
            os.close(receive)


def _pipe(browsers: int) -> tuple[int, int]:
    """Return a pipe; the end that the browser gets is a descriptor of two digits, so that 3 and 4 are free for it."""
    ends = list(os.pipe())
    moved = fcntl.fcntl(ends[browsers], fcntl.F_DUPFD, 10)
    os.close(ends[browsers])
    ends[browsers] = moved
    return ends[0], ends[1]
