"""Every data set of the papers, as a look-alike in the layout and formats of the original: read, refused, prepared."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

import lookalikes
from amt_nb.cqt import CQTConfig
from amt_nb.notes import as_notes, to_roll
from amt_nb.workshop import archives, corpora, gardner as gardner_room, musicnet as musicnet_room
from amt_nb.workshop.asap import asap
from amt_nb.workshop.corpora import RollConfig, prepare, taught
from amt_nb.workshop.gardner import GardnerConfig, gardner
from amt_nb.workshop.guitarset import guitarset
from amt_nb.workshop.label_fit import label_lag_s
from amt_nb.workshop.maestro import maestro
from amt_nb.workshop.maps import maps
from amt_nb.workshop.midi import read_midi, write_midi
from amt_nb.workshop.musicnet import MUSICNET_TEST, PAPER_CHUNKS, chunks_by_role, musicnet
from amt_nb.workshop.recordings import Recording
from amt_nb.workshop.settings import Paths, UserError, paths

FINE = CQTConfig(filter_scale=0.6, centre=0.5)
SMALL = dict(train=2, validation=1, test=1)


@pytest.fixture(scope="session")
def box(tmp_path_factory):
    """Folder with a look-alike of each data set; nobody changes it."""
    root = tmp_path_factory.mktemp("lookalikes")
    lookalikes.maestro(root, **SMALL)
    for make in (lookalikes.maps, lookalikes.asap, lookalikes.guitarset, lookalikes.musicnet, lookalikes.gardner):
        make(root)
    return root


def refused(function, *args, **named):
    """The one line with which function refuses."""
    with pytest.raises(UserError) as caught:
        function(*args, **named)
    line = str(caught.value)
    assert "\n" not in line
    return line


def quiet(function, *args, **named):
    """What function gives, and the words of its warnings."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        return function(*args, **named), [str(w.message) for w in said]


def prepared(recordings, cache, **named):
    """(features, {id: reason} of those left out)."""
    failures = []
    return prepare(recordings, cache, FINE, 1, failures=failures, progress=False, **named), dict(failures)


# ---- MAESTRO ------------------------------------------------------------------------------------------------------


def test_maestro_has_its_official_split_both_rates_and_its_pedal(box):
    found = maestro(box / "maestro-v3.0.0")
    assert [r.role for r in found] == ["train", "train", "validation", "test"] and len({r.piece for r in found}) == 4
    assert [r.load_audio()[1] for r in found] == [44100, 48000, 44100, 48000]
    assert {r.source for r in found} == {"maestro-3.0.0"} and {r.group for r in found} == {"2018", "2004", "2011"}
    for k, r in enumerate(found):
        held, extended = r.load_notes(), r.load_notes(pedal=True)
        want = lookalikes.tune(lookalikes.seed_of("maestro", k))
        assert np.array_equal(np.sort(held["pitch"]), np.sort(want["pitch"]))
        assert (extended["offset_s"] >= held["offset_s"]).all() and (
            extended["offset_s"] > held["offset_s"] + 0.1
        ).any()
        assert np.array_equal(lookalikes.extended(r.notes.args[0])["offset_s"], extended["offset_s"])


@pytest.mark.parametrize("version", ["2.0.0", "3.0.0"])
@pytest.mark.parametrize("form", ["csv", "json"])
def test_maestro_reads_csv_and_json_of_both_versions_alike(tmp_path, version, form):
    folder = lookalikes.maestro(tmp_path, version, (form,), sound=False, **SMALL)
    found, said = quiet(maestro, folder)
    assert [(r.role, r.seconds, r.told_s) for r in found] == [
        (s, 11.25, 11.25) for s in ("train", "train", "validation", "test")
    ]
    assert (
        found[1].piece == 'franz_schubert_franz_liszt_lied,_"ständchen"_(1)' and found[0].source == f"maestro-{version}"
    )
    assert "only MIDI" in said[0] and all(r.audio is None and len(r.load_notes()) for r in found)
    assert [r.id for r in maestro(tmp_path)] == [r.id for r in found]  # a folder around it


