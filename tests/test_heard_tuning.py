"""Transcribing hears how sharp a recording is: nothing changes in tune, nearly nothing is lost out of tune."""

import re

import numpy as np
import pytest
import soundfile
import soxr

from amt_nb.metrics import note_f1
from amt_nb.notes import as_notes
from amt_nb.transcription.transcribe import activations, stream_activations, transcribe, transcribe_file
from amt_nb.workshop import cli
from amt_nb.workshop.settings import UserError
from amt_nb.workshop.synth import render
from amt_nb.workshop.tuning import AGREED, IN_TUNE_CENTS, Relabelled, measured_tuning, retuned, tuning_to_undo

SR = 16000
SHARP = 2 ** (40 / 1200)


@pytest.fixture(scope="module")
def music():
    rng = np.random.default_rng(3)
    onset = 0.3 + np.cumsum(rng.uniform(0.1, 0.4, 60))
    return as_notes(onset, onset + rng.uniform(0.2, 0.7, 60), rng.integers(45, 84, 60), 80)


@pytest.fixture(scope="module")
def wave(music):
    return render(music, SR)


@pytest.fixture(scope="module")
def sharp(wave):
    return soxr.resample(wave, SR * SHARP, SR).astype(np.float32)


def faster(notes, by):
    notes = notes.copy()
    notes["onset_s"] /= by
    notes["offset_s"] /= by
    return notes


def test_in_tune_is_untouched_bit_for_bit(wave):
    assert np.array_equal(transcribe(wave, SR), transcribe(wave, SR, tuning=0))
    found = stream_activations(wave, SR, tuning="auto")
    assert found.cents == 0 and found.stretch == 1
    first = next(found.blocks)[0]
    assert np.array_equal(first, activations(wave, SR).frames[: len(first)])


def test_forty_cents_cost_at_most_a_point(wave, sharp, music):
    clean, heard = note_f1(transcribe(wave, SR), music), note_f1(transcribe(sharp, SR), faster(music, SHARP))
    unheard = note_f1(transcribe(sharp, SR, tuning=0), faster(music, SHARP))
    assert heard >= clean - 0.011 and heard >= unheard


def test_a_file_and_blocks_are_heard_as_the_wave(sharp, tmp_path):
    soundfile.write(tmp_path / "sharp.flac", sharp, SR)
    whole, file = transcribe(sharp, SR), transcribe_file(tmp_path / "sharp.flac")
    assert len(whole) == len(file) and np.abs(whole["onset_s"] - file["onset_s"]).max() < 0.005
    blocks = stream_activations(Relabelled(np.array_split(sharp, 5), SR), SR, tuning="auto")
    assert abs(blocks.cents - 40) < 4 and abs(blocks.seconds - len(sharp) / SR) < 0.05


def test_an_iterator_is_not_used_up_before_it_is_refused(sharp):
    with pytest.raises(UserError, match="read twice"):
        stream_activations(iter(np.array_split(sharp, 5)), SR, tuning="auto")


def test_silence_noise_and_a_glide_have_no_tuning():
    rng = np.random.default_rng(0)
    t = np.arange(4 * SR) / SR
    glide = np.sin(2 * np.pi * np.cumsum(200 * 2 ** (t / 2)) / SR)
    for sound in (np.zeros(SR), rng.normal(0, 0.1, 4 * SR), glide):
        assert measured_tuning(sound.astype(np.float32), SR)[1] < AGREED
        assert tuning_to_undo(sound.astype(np.float32), SR) == 0


@pytest.mark.parametrize("tuning", ["sharp", 101, -200, float("nan"), "40"])
def test_what_is_no_tuning_is_refused(tuning):
    with pytest.raises(UserError, match="neither 'auto' nor cents"):
        tuning_to_undo(np.zeros(SR, np.float32), SR, tuning)


def test_small_cents_are_taken_when_said_and_not_when_heard(wave):
    assert tuning_to_undo(wave, SR, IN_TUNE_CENTS / 2) == IN_TUNE_CENTS / 2
    assert retuned(wave, SR, 40)[1] < SR < retuned(wave, SR, -40)[1]


def test_the_command_says_what_it_heard(sharp, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    soundfile.write("sharp.wav", sharp, SR)
    assert cli.main(["transcribe", "sharp.wav", "--no-progress"]) == 0
    assert re.search(r"tuned \+(3|4)\d cents from 440 Hz", capsys.readouterr().out)
    assert cli.main(["transcribe", "sharp.wav", "--no-progress", "--tuning", "0"]) == 0
    assert "tuned" not in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        cli.main(["transcribe", "sharp.wav", "--tuning", "flat"])
    assert "'auto' or a number in -100..100" in capsys.readouterr().err
