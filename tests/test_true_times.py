"""Onsets lie where the sound begins: the fast matching against mir_eval, lags, and the shipped weights on exact renderings."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from amt_nb.metrics import LAGS_S, delayed, lag_scores, note_counts, note_f1, onset_pairs
from amt_nb.notes import as_notes, empty_notes
from amt_nb.transcription.transcribe import transcribe
from amt_nb.workshop.synth import render


def random_notes(rng, n, keys=4):
    onset = rng.uniform(0, n / 20, n)
    return as_notes(onset, onset + 0.1, rng.integers(60, 60 + keys, n))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 60), st.integers(0, 60), st.sampled_from((0.02, 0.05, 0.1)))
def test_pairs_are_as_many_as_mir_eval_finds(seed, n, m, tolerance):
    rng = np.random.default_rng(seed)
    notes, truth = random_notes(rng, n), random_notes(rng, m)
    pairs = onset_pairs(notes, truth, tolerance)
    assert len(pairs) == note_counts(notes, truth, tolerance)[0]
    assert all(len(set(side)) == len(pairs) for side in pairs.T.tolist())
    late = notes["onset_s"][pairs[:, 0]] - truth["onset_s"][pairs[:, 1]]
    assert (np.abs(late) <= tolerance + 5e-5).all()
    assert (notes["pitch"][pairs[:, 0]] == truth["pitch"][pairs[:, 1]]).all()


@pytest.mark.parametrize("lag_ms", [-60, -20, 0, 15, 30, 70])
def test_lag_is_found_within_its_range(lag_ms):
    rng = np.random.default_rng(1)
    truth = as_notes(np.arange(60) / 3, np.arange(60) / 3 + 0.2, rng.integers(40, 80, 60))
    late = delayed(truth, lag_ms / 1000)
    late["onset_s"] += rng.uniform(-0.049, 0.049, 60)
    scores = lag_scores(late, truth)
    if 1000 * LAGS_S[0] <= lag_ms <= 1000 * LAGS_S[-1]:
        assert scores["note_f1_best_lag"] > 0.95 and abs(scores["best_lag_ms"] - lag_ms) <= 5
    else:
        assert scores["note_f1_best_lag"] < 0.95
    assert scores["note_f1_best_lag"] >= note_f1(late, truth)


def test_lag_scores_of_nothing():
    some = as_notes([0, 1], [0.5, 1.5], [60, 62])
    for notes, truth, f1 in ((empty_notes(), some, 0), (some, empty_notes(), 0), (empty_notes(), empty_notes(), 1)):
        scores = lag_scores(notes, truth)
        assert scores["note_f1_best_lag"] == f1 and np.isnan(scores["onset_bias_ms"])


@pytest.mark.parametrize("program", ["piano", "bright piano"])
def test_the_shipped_piano_is_punctual_on_an_exact_rendering(program):
    """Within 3 ms, labels being where the sound of a note comes within 26 dB of its peak."""
    rng = np.random.default_rng(2)
    onset = 0.5 + np.cumsum(rng.uniform(0.08, 0.3, 120))
    truth = as_notes(onset, onset + rng.uniform(0.15, 0.6, 120), rng.integers(36, 90, 120), rng.integers(50, 100, 120))
    notes = transcribe(render(truth, program=program), 16000, "piano-100k")
    scores = lag_scores(notes, truth)
    assert scores["note_f1_best_lag"] > 0.9
    assert abs(scores["onset_bias_ms"]) <= 3
    pairs = onset_pairs(notes, truth)
    assert (
        abs(np.median(notes["offset_s"][pairs[:, 0]] - truth["offset_s"][pairs[:, 1]])) < 0.05
    )  # a rendered note may fade before its key