def test_maestro_as_zip_is_unpacked_once(box, tmp_path, monkeypatch):
    archive = lookalikes.zipped(
        lookalikes.maestro(tmp_path / "a", sound=False, **SMALL), tmp_path / "maestro-v3.0.0.zip"
    )
    assert "not that of the page" in refused(maestro, archive, tmp_path / "cache")  # the real one's digest is another
    monkeypatch.setattr(archives, "PUBLISHED", {})
    for place in (archive, tmp_path / "a", tmp_path):
        assert len(quiet(maestro, place, tmp_path / "cache")[0]) == 4
    assert len(list((tmp_path / "cache" / "unpacked").iterdir())) == 1


def test_of_the_two_archives_of_maestro_the_one_with_sound_is_taken(box, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "PUBLISHED", {})
    lookalikes.zipped(lookalikes.maestro(tmp_path / "a", sound=False, **SMALL), tmp_path / "maestro-v3.0.0-midi.zip")
    shutil.rmtree(tmp_path / "a")
    assert all(r.audio is None for r in quiet(maestro, tmp_path, tmp_path / "cache")[0])
    lookalikes.zipped(box / "maestro-v3.0.0", tmp_path / "maestro-v3.0.0.zip")
    assert all(r.audio.exists() for r in maestro(tmp_path, tmp_path / "cache"))


def test_maestro_of_a_version_not_known_or_of_two_is_refused(tmp_path):
    lookalikes.maestro(tmp_path / "old", "1.0.0", ("csv",), sound=False, train=1, validation=0, test=0)
    assert "version 1.0.0 is not read, 2.0.0 and 3.0.0 are" in refused(maestro, tmp_path / "old")
    for version in ("2.0.0", "3.0.0"):
        lookalikes.maestro(tmp_path / "both", version, ("csv",), sound=False, train=1, validation=0, test=0)
    assert "holds versions 2.0.0 and 3.0.0" in refused(maestro, tmp_path / "both")
    line = refused(maestro, tmp_path)
    assert (
        "maestro-v3.0.0.zip" in line and "CC BY-NC-SA 4.0" in line and "MAESTRO Dataset" in line and "http" not in line
    )


@pytest.mark.parametrize(
    "change, word",
    [
        (lambda t: t.replace(",train,", ",training,", 1), "split of"),
        (lambda t: t.replace(",11.25", ",eleven", 1), "no number"),
        (lambda t: t.replace("duration", "length"), "has no column 'duration'"),
        (lambda t: t.partition("\n")[0] + "\n", "no row"),
        (lambda t: t + t.rpartition("\n")[0].rpartition("\n")[2] + "\n", "twice"),
    ],
)
def test_a_maestro_table_that_is_wrong_is_one_line(tmp_path, change, word):
    folder = lookalikes.maestro(tmp_path, formats=("csv",), sound=False, **SMALL)
    table = folder / "maestro-v3.0.0.csv"
    table.write_text(change(table.read_text(encoding="utf-8")), encoding="utf-8")
    line = refused(maestro, folder)
    assert word in line and "maestro-v3.0.0.csv" in line


def test_json_that_is_no_table_is_one_line(tmp_path):
    for text in ("{}", "[1]", "not json", '{"canonical_composer": {"0": "A"}}'):
        (tmp_path / "maestro-v3.0.0.json").write_text(text)
        assert "maestro-v3.0.0.json: is no table of MAESTRO" in refused(maestro, tmp_path)


# ---- MAPS, ASAP ---------------------------------------------------------------------------------------------------


def test_maps_marks_what_the_disklavier_plays_by_name_and_by_notes(box):
    found = {r.id.removeprefix("maps/MAPS_MUS-"): r for r in maps(box / "MAPS")}
    roles = {k: r.role for k, r in found.items()}
    assert roles == {
        "alb_se3_AkPnBcht": "train",
        "chpn-p7_AkPnBsdf": "train",
        "chpn_op10_e01_SptkBGAm": "overlap",  # has the name
        "nobody_knows_StbgTGd2": "overlap",  # has the notes
        "chpn-e01_ENSTDkAm": "test",
        "mz_331_3_ENSTDkCl": "test",
    }
    one = found["alb_se3_AkPnBcht"]
    assert len(one.load_pedal()) and (one.load_notes(pedal=True)["offset_s"] > one.load_notes()["offset_s"] + 0.1).any()
    assert len(one.load_notes()) == len(read_midi(one.audio.with_suffix(".mid")))


