"""The site: built once, its pages read as files and driven in a headless browser without a network."""

import functools
import importlib.util
import json
import re
import subprocess
import sys
import threading
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import nbformat
import pytest
from browser import END, HOME, LEFT, RIGHT, Tab, needs_browser, wait_for

ROOT = Path(__file__).resolve().parents[1]
WIDTHS = (360, 700, 1280)  # CSS pixels: a telephone, a tablet, a screen
SIDES = ("left", "right")


def tool(name):
    """The script tools/`name`.py as a module."""
    spec = importlib.util.spec_from_file_location(f"tools_{name}", ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


site_tool = tool("site")
BOOK = [path for path in site_tool.notebooks(ROOT)]
PAGES = [str(path.with_suffix(".html")) for path in BOOK]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Folder of the site."""
    folder = tmp_path_factory.mktemp("site") / "made"
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "site.py"), str(folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


class Quiet(SimpleHTTPRequestHandler):
    """A server of files that says nothing."""

    def log_message(self, *words):
        pass


@pytest.fixture(scope="module")
def address(site):
    """Where the site is served."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    """A headless browser for all tests of this file; it knows no host but this machine."""
    with Tab(tmp_path_factory.mktemp("browser")) as tab:
        yield tab


class Tags(HTMLParser):
    """All tags of a page as (name, attributes), its text, and the text of its code cells."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def all(self, name):
        """Attributes of the tags called `name`."""
        return [attrs for tag, attrs in self.tags if tag == name]


def read(site, page):
    """(text, Tags) of a page."""
    text = (site / page).read_text(encoding="utf-8")
    return text, Tags(text)


def article(text):
    """The part of a page that comes from its notebook."""
    return re.search(r"<article.*?</article>", text, re.S).group()


# ---- pages as files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_contents_title_and_neighbours(site, page):
    text, tags = read(site, page)
    here, hrefs = (site / page).parent, {a.get("href") for a in tags.all("a")}
    reached = {here.joinpath(h).resolve() for h in hrefs if h and h != "#"}
    assert page == PAGES[0] or "#" in hrefs, "the contents do not say where one is"
    for other in PAGES:
        assert other == page or (site / other).resolve() in reached, f"{other} is not in the contents"
    title = re.search(r"<title>(.*?)</title>", text, re.S).group(1)
    name = title.removesuffix("- amt_nb").strip()
    assert name not in ("", Path(page).stem) and not title.startswith("<no title>")
    assert ("next-page" in text) and (page == PAGES[0] or "prev-page" in text)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_fetches_nothing_from_elsewhere(site, page):
    text, tags = read(site, page)
    fetched = [a.get("src") for name in ("script", "img", "audio", "source", "iframe") for a in tags.all(name)]
    fetched += [a.get("href") for a in tags.all("link") if a.get("rel") not in ("canonical", "license")]
    assert not [x for x in fetched if x and re.match(r"(https?:)?//", x)]
    assert not re.search(r"@import|url\(['\"]?(https?:)?//", text)


def test_no_style_or_script_names_another_host(site):
    for path in (site / "_static").rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import\s+['\"]https?:", path.read_text(encoding="utf-8")), (
            path.name
        )


@pytest.mark.parametrize("page", PAGES)
def test_a_page_shows_what_its_notebook_shows(site, page):
    text, _ = read(site, page)
    body = article(text)
    assert "VBox(children" not in body and "widget-view" not in body and "#| " not in body
    cells = re.findall(r'<div class="cell_input[^"]*">(.*?)</div>', body, re.S)
    assert not [c for c in cells if not re.sub(r"<[^>]+>|\s", "", c)], "an empty cell"
    for image in Tags(body).all("img"):
        assert len(image.get("alt", "")) > 5 and not image["alt"].endswith((".png", ".svg")), image
        assert (site / page).parent.joinpath(image["src"]).exists()
    nb = nbformat.read(ROOT / Path(page).with_suffix(".ipynb"), as_version=4)
    for told in re.findall(r"^#\|\s*fig-alt:\s*(.+)$", "\n".join(c.source for c in nb.cells), re.M):
        assert told.strip() in body.replace("&quot;", '"').replace("&amp;", "&").replace("&#x27;", "'").replace(
            "&#39;", "'"
        )
    pictures = sum(
        "image/png" in o.get("data", {}) or "image/svg+xml" in o.get("data", {})
        for c in nb.cells
        for o in c.get("outputs", [])
        if "#| hide\n" not in c.source
    )
    assert len(Tags(body).all("img")) >= pictures


def test_links_hold(site):
    assert site_tool.dead_links(site) == []


def test_a_dead_link_stops_the_build(tmp_path):
    (tmp_path / "nbs").mkdir()
    cell = nbformat.v4.new_markdown_cell("# A title: and a claim\n\n[nowhere](no_such.ipynb) `[code](is_left.ipynb)`")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "nbs" / "01_a.ipynb")
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Front")]), tmp_path / "index.ipynb")
    with pytest.raises(SystemExit, match="01_a.ipynb links to no_such.ipynb, which does not exist$"):
        site_tool.prepare(tmp_path / "source", tmp_path)
    (tmp_path / "page.html").write_text(
        '<a href="gone.html">x</a><a href="page.html#here">y</a><p id="here"><a href="#away">z</a>'
    )
    assert site_tool.dead_links(tmp_path) == ["page.html: gone.html", "page.html: #away"]


