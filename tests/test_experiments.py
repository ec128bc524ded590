"""Every experiment on every layout of its data: it begins, with nothing of validation or test in training, or refuses.

The data sets are look-alikes made here: MAPS packed and as published, ASAP as a folder, a folder around it, an archive.
Of each notebook the cells up to the first training are run.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import joblib
import lookalikes
import numpy as np
import pytest
import soundfile

from amt_nb.notes import as_notes
from amt_nb.workshop.corpora import dataset
from amt_nb.workshop.held_out import (
    CASE_FILES,
    alignment_cases,
    asap_performances,
    book_split,
    judged,
    maps_by_role,
    maps_split,
    teaching,
)
from amt_nb.workshop.midi import read_midi, write_midi
from amt_nb.workshop.recordings import Recording, by_role
from amt_nb.workshop.settings import UserError, paths
from amt_nb.workshop.weights import read_weights

ROOT = Path(__file__).resolve().parents[1]
SECONDS, SR = 6.0, 16000
PLAYED = {  # recordings of the book's split -> seed of their notes
    "MAPS_MUS-alb_esp2_AkPnCGdD": 1,
    "MAPS_MUS-bor_ps5_AkPnStgb": 2,
    "MAPS_MUS-alb_esp3_AkPnCGdD": 3,
    "MAPS_MUS-muss_4_AkPnBsdf": 5,  # another name for what chpn-p19 plays
    "MAPS_MUS-chpn-p19_ENSTDkCl": 5,
    "MAPS_MUS-scn15_11_ENSTDkAm": 6,
    "MAPS_MUS-chpn-e01_ENSTDkCl": 7,
    "MAPS_MUS-mz_331_3_ENSTDkCl": 8,
}
BESIDE = {"MAPS_MUS-chpn-e01_SptkBGCl": 7, "MAPS_MUS-liz_rhap09_AkPnBcht": 9}  # only as published
ASAP = (  # composer, title, seed of the notes
    ("Chopin", "Etudes_op_10_1", 11),  # a piece of the test by its name
    ("Bach", "Wachet_auf", 5),  # one of validation by its notes
    ("Haydn", "Keyboard_Sonatas_6-1", 12),
    ("Brahms", "Six_Pieces_op_118_2", 13),
    ("Liszt", "Sonata", 14),
)
LEAKED = {"asap/Chopin/Etudes_op_10_1/A1", "asap/Bach/Wachet_auf/A1", "maps/MAPS_MUS-muss_4_AkPnBsdf"}


def tune(seed):
    rng = np.random.default_rng(seed)
    onset = np.arange(0.2, SECONDS - 0.6, 0.1)
    pitch, velocity = rng.integers(40, 90, len(onset)), rng.integers(40, 100, len(onset))
    return as_notes(onset, onset + 0.25, pitch, velocity)


def sound(path, seed, **how):
    rng, t = np.random.default_rng(seed), np.arange(int(SECONDS * SR)) / SR
    wave = 0.05 * rng.standard_normal(len(t))
    for note in tune(seed)[::4]:
        hz, since = 440 * 2 ** ((note["pitch"] - 69) / 12), t - note["onset_s"]
        wave += 0.2 * np.sin(2 * np.pi * hz * since) * np.exp(-4 * since) * (since > 0)
    soundfile.write(path, (wave / np.abs(wave).max()).astype(np.float32), SR, **how)


def packed_maps(root):
    root.mkdir()
    table = ["recording,group,piece,composer,title,seconds,role,notes,audio_lag_ms"]
    with zipfile.ZipFile(root / "labels.zip", "w") as z:
        for name in [n for n in maps_split() if n in PLAYED]:
            piece, _, group = name.removeprefix("MAPS_MUS-").rpartition("_")
            role, lag_s = maps_split()[name]
            table.append(f"{name},{group},{piece},,,{SECONDS},{role},54,{1000 * lag_s:g}")
            rows = [
                f"{n['onset_s']:.4f}\t{n['offset_s']:.4f}\t{n['pitch']}\t{n['velocity']}" for n in tune(PLAYED[name])
            ]
            z.writestr(f"{name}.tsv", "\n".join(["onset_s\toffset_s\tpitch\tvelocity", *rows]) + "\n")
            sound(root / f"{name}.ogg", PLAYED[name], format="OGG", subtype="VORBIS")
    (root / "splits.csv").write_text("\n".join(table) + "\n")
    return root


def published_maps(root):
    for name, seed in {**PLAYED, **BESIDE}.items():
        folder = root / name.rpartition("_")[2] / "MUS"
        folder.mkdir(parents=True, exist_ok=True)
        sound(folder / f"{name}.wav", seed)
        write_midi(tune(seed), folder / f"{name}.mid")
        rows = [f"{n['onset_s']:.6f}\t{n['offset_s']:.6f}\t{n['pitch']}" for n in tune(seed)]
        (folder / f"{name}.txt").write_text("\n".join(["OnsetTime\tOffsetTime\tMidiPitch", *rows]) + "\n")
    return root


def asap_folder(root):
    columns = ("midi_performance", "midi_score", "performance_annotations", "midi_score_annotations")
    table = [",".join(("composer", "title", "folder", *columns))]
    for composer, title, seed in ASAP:
        folder = root / composer / title
        folder.mkdir(parents=True)
        for name in ("A1", "midi_score"):
            write_midi(tune(seed), folder / f"{name}.mid")
            beats = [f"{t}\t{t}\t{'db,4/4,0' if k % 4 == 0 else 'b'}" for k, t in enumerate(np.arange(0.2, 5.4, 0.4))]
            (folder / f"{name}_annotations.txt").write_text("\n".join(beats) + "\n")
        at = f"{composer}/{title}"
        files = (f"{at}/A1.mid", f"{at}/midi_score.mid", f"{at}/A1_annotations.txt", f"{at}/midi_score_annotations.txt")
        table.append(",".join((composer, title, at, *files)))
    (root / "metadata.csv").write_text("\n".join(table) + "\n")
    return root


def case_folder(root):
    for name in ("MAPS_MUS-chpn-p19_ENSTDkCl", "MAPS_MUS-scn15_11_ENSTDkAm"):
        for kind in ("same", "repeat", "skip", "mixed"):
            folder = root / f"{name}.{kind}"
            folder.mkdir(parents=True)
            notes = tune(PLAYED[name])
            sound(folder / "recording.flac", PLAYED[name])
            write_midi(notes, folder / "score.mid")
            rows = [f"{t:.4f},{t:.4f},1.0" for t in notes["onset_s"]]
            (folder / "truth.csv").write_text("\n".join(["recording_s,score_s,slope", *rows]) + "\n")
    return root


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    folder = asap_folder(root / "around" / "asap")
    with tarfile.open(root / "asap.tar.xz", "w:xz", preset=0) as archive:
        archive.add(folder, "asap")
    (root / "archived").mkdir()
    shutil.copy(root / "asap.tar.xz", root / "archived")
    return {
        "packed": packed_maps(root / "packed"),
        "published": published_maps(root / "published"),
        "folder": folder,
        "around": folder.parent,
        "archive": root / "asap.tar.xz",
        "archived": root / "archived",
        "cases": case_folder(root / "cases"),
    }


@pytest.fixture(autouse=True)
def nothing_set(tmp_path, monkeypatch):
    """A folder of its own to run in, and settings without a data set."""
    (tmp_path / "settings.ini").write_text(f"[paths]\ncache = {tmp_path / 'cache'}\nmaps =\nasap =\n")
    monkeypatch.setenv("AMT_NB_SETTINGS", str(tmp_path / "settings.ini"))
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.chdir(tmp_path)


def cells(name):
    nb = json.loads((ROOT / "nbs" / "experiments" / f"{name}.ipynb").read_text(encoding="utf-8"))
    return [c for c in nb["cells"] if c["cell_type"] == "code"]


def head(name, last, **parameters):
    """Names that a notebook binds when its cells are run with these parameters up to the one with id `last`."""
    bound = {"__name__": "__main__"}
    for cell in cells(name):
        with joblib.parallel_config("threading"):  # processes start more slowly than these data are read
            exec(compile("".join(cell["source"]), f"{name} {cell['id']}", "exec"), bound)
        if "parameters" in cell["metadata"].get("tags", []):
            assert set(parameters) <= set(bound), name
            bound |= {k: str(v) if isinstance(v, Path) else v for k, v in parameters.items()}
        if cell["id"] == last:
            return bound
    raise AssertionError(f"{name} has no cell {last}")


ids = lambda *lists: {r.id for some in lists for r in some}
# what reads MAPS or both: notebook, last cell of its head, parameters, ids of what it learns from (None: nothing)
DATA = {
    "A_adapt": ("ax1aacb6", {"target": "disklavier"}, None),
    "A_any": ("aany0008", {}, lambda b: ids(b["paired"], b["performances"])),
    "A_beats": ("a2210001", {}, lambda b: len(b["performances"]("train")) == 1 and {"asap/Liszt/Sonata/A1"}),
    "A_collapse": ("aa86cc43", {}, lambda b: ids(b["paired"], b["sounds"], b["scores"])),
    "A_collapse_tied": ("7e42352d", {"every": 1}, lambda b: ids(b["paired"], b["sounds"], b["scores"])),
    "A_direct": ("e6a16786", {"farthest_m": 0.0}, lambda b: ids(b["features"]["paired"], b["performances"])),
    "A_instruments": ("ains0005", {}, lambda b: ids(b["paired"])),
    "A_pedal": ("2f480bb5", {"seed": 1}, lambda b: ids(b["by_role"]["paired"])),
    "A_peers": ("a0c1e004", {"tools": "amt_nb"}, None),
    "A_robustness": ("ar000003", {}, None),
    "A_shift_detector": ("d9d8eb01", {"fit": False}, None),
    "A_shipped": ("e51bbb2c", {}, None),
    "A_table1_scaling": ("50863db4", {}, lambda b: ids(b["paired"], b["sounds"], b["scores"])),
    "A_unpaired_arrows": (
        "lr85f841",
        {},
        lambda b: ids(b["by_role"]["paired"], b["by_role"]["unpaired"], b["music"]),
    ),
    "A_unpaired_pays": ("lr14b83c", {}, lambda b: ids(b["by_role"]["paired"], b["by_role"]["unpaired"], b["music"])),
    "A_velocity": ("303fae09", {}, lambda b: ids(r for r in b["by_role"]["paired"] if len(b["labels_of"](r)))),
    "B_heard": ("hd000002", {"out": "heard"}, lambda b: {r["id"] for r in b["chosen"]}),
    "B_reader": ("rd000004", {}, lambda b: {p["id"] for p in b["pieces"]}),
    "B_networks": ("68e4faca", {}, lambda b: {f"asap/{p.id.removesuffix('.mid')}" for p in b["pairs"]}),
    "B_page_embeddings": ("ae180053", {}, lambda b: {r["id"] for r in b["table"]}),
    "B_conditioned_unet": ("cun00002", {}, lambda b: {r["id"] for r in b["table"]}),
    "B_table2_networks": ("t2n00002", {}, lambda b: {r["id"] for r in b["table"]}),
    "B_table1_baselines": (
        "1bc2ecf3",
        {"nets": "siamese"},
        lambda b: {f"asap/{r['midi_performance'].removesuffix('.mid')}" for r in b["table"]},
    ),
}
CASES = {
    "B_align": "4d44caba",
    "B_confidence": "188dac08",
    "B_features": "da995089",
    "B_inside": "b1a50003",
    "B_networks_real": "e6503f98",
    "B_table1": "aca32edb",
}
ALONE = {  # read ASAP alone; MAPS and A-MAPS; MAPS and scans of pages
    "B_cases_asap": "75228548",
    "B_cases_maps": "ca5e000a",
    "B_pages_real": "bpr00006",
    "B_table2": "t2b00002",
}


def test_every_experiment_is_tried_here():
    """A_table* and A_fig* run from end to end in tests of their own."""
    there = {p.stem for p in (ROOT / "nbs" / "experiments").glob("*.ipynb")}
    reads = {
        n for n in there if any(w in "".join("".join(c["source"]) for c in cells(n)) for w in ("maps = ", "cases = "))
    }
    assert reads - set(DATA) - set(CASES) - set(ALONE) <= {n for n in reads if n.startswith(("A_table", "A_fig"))}


@pytest.mark.parametrize("layout", [("packed", "archive"), ("published", "around")], ids="-".join)
@pytest.mark.parametrize("name", DATA)
def test_what_judges_does_not_teach(name, layout, places, capsys):
    last, more, taught = DATA[name]
    given = {"maps": places[layout[0]], "asap": places[layout[1]], **more}
    known = set(head_parameters(name))
    bound = head(name, last, **{k: v for k, v in given.items() if k in known})
    if taught:
        found, said = taught(bound), capsys.readouterr().out
        assert found and not found & LEAKED
        assert said.count("left out") == 1 + ("asap" in known), said  # once for MAPS, once for ASAP
        assert "maps: 1 of 4 left out" in said
        assert "asap" not in known or re.search(r"ASAP: [12] of [2-5] left out", said)
        assert [r for r in found if r.startswith("asap")] or "asap" not in known
        assert [r for r in found if r.startswith("maps")] or name[0] == "B" or name == "A_beats"


def head_parameters(name):
    bound = {}
    exec("".join(next(c for c in cells(name) if "parameters" in c["metadata"].get("tags", []))["source"]), bound)
    return [k for k in bound if not k.startswith("__")]


@pytest.mark.parametrize("name", DATA)
def test_without_its_data_an_experiment_refuses_in_one_line(name, places, tmp_path):
    last, more, _ = DATA[name]
    known = set(head_parameters(name))
    both = {"maps": places["packed"], "asap": places["folder"], **more}
    for which in known & {"maps", "asap"}:
        if which == "asap" and name == "A_shift_detector":
            continue  # for its fit alone
        for wrong in ("", tmp_path / "nowhere", places["cases"]):
            with pytest.raises(UserError) as refused:
                head(name, last, **{k: v for k, v in {**both, which: wrong}.items() if k in known})
            assert "\n" not in str(refused.value) and which in str(refused.value)


def test_labels_without_velocities_measure_none(places, tmp_path):
    shutil.copytree(places["published"], tmp_path / "text")
    for midi in (tmp_path / "text").rglob("*.mid"):
        midi.unlink()
    bound = head("A_velocity", "303fae09", maps=tmp_path / "text")
    with pytest.raises(UserError, match="its labels have no velocities"):
        bound["labels_of"](bound["by_role"]["real_val"][0])


def test_pedals_need_midi_files(places):
    assert head("A_pedal", "2f480bb5", maps=places["published"])["prepared"]("real_val")
    with pytest.raises(
        UserError, match="^amaps: '' has no MIDI file with the notes of a recording of role real_val: give -p amaps"
    ):
        head("A_pedal", "2f480bb5", maps=places["packed"])["prepared"]("real_val")


def test_a_role_that_is_empty_is_refused(places, tmp_path):
    shutil.copytree(places["packed"], tmp_path / "few")
    table = (tmp_path / "few" / "splits.csv").read_text()
    (tmp_path / "few" / "splits.csv").write_text(table.replace("real_val", "unpaired"))
    with pytest.raises(UserError, match="no recording has role real_val in .*few, which has 2 paired, 4 unpaired"):
        maps_by_role(tmp_path / "few")
    with pytest.raises(UserError, match="no recording has role train"):
        head("A_shipped", "e51bbb2c", maps=places["packed"], role="train")


@pytest.mark.parametrize("asap", ["folder", "around", "archive", "archived"])
def test_asap_is_read_in_every_layout(asap, places, tmp_path):
    bound = head("B_cases_asap", ALONE["B_cases_asap"], asap=places[asap], out=tmp_path / "cases")
    assert set(bound["chosen"]) == {"haydn_keyboard_sonatas_6-1", "brahms_six_pieces_op_118_2"}


def test_cases_of_asap_need_asap_and_a_folder(places, tmp_path):
    for given in ({"asap": places["folder"]}, {"out": tmp_path}, {"asap": tmp_path / "nowhere", "out": tmp_path}):
        with pytest.raises(UserError) as refused:
            head("B_cases_asap", ALONE["B_cases_asap"], **given)
        assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match="no performance of Bartok"):
        head("B_cases_asap", "75228548", asap=places["folder"], out=tmp_path, held_out="Bartok")


@pytest.mark.parametrize("layout", ["packed", "published"])
def test_cases_of_maps_are_made_of_every_layout(layout, places, tmp_path):
    for name in ("chpn-p19_ENSTDkCl", "scn15_11_ENSTDkAm"):
        write_midi(tune(PLAYED[f"MAPS_MUS-{name}"]), tmp_path / f"R_1_A_MAPS_{name}.mid")
    given = {"maps": places[layout], "amaps": tmp_path, "role": "real_val"}
    head("B_cases_maps", ALONE["B_cases_maps"], out=tmp_path / "cases", **given)
    folders = alignment_cases(tmp_path / "cases", ["same", "repeat", "skip", "mixed"])
    rows = {f.name: np.loadtxt(f / "truth.csv", delimiter=",", skiprows=1) for f in folders}
    assert len(folders) == 8
    for name in ("MAPS_MUS-chpn-p19_ENSTDkCl", "MAPS_MUS-scn15_11_ENSTDkAm"):
        same, notes = rows[f"{name}.same"], tune(PLAYED[name])
        assert np.abs(same[:, 0] - notes["onset_s"]).max() < 1e-3  # where the labels are
        assert np.abs(same[:, 1] - notes["onset_s"]).max() < 0.5 / 48 + 1e-3 and np.allclose(same[:, 2], 1)
        written = np.unique(read_midi(tmp_path / "cases" / f"{name}.same" / "score.mid")["onset_s"])
        assert np.abs(written[:, None] - same[:, 1]).min(0).max() < 1e-3
        assert len(rows[f"{name}.repeat"]) > len(same) > len(rows[f"{name}.skip"]) > 0.5 * len(same)
    repeated = rows["MAPS_MUS-chpn-p19_ENSTDkCl.repeat"]
    assert (np.diff(repeated[:, 0]) >= 0).all() and (np.diff(repeated[:, 1]) < 0).sum() == 1  # one jump, back
    before = (tmp_path / "cases" / "MAPS_MUS-chpn-p19_ENSTDkCl.same" / "truth.csv").stat().st_mtime_ns
    head("B_cases_maps", ALONE["B_cases_maps"], out=tmp_path / "cases", **given)
    assert (tmp_path / "cases" / "MAPS_MUS-chpn-p19_ENSTDkCl.same" / "truth.csv").stat().st_mtime_ns == before


def test_cases_of_maps_refuse_what_they_cannot_use(places, tmp_path):
    given = {"maps": places["packed"], "amaps": tmp_path, "role": "real_val", "out": tmp_path / "cases"}
    write_midi(tune(99), tmp_path / "R_1_A_MAPS_chpn-p19_ENSTDkCl.mid")
    for change, said in (
        ({"out": ""}, "out: give"),
        ({"kinds": "same,da capo"}, "no kind is called 'da capo'"),
        ({"amaps": tmp_path / "nowhere"}, "amaps: .* is no folder"),
        ({"amaps": places["cases"]}, "has no .* of a recording of role real_val"),
        ({}, "MAPS_MUS-chpn-p19_ENSTDkCl: its labels and its file in A-MAPS do not have the same notes"),
    ):
        with pytest.raises(UserError, match=said) as refused:
            head("B_cases_maps", ALONE["B_cases_maps"], **(given | change))
        assert "\n" not in str(refused.value)


def scans_folder(root, recording):
    """Two pages of two systems of four bars, the first page played twice, two seconds a bar."""
    for folder in ("pages", "boxes", "downbeats"):
        (root / folder).mkdir(parents=True)
    boxes, order = ["page,system,bar,x0,y0,x1,y1,verified,part,measure"], [*range(8), *range(16)]
    for m in range(16):
        x0 = 100 + 200 * (m % 4)
        boxes.append(f"{m // 8 + 1},{m // 4 % 2 + 1},{m + 1},{x0},100,{x0 + 200},200,1,0,{m}")
    rows = [f"{k},{m + 1},{4 * m},{0.5 + 2 * k},0,{m},1" for k, m in enumerate(order)] + ["end,,64,48.5,0,,0"]
    (root / "boxes" / "tune.csv").write_text("\n".join(boxes) + "\n")
    header = "bar_played,bar,score_quarter,recording_s,part,measure,exact"
    (root / "downbeats" / f"{recording.removeprefix('MAPS_MUS-')}.csv").write_text("\n".join([header, *rows]) + "\n")
    (root / "pieces.csv").write_text(f"name,role,recordings\ntune,real_val,{recording}\nother,real_val,\n")
    return root


@pytest.mark.parametrize("layout", ["packed", "published"])
def test_recordings_on_scans_are_judged_bar_by_bar(layout, places, tmp_path):
    scans = scans_folder(tmp_path / "scans", "MAPS_MUS-scn15_11_ENSTDkAm")
    given = {"folder": scans, "maps": places[layout]}
    bound = head("B_pages_real", ALONE["B_pages_real"], **given)
    truth, shares = bound["Truth"]("tune", "scn15_11_ENSTDkAm"), ["right_bar", "within_one", "right_system"]
    judge = lambda rows: bound["judged"](truth, list(rows))
    row = lambda at, page, system, x: {"recording_s": at, "page": page, "system": system, "x": x}
    assert [judge(bound["right_rows"](truth))[k] for k in shares] == [1, 1, 1]
    late = judge(bound["right_rows"](truth, 2.0))  # a bar late: before the first row the place is its own
    assert late["right_bar"] == pytest.approx(1 / 24) and late["within_one"] == 1 and late["under_1_s"] < 0.03
    assert judge([row(0.0, 1, 1, 250.0)]) == pytest.approx(
        {"right_bar": 2 / 24, "within_one": 5 / 24, "right_system": 8 / 24, "under_0.5_s": 20 / 480}
        | {"under_1_s": 40 / 480, "under_2_s": 75 / 480},
        abs=0.005,
    )
    assert judge([row(0.0, 3, 1, 250.0)]) == dict.fromkeys([*shares, "under_0.5_s", "under_1_s", "under_2_s"], 0)
    for change, said in (
        ({"folder": tmp_path}, "folder: .* has no pieces.csv"),
        ({"role": "real_test"}, "folder: no piece of role real_test in .* has a recording"),
        ({"only": "other"}, "folder: no piece of role real_val in .* has a recording other"),
    ):
        with pytest.raises(UserError, match=said) as refused:
            head("B_pages_real", ALONE["B_pages_real"], **(given | change))
        assert "\n" not in str(refused.value)
    (scans / "pieces.csv").write_text("name,role,recordings\ntune,real_val,MAPS_MUS-absent\n")
    with pytest.raises(UserError, match="folder: MAPS_MUS-absent is neither in .*recordings nor"):
        head("B_pages_real", ALONE["B_pages_real"], **given)


TINY_ANY = {
    **dict(scenes="guitar:1,voice:1", held_scenes="guitar:1,voice:1", scene_s=5, held_s=5, pieces=1, modelled=1),
    **dict(excerpt_s=4, choose_on=2, steps="2,1", rates="1e-3,1e-3", fonts="default", held_out="default"),
}


def test_weights_for_any_instrument_from_end_to_end(places, tmp_path, capsys):
    given = {"maps": places["packed"], "asap": places["folder"], "folder": tmp_path / "run", **TINY_ANY}
    where = {"weights": tmp_path / "w.safetensors", "record": "any_tiny"}
    bound = head("A_any", "aany0016", **given, **where, without="bends,wear")
    assert "is no new instrument" in capsys.readouterr().out
    assert {k: len(v) for k, v in bound["features"].items()} == {
        "paired": 2,
        "piano": 1,
        "modelled": 1,
        "guitar": 1,
        "voice": 1,
    }
    played = bound["recordings"]["guitar"][0].audio
    assert all("bend" not in c for part in played._parts() for c in part.curves.values()) and played.wear.dry_share == 1
    record = json.loads((tmp_path / "nbs" / "results" / "any_tiny.json").read_text())
    assert set(record["runs"][0]["metrics"]) == {"held_out", "held_out guitar", "held_out voice", "real_val"}
    state, header, card = read_weights(where["weights"])
    assert card["without"] == "bends, wear" and card["steps"] == 3 and header["harmonic"]["width"] == 48
    dates = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").glob("stage*/log.jsonl")}
    again = head("A_any", "aany0011", **given, without="bends,wear")
    assert len(dates) == 2 and all(p.stat().st_mtime_ns == d for p, d in dates.items())  # nothing is trained twice
    for k, v in again["history"].models["net"].state_dict().items():
        assert np.array_equal(v.numpy().astype(state[f"net.{k}"].dtype), state[f"net.{k}"]), k


def test_weights_for_any_instrument_say_what_is_missing(places, tmp_path, capsys, monkeypatch):
    given = {
        "maps": places["packed"],
        "asap": places["folder"],
        "font_folders": tmp_path,
        "without": "piano,modelled,voice",
    }
    monkeypatch.setenv("PATH", str(tmp_path))
    bound, said = head("A_any", "aany0008", **given), capsys.readouterr().out
    assert bound["performances"] == [] and "voice" not in bound["wanted"] and bound["teaching_fonts"] == [None, None]
    assert "FluidR3_GM.sf2 (Debian's package fluid-soundfont-gm)" in said and "timidity and freepats" in said
    for change, line in (
        ({"without": "kazoo"}, "without: there is no 'kazoo'"),
        ({"scenes": "kazoo:1"}, "scenes: no kind of scene 'kazoo'"),
        ({"held_scenes": "guitar"}, "held_scenes: 'guitar' is no list of KIND:NUMBER"),
        ({"steps": "3,4"}, "steps, rates: '3,4'"),
        ({"fonts": "kazoo.sf2"}, "fonts: no SoundFont kazoo.sf2"),
        ({"held_out": "kazoo.sf2"}, "held_out: no SoundFont kazoo.sf2"),
    ):
        with pytest.raises(UserError, match=line) as refused:
            head("A_any", "aany0006", **{**given, **change})
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", CASES)
def test_experiments_on_cases_begin_or_refuse(name, places, tmp_path):
    head(name, CASES[name], cases=places["cases"])
    for wrong in ("", tmp_path / "nowhere", places["packed"]):
        with pytest.raises(UserError, match="^cases: .*"):
            head(name, CASES[name], cases=wrong)


@pytest.mark.parametrize("name", ["B_confidence", "B_inside"])
def test_foreign_scores_need_two_pieces(name, places):
    with pytest.raises(UserError, match="^cases: .* has recordings of one piece"):
        head(name, CASES[name], cases=places["cases"], most=1)


def test_a_case_that_lacks_a_file_or_a_kind_is_named(places, tmp_path):
    shutil.copytree(places["cases"], tmp_path / "cases")
    assert len(alignment_cases(tmp_path / "cases", ["same", "mixed"])) == 8
    shutil.rmtree(tmp_path / "cases" / "MAPS_MUS-chpn-p19_ENSTDkCl.skip")
    with pytest.raises(UserError, match="and no MAPS_MUS-chpn-p19_ENSTDkCl.skip"):
        head("B_table1", CASES["B_table1"], cases=tmp_path / "cases")
    for name in CASE_FILES:
        (tmp_path / "cases" / "MAPS_MUS-scn15_11_ENSTDkAm.same" / name).unlink()
        with pytest.raises(UserError, match=f"ENSTDkAm.same has no {name}"):
            alignment_cases(tmp_path / "cases")
        (tmp_path / "cases" / "MAPS_MUS-scn15_11_ENSTDkAm.same" / name).touch()


def test_both_layouts_of_maps_are_the_same_recordings_in_the_same_roles(places):
    with pytest.warns(UserWarning, match="89 of the book's 97 recordings are not there"):
        published = maps_by_role(places["published"])
    packed = maps_by_role(places["packed"])
    assert list(published) == list(packed) == ["paired", "unpaired", "real_val", "real_test"]
    for role, recordings in packed.items():
        facts = lambda rs: [(r.id, r.piece, r.group, r.role, r.lag_s) for r in rs]
        assert facts(published[role]) == facts(recordings)
    assert [r.id for r in packed["unpaired"]] == ["maps/MAPS_MUS-alb_esp3_AkPnCGdD"]


def test_the_split_of_maps_has_no_piece_twice():
    split = {name: role for name, (role, _) in maps_split().items()}
    pieces = {role: set() for role in split.values()}
    for r in book_split([Recording(f"maps/{n}", n.rpartition("_")[0]) for n in split]):
        pieces[r.role].add(r.piece)
    assert sum(map(len, pieces.values())) == len(set().union(*pieces.values()))
    assert all(("ENSTDk" in name) == role.startswith("real") for name, role in split.items())


def test_pieces_of_the_book_are_held_out_without_their_files(places, capsys):
    with pytest.warns(UserWarning):
        roles = maps_by_role(places["published"])
    capsys.readouterr()
    absent = Recording("asap/x", "mozart_piano_sonatas_12-2", notes=tune(3))  # mz_332_2, whose file is not there
    assert teaching([absent], judged(roles)) == [] and "1 of 1 left out" in capsys.readouterr().out
    mine = by_role([Recording("mine/1", "a", role="real_val", notes=tune(1))])
    assert len(teaching([absent], judged(mine))) == 1  # another's own recordings: no piece of this book is held out


def test_pairs_made_with_a_piece_of_the_test_are_not_used(places, tmp_path):
    from amt_nb.alignment.structure import Pair

    leaked = Pair("x", "chopin_etudes_op_10_1", "Chopin", 20.0, None, None, None, None, None)
    joblib.dump([leaked], tmp_path / "pairs.joblib")
    with pytest.raises(UserError, match="chopin_etudes_op_10_1 is a piece of validation or test"):
        head("B_networks", "68e4faca", maps=places["packed"], asap=places["folder"], cache=tmp_path / "pairs.joblib")


@pytest.mark.parametrize("split", ["usual", "book"])
def test_a_data_set_by_name_has_the_roles_that_settings_ask_for(split, places, tmp_path):
    with open(tmp_path / "settings.ini", "a") as file:
        file.write(f"[common]\nsplit_maps = {split}\n")
    roles = lambda layout: set(by_role(dataset("maps", replace(paths(), maps=places[layout]))))
    assert roles("packed") == {"paired", "unpaired", "real_val", "real_test"}
    assert roles("published") == (roles("packed") if split == "book" else {"train", "test", "overlap"})


@pytest.mark.parametrize("name", ["score_cases", "score_readers"])
def test_a_benchmark_without_scores_refuses_in_one_line(name, tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        command = [sys.executable, ROOT / "benchmarks" / f"{name}.py", folder]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
        assert done.returncode == 1 and not done.stdout and re.fullmatch(rf"{name}: \S* holds no .*\n", done.stderr)


def test_data_sets_as_their_authors_pack_them(tmp_path, places):
    """MAPS as a zip a piano, ASAP as one of its repository: see tests/lookalikes.py, which knows few of the book's names."""
    zips = tmp_path / "zips"
    zips.mkdir()
    piano = lookalikes.maps(tmp_path) / "ENSTDkCl"
    lookalikes.zipped(piano, zips / "MAPS_ENSTDkCl_1.zip")
    bound = head("A_shipped", "e51bbb2c", maps=zips, role="real_test")
    assert [r.id for r in bound["recordings"]] == ["maps/MAPS_MUS-mz_331_3_ENSTDkCl"]
    with pytest.raises(UserError, match="no recording has role real_val in .*zips, which has 1 real_test"):
        head("A_shipped", "e51bbb2c", maps=zips)
    repository = lookalikes.asap(tmp_path).rename(tmp_path / "asap-dataset-master")
    archive = lookalikes.zipped(repository, tmp_path / "asap-dataset-master.zip")
    found = ids(asap_performances(archive, tmp_path / "cache"))
    assert found >= {"asap/Bach/Fugue/bwv_846/Shi05M", "asap/Chopin/Etudes_op_10/1/HSU02"}
    with pytest.raises(UserError, match="no row of .*metadata.csv has its MIDI files and their annotations"):
        head("B_networks", "68e4faca", maps=places["packed"], asap=archive)