def test_the_lag_of_maps_is_taken_out_of_labels_that_teach_alone(tmp_path):
    """Where the sound's onsets are against the prepared labels: at 0 where they teach, late as published where not."""
    features, _ = prepared(maps(lookalikes.maps_packed(tmp_path)), tmp_path / "cache")
    sounds = {r.id: r for r in maps(tmp_path / "maps_packed")}
    lags = {f.role: label_lag_s(*sounds[f.id].load_audio(), f.load_notes()) for f in features}
    assert lags["paired"] == pytest.approx(0, abs=0.003) and lags["real_val"] == pytest.approx(0.024, abs=0.003)
    assert lags["unpaired"] == pytest.approx(0, abs=0.003)


def test_maps_zips_are_unpacked_and_a_recording_twice_is_refused(box, tmp_path):
    for piano in ("AkPnBcht", "ENSTDkCl"):
        lookalikes.zipped(box / "MAPS" / piano, tmp_path / f"MAPS_{piano}_1.zip")
    shutil.copytree(box / "MAPS" / "AkPnBsdf", tmp_path / "AkPnBsdf")  # one piano unpacked by hand, two not
    assert [r.role for r in maps(tmp_path, tmp_path / "cache")] == ["train", "train", "test"]
    shutil.copytree(box / "MAPS" / "AkPnBcht", tmp_path / "twice" / "a")
    shutil.copytree(box / "MAPS" / "AkPnBcht", tmp_path / "twice" / "b")
    assert "is there twice" in refused(maps, tmp_path / "twice")


def test_asap_as_folder_and_as_archives(box, tmp_path):
    want = [(r.id, r.role) for r in asap(box / "asap")]
    assert [role for _, role in want] == ["performance", "score", "performance", "performance", "score"]
    lookalikes.zipped(box / "asap", tmp_path / "asap-dataset-master.zip")
    lookalikes.tarred(box / "asap", tmp_path / "asap.tar.xz")
    for place in (tmp_path / "asap-dataset-master.zip", tmp_path / "asap.tar.xz", box):
        assert [(r.id, r.role) for r in asap(place, tmp_path / "cache")] == want
    first = asap(box / "asap")[0]
    assert (first.load_notes(pedal=True)["offset_s"] > first.load_notes()["offset_s"] + 0.1).any()


# ---- GuitarSet ----------------------------------------------------------------------------------------------------


def test_guitarset_is_the_microphone_split_by_progression(box):
    found = {r.id.removeprefix("guitarset/"): r for r in quiet(guitarset, box / "GuitarSet")[0]}
    assert set(found) == set(lookalikes.GUITARSET_NAMES)
    assert all(
        ("validation" if r.piece[len("guitarset_") :].partition("-")[0][-1] == "3" else "train") == r.role
        for r in found.values()
    )
    assert all(r.audio.name.endswith("_mic.wav") for r in found.values())
    for name, r in found.items():  # strings are merged, out of order, and a note that is there twice is one
        want = lookalikes.tune(lookalikes.seed_of("guitarset", name[3:]), low=40)
        assert len(r.load_notes()) == len(want) and (np.diff(r.load_notes()["onset_s"]) >= 0).all()


def test_guitarset_zips_have_the_published_digests_or_are_refused(box, tmp_path, monkeypatch):
    for folder, name in (("annotation", "annotation.zip"), ("audio_mono-mic", "audio_mono-mic.zip")):
        lookalikes.zipped(box / "GuitarSet" / folder, tmp_path / name)
    assert "annotation.zip: is damaged or another version" in refused(guitarset, tmp_path, tmp_path / "cache")
    monkeypatch.setattr(archives, "PUBLISHED", {})
    want, said = quiet(guitarset, box / "GuitarSet")
    assert len(said) == 1 and "04_BN3-154-E_comp: its labels are known to be 0.409 s late" in said[0]
    assert [(r.id, r.role) for r in quiet(guitarset, tmp_path, tmp_path / "cache")[0]] == [(r.id, r.role) for r in want]