def test_a_cell_is_prepared(tmp_path):
    (tmp_path / "nbs" / "alignment").mkdir(parents=True)
    code, out = nbformat.v4.new_code_cell, nbformat.v4.new_output
    widget = out("display_data", {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "VBox(children=())"})
    picture = out("display_data", {"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"})
    cells = [
        nbformat.v4.new_markdown_cell("# Soft-DTW: a distance"),
        code("#| hide\nx = 1"),
        code("#| default_exp soft"),
        code("#| export\nimport os\nfrom re import (sub,\n  split)"),
        code("#| echo: false\n#| fig-alt: two hills\nplot()", outputs=[picture]),
        code("w()", outputs=[widget]),
        code("plot(title='A finding')", outputs=[picture]),
    ]
    path = Path("nbs/alignment/30_soft.ipynb")
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / path)
    chapter = site_tool.Chapter(path, tmp_path, tmp_path)
    made = chapter.prepared().cells
    assert [c.source.split("\n")[0] for c in made[:4]] == ["# Soft-DTW: a distance", "import os", "plot()", "w()"]
    assert made[1].metadata["tags"] == ["hide-input"] and made[2].metadata["tags"] == ["remove-input"]
    assert (
        made[2].metadata["mystnb"]["image"]["alt"] == "two hills"
        and made[5].metadata["mystnb"]["image"]["alt"] == "A finding"
    )
    assert made[3].outputs == [] and "answers in a running notebook" in made[4].source
    assert site_tool.short_title(chapter.title, path) == "30 Soft-DTW" and site_tool.folder_of(path) == "alignment"
    assert "Alignment" in site_tool.contents({Path("index.ipynb"): "x", path: chapter.title})


# ---- pages in a browser --------------------------------------------------------------------------------------------

OVERFLOW = "return document.documentElement.scrollWidth - innerWidth"


@needs_browser
def test_every_page_on_a_telephone(site, address, tab):
    """No page is wider than the telephone, mathematics are pictures, and the console is silent."""
    tab.resize(360)
    tab.complaints()
    for page in PAGES:
        tab.go(f"{address}/{page}")
        source, _ = read(site, page)
        if 'class="math' in source:
            wait_for(
                f"mathematics on {page}",
                lambda: tab.js(
                    "return document.querySelectorAll('mjx-container svg').length > 0"
                    " && !document.querySelector('.math:not(:has(mjx-container))')"
                ),
            )
            assert (
                tab.js("return [...document.querySelectorAll('[data-mml-node=merror]')].map(e => e.textContent)") == []
            )
        assert tab.js(OVERFLOW) <= 0, page
        assert tab.js("return [...document.querySelectorAll('audio')].filter(a => !a.paused || a.autoplay).length") == 0
    assert tab.complaints() == []


@needs_browser
def test_search_finds_a_word(address, tab):
    tab.resize(1280)
    tab.go(f"{address}/search.html?q=spectrogram")
    found = wait_for(
        "results",
        lambda: tab.js("return [...document.querySelectorAll('#search-results a')].map(a => a.getAttribute('href'))"),
    )
    assert any("nbs/" in href for href in found)
    assert tab.complaints() == []


CODE = next(
    page for page in PAGES if "10_score_vae" in page
)  # a page with much code; the opening chapter hides its own


