"""The reader of pages on engraved scores, exact, straight and spoilt; what it refuses."""

from collections import Counter

import numpy as np
import pytest

from amt_nb.sheet.noteheads import read_page
from amt_nb.sheet.page_layout import filled_boxes
from amt_nb.sheet.page_score import octaves_in_words, page_score
from amt_nb.workshop.old_scans import scanned
from amt_nb.workshop.pages import FILLED
from amt_nb.workshop.settings import UserError

KERN = "**kern\t**kern\n*clefF4\t*clefG2\n*M4/4\t*M4/4\n=1\t=1\n{}*-\t*-\n"


@pytest.fixture(scope="module")
def engraved(tmp_path_factory):
    """(grey page, its true layout) of 24 bars of quarters in both hands."""
    engraving = pytest.importorskip("amt_nb.sheet.engraving")
    pytest.importorskip("verovio")
    rng = np.random.default_rng(0)
    bass, treble = ["C", "D", "E", "F", "G", "A", "B"], ["c", "d", "e", "f", "g", "a", "b"]
    bars = []
    for bar in range(24):
        notes = "".join(f"4{rng.choice(bass)}\t4{rng.choice(treble)}\n" for _ in range(4))
        bars.append(notes + f"={bar + 2}\t={bar + 2}\n")
    path = tmp_path_factory.mktemp("score") / "quarters.krn"
    path.write_text(KERN.format("".join(bars)))
    made = engraving.engrave(path)
    return engraving.page_image(made.drawings[0]), made.pages[0]


def steps_per_bar(layout):
    heads = layout.heads[layout.heads["kind"] == FILLED]
    inside = lambda bar: (heads["system"] == bar["system"]) & (heads["x"] >= bar["x0"]) & (heads["x"] < bar["x1"])
    return [sorted(heads["step"][inside(bar)].tolist()) for bar in layout.bars]


def turned(page, slope):
    rows, columns = np.indices(page.shape)
    y = np.round(rows - slope * (columns - page.shape[1] / 2)).astype(int)
    x = np.round(columns + slope * (rows - page.shape[0] / 2)).astype(int)
    inside = (y >= 0) & (y < page.shape[0]) & (x >= 0) & (x < page.shape[1])
    return np.where(inside, page[y % page.shape[0], x % page.shape[1]], 255).astype(np.uint8)


def shaded(page):
    return (page * np.linspace(0.45, 1, page.shape[1])).astype(np.uint8)


def bordered(page):
    out = page.copy()
    out[:, :20] = out[:, -15:] = 0
    return out


@pytest.mark.parametrize("spoilt", [lambda p: p, shaded, bordered])
def test_an_engraved_page_is_read_exactly(engraved, spoilt):
    page, truth = engraved
    found = read_page(spoilt(page))
    assert found.systems == truth.systems and len(found.staves) == len(truth.staves)
    assert found.bars["system"].tolist() == truth.bars["system"].tolist()
    assert steps_per_bar(found) == steps_per_bar(truth)


def test_an_engraved_page_turned_by_a_degree_keeps_its_bars_and_97_of_100_heads(engraved):
    page, truth = engraved
    found = read_page(turned(page, 0.015))
    assert found.bars["system"].tolist() == truth.bars["system"].tolist()
    both = [Counter(a) & Counter(b) for a, b in zip(steps_per_bar(found), steps_per_bar(truth))]
    assert sum(sum(c.values()) for c in both) >= 0.97 * max(len(truth.heads), len(found.heads))


def test_stems_broken_into_dashes_still_hold_their_heads(engraved):
    page, truth = engraved
    ink = page < 128
    wide = np.lib.stride_tricks.sliding_window_view(np.pad(ink, ((0, 0), (3, 3))), 4, axis=1).all(2)
    wide = np.any([wide[:, k : k + ink.shape[1]] for k in range(4)], axis=0)  # runs of four pixels and more
    thin = ink & ~wide
    for bar in truth.bars:
        for x in (int(bar["x0"]), int(bar["x1"])):
            thin[int(bar["y0"]) - 9 : int(bar["y1"]) + 9, max(0, x - 6) : x + 7] = False
    dashed = page.copy()
    dashed[thin & (np.arange(len(page)) % 5 < 2)[:, None]] = 255
    found = read_page(dashed)
    both = [Counter(a) & Counter(b) for a, b in zip(steps_per_bar(found), steps_per_bar(truth))]
    assert found.bars["system"].tolist() == truth.bars["system"].tolist()
    assert sum(sum(c.values()) for c in both) >= 0.97 * max(len(truth.heads), len(found.heads))


