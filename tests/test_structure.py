"""Rearranged recordings: the truth is exact, whatever is cut, however often."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from amt_nb.notes import as_notes, to_roll
from amt_nb.workshop.settings import UserError
from amt_nb.alignment.similarity import Axes, from_square, score_chroma
from amt_nb.workshop.time_maps import beat_map, check_segments, compose, joined
from amt_nb.alignment.structure import carry, describe, STRUCTURES
from amt_nb.workshop.time_maps import played_starts
from amt_nb.alignment.structure import random_structure, rearrange_audio, rearrange_frames
from amt_nb.alignment.structure import rearrange_notes, rearrange_pedal, structure
from amt_nb.workshop.time_maps import SAME_S, TimeMap
from amt_nb.workshop.time_maps import to_original, to_played
from amt_nb.alignment.structure import true_indices

few = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**31)


def performance(seed, seconds=40):
    """Notes, beats and the map of a performance of which everything is known: a note on every beat, one second of score each."""
    rng = np.random.default_rng(seed)
    beats = np.cumsum(rng.uniform(0.3, 1.2, seconds))
    notes = as_notes(beats, beats + 0.2, 21 + np.arange(len(beats)) % 88)
    return notes, beats, beat_map(beats, np.arange(len(beats), dtype=float), beats[-1] + 1, len(beats) + 1.0)


def draw(seed, beats, end):
    """A random structure on the beats."""
    return random_structure(end, beats, seed)[0]


@few
@given(seeds)
def test_every_note_of_a_rearranged_performance_is_where_the_map_says(seed):
    notes, beats, truth = performance(seed)
    segments = draw(seed, beats, beats[-1] + 1)
    played, carried = rearrange_notes(notes, segments), carry(truth, segments)
    assert len(played) == len(to_played(notes["onset_s"], segments)[0])
    at = carried.at(played["onset_s"] + 1e-7)
    assert np.abs(at - (played["pitch"] - 21)).max() < 2e-5, "note number k was written at second k of the score"


@few
@given(seeds)
def test_to_played_is_the_inverse_of_to_original(seed):
    _, beats, _ = performance(seed)
    segments = draw(seed, beats, beats[-1] + 1)
    at = np.random.default_rng(seed).uniform(0, beats[-1], 50)
    index, played = to_played(at, segments)
    assert np.abs(to_original(played, segments) - at[index]).max(initial=0) < 1e-6
    inside = [((at >= a - SAME_S) & (at < b - SAME_S)).astype(int) for a, b in segments]
    assert (np.bincount(index, minlength=len(at)) == sum(inside)).all(), (
        "as many visits as segments that hold the moment"
    )


@few
@given(seeds, seeds, seeds)
def test_composition_is_associative_and_keeps_lengths(a, b, c):
    first = draw(a, np.arange(1, 40.0), 40.0)
    second = draw(b, np.arange(1, played_starts(first)[-1]), played_starts(first)[-1])
    third = draw(c, np.arange(1, played_starts(second)[-1]), played_starts(second)[-1])
    left, right = compose(compose(third, second), first), compose(third, compose(second, first))
    assert len(left) == len(right) and np.abs(np.array(left) - np.array(right)).max() < 1e-9
    assert abs(played_starts(left)[-1] - played_starts(third)[-1]) < 1e-9
    t = np.random.default_rng(a).uniform(0, played_starts(third)[-1], 60)
    assert np.abs(to_original(t, left) - to_original(to_original(to_original(t, third), second), first)).max() < 1e-6


@few
@given(seeds)
def test_carrying_twice_is_carrying_the_composition(seed):
    _, beats, truth = performance(seed)
    first = draw(seed, beats, beats[-1] + 1)
    second = draw(seed + 1, None, played_starts(first)[-1])
    t = np.random.default_rng(seed).uniform(0, played_starts(second)[-1], 80)
    assert np.abs(carry(carry(truth, first), second).at(t) - carry(truth, compose(second, first)).at(t)).max() < 1e-5


@few
@given(seeds, st.sampled_from(sorted(STRUCTURES)))
def test_kinds_cut_only_where_they_may(seed, kind):
    cuts = np.sort(np.random.default_rng(seed).uniform(1, 59, 25))
    segments = structure(kind, 60.0, cuts, seed)
    places = np.array([x for s in segments for x in s])
    allowed = np.concatenate([[0, 60], cuts])
    assert np.abs(places[:, None] - allowed).min(1).max() < 1e-9
    assert 1 <= len(segments) <= 4 and len(describe(segments)) == len(segments) - 1


def test_each_kind_is_what_it_says():
    cuts, total = np.arange(1, 60.0), {}
    for kind in STRUCTURES:
        total[kind] = played_starts(structure(kind, 60.0, cuts, 5))[-1]
    assert (
        total["skip"] < 60 == total["wrong order"]
        and min(total[k] for k in ("repeat", "jump", "da capo", "endings")) > 60
    )
    a, (b, c) = structure("wrong order", 60.0, cuts, 5)[0], structure("wrong order", 60.0, cuts, 5)[1]
    assert a[0] == 0 and b > a[1]


@few
@given(seeds)
def test_audio_begins_every_segment_at_the_very_sample(seed):
    sr = 2000
    rng = np.random.default_rng(seed)
    wave = np.arange(20 * sr, dtype=np.float32)  # every sample says where it comes from
    segments = draw(seed, np.sort(rng.uniform(0.5, 19.5, 30)), 20.0)
    out, edge = rearrange_audio(wave, sr, segments), np.round(played_starts(segments) * sr).astype(int)
    assert len(out) == edge[-1]
    for k, (a, _) in enumerate(segments):
        assert out[edge[k]] == round(a * sr)
        quiet = slice(edge[k], max(edge[k], edge[k + 1] - round(0.010 * sr)))
        assert (np.diff(out[quiet]) == 1).all(), "untouched until the fade"


def test_a_splice_does_not_click():
    sr, t = 16000, np.arange(16000 * 4) / 16000
    wave = np.sin(2 * np.pi * 220 * t).astype(np.float32)
    segments = [(0, 1 + 0.25 / 220), (2 + 0.75 / 220, 4)]  # from the top of a wave to the bottom of another
    faded, hard = (np.abs(np.diff(rearrange_audio(wave, sr, segments, f))).max() for f in (0.010, 0))
    assert hard > 1.9 and faded < 1.3 * np.abs(np.diff(wave)).max()


def test_features_follow_within_one_frame():
    x = np.arange(1000)[:, None].astype(float)
    segments = [(0, 8.011), (3.009, 20)]
    out = rearrange_frames(x, segments, 50)[:, 0]
    middle = (np.arange(len(out)) + 0.5) / 50
    assert np.abs(out + 0.5 - to_original(middle, segments) * 50).max() <= 0.5 + 1e-6


def test_notes_and_sound_agree():
    notes, beats, _ = performance(3, 20)
    segments = structure("endings", float(beats[-1] + 1), beats, 2)
    roll = rearrange_frames(to_roll(notes, round((beats[-1] + 1) * 50)), segments)
    of_notes = to_roll(rearrange_notes(notes, segments), len(roll))
    near = np.maximum.reduce([np.roll(roll, k, 0) for k in (-1, 0, 1)])
    assert (of_notes & ~near).sum() <= len(segments) and of_notes.sum() > 100


def test_a_pedal_begins_each_segment_as_it_was():
    pedal = rearrange_pedal([(1, 127), (3, 0)], [(0, 2), (2.5, 4), (0.5, 2)])
    assert pedal.tolist() == [[0, 0], [1, 127], [2, 127], [2.5, 0], [3.5, 0], [4, 127]]


def test_a_note_over_a_cut_is_let_go():
    notes = as_notes([0, 1.5], [1, 5], [60, 64])
    assert rearrange_notes(notes, [(0, 2), (0, 1)])["offset_s"].tolist() == [1, 2, 3]
    assert rearrange_notes(notes, [(0, 2), (0, 1)], 0.3)["offset_s"].tolist() == [1, 2.3, 3]


@few
@given(seeds)
def test_indices_of_a_square_come_back_as_the_truth(seed):
    _, beats, truth = performance(seed)
    segments = draw(seed, beats, beats[-1] + 1)
    carried = carry(truth, segments)
    axes = Axes(64, carried.recording_s[-1], float(truth.score_s.max()) + 0.5)
    t, s = from_square(true_indices(carried, axes), axes)
    assert np.abs(s - carried.at(t)).max() < 1e-9


def test_time_maps():
    m = TimeMap([0, 10, 10, 20], [0, 8, 2, 10])
    assert m.at([5, 9.99, 10, 25, -1]).round(3).tolist() == [4, 7.992, 2, 10, 0]
    assert m.jumps().tolist() == [[10, 8, 2]] and m.slope([5, 15]).tolist() == [1.25, 1.25]
    assert len(carry(m, [(0, 10), (10, 20)]).jumps()) == 1
    for bad, word in (([[0], [0]], "two rows"), ([[0, 1], [0, np.nan]], "NaN"), ([[1, 0], [0, 1]], "falls")):
        with pytest.raises(UserError, match=word):
            TimeMap(*bad)
    crossed = beat_map([1, 2, 2, 3], [0, 1, 1.5, 2], 4, 3)
    assert crossed.at([1, 2, 3, 4]).tolist() == [0, 1, 2, 3] and crossed.recording_s[0] == 0
    with pytest.raises(UserError, match="two beats"):
        beat_map([1, 1], [0, 1])


def test_bad_input():
    for bad in ([], [(1, 1)], [(2, 1)], [(-1, 1)], [(0, 11)], [1, 2]):
        with pytest.raises(UserError):
            check_segments(bad, 10)
    with pytest.raises(UserError, match="'da capo'"):
        structure("da cappo", 10)
    with pytest.raises(UserError, match="places to cut"):
        structure("repeat", 10, [5.0])
    assert joined([(0, 1), (1, 2), (3, 4)]) == [(0, 2), (3, 4)]


def test_a_structure_is_a_pure_function_of_its_seed():
    assert (
        random_structure(50, np.arange(50.0), 7)
        == random_structure(50, np.arange(50.0), 7)
        != random_structure(50, np.arange(50.0), 8)
    )
    lengths = [played_starts(random_structure(50, np.arange(50.0), s, longest=1.5)[0])[-1] for s in range(40)]
    assert max(lengths) <= 75


def test_chroma_of_rearranged_notes_is_rearranged_chroma():
    notes, beats, _ = performance(11, 20)
    segments = structure("repeat", float(beats[-1] + 1), beats, 4)
    a = score_chroma(rearrange_notes(notes, segments), 50, round(played_starts(segments)[-1] * 50))
    b = rearrange_frames(score_chroma(notes, 50, round((beats[-1] + 1) * 50)), segments, 50)
    assert np.mean(np.linalg.norm(a - b[: len(a)], axis=1) < 0.2) > 0.93