@needs_browser
def test_code_is_copied_and_folded(address, tab):
    tab.resize(1280)
    tab.go(f"{address}/{CODE}")
    hidden = (
        "return [...document.querySelectorAll('div.cell_input .highlight')]"
        ".filter(e => !e.closest('details') && e.offsetHeight === 0).length"
    )
    shown = tab.js("return document.querySelectorAll('div.cell_input button.copybtn').length")
    assert shown > 5 and tab.js(hidden) == 0
    tab.js("document.querySelector('.fold-all').click()")
    assert tab.js(hidden) > 5
    tab.js("document.querySelector('.fold').click()")
    tab.js("document.querySelector('.fold-all').click()")
    assert (
        tab.js(hidden) == 0 and tab.js("return document.querySelector('.fold').getAttribute('aria-expanded')") == "true"
    )
    assert all(
        tab.js(
            "return [...document.querySelectorAll('article section > p')].filter(p => p.offsetWidth)"
            ".map(p => p.offsetWidth <= 40 * parseFloat(getComputedStyle(p).fontSize))"
        )
    ), "lines too long"


# ---- the collapse without a kernel ---------------------------------------------------------------------------------

PART = "const e = document.querySelector('collapse-player'), r = e && e.shadowRoot; "
STATE = (
    PART
    + """const text = id => r.getElementById(id).textContent;
    return r && r.querySelector('#numbers tr') && {words: text('words'), numbers: text('numbers'),
    notes: r.querySelectorAll('.note').length, left: r.getElementById('left').innerHTML,
    right: r.querySelector('#right image').getAttribute('href'), chart: r.getElementById('scores').innerHTML,
    playing: e.playing, paused: e.audio.paused, time: e.audio.currentTime}"""
)
WIDEST = (
    PART
    + "return Math.max(...[...r.querySelectorAll('*')].map(x => x.getBoundingClientRect().right))"
    + " - e.getBoundingClientRect().right"
)


def player_page(site):
    """The page that has the player."""
    with_player = [page for page in PAGES if "<collapse-player" in read(site, page)[0]]
    at_home = [
        page for page in with_player if '<div id="collapse">' in article(read(site, page)[0]).partition("<h2")[0]
    ]
    assert at_home, "no chapter opens with the player"
    return at_home[0]


@pytest.fixture(params=("in the chapter", "alone"))
def player(request, site, address, tab):
    """The tab with the player, served in its chapter or alone as a file, its shift slider focused."""
    tab.resize(1280)
    tab.go(
        f"{address}/{player_page(site)}"
        if request.param == "in the chapter"
        else (site / "_static" / "media" / "collapse" / "collapse.html").as_uri()
    )
    wait_for("the player", lambda: tab.js(STATE))
    tab.js(PART + "r.getElementById('shift').focus()")
    return tab


def frame_f1(state):
    """Frame F1 (%) in the sentence of the player."""
    return int(re.search(r"Frame F1 is (\d+)", state["words"]).group(1))


@needs_browser
def test_keys_move_numbers_and_pictures(player):
    before = player.js(STATE)
    player.press(RIGHT)
    after = wait_for("shift +1", lambda: (s := player.js(STATE)) and "1 semitone too high" in s["words"] and s)
    assert frame_f1(before) > 80 and frame_f1(after) < 20 and "the same as" in after["words"]
    assert (
        after["left"] != before["left"] and after["chart"] != before["chart"] and after["numbers"] != before["numbers"]
    )
    assert after["notes"] == before["notes"] > 10 and after["paused"] and after["playing"] is None
    for key, words in ((HOME, "12 semitones too low"), (END, "12 semitones too high"), (LEFT, "11 semitones too high")):
        player.press(key)
        wait_for(words, lambda: words in player.js(STATE)["words"])
    assert player.complaints() == []


@needs_browser
def test_a_step_takes_less_than_100_ms(player):
    player.js(
        PART
        + """window.times = []; let t = 0;
        r.getElementById('shift').addEventListener('keydown', () => { t = performance.now() });
        const note = () => times.push(performance.now() - t);
        e.addEventListener('shown', () => requestAnimationFrame(() => setTimeout(note)))"""
    )
    for _ in range(7):
        player.press(RIGHT)
    times = wait_for("seven steps", lambda: (t := player.js("return times")) and len(t) >= 7 and sorted(t))
    assert times[3] < 100, times


@needs_browser
def test_piece_and_anchor(player):
    names = player.js(PART + "return [...r.getElementById('piece').options].map(o => o.text)")
    assert len(names) >= 4
    choose = PART + "const s = r.getElementById('piece'); s.value = arguments[0]; s.dispatchEvent(new Event('change'))"
    move = (
        PART + "const s = r.getElementById(arguments[0]); s.value = arguments[1]; s.dispatchEvent(new Event('input'))"
    )
    pictures = set()
    for name in names:
        player.js(choose, name)
        pictures.add(player.js(STATE)["right"])
        player.js(move, "shift", 7)
        player.js(move, "share", 0)
        free = player.js(STATE)
        player.js(move, "share", 10)
        anchored = player.js(STATE)
        assert anchored["numbers"] != free["numbers"] and anchored["words"].endswith("The objective is least at 0.")
        assert (
            player.js(
                PART
                + "return [...r.querySelectorAll('svg text')].filter(t => /NaN|undefined/.test(t.textContent)).length"
            )
            == 0
        )
    assert len(pictures) == len(names)
    assert player.complaints() == []


