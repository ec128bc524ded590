"""The shift of a transcription, measured on synthetic sound of several timbres; the explorer without a browser; the watch."""

import time
import warnings
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amt_nb.workshop.streaming import cqt
from amt_nb.cqt import move
from amt_nb.notes import as_notes, sonify, to_roll
from amt_nb.workshop.shift_widget import key_spectra, LinearWorld, nmf_activations, PIECES, SHIFT_CQT, ShiftExplorer
from amt_nb.workshop.shift_widget import standard_worlds
from amt_nb.transcription.shift_detector import check_roll, estimate_shift, evidence, excerpts, fingerprints
from amt_nb.transcription.shift_detector import knowledge, scores, Shift, shift_of_cqt, SHIFTS, show_detector
from amt_nb.transcription.shift_prevention import note_support, ShiftWatch, support_loss
from amt_nb.transcription.collapse import show_runs
from amt_nb.workshop.grids import N_KEYS
from amt_nb.workshop.settings import UserError
from amt_nb.workshop.synth import render

SR = 16000
TIMBRES = {
    "sine-like": {1: 1, 2: 0.05},
    "string": {h: 1 / h for h in range(1, 11)},
    "odd partials": {h: 1 / h for h in range(1, 10, 2)},
    "weak fundamental": {1: 0.1, 2: 1, 3: 0.7, 4: 0.5, 5: 0.3},
}


def played(notes, partials, seconds=5.0, cents=0.0, sr=SR):
    """Decaying tones of the given partials, `cents` sharp."""
    t, wave = np.arange(int(seconds * sr)) / sr, np.zeros(int(seconds * sr))
    for n in notes:
        inside = (t >= n["onset_s"]) & (t < n["offset_s"])
        for h, a in partials.items():
            hz = 440 * 2 ** ((n["pitch"] - 69 + cents / 100) / 12) * h
            if hz < 0.45 * sr:
                wave[inside] += a * np.sin(2 * np.pi * hz * t[inside]) * np.exp(-2 * (t[inside] - n["onset_s"]))
    return (wave * 0.1).astype(np.float32)


def walk(seed, n=20, voices=2, low=45, high=80):
    """Quarter notes of some voices."""
    rng = np.random.default_rng(seed)
    onsets = np.repeat(np.arange(n) / 4, voices)
    return as_notes(onsets, onsets + rng.choice([0.2, 0.25, 0.5], len(onsets)), rng.integers(low, high, len(onsets)))


@pytest.fixture(scope="module")
def walked():
    notes = walk(3)
    return played(notes, TIMBRES["string"]), to_roll(notes, 250)


@pytest.mark.parametrize("timbre", TIMBRES)
def test_every_shift_of_an_octave_is_exact(timbre):
    notes = walk(1)
    wave, roll = played(notes, TIMBRES[timbre]), to_roll(notes, 250)
    for k in range(-12, 13):
        shift = estimate_shift(wave, SR, move(roll, k))
        assert shift.semitones == k and shift.sure, (k, shift)


@pytest.mark.parametrize("program", [0, 11, 24, 40, 60, 71, 73])
def test_instruments_of_a_font(program):
    notes = walk(program, voices=1 if program in (40, 60, 71, 73) else 3, low=55)
    wave, roll = render(notes, SR, program, seconds=5), to_roll(notes, 250)
    for k in (-12, -7, -1, 0, 1, 5, 12):
        assert estimate_shift(wave, SR, move(roll, k)).semitones == k


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), k=st.integers(-12, 12), rate=st.sampled_from([8000, 11025, 22050, 44100, 48000]))
def test_any_rate_any_notes(seed, k, rate):
    notes = walk(seed)
    assert estimate_shift(played(notes, TIMBRES["string"], sr=rate), rate, move(to_roll(notes, 250), k)).semitones == k


@pytest.mark.parametrize("cents", [-40, -30, -15, 15, 30, 40])
def test_a_recording_out_of_tune(cents):
    notes = walk(2)
    wave, roll = played(notes, TIMBRES["string"], cents=cents), to_roll(notes, 250)
    for k in (-12, -7, -1, 0, 1, 7, 12):
        assert estimate_shift(wave, SR, move(roll, k)).semitones == k


@pytest.mark.parametrize("cents", [-50, 50])
def test_half_a_semitone_out_of_tune_is_no_alarm(cents):
    notes = walk(2)
    assert estimate_shift(played(notes, TIMBRES["string"], cents=cents), SR, to_roll(notes, 250)).semitones == 0


def test_imperfect_transcriptions(walked):
    wave, roll = walked
    rng = np.random.default_rng(0)
    holes = roll & (rng.random(roll.shape) > 0.3)
    late = np.roll(roll, 2, 0)
    octaves = roll | move(roll & (rng.random((1, N_KEYS)) < 0.3), 12)
    for bad in (holes, late, octaves):
        assert [estimate_shift(wave, SR, move(bad, k)).semitones for k in (-12, 0, 7)] == [-12, 0, 7]


