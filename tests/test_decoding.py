"""Decoding: properties over random probabilities, and a slow definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_notes import FAST, rolls

from amt_nb import notes as N
from amt_nb.workshop import decoding
from amt_nb.workshop.settings import UserError


@FAST
@given(rolls)
def test_decode_of_certainty_equals_from_roll(roll):
    before = np.vstack([np.zeros((1, 88), bool), roll[:-1]])
    onsets = (roll & ~before).astype(np.float32)
    for given_onsets in (None, onsets):
        found = decoding.decode(
            roll.astype(np.float32), given_onsets, min_frames=1, gap_frames=0, orphan_frames=1, reach_frames=0
        )
        if given_onsets is None or not ((onsets[:-2] > 0) & (onsets[2:] > 0)).any():
            assert (N.to_roll(found, len(roll)) == roll).all()


def slow_decode(frames, onsets, c: decoding.DecodeConfig):
    """Oracle: one key at a time, frame by frame; returns (key, start frame, end frame)."""
    out, n = [], len(frames)
    for key in range(frames.shape[1]):
        on = frames[:, key] > c.frame_threshold
        segments, t = [], 0
        while t < n:
            if on[t]:
                e = t
                while e < n and on[e]:
                    e += 1
                if segments and t - segments[-1][1] <= c.gap_frames:
                    segments[-1][1] = e
                else:
                    segments.append([t, e])
                t = e
            else:
                t += 1
        peaks = []
        for t in range(n):
            v = onsets[t, key]
            left = [onsets[u, key] for u in (t - 2, t - 1) if u >= 0]
            right = [onsets[u, key] for u in (t + 1, t + 2) if u < n]
            if v > c.onset_threshold and all(v > o for o in left) and all(v >= o for o in right):
                peaks.append(t)
        used = []
        original = [list(s) for s in segments]
        for p in peaks:
            if any(s <= p < e for s, e in original):
                used.append(p)
                continue
            later = [i for i, (s, e) in enumerate(original) if 0 < s - p <= c.reach_frames]
            if later:
                segments[later[0]][0] = min(segments[later[0]][0], p)
                used.append(p)
            elif onsets[p, key] >= c.lone_onset_threshold:
                segments.append([p, p + 1])
                used.append(p)
        pieces = []
        for s, e in sorted(segments):
            marks = sorted({s} | {p for p in used if s <= p < e})
            pieces += [(a, b, a in used) for a, b in zip(marks, marks[1:] + [e])]
        pieces = [p for p in pieces if p[2] or p[1] - p[0] >= c.orphan_frames]
        for i, (a, b, _) in enumerate(pieces):
            b = max(b, a + c.min_frames)
            if i + 1 < len(pieces):
                b = min(b, pieces[i + 1][0])
            out.append((key, a, min(b, n)))
    return sorted(out)


@FAST
@given(
    st.integers(0, 10_000),
    st.integers(1, 60),
    st.integers(1, 4),
    st.integers(0, 3),
    st.integers(1, 6),
    st.integers(0, 3),
)
def test_decode_equals_the_slow_definition(seed, n, min_frames, gap, orphan, reach):
    rng = np.random.default_rng(seed)
    smooth = lambda x: (x + np.roll(x, 1, 0)) / 2
    frames, onsets = smooth(rng.random((n, 88))), np.round(rng.random((n, 88)) ** 2, 2)
    config = decoding.DecodeConfig(min_frames=min_frames, gap_frames=gap, orphan_frames=orphan, reach_frames=reach)
    found = decoding.decode(frames, onsets, config=config)
    got = sorted(
        zip(
            (found["pitch"] - 21).tolist(),
            N.first_frame(found["onset_s"]).tolist(),
            N.end_frame(found["onset_s"], found["offset_s"]).tolist(),
        )
    )
    assert got == slow_decode(frames, onsets, config)


@FAST
@given(st.integers(0, 10_000), st.floats(-0.1, 0.1), st.floats(-0.2, 0.2))
def test_decode_with_shifts_never_overlaps(seed, onset_shift, offset_shift):
    rng = np.random.default_rng(seed)
    found = decoding.decode(
        rng.random((80, 88)), rng.random((80, 88)), onset_shift_s=onset_shift, offset_shift_s=offset_shift
    )
    N.check_notes(found)
    assert found["onset_s"].min() >= 0
    for pitch in np.unique(found["pitch"]):
        here = found[found["pitch"] == pitch]
        assert (here["offset_s"][:-1] <= here["onset_s"][1:]).all()


def test_decode_velocity_instruments_and_edges():
    frames = np.zeros((2, 10, 88))
    onsets = frames.copy()
    frames[1, 0:4, 5] = frames[0, 6:10, 7] = 1
    onsets[1, 0, 5] = onsets[0, 6, 7] = 1
    found = decoding.decode(frames, onsets, velocities=np.where(onsets > 0, 300, 0))
    assert found["instrument"].tolist() == [1, 0] and found["velocity"].tolist() == [127, 127]
    assert decoding.decode(np.zeros((0, 88)), np.zeros((0, 88))).size == 0
    assert decoding.decode(np.zeros((5, 88)), np.zeros((5, 88))).size == 0
    shifted = decoding.decode(frames, onsets, onset_shift_s=0.01, offset_shift_s=0.02)
    assert np.allclose(shifted["onset_s"], [0.02, 0.14]) and np.allclose(shifted["offset_s"], [0.10, 0.22])
    with pytest.raises(UserError, match="differ in shape"):
        decoding.decode(frames, onsets[:1])


def test_decode_is_fast_enough_for_three_hours():
    import time

    rng = np.random.default_rng(0)
    n = 54_000  # a tenth of three hours
    frames, onsets = rng.random((n, 88), np.float32) * 0.4, rng.random((n, 88), np.float32) * 0.4
    for t, k in zip(rng.integers(0, n - 30, 10_000), rng.integers(0, 88, 10_000)):
        frames[t : t + 20, k], onsets[t, k] = 0.9, 0.9
    start = time.process_time()
    found = decoding.decode(frames, onsets)
    assert len(found) > 9_000 and time.process_time() - start < 1.5
