"""The page that plays a recording beside its transcriptions, in a real headless browser: one sound at a time, from one clock."""

import numpy as np
from browser import ask, needs_browser, wait_for
from test_shift_widget_browser import tab  # noqa: F401

from amt_nb.notes import as_notes
from amt_nb.workshop.listening import Listening

HEARD = "return [...document.querySelectorAll('audio')].map(a => !a.muted)"
SEEN = "return [...document.querySelectorAll('g')].map(g => g.style.display !== 'none')"
LENGTHS = "const l = [...document.querySelectorAll('audio')].map(a => a.duration); return l.length && l.every(x => x > 0) ? l : null"


@needs_browser
def test_one_of_three_sounds_is_heard_at_one_moment(tab, tmp_path):  # noqa: F811
    notes = as_notes([0, 0.5], [0.5, 2.0], [60, 67], 80)
    wave = 0.3 * np.sin(2 * np.pi * 440 * np.arange(16000) / 8000)
    page = tmp_path / "listening.html"
    page.write_text(Listening(wave, 8000, {"before": notes[:1], "after <b>": notes}, notes).page())
    tab.go(page.as_uri())
    lengths = wait_for("three sounds", lambda: tab.js(LENGTHS))
    assert np.allclose(lengths, 2.0, atol=0.05)
    for k in (0, 2, 1):
        tab.js(f"document.getElementById('b{k}').click()")
        assert tab.js(HEARD) == tab.js(SEEN) == [i == k for i in range(3)]
    assert tab.js("return document.getElementById('b2').textContent") == "after <b>"
    tab.js(
        "const s = document.querySelector('svg'), r = s.getBoundingClientRect();"
        "s.dispatchEvent(new MouseEvent('click', {clientX: r.left + r.width / 2, clientY: r.top + 5, bubbles: true}))"
    )
    at = wait_for(
        "the middle",
        lambda: [
            t for t in tab.js("return [...document.querySelectorAll('audio')].map(a => a.currentTime)") if t > 0.5
        ],
    )
    assert np.allclose(at, 1.0, atol=0.05) and abs(float(tab.js("return now.getAttribute('x1')")) - 320) < 16
    button = ask(f"{tab.url}/element", {"using": "css selector", "value": "#play"})["value"]
    ask(f"{tab.url}/element/{next(iter(button.values()))}/click", {})  # a person's click: sound needs one
    wait_for("the cursor to move", lambda: float(tab.js("return now.getAttribute('x1')")) > 340)