def test_pickups_instead_of_the_microphone_are_refused(box, tmp_path):
    shutil.copytree(box / "GuitarSet" / "annotation", tmp_path / "annotation")
    shutil.copytree(box / "GuitarSet" / "audio_mono-pickup_mix", tmp_path / "audio_mono-pickup_mix")
    line = refused(guitarset, tmp_path)
    assert "_mix.wav" in line and "audio_mono-mic.zip" in line and "CC BY 4.0" in line


def test_labels_known_to_be_late_are_moved_where_they_teach_and_left_where_they_judge(box):
    """Where the sound's onsets are against the labels, before and after."""
    found = {r.id.removeprefix("guitarset/"): r for r in quiet(guitarset, box / "GuitarSet")[0]}
    for name, late_s in lookalikes.GUITARSET_LATE_S.items():
        r = found[name]
        lag = lambda notes: label_lag_s(*r.load_audio(), notes, reach_s=0.6)
        before, after = lag(r.load_notes()), lag(taught(replace(r, role="train")))
        assert abs(before + late_s) < 0.01 and abs(after) < 0.01, (name, before, after)
        assert np.array_equal(taught(replace(r, role="validation")), r.load_notes())
    on_time = found["05_SS3-98-C_solo"]
    assert np.array_equal(taught(on_time), on_time.load_notes())


# ---- MusicNet -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["yourmt3", "original"])
def test_musicnet_takes_aligned_labels_in_both_layouts(box, tmp_path, layout):
    folder = box / "musicnet_yourmt3_16k" if layout == "yourmt3" else lookalikes.musicnet(tmp_path, layout, 6.0)
    seconds = lookalikes.SECONDS if layout == "yourmt3" else 6.0
    found = {r.id.removeprefix("musicnet/"): r for r in musicnet(folder)}
    assert set(found) == set(lookalikes.MUSICNET_SONGS) - set(lookalikes.MUSICNET_NO_EM)
    for number, r in found.items():
        instruments = lookalikes.MUSICNET_SONGS[number][3]
        want = lookalikes.tune(lookalikes.seed_of("musicnet", number), seconds, instruments)
        assert len(r.load_notes()) == len(want) and np.abs(r.load_notes()["onset_s"] - want["onset_s"]).max() < 0.001
        assert set(r.load_notes()["instrument"]) == set(instruments) and r.source == "musicnet-em"
    roles = [r.role for r in found.values()]
    assert {k: roles.count(k) for k in set(roles)} == {"test": 3, "validation": 5, "paired": 3, "score": 1}
    assert found["1788"].group == "Quintet" and {n for n, r in found.items() if r.role == "test"} == {
        "1759",
        "1819",
        "2628",
    }


def test_musicnet_without_the_em_labels_reads_its_own(box, tmp_path):
    shutil.copytree(box / "musicnet_yourmt3_16k", tmp_path / "m", ignore=shutil.ignore_patterns("*_em", "*_midi"))
    found = {r.id.removeprefix("musicnet/"): r for r in musicnet(tmp_path / "m")}
    assert len(found) == len(lookalikes.MUSICNET_SONGS) and {r.source for r in found.values()} == {"musicnet"}
    notes = found["1788"].load_notes()
    want = lookalikes.tune(lookalikes.seed_of("musicnet", "1788"), lookalikes.SECONDS, (0, 7, 8, 9, 6))
    assert np.abs(notes["onset_s"] - want["onset_s"]).max() < 1e-4 and set(notes["instrument"]) == {0, 6, 7, 8, 9}
    (tmp_path / "m" / "train_labels" / "1788.csv").write_text("start_time,end_time,instrument,note\n1,2,41,x\n")
    assert "row 2 is no label" in refused({r.id: r for r in musicnet(tmp_path / "m")}["musicnet/1788"].load_notes)


