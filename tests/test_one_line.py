"""A line among other music: the even path is the best of all even ones, chance is measured, and doubt is told."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from amt_nb.alignment import one_line
from amt_nb.alignment.align import at_any_pitch
from amt_nb.alignment.one_line import agreement_of_notes, disordered, even_steps, evener, follow_line, path_of_a_line
from amt_nb.alignment.one_line import wait_nats
from amt_nb.notes import as_notes, onset_roll, sort_notes, to_roll
from amt_nb.workshop.grids import FPS

SCALE = np.array([57, 59, 60, 62, 64, 65, 67, 69, 71, 72])


def song(seed, n=60):
    """(voice, piano) of a song with a rest of eight seconds, the piano on the same keys."""
    rng = np.random.default_rng(seed)
    onset = 3 + np.cumsum(rng.choice([0.4, 0.4, 0.8, 1.2], n)) + 8 * (np.arange(n) >= n // 2)
    voice = as_notes(onset, onset + 0.35, SCALE[np.clip(np.cumsum(rng.integers(-2, 3, n)) + 5, 0, 9)])
    chords = np.arange(0, onset[-1] + 3, 0.4)
    return voice, as_notes(chords, chords + 0.3, rng.choice(SCALE - 5, len(chords)))


def slower(s):
    """When score second s is played: an eighth slower, in a tempo that sways."""
    return 1.12 * s + 0.3 * np.sin(s / 4)


def heard(voice, piano, seed=0):
    """(frames, onsets) of a performance, in which one note of the voice in five is missed."""
    there = [voice[np.random.default_rng(seed).random(len(voice)) < 0.8].copy(), piano.copy()]
    for notes, edge in itertools.product(there, ("onset_s", "offset_s")):
        notes[edge] = slower(notes[edge])
    played = sort_notes(np.concatenate(there))
    n = int((played["offset_s"].max() + 1) * FPS)
    return 0.03 + 0.94 * to_roll(played, n), 0.02 + 0.93 * onset_roll(played, n)


def late(found, voice):
    """Score seconds by which the notes of a voice are found late."""
    return np.interp(slower(voice["onset_s"]) + 0.01, found.recording_s, found.score_s) - voice["onset_s"]


def test_the_even_path_is_the_best_of_all(monkeypatch):
    """Three notes, three tempi, nineteen cells: every way is tried."""
    monkeypatch.setattr(one_line, "TEMPI", np.exp(0.2 * np.arange(-1, 2)))
    rng, times, cell_s = np.random.default_rng(3), np.array([0.0, 5, 8]), 0.1
    at = np.round(np.outer(times, 1 / one_line.TEMPI)).astype(int)
    costs = one_line.SWAY_NATS * np.sqrt(0.5 / np.array([0.5, 0.3]))
    for _ in range(5):
        found = rng.normal(size=(3, 19)).astype(np.float32) * 6
        worth = {}
        for ks in itertools.product(range(3), repeat=3):
            for first, *waits in itertools.product(range(19), one_line.WAITS, one_line.WAITS):
                cells = [first, first + at[1, ks[1]] - at[0, ks[1]] + waits[0]]
                cells.append(cells[1] + at[2, ks[2]] - at[1, ks[2]] + waits[1])
                if not all(0 <= c < 19 for c in cells):
                    continue
                paid = one_line.FAR_NATS * abs(ks[0] - 1) + sum(map(wait_nats, waits))
                paid += sum(c * abs(j) for c, j in zip(costs, np.diff(ks)))
                worth[tuple(cells)] = max(worth.get(tuple(cells), -np.inf), found[range(3), cells].sum() - paid)
        event, cell = even_steps(found, times, cell_s).T
        if len(event) == 3:
            assert worth[tuple(cell)] == pytest.approx(max(worth.values()), abs=1e-4)
        assert max(worth.values()) - one_line.ENTER_NATS < found[event, cell].sum()


def test_waiting_costs_by_the_cell_and_a_pause_little_more():
    assert [wait_nats(w) for w in (-1, 0, 1, 2)] == [1, 0, 1, 2]
    assert wait_nats(8) == pytest.approx(4.2) and wait_nats(32) == pytest.approx(7.8)


def test_agreement_is_that_of_the_key_for_as_long_as_the_note_lasts():
    a = np.zeros((10, 176))
    a[4:7, 60 - 21], a[4, 88 + 60 - 21] = 1, 2
    found = agreement_of_notes(a, as_notes([0.0, 1], [0.24, 1.08], [60, 60]), 0.08)
    own = a - a.mean(0)
    assert found[0, 4] == pytest.approx(0.2 * (own[4:7, 39].sum() + own[4, 127]), abs=1e-6)
    assert found[1, 4] == pytest.approx(0.2 * (own[4, 39] + own[4, 127]), abs=1e-6)
    assert found[0].argmax() == 4


def test_a_voice_is_found_among_a_piano_at_its_pitch_and_another_is_not():
    voice, piano = song(1)
    rolls, written = heard(voice, piano), voice.copy()
    written["pitch"] += 14
    found, semitones = at_any_pitch(*rolls, written)
    error = np.abs(late(found, voice))
    assert semitones == -14 and np.mean(error < 0.1) > 0.9 and len(found.edges) == 1
    assert found.confidence[found.inside].mean() > 0.4
    known, semitones = at_any_pitch(*rolls, written, semitones=-14)
    assert semitones == -14 and np.mean(np.abs(late(known, voice)) < 0.1) > 0.9
    assert at_any_pitch(*rolls, song(2)[0])[0].confidence.mean() < 0.05


def test_what_chance_explains_of_an_even_path_a_free_one_does_not_tell_either():
    path = lambda evidence, sure: SimpleNamespace(
        evidence=evidence, confidence=np.array([sure]), inside=np.array([sure > 0])
    )
    even, lost, free, sure = path(100, 0.7), path(100, 0.0), path(110, 0.3), path(110, 0.8)
    assert evener(even, free) is even and evener(even, sure) is even
    assert evener(lost, free) is lost and evener(lost, sure) is sure
    assert evener(even, path(120, 0.3)).evidence == 120


def test_disordered_notes_are_the_same_notes():
    voice, _ = song(3)
    back, mixed = disordered(voice)
    assert np.array_equal(np.sort(mixed["pitch"]), np.sort(voice["pitch"]))
    assert np.array_equal(back["pitch"], voice["pitch"][::-1])
    assert np.allclose(np.diff(back["onset_s"]), np.diff(voice["offset_s"])[::-1])


def test_a_long_line_gets_longer_cells(monkeypatch):
    voice, piano = song(4)
    rolls = heard(voice, piano)
    monkeypatch.setattr(one_line, "MOST_STATES", len(voice) * 19 * len(rolls[0]) // 7)
    assert path_of_a_line(*rolls, voice)[3] == 8
    assert np.mean(np.abs(late(follow_line(*rolls, {0: voice})[0], voice)) < 0.1) > 0.8
