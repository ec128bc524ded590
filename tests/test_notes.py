"""Notes, rolls, decoding and MIDI: properties over random input, and every pedal case."""

import io

import mido
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from amt_nb import notes as N
from amt_nb.workshop.cli import decoding
from amt_nb.workshop import midi as midi_module
from amt_nb.workshop.grids import FPS, N_INSTRUMENTS
from amt_nb.workshop.settings import UserError

FAST = settings(max_examples=60, deadline=None)
NAN = float("nan")


@st.composite
def some_notes(draw, n_max=25, pitch=(0, 127), instruments=N_INSTRUMENTS, span=6.0):
    n = draw(st.integers(0, n_max))
    column = lambda s: np.array(draw(st.lists(s, min_size=n, max_size=n)))
    if not n:
        return N.empty_notes()
    onset = column(st.floats(0, span))
    return N.as_notes(
        onset,
        onset + column(st.floats(1e-4, 2)),
        column(st.integers(*pitch)),
        column(st.integers(1, 127)),
        column(st.integers(0, instruments - 1)),
    )


rolls = hnp.arrays(bool, st.tuples(st.integers(1, 40), st.just(88)), elements=st.booleans())


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


# --- MIDI ---------------------------------------------------------------------------------------------------------


def file_of(*tracks, ticks_per_beat=500, kind=1):
    """A MIDI file from tracks of (milliseconds, message without time); at 120 beats a minute a tick is 1 ms."""
    midi = mido.MidiFile(type=kind, ticks_per_beat=ticks_per_beat)
    for events in tracks:
        track, now = mido.MidiTrack(), 0
        for ms, message in sorted(events, key=lambda e: e[0]):
            track.append(message.copy(time=ms - now))
            now = ms
        midi.tracks.append(track)
    buffer = io.BytesIO()
    midi.save(file=buffer)
    return buffer.getvalue()


def key(on, off, pitch=60, velocity=80, channel=0):
    return [
        (on, mido.Message("note_on", note=pitch, velocity=velocity, channel=channel)),
        (off, mido.Message("note_off", note=pitch, velocity=0, channel=channel)),
    ]


def cc(ms, value, number=64, channel=0):
    return [(ms, mido.Message("control_change", control=number, value=value, channel=channel))]


def ends(data, pitch=60, **kw):
    return [round(1000 * n["offset_s"]) for n in midi_module.read_midi(data, **kw) if n["pitch"] == pitch]


@pytest.mark.parametrize(
    "name, tracks, held, pedalled",
    [
        ("6 never released", [key(0, 500) + cc(200, 127) + key(1400, 1500, 72)], [500], [1500]),
        ("7 pedal and release in one frame", [key(0, 510) + cc(505, 127) + cc(900, 0)], [510], [900]),
        ("7b pressed at the very release", [key(0, 500) + cc(500, 127) + cc(900, 0)], [500], [900]),
        ("7c lifted at the very release", [key(0, 500) + cc(100, 127) + cc(500, 0)], [500], [500]),
        (
            "7d lifted and pressed again at one instant",
            [key(0, 300) + cc(100, 127) + cc(500, 0) + cc(500, 127) + cc(900, 0)],
            [300],
            [500],
        ),
        ("8 pedal on a track before the notes", [cc(100, 127) + cc(900, 0), key(0, 500)], [500], [900]),
        (
            "9 soft restrike under the pedal",
            [key(0, 300, 60, 100) + key(600, 900, 60, 40) + cc(100, 127) + cc(1200, 0)],
            [300, 900],
            [600, 1200],
        ),
        ("11 half pedal", [key(0, 500) + cc(200, 40) + cc(900, 0)], [500], [500]),
        ("14 two tracks, one channel", [key(0, 500), key(0, 500, 48) + cc(200, 127) + cc(1400, 0)], [500], [1400]),
        ("15 pedal on its own track", [key(0, 500), cc(200, 127) + cc(1400, 0)], [500], [1400]),
        ("15b pedal on another channel", [key(0, 500), cc(200, 127, channel=1) + cc(1400, 0, channel=1)], [500], [500]),
        ("13 sostenuto", [key(0, 500) + cc(200, 127, 66) + cc(1400, 0, 66)], [500], [1400]),
        ("13b sostenuto pressed too early", [key(300, 500) + cc(200, 127, 66) + cc(1400, 0, 66)], [500], [500]),
        (
            "13c sostenuto then sustain",
            [key(0, 500) + cc(200, 127, 66) + cc(900, 127) + cc(1000, 0, 66) + cc(1400, 0)],
            [500],
            [1400],
        ),
        (
            "13d sustain then sostenuto",
            [key(0, 500) + cc(100, 127) + cc(200, 127, 66) + cc(700, 0) + cc(1400, 0, 66)],
            [500],
            [1400],
        ),
        ("13e soft pedal", [key(0, 500) + cc(200, 127, 67) + cc(1400, 0, 67)], [500], [500]),
        ("reset all controllers", [key(0, 500) + cc(200, 127) + cc(800, 0, 121) + cc(1400, 0)], [500], [800]),
        ("all notes off", [key(0, 5000)[:1] + cc(700, 0, 123) + cc(1400, 0)], [700], [700]),
        ("twice down, once up", [key(0, 300) + cc(100, 90) + cc(200, 127) + cc(900, 0)], [300], [900]),
    ],
)
def test_pedal(name, tracks, held, pedalled):
    assert ends(file_of(*tracks)) == held
    assert ends(file_of(*tracks), pedal=True) == pedalled