def page_folder(root):
    """Two movements engraved as a folder of scans is laid out; of the second nobody trusts the bars of a system."""
    from PIL import Image

    from amt_nb.sheet.engraving import engrave, page_image

    for folder in ("pages", "boxes", "kern"):
        (root / folder).mkdir(parents=True)
    letters = np.array(list("cdefgab"))
    table = ["name,pages,role"]
    for k, name in enumerate(("nobody_first", "somebody_second")):
        drawn = np.random.default_rng(k).choice(letters, (20, 4))
        bars = [
            f"={b + 2}\t={b + 2}\n".join(["".join(f"4{n.upper()}\t4{n}\n" for n in bar), ""])
            for b, bar in enumerate(drawn)
        ]
        kern = root / "kern" / f"{name}.krn"
        kern.write_text("**kern\t**kern\n*clefF4\t*clefG2\n*M4/4\t*M4/4\n=1\t=1\n" + "".join(bars) + "*-\t*-\n")
        made = engrave(kern)
        boxes = ["page,system,bar,x0,y0,x1,y1,verified,part,measure"]
        staves = ["page,system,staff,y_top,y_bottom,x0,x1,slope"]
        for p, (page, drawing, numbers) in enumerate(zip(made.pages, made.drawings, made.measures), 1):
            Image.fromarray(page_image(drawing)).save(root / "pages" / f"{name}-{p:02}.png")
            for bar, n in zip(page.bars, numbers):
                if k == 0 or bar["system"]:
                    where = ",".join(f"{bar[e]:.1f}" for e in ("x0", "y0", "x1", "y1"))
                    boxes.append(f"{p},{bar['system'] + 1},{n + 1},{where},1,0,{n}")
                elif not [b for b in boxes if b.startswith(f"{p},1,")]:
                    boxes.append(f"{p},1,,,,,,0,,")
            for s in page.staves:
                where = ",".join(f"{s[e]:.1f}" for e in ("y_top", "y_bottom", "x0", "x1", "slope"))
                staves.append(f"{p},{s['system'] + 1},{s['staff'] + 1},{where}")
        (root / "boxes" / f"{name}.csv").write_text("\n".join(boxes) + "\n")
        (root / "boxes" / f"{name}.staves.csv").write_text("\n".join(staves) + "\n")
        table.append(f"{name},{len(made.pages)},layout")
    (root / "pieces.csv").write_text("\n".join(table) + "\n")
    return root


def test_the_reader_of_pages_is_judged_on_a_folder_of_them(tmp_path):
    pytest.importorskip("verovio")
    folder = page_folder(tmp_path / "scans")
    found = head("B_page_layout", "b1a90009", pages=folder, record="page_layout")["measured"]
    assert list(found) == ["all", "nobody", "somebody"]
    every = found["all"]
    assert every["movements"] == 2 and every["not_trusted"] == 1
    assert found["nobody"]["written"] == 160 > found["somebody"]["written"] > 0
    assert every["movements_equal"] == every["bars_equal"] == 1 and every["f1"] > 0.99
    record = json.loads((tmp_path / "nbs" / "results" / "page_layout_layout.json").read_text())
    assert [run["id"] for run in record["runs"]][0] == "read_page_layout"
    for wrong, line in (({"pages": tmp_path / "nowhere"}, "pieces.csv"), ({"role": "none"}, "no movement")):
        with pytest.raises(UserError, match=line) as refused:
            head("B_page_layout", "b1a90003", **{"pages": folder, **wrong})
        assert "\n" not in str(refused.value)
