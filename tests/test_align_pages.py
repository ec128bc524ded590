"""Recordings on pages: orders of bars, other pieces, bad inputs, the command line on engraved pages, the page-turner in a browser."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile

pytest.importorskip("PIL")
pytest.importorskip("pypdfium2")

from browser import HOME, RIGHT, Tab, needs_browser, wait_for
from PIL import Image

from amt_nb.notes import as_notes
from amt_nb.sheet import align_pages
from amt_nb.sheet.align_pages import FITS_FROM, bar_cells, bars_again, follow_pages, lost, page_jumps, pages_in_words
from amt_nb.sheet.align_pages import played_bars
from amt_nb.sheet.bar_path import PagePathConfig, in_bars_of, jump_penalties
from amt_nb.sheet.page_score import FIRST_STEP, key_of, page_score
from amt_nb.sheet.second_look import allowed, calmer, in_own_time, passed_at, stretched
from amt_nb.workshop.cli import main
from amt_nb.workshop.page_files import MOST_PAGES, read_pages
from amt_nb.workshop.page_turner import Turner, mp3_of, page_turner, png_of
from amt_nb.workshop.pages import BAR, HEAD, SIGN, STAFF, PageLayout, empty_page, page_table
from amt_nb.workshop.same_bars import read_bars, same_bars
from amt_nb.workshop.settings import UserError
from amt_nb.workshop.synth import render

BAR_FRAMES = 80


def made_page(rng, systems=4, per_system=4):
    """A page of random music, the steps of each bar's six heads, and its signs: none."""
    staves, bars, heads, music = [], [], [], []
    for system in range(systems):
        top = 60 + 140 * system
        staves += [(system, s, 40, 640, top + 60 * s, top + 60 * s + 32, 0) for s in range(2)]
        for k in range(per_system):
            x0 = 40 + 150 * k
            bars.append((system, len(bars), x0, top, x0 + 150, top + 92))
            right, left = rng.integers(28, 40, 4), rng.integers(16, 27, 2)
            music.append([(q, s) for q, s in enumerate(right)] + [(2 * q, s) for q, s in enumerate(left)])
            heads += [
                (system, 0, x0 + 30 + 30 * q, top + 32 - 4 * (s - 30), s, 9, 0, True, False)
                for q, s in enumerate(right)
            ]
            heads += [
                (system, 1, x0 + 30 + 60 * q, top + 92 - 4 * (s - 18), s, 9, 0, True, False) for q, s in enumerate(left)
            ]
    return PageLayout(700, 640, *map(page_table, (STAFF, BAR, HEAD, SIGN), (staves, bars, heads, []))), music


def heard(music, order, rng, missed=0.1):
    """Probabilities (T, 88), twice, of the bars in `order`, with some notes missed and others added."""
    frames = np.full((len(order) * BAR_FRAMES, 88), 0.02)
    onsets = frames.copy()
    for i, bar in enumerate(order):
        for q, step in music[bar]:
            if rng.random() > missed:
                at, key = i * BAR_FRAMES + q * BAR_FRAMES // 4, int(key_of(step))
                onsets[at, key], frames[at : at + 20, key] = 0.8, 0.8
        onsets[rng.integers(i * BAR_FRAMES, (i + 1) * BAR_FRAMES), rng.integers(20, 70)] = 0.8
    return frames, onsets