def test_bars_and_heads_lie_where_they_were_engraved(engraved):
    page, truth = engraved
    found = read_page(page)
    assert np.abs(found.bars["x1"] - truth.bars["x1"]).max() < 4
    order = lambda heads: np.sort(heads, order=("system", "staff", "x"))
    read, drawn = order(found.heads), order(truth.heads)
    assert len(read) == len(drawn) and np.abs(read["x"] - drawn["x"]).max() < 3
    assert np.abs(read["y"] - drawn["y"]).max() < 2


ENDINGS = "**kern\t**kern\n*clefF4\t*clefG2\n*k[f#c#g#]\t*k[f#c#g#]\n*M2/4\t*M2/4\n{}*-\t*-\n"


def repeated(path, seed):
    """A piece of sixteen bars, each four of them repeated (the last with first and second endings), written to `path`."""
    rng, lines = np.random.default_rng(seed), []
    signs = {1: "!|:", 5: ":|!|:", 9: ":|!|:", 13: ":|!|:", 16: ":|!"}
    for bar in range(1, 17):
        sign = signs.get(bar, "")
        lines.append("\t".join([f"={bar}{sign}"] * 2) + "\n")
        lines += {13: ["*>A\t*>A\n"], 15: ["*>1\t*>1\n"], 16: ["*>2\t*>2\n"]}.get(bar, [])
        lines += ["\t".join(f"8{rng.choice(list(letters))}" for letters in ("CDEFGAB", "cdefgab")) + "\n"] * 4
    path.write_text(ENDINGS.format("".join(lines) + "==\t==\n"))
    return path


def thickened(page, layout):
    """The page with repeat lines a staff space and more wide, as in some old prints."""
    out = page.copy()
    for sign in layout.signs[np.isin(layout.signs["kind"], ["repeat_start", "repeat_end"])]:
        bar = layout.bars[layout.bars["system"] == sign["system"]][0]
        x, rows = int(sign["x"]), slice(int(bar["y0"]), int(bar["y1"]) + 1)
        out[rows, x - 5 : x + 5] = 0
    return out


def repeat_places(layout, kind):
    return layout.signs[layout.signs["kind"] == kind]["x"]


@pytest.mark.parametrize("font", ["Leipzig", "Bravura", "Leland", "Petaluma", "Gootville"])
def test_repeat_signs_are_read_in_every_font_and_mostly_on_old_scans(font, tmp_path):
    engraving = pytest.importorskip("amt_nb.sheet.engraving")
    pytest.importorskip("verovio")
    made = engraving.engrave(repeated(tmp_path / "endings.krn", 0), engraving.PageStyle(font=font))
    page, truth = engraving.page_image(made.drawings[0]), made.pages[0]
    thick = thickened(page, truth)  # covers what is at the right of a line
    for picture, layout, least in ((page, truth, (4, 4)), (*scanned(page, truth, 1), (3, 3)), (thick, truth, (0, 4))):
        found = read_page(picture)
        assert abs(len(found.bars) - len(layout.bars)) <= (layout is not truth)
        for kind, fewest in zip(("repeat_start", "repeat_end"), least):
            theirs, ours = (repeat_places(one, kind) for one in (layout, found))
            near = np.abs(ours[:, None] - theirs) < 27  # the width of a sign
            assert near.any(0).sum() >= fewest and near.any(1).all()


def test_a_page_without_staves_is_empty():
    title = np.full((400, 300), 255, np.uint8)
    title[50:60, 80:220] = title[100:104, 100:200] = 0
    for page in (np.full((400, 300), 255, np.uint8), title):
        assert read_page(page).systems == 0


@pytest.mark.parametrize(
    "page, line", [(np.zeros((3, 100, 100)), "one grey picture"), (np.zeros((5, 100), np.uint8), "64 x 64")]
)
def test_what_is_no_page_is_refused(page, line):
    with pytest.raises(UserError, match=line) as error:
        read_page(page)
    assert "\n" not in str(error.value)