def test_clipped_at_the_range():
    notes = walk(4, low=84, high=104)
    wave, roll = played(notes, TIMBRES["string"]), to_roll(notes, 250)
    assert [estimate_shift(wave, SR, move(roll, k)).semitones for k in (-24, -12, 0, 4)] == [-24, -12, 0, 4]


def test_low_confidence_says_why(walked):
    wave, roll = walked
    one = np.zeros_like(roll)
    one[20:60, 40] = True
    other = to_roll(walk(99), 250)
    cases = {
        "silent": (0 * wave, roll),
        "no notes": (wave, 0 * roll),
        "only one note": (wave, one),
        "something else": (wave, other),
        "after the recording": (wave, np.vstack([roll, roll])),
        "after the roll": (wave, roll[:120]),
        "empty": (wave[:0], roll),
    }
    for words, (w, r) in cases.items():
        shift = estimate_shift(w, SR, r)
        assert not shift.sure and words in shift.words, (words, shift)
    for n in (1, 2, 5, 30, 90):
        assert not estimate_shift(wave[: n * SR // 50], SR, roll[:n]).sure
    noise = np.random.default_rng(1).normal(0, 0.1, 5 * SR)
    assert not estimate_shift(noise, SR, roll).sure
    assert not estimate_shift(wave, SR, roll[:0]).sure
    lone = played(as_notes([0.5], [2.0], [60]), TIMBRES["string"])
    assert not estimate_shift(lone, SR, to_roll(as_notes([0.5], [2.0], [60]), 250)).sure


def test_a_roll_trimmed_after_its_last_note_is_fine():
    notes = walk(7, n=16)  # ends at 4 s, the recording at 5 s
    shift = estimate_shift(played(notes, TIMBRES["string"]), SR, move(to_roll(notes), 5))
    assert shift.semitones == 5 and shift.sure


def test_bad_input_is_one_line(walked):
    wave, roll = walked
    bad = [
        (wave * np.nan, SR, roll),
        (wave, 0, roll),
        (wave, SR, roll[:, :80]),
        (wave, SR, roll * 2.0),
        (wave, SR, roll * np.nan),
        (wave, SR, "roll"),
        ("wave", SR, roll),
        (wave, SR, roll.ravel()),
        (wave, SR, None),
    ]
    for args in bad:
        with pytest.raises(UserError) as e:
            estimate_shift(*args)
        assert "\n" not in str(e.value) and len(str(e.value)) < 200
    with pytest.raises(UserError):
        shift_of_cqt(np.zeros((9, 352)), np.zeros((8, 88), bool))


def test_what_comes_back(walked):
    wave, roll = walked
    shift = estimate_shift(wave, SR, move(roll, 3))
    semitones, confidence = shift
    assert (
        type(semitones) is int
        and semitones == shift.semitones == 3
        and 0 <= confidence <= 1
        and "3 semitones too high" in shift.words
    )
    assert (
        estimate_shift(wave, SR, move(roll, 3).astype(float))
        == shift
        == estimate_shift(np.stack([wave, wave]), SR, move(roll, 3)[None])
    )
    assert np.allclose(wave, walked[0]) and repr(Shift(-1, 0.5, "x")).startswith("Shift(semitones=-1")


def test_from_a_prepared_spectrogram(walked):
    wave, roll = walked
    c = cqt(wave, SR, SHIFT_CQT)
    assert [shift_of_cqt(c, move(roll, k)).semitones for k in (-12, 0, 5)] == [-12, 0, 5]


def test_long_recordings_cost_no_more(walked):
    wave, roll = walked
    long, rolls = np.tile(wave, 30), np.tile(move(roll, -4), (30, 1))
    estimate_shift(wave, SR, roll)
    clock = time.process_time()
    assert estimate_shift(long, SR, rolls).semitones == -4
    assert time.process_time() - clock < 3
    assert sum(s.stop - s.start for s in excerpts(10**6)) == 3000


def test_ten_seconds_take_a_fifth_of_one():
    notes = walk(5, n=40)
    wave, roll = played(notes, TIMBRES["string"], 10.0), move(to_roll(notes, 500), 2)
    estimate_shift(wave, SR, roll)
    clocks = []
    for _ in range(3):
        clock = time.process_time()
        assert estimate_shift(wave, SR, roll).semitones == 2
        clocks.append(time.process_time() - clock)
    assert min(clocks) < 0.2


def test_scores_are_the_weighted_evidence():
    notes = walk(8)
    db = (cqt(played(notes, TIMBRES["string"]), SR, SHIFT_CQT) - 1) * 40
    prints, shares = fingerprints(db, to_roll(notes, 250)), to_roll(notes, 250).mean(0)
    plain = (evidence(prints) * knowledge()["weights"]).sum((1, 2, 3))
    assert (
        np.allclose(plain[12:37], scores(prints, shares / shares.sum())[12:37, 3], atol=0.05)
        and SHIFTS[plain.argmax()] == 0
    )


def test_linear_world_cannot_tell_and_pairs_can():
    world = LinearWorld(as_notes(*PIECES["two hands"]))
    free, tied = world.objective(-7), world.objective(-7, anchor=0.2)
    assert (
        abs(free.cycle - world.objective(0).cycle) < 1e-3
        and free.f1 < 0.2 < world.objective(0).f1
        and tied.prefers == 0
        and tied.as_good == 1
    )
    assert world.objective(7, lambda_cycle=20.0).prefers == world.objective(7, lambda_cycle=0.0).prefers
    assert nmf_activations(np.zeros((2, 352)), key_spectra()).shape == (2, 88)


def test_explorer_without_a_browser():
    explorer = ShiftExplorer()
    pictures, clocks = set(), []
    for piece in explorer.piece.options:
        explorer.piece.value = piece
        for slider in (explorer.shift, explorer.anchor, explorer.lambda_cycle):
            middle = slider.value
            for value in (slider.min, slider.max):
                slider.value = value
                clocks.append(explorer.step_s)
                layers = [ElementTree.fromstring(text) for text in explorer.svgs]
                assert all(layer.tag.endswith("svg") for layer in layers) and explorer.svgs[2].count("z") > 75
                # the rendered CQT lies below, the recording's in the middle, nothing but lines above
                assert [len(layer.findall("{*}image")) for layer in layers] == [1, 1, 0]
                assert (
                    f"shift {explorer.shift.value:+d}" in explorer.numbers
                    and f"{100 * explorer.terms.f1:.1f}" in explorer.numbers
                )
                pictures.add(tuple(explorer.svgs))
            slider.value = middle
        assert explorer.player.value == ""  # no sound that starts by itself
        sounds = set()
        for button in explorer.buttons.values():
            button.click()
            assert explorer.sound.startswith(b"RIFF") and "<audio" in explorer.player.value
            sounds.add(explorer.sound)
        assert len(sounds) == 3
    assert len(pictures) > 12 and np.median(clocks) < 0.1
    clocks = []
    for k in (1, 2, 3):
        clock = time.process_time()
        explorer.shift.value = k
        clocks.append(time.process_time() - clock)
    assert min(clocks) < 0.1
    with pytest.raises(Exception):
        explorer.piece.value = "no such piece"


def test_the_tables_of_the_explorer_are_the_plain_terms():
    for world in standard_worlds().values():
        for k, share in ((-12, 0.0), (-3, 0.05), (0, 0.5), (5, 0.95), (12, 1.0)):
            t = world.objective(k, share)
            assert np.allclose(world.terms(k, share), (t.cycle, t.discriminator, t.pairs, t.f1), atol=1e-9)


def test_watch_warns_anchors_and_keeps_quiet():
    world = LinearWorld(as_notes(*PIECES["chords"]))
    for k, warned in ((0, 0), (-5, 1)):
        watch = ShiftWatch([world.cqt], lambda models, c: move(world.roll, models["k"]), every=10, anchor_steps=5)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            assert [watch(step, {}, {"k": k}) for step in (5, 10, 10)] == [False] * 3
        assert len(said) == warned and [s for s, _ in watch.seen] == [10] and watch.seen[0][1].semitones == k
        batch = watch.batches(lambda step: {"audio": step})(12)
        assert ("paired_score" in batch) == bool(warned)
    assert batch["paired_audio"].shape == (4, 1, 64, 352) and set(np.unique(batch["paired_score"])) <= {-1, 1}
    moved_back = {tuple(np.flatnonzero(f > 0)) for f in batch["paired_score"][:, 0].reshape(-1, 88).numpy()}
    assert moved_back <= {tuple(np.flatnonzero(f)) for f in move(move(world.roll, -5), 5)}


def test_support_prefers_the_truth_and_has_a_gradient():
    import torch

    world = LinearWorld(as_notes(*PIECES["chords"]))
    sound = torch.from_numpy(world.cqt)[None, None].clone().requires_grad_()
    support = note_support(sound)
    assert support.shape == (1, len(world.cqt), 88) and 0 <= float(support.min()) <= float(support.max()) <= 1
    support.sum().backward()
    assert bool(sound.grad.isfinite().all())
    assert float(note_support(torch.full((1, 1, 16, 352), -1.0)).max()) < 0.01

    class Says(torch.nn.Module):
        def __init__(self, roll):
            super().__init__()
            self.logits = torch.from_numpy(roll * 8.0 - 4)[None, None].float()

        def decode(self, z):
            return self.logits

    cost = [
        float(
            support_loss({"vae": Says(move(world.truth, k))}, {"audio": sound.detach(), "latent_fake": None})["total"]
        )
        for k in (-12, -7, 0, 7, 12)
    ]
    assert np.argmin(cost) == 2


def test_tables_of_records():
    from pathlib import Path

    folder = Path(__file__).resolve().parents[1] / "nbs" / "results"
    out = show_runs(folder, ("shifted", "random", "no such condition")).text + show_detector(folder).text
    assert "shifted" in out and "real_test" in out and "commit" in out and "nan %" not in out


def test_check_roll_takes_instruments_and_probabilities():
    assert (
        check_roll(np.eye(3, 88)[None]).shape == (3, 88)
        and check_roll(np.full((2, 88), 0.6)).all()
        and not check_roll(np.full((2, 88), 0.4)).any()
    )
    assert sonify(as_notes([0.0], [1.0], [60]), SR).shape[0] > SR