def test_pedal_threshold_cap_and_velocity():
    soft = midi_module.read_midi(file_of(key(0, 300) + key(600, 900, 60, 40) + cc(100, 127) + cc(1200, 0)), pedal=True)
    assert soft["offset_s"].round(3).tolist() == [0.6, 1.2] and soft["velocity"].tolist() == [80, 40]
    half = file_of(key(0, 500) + cc(200, 40) + cc(900, 0))
    assert ends(half, pedal=True, pedal_threshold=30) == [900]
    assert ends(file_of(key(0, 500) + cc(200, 127) + cc(9000, 0)), pedal=True, max_sustain_s=2) == [2500]
    for threshold in (0, 128):  # row 10
        with pytest.raises(UserError, match="threshold"):
            midi_module.read_midi(half, pedal=True, pedal_threshold=threshold)


def test_strokes_that_do_not_pair():
    assert ends(file_of(key(0, 1000) + key(500, 1500))) == [1000, 1500]
    assert ends(file_of(key(0, 1000) + key(500, 1500)[:1])) == [500, 1000]  # a release is missing
    assert ends(file_of(key(0, 9)[:1] + cc(2000, 0, 7))) == [2000]  # never let go
    assert ends(file_of(key(100, 100))) == [101]  # zero length: 1 ms
    assert ends(file_of(key(0, 100)[1:])) == []


def test_unisons_are_one_stroke():
    data = file_of(key(0, 500) + key(0, 900, velocity=30), key(0, 700, velocity=99))
    assert ends(data) == [900] and midi_module.read_midi(data)["velocity"].tolist() == [99]
    two_voices = midi_module.read_midi(file_of(key(0, 500), key(0, 900, channel=1)))
    assert len(two_voices) == 2 and N.merge_unisons(two_voices)["offset_s"].tolist() == [0.9]


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


def test_tempo_on_any_track_and_before_a_note_ends():
    tempo = lambda tick, us: (tick, mido.MetaMessage("set_tempo", tempo=us))
    notes = midi_module.read_midi(file_of(key(0, 1000), [tempo(500, 1_000_000), tempo(750, 250_000)]))
    assert np.isclose(notes["offset_s"][0], 0.5 + 0.5 + 0.125)
    late = midi_module.read_midi(file_of(key(20_000_000, 20_000_500), ticks_per_beat=10080))  # over 1e7 ticks
    assert np.isclose(late["onset_s"][0], 20_000_000 / 10080 * 0.5)


def test_smpte_time():
    data = bytearray(file_of(key(0, 1000)))
    data[12:14] = bytes([256 - 25, 40])
    assert np.isclose(midi_module.read_midi(bytes(data))["offset_s"][0], 1.0)


def test_programs_drums_and_key_signature():
    program = lambda p, channel=0: [(0, mido.Message("program_change", program=p, channel=channel))]
    both = midi_module.read_midi(file_of(program(40) + key(0, 500), program(73) + key(0, 500, 72)))
    assert both["instrument"].tolist() == [2, 10]
    shared = midi_module.read_midi(file_of(program(40), key(0, 500)))
    assert shared["instrument"].tolist() == [2]
    assert midi_module.read_midi(file_of(key(0, 500, channel=9))).size == 0
    odd = file_of([(0, mido.MetaMessage("key_signature", key="C"))] + key(0, 500)).replace(
        b"\xff\x59\x02\0\0", b"\xff\x59\x02\x09\x05"
    )
    assert midi_module.read_midi(odd).size == 1


def one_stroke_a_tick(notes):
    """Oracle: notes that a keyboard can play: per instrument, pitch and tick the longest, ended at the next stroke."""
    tick = np.round(notes["onset_s"] * 1920)
    return len({(i, p, t) for i, p, t in zip(notes["instrument"].tolist(), notes["pitch"].tolist(), tick.tolist())})