def test_scores_that_are_not_aligned_are_never_labels(box, tmp_path):
    """Neither as the last of several files in sort order nor as the only ones."""
    shutil.copytree(box / "musicnet_yourmt3_16k", tmp_path / "m", ignore=shutil.ignore_patterns("*_em", "*_labels"))
    assert "are scores, not aligned" in refused(musicnet, tmp_path / "m")
    flat = tmp_path / "flat"
    flat.mkdir()
    notes = lookalikes.tune(1)
    soundfile.write(flat / "1727.wav", np.zeros(16000), 16000)
    write_midi(notes, flat / "1727.mid")
    write_midi(notes[:5], flat / "1727_schubert_op114_2.mid")  # sorts last
    assert len(musicnet(flat)[0].load_notes()) == len(notes)
    (flat / "zz").mkdir()
    write_midi(notes[:5], flat / "zz" / "1727.mid")
    line = refused(musicnet, flat)
    assert "two label files of 1727" in line and "zz/1727.mid" in line.replace("\\", "/")


def test_renderings_of_musicnet_are_not_its_sound(box, tmp_path):
    shutil.copytree(box / "musicnet_yourmt3_16k", tmp_path / "m")
    shutil.copytree(tmp_path / "m" / "train_data", tmp_path / "m" / "train_synth")
    assert all(r.audio.parent.name.endswith("_data") for r in musicnet(tmp_path / "m"))
    shutil.copytree(tmp_path / "m" / "train_data", tmp_path / "m" / "copy")
    assert "two sounds of" in refused(musicnet, tmp_path / "m")


