"""MIDI: every pedal case, round trips, what others read, and files that are none."""

import io
import warnings

import mido
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_notes import FAST, some_notes

from amt_nb import notes as N
from amt_nb.workshop import midi as midi_module
from amt_nb.workshop.grids import INSTRUMENT_PROGRAMS, INSTRUMENTS
from amt_nb.workshop.settings import UserError


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


def test_presses_that_do_not_pair():
    assert ends(file_of(key(0, 1000) + key(500, 1500))) == [1000, 1500]
    assert ends(file_of(key(0, 1000) + key(500, 1500)[:1])) == [500, 1000]  # a release is missing
    assert ends(file_of(key(0, 9)[:1] + cc(2000, 0, 7))) == [2000]  # never let go
    assert ends(file_of(key(100, 100))) == [101]  # zero length: 1 ms
    assert ends(file_of(key(0, 100)[1:])) == []


def test_unisons_are_one_note():
    data = file_of(key(0, 500) + key(0, 900, velocity=30), key(0, 700, velocity=99))
    assert ends(data) == [900] and midi_module.read_midi(data)["velocity"].tolist() == [99]
    two_voices = midi_module.read_midi(file_of(key(0, 500), key(0, 900, channel=1)))
    assert len(two_voices) == 2 and N.merge_unisons(two_voices)["offset_s"].tolist() == [0.9]


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


def in_ticks(notes, ticks_per_s=1920):
    """Notes as a sorted list of (instrument, pitch, onset, velocity, offset), times in ticks, none shorter than a tick."""
    on = np.round(notes["onset_s"] * ticks_per_s).astype(int)
    off = np.maximum(np.round(notes["offset_s"] * ticks_per_s).astype(int), on + 1)
    columns = notes["instrument"], notes["pitch"], on, notes["velocity"], off
    return sorted(zip(*(c.tolist() for c in columns)))


def as_they_were(again, notes):
    """True for the same notes in ticks; an end may be a tick early, where the overlap was shorter than a tenth of a ms."""
    a, b = np.array(in_ticks(again)).reshape(-1, 5), np.array(in_ticks(notes)).reshape(-1, 5)
    return a.shape == b.shape and (a[:, :4] == b[:, :4]).all() and np.isin(b[:, 4] - a[:, 4], (0, 1)).all()


@FAST
@given(st.one_of(some_notes(n_max=14, instruments=1), some_notes(n_max=14, instruments=1, pitch=(60, 61), span=1.0)))
def test_what_is_written_is_read_however_notes_overlap(notes):
    assert as_they_were(midi_module.read_midi(midi_module.midi_bytes(notes)), notes)


@FAST
@given(some_notes(n_max=4))
def test_what_is_written_is_read_for_all_instruments(notes):
    assert as_they_were(midi_module.read_midi(midi_module.midi_bytes(notes)), notes)


def test_a_hair_of_an_overlap_needs_no_second_channel():
    notes = N.as_notes([0, 1, 2], [1 + 9e-5, 2 + 5e-4, 3], 60)
    first, second = (midi_module.midi_bytes(notes[k : k + 2]) for k in (0, 1))
    assert first[10:12] == b"\0\2" and second[10:12] == b"\0\3"


def test_more_notes_on_a_key_than_channels_are_merged_and_that_is_said():
    stacked = N.as_notes(np.zeros(30), 1 + np.arange(30) / 10, 60, 50 + np.arange(30))
    with pytest.warns(UserWarning, match="15 notes overlap"):
        again = midi_module.read_midi(midi_module.midi_bytes(stacked))
    assert len(again) == 15 and np.isclose(again["offset_s"].max(), 3.9)
    everyone = N.as_notes(0, 1, np.repeat([60, 62], 11), instrument=np.tile(np.arange(11), 2))
    assert len(midi_module.read_midi(midi_module.midi_bytes(everyone))) == 22


def test_a_rest_too_long_for_the_format_is_refused():
    with pytest.raises(UserError, match="ticks between two events"):
        midi_module.midi_bytes(N.as_notes([0, 140_000], [1, 140_001], 60))


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
        midi_module.read_pedal(path)["channel"].tolist() == [0, 0]  # the piano's alone
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
        (b"MThd\0\0\0\6\0\2\0\2\3\xc0" + 2 * b"MTrk\0\0\0\x08\0\x90\x3c\x50\0\xff\x2f\0", "format 2"),
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
        with warnings.catch_warnings(record=True) as said:
            try:
                N.check_notes(midi_module.read_midi(data, pedal=True))
            except UserError as e:
                assert "\n" not in str(e)
        assert all("\n" not in str(word.message) for word in said)


def test_write_failures_leave_the_old_file(tmp_path, monkeypatch):
    path = midi_module.write_midi(N.as_notes(0, 1, 60), tmp_path / "a.mid")
    old = path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(UserError, match="No space left"):
        midi_module.write_midi(N.as_notes(0, 2, 62), path)
    assert path.read_bytes() == old and len(list(tmp_path.iterdir())) == 1


def mido_file(notes, resolution=960, pedal=None):
    """Oracle: the file of `midi_bytes` as mido writes it."""
    midi = mido.MidiFile(type=1, ticks_per_beat=resolution)
    midi.tracks.append(mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=500_000)]))
    used = [int(i) for i in np.unique(notes["instrument"])]
    free = [c for c in range(16) if c != 9 and c not in [i + (i >= 9) for i in used]]
    parts = [
        (i, k, part)
        for i in used
        for k, part in enumerate(
            midi_module.voices(midi_module.note_ticks(notes[notes["instrument"] == i], 2 * resolution), 15)
        )
    ]
    for i, k, part in parts:
        c, rows = free.pop(0) if k else i + int(i >= 9), []
        for p in pedal if pedal is not None and (i == 0 or 0 not in used) else ():
            data = dict(control=64, value=int(p["value"]), channel=c)
            rows.append((round(p["time_s"] * 2 * resolution), 1, 0, mido.Message("control_change", **data)))
        for n in part:
            on, off = (
                mido.Message(kind, note=int(n["pitch"]), velocity=int(v), channel=c)
                for kind, v in (("note_on", n["velocity"]), ("note_off", 64))
            )
            rows += [(int(n["onset_s"]), 2, n["pitch"], on), (int(n["offset_s"]), 0, n["pitch"], off)]
        program = mido.Message("program_change", channel=c, program=INSTRUMENT_PROGRAMS[i])
        track, now = mido.MidiTrack([mido.MetaMessage("track_name", name=INSTRUMENTS[i]), program]), 0
        for tick, _, _, message in sorted(rows, key=lambda r: r[:3]):
            track.append(message.copy(time=tick - now))
            now = tick
        midi.tracks.append(track)
    buffer = io.BytesIO()
    midi.save(file=buffer)
    return buffer.getvalue()


@FAST
@given(some_notes(n_max=5), st.sampled_from([96, 960, 30000]), st.booleans())
def test_our_bytes_are_those_of_mido(notes, resolution, pedalled):
    pedal = np.array([(0.25, 127, 0), (1.5, 0, 0)], midi_module.PEDAL_DTYPE) if pedalled else None
    assert midi_module.midi_bytes(notes, resolution, pedal=pedal) == mido_file(notes, resolution, pedal)
