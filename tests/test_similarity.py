"""Features and distances against plain loops, another library, and what must not matter."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from amt_nb.workshop.streaming import cqt
from amt_nb.cqt import CQTConfig
from amt_nb.notes import as_notes, empty_notes
from amt_nb.workshop.settings import UserError
from amt_nb.alignment.similarity import audio_chroma, audio_onsets, Axes, cqt_chroma, cross_similarity
from amt_nb.alignment.similarity import decaying, from_square, activation_features, matrix_to_square
from amt_nb.alignment.similarity import paper_chroma, PAPER_FPS, plot_similarity, rendered_chroma
from amt_nb.alignment.similarity import resample_frames, roll_features, score_chroma, score_onsets
from amt_nb.alignment.similarity import score_rolls, to_indices, to_square, chroma_transposition
from amt_nb.workshop.tuning import mean_tuning_cents
from amt_nb.workshop.synth import render

few = settings(max_examples=30, deadline=None)
SCALE = as_notes(np.arange(12) * 0.5, np.arange(12) * 0.5 + 0.45, [60, 62, 64, 65, 67, 69, 71, 72, 67, 64, 62, 60])


def tone(hz, seconds=2.0, sr=16000):
    t = np.arange(int(seconds * sr)) / sr
    return sum(np.sin(2 * np.pi * k * hz * t) / k for k in (1, 2, 3)).astype(np.float32) * 0.3


@few
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 13), st.integers(0, 1000))
def test_distances_are_those_of_two_loops(n, m, d, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n, d)), rng.normal(size=(m, d))
    naive = np.array([[np.sqrt(((x - y) ** 2).sum()) for y in b] for x in a])
    assert np.abs(cross_similarity(a, b, rows=7) - naive).max() < 1e-6
    cosine = np.array([[1 - x @ y / np.linalg.norm(x) / np.linalg.norm(y) for y in b] for x in a])
    assert np.abs(cross_similarity(a, b, "cosine") - cosine).max() < 1e-6


def test_equal_frames_are_at_distance_zero():
    x = np.random.default_rng(0).random((500, 12)).astype(np.float32) * 1000
    assert np.diag(cross_similarity(x, x)).max() < 1e-3 and cross_similarity(x, x).max() > 100


@few
@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 99))
def test_resampling_keeps_the_mean_and_constants(t, n, seed):
    x = np.random.default_rng(seed).random((t, 3))
    assert np.abs(resample_frames(x, n).mean(0) - x.mean(0)).max() < 1e-5
    assert np.abs(resample_frames(np.ones((t, 2)), n) - 1).max() < 1e-5
    assert np.abs(resample_frames(x, t) - x).max() < 1e-5


@few
@given(st.integers(2, 400), st.floats(0.5, 5000), st.floats(0.5, 5000), st.integers(0, 99))
def test_seconds_survive_the_square(size, recording_s, score_s, seed):
    axes = Axes(size, recording_s, score_s)
    s = np.random.default_rng(seed).uniform(0, score_s, size)
    t, back = from_square(to_indices(s, axes), axes)
    assert np.abs(back - s).max() < 1e-9 * score_s and 1 <= axes.columns <= size
    assert t[0] > 0 and t[-1] < recording_s and np.ptp(np.diff(t)) < 1e-6 * recording_s
    assert axes.columns == size or axes.column_s / axes.row_s < 1.5 or axes.columns == 1


def test_a_square_holds_the_matrix():
    rng = np.random.default_rng(1)
    a, b = rng.random((640, 12)), rng.random((320, 12))
    square, axes = to_square(a, b, 64, fps=50)
    assert square.shape == (64, 64) and axes.columns == 32 and (square[:, 32:] == square[:, :32].max()).all()
    direct = cross_similarity(a.reshape(64, 10, 12).mean(1), b.reshape(32, 10, 12).mean(1))
    assert np.abs(square[:, :32] - direct).max() < 1e-5
    other, same = matrix_to_square(cross_similarity(a, b), 64, 50)
    assert (
        same == axes
        and np.abs(other[:, :32] - cross_similarity(a, b).reshape(64, 10, 32, 10).mean((1, 3))).max() < 1e-5
    )


def test_a_long_recording_costs_the_memory_of_a_square():
    import tracemalloc

    a = np.random.default_rng(0).random((270_000, 12)).astype(np.float32)  # 90 minutes
    tracemalloc.start()
    to_square(a, a[:100_000], 512)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150e6, "the matrix itself would be 108 GB"


def test_chroma_of_a_tone_is_its_pitch_class():
    for pitch in (45, 58, 69):
        wave = tone(440 * 2 ** ((pitch - 69) / 12))
        assert (audio_chroma(wave, 16000)[20:80].argmax(1) == pitch % 12).all()
        assert (paper_chroma(wave, 16000)[20:60].argmax(1) == pitch % 12).all()
    assert len(audio_chroma(wave, 16000)) == 100 and len(paper_chroma(wave, 16000)) == np.ceil(2 * PAPER_FPS)


@pytest.mark.parametrize("cents", [-40, -20, 0, 15, 30])
def test_tuning_is_found_and_followed(cents):
    wave = tone(220 * 2 ** (cents / 1200)) + tone(330 * 2 ** (cents / 1200))[:32000]
    values = cqt(wave, 16000, CQTConfig(0.6, 0.5))
    assert abs(mean_tuning_cents(values) - cents) < 8
    straight = cqt_chroma(cqt(tone(220) + tone(330), 16000, CQTConfig(0.6, 0.5)))[50]
    assert np.linalg.norm(cqt_chroma(values, mean_tuning_cents(values))[50] - straight) < 0.15


@pytest.mark.parametrize("shift", [-4, 0, 1, 6])
def test_transposition(shift):
    up = SCALE.copy()
    up["pitch"] += shift
    twice = np.concatenate([score_chroma(up), score_chroma(up)[:150]])  # a repeat does no harm
    assert chroma_transposition(twice, score_chroma(SCALE)) == shift


def test_features_of_sound_and_of_notes_agree():
    wave = render(SCALE, 16000)
    for heard, written in (
        (audio_chroma(wave, 16000), score_chroma(SCALE)),
        (audio_onsets(wave, 16000), score_onsets(SCALE)),
    ):
        n = min(len(heard), len(written))
        d = cross_similarity(heard[:n], written[:n])
        assert np.diag(d)[10:-10].mean() < 0.65 * d.mean()
    assert np.abs(rendered_chroma(SCALE) - audio_chroma(wave, 16000)).max() < 1e-6


def test_onset_tails_are_onsets_that_fade():
    x = np.zeros((100, 12))
    x[20, 3], x[60, 5] = 1, 0.2
    y = decaying(x)
    assert y[19].max() == 0 and y[20, 3] == 1 and abs(y[25, 3] - np.sqrt(0.5)) < 1e-6 and y[30].max() == 0
    assert y[60, 5] == 1, "each onset is measured against its surroundings"


def test_silence_says_nothing():
    for f in (
        audio_chroma(np.zeros(16000, np.float32), 16000),
        score_chroma(empty_notes(), n_frames=50),
        score_rolls(empty_notes(), n_frames=50),
    ):
        assert np.isfinite(f).all() and np.ptp(f) < 1e-6 and abs(np.linalg.norm(f[0]) - 1) < 1e-5


def test_our_transcriber_gives_features():
    wave = render(SCALE, 16000)
    a, b = activation_features(wave, 16000), score_rolls(SCALE)
    n = min(len(a), len(b))
    d = cross_similarity(a[:n], b[:n])
    assert a.shape[1] == b.shape[1] == 176 and np.diag(d).mean() < 0.75 * d.mean()
    assert roll_features(np.zeros((5, 88)), np.zeros((5, 88))).shape == (5, 176)


def test_bad_input():
    x = np.zeros((4, 12))
    for args, word in (
        ((x, np.zeros((3, 11))), "compared"),
        ((x[:0], x), "at least one frame"),
        ((x, x * np.nan), "NaN"),
        ((x, x, "euclid"), "'euclidean'"),
    ):
        with pytest.raises(UserError, match=word):
            cross_similarity(*args)
    with pytest.raises(UserError, match="positive"):
        Axes(8, 0, 1)
    with pytest.raises(UserError, match="rows"):
        from_square(np.zeros(3), Axes(8, 1, 1))


def test_a_picture_in_seconds():
    import matplotlib.pyplot as plt

    square, axes = to_square(score_chroma(SCALE), score_chroma(SCALE)[:200], 64)
    ax = plot_similarity(square, axes, path=from_square(np.arange(64.0), axes), title="x")
    assert ax.get_xlim() == pytest.approx((0, axes.recording_s))  # recording to the right, score up
    assert ax.get_ylim() == pytest.approx((0, axes.size * axes.column_s))
    plt.close()
