"""Engraved pages: heads on ink and on their staff step, bars on bar lines, counts and times of the score, scans whose truth moves along."""

import re

import numpy as np
import pytest

pytest.importorskip("verovio")
pytest.importorskip("resvg_py")

from amt_nb.sheet.engraving import FONTS, Engraving, PageStyle, engrave, page_image, read_to_engrave
from amt_nb.sheet.page_corpus import chorale_sources, drawn_style, keyboard_sources, make_pages, read_corpus_page
from amt_nb.workshop.old_scans import ScanConfig, drawn_bend, scanned
from amt_nb.workshop.pages import FILLED, staff_line_y
from amt_nb.workshop.settings import UserError

HEADER = "**kern\t**kern\n*clefF4\t*clefG2\n*M4/4\t*M4/4\n"
SOURCES = {s.path.stem: s.path for s in keyboard_sources()}


def kern(tmp_path, *lines):
    path = tmp_path / "score.krn"
    path.write_text(HEADER + "\n".join(line.replace(" ", "\t") for line in lines) + "\n*-\t*-\n")
    return path


@pytest.fixture(scope="module", params=["mazurka06-2", "maple_leaf_rag"])
def piece(request) -> Engraving:
    return engrave(SOURCES[request.param])


def test_heads_are_on_ink_in_every_font():
    for k, font in enumerate(FONTS):
        found = engrave(SOURCES["polonaise_op1n4"], PageStyle(font=font, space=7.5 + k))
        image, heads = page_image(found.drawings[0]), found.pages[0].heads
        filled = heads[(heads["kind"] == FILLED) & ~heads["grace"]]
        at = image[np.round(filled["y"]).astype(int), np.round(filled["x"]).astype(int)]
        assert len(filled) > 50 and (at < 64).all(), font
        out = image[np.round(filled["y"] - 0.9 * (7.5 + k)).astype(int), np.round(filled["x"]).astype(int)]
        assert np.median(out) > 128, font  # the head ends where it should


def steps_from_bottom(page):
    "Half spaces of each head above the lowest line of its staff."
    staves = {(int(s["system"]), int(s["staff"])): s for s in page.staves}
    own = np.array([staves[int(h["system"]), int(h["staff"])] for h in page.heads], page.staves.dtype)
    top, bottom = staff_line_y(own, page.heads["x"])
    return (bottom - page.heads["y"]) / ((bottom - top) / 8)


def test_heads_lie_on_their_staff_step(piece):
    """Between two clefs of a staff, the distance from step to place is one whole number: that of the clef."""
    for page in piece.pages:
        steps = steps_from_bottom(page)
        assert np.abs(steps - steps.round()).max() < 0.2  # of half a space: a tenth of a space
        offsets = (page.heads["step"] - steps.round()).astype(int)
        assert set(offsets.tolist()) <= {30, 18}  # e4 and g2 are the lowest lines of treble and bass


def test_clefs_say_which_step_it_is(piece):
    lowest = {"clef_treble": 30, "clef_bass": 18}
    for page in piece.pages:
        steps = page.heads["step"] - steps_from_bottom(page).round()
        for head, offset in zip(page.heads, steps):
            signs = page.signs[(page.signs["system"] == head["system"]) & (page.signs["staff"] == head["staff"])]
            clefs = signs[(signs["x"] < head["x"]) & np.char.startswith(signs["kind"], "clef")]
            assert lowest[str(clefs["kind"][clefs["x"].argmax()])] == offset


def test_bars_end_on_bar_lines(piece):
    """Two spaces are a repeat's lines and dots; at the end of a system a repeat that begins draws none."""
    for page, drawing in zip(piece.pages, piece.drawings):
        image = page_image(drawing)
        for bar in page.bars:
            x, rows = round(float(bar["x1"])), slice(round(float(bar["y0"])) + 1, round(float(bar["y1"])))
            last = bar["x1"] == page.bars["x1"][page.bars["system"] == bar["system"]].max()
            assert image[rows, x - 20 : x + 10].mean(0).min() < 120 or last, bar
            assert abs(bar["y0"] - page.staves["y_top"][page.staves["system"] == bar["system"]].min()) < 0.1
            if last:
                assert abs(bar["x1"] - page.staves["x1"][page.staves["system"] == bar["system"]].max()) < 0.1


def test_counts_are_the_score_s(piece):
    name = next(s for s, p in SOURCES.items() if len(engrave(p).played) == len(piece.played))
    _, written = read_to_engrave(SOURCES[name])
    heads = np.concatenate([p.heads for p in piece.pages])
    assert piece.unread == 0 and (~heads["grace"]).sum() == len(written.notes)
    assert sum(len(p.bars) for p in piece.pages) == len(set(np.concatenate(piece.measures).tolist()))
    assert [p.bars["bar"].tolist() for p in piece.pages] == [list(range(len(p.bars))) for p in piece.pages]
    assert not np.isnan(piece.played["quarter"]).any() and (np.diff(piece.played["quarter"]) >= 0).all()


