"""Instruments told apart: long recordings in pieces, odd notes, and what the command line writes of it."""

import numpy as np
import pytest

from amt_nb.notes import as_notes, empty_notes, sort_notes
from amt_nb.workshop.grids import FPS, INSTRUMENT_PROGRAMS, INSTRUMENTS
from amt_nb.workshop.players import (
    CLASSES,
    class_shares,
    listened,
    note_features,
    played_by,
    recognise,
    streamed_features,
)
from amt_nb.workshop.settings import UserError


def random_notes(rng, n, seconds):
    onset = rng.uniform(0, seconds - 0.05, n)
    return sort_notes(as_notes(onset, onset + rng.uniform(0.03, 4, n), rng.integers(21, 109, n), 80))


@pytest.mark.parametrize("size", [1, 37, 64, 500])
def test_pieces_of_a_recording_give_the_numbers_of_the_whole(size):
    rng = np.random.default_rng(size)
    x, notes = rng.uniform(-1, 1, (700, 352)).astype(np.float32), random_notes(rng, 60, 13.9)
    pieces = [(a, x[a : a + size]) for a in range(0, len(x), size)]
    found, whole = streamed_features(pieces, notes), note_features(x, notes)
    same = np.isclose(found, whole, atol=1e-4).all(1)
    assert same.all(), np.flatnonzero(~same)


def test_a_gap_in_the_notes_is_no_gap_in_the_sound():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (900, 352)).astype(np.float32)
    notes = as_notes([0.5, 16.0], [0.9, 17.5], [40, 70], 80)
    pieces = [(a, x[a : a + 50]) for a in range(0, len(x), 50)]
    assert np.allclose(streamed_features(pieces, notes), note_features(x, notes), atol=1e-4)


def test_silence_and_no_notes_are_nobody():
    silent = np.zeros(16000, np.float32)
    assert recognise(silent, empty_notes(), 16000).shares == {}
    heard = recognise(silent, as_notes([0.1, 0.9], [0.5, 3.0], [21, 108], 80), 16000)
    assert np.isfinite(heard.sure).all() and len(heard.notes) == 2


def test_notes_come_back_in_their_order():
    rng = np.random.default_rng(1)
    wave = rng.normal(0, 0.05, 4 * 16000).astype(np.float32)
    notes = random_notes(rng, 20, 3.9)
    mixed = notes[rng.permutation(20)]
    heard = recognise(wave, mixed, 16000)
    for field in ("onset_s", "offset_s", "pitch"):
        assert (heard.notes[field] == mixed[field]).all()


def test_each_class_is_written_under_its_own_name():
    for name in CLASSES:
        told = played_by(name, as_notes(0, 1, 60, 80))
        i = int(told.notes["instrument"][0])
        assert told.names[i] == name == told.told and len(set(told.names)) == len(INSTRUMENTS)
        assert name not in INSTRUMENTS or told.programs == INSTRUMENT_PROGRAMS
    with pytest.raises(UserError, match="kazoo.*piano.*mallets"):
        played_by("kazoo", empty_notes())


def test_shares_sum_to_one_whatever_is_heard():
    for n in (1, 2, 50):
        scores = np.log(np.random.default_rng(n).dirichlet(np.ones(len(CLASSES)), n))
        notes = as_notes(np.arange(n) / FPS, np.arange(n) / FPS + 0.5, [60] * n, 80)
        p, share = class_shares(listened(scores, notes))
        assert np.allclose(p.sum(1), 1) and np.isclose(share.sum(), 1)