def test_a_page_on_its_side_and_a_small_one_are_refused(engraved):
    page, _ = engraved
    with pytest.raises(UserError, match="on its side"):
        read_page(np.rot90(page))
    small = page[: len(page) // 2 * 2, : page.shape[1] // 2 * 2].reshape(len(page) // 2, 2, -1, 2).mean((1, 3))
    with pytest.raises(UserError, match="pixels apart"):
        read_page(small)


def test_noise_is_no_music():
    noise = np.random.default_rng(0).integers(0, 255, (400, 300), np.uint8)
    with pytest.raises(UserError, match="not music") as error:
        read_page(noise)
    assert "\n" not in str(error.value)


def test_filled_boxes_are_those_that_a_plain_search_finds():
    rng = np.random.default_rng(0)
    for _ in range(40):
        ink = rng.random(rng.integers(2, 25, 2)) < rng.choice([0.5, 0.9, 0.97])
        h, w = (int(n) for n in rng.integers(1, 12, 2))
        expected = np.zeros_like(ink)
        for r in range(ink.shape[0] - h + 1):
            for c in range(ink.shape[1] - w + 1):
                if ink[r : r + h, c : c + w].all():
                    expected[max(0, r - 2) : r + h + 2, max(0, c - 2) : c + w + 2] = True
        assert (filled_boxes(ink, h, w) == expected).all()


ENDINGS = """**kern\t**kern
*>[A,A1,A,A2]\t*>[A,A1,A,A2]
*clefF4\t*clefG2
*M4/4\t*M4/4
*>A\t*>A
=1\t=1
{0}=2\t=2
{0}=3\t=3
*>A1\t*>A1
{0}=4:|!\t=4:|!
*>A2\t*>A2
{0}=5\t=5
{0}==\t==
*-\t*-
"""


@pytest.mark.parametrize("font", ["Leipzig", "Petaluma"])
def test_the_bracket_of_a_first_ending_is_read_and_leads_to_the_second(tmp_path, font):
    engraving = pytest.importorskip("amt_nb.sheet.engraving")
    pytest.importorskip("verovio")
    path = tmp_path / "twice.krn"
    path.write_text(ENDINGS.format("".join(f"4C\t4{note}\n" for note in "cegb")))
    made = engraving.engrave(path, engraving.PageStyle(font=font))
    found = read_page(engraving.page_image(made.drawings[0]))
    for kind in ("ending_1", "ending_2", "repeat_end"):
        drawn, read = (page.signs["x"][page.signs["kind"] == kind] for page in (made.pages[0], found))
        assert len(read) == len(drawn) == 1 and abs(read[0] - drawn[0]) < 15, kind
    assert page_score([found]).jumps == page_score(made.pages).jumps == ((1, 3), (2, 0))


def under_octave_lines(path, bars=24, seed=0):
    """Random quarters written to `path`: 8va over bars 3 and 4, 11 to 15 (of two systems) and 20, 8vb under 6 and 7, and 18."""
    rng, lines = np.random.default_rng(seed), ["**kern\t**kern", "*clefF4\t*clefG2", "*M4/4\t*M4/4"]
    begins = {3: "*\t*8va", 11: "*\t*8va", 20: "*\t*8va", 6: "*8ba\t*", 18: "*8ba\t*"}
    ends = {4: "*\t*X8va", 15: "*\t*X8va", 20: "*\t*X8va", 7: "*X8ba\t*", 18: "*X8ba\t*"}
    for bar in range(1, bars + 1):
        lines += [begins[bar]] if bar in begins else []
        lines += [f"={bar}\t={bar}"]
        high, low = bar in (3, 4, 20) or 11 <= bar <= 15, bar in (6, 7, 18)
        for _ in range(4):
            lines.append(f"4{'CDEFGAB'[rng.integers(7)] * (1 + low)}\t4{'cdefgab'[rng.integers(7)] * (1 + 2 * high)}")
        lines += [ends[bar]] if bar in ends else []
    path.write_text("\n".join([*lines, "==\t==", "*-\t*-", ""]))
    return path


def octave_lines(layout):
    """[(system, staff, kind, x)] of the ends of a layout's octave lines, sorted."""
    signs = layout.signs[np.char.startswith(layout.signs["kind"], "ottava")]
    return sorted((int(s["system"]), int(s["staff"]), str(s["kind"]), float(s["x"])) for s in signs)


@pytest.mark.parametrize("space", [8.0, 9.0, 10.0])
@pytest.mark.parametrize("font", ["Leipzig", "Bravura", "Leland", "Petaluma", "Gootville"])
def test_octave_lines_and_the_steps_under_them_are_read_in_every_font(font, space, tmp_path):
    engraving = pytest.importorskip("amt_nb.sheet.engraving")
    pytest.importorskip("verovio")
    made = engraving.engrave(under_octave_lines(tmp_path / "eights.krn"), engraving.PageStyle(font=font, space=space))
    found, truth = read_page(engraving.page_image(made.drawings[0])), made.pages[0]
    read, drawn = octave_lines(found), octave_lines(truth)
    assert [one[:3] for one in read] == [one[:3] for one in drawn] and len(drawn) == 12
    assert max(abs(a[3] - b[3]) for a, b in zip(read, drawn)) < 1.5 * space
    both = [Counter(a) & Counter(b) for a, b in zip(steps_per_bar(found), steps_per_bar(truth))]
    assert sum(c.total() for c in both) == len(truth.heads) >= len(found.heads) - 4  # figures of the time signature
    assert octaves_in_words(page_score([found])) == octaves_in_words(page_score([truth]))
    assert octaves_in_words(page_score([truth]))[0] == "8va: an octave higher on staff 1 in bars 3 to 4, 11 to 15, 20"


@pytest.mark.parametrize("seed", range(4))
def test_on_old_scans_most_octave_lines_are_read_and_none_is_false(seed, tmp_path):
    engraving = pytest.importorskip("amt_nb.sheet.engraving")
    pytest.importorskip("verovio")
    style = engraving.PageStyle(font="Leland", space=11.0)
    made = engraving.engrave(under_octave_lines(tmp_path / "eights.krn"), style)
    page, truth = scanned(engraving.page_image(made.drawings[0]), made.pages[0], seed)
    begins = lambda layout: Counter(line[:3] for line in octave_lines(layout) if line[2] != "ottava_end")
    read, drawn = begins(read_page(page)), begins(truth)
    assert not read - drawn and (read & drawn).total() >= 0.7 * drawn.total()


OTHERS = """<?xml version="1.0"?><score-partwise version="3.1"><part-list><score-part id="P"><part-name/></score-part></part-list>
<part id="P">{}</part></score-partwise>"""
FIRST = """<attributes><divisions>1</divisions><time><beats>4</beats><beat-type>4</beat-type></time>
<clef><sign>G</sign><line>2</line></clef></attributes>"""
START = """<direction placement="below"><direction-type><wedge type="crescendo"/></direction-type></direction>
<direction placement="above"><direction-type><words>cresc.</words></direction-type></direction>
<direction placement="above"><direction-type><dashes type="start"/></direction-type></direction>
<direction placement="below"><direction-type><pedal type="start" line="yes"/></direction-type></direction>"""
STOP = """<direction><direction-type><wedge type="stop"/></direction-type></direction>
<direction><direction-type><dashes type="stop"/></direction-type></direction>
<direction><direction-type><pedal type="stop" line="yes"/></direction-type></direction>"""
ORNAMENTS = """<ornaments><trill-mark/><wavy-line type="start"/></ornaments><slur type="start" number="1"/>"""
WAVY = """<ornaments><wavy-line type="stop"/></ornaments><slur type="stop" number="1"/>"""


def measure(number, rng):
    """A measure of MusicXML with a trill, a slur, a wedge, dashes and a pedal line from its first note to its last."""
    text = f'<measure number="{number}">' + FIRST * (number == 1) + START
    for k in range(4):
        marks = {0: ORNAMENTS, 3: WAVY}.get(k, "")
        step, octave = "CDEFGAB"[rng.integers(7)], 4 + rng.integers(2)
        text += STOP * (k == 3)
        text += f"<note><pitch><step>{step}</step><octave>{octave}</octave></pitch><duration>1</duration><type>quarter</type>"
        text += f"<notations>{marks}</notations></note>" if marks else "</note>"
    return text + "</measure>"


@pytest.mark.parametrize("font", ["Leipzig", "Bravura", "Leland", "Petaluma", "Gootville"])
def test_trills_hairpins_slurs_dashes_and_pedal_lines_are_no_octave_lines(font, tmp_path):
    engraving = pytest.importorskip("amt_nb.sheet.engraving")
    pytest.importorskip("verovio")
    rng = np.random.default_rng(0)
    path = tmp_path / "others.musicxml"
    path.write_text(OTHERS.format("".join(measure(n, rng) for n in range(1, 17))))
    made = engraving.engrave(path, engraving.PageStyle(font=font))
    drawn = "".join(made.drawings)
    assert all(f'class="{name}' in drawn for name in ("trill", "hairpin", "slur", "pedal", "dynam"))
    for drawing in made.drawings:
        page = engraving.page_image(drawing)
        for picture in (page, scanned(page, made.pages[0], 1)[0]):
            assert octave_lines(read_page(picture)) == []


SONGS = {"dichterliebe_no2": [0], "prayer_of_a_tired_child": [1]}  # three staves; voices without bar lines between them


@pytest.mark.parametrize("font", ["Leipzig", "Bravura"])
@pytest.mark.parametrize("name", list(SONGS))
def test_staves_of_singers_belong_to_the_system_whose_line_they_hang_on(name, font):
    engraving = pytest.importorskip("amt_nb.sheet.engraving")
    pytest.importorskip("verovio")
    from amt_nb.sheet.page_corpus import music21_folder

    made = engraving.engrave(next(music21_folder().rglob(f"{name}.*")), engraving.PageStyle(font=font))
    for page in SONGS[name]:
        found, true = read_page(engraving.page_image(made.drawings[page])), made.pages[page]
        assert (found.systems, len(found.bars)) == (true.systems, len(true.bars))