@FAST
@given(some_notes())
def test_midi_round_trip(notes):
    again = midi_module.read_midi(midi_module.midi_bytes(notes))
    assert len(again) == one_stroke_a_tick(notes)
    for i in np.unique(notes["instrument"]):
        for p in np.unique(notes["pitch"]):
            a, b = (x[(x["instrument"] == i) & (x["pitch"] == p)] for x in (notes, again))
            if not len(a):
                assert not len(b)
                continue
            assert all(np.abs(b["onset_s"] - t).min() < 1e-3 for t in a["onset_s"])
            for n in b:
                same = np.abs(a["onset_s"] - n["onset_s"]) < 3e-4
                following = a["onset_s"][a["onset_s"] > n["onset_s"] + 3e-4].min(initial=np.inf)
                assert abs(min(a["offset_s"][same].max(), following) - n["offset_s"]) < 1.2e-3
                assert n["velocity"] in a["velocity"][same]


@FAST
@given(some_notes(n_max=10), st.sampled_from([960, 4800, 30000]))
def test_writing_twice_changes_nothing(notes, resolution):
    once = midi_module.read_midi(midi_module.midi_bytes(notes, resolution))
    assert midi_module.midi_bytes(once, resolution) == midi_module.midi_bytes(
        midi_module.read_midi(midi_module.midi_bytes(once, resolution)), resolution
    )


def test_others_read_what_we_write(tmp_path):
    pretty_midi = pytest.importorskip("pretty_midi")
    notes = N.as_notes([0, 0.5, 1, 1], [0.5, 0.9, 2, 2.5], [60, 60, 64, 72], [10, 20, 30, 40], [0, 0, 0, 8])
    pedal = np.array([(0.25, 127, 0), (1.5, 0, 0)], midi_module.PEDAL_DTYPE)
    path = midi_module.write_midi(notes, tmp_path / "out.mid", pedal=pedal)
    theirs = pretty_midi.PrettyMIDI(str(path))
    assert [i.program for i in theirs.instruments] == [0, 70] and [len(i.notes) for i in theirs.instruments] == [3, 1]
    assert abs(theirs.instruments[0].notes[1].start - 0.5) < 1e-3
    assert (
        midi_module.read_pedal(path)["channel"].tolist() == [0, 8, 0, 8]
        and ends(path.read_bytes(), pedal=True)[0] == 500
    )
    assert [p.name for p in tmp_path.iterdir()] == ["out.mid"]


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "is empty"),
        (b"RIFF\0\0\0\0", "not a MIDI file"),
        (b"\xff" * 500, "not a MIDI file"),
        (b"MThd\0\0\0\6\0\1\0\1\3\xc0", "cut off|damaged"),
        (b"MThd", "cut off|damaged"),
        (b"MThd\0\0\0\6\0\2\0\1\3\xc0MTrk\0\0\0\4\0\xff\x2f\0", "format 2"),
        (b"MThd\0\0\0\6\0\1\0\1\0\0MTrk\0\0\0\4\0\xff\x2f\0", "0 ticks"),
        (b"MThd\0\0\0\6\0\1\0\1\3\xc0MTrk\0\0\0\x0b\0\xff\x51\3\0\0\0\0\xff\x2f\0", "tempo of 0"),
    ],
)
def test_bad_files_are_named(tmp_path, content, message):
    path = tmp_path / "bad one.mid"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as e:
        midi_module.read_midi(path)
    assert "bad one.mid" in str(e.value) and "\n" not in str(e.value)


def test_every_truncation_is_a_user_error_or_a_shorter_piece(tmp_path):
    whole = midi_module.midi_bytes(N.as_notes(np.arange(20) / 4, np.arange(20) / 4 + 0.2, 60 + np.arange(20) % 7))
    for cut in range(0, len(whole), 7):
        with pytest.raises(UserError):
            midi_module.read_midi(whole[:cut])
    with pytest.raises(UserError, match="cannot read"):
        midi_module.read_midi(tmp_path)
    with pytest.raises(UserError, match="cannot read"):
        midi_module.read_midi(tmp_path / "none.mid")


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 400), st.integers(1, 255))
def test_garbage_never_crashes(tail, where, flip):
    whole = bytearray(
        midi_module.midi_bytes(N.as_notes(np.arange(9) / 4, np.arange(9) / 4 + 0.2, 60 + np.arange(9) % 5))
    )
    whole[where % len(whole)] ^= flip
    for data in (bytes(whole), bytes(whole) + tail, b"MThd" + tail):
        try:
            N.check_notes(midi_module.read_midi(data, pedal=True))
        except UserError as e:
            assert "\n" not in str(e)


def test_write_failures_leave_the_old_file(tmp_path, monkeypatch):
    path = midi_module.write_midi(N.as_notes(0, 1, 60), tmp_path / "a.mid")
    old = path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(UserError, match="No space left"):
        midi_module.write_midi(N.as_notes(0, 2, 62), path)
    assert path.read_bytes() == old and len(list(tmp_path.iterdir())) == 1


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
