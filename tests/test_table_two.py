"""Table II: the truth read from files, seconds off, and the experiments that fill the table, on pages engraved here."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from amt_nb.notes import as_notes
from amt_nb.sheet.conditioned_unet import THEIRS, ConditionedUNet, FilmConfig, published_name
from amt_nb.sheet.engraving import engrave, page_image
from amt_nb.sheet.network_path import head_steps, step_cells
from amt_nb.sheet.page_corpus import drawn_style
from amt_nb.sheet.page_embeddings import pitch_steps
from amt_nb.sheet.table_two import (
    by_events,
    page_at,
    page_square,
    read_truth,
    rearranged,
    rows_of,
    seconds_off,
    shares,
)
from amt_nb.workshop.scores import extrapolate, read_score
from amt_nb.workshop.settings import UserError
from amt_nb.workshop.synth import render
from amt_nb.workshop.weights import save_weights

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "amt_nb" / "data" / "example.musicxml"


def write(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header.split(","), *rows])
    path.write_text(text.getvalue())


BOXES = "page,system,bar,x0,y0,x1,y1,verified,part,measure"
PLAYED = "bar_played,bar,score_quarter,recording_s,part,measure,exact"


def two_systems(folder):
    """Measure 0 on the first system, measure 1 cut in two by the line break, measure 2; measure 1 is played again."""
    boxes = [(1, 1, 1, 100, 50, 300, 90, 1, 0, 0), (1, 1, 2, 300, 50, 400, 90, 1, 1, 1)]
    boxes += [
        (1, 2, 2, 100, 250, 400, 290, 1, 2, 1),
        (1, 2, 3, 400, 250, 500, 290, 1, 0, 2),
        (2, 1, "", 9, 50, 99, 90, 0, "", ""),
    ]
    write(folder / "boxes" / "a.csv", BOXES, boxes)
    order, seconds = (0, 1, 1, 2), (1.0, 3.0, 7.0, 11.0, 12.0)
    rows = [(k, m + 1, 0, s, 0, m, 1) for k, (m, s) in enumerate(zip(order, seconds))] + [
        ("end", "", 0, seconds[-1], 0, "", 0)
    ]
    write(folder / "downbeats" / "a_x.csv", PLAYED, rows)
    return folder


def test_a_bar_cut_by_a_line_break_goes_on_below(tmp_path):
    truth = read_truth(two_systems(tmp_path), "a", "MAPS_MUS-a_x")
    assert truth.passes["x1"].tolist() == [300, np.inf, 400, np.inf, 400, np.inf]
    told = lambda s, page, y, x: seconds_off(truth, [s], [page], [y], [x])[0]
    assert told(2.0, 0, 70, 200) == 0 and told(3.5, 0, 95, 350) == 0
    assert told(4.0, 0, 240, 100) == 0 and told(5.5, 0, 270, 250) == pytest.approx(
        0
    )  # below the break, a quarter is over
    assert told(9.5, 0, 270, 250) == pytest.approx(0)  # the other pass of it
    assert told(11.5, 0, 270, 900) == pytest.approx(0.5)  # right of the last bar: its end
    assert (
        told(5.0, 1, 70, 50) == np.inf == told(5.0, 7, 70, 50)
    )  # nothing is performed there, or there is no such page
    assert len(truth.judged_s) == 20 + 40 + 40 + 10


def test_rearranged_truth_moves_with_the_sound(tmp_path):
    truth = read_truth(two_systems(tmp_path), "a", "a_x")
    swapped = rearranged(truth, [(7.0, 12.0), (0.0, 7.0)])
    assert len(swapped.judged_s) == len(truth.judged_s) and swapped.passes["start_s"].min() == 0
    assert seconds_off(swapped, [4.5], [0], [270], [450])[0] == pytest.approx(0)  # measure 2 is over at 5 now


def test_a_margin_is_what_lies_below_it():
    assert list(shares([0.0, 0.5, 0.99, np.inf]).values()) == [0.25, 0.75, 0.75]


def test_transposed_notes_are_no_match():
    columns, steps = 50.0 * np.arange(60), np.random.default_rng(0).integers(25, 40, 60)
    white = np.array([0, 2, 4, 5, 7, 9, 11])
    onset = 0.5 * np.arange(60)
    notes = as_notes(onset, onset + 0.3, 12 * (steps // 7 + 1) + white[steps % 7])
    found = by_events(notes, columns, steps)
    assert np.abs(found.at(onset) - columns / 100).max() < 1e-6
    sound = step_cells(notes["onset_s"], pitch_steps(notes["pitch"]), 30.0)
    square, axes = page_square(sound, step_cells(columns / 100, head_steps(steps), 30.0), 32)
    other, _ = page_square(sound, step_cells(columns / 100, head_steps(steps + 1), 30.0), 32)
    assert axes.columns == 32 and np.diagonal(square).mean() < 0.5 < np.diagonal(other).mean()


@pytest.fixture(scope="module")
def engraved(tmp_path_factory):
    """The example on engraved pages, rendered as it stands, laid out as B_cases_pages writes its cases."""
    folder = tmp_path_factory.mktemp("cases")
    engraving, score = engrave(EXAMPLE, drawn_style([1])), read_score(EXAMPLE)
    (folder / "pages").mkdir()
    boxes = []
    for p, (page, drawing, measures) in enumerate(zip(engraving.pages, engraving.drawings, engraving.measures), 1):
        Image.fromarray(page_image(drawing)).save(folder / "pages" / f"tune-{p:02}.png")
        for bar, m in zip(page.bars, measures):
            boxes.append((p, bar["system"] + 1, m + 1, *(bar[k] for k in ("x0", "y0", "x1", "y1")), 1, 0, m))
    write(folder / "boxes" / "tune.csv", BOXES, boxes)
    played, notes = engraving.played, engraving.notes
    measure = np.array([notes[r["page"]]["measure"][r["head"]] for r in played])
    seconds = extrapolate(score.beat, score.beat_s, played["quarter"])
    order = np.argsort(seconds, kind="stable")
    first = np.flatnonzero(np.r_[True, np.diff(measure[order]) != 0])
    rows = [(n, 0, 0, round(float(seconds[order][k]), 3), 0, measure[order][k], 1) for n, k in enumerate(first)]
    end = float(score.notes["offset_s"].max())
    write(folder / "downbeats" / "tune_me.csv", PLAYED, [*rows, ("end", "", 0, end, 0, "", 0)])
    write(folder / "pieces.csv", "name,role,recordings", [("tune", "engraved", "tune_me")])
    (folder / "recordings").mkdir()
    soundfile.write(folder / "recordings" / "tune_me.flac", render(score.notes, 16000), 16000)
    return folder


def run_cells(name, parameters, where, monkeypatch, until=None):
    """What a notebook binds when it is run with these parameters, in the folder `where`."""
    monkeypatch.chdir(where)
    monkeypatch.setenv("MPLBACKEND", "agg")
    bound = {"__name__": "__main__"}
    for cell in json.loads((ROOT / "nbs" / "experiments" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{name} {cell['id']}", "exec"), bound)
            if "parameters" in cell["metadata"].get("tags", []):
                bound |= parameters
            if cell["id"] == until:
                break
    return bound


def test_the_table_is_filled_from_pages_and_sound(engraved, tmp_path, monkeypatch, capsys):
    given = {"folder": str(engraved), "kept": str(tmp_path / "kept"), "record": "two"}
    bound = run_cells("B_table2", given, tmp_path, monkeypatch)
    under_1 = {m: float(x["as_played"][:, :, 1].mean()) for m, x in bound["found"].items()}
    assert under_1["amt_nb"] > 0.95 and under_1["straight line"] < under_1["amt_nb"]
    record = json.loads((tmp_path / "nbs" / "results" / "two_amt_nb.json").read_text())
    assert record["runs"][0]["metrics"]["as_played"]["under_1_s"] == pytest.approx(under_1["amt_nb"], abs=1e-4)
    dates = {p: p.stat().st_mtime_ns for p in (tmp_path / "kept").rglob("*.joblib")}
    run_cells("B_table2", given, tmp_path, monkeypatch, "t2b00008")
    assert dates == {p: p.stat().st_mtime_ns for p in (tmp_path / "kept").rglob("*.joblib")}  # nothing is made twice


def test_nets_that_draw_are_given_the_page_and_some_of_the_moments(engraved, tmp_path, monkeypatch):
    torch.manual_seed(0)
    config = FilmConfig(filters=2, audio_widths=(2, 2, 2, 2), code=4, memory=4)
    save_weights(tmp_path / "ours.safetensors", ConditionedUNet(config), config, {})
    theirs = {published_name(name): x for name, x in ConditionedUNet(THEIRS).state_dict().items()}
    torch.save(theirs, tmp_path / "theirs.pt")
    names = {"Henkel 2020": "ours.safetensors", "Henkel 2020, published": "theirs.pt"}
    given = {"folder": str(engraved), "methods": ";".join(names), "moments": 6, "record": "drawn"}
    given["weights"] = json.dumps({name: [str(tmp_path / file)] for name, file in names.items()})
    bound = run_cells("B_table2", given, tmp_path, monkeypatch)
    case = bound["Case"]("tune", "tune_me", True, 6)
    assert len(case.truth.judged_s) == 6 and set(bound["found"]) == set(names)
    page, y, x = bound["ROWS"]["Henkel 2020"](case, str(tmp_path / "ours.safetensors"))
    assert page.tolist() == page_at(case.truth, case.truth.judged_s).tolist()
    sizes = np.array([(i.height, i.width) for i in case.images])[page]
    assert ((y >= 0) & (y < sizes[:, 0]) & (x >= 0) & (x < sizes[:, 1])).all()
    record = json.loads((tmp_path / "nbs" / "results" / "drawn_henkel_2020_published.json").read_text())
    assert "-p moments 6" in record["command"]


def test_the_page_that_is_given_is_the_one_that_is_played(engraved):
    truth = read_truth(engraved, "tune", "tune_me")
    given = page_at(truth, truth.judged_s)
    for s, page in zip(truth.judged_s, given):
        played = truth.passes[(truth.passes["start_s"] <= s + 0.011) & (s < truth.passes["end_s"] + 0.011)]
        assert page in played["page"]
    assert page_at(truth, [-5.0, 1e6]).tolist() == [truth.passes["page"][0], truth.passes["page"][-1]]


def test_the_table_refuses_in_one_line(engraved, tmp_path, monkeypatch):
    for change, said in (
        ({"folder": str(tmp_path)}, "folder: .* has no pieces.csv"),
        ({"role": "real_val"}, "folder: no piece of role real_val"),
        ({"methods": "amt_nb;Dorfer"}, "methods: no method is called 'Dorfer'"),
    ):
        with pytest.raises(UserError, match=said) as refused:
            run_cells("B_table2", {"folder": str(engraved)} | change, tmp_path, monkeypatch, "t2b00006")
        assert "\n" not in str(refused.value)


def test_beats_marked_by_hand_become_cases(tmp_path, monkeypatch):
    scans = tmp_path / "beats"
    beats = [(1, 1, n // 2, n % 2 + 1, 100 + 60 * n, 40, 90, n, n // 2 + 1, 1) for n in range(8)]
    beats.append((1, 1, 4, 1, "", 40, 90, 8, 5, 1))  # nobody marked it
    write(scans / "tune_v1.csv", "page,system,measure,beat,x,y0,y1,index,bar,page_system", beats)
    write(scans / "midi" / "tune.beats.csv", "index,recording_s", [(n, 0.5 * n + 0.2) for n in range(9)])
    from amt_nb.workshop.midi import write_midi

    onset = 0.5 * np.arange(9) + 0.2
    write_midi(as_notes(onset, onset + 0.4, 60 + np.arange(9)), scans / "midi" / "tune.mid")
    (scans / "pages").mkdir()
    Image.fromarray(np.full((200, 800), 255, np.uint8)).save(scans / "pages" / "tune_v1-01.png")
    run_cells("B_cases_beats", {"scans": str(scans), "out": str(tmp_path / "cases")}, tmp_path, monkeypatch)
    truth = read_truth(tmp_path / "cases", "tune_v1", "tune_v1_midi")
    assert len(truth.judged_s) == 8 and [r["recordings"] for r in rows_of(tmp_path / "cases" / "pieces.csv")] == [
        "tune_v1_midi"
    ]
    right = seconds_off(truth, truth.judged_s, np.zeros(8), np.full(8, 60), 100 + 60 * np.arange(8))
    assert right.max() < 0.01
    with pytest.raises(UserError, match="scans: .* has no piece"):
        run_cells("B_cases_beats", {"scans": str(tmp_path), "out": str(tmp_path / "x")}, tmp_path, monkeypatch)


def test_performances_on_scans_become_cases_in_the_order_that_is_played(tmp_path, monkeypatch):
    from amt_nb.workshop.midi import write_midi

    scans, asap = tmp_path / "scans", tmp_path / "asap"
    folder = asap / "Nobody" / "Tune"
    folder.mkdir(parents=True)
    bars = ["4c\n4d\n4e\n4f", "4g\n4a\n4b\n4cc", "4ee\n4dd\n4cc\n4b"]
    lines = ["**kern", "*M4/4", "*>[A,A,B]", "*>norep[A,B]", "*>A", "=1", bars[0], "*>B", "=2", bars[1], "=3", bars[2]]
    (scans / "kern").mkdir(parents=True)
    (scans / "kern" / "tune.krn").write_text("\n".join([*lines, "==", "*-"]) + "\n")
    write(
        scans / "boxes" / "tune.csv", BOXES, [(1, 1, n + 1, 100 * n, 50, 100 * n + 100, 90, 1, 0, n) for n in range(3)]
    )
    (scans / "pages").mkdir()
    Image.fromarray(np.full((200, 800), 255, np.uint8)).save(scans / "pages" / "tune-01.png")
    write(
        scans / "pieces.csv",
        "name,composer,title,pages,role,asap_folder",
        [("tune", "N", "T", 1, "asap", "Nobody/Tune")],
    )
    pitch = np.array([60, 62, 64, 65, 67, 69, 71, 72, 76, 74, 72, 71])  # as written: no repeat
    for name, beat_s in (("midi_score", 0.5), ("A1", 0.6)):
        onset = beat_s * np.arange(12)
        write_midi(as_notes(onset, onset + 0.4 * beat_s, pitch), folder / f"{name}.mid")
        told = "".join(f"{t}\t{t}\t{'db' if n % 4 == 0 else 'b'}\n" for n, t in enumerate(onset.round(3)))
        (folder / f"{name}_annotations.txt").write_text(told)
    at = "Nobody/Tune/"
    files = ("A1.mid", "midi_score.mid", "A1_annotations.txt", "midi_score_annotations.txt")
    columns = "composer,title,folder,midi_performance,midi_score,performance_annotations,midi_score_annotations"
    write(asap / "metadata.csv", columns, [("N", "T", "Nobody/Tune", *(at + f for f in files))])
    given = {"scans": str(scans), "asap": str(asap), "out": str(tmp_path / "cases")}
    run_cells("B_cases_scans", given, tmp_path, monkeypatch)
    truth = read_truth(tmp_path / "cases", "tune", "tune_A1")
    assert np.allclose(truth.passes["start_s"], [0, 2.4, 4.8]) and truth.passes["x0"][1:].tolist() == [100, 200]
    for change, said in (
        ({"scans": str(tmp_path)}, "scans: .* has no pieces.csv"),
        ({"role": "x"}, "no movement of role x"),
    ):
        with pytest.raises(UserError, match=said):
            run_cells("B_cases_scans", given | change, tmp_path, monkeypatch)
