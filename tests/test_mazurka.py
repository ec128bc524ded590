"""Mazurka-BL: tables, scores and sound of a look-alike become cases and pairs; what stands wrong is said in one line."""

import lookalikes
import shutil

import numpy as np
import pytest
from test_experiments import head

from amt_nb.workshop.held_out import alignment_cases
from amt_nb.workshop.mazurka import beat_quarters, mazurka_map, mazurka_split, mazurkas, read_mazurka_beats
from amt_nb.workshop.midi import read_midi
from amt_nb.workshop.scores import read_score
from amt_nb.workshop.settings import UserError

HEAD = ",measure_number,beat_number,pid1263-01,pid52932-01\n"


def test_beats_of_mazurka_bl(tmp_path):
    (tmp_path / "beat_time").mkdir()
    rows = "".join(f"{i},{1 + (i + 2) // 3},{(i + 2) % 3},{0.5 * i + 4.4},{0.6 * i + 3}\n" for i in range(7))
    (tmp_path / "beat_time" / "M17-2beat_time.csv").write_bytes(("\ufeff" + HEAD + rows).encode())
    (tmp_path / "sounds" / "rubinstein").mkdir(parents=True)
    (tmp_path / "sounds" / "rubinstein" / "pid1263-01.FLAC").write_bytes(b"x")
    (tmp_path / "sounds" / "pid52932-01.txt").write_bytes(b"x")
    first, second = mazurkas(tmp_path, tmp_path / "sounds")
    assert (
        (first.id, first.work, second.id) == ("pid1263-01", "M17-2", "pid52932-01")
        and first.audio.suffix == ".FLAC"
        and second.audio is None
    )
    assert (
        first.bar.tolist() == [1, 2, 2, 2, 3, 3, 3]
        and first.beat.tolist() == [2, 0, 1, 2, 0, 1, 2]
        and np.allclose(second.time_s, 3 + 0.6 * np.arange(7))
    )


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "is no table of beats"),
        ("a,b,c\n1,2,3\n", "is no table of beats"),
        (HEAD + "0,1,2,4.4\n1,2,0,5,5\n", "line 2: 4 columns instead of 5"),
        (HEAD + "0,1,2,4.4,x\n1,2,0,5,5\n", "could not convert"),
        (HEAD + "0,1,2,4.4,3\n1,2,0,4.4,4\n", "pid1263-01 do not rise"),
        (HEAD + "0,1,2,4.4,3\n1,2,0,nan,4\n", "pid1263-01 do not rise"),
    ],
)
def test_tables_that_are_none(tmp_path, text, message):
    (tmp_path / "M06-1beat_time.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        mazurkas(tmp_path)


def test_no_folder_of_mazurkas(tmp_path):
    with pytest.raises(UserError, match="is no folder"):
        mazurkas(tmp_path / "nowhere")
    with pytest.raises(UserError, match="cannot be read"):
        read_mazurka_beats(tmp_path / "M06-1beat_time.csv")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    return lookalikes.mazurka(tmp_path_factory.mktemp("mazurka"))


@pytest.fixture(autouse=True)
def nothing_set(tmp_path, monkeypatch):
    (tmp_path / "settings.ini").write_text(f"[paths]\ncache = {tmp_path / 'cache'}\n")
    monkeypatch.setenv("AMT_NB_SETTINGS", str(tmp_path / "settings.ini"))
    monkeypatch.setenv("MPLBACKEND", "agg")


def test_the_set_as_published_is_joined_from_the_settings(shelf, tmp_path):
    (tmp_path / "settings.ini").write_text(f"[paths]\nmazurka = {shelf}\n")
    found = {(r.work, r.id): r for r in mazurkas()}
    assert len(found) == 6 and sum(r.audio is not None for r in found.values()) == 4
    assert found["M17-2", "pid9070b-01"].audio and not found["M63-2", "pid9070b-01"].audio
    assert found["M06-1", "pid9058-01"].score.name == "Mazurka06-1.xml" and not found["M63-2", "pid9070b-01"].score


@pytest.mark.parametrize("work", ["M06-1", "M17-2"])
def test_every_beat_is_a_note_of_its_score(shelf, work):
    r = next(r for r in mazurkas(shelf) if r.work == work and r.audio)
    score = read_score(r.score)
    assert np.allclose(score.beats(np.unique(score.notes["onset_s"])), beat_quarters(r, score), atol=1e-6)
    assert np.abs(mazurka_map(r, score).at(r.time_s) - np.unique(score.notes["onset_s"])).max() < 1e-6


def test_a_sound_that_is_there_twice_or_nowhere(shelf, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pid1263-01.wav").touch()
    with pytest.raises(UserError, match="are both pid1263-01: keep one"):
        mazurkas(shelf, tmp_path)
    (tmp_path / "three").mkdir()
    (tmp_path / "three" / "rubinstein 1.wav").touch()
    with pytest.raises(UserError, match="holds no sound named as a recording, .*; rubinstein 1 is none"):
        mazurkas(shelf, tmp_path / "three")
    (tmp_path / "four").mkdir()
    (tmp_path / "four" / "pid9070b-01.wav").touch()
    with pytest.warns(UserWarning, match="pid9070b-01 stands in two tables"):
        assert not any(r.audio for r in mazurkas(shelf, tmp_path / "four"))
    with pytest.raises(UserError, match="set mazurka in .paths."):
        mazurkas()
    with pytest.raises(UserError, match="is no folder"):
        mazurkas(shelf / "beat_time" / "M06-1beat_time.csv")


def test_marks_that_do_not_fit_a_score(shelf):
    r = next(r for r in mazurkas(shelf) if r.work == "M06-1")
    with pytest.raises(UserError, match="go from bar 1 to 24, and .* has 23") as refused:
        score = read_score(r.score)
        beat_quarters(r, type(score)(score.notes, score.beat_s, score.beat, score.bar_s[:-1], score.bar_name[:-1]))
    assert "\n" not in str(refused.value)


def test_splits_leave_works_out(shelf):
    parts = mazurka_split(mazurkas(shelf), "works", 1)
    works = [{r.work for r in rs} for rs in parts.values()]
    assert all(works) and not works[0] & works[2] and not works[0] & works[1]
    assert sum(map(len, parts.values())) == 6


def test_cases_of_a_recording_are_true(shelf, tmp_path):
    out = tmp_path / "cases"
    head("B_cases_mazurka", "maz00003", mazurka=shelf, out=out, split="works", role="train")
    folders = alignment_cases(out, ["same", "repeat", "skip", "mixed"])
    same = next(f for f in folders if f.suffix == ".same")
    truth = np.loadtxt(same / "truth.csv", delimiter=",", skiprows=1)
    assert np.abs(truth[:, 1] - np.unique(read_midi(same / "score.mid")["onset_s"])).max() < 2e-3
    assert (truth[:, 2] > 0.3).all() and len(
        np.loadtxt(same.with_suffix(".repeat") / "truth.csv", skiprows=1, delimiter=",")
    ) > len(truth)
    for change, line in (
        ({"out": ""}, "^out: "),
        ({"kinds": "same,backwards"}, "no kind is called 'backwards'"),
        ({"role": "exam"}, "no part is called 'exam'"),
        ({"split": "pianists"}, "no split is called 'pianists'"),
        ({"mazurka": tmp_path / "nowhere"}, "nowhere is no folder"),
        ({"mazurka": shelf / "xml_scores"}, "holds no M..beat_time.csv"),
    ):
        with pytest.raises(UserError, match=line) as refused:
            head("B_cases_mazurka", "maz00002", **({"mazurka": shelf, "out": out} | change))
        assert "\n" not in str(refused.value)


def test_networks_need_sound_of_both_parts(shelf, tmp_path):
    silent = shutil.copytree(shelf, tmp_path / "silent", ignore=shutil.ignore_patterns("*.flac"))
    with pytest.raises(UserError, match="no recording with sound and score in both parts, train and test"):
        head("B_networks", "68e4faca", mazurka=silent)
    with pytest.raises(UserError, match="^features: 'librosa'"):
        head("B_networks", "68e4faca", mazurka=silent, features="librosa")


@pytest.mark.parametrize("features", ["ours", "paper"])
def test_networks_take_its_recordings(shelf, features):
    bound = head("B_networks", "68e4faca", mazurka=shelf, features=features)
    assert {p.group for p in bound["pairs"]} == {"train", "test"} and bound["train_pairs"][0].recording.shape[1] == 12
