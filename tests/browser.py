"""A headless Chromium for the tests, driven by the WebDriver protocol (chromedriver speaks plain JSON over HTTP)."""

import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

DRIVER = next(filter(None, map(shutil.which, ("chromedriver", "chromium.chromedriver"))), None)
BROWSER = next(
    filter(
        None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"))
    ),
    None,
)
needs_browser = pytest.mark.skipif(not (DRIVER and BROWSER), reason="no Chromium with chromedriver is installed")
RIGHT, LEFT, HOME, END = "\ue014", "\ue012", "\ue011", "\ue010"


def free_port():
    """A port nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def ask(url, data=None, method=None, timeout=60):
    """The JSON answer of a local server."""
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method=method)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=timeout) as answer:
        return json.load(answer)


def wait_for(what, question, seconds=150):
    """The first true answer of question(), or a failure that names what was waited for."""
    end, last = time.monotonic() + seconds, None
    while time.monotonic() < end:
        try:
            if last := question():
                return last
        except (urllib.error.URLError, ConnectionError, KeyError, TimeoutError) as error:
            last = error
        time.sleep(0.05)
    pytest.fail(f"waited {seconds} s for {what}; last: {last!r}")


class Tab:
    """One tab of a headless browser that reaches no network; used as a context."""

    def __init__(self, folder):
        self.folder = folder

    def __enter__(self):
        port = free_port()
        log = open(self.folder / "driver.log", "w")
        self.driver = subprocess.Popen([DRIVER, f"--port={port}"], stdout=log, stderr=log, start_new_session=True)
        base = f"http://127.0.0.1:{port}"
        wait_for("chromedriver", lambda: ask(base + "/status")["value"]["ready"])
        arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--mute-audio",
            "--no-first-run",
            "--disable-background-networking",
            "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
            f"--user-data-dir={self.folder}/profile",
        ]
        asked = {
            "browserName": "chrome",
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {"binary": BROWSER, "args": arguments},
        }
        self.url = (
            f"{base}/session/{ask(base + '/session', {'capabilities': {'alwaysMatch': asked}})['value']['sessionId']}"
        )
        return self

    def __exit__(self, *exc):
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            ask(self.url, method="DELETE")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.driver.pid, signal.SIGTERM)
        self.driver.wait(15)

    def go(self, url):
        """Opens an address and waits until it is loaded."""
        ask(self.url + "/url", {"url": url}, timeout=120)

    def js(self, script, *args):
        """What a JavaScript function body returns."""
        return ask(self.url + "/execute/sync", {"script": script, "args": list(args)})["value"]

    def resize(self, width, height=900, scale=1):
        """Makes the page `width` CSS pixels wide; a telephone below 600."""
        params = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600}
        ask(self.url + "/goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": params})

    def press(self, key):
        """Presses and releases a key on whatever has the focus."""
        keys = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        ask(self.url + "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": keys}]})

    def click(self, x, y):
        """Clicks a point of the window."""
        moves = [
            {"type": "pointerMove", "x": round(x), "y": round(y)},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        ask(self.url + "/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": moves}]})

    def complaints(self):
        """What the console has said at the level of an error since the last call."""
        return [
            line["message"]
            for line in ask(self.url + "/se/log", {"type": "browser"})["value"]
            if line["level"] == "SEVERE"
        ]

    def picture(self):
        """The window as PNG."""
        return base64.b64decode(ask(self.url + "/screenshot")["value"])
