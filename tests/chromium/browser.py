"""A headless Chromium, told what to do through a pipe; no port is opened."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import subprocess
import sys
import time

#: Chromium reads what to do from descriptor 3, and answers on 4.
LAUNCHER = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); "
    "os.execv(sys.argv[3], sys.argv[3:])"
)
OPTIONS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
    *("--no-first-run", "--disable-background-networking", "--disable-sync"),
    *("--disable-component-update", "--hide-scrollbars", "--remote-debugging-pipe"),
]
#: Seconds after which a machine is not slow but stuck.
PATIENCE = 120


def pipe():
    """Return the ends of a pipe, with numbers that are in nobody's way."""
    ends = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in ends]
    for end in ends:
        os.close(end)
    return high


class Browser:
    """One browser with one page, and all that this page complained of or asked for."""

    def __init__(self, program, profile):
        told, self._tell = pipe()
        self._answers, answers = pipe()
        command = [
            sys.executable,
            "-c",
            LAUNCHER,
            str(told),
            str(answers),
            program.path,
        ]
        self._process = subprocess.Popen(
            [*command, *OPTIONS, f"--user-data-dir={profile}", "about:blank"],
            env=program.environ,
            pass_fds=(told, answers),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(told)
        os.close(answers)
        self._number, self._left = 0, b""
        self._session = None
        self.complaints, self.requests = [], []
        self._events = []
        targets = self.do("Target.getTargets")["targetInfos"]
        page = next(each for each in targets if each["type"] == "page")
        attached = self.do(
            "Target.attachToTarget", targetId=page["targetId"], flatten=True
        )
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.do(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self._session = None
            self.do("Browser.close")
            self._process.wait(20)
        finally:
            if self._process.poll() is None:
                os.killpg(self._process.pid, 9)
                self._process.wait()
            os.close(self._tell)
            os.close(self._answers)

    def do(self, method, **parameters):
        """Give an order; return its result."""
        self._number += 1
        order = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            order["sessionId"] = self._session
        data = json.dumps(order).encode() + b"\0"
        while data:
            data = data[os.write(self._tell, data) :]
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _next(self):
        until = time.monotonic() + PATIENCE
        while b"\0" not in self._left:
            readable, _, _ = select.select([self._answers], [], [], PATIENCE)
            assert readable, "Chromium says nothing"
            assert time.monotonic() < until, "Chromium goes on and on"
            data = os.read(self._answers, 1 << 20)
            assert data, "Chromium has ended"
            self._left += data
        line, _, self._left = self._left.partition(b"\0")
        message = json.loads(line)
        self._note(message)
        return message

    def _note(self, message):
        method, told = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.complaints.append(str(told["exceptionDetails"])[:2000])
        elif method == "Runtime.consoleAPICalled" and told["type"] != "log":
            self.complaints.append(str(told["args"])[:2000])
        elif method == "Log.entryAdded":
            self.complaints.append(str(told["entry"])[:2000])
        elif method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"][:200])
        elif method:
            self._events.append(method)

    def open(self, path, width, *, scheme="light", media="screen"):
        """Open a file in a window of some width, and wait until it is drawn."""
        self.resize(width, scheme=scheme, media=media)
        self._events.clear()
        self.do("Page.navigate", url=f"file://{path}")
        while "Page.loadEventFired" not in self._events:
            self._next()
        self.settle()

    def resize(self, width, *, scheme="light", media="screen"):
        """Give the window another width, colour scheme or medium, and wait until it is drawn."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.do("Emulation.setDeviceMetricsOverride", **size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.do("Emulation.setEmulatedMedia", media=media, features=features)
        self.settle()

    def settle(self):
        """Wait until what was to be drawn is drawn."""
        self.value(
            "new Promise(done => requestAnimationFrame(() => requestAnimationFrame("
            "() => setTimeout(() => done(true), 50))))"
        )

    def becomes_true(self, expression):
        """Tell whether an expression in the page is true, now or soon."""
        return self.value(
            "new Promise(done => { const end = Date.now() + 30000; const look = () => "
            f"({expression}) ? done(true) : Date.now() > end ? done(false) : "
            "setTimeout(look, 20); look() })"
        )

    def value(self, expression):
        """Return what an expression in the page is worth."""
        result = self.do(
            "Runtime.evaluate",
            expression=expression,
            returnByValue=True,
            awaitPromise=True,
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def press(self, key, code=0, text=""):
        """Press a key and let it go."""
        for kind in ("keyDown", "keyUp"):
            self.do(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                text=text if kind == "keyDown" else "",
            )

    def screenshot(self):
        """Return the whole page as a PNG."""
        size = self.do("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "scale": 1, **{k: size[k] for k in ("width", "height")}}
        told = self.do("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        return base64.b64decode(told["data"])

    def colours(self, points):
        """Return the colours of the whole page at some points; the browser reads its own PNG."""
        png = base64.b64encode(self.screenshot()).decode()
        return self.value(
            "(async () => { const picture = new Image();"
            f"picture.src = 'data:image/png;base64,{png}'; await picture.decode();"
            "const canvas = document.createElement('canvas');"
            "canvas.width = picture.width; canvas.height = picture.height;"
            "const drawn = canvas.getContext('2d'); drawn.drawImage(picture, 0, 0);"
            "const data = drawn.getImageData(0, 0, picture.width, picture.height).data;"
            f"return {json.dumps(points)}.map(([x, y]) => {{"
            "const at = 4 * (Math.round(y) * picture.width + Math.round(x));"
            "return [...data.slice(at, at + 3)] }) })()"
        )