@needs_browser
def test_sounds_play_only_when_asked(player):
    assert player.js(STATE)["paused"]
    for name in ("recording", "transcribed", "rendered"):
        x, y = player.js(
            PART
            + f"const b = r.querySelector('[data-sound={name}]');"
            + "b.scrollIntoView({block: 'center', behavior: 'instant'});"
            + "const q = b.getBoundingClientRect(); return [q.x + q.width / 2, q.y + q.height / 2]"
        )
        player.click(x, y)
        wait_for(f"the sound {name}", lambda: (s := player.js(STATE))["playing"] == name and s["time"] > 0.05)
        assert 3 < player.js(PART + "return e.audio.duration") < 10
        player.click(x, y)
        wait_for("silence", lambda: (s := player.js(STATE))["paused"] and s["playing"] is None)
    assert player.complaints() == []


@needs_browser
def test_layout(player):
    """Nothing is cut off; two pictures of one width, beside each other where there is room, else stacked."""
    for width in WIDTHS:
        player.resize(width, scale=2)
        drawn = f"return innerWidth === {width} && e.width === e.clientWidth"
        wait_for(f"a width of {width}", lambda: player.js(PART + drawn))
        assert player.js(OVERFLOW) <= 0 and player.js(WIDEST) <= 0.5
        left, right = (player.js(PART + f"return r.getElementById('{side}').getBoundingClientRect()") for side in SIDES)
        assert left["width"] == pytest.approx(right["width"], abs=1) and left["width"] > 250
        assert (left["y"] == right["y"]) == (width > 560)
    assert player.complaints() == []


# ---- what the player knows -----------------------------------------------------------------------------------------

MEDIA = ROOT / "media"


def data_of(folder):
    """The player's data."""
    return json.loads((folder / "data.js").read_text(encoding="utf-8").removeprefix("window.COLLAPSE = ").rstrip(";\n"))


def test_the_player_is_small_and_whole():
    files = {f.name for f in (MEDIA / "collapse").iterdir()}
    assert sum(f.stat().st_size for f in (MEDIA / "collapse").iterdir()) < 3e6
    for piece in data_of(MEDIA / "collapse")["pieces"]:
        assert {piece["recording"], *piece["rendered"].values(), *piece["sounds"].values()} <= files
        assert len(piece["cycle"]) == len(piece["f1"]) == 25 and len(piece["pairs"]) == 21


def test_the_player_says_what_the_package_says(tmp_path):
    page = tool("collapse_page")
    stored = {p["name"]: p for p in data_of(MEDIA / "collapse")["pieces"]}
    for name, world in page.worlds().items():
        fresh, kept = page.piece(name, world, tmp_path), stored.pop(name)
        for key in ("cycle", "discriminator", "f1", "pairs"):
            assert [*map(list, [fresh[key]] if key != "pairs" else fresh[key])] == [
                pytest.approx(row, abs=2e-3) for row in ([kept[key]] if key != "pairs" else kept[key])
            ]
        assert fresh["transcribed"] == kept["transcribed"] and fresh["rendered"].keys() == kept["rendered"].keys()
        moved = [[on, off, pitch + 7] for on, off, pitch in kept["transcribed"] if pitch + 7 <= 108]
        assert sorted(moved) == sorted(page.triples(page.transcription(world, 7)))
    assert not stored


def test_the_moving_pictures():
    from PIL import Image

    gif, ways = Image.open(MEDIA / "collapse.gif"), Image.open(MEDIA / "five_ways.png")
    assert gif.n_frames > 15 and 650 <= gif.width <= 760 and (MEDIA / "collapse.gif").stat().st_size <= 1e6
    assert ways.width >= 1400 and (MEDIA / "five_ways.png").stat().st_size < 2e5


def test_the_site_does_not_depend_on_the_hour(tmp_path):
    """Two preparations of the same notebooks are the same files."""
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        site_tool.prepare(folder, ROOT)
    names = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(second) for p in second.rglob("*") if p.is_file())
    assert all((first / n).read_bytes() == (second / n).read_bytes() for n in names)
