"""Weights for any instrument: they load by a short name, scenes keep their word, a net that grows forgets nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from amt_nb.notes import as_notes
from amt_nb.transcription.any_instrument import AnyConfig, Mixture, grow, punctual
from amt_nb.transcription.direct import HarmonicConfig, HarmonicNet
from amt_nb.transcription.transcribe import load_model, transcribe, weights_file
from amt_nb.workshop.decoding import DecodeConfig
from amt_nb.workshop.expression import render_expressive
from amt_nb.workshop.modelled_piano import hammered
from amt_nb.workshop.scenes import KINDS, Scene
from amt_nb.workshop.settings import fill, UserError
from amt_nb.workshop.singing import Singer, sing
from amt_nb.workshop.strings import drawn_plucked, pluck, Plucked, plucked_until
from amt_nb.workshop.wear import coded, noise_pictures, Spoil, spoiled


def test_short_names_of_the_weights():
    assert weights_file("any").is_file() and weights_file("any").stat().st_size < 6e6
    assert (
        weights_file("piano") == weights_file("piano-100k")
        and weights_file("any") == weights_file("any-142k") == weights_file()
    )
    assert "software pianos" in load_model("any").card["labels"]


def test_a_voice_with_vibrato_is_not_many_notes():
    tune = as_notes([0.5, 1.5, 2.5], [1.5, 2.5, 3.8], [57, 60, 62], 95)
    wave = sing(tune, 4.5, 3, Singer(vibrato_cents=80, drift_cents=5, out_of_tune_cents=3, scoop_share=0))
    found = transcribe(wave, 16000, "any")
    assert 3 <= len(found) <= 4 and {57, 60, 62} <= set(found["pitch"].tolist())


def begins_s(wave, at):
    """When the sound of each note has risen to a tenth of its level: a bow's does so 11 ms after its key, a string's at once."""
    level, out = np.sqrt(np.convolve(wave**2, np.ones(80) / 80, "same")), []
    for t in at:
        first = round(t * 16000) - 160
        before, note = level[first - 160 : first].mean(), level[first : first + 6400]
        out.append((first + np.argmax(note > before + 0.1 * (np.percentile(note, 95) - before))) / 16000)
    return np.array(out)


@pytest.mark.parametrize("program, latest", [(0, 0.01), (25, 0.01), (40, 0.02), (73, 0.02)])
def test_onsets_are_punctual(program, latest):
    at = np.arange(0.5, 6.5, 0.5)
    notes = as_notes(at, at + 0.45, 60 + np.arange(12) * 5 % 12, 95)
    wave = render_expressive(notes, {0: program}, seconds=7.5)
    found = transcribe(wave, 16000, "any")
    off = lambda places: np.median([np.abs(found["onset_s"] - t).min() for t in places])
    assert off(begins_s(wave, at)) < latest
    assert program == 40 or off(at) < 0.02  # a bow's key goes down before anything sounds


@pytest.mark.parametrize("kind", KINDS)
def test_a_scene_is_what_its_description_says(kind):
    scene = Scene(kind, 5, 3.0, "bach/bwv66.6" if kind in ("ensemble", "choir", "struck", "bowed") else None)
    (wave, sr), notes = scene(), scene.notes()
    assert sr == 16000 and abs(len(wave) / sr - 3) < 0.1 and np.isfinite(wave).all() and np.abs(wave).max() <= 1
    assert np.array_equal(notes, scene.notes()) and not notes["instrument"].any() and np.array_equal(wave, scene()[0])


def test_growing_keeps_the_outputs():
    torch.manual_seed(1)
    small = HarmonicNet(HarmonicConfig(width=8, memory=4)).eval()
    large = grow(HarmonicNet(HarmonicConfig(width=12, memory=6)), small.state_dict(), 8, 4).eval()
    x = torch.rand(1, 1, 32, 352) * 2 - 1
    with torch.no_grad():
        assert all(torch.allclose(small(x)[k], large(x)[k], atol=1e-5) for k in ("frame", "onset", "velocity"))
    with pytest.raises(UserError, match="does not fit"):
        grow(HarmonicNet(HarmonicConfig(width=8, memory=4)), large.state_dict(), 12, 6)


def test_a_mixture_needs_something_to_draw_from():
    with pytest.raises(UserError, match="none of"):
        Mixture({}, AnyConfig())
    with pytest.raises(UserError, match="any_shares"):
        AnyConfig(shares=(1.0,))


def test_what_is_given_to_a_mixture_teaches_or_is_refused():
    """A source without a share was left out without a word once, and what had been heard taught nothing."""
    x, notes = np.full((64, 352), -1, np.float32), as_notes([0.2], [0.5], [60], 90)
    some = {"voice": [(x, notes)], "heard": [(x, notes)]}
    assert set(Mixture(some, AnyConfig(crop_frames=64)).names) == set(some)
    with pytest.raises(UserError, match="'heard' would teach nothing"):
        Mixture(some, AnyConfig(ingredients=("voice",), shares=(1.0,)))
    with pytest.raises(UserError, match="'heard' would teach nothing"):
        Mixture(some, AnyConfig(ingredients=("voice", "heard"), shares=(1.0, 0.0)))
    for size in ("demo", "paper"):
        given = fill(AnyConfig, size, "any")
        assert set(given.ingredients) == set(AnyConfig().ingredients) and min(given.shares) > 0


def test_no_two_modelled_pianos_are_alike_and_their_times_are_exact():
    notes = as_notes([0.3, 0.9, 1.6], [0.8, 1.4, 1.9], [48, 60, 95], [40, 80, 120])
    waves = [hammered(notes, 2.5, None, seed) for seed in range(4)]
    assert all(len(w) == 40000 and np.isfinite(w).all() and np.isclose(np.abs(w).max(), 0.5) for w in waves)
    spectra = [np.abs(np.fft.rfft(w[4800:12800])) for w in waves]
    likeness = np.corrcoef([np.log(s + 1e-6) for s in spectra])
    assert likeness[np.triu_indices(4, 1)].max() < 0.95
    for w in waves:
        assert np.abs(w[:4790]).max() < 1e-3 < np.abs(w[4800:4960]).max()
    assert len(hammered(as_notes([0.0, 9.0], [1.0, 10.0], [21, 108], 1), 0.5)) == 8000  # beyond the end: nothing


def test_what_was_heard_leaves_unsure_onsets_open():
    """Of a note without a sure onset the batch says that it sounds, and nothing of where it begins; of a doubtful one
    nothing; of scenes everything."""
    notes = as_notes([0.2, 0.6], [0.5, 1.0], [60, 64], 90, [0, 1])
    x = np.random.default_rng(0).uniform(-1, 0, (64, 352)).astype(np.float32)
    config = AnyConfig(crop_frames=64, crops=6, detune_share=0)
    heard, scenes = (Mixture({kind: [(x, notes)]}, config)(1) for kind in ("heard", "voice"))
    assert (heard["told_onset"] == 0).any() and (heard["told_frame"] == 1).all() and (scenes["told_onset"] == 1).all()
    assert heard["onset"].amax((1, 2)).min() > 0.5 and (heard["onset"] > 0).sum() * 2 == (scenes["onset"] > 0).sum()
    assert torch.equal(heard["frame"], scenes["frame"]) and heard["frame"].shape == heard["onset"].shape
    maybe = np.concatenate([notes, as_notes([0.0], [1.2], [64], 90, [2])])
    open_ = Mixture({"heard": [(x, maybe)]}, config)(1)
    left = open_["told_frame"] == 0
    assert left.any() and not (left & (heard["frame"] > 0)).any() and (open_["told_onset"][left] == 0).all()
    assert torch.equal(open_["frame"], heard["frame"]) and torch.equal(open_["onset"], heard["onset"])


def test_punctual_without_a_match_moves_nothing():
    assert punctual([], [], DecodeConfig(onset_shift_s=0.05)).onset_shift_s == 0


def test_a_plucked_string_is_in_tune_and_its_labels_end_with_its_sound():
    for pitch in (40, 52, 64, 76, 88):
        hand = Plucked(squeak_share=0, dead_share=0, sympathy_db=-90, beat_cents=0.5)
        wave = pluck(as_notes([0.1], [1.3], [pitch], 90), 1.5, 2, hand)
        lines = np.abs(np.fft.rfft(wave[3200:19200] * np.hanning(16000), 2**18))
        hz = 440 * 2 ** ((pitch - 69) / 12)
        near = np.arange(int(hz * 0.97 * 2**18 / 16000), int(hz * 1.03 * 2**18 / 16000))
        assert abs(1200 * np.log2(near[lines[near].argmax()] * 16000 / 2**18 / hz)) < 4, pitch
    for seed in range(8):
        hand, held = drawn_plucked(seed), as_notes([0.0], [20.0], [52], 90)
        end = plucked_until(held, hand)["offset_s"][0]
        wave = pluck(held, 20.0, 1, replace(hand, squeak_share=0, dead_share=0, spread_db=0, drive=0, sympathy_db=-90))
        level = lambda t: np.sqrt((wave[round(t * 16000) :][:1600] ** 2).mean())
        assert level(min(end, 19.8)) < 0.15 * level(0.0), (seed, end)


def test_a_spoiled_picture_keeps_its_notes_and_its_level():
    rng, x = np.random.default_rng(0), np.full((60, 352), -1.0, np.float32)
    x[:, 200::48] = 0.0
    noises = noise_pictures(seconds=2.0)
    for _ in range(40):
        y = spoiled(x, rng, noises, Spoil(0.5, 0.8))
        assert y.shape == x.shape and y.dtype == np.float32 and np.abs(y).max() <= 1
        assert abs(np.quantile(y.max(1), 0.95) - 0.0) < 0.02 and (y[:, 200].mean() > -0.2)


def test_a_codec_takes_minutes_of_sound():
    """Two hundred seconds given to the encoder at once overflowed its stack, and the process was gone."""
    wave = 0.1 * np.sin(np.arange(200 * 16000) * 0.1)
    back = coded(wave, 16000, 0.9)
    assert len(back) == len(wave) and np.abs(back - wave).mean() < 0.05
