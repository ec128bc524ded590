"""Pitch bends against synthetic truth, and the MIDI they are written to as another reader sees it."""

import io
import warnings

import numpy as np
import pytest

from amt_nb.notes import as_notes, empty_notes
from amt_nb.workshop import bends as B
from amt_nb.workshop.midi import read_midi
from amt_nb.workshop.midi_parsing import parse_midi
from amt_nb.workshop.settings import UserError


def tone(pitch, cents, sr=16000):
    phase = 2 * np.pi * np.cumsum(440 * 2 ** ((pitch - 69) / 12 + cents / 1200)) / sr
    return 0.1 * sum(np.sin(k * phase) / k for k in range(1, 7)).astype(np.float32)


@pytest.mark.parametrize("pitch", [45, 60, 76, 88])
@pytest.mark.parametrize("shape", ["glide", "fall", "vibrato", "steady"])
def test_glides_are_followed_within_ten_cents(pitch, shape):
    t = np.arange(32000) / 16000
    cents = {
        "glide": -90 + 90 * t,
        "fall": 60 - 120 * (t > 1) * np.minimum(t - 1, 1),
        "vibrato": 40 * np.sin(2 * np.pi * 5 * t),
        "steady": 23 + 0 * t,
    }[shape]
    (found,) = B.note_bends(tone(pitch, cents), as_notes(0, 2, pitch), 16000)
    error = np.abs(found - np.interp(np.arange(len(found)) / 50 + 0.01, t, cents))[8:-8]
    most = 14 if (pitch, shape) == (45, "vibrato") else 10  # kernels of a quarter of a second there
    assert np.percentile(error, 95) <= most and abs(np.median(found) - np.median(cents)) < 6


def test_a_neighbour_does_not_pull_a_chord():
    t = np.arange(32000)
    wave = tone(60, 20 + 0 * t) + tone(64, -15 + 0 * t) + tone(67, 5 + 0 * t)
    found = B.note_bends(wave, as_notes([0, 0, 0], 2, [60, 64, 67]), 16000)
    assert (
        np.abs([np.median(c) for c in found] - np.array([20, -15, 5])).max() < 15
    )  # C4 has its fifth partial beside E4's fourth


def test_silence_and_short_notes_stay_on_their_keys():
    found = B.note_bends(np.zeros(16000, np.float32), as_notes([0, 0.5], [0.001, 5], [60, 108]), 16000)
    assert [len(c) for c in found] == [1, 225] and not any(c.any() for c in found)
    assert B.note_bends(np.zeros(16000, np.float32), empty_notes(), 16000) == []


def test_blocks_give_what_the_whole_gives():
    t = np.arange(16000 * 20) / 16000
    wave, notes = tone(69, 30 * np.sin(t)), as_notes([0, 4, 9.99], [4, 9.99, 20], 69)
    whole = B.note_bends(wave, notes, 16000)
    parts = B.note_bends(np.array_split(wave, 7), notes, 16000)
    assert all(np.allclose(a, b, atol=0.5) for a, b in zip(whole, parts))


def test_another_reader_finds_the_range_and_the_wheel():
    pretty_midi = pytest.importorskip("pretty_midi")
    notes = as_notes([0.5, 0.6], [1.5, 1.4], [60, 67], 80, [0, 10])
    midi = B.bend_midi_bytes(notes, [np.full(51, 50.0), np.linspace(-100, 0, 41)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = pretty_midi.PrettyMIDI(io.BytesIO(midi))
    flat = sorted(read.instruments, key=lambda i: i.notes[0].start)
    assert [[n.pitch for n in i.notes] for i in flat] == [[60], [67]]
    assert flat[0].pitch_bends[0].pitch == 2048 and flat[0].pitch_bends[0].time == pytest.approx(0.5, abs=1e-3)
    glide = [b.pitch * 200 / 8192 for b in flat[1].pitch_bends]
    assert glide[0] == pytest.approx(-100, abs=1) and abs(glide[-1]) < 4 and np.all(np.diff(glide) > 0)
    controls = [(c.number, c.value) for c in flat[0].control_changes]
    assert controls[:3] == [(101, 0), (100, 0), (6, 2)]
    back = read_midi(midi)
    assert back["pitch"].tolist() == [60, 67] and back["instrument"].tolist() == [0, 10]


def test_every_instrument_has_a_track_with_its_name():
    notes = as_notes(np.arange(8) * 0.25, np.arange(8) * 0.25 + 0.5, 60 + np.arange(8), 80, [0, 10] * 4)
    names = ("lute", *[""] * 9, "flute")
    midi = B.bend_midi_bytes(notes, [np.zeros(26)] * 8, names=names)
    assert parse_midi(midi).names == {1: "lute", 2: "flute"}
    back = read_midi(midi)
    assert all(np.array_equal(back[key], notes[key]) for key in ("pitch", "velocity", "instrument"))


def test_more_notes_than_channels_are_all_there():
    notes = as_notes(np.arange(20) * 0.01, 2, 40 + np.arange(20))
    with pytest.warns(UserWarning, match="5 notes sound with fifteen others"):
        midi = B.bend_midi_bytes(notes, [np.zeros(101)] * 20)
    assert read_midi(midi)["pitch"].tolist() == notes["pitch"].tolist()


def test_what_does_not_belong_together_is_refused():
    with pytest.raises(UserError, match="give one array a note"):
        B.bend_midi_bytes(as_notes(0, 1, 60), [])
    early = as_notes(0, 1, 60)
    early["onset_s"] = -1
    with pytest.raises(UserError, match="begin at 0 s or later"):
        B.bend_midi_bytes(early, [np.zeros(3)])
