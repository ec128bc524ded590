"""The sustain pedal and velocities of a transcription: what has no place in the chapters' prose."""

import numpy as np

from amt_nb.notes import as_notes, empty_notes
from amt_nb.workshop.pedal import hear_pedal, key_levels, pedal_features, pedal_path, recording_levels
from amt_nb.workshop.loudness import fit_velocity, loudness_velocities, note_loudness
from amt_nb.workshop.midi import midi_bytes, read_midi, read_pedal


def ringing(n=400, seed=0):
    """Noisy levels (n, 88) and notes in them."""
    rng = np.random.default_rng(seed)
    onset = np.sort(rng.uniform(0, n / 50 - 1, 40))
    return rng.uniform(-80, -20, (n, 88)), as_notes(onset, onset + 0.2, 30 + rng.permutation(40))


def test_nothing_and_nearly_nothing():
    assert len(hear_pedal(np.full((0, 88), -80.0), empty_notes())) == 0
    assert np.isfinite(pedal_features(np.full((1, 88), -80.0), empty_notes())).all()
    assert pedal_features(*ringing(60)).shape == (60, 22)


def test_down_and_up_alternate_and_are_written():
    levels, notes = ringing()
    rows = hear_pedal(levels, notes)
    assert rows["value"].tolist() == [127, 0] * (len(rows) // 2) and np.all(np.diff(rows["time_s"]) > 0)
    data = midi_bytes(notes, pedal=rows)
    assert len(read_pedal(data)) == len(rows) and len(read_midi(data)) == len(notes)


def test_the_path_is_the_best_of_all():
    rng = np.random.default_rng(1)
    for _ in range(20):
        p = rng.uniform(0.05, 0.95, 8)
        odds = np.log(p / (1 - p))
        worth = lambda z: (z * odds).sum() - 1.0 * np.abs(np.diff(z)).sum()
        every = [np.array([k >> i & 1 for i in range(8)]) for k in range(256)]
        assert abs(worth(pedal_path(p).astype(int)) - max(map(worth, every))) < 1e-9


def test_levels_are_those_of_the_whole(tmp_path):
    import soundfile

    from amt_nb.cqt import CQTConfig
    from amt_nb.workshop.streaming import cqt_magnitude, normalise

    wave = np.random.default_rng(0).normal(0, 0.1, 16000 * 3).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", wave, 16000)
    wave, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    levels = recording_levels(tmp_path / "a.wav", CQTConfig(), 3.0)
    assert np.abs(levels - key_levels(normalise(cqt_magnitude(wave, 16000), 3.0))).max() < 0.1


def test_velocity_follows_loudness_and_not_the_gain():
    rng = np.random.default_rng(0)
    cqt = rng.uniform(-1, -0.5, (300, 352))
    frame, key = np.arange(10, 290, 10), rng.integers(0, 88, 28)
    found = loudness_velocities(cqt, frame, key)
    assert found.dtype == np.uint8 and np.all((found >= 12) & (found <= 120))
    louder = loudness_velocities(cqt + 0.1, frame, key).astype(int)
    assert np.all(louder >= found) and (louder > found).any()


def test_notes_at_the_edges_of_a_recording_and_of_the_keyboard():
    x = note_loudness(np.full((3, 352), -1.0), [0, 0, 2, 2], [0, 87, 0, 87])
    assert np.isfinite(x).all() and np.allclose(x[0, :7], -80)


def test_a_recording_without_notes_takes_no_part_in_the_fit():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(200, 25)), rng.normal(size=25)
    pair = x, x @ w + 60
    assert np.allclose(fit_velocity([pair, (x[:0], x[:0, 0])])[0], fit_velocity([pair])[0])
