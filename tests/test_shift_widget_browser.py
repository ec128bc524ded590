"""The shift explorer in a real headless browser: in JupyterLab, as a Voila page where Voila is installed, and by `./book --widget`.

The servers run with default threads, as a reader has them, and a step takes less than a tenth of a second.
Drives Chromium by the WebDriver protocol (chromedriver speaks plain JSON over HTTP), so no package is needed for it. Skipped only where no browser is installed.
"""

import base64
import contextlib
import importlib.util
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import pytest
from browser import BROWSER, DRIVER, END, HOME, RIGHT, ask, free_port, needs_browser, wait_for

ROOT = Path(__file__).resolve().parents[1]
PAGE = "from amt_nb.workshop.shift_widget import ShiftExplorer\nexplorer = ShiftExplorer()\nexplorer"


@contextlib.contextmanager
def process(*command, cwd=None):
    """A server that is ended, with its children, on leaving."""
    env = dict(os.environ, JUPYTER_PLATFORM_DIRS="1", no_proxy="127.0.0.1,localhost")
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        env.pop(name, None)  # as a reader has it
    log = open(os.path.join(cwd or ".", "server.log"), "w")
    p = subprocess.Popen(command, cwd=cwd, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        yield p
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(p.pid, signal.SIGTERM)
        try:
            p.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, signal.SIGKILL)
        log.close()


class Tab:
    """One tab of a headless browser."""

    def __init__(self, base):
        options = {
            "binary": BROWSER,
            "args": [
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--window-size=1300,1000",
                "--no-proxy-server",
            ],
        }
        asked = {
            "capabilities": {
                "alwaysMatch": {"browserName": "chrome", "pageLoadStrategy": "none", "goog:chromeOptions": options}
            }
        }
        self.url = f"{base}/session/{ask(base + '/session', asked)['value']['sessionId']}"

    def go(self, url):
        """Opens an address."""
        ask(self.url + "/url", {"url": url}, timeout=120)

    def js(self, script, *args):
        """What a JavaScript function body returns."""
        return ask(self.url + "/execute/sync", {"script": script, "args": list(args)})["value"]

    def js_async(self, script, *args):
        """What a JavaScript function body hands to its last argument, a callback."""
        return ask(self.url + "/execute/async", {"script": script, "args": list(args)})["value"]

    def width(self, pixels):
        """Makes the window so many pixels wide."""
        ask(self.url + "/window/rect", {"width": pixels, "height": 1000})

    def find(self, css):
        """Ids of the elements that match."""
        return [
            next(iter(e.values()))
            for e in ask(self.url + "/elements", {"using": "css selector", "value": css})["value"]
        ]

    def keys(self, element, text):
        """Types into an element."""
        ask(f"{self.url}/element/{element}/value", {"text": text})

    def click(self, element):
        """Clicks an element."""
        ask(f"{self.url}/element/{element}/click", {})

    def picture(self):
        """The page as PNG."""
        return base64.b64decode(ask(self.url + "/screenshot")["value"])

    def close(self):
        """Ends the session."""
        with contextlib.suppress(urllib.error.URLError):
            ask(self.url, method="DELETE")


@pytest.fixture
def tab(tmp_path):
    """A headless browser."""
    port = free_port()
    (tmp_path / "driver").mkdir()
    with process(DRIVER, f"--port={port}", cwd=tmp_path / "driver"):
        base = f"http://127.0.0.1:{port}"
        wait_for("chromedriver", lambda: ask(base + "/status")["value"]["ready"], 30)
        tab = Tab(base)
        yield tab
        tab.close()


@pytest.fixture
def page(tmp_path):
    """A folder with a notebook that shows the explorer."""
    nb = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(PAGE)],
        metadata={"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}},
    )
    (tmp_path / "site").mkdir()
    nbformat.write(nb, tmp_path / "site" / "page.ipynb")
    return tmp_path / "site"


def slowness():
    """How much longer than its processor time some work takes here, at least 1: other programs want the machine too."""
    wall, cpu = time.perf_counter(), time.process_time()
    sum(i * i for i in range(10_000_000))
    return max(1.0, (time.perf_counter() - wall) / (time.process_time() - cpu))


def shown(tab):
    """(text, addresses of the picture's layers, number of players) of the explorer, None before all are there."""
    return tab.js("""const e = document.querySelector('.shift-explorer'); if (!e) return null; const i = [...e.querySelectorAll('img')], c = e.querySelector('code');
                     return i.length && c && i.every(one => one.naturalWidth) ? [c.innerText, i.map(one => one.src), e.querySelectorAll('audio').length] : null""")


def becomes(tab, what, question):
    """What `shown` gives once `question` is true of it: a picture that is just being changed is asked again."""
    return wait_for(what, lambda: (s := shown(tab)) and question(s) and s)


def step_seconds(tab, handle, keys=6):
    """Median time from a key press on a slider to the new numbers on the page, over `keys` presses to the left."""
    script = """const done = arguments[arguments.length - 1], handle = document.querySelectorAll('.shift-explorer .noUi-handle')[arguments[0]];
    const text = () => document.querySelector('.shift-explorer code').innerText, before = text(), began = performance.now();
    handle.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowLeft', keyCode: 37, bubbles: true}));
    const look = () => { const now = performance.now(); if (text() !== before || now - began > 5000) done(now - began); else setTimeout(look, 1); };
    look();"""
    return statistics.median(tab.js_async(script, handle) for _ in range(keys)) / 1000


