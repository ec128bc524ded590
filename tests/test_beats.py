"""Beats, bars, tempo maps and scores of performances: what has no place in the chapters' prose."""

import numpy as np
import pytest

from amt_nb.notes import as_notes
from amt_nb.workshop.beats import BeatConfig, best_beats, count_beats, find_beats, frame_chances
from amt_nb.workshop.midi import PEDAL_DTYPE, read_midi, read_pedal
from amt_nb.workshop.notation import bar_grid, chords_of_staves, midi_in_bars, musicxml_bytes
from amt_nb.workshop.scores import read_score


def performance(n=120, seed=0):
    """Notes in an uneven tempo, and the beats they were played on."""
    rng = np.random.default_rng(seed)
    beat_s = 0.4 + np.cumsum(np.r_[0, 0.5 * np.exp(0.1 * np.sin(np.arange(n - 1) / 5))])
    onset = np.interp(np.arange(2 * n - 2) / 2, np.arange(n), beat_s) + rng.normal(0, 0.008, 2 * n - 2)
    return as_notes(onset, onset + 0.2, rng.integers(40, 85, 2 * n - 2), rng.integers(40, 100, 2 * n - 2)), beat_s


def test_a_tempo_map_moves_no_note_and_no_pedal():
    notes, beat_s = performance()
    pedal = np.array([(1.23, 127, 0), (9.87, 0, 0)], PEDAL_DTYPE)
    data = midi_in_bars(notes, bar_grid(beat_s, np.arange(len(beat_s)) % 3, notes), pedal)
    back = read_midi(data)
    assert len(back) == len(notes)
    for edge in ("onset_s", "offset_s"):
        assert np.abs(np.sort(back[edge]) - np.sort(notes[edge])).max() < 1e-3
    assert sorted(back["velocity"]) == sorted(notes["velocity"])
    assert np.abs(read_pedal(data)["time_s"] - pedal["time_s"]).max() < 1e-3


def test_the_bars_in_the_file_are_those_of_the_beats(tmp_path):
    notes, beat_s = performance()
    (tmp_path / "a.mid").write_bytes(midi_in_bars(notes, bar_grid(beat_s, np.arange(len(beat_s)) % 3, notes)))
    bars = read_score(tmp_path / "a.mid").bar_s
    assert all(np.abs(bars - first).min() < 1e-3 for first in beat_s[::3])


@pytest.mark.parametrize("first_s", [0.0, 0.005, 0.3, 7.0])
@pytest.mark.parametrize("upbeat", [0, 1, 2])
def test_whatever_stands_before_the_first_bar(first_s, upbeat):
    onset = first_s + np.arange(24) * 0.5
    notes = as_notes(onset, onset + 0.4, 60)
    grid = bar_grid(onset, (np.arange(24) - upbeat) % 3, notes)
    back = read_midi(midi_in_bars(notes, grid))
    assert grid.time_s[0] == 0 and np.all(np.diff(grid.time_s) > 0) and np.abs(back["onset_s"] - onset).max() < 6e-3
    assert set(np.diff(grid.bars)[1:-1]) == {3}


def test_the_score_that_is_written_is_the_score_that_is_read(tmp_path):
    pytest.importorskip("partitura")
    notes, beat_s = performance(60, 1)
    grid = bar_grid(beat_s, np.arange(len(beat_s)) % 4, notes)
    (tmp_path / "a.musicxml").write_bytes(musicxml_bytes(notes, grid))
    score = read_score(tmp_path / "a.musicxml")
    read = sorted(
        zip(np.round(score.beats(score.notes["onset_s"]) * 12).astype(int).tolist(), score.notes["pitch"].tolist())
    )
    rows = chords_of_staves(notes, grid)
    assert read == sorted((onset, pitch) for _, onset, _, chord in rows for pitch in chord)
    assert score.words == ()


def test_one_tempo_gives_its_beats():
    for period in (20, 30, 40):
        chords = np.arange(1, 40) * period / 50
        beats = best_beats(*frame_chances(chords, np.full(39, 0.8), BeatConfig()))
        assert np.abs(beats - period * np.arange(1, 40)).max() <= 1


def test_too_little_has_no_beat():
    assert find_beats(as_notes([], [], [])) is None
    assert find_beats(as_notes([0, 1], [1, 2], 60)) is None


def test_all_at_once_and_very_far_apart_end():
    onset = np.r_[np.zeros(30), np.arange(1, 9) * 20.0]
    found = find_beats(as_notes(onset, onset + 1, np.r_[np.arange(40, 70), np.full(8, 60)]))
    assert np.all(np.diff(found.time_s) > 0)


def test_a_bar_may_be_longer_at_a_price():
    chance = np.r_[[0.95, 0.02, 0.02] * 6, [0.95, 0.02, 0.02, 0.02] * 6]
    assert np.diff(np.nonzero(count_beats(chance) == 0)[0]).tolist() == [3] * 6 + [4] * 5


def test_the_command_writes_bars_pedal_and_score(tmp_path, monkeypatch, capsys):
    pytest.importorskip("partitura")
    from amt_nb.workshop.cli import example_recording, main

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    plain, out = tmp_path / "plain.mid", tmp_path / "out.mid"
    flags = ["--no-progress", "--beats", "--pedal", "--musicxml", "--csv"]
    assert main(["transcribe", str(example_recording()), "-o", str(plain), "--no-progress"]) == 0
    assert main(["transcribe", str(example_recording()), "-o", str(out), *flags]) == 0
    a, b = read_midi(plain), read_midi(out)
    assert len(a) == len(b) > 20
    for edge in ("onset_s", "offset_s"):
        assert np.abs(np.sort(a[edge]) - np.sort(b[edge])).max() < 1e-3
    assert (tmp_path / "out.csv").read_text().startswith("onset_s,offset_s,pitch,name,velocity,bar,beat\n")
    assert len(read_score(tmp_path / "out.musicxml").notes) > 0.9 * len(a) and len(read_score(out).bar_s) > 2


def test_a_score_without_partitura_is_missed_in_one_line(tmp_path, monkeypatch, capsys):
    from amt_nb.workshop import extras
    from amt_nb.workshop.cli import example_recording, main

    monkeypatch.setattr(extras, "installed", lambda module: module != "partitura")
    assert main(["transcribe", str(example_recording()), "-o", str(tmp_path / "a.mid"), "--musicxml"]) != 0
    said = capsys.readouterr().err
    assert "partitura" in said and "pip install" in said and len(said.strip().splitlines()) == 1
    assert not list(tmp_path.glob("a.*"))