ORDERS = {
    "as written": [*range(16)],
    "first half twice": [*range(8), *range(16)],
    "da capo": [*range(16), *range(6)],
    "a cut": [*range(5), *range(11, 16)],
    "from the middle": [*range(6, 16)],
    "back twice": [*range(10), *range(4, 12), *range(8, 16)],
    "four times, the last with a cut": [*range(16)] * 3 + [*range(5), *range(11, 16)],
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_any_order_of_bars_is_followed(order):
    rng = np.random.default_rng(len(order))
    page, music = made_page(rng)
    found = follow_pages(*heard(music, order, rng), page_score([empty_page(700, 640), page, empty_page(700, 640)]))
    bars = played_bars(found)
    middle = (np.arange(len(order)) + 0.5) * BAR_FRAMES / 50
    at = bars["bar"][np.searchsorted(bars["recording_s"], middle) - 1]
    assert np.mean(at == order) > 0.95
    jumps = [(a + 1, b + 1) for a, b in zip(order, order[1:]) if b != a + 1]
    assert [(j["from_bar"], j["to_bar"]) for j in page_jumps(found)] == jumps
    assert pages_in_words(found)[0] == "on pages 1 and 3 no music was found" and found.mean_confidence > 0.8


@pytest.mark.parametrize("order", ["as written", "back twice"])
def test_where_the_first_path_is_lost_the_networks_is_taken(order, monkeypatch):
    rng, order = np.random.default_rng(5), ORDERS[order]
    page, music = made_page(rng)
    rolls, score, honest = heard(music, order, rng), page_score([page]), align_pages.page_path

    def astray(*asked):
        path, jumped, cells, reading = honest(*asked)
        return 0 * path, 0 * jumped, cells, reading

    monkeypatch.setattr(align_pages, "LOOKS", 0)
    monkeypatch.setattr(align_pages, "page_path", astray)

    def right():
        bars, middle = played_bars(follow_pages(*rolls, score)), (np.arange(len(order)) + 0.5) * BAR_FRAMES / 50
        at = np.searchsorted(bars["recording_s"], middle) - 1
        return np.mean(bars["bar"][at] == order) if len(bars) else 0.0

    assert right() > 0.95
    monkeypatch.setattr(align_pages, "surer", lambda best, other: False)
    assert right() < 0.5


def test_a_path_that_creeps_does_not_say_how_long_a_bar_lasts(monkeypatch):
    rng = np.random.default_rng(4)
    page, music = made_page(rng)
    rolls, score, honest = heard(music, [*range(16)] * 2, rng), page_score([page]), align_pages.bar_path

    def creeping(a, readings, per_bar, *rest):
        path, jumped, worth = honest(a, readings, per_bar, *rest)
        return (path // 6, 0 * jumped, 9 * worth) if per_bar > 20 else (path, jumped, worth)

    monkeypatch.setattr(align_pages, "bar_path", creeping)
    assert 14 < bar_cells(rolls, score, 4, 0.4) < 26  # true: 20
    monkeypatch.setattr(align_pages, "LENGTHS", np.array([2.0, 2.5]))
    assert bar_cells(rolls, score, 4, 0.4) > 3 * BAR_FRAMES / 4  # where all creep, the one worth most is taken


def joined(music, bars, bar_frames, rng):
    """`heard`, each of `bars` lasting so many frames."""
    ends = np.r_[0, np.cumsum(bar_frames)]
    whole = heard(music, bars, rng, missed=0.0)
    at = np.interp(np.arange(ends[-1]), ends, BAR_FRAMES * np.arange(len(ends))).astype(int)
    frames, onsets = whole[0][at], np.full((ends[-1], 88), 0.02)
    for t, key in np.argwhere(whole[1] > 0.5):
        onsets[int(np.interp(t, BAR_FRAMES * np.arange(len(ends)), ends)), key] = 0.8
    return frames, onsets


@pytest.mark.parametrize("seed", range(3))
def test_a_middle_part_at_three_times_the_tempo_is_followed(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    made = [made_page(rng) for _ in range(3)]
    score, music = page_score([page for page, _ in made]), [bar for _, some in made for bar in some]
    lasts = np.array([BAR_FRAMES] * 16 + [BAR_FRAMES // 3] * 16 + [BAR_FRAMES] * 16)
    rolls, middle = joined(music, range(48), lasts, rng), (np.cumsum(lasts) - lasts / 2) / 50

    def right():
        bars = played_bars(follow_pages(*rolls, score))
        return np.mean(bars["bar"][np.searchsorted(bars["recording_s"], middle) - 1] == np.arange(48))

    assert right() > 0.95
    monkeypatch.setattr(align_pages, "more_needed", lambda jumps, before: np.inf)  # no evidence is enough
    assert right() < 0.9


def test_a_recording_at_an_even_pace_is_not_changed():
    rng = np.random.default_rng(0)
    roll, path, jumped = rng.random((1001, 88)), np.cumsum(rng.integers(0, 3, 251)), rng.random(251) < 0.05
    passed = passed_at(np.ones(1001))
    assert (stretched(roll, passed) == roll).all()
    own, leaps = in_own_time(path, jumped, 4, passed)
    assert (own == path).all() and (leaps == jumped).all()


@pytest.mark.parametrize("pace", [0.25, 0.7, 1.0, 1.9, 4.0])
def test_no_onset_and_no_jump_is_lost_by_stretching(pace):
    rng = np.random.default_rng(int(10 * pace))
    onsets = rng.random((1200, 88)) < 0.002
    passed = passed_at(np.r_[np.ones(400), np.full(400, pace), np.ones(400)])
    there = stretched(onsets.astype(np.float32), passed)
    assert len(there) == round(800 + 400 * pace)
    for t, key in np.argwhere(onsets):
        assert there[max(0, int(passed[t]) - 1) : int(passed[t + 1]) + 2, key].any()
    n = -(-len(there) // 4)
    own, leaps = in_own_time(np.arange(n), np.arange(n) % 50 == 25, 4, passed)
    assert (np.diff(own) >= 0).all() and len(own) == 300 and leaps.sum() == (np.arange(n) % 50 == 25).sum()
    middle = (np.arange(300) + 0.5) * 4
    assert np.abs(own * 4 + 2 - np.interp(middle, np.arange(1201), passed)).max() <= 4


def test_where_the_same_music_stands_twice_nobody_knows_which():
    rng = np.random.default_rng(5)
    (page, music), (other, between) = made_page(rng), made_page(rng)
    score = page_score([page, other, page])  # a theme, something else, the theme
    order = [*range(48), *range(4, 12), *range(20, 28)]
    found = follow_pages(*heard([*music, *between, *music], order, rng), score)
    (part,) = bars_again(found)
    assert {part["bar"], *(p["bar"] for p in part["places"])} == {5, 37}
    assert abs(part["places"][0]["probability"] - 0.5) < 0.1
    told = [line for line in pages_in_words(found) if "stands twice" in line]
    assert len(told) == 1 and f"bar {part['places'][0]['bar']} (" in told[0]
    middle = (part["recording_s"][0] + part["recording_s"][1]) / 2
    near = np.abs(found.played["recording_s"] - middle) < 2
    assert near.any() and np.all(found.played["confidence"][near] < 0.62) and found.mean_confidence > 0.8
    away = np.abs(found.played["recording_s"] - middle) > 20
    assert np.median(found.played["confidence"][away]) > 0.9
    assert bars_again(follow_pages(*heard([*music, *between, *music], range(48), rng), score)) == []


@pytest.mark.parametrize("lost, alike", [(0.0, True), (0.2, True), (0.9, False)])
def test_bars_read_alike_up_to_heads_that_were_missed(lost, alike):
    rng = np.random.default_rng(int(10 * lost))
    theme = [rng.integers(50, 80, 12).tolist() for _ in range(8)]
    once, again = ([[p for p in bar if rng.random() >= lost / 2] for bar in theme] for _ in range(2))
    bars = [*once, *(rng.integers(50, 80, 12).tolist() for _ in range(5)), *again]
    assert (list(same_bars(bars, 0, 7)) == [13]) is alike and (list(same_bars(bars, 15, 18)) == [-13]) is alike
    assert same_bars(bars, 5, 9) == {}
    at = np.arange(24) / 12.0
    assert read_bars(as_notes(at, at + 0.05, [*theme[0], *theme[1]]), 2, 1.0) == theme[:2]


def test_another_piece_is_told():
    rng = np.random.default_rng(1)
    (page, _), (_, music) = made_page(rng), made_page(rng)
    found = follow_pages(*heard(music, [*range(16)], rng), page_score([page]))
    assert found.mean_confidence < FITS_FROM and "Is it this piece?" in pages_in_words(found)[-1]


def test_a_page_in_the_wrong_clef_is_followed():
    rng = np.random.default_rng(2)
    page, music = made_page(rng)
    heads = page.heads.copy()
    left = (heads["staff"] == 1) & (heads["system"] == 1)
    heads["step"][left] += 12
    heads["y"][left] = heads["y"][left]  # printed where it was: the reader took the bass clef for a treble clef
    misread = PageLayout(page.width, page.height, page.staves, page.bars, heads, page.signs)
    found = follow_pages(*heard(music, [*range(16)], rng), page_score([misread]))
    assert played_bars(found)["bar"].tolist() == [*range(16)]
    low = found.score.notes[(found.score.notes["onset_s"] >= 8) & (found.score.notes["onset_s"] < 16)]["pitch"].min()
    assert low - 21 + FIRST_STEP < 28


def test_what_is_not_on_the_pages_is_said():
    rng = np.random.default_rng(3)
    (page, music), (_, other) = made_page(rng), made_page(rng)
    parts = [heard(music, [*range(16)], rng), heard(other, [*range(12)], rng)]
    found = follow_pages(*(np.concatenate(rolls) for rolls in zip(*parts)), page_score([page]))
    (first, end) = lost(found)[-1]
    assert 20 < first < 34 and end > 42 and "not sure" in pages_in_words(found)[-1]


def test_an_upbeat_is_gone_back_to():
    rng = np.random.default_rng(4)
    page, music = made_page(rng)
    last = page.heads[(page.heads["system"] > 0) | (page.heads["x"] > 150)]  # of bar 0 the last quarter is left
    page, order = replace(page, heads=last), [*range(8), *range(16)]
    music[0] = [(q, step) for q, step in music[0] if q == 3]
    score, sounding = page_score([page]), np.repeat(np.array(order), BAR_FRAMES) > 0
    sounding |= np.tile(np.arange(BAR_FRAMES), len(order)) >= 0.75 * BAR_FRAMES
    assert np.allclose(score.begins, [0.75, *[0] * 15])
    found = follow_pages(*(roll[sounding] for roll in heard(music, order, rng, 0.0)), score)
    assert played_bars(found)["bar"].tolist() == order
    assert [(j["from_bar"], j["to_bar"]) for j in page_jumps(found)] == [(8, 1)]


@pytest.mark.parametrize("seconds, dearer", [(0.5, 1), (1.6, 1), (6.4, 2), (40.0, 5)])
def test_in_long_bars_only_jumps_without_a_sign_are_dearer(seconds, dearer):
    usual, slow = (jump_penalties(12, ((11, 3),), c) for c in (PagePathConfig(), in_bars_of(seconds)))
    ratio = slow / usual
    unsigned = ~allowed(12, ((11, 3),))
    assert np.allclose(ratio[unsigned], dearer) and np.allclose(ratio[~unsigned], 1)
    assert in_bars_of(seconds).leave_penalty == dearer * PagePathConfig().leave_penalty


def test_a_jump_that_explains_no_more_is_taken_out_and_no_other():
    straight = np.arange(40)
    wild, jumped = straight.copy(), np.zeros(40, bool)
    wild[8:12] += 16  # off and back
    wild[20:24] += 1  # less than a bar of four cells
    wild[30:] -= 20  # to the end
    jumped[[8, 12, 30]] = True
    still = np.zeros(40, bool)
    ours, theirs = np.full(40, 10), np.full(40, 10)
    theirs[8:12], theirs[30:] = 8, 7
    path, left = calmer((wild, jumped), (straight, still), [(ours, theirs)], 4, 0.8)
    assert path[:20].tolist() == straight[:20].tolist() and path[20:].tolist() == wild[20:].tolist()
    assert np.flatnonzero(left).tolist() == [30]
    both = [(ours, ours), (ours, theirs)]  # of two kinds the mean: 0.89 and 0.84
    assert np.flatnonzero(calmer((wild, jumped), (straight, still), both, 4, 0.9)[1]).tolist() == [8, 12, 30]
    path, left = calmer((wild, jumped), (straight, still), [(ours, ours)], 4, 0.8)
    assert path[30:].tolist() == straight[30:].tolist() and path[20:24].tolist() == wild[20:24].tolist()
    assert not left.any() and jumped[[8, 12, 30]].all()


def test_pictures_that_are_no_pages(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    soundfile.write("a.wav", np.random.default_rng(0).normal(size=32000) * 0.1, 16000)
    white = Image.new("L", (1240, 1754), 255)
    white.save("blank.png")
    Image.new("L", (300, 400), 255).save("small.jpg")
    white.save("many.pdf", save_all=True, append_images=[white] * MOST_PAGES)
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "torn.pdf").write_bytes((tmp_path / "many.pdf").read_bytes()[:300])
    (tmp_path / "empty.pdf").touch()
    (tmp_path / "score.mid").write_bytes(b"MThd")
    for words, says in {
        ("blank.png",): "no page has bars",
        ("small.jpg",): "amt-nb: small.jpg is only 300 pixels wide",
        ("many.pdf",): f"{MOST_PAGES + 1} pages are more than {MOST_PAGES}",
        ("many.pdf", "--pages", "4-400"): "there are",
        ("text.png",): "is no picture of a page",
        ("torn.pdf",): "no pdf that can be read",
        ("empty.pdf",): "is empty",
        ("none.pdf",): "no such file",
        ("blank.png", "score.mid"): "one score, or any number of pages",
        ("blank.png", "--midi"): "--midi needs a score in notes",
        ("score.mid", "--html"): "--html needs pages",
        ("blank.png", "-o", "a.txt"): "ends in .csv",
    }.items():
        assert main(["align", "a.wav", *words, "--no-progress"]) == 1, words
        err = capsys.readouterr().err
        assert says in err and err.count("\n") == 1, err
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix in (".csv", ".html")) == []


def test_a_tiff_holds_pages_and_a_photograph_is_upright(tmp_path):
    one = Image.fromarray(np.tile(np.linspace(0, 255, 1400).astype(np.uint8), (2000, 1)))
    one.save(tmp_path / "two.tif", save_all=True, append_images=[one])
    turned = Image.Exif()
    turned[274] = 3  # held upside down
    one.save(tmp_path / "photo.jpg", exif=turned)
    pages = list(read_pages([tmp_path / "two.tif", tmp_path / "photo.jpg"]))
    assert [(p.name, p.number) for p in pages] == [("two.tif", 1), ("two.tif", 2), ("photo.jpg", 1)]
    assert pages[0].grey[5, 5] < 50 < 200 < pages[2].grey[5, 5] and pages[0].width == 1400


def test_a_locked_pdf_is_told(tmp_path):
    locked = (  # an empty page behind a password nobody has: /Encrypt with keys of zeros
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
        b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]>>endobj\n"
        b"4 0 obj<</Filter/Standard/V 1/R 2/O<" + b"00" * 32 + b">/U<" + b"00" * 32 + b">/P -4>>endobj\n"
        b"trailer<</Root 1 0 R/Encrypt 4 0 R/ID[<00><00>]/Size 5>>\n%%EOF\n"
    )
    (tmp_path / "locked.pdf").write_bytes(locked)
    with pytest.raises(UserError, match="encrypted"):
        list(read_pages([tmp_path / "locked.pdf"]))


@pytest.fixture(scope="module")
def engraved(tmp_path_factory):
    """Folder with an engraved piece as pdf between two blank pages, its first bars played by a piano, and the truth."""
    pytest.importorskip("verovio")
    pytest.importorskip("resvg_py")
    from amt_nb.sheet.engraving import engrave, page_image
    from amt_nb.sheet.page_corpus import keyboard_sources

    folder = tmp_path_factory.mktemp("é pages")
    piece = engrave({s.path.stem: s.path for s in keyboard_sources()}["mazurka06-2"])
    pictures = [Image.fromarray(page_image(drawing)) for drawing in piece.drawings[:1]]
    blank = Image.new("L", pictures[0].size, 255)
    blank.save(folder / "piece.pdf", save_all=True, append_images=[*pictures, blank])
    layout, notes = piece.pages[0], []
    for b, bar in enumerate(np.sort(layout.bars, order=("system", "x0"))):
        mine = (
            (layout.heads["system"] == bar["system"])
            & (layout.heads["x"] > bar["x0"])
            & (layout.heads["x"] < bar["x1"])
        )
        for h in layout.heads[mine & layout.heads["onset"] & ~layout.heads["grace"]]:
            at = 0.5 + 1.4 * b + 1.4 * float((h["x"] - bar["x0"]) / (bar["x1"] - bar["x0"]))
            pitch = int(key_of(int(h["step"]))) + 21 + (int(h["alter"]) if h["alter"] != 9 else 0)
            notes.append((round(at, 2), round(at + 0.4, 2), pitch, 70))
    for name, lower in (("take", 0), ("low", 2)):
        played = as_notes(*zip(*sorted((a, b, pitch - lower, 70) for a, b, pitch, _ in notes)))
        soundfile.write(folder / f"{name}.flac", render(played, 16000), 16000)
    return folder, len(layout.bars)


def test_the_command_lays_a_recording_on_engraved_pages(engraved, capsys):
    folder, bars = engraved
    out = folder / "out" / "take.csv"
    words = [
        "align",
        folder / "take.flac",
        folder / "piece.pdf",
        "-o",
        out,
        "--json",
        "--html",
        "--picture",
        "--no-progress",
    ]
    assert main([str(w) for w in words]) == 0
    said = capsys.readouterr().out
    assert "on pages 1 and 3 no music was found" in said and "confidence" in said
    rows = list(csv.DictReader(out.open()))
    assert list(rows[0]) == ["recording_s", "page", "system", "bar", "x", "y", "confidence"]
    assert {row["page"] for row in rows} == {"2"} and len({row["bar"] for row in rows}) > 0.9 * bars
    times = [float(row["recording_s"]) for row in rows]
    assert times == sorted(times)
    told = json.loads(out.with_suffix(".json").read_text())
    starts = np.array([bar["recording_s"] for bar in told["bars"]])
    share = np.interp(starts, [0.5, 0.5 + 1.4 * bars], [0, bars])
    assert np.mean(np.abs(share - [bar["bar"] - 1 for bar in told["bars"]]) < 1.5) > 0.9
    assert Image.open(folder / "out" / "take-02.png").size[0] == 1240
    assert "data:audio/mpeg" in out.with_suffix(".html").read_text()
    assert main([str(w) for w in words]) == 0  # its own files are replaced


def test_pages_at_a_pitch_that_is_given(engraved, tmp_path):
    folder, bars = engraved
    for semitones in ("-2", "4"):
        out = tmp_path / f"low{semitones}.csv"
        words = ["align", folder / "low.flac", folder / "piece.pdf", "--pages", "2", "--semitones", semitones]
        assert main([*(str(w) for w in words), "-o", str(out), "--json", "--no-progress"]) == 0
    right, wrong = (json.loads((tmp_path / f"low{n}.json").read_text()) for n in ("-2", "4"))
    assert right["semitones"] == -2 and wrong["semitones"] == 4
    assert right["confidence"] > 0.8 > wrong["confidence"] + 0.3 and len(right["bars"]) > 0.9 * bars


def test_a_page_upside_down_is_told(engraved, capsys):
    folder, _ = engraved
    page = list(read_pages([folder / "piece.pdf"]))[1]
    Image.fromarray(page.grey[::-1, ::-1]).save(folder / "turned.png")
    assert main(["align", str(folder / "take.flac"), str(folder / "turned.png"), "--no-progress"]) == 1
    err = capsys.readouterr().err
    assert ("turned by 180 degrees" in err or "turn it by 180 degrees" in err) and err.count("\n") == 1


@needs_browser
def test_the_page_turner_in_a_browser(tmp_path):
    page = np.full((900, 700), 255, np.uint8)
    page[100:140:10, 40:660] = page[700:740:10, 40:660] = 0
    bars = [(p, x, y, x + 300, y + 40) for p in range(2) for y in (100, 700) for x in (40, 340)]
    played = [(1.0 * i, 1.0 * i + 1, bar, 0.9 if i else 0.3) for i, bar in enumerate([0, 1, 2, 0, 1, 2, 3, 4, 5])]
    places = [(t + d, bars[bar][1] + 30 + 200 * d) for t, _, bar, _ in played for d in (0.0, 0.5)]
    turner = Turner([(png_of(page), 700, 900)] * 2, bars, played, places)
    mp3 = mp3_of([np.sin(np.arange(160_000) * 0.1).astype(np.float32) * 0.1], 16000)
    (tmp_path / "t.html").write_text(page_turner("é <tune>", turner, mp3, ["at 0:03.0 goes back"]), encoding="utf-8")
    where = "return document.querySelector('#where').textContent"
    now = "return document.querySelector('audio').currentTime"
    lit = "return [...document.querySelectorAll('rect')].findIndex(r=>r.classList.contains('now'))"
    middle = "const r=document.querySelectorAll('rect')[arguments[0]].getBoundingClientRect();return [r.x+r.width/2,r.y+r.height/2]"
    with Tab(tmp_path) as tab:
        tab.resize(1000, 800)
        tab.go((tmp_path / "t.html").as_uri())
        wait_for("the sound", lambda: abs(tab.js("return document.querySelector('audio').duration") - 10) < 0.3, 30)
        assert tab.js(where) == "page 1, bar 1 (not sure)" and tab.js(lit) == 0
        image, box = (
            tab.js(f"const r=document.querySelector('{s}').getBoundingClientRect();return [r.width,r.height]")
            for s in ("img", "svg")
        )
        assert np.allclose(image, box, atol=1)  # the bars lie where the page lies
        tab.click(*tab.js(middle, 1))
        wait_for("bar 2", lambda: tab.js(lit) == 1, 10)
        assert abs(tab.js(now) - 1) < 0.1
        tab.click(*tab.js(middle, 1))  # once more: its second time
        wait_for("the second time", lambda: abs(tab.js(now) - 4) < 0.1, 10)
        tab.press(RIGHT)
        wait_for("the next bar", lambda: tab.js(where) == "page 1, bar 3", 10)
        tab.js("document.querySelector('audio').currentTime=7.2")
        wait_for("the page that turns", lambda: tab.js(where) == "page 2, bar 5" and tab.js("return scrollY") > 300, 10)
        tab.js("document.querySelector('audio').currentTime=9.8")
        wait_for("the end", lambda: tab.js(where) == "not on these pages" and tab.js(lit) == -1, 10)
        tab.press(HOME)
        wait_for("the beginning", lambda: tab.js(lit) == 0, 10)
        assert tab.complaints() == []
        assert len(tab.picture()) > 5000
    assert io.BytesIO(mp3).read(2) in (b"\xff\xfb", b"\xff\xf3", b"ID")