def test_a_pitch_is_its_step_and_alteration(piece):
    for page, notes in zip(piece.pages, piece.notes):
        white = np.array([0, 2, 4, 5, 7, 9, 11])[page.heads["step"] % 7] + 12 * (page.heads["step"] // 7 + 1)
        assert (white + page.heads["alter"] == notes["pitch"]).all()


def test_played_is_what_our_reader_plays():
    """Every onset of the score, repeats played, has a head, and no head is played when the score is silent."""
    from amt_nb.workshop.scores import read_score

    for path in (SOURCES["maple_leaf_rag"], SOURCES["mazurka06-2"]):
        found, score = engrave(path), read_score(path)
        grace = np.array([found.pages[p].heads["grace"][h] for p, h in zip(found.played["page"], found.played["head"])])
        pitch = np.array([found.notes[p]["pitch"][h] for p, h in zip(found.played["page"], found.played["head"])])
        ours = sorted(zip(found.played["quarter"][~grace].round(3).tolist(), pitch[~grace].tolist()))
        theirs = sorted(zip(score.layout["onset"].round(3).tolist(), score.notes["pitch"].tolist()))
        assert set(ours) == set(theirs)


def test_sections_of_kern_are_unfolded(tmp_path):
    lines = ("*>[A,A,B,A] *>[A,A,B,A]", "*>A *>A", "=1 =1", "1C 1c", "*>B *>B", "=2 =2", "1D 1d", "== ==")
    found = engrave(kern(tmp_path, *lines))
    pitch = [int(found.notes[p]["pitch"][h]) for p, h in zip(found.played["page"], found.played["head"])]
    assert found.played["quarter"].tolist() == [0, 0, 4, 4, 8, 8, 12, 12]
    assert sorted(pitch[:2]) == sorted(pitch[2:4]) == sorted(pitch[6:]) == [48, 60] and sorted(pitch[4:6]) == [50, 62]
    assert found.played["pass"].tolist() == [0, 0, 1, 1, 0, 0, 2, 2]


def test_line_breaks_of_the_print_are_honoured(tmp_path):
    bars = [text for n in range(1, 10) for text in (f"={n} ={n}", "1C 1c")]
    for at in (16, 6, 2):
        bars.insert(at, "!!LO:LB:g=original")
    path = kern(tmp_path, *bars, "== ==")
    own = engrave(path, PageStyle(own_breaks=True)).pages[0]
    free = engrave(path).pages[0]
    counts = np.bincount(own.bars["system"])
    assert counts.tolist() == [1, 2, 5, 1] and free.systems < own.systems


def test_grace_notes_sound_with_the_note_they_lean_on(tmp_path):
    found = engrave(kern(tmp_path, "=1 =1", "2C 2c", ". 8eq", "2C 2d", "== =="))
    heads, notes = found.pages[0].heads, found.notes[0]
    assert heads["grace"].sum() == 1 and notes["quarter"][heads["grace"]] == 2
    assert sorted(notes["quarter"][~heads["grace"]].tolist()) == [0, 0, 2, 2]  # not late behind it


def test_a_tie_is_struck_once(tmp_path):
    found = engrave(kern(tmp_path, "=1 =1", "1C [1c", "=2 =2", "1C 1c]", "== =="))
    assert found.pages[0].heads["onset"].tolist().count(False) == 1 and len(found.played) == 3


def test_an_octave_sign_is_heard_through(tmp_path):
    """In MusicXML the pitch is the one that sounds; the head is drawn an octave lower."""
    note = "<note><pitch><step>C</step><octave>6</octave></pitch><duration>4</duration><type>whole</type></note>"
    shift = '<direction><direction-type><octave-shift type="{}" size="8"/></direction-type></direction>'
    path = tmp_path / "octave.musicxml"
    path.write_text(
        '<score-partwise><part-list><score-part id="P1"><part-name/></score-part></part-list><part id="P1"><measure '
        'number="1"><attributes><divisions>1</divisions><clef><sign>G</sign><line>2</line></clef></attributes>'
        f'{shift.format("down")}{note}{shift.format("stop")}</measure><measure number="2">{note}</measure></part>'
        "</score-partwise>"
    )
    found = engrave(path)
    heads = found.pages[0].heads
    assert heads["step"].tolist() == [42, 42] and found.notes[0]["pitch"].tolist() == [84, 84] and found.unread == 0
    assert steps_from_bottom(found.pages[0]).round().tolist() == [5, 12]


def test_a_head_belongs_to_the_staff_it_crosses_to(tmp_path):
    text = (
        '<score-partwise><part-list><score-part id="P1"><part-name/></score-part></part-list><part id="P1"><measure '
        'number="1"><attributes><divisions>1</divisions><staves>2</staves><clef number="1"><sign>G</sign><line>2</line>'
        '</clef><clef number="2"><sign>F</sign><line>4</line></clef></attributes>{}</measure></part></score-partwise>'
    )
    note = "<note><pitch><step>{}</step><octave>{}</octave></pitch><duration>2</duration><voice>1</voice><type>half</type><staff>{}</staff></note>"
    path = tmp_path / "cross.musicxml"
    path.write_text(text.format(note.format("E", 5, 1) + note.format("C", 3, 2)))
    page = engrave(path).pages[0]
    assert page.heads["staff"].tolist() == [0, 1] and steps_from_bottom(page).round().tolist() == [7, 3]


def test_three_staves_make_one_system():
    found = engrave(SOURCES["Lindenbaum"])
    for page in found.pages:
        assert set(np.bincount(page.staves["system"])) == {3}
        steps = steps_from_bottom(page)
        assert np.abs(steps - steps.round()).max() < 0.2


def test_signs_are_where_they_are_drawn(piece):
    kinds = np.concatenate([p.signs["kind"] for p in piece.pages])
    ends = [(p, s) for p in piece.pages for s in p.signs[p.signs["kind"] == "repeat_end"]]
    assert ends and abs((kinds == "ending_1").sum() - (kinds == "ending_2").sum()) <= 1
    for page, sign in ends:
        assert np.abs(page.bars["x1"][page.bars["system"] == sign["system"]] - sign["x"]).min() < 0.1


def test_an_engraving_is_a_function_of_its_style(piece):
    again = engrave(SOURCES["maple_leaf_rag"]), engrave(SOURCES["maple_leaf_rag"])
    assert again[0].drawings == again[1].drawings
    assert all(np.array_equal(a.heads, b.heads) for a, b in zip(again[0].pages, again[1].pages))
    assert np.array_equal(page_image(again[0].drawings[0]), page_image(again[1].drawings[0]))


@pytest.mark.parametrize("seed", range(6))
def test_heads_stay_on_ink_on_old_scans(piece, seed):
    image, truth = scanned(page_image(piece.drawings[0]), piece.pages[0], seed)
    filled = truth.heads[(truth.heads["kind"] == FILLED) & ~truth.heads["grace"]]
    at = image[np.round(filled["y"]).astype(int), np.round(filled["x"]).astype(int)]
    assert (at < 128).mean() > 0.98 and len(truth.bars) == len(piece.pages[0].bars)


@pytest.mark.parametrize("seed", range(20))
def test_there_and_back_is_a_tenth_of_a_pixel(seed):
    bend = drawn_bend(1240, 1700, np.random.default_rng(seed), ScanConfig(tilt_deg=2, warp_px=8))
    x, y = np.random.default_rng(seed).uniform(0, 1240, (2, 500))
    u, v = bend.target(*bend.source(x, y))
    assert np.hypot(u - x, v - y).max() < 0.1


def test_heads_keep_their_step_when_the_page_bends(piece):
    """Against the bent staff itself: the lines of a head's staff, moved where the head is."""
    page = piece.pages[0]
    bend = drawn_bend(page.width, page.height, np.random.default_rng(3), ScanConfig(tilt_deg=1.5, warp_px=6))
    staves = {(int(s["system"]), int(s["staff"])): s for s in page.staves}
    own = np.array([staves[int(h["system"]), int(h["staff"])] for h in page.heads], page.staves.dtype)
    lines = [bend.target(page.heads["x"], line)[1] for line in staff_line_y(own, page.heads["x"])]
    heads = bend.target(page.heads["x"], page.heads["y"])[1]
    steps = (lines[1] - heads) / ((lines[1] - lines[0]) / 8)
    assert np.abs(steps - steps.round()).max() < 0.2


def test_pages_of_a_corpus_are_made_once_and_alike(tmp_path):
    sources = chorale_sources(2)
    first = make_pages(sources, tmp_path / "a", seed=3, workers=1)
    again = make_pages(sources, tmp_path / "b", seed=3, workers=2)
    assert [p.name for p in first] == [p.name for p in again]
    for one, other in zip(first, again):
        (a, page, notes, piece), (b, *_) = read_corpus_page(one), read_corpus_page(other)
        assert np.array_equal(a, b) and len(notes) == len(page.heads) and piece in {s.piece for s in sources}
    assert drawn_style(1) != drawn_style(2)


@pytest.mark.parametrize(
    "name, data, said",
    [
        ("a.pdf", b"%PDF", "what is engraved ends in"),
        ("a.krn", b"", "no column at all"),
        ("a.krn", b"**kern\n4r\n*-\n", "has no note"),
        ("a.musicxml", b"<html/>", "a.musicxml"),
        ("a.musicxml", b"", "is empty"),
    ],
)
def test_what_is_no_score_is_one_line(tmp_path, name, data, said):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=re.escape(said)) as refused:
        engrave(tmp_path / name)
    assert "\n" not in str(refused.value)


def test_unknown_fonts_and_sizes_are_one_line(tmp_path):
    for given, said in (
        ({"font": "Braavura"}, "did you mean 'Bravura'"),
        ({"space": 40}, "staff space of 40"),
        ({"width": 100}, "no room"),
    ):
        with pytest.raises(UserError, match=said):
            PageStyle(**given)
    with pytest.raises(UserError, match="does not exist"):
        engrave(tmp_path / "none.krn")