def test_the_draw_is_that_of_the_authors_code():
    """Ranked by instruments, then by active instrument-chunks over the sound's whole chunks; five of eight by
    random.Random(42).sample, held here to the draw written out again."""
    import random

    rng, made = np.random.default_rng(3), []
    for n in range(1800, 1830):
        notes = lookalikes.tune(n, 30.0, tuple(rng.choice(11, rng.integers(1, 5), replace=False).tolist()))
        made.append(Recording(f"musicnet/{n}", "", seconds=float(rng.uniform(10, 40)), audio=Path("x"), notes=notes))
    scored = []
    for r in (r for r in made if r.id[-4:] not in MUSICNET_TEST):
        frames = int(np.ceil(r.seconds * 50)) + 1
        active = np.zeros(11, int)
        for i in range(11):
            mine = r.notes[r.notes["instrument"] == i]
            roll = np.zeros((10_000, 128), bool)
            for note in mine:
                roll[int(note["onset_s"] * 50 + 1e-6) : int(note["offset_s"] * 50 + 1e-6), note["pitch"]] = True
            active[i] = sum(roll[256 * k : 256 * k + 256].any() for k in range(frames // 256))
        scored.append((r.id[-4:], int((active > 0).sum()), int(active.sum())))
    scored.sort(key=lambda x: (-x[1], -x[2]))
    pool = [x[0] for x in scored[:8]]
    validation = set(random.Random(42).sample(pool, 5))
    roles = {r.id[-4:]: r.role for r in musicnet_room.draw(made)}
    assert {n for n, role in roles.items() if role == "validation"} == validation
    assert {n for n, role in roles.items() if role == "paired"} == set(pool) - validation and roles["1819"] == "test"


REAL = paths().musicnet


@pytest.mark.skipif(REAL is None, reason="[paths] musicnet is not set")
def test_the_real_musicnet_em_has_the_chunks_of_the_paper():
    found = musicnet(REAL)
    if {r.source for r in found} != {"musicnet-em"} or len(found) < 300:
        pytest.skip("not the whole data set with the EM labels")
    assert chunks_by_role(found) == PAPER_CHUNKS


# ---- Gardner Museum -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def concerts(box, tmp_path_factory):
    """(recordings, warnings, rows of the report) of the look-alike, all hours used."""
    cache = tmp_path_factory.mktemp("gardner")
    found, said = quiet(gardner, box / "gardner", cache, box / "musicnet_yourmt3_16k", GardnerConfig(hours=0))
    (report,) = (cache / "gardner").glob("report-*.csv")
    return found, said, [line.split(",") for line in report.read_text().splitlines()]


def test_gardner_leaves_out_what_musicnet_has_and_says_so_file_by_file(concerts):
    found, said, rows = concerts
    kept = sorted(n for n, (_, why) in lookalikes.GARDNER_FILES.items() if why is None)
    assert [r.id.removeprefix("gardner/") + ".mp3" for r in found] == kept
    assert {r.role for r in found} == {"unpaired"} and all(r.load_notes() is None for r in found)
    stages = {row[0]: {r[3] for r in rows if r[0] == row[0]} for row in rows[1:]}
    for name, (_, why) in lookalikes.GARDNER_FILES.items():
        want = {"name": "name", "duration": "recording", "movements": "movements", None: ""}[why]
        assert want in stages[name], (name, stages[name])
    assert any("3 of 6 files left out (1 by name, 2 by length alone)" in words for words in said)
    assert any("1 of 7 files that" in words and "Handel op6_no11_AFarCry.mp3" in words for words in said)


def test_gardner_draws_hours_and_needs_the_table_it_compares_with(box, tmp_path):
    draw = lambda hours, seed=0: [
        r.id
        for r in quiet(gardner, box / "gardner", tmp_path, box / "musicnet_yourmt3_16k", GardnerConfig(hours, seed))[0]
    ]
    assert len(draw(30 / 3600)) in (1, 2) and draw(30 / 3600) == draw(30 / 3600) and len(draw(0.1)) == 3
    assert len({tuple(draw(10 / 3600, s)) for s in range(6)}) > 1
    line = quiet(refused, gardner, box / "gardner", tmp_path)[0]
    assert "no musicnet_metadata.csv" in line and "musicnet" in line
    assert "none of the recordings" in refused(gardner_room.sound_files, tmp_path / "gardner")


def test_lengths_are_counted_by_packets_and_kept(box, tmp_path, monkeypatch):
    files = quiet(gardner_room.sound_files, box / "gardner" / "urls.txt")[0]
    told = gardner_room.lengths(files, tmp_path)
    want = {n: s for n, (s, _) in lookalikes.GARDNER_FILES.items()}
    assert all(abs(told[p] - want[p.name]) < 0.2 for p in files)
    monkeypatch.setattr(gardner_room, "counted_seconds", None)  # is not asked again
    assert gardner_room.lengths(files, tmp_path) == told


# ---- prepare ------------------------------------------------------------------------------------------------------


def test_a_data_set_is_prepared_and_its_damage_named_one_line_each(box, tmp_path, capsys):
    folder = tmp_path / "maestro-v3.0.0"
    shutil.copytree(box / "maestro-v3.0.0", folder)
    a, b, c, d = (r.audio for r in maestro(folder))
    shutil.copy(d.with_suffix(".midi"), a.with_suffix(".midi"))  # another's labels, as well-formed as its own
    b.unlink()
    wave, sr = soundfile.read(c)
    soundfile.write(c, wave[: len(wave) // 2], sr, subtype="PCM_16")
    features, left_out = prepared(maestro(folder), tmp_path / "cache")
    assert [f.role for f in features] == ["test"] and len(left_out) == 3
    reasons = list(left_out.values())
    assert "labels do not fit its sound" in reasons[0] and f"there is no {b}" in reasons[1]
    assert "labels reach to" in reasons[2] or "its data set's table says 11.2 s" in reasons[2]
    assert capsys.readouterr().err.count("\n") == 4


@pytest.mark.parametrize(
    "read, folder, lost",
    [(maps, "MAPS", "left out"), (guitarset, "GuitarSet", "scores"), (musicnet, "musicnet_yourmt3_16k", "scores")],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_a_lost_sound_and_anothers_labels_are_one_line_in_every_data_set(box, tmp_path, read, folder, lost):
    shutil.copytree(box / folder, tmp_path / "d")
    whole, said = quiet(read, tmp_path / "d")
    a, b = [r for r in whole if r.audio and r.notes is not None][:2]
    labels = [[p for p in r.files if p != r.audio] for r in (a, b)]
    for mine, theirs in zip(*labels):
        shutil.copy(theirs, mine)
    b.audio.unlink()
    found, now = quiet(read, tmp_path / "d")
    (line,) = set(now) - set(said)
    assert "have no sound" in line and lost in line and f"{b.id.rpartition('/')[2]} for one" in line
    left_out = prepared([r for r in found if r.id == a.id], tmp_path / "cache")[1]
    assert "labels do not fit its sound" in left_out[a.id]
    for p in labels[0]:
        p.unlink()
    lines = set(quiet(read, tmp_path / "d")[1]) - set(now)
    assert len(lines) == 1 and "labels and" in lines.pop()


def test_files_are_held_to_a_list_of_checksums_beside_them(box, tmp_path):
    folder = tmp_path / "maestro-v3.0.0"
    shutil.copytree(box / "maestro-v3.0.0", folder, ignore=lambda d, names: [n for n in names if n.startswith("2011")])
    found = [r for r in maestro(folder) if r.audio.exists()]
    lines = [f"{archives.file_digest(p)}  {p.relative_to(folder).as_posix()}" for r in found for p in r.files]
    (folder / "SHA256SUMS").write_text("\n".join(lines) + "\n")
    assert not prepared(found, tmp_path / "cache")[1]
    sound, midi = found[0].audio, found[1].audio.with_suffix(".midi")
    data = bytearray(sound.read_bytes())
    data[5000] ^= 1
    sound.write_bytes(data)
    write_midi(read_midi(midi)[1:], midi)
    left_out = prepared([r for r in maestro(folder) if r.audio.exists()], tmp_path / "cache")[1]
    assert [(".wav:" in why, ".midi:" in why, "SHA256SUMS" in why) for why in left_out.values()][:2] == [
        (True, False, True),
        (False, True, True),
    ]


def test_sounds_are_read_once_for_all_runs(box, tmp_path, monkeypatch):
    """A second run believes sizes and dates; a file that has changed is read again."""
    found = maestro(box / "maestro-v3.0.0")[:2]
    first, _ = prepared(found, tmp_path)
    code = (
        "import sys, hashlib; hashlib.file_digest = None; from amt_nb.cqt import CQTConfig;"
        "from amt_nb.workshop.corpora import prepare; from amt_nb.workshop.maestro import maestro;"
        "f = prepare(maestro(sys.argv[1])[:2], sys.argv[2], CQTConfig(filter_scale=0.6, centre=0.5), 1, progress=False);"
        "print(*[x.cqt_path for x in f])"
    )
    words = [sys.executable, "-c", code, str(box / "maestro-v3.0.0"), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stdout.split() == [f.cqt_path for f in first], done.stderr


def test_rolls_are_key_held_or_pedal_extended_and_cached_apart(box, tmp_path, capsys):
    found = maestro(box / "maestro-v3.0.0")[:1] + quiet(guitarset, box / "GuitarSet")[0][-1:]
    held, _ = prepared(found, tmp_path)
    extended, _ = prepared(found, tmp_path, rolls=RollConfig("extended"))
    assert "1 of 2 labelled recordings have no pedal" in capsys.readouterr().err
    assert held[0].cqt_path == extended[0].cqt_path and held[0].roll_path != extended[0].roll_path
    assert held[1] == extended[1] and extended[0].roll().sum() > held[0].roll().sum() * 1.1
    assert np.array_equal(extended[0].roll(), to_roll(found[0].load_notes(pedal=True), extended[0].frames))


@pytest.mark.parametrize("seed", range(4))
def test_pedal_extended_rolls_are_pretty_midi_s_where_that_is_right(tmp_path, seed):
    """One channel, times off the grid, pedal released and pressed well between notes, none shorter than a frame."""
    import pretty_midi

    rng = np.random.default_rng(seed)
    at = lambda frames: (np.asarray(frames) + 0.3) / 50  # its floor and our rounding agree there
    n = 40
    pitch = rng.permutation(np.repeat(np.arange(40, 80), 1))[:n]
    onset = np.cumsum(rng.integers(8, 20, n)) // 2 * 2
    notes = as_notes(at(onset), at(onset + rng.integers(4, 12, n)), pitch)
    down = np.arange(3, int(onset[-1]), 61)
    down = down + down % 2 + 1  # odd: no pedal in the frame of a note's end below
    notes["offset_s"] = at(np.round(notes["offset_s"] * 50 - 0.3) // 2 * 2)
    pedal = sorted([(t, 127) for t in at(down)] + [(t, 0) for t in at(down + 40)])
    write_midi(notes, tmp_path / "a.mid", resolution=9600, pedal=lookalikes.pedal_rows(pedal))
    ours = to_roll(read_midi(tmp_path / "a.mid", pedal=True))
    theirs = pretty_midi.PrettyMIDI(str(tmp_path / "a.mid")).get_piano_roll(fs=50, pedal_threshold=64)[21:109].T > 0
    m = min(len(ours), len(theirs))
    assert ours[:m].any() and (ours[:m] == theirs[:m]).all() and not ours[m:].any() and not theirs[m:].any()
    assert ours.sum() > to_roll(read_midi(tmp_path / "a.mid")).sum()


@pytest.mark.parametrize("name", ["maestro", "maps", "asap", "guitarset", "musicnet", "gardner"])
def test_a_path_that_is_not_set_or_not_there_says_what_to_download(tmp_path, name):
    for path in (None, tmp_path / "nowhere"):
        line = refused(corpora.dataset, name, Paths(cache=tmp_path, **{name: path}))
        assert name in line and "[paths]" in line and f"--data {name}=" in line and "Download" in line
        assert re.search(r"CC BY|terms of use", line) and "http" not in line


def command(*words, env=None, **named):
    """A run of amt-nb with settings of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "amt_nb.workshop.cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | (env or {}),
        **named,
    )


def test_prepare_goes_on_after_kill_9_and_reports(box, tmp_path):
    words = ["prepare", "--data", f"maestro={box / 'maestro-v3.0.0'}", "--cache", str(tmp_path), "--jobs", "1"]
    run, features = command(*words), tmp_path / "features"
    end = time.time() + 120
    while time.time() < end and run.poll() is None and not list(features.glob("*.cqt.npy")):
        time.sleep(0.05)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    before = {p: p.stat().st_mtime_ns for p in features.glob("*.npy")}
    assert before
    again = command(*words)
    out, err = again.communicate()
    assert again.returncode == 0, err
    assert all(p.stat().st_mtime_ns == stamp for p, stamp in before.items())  # what was whole is not made again
    assert "4 recordings" in out and "0.01 h" in out and "8 chunks" in out and "prepare: 100%" in err
    assert len(list(features.glob("*.cqt.npy"))) == 4


def test_every_data_set_has_a_name_on_the_command_line(box, tmp_path):
    from types import SimpleNamespace

    from amt_nb.workshop.cli_data import recordings_of

    places = {
        "maestro": "maestro-v3.0.0",
        "asap": "asap",
        "guitarset": "GuitarSet",
        "musicnet": "musicnet_yourmt3_16k",
        "gardner": "gardner",
    }
    told = [
        f"{name}={box / folder}" for name, folder in reversed(places.items())
    ]  # gardner before musicnet, which it asks
    found, _ = quiet(recordings_of, SimpleNamespace(data=told, size="demo", cache=str(tmp_path)))
    sources = {r.source.partition("-")[0] for r in found[0]}
    assert sources == set(places)


def test_the_look_alikes_are_as_their_originals_say():
    """Columns and names that public code reads."""
    assert json.loads(lookalikes.jams(lookalikes.tune(0), "x"))["annotations"][1]["namespace"] == "note_midi"
    assert lookalikes.musicnet_csv(lookalikes.tune(0)[:1]).startswith("start_time,end_time,instrument,note,start_beat")
    assert all(re.match(r"\d{4}$", n) for n in lookalikes.MUSICNET_SONGS)
