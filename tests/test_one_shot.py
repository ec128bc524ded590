"""The coarse-to-fine reader: evidence against its definition, strips whatever their pieces, losses that know the truth."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amt_nb.alignment import one_shot
from amt_nb.alignment.one_shot import (
    COARSE_S,
    REACH,
    STEP_S,
    CoarseReader,
    OneShot,
    Reader,
    ReaderConfig,
    Reading,
    centres,
    coarse_loss,
    evidence,
    fine_loss,
    key_rows,
    misplaced,
    near_jump,
    picture,
    score_evidence,
    strip,
    weathered,
)
from amt_nb.alignment.structure import carry, toy_piece
from amt_nb.notes import as_notes
from amt_nb.workshop.settings import UserError
from amt_nb.workshop.time_maps import TimeMap

few, seeds = settings(max_examples=20, deadline=None), st.integers(0, 2**31)
SMALL = ReaderConfig((8, 8, 8), 2, 8, (1, 2))


@few
@given(seeds)
def test_keys_are_as_loud_as_the_loudest_note_that_sounds(seed):
    rng = np.random.default_rng(seed)
    n, rows = int(rng.integers(0, 12)), 30
    on, long, key = rng.uniform(-0.2, 1.3, n), rng.uniform(0, 0.6, n), rng.integers(-2, 90, n)
    level = rng.uniform(0, 1, n).astype(np.float32)
    naive = np.zeros((rows, 88), np.float32)
    for a, b, k, v in zip(on, on + long, key, level):
        first = int(np.floor(a / STEP_S + 1e-6))
        last = max(first + 1, int(np.ceil(b / STEP_S - 1e-6)))
        for t in range(first, min(last, rows)):
            if 0 <= first < rows and 0 <= k < 88:
                naive[t, k] = max(naive[t, k], v)
    assert np.array_equal(key_rows(on, on + long, key, level, rows), naive)


@few
@given(seeds, st.integers(1, 40))
def test_a_strip_does_not_depend_on_its_pieces(seed, rows):
    rng = np.random.default_rng(seed)
    a, b = (rng.random((int(rng.integers(1, 60)), 176)).astype(np.float32) for _ in range(2))
    centre = rng.integers(-60, 100, len(a))
    whole = strip(a, b, centre)
    assert np.allclose(whole, strip(a, b, centre, rows), atol=1e-6)
    i, k = int(rng.integers(len(a))), int(rng.integers(2 * REACH + 1))
    column = centre[i] + k - REACH
    if 0 <= column < len(b):
        x, y = one_shot.unit_rows(a[:, :88])[i], one_shot.unit_rows(b[:, :88])[column]
        assert abs(whole[0, i, k] - x @ y) < 1e-5 and whole[4, i, k] == 0
    else:
        assert not whole[[0, 1, 3], i, k].any() and whole[4, i, k] == -1


def test_fine_rows_go_on_between_coarse_ones_and_part_at_a_jump():
    coarse = np.r_[np.arange(20) * COARSE_S, 40 + np.arange(20) * COARSE_S] + COARSE_S / 2
    found = centres(coarse, 40 * 16) * STEP_S
    true = (np.arange(40 * 16)) * STEP_S + np.where(np.arange(40 * 16) < 320, 0, 40 - 20 * COARSE_S)
    assert np.abs(found - true).max() < 1.5 * STEP_S
    assert np.abs(centres(np.array([3.0]), 5) * STEP_S - 3).max() < 0.5


@pytest.mark.parametrize("rows, columns", [(1, 1), (1, 300), (40, 3), (700, 500)])
def test_any_length_is_read(rows, columns):
    rng = np.random.default_rng(0)
    found, likely = Reader(SMALL).read(*(rng.random((n, 176)).astype(np.float32) for n in (rows, columns)))
    assert found.shape == (rows,) and 0 <= found.min() and found.max() <= columns * STEP_S
    assert np.abs(likely.sum(1) - 1).max() < 1e-5
    assert np.isfinite(picture(np.zeros((rows, 176)), np.zeros((columns, 176)))).all()


def test_what_was_heard_of_nothing_is_noise():
    rng = np.random.default_rng(1)
    none = weathered(as_notes([], [], []), 50, rng)
    assert none.shape == (50, 176) and 0 <= none.min() and none.max() < 0.5
    score, played, _ = toy_piece()
    some = weathered(played, 1200, rng)
    assert some.max() <= 1 and some[:, 88:].sum() > 50 and score_evidence(score[:0]).shape == (1, 176)
    with pytest.raises(UserError, match="no notes"):
        OneShot(Reader(SMALL)).align((np.zeros((50, 88)), np.zeros((50, 88))), score[:0])


def toy_reading(segments=None):
    score, _, beats = toy_piece()
    segments = segments or [(0.0, 24.0), (14.0, float(beats.recording_s[-1]))]
    truth = carry(beats, segments)
    rows = int(truth.recording_s[-1] / STEP_S)
    return Reading(np.zeros((rows, 176), np.float32), score_evidence(score), truth)


def test_losses_are_small_for_the_truth_and_forgive_the_moment_of_a_jump():
    reading = toy_reading()
    rows, columns = -(-len(reading.recording) // 16), -(-len(reading.score) // 16)

    class Coarse(torch.nn.Module):
        def forward(self, x, off=0.0):
            at = (np.arange(rows) + 0.5) * COARSE_S
            column = torch.from_numpy(reading.time_map.at(at) / COARSE_S - 0.5 + off)
            return [-20 * (torch.arange(columns) - column[:, None]).abs()[None].float()]

    right = coarse_loss({"coarse": Coarse()}, {"readings": [reading]})

    class Wrong(Coarse):
        def forward(self, x):
            return super().forward(x, 6.0)

    wrong = coarse_loss({"coarse": Wrong()}, {"readings": [reading]})
    assert right["right"] == 1 and wrong["right"] < 0.1 and wrong["total"] > right["total"] + 20
    assert near_jump(reading.time_map, np.array([23.9, 20.0]), 0.25).tolist() == [True, False]
    still = TimeMap(np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    assert not near_jump(still, np.array([0.5]), 9.0).any()


def test_both_networks_learn_from_a_reading():
    reading, net = toy_reading(), Reader(SMALL)
    for loss, name in ((coarse_loss, "coarse"), (fine_loss, "fine")):
        found = loss({name: getattr(net, name)}, {"readings": [reading, reading], "number": 3})
        found["total"].backward()
        grads = [p.grad for p in getattr(net, name).parameters()]
        assert all(g is not None and torch.isfinite(g).all() for g in grads) and 0 <= found["right"] <= 1
    off = misplaced(reading.time_map, 30, np.random.default_rng(0)) - reading.time_map.at(
        (np.arange(30) + 0.5) * COARSE_S
    )
    assert 0 < np.abs(off).mean() < 1.5
    far = Reading(reading.recording, reading.score, TimeMap(np.array([0.0, 60.0]), np.array([900.0, 960.0])))
    assert fine_loss({"fine": net.fine}, {"readings": [far], "number": 0})["right"] == 0


def test_evidence_takes_the_larger_of_two_frames_and_the_networks_their_sizes():
    frames = np.zeros((5, 88))
    frames[3, 7] = 0.5
    assert evidence(frames, frames)[1, [7, 95]].tolist() == [0.5, 0.5] and len(evidence(frames, frames)) == 3
    assert [s.shape for s in CoarseReader(SMALL)(torch.zeros(1, 2, 37, 90))] == [(1, 10, 23)] * 2
