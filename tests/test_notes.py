"""Notes and rolls: properties over random input."""

import numpy as np
import pytest
from hypothesis import given
from random_notes import FAST, rolls, some_notes

from amt_nb import notes as N
from amt_nb.workshop import midi as midi_module
from amt_nb.workshop.grids import FPS
from amt_nb.workshop.settings import UserError

NAN = float("nan")


def sounding(notes, n_frames):
    """Oracle: one loop over notes and frames with exact fractions of a frame."""
    roll = np.zeros((n_frames, 88), bool)
    for note in notes:
        if not 21 <= note["pitch"] <= 108:
            continue
        first = int(note["onset_s"] * FPS + 1e-6)
        for t in range(n_frames):
            half = note["offset_s"] * FPS + 1e-6 >= t + 0.5
            if t == first or (t > first and half):
                roll[t, note["pitch"] - 21] = True
    return roll


@FAST
@given(some_notes())
def test_to_roll_equals_the_slow_definition(notes):
    n = len(N.to_roll(notes))
    assert (N.to_roll(notes, n + 3) == sounding(notes, n + 3)).all()
    assert (N.to_rolls(notes, n).any(0) == N.to_roll(notes, n)).all()


@FAST
@given(some_notes(pitch=(21, 108)))
def test_no_note_vanishes_from_a_roll(notes):
    roll, strokes = N.to_roll(notes), N.onset_roll(notes)
    first = N.first_frame(notes["onset_s"])
    assert roll[first, notes["pitch"] - 21].all() and strokes[first, notes["pitch"] - 21].all()
    assert not (strokes & ~roll).any()
    assert len(N.from_roll(roll, strokes)) == len({(f, p) for f, p in zip(first.tolist(), notes["pitch"].tolist())})


@FAST
@given(rolls, rolls)
def test_roll_to_notes_to_roll_is_exact(roll, cuts):
    n = min(len(roll), len(cuts))
    roll, cuts = roll[:n], cuts[:n]
    before = np.vstack([np.zeros((1, 88), bool), roll[:-1]])
    strokes = roll & (cuts | ~before)
    back = N.from_roll(roll, cuts)
    assert (N.to_roll(back, n) == roll).all() and (N.onset_roll(back, n) == strokes).all()
    again = N.from_roll(N.to_roll(back, n), N.onset_roll(back, n))
    assert (again == back).all()


def test_frame_rule_on_the_grid_for_three_hours():
    k = np.arange(540_000)
    assert (N.first_frame(k / 50) == k).all() and (N.end_frame((k - 1) / 50, k / 50) == k)[1:].all()


def test_negative_onsets_and_windows():
    notes = N.as_notes([-1, -1, 0.5], [-0.5, 0.1, 2], [60, 62, 64])
    assert N.to_roll(notes).sum(0)[[39, 41, 43]].tolist() == [0, 5, 75]
    assert N.onset_roll(notes).sum() == 1 and N.to_roll(notes, 0).shape == (0, 88)
    assert N.to_roll(N.empty_notes()).shape == (0, 88) and N.to_rolls(N.empty_notes(), 7).shape == (11, 7, 88)


@FAST
@given(some_notes(pitch=(60, 62), instruments=2, span=0.005))
def test_merge_unisons(notes):
    merged = N.merge_unisons(notes)
    N.check_notes(merged)
    assert len(N.merge_unisons(notes, 0)) == len({(n["onset_s"], n["pitch"], n["instrument"]) for n in notes})
    for i in range(2):
        for p in (60, 61, 62):
            a, b = (x[(x["instrument"] == i) & (x["pitch"] == p)] for x in (notes, merged))
            assert a["offset_s"].max(initial=0) == b["offset_s"].max(initial=0) and a["velocity"].max(initial=0) == b[
                "velocity"
            ].max(initial=0)
            assert set(b["onset_s"]) <= set(a["onset_s"]) and bool(len(a)) == bool(len(b))


@pytest.mark.parametrize(
    "columns, message",
    [
        ((0, NAN, 60), "finite"),
        ((0, np.inf, 60), "finite"),
        ((1, 1, 60), "offset"),
        ((0, 1, 128), "pitch"),
        ((0, 1, -1), "pitch"),
        ((0, 1, 60.5), "whole"),
        ((0, 1, 1e9), "whole"),
        ((0, 1, 60, 0), "velocity"),
        ((0, 1, 60, 128), "velocity"),
        ((0, 1, 60, 80, 11), "instrument"),
        (([0, 1], [1, 2, 3], 60), "lengths"),
    ],
)
def test_bad_columns(columns, message):
    with pytest.raises(UserError, match=message):
        N.as_notes(*columns)


def test_other_arrays_are_refused():
    for call in (
        lambda: N.check_notes(np.zeros(3)),
        lambda: midi_module.midi_bytes([(0, 1, 60)]),
        lambda: N.from_roll(np.zeros((4, 87))),
        lambda: midi_module.midi_bytes(N.empty_notes(), resolution=1),
    ):
        with pytest.raises(UserError):
            call()


def test_sonify_edges():
    assert N.sonify(N.empty_notes()).shape == (1600,)
    loud = N.as_notes(np.zeros(40), np.ones(40), 40 + np.arange(40), 127)
    assert abs(N.sonify(loud)).max() <= 0.8 + 1e-6 and N.sonify(loud, seconds=0.5).shape == (8000,)
    assert N.sonify(N.as_notes(-0.5, 0.2, 108)).size > 0


def test_plots_take_and_return_axes():
    plt = pytest.importorskip("matplotlib.pyplot")
    _, ax = plt.subplots()
    for thing in (N.empty_notes(), N.as_notes(0, 1, 60), np.zeros((0, 88)), np.zeros((5, 88)), np.ones((5, 88), bool)):
        assert N.plot_roll(thing, ax) is ax
    plt.close("all")
