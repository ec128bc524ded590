"""The sliders of the chapters in a real headless browser, as Voila shows them to a reader: an arrow key changes the picture in time.

Each page is a chapter's slider with the cells that it needs. The kernels have default threads, and a step takes less than a tenth of a second.
"""

import importlib.util
import re
import socket
import statistics
import symtable
import sys
import time
from pathlib import Path

import nbformat
import pytest
from browser import free_port, needs_browser, wait_for
from test_shift_widget_browser import process, slowness, tab  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]
SLIDERS = {"soft_dtw": "alignment/32_soft_dtw", "jump_dtw": "alignment/35_jump_dtw", "align": "alignment/38_align"}
SHOWN = """const s = document.querySelectorAll('.widget-slider .noUi-handle'), i = document.querySelector('img.widget-image'), h = document.querySelector('.widget-html svg');
           return s.length && (i ? i.naturalWidth && i.src : h && h.outerHTML) || null"""
STEP = """const done = arguments[arguments.length - 1], key = arguments[0], handle = document.querySelector('.widget-slider .noUi-handle');
    const look = () => { const i = document.querySelector('img.widget-image'), h = document.querySelector('.widget-html svg'); return i ? i.complete && i.src : h && h.outerHTML };
    const before = look(), began = performance.now();
    handle.dispatchEvent(new KeyboardEvent('keydown', {key: key[0], keyCode: key[1], bubbles: true}));
    const wait = () => { const now = performance.now(), after = look(); if ((after && after !== before) || now - began > 5000) done(now - began); else setTimeout(wait, 1); };
    wait();"""
LEFT, RIGHT = ("ArrowLeft", 37), ("ArrowRight", 39)


def names(source):
    """(names that a cell binds, names of other cells that it reads)."""
    tables = [symtable.symtable(re.sub(r"^%.*", "", source, flags=re.MULTILINE), "cell", "exec")]
    bound = {s.get_name() for s in tables[0].get_symbols() if s.is_assigned() or s.is_imported()}
    read = {s.get_name() for s in tables[0].get_symbols() if s.is_referenced()}
    for table in tables:  # grows: the functions of a cell, and theirs
        tables += table.get_children()
        read |= {s.get_name() for s in table.get_symbols() if s.is_global()}
    return bound, read - bound


def up_to_the_slider(chapter):
    """A notebook of the chapter's cell with the slider, and of the code cells before it that this one needs."""
    nb = nbformat.read(ROOT / "nbs" / f"{chapter}.ipynb", as_version=4)
    code = [c.source for c in nb.cells if c.cell_type == "code" and c.id != "install"]
    end = next(i for i, source in enumerate(code) if "from ipywidgets import" in source)
    kept, needed = [code[end]], names(code[end])[1]
    for source in reversed(code[:end]):
        bound, read = names(source)
        if bound & needed:
            kept, needed = [source, *kept], needed - bound | read
    kernel = {"name": "python3", "display_name": "python3", "language": "python"}
    cells = [nbformat.v4.new_code_cell(source) for source in kept]
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


@needs_browser
def test_every_step_of_a_slider_is_there_in_a_tenth_of_a_second(tab, tmp_path):  # noqa: F811
    if importlib.util.find_spec("voila") is None:
        pytest.skip("voila is not installed: pip install voila")
    pages, port = tmp_path / "pages", free_port()
    pages.mkdir()
    for name, chapter in SLIDERS.items():
        nbformat.write(up_to_the_slider(chapter), pages / f"{name}.ipynb")
    command = (sys.executable, "-m", "voila", pages, "--no-browser", f"--port={port}", "--Voila.ip=127.0.0.1")
    with process(*command, cwd=tmp_path):
        wait_for("the server", lambda: socket.create_connection(("127.0.0.1", port), 1), 90).close()
        for name in SLIDERS:
            began = time.monotonic()
            tab.go(f"http://127.0.0.1:{port}/voila/render/{name}.ipynb")
            wait_for(f"the slider of {name}", lambda: tab.js(SHOWN))
            opened = time.monotonic() - began
            steps = [tab.js_async(STEP, key) / 1000 for key in [LEFT] * 3 + [RIGHT] * 6]
            print(
                f"{name}: opens in {opened:.0f} s, {1000 * statistics.median(steps):.0f} ms a step, {1000 * max(steps):.0f} at most"
            )
            assert max(steps) < 5, f"{name}: an arrow key did not change the picture"
            assert statistics.median(steps) < 0.1 * slowness(), f"{name}: {steps}"


@pytest.mark.parametrize("chapter", ["02_cqt", "transcription/20_transcribe"])
def test_other_sliders_only_look_their_picture_up(chapter):
    """Those of these chapters have all their pictures before the first step, so a step costs what it costs above."""
    source = up_to_the_slider(chapter).cells[-1].source
    assert re.search(r"^pictures = \{", source, re.MULTILINE) and source.count(".observe(") == 1
    assert 'slider.observe(lambda change: setattr(picture, "value", pictures[change.new]), "value")' in source