def drive(tab):
    """Moves every control of a page that shows the explorer and sees picture and numbers follow, in time."""
    text, picture, players = wait_for("the explorer", lambda: shown(tab))
    assert "shift +0" in text and "Frame F1" in text and players == 0  # no sound that starts by itself
    handles = tab.find(".shift-explorer .noUi-handle")
    assert len(handles) == 3
    tab.keys(handles[0], RIGHT * 3)
    moved, new, _ = becomes(tab, "shift +3", lambda s: "shift +3" in s[0] and s[1][2] != picture[2])
    f1 = lambda t: float(t.split("Frame F1")[1].split()[0])
    assert f1(moved) < f1(text) and new[1] == picture[1]  # what does not move is not sent again
    tab.keys(handles[0], HOME)
    becomes(tab, "shift -12", lambda s: "shift -12" in s[0])
    tab.keys(handles[0], END)
    before = becomes(tab, "shift +12", lambda s: "shift +12" in s[0])
    tab.keys(handles[1], END)
    anchored = becomes(tab, "all labelled", lambda s: s[0] != before[0])
    tab.keys(handles[2], END)
    becomes(tab, "the greatest weight", lambda s: s[0] != anchored[0])
    tab.js(
        "const s = document.querySelector('.shift-explorer select'); s.selectedIndex = 1; s.dispatchEvent(new Event('change', {bubbles: true}))"
    )
    becomes(tab, "another piece", lambda s: s[1][1] != anchored[1][1])
    steps = {name: step_seconds(tab, i) for i, name in enumerate(("shift", "labelled share", "cycle weight"))}
    print({name: f"{1000 * seconds:.0f} ms a step" for name, seconds in steps.items()})
    assert max(steps.values()) < 0.1 * slowness()
    buttons = tab.find(".shift-explorer button")
    assert len(buttons) == 3
    for button in buttons:
        was = tab.js("const a = document.querySelector('.shift-explorer audio'); return a && a.src")
        tab.click(button)
        src = "return document.querySelector('.shift-explorer audio').src"
        becomes(tab, "a player", lambda s: s[2] == 1 and tab.js(src) != was)
        duration = lambda: tab.js("const a = document.querySelector('.shift-explorer audio'); return a && a.duration")
        assert 3 < wait_for("the sound", duration) < 6
    assert tab.picture()[:4] == b"\x89PNG"


def cut_off(tab):
    """How many pixels of the page stand beyond its right side, and of the explorer's parts beyond the explorer's."""
    return tab.js("""const e = document.querySelector('.shift-explorer'), right = e.getBoundingClientRect().right;
                     const parts = [...e.querySelectorAll('img, code, button, .widget-slider, .widget-dropdown')];
                     return Math.max(document.documentElement.scrollWidth - window.innerWidth, ...parts.map(p => p.getBoundingClientRect().right - Math.min(right, window.innerWidth)))""")


@needs_browser
def test_in_jupyterlab(tab, page):
    port = free_port()
    with process(
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        "--ServerApp.token=",
        "--ServerApp.password=",
        "--allow-root",
        "--expose-app-in-browser",
        f"--ServerApp.root_dir={page}",
        "--ServerApp.base_url=/",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        cwd=page,
    ):
        wait_for("the server", lambda: ask(f"http://127.0.0.1:{port}/api"), 90)
        tab.go(f"http://127.0.0.1:{port}/lab/tree/page.ipynb?reset")
        wait_for(
            "the notebook",
            lambda: tab.js("return !!(window.jupyterapp && document.querySelector('.jp-Notebook .jp-Cell'))"),
        )
        tab.js(
            "window.ready = false; window.jupyterapp.serviceManager.sessions.ready.then(() => { window.ready = true })"
        )
        wait_for(
            "the kernel",
            lambda: tab.js(
                "const w = window.jupyterapp.shell.currentWidget; const k = w && w.sessionContext && w.sessionContext.session && w.sessionContext.session.kernel;"
                " return !!k && k.status === 'idle'"
            ),
        )
        tab.js("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        drive(tab)


@needs_browser
def test_as_a_voila_page(tab, page):
    if importlib.util.find_spec("voila") is None:
        pytest.skip("voila is not installed: pip install voila")
    port = free_port()
    with process(
        sys.executable, "-m", "voila", "page.ipynb", "--no-browser", f"--port={port}", "--Voila.ip=127.0.0.1", cwd=page
    ):
        wait_for("the server", lambda: socket.create_connection(("127.0.0.1", port), 1), 90).close()
        tab.go(f"http://127.0.0.1:{port}/")
        drive(tab)
        for pixels in (1300, 700):
            tab.width(pixels)
            wait_for(f"{pixels} px", lambda: abs(tab.js("return window.innerWidth") - pixels) < 30)
            assert cut_off(tab) <= 1, pixels


@needs_browser
def test_the_widget_alone_opens_in_ten_seconds(tab, tmp_path):
    if importlib.util.find_spec("voila") is None:
        pytest.skip("voila is not installed: pip install voila")
    port, began = free_port(), time.monotonic()
    with process(sys.executable, ROOT / "tools" / "widget.py", "--no-browser", f"--port={port}", cwd=tmp_path):
        wait_for("the server", lambda: socket.create_connection(("127.0.0.1", port), 1), 90).close()
        tab.go(f"http://127.0.0.1:{port}/")
        wait_for("the explorer", lambda: shown(tab))
        assert time.monotonic() - began < 10 * slowness()
