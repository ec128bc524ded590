"""MIDI bytes: what the standard allows, what players forgive, what is beyond repair, and files made to do harm."""

import io
import resource
import struct
import time
import warnings

import mido
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amt_nb import notes as N
from amt_nb.workshop import midi_parsing
from amt_nb.workshop.midi import PEDAL_DOWN, midi_bytes, read_midi, variable_length
from amt_nb.workshop.midi_parsing import META, parse_midi, read_number
from amt_nb.workshop.scores import bar_lines, read_score
from amt_nb.workshop.settings import UserError

END = b"\0\xff\x2f\0"
C_D_E_F = (60, 62, 64, 65)


def header(count=1, kind=1, ticks=480, extra=b""):
    return b"MThd" + struct.pack(">IHHH", 6 + len(extra), kind, count, ticks & 0xFFFF) + extra


def chunk(body, name=b"MTrk", length=None):
    return name + struct.pack(">I", len(body) if length is None else length) + body


def tune(*pitches, between=b""):
    """Messages of notes of 480 ticks one after the other."""
    return between.join(b"\0\x90%c\x50\x83\x60\x80%c\x40" % (p, p) for p in pitches)


LATER = b"\x87\x40\xff\1\0"  # nothing, at tick 960
PLAIN = tune(*C_D_E_F) + END
RUNNING = b"\0\x90\x3c\x50\x83\x60\x3c\0"  # one note, and status 90 goes on
REST = b"".join(b"\0%c\x50\x83\x60%c\0" % (p, p) for p in C_D_E_F[1:]) + END
ODD = {  # name: (file, what is said of it)
    "plain": (header() + chunk(PLAIN), ""),
    "unknown chunks": (header() + chunk(b"abcd", b"XFIH") + chunk(PLAIN) + chunk(b"", b"XFKM"), ""),
    "header counts one more": (header(2) + chunk(PLAIN), "counts 2 tracks, it has 1"),
    "header counts fewer": (header(1) + chunk(tune(60, 62) + END) + chunk(LATER + tune(64, 65) + END), "it has 2"),
    "header of 8 bytes": (header(extra=b"\0\0") + chunk(PLAIN), ""),
    "RMID": (b"RIFF\0\0\0\0RMIDdata\0\0\0\0" + header() + chunk(PLAIN), ""),
    "RMID with what comes after": (b"RIFF\0\0\0\0RMIDdata\0\0\0\0" + header() + chunk(PLAIN) + b"LIST\4\0\0\0INFO", "12 bytes"),
    "128 bytes of MacBinary": (bytes(128) + header() + chunk(PLAIN), ""),
    "zeros after the last track": (header() + chunk(PLAIN) + bytes(39), ""),
    "text after the last track": (header() + chunk(PLAIN) + b"made with love", "14 bytes after the last track"),
    "bytes between tracks": (header(2) + chunk(tune(60, 62) + END) + b"\1\2\3" + chunk(LATER + tune(64, 65) + END), "3 bytes"),
    "running status after meta": (header() + chunk(RUNNING + b"\0\xff\5\2la" + REST), ""),
    "running status after sysex": (header() + chunk(RUNNING + b"\0\xf0\3\x41\x10\xf7" + REST), ""),
    "running status after a clock": (header() + chunk(RUNNING + b"\0\xf8" + b"\0\xf2\1\2" + b"\0\xf3\1" + REST), ""),
    "tempo of 4 bytes": (header() + chunk(b"\0\xff\x51\4\0\7\xa1\x20" + PLAIN), ""),
    "tempo of no bytes": (header() + chunk(b"\0\xff\x51\0" + PLAIN), "a tempo at tick 0 says nothing"),
    "18 flats": (header() + chunk(b"\0\xff\x59\2\xee\1" + PLAIN), ""),
    "text of Japan": (header() + chunk(b"\0\xff\3\4\x8b\xc8\x96\xbc" + PLAIN), ""),
    "beats of 1/4096": (header() + chunk(b"\0\xff\x58\4\1\x0c\x18\x08" + PLAIN), "a time signature at tick 0"),
    "no beats": (header() + chunk(b"\0\xff\x58\4\0\2\x18\x08" + PLAIN), "a time signature at tick 0"),
    "a signature of one byte": (header() + chunk(b"\0\xff\x58\1\4" + PLAIN), "a time signature at tick 0"),
    "volume 255": (header() + chunk(b"\0\xb0\7\xff" + PLAIN), "1 messages hold a value above 127"),
    "pitch 200": (header() + chunk(b"\0\x90\xc8\x50" + PLAIN), "1 notes with a pitch above 127"),
    "no end of track": (header() + chunk(tune(*C_D_E_F)), ""),
    "end of track in the middle": (header() + chunk(tune(60) + END + tune(62, 64, 65) + END), "goes on after"),
    "two ends of track": (header() + chunk(PLAIN + END), "goes on after"),
    "zeros after the end of track": (header() + chunk(PLAIN + bytes(9)), ""),
    "letters after the end of track": (header() + chunk(PLAIN + b"xyz"), "3 bytes after the end of track 1"),
    "length of 0": (header() + chunk(PLAIN, length=0), "longer than its length"),
    "length a message short": (header() + chunk(PLAIN, length=len(PLAIN) - 4), "longer than its length"),
    "length a byte short": (header() + chunk(PLAIN, length=len(PLAIN) - 1), "longer than its length"),
    "length beyond the file": (header() + chunk(PLAIN, length=2**32 - 1), "shorter than its length"),
    "length over the next track": (
        header(2) + chunk(tune(60, 62) + END, length=40) + chunk(LATER + tune(64, 65) + END), "shorter than its length",
    ),
    "pressure on pitch 200": (header() + chunk(b"\0\xa0\xc8\x50" + PLAIN), ""),
    "no end of track, and bytes after it": (header() + chunk(tune(*C_D_E_F)) + b"\1\2\3", "3 bytes after the last track"),
    "controller 200": (header() + chunk(b"\0\xb0\xc8\x05" + PLAIN), "1 messages hold a value above 127"),
    "no end of track before an unknown chunk": (header() + chunk(tune(*C_D_E_F)) + chunk(b"\0" + END, b"XFIH"), ""),
    "format 2 with one track": (header(kind=2) + chunk(PLAIN), ""),
    "format 7": (header(kind=7) + chunk(PLAIN), ""),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_files_hold_their_notes_and_what_is_odd_is_said(name, tmp_path):
    data, word = ODD[name]
    midi = parse_midi(data)
    assert word in " ".join(midi.words) and bool(word) == bool(midi.words)
    notes = read_midi(midi)
    assert notes["pitch"].tolist() == list(C_D_E_F)
    assert np.allclose(notes["onset_s"], [0, 0.5, 1, 1.5]) and np.allclose(notes["offset_s"], [0.5, 1, 1.5, 2])
    (tmp_path / "odd.mid").write_bytes(data)
    with warnings.catch_warnings(record=True) as said:
        assert read_midi(tmp_path / "odd.mid").size == 4
    assert [str(w.message) for w in said] == [f"{tmp_path / 'odd.mid'}: {w}" for w in midi.words]
    score = read_score(tmp_path / "odd.mid")
    assert (
        score.notes.size == 4 and score.words[: len(midi.words)] == midi.words and score.place(1.6) == "bar 1, beat 4.2"
    )


@pytest.mark.parametrize("ticks, second", [(0xE728, 1000), (0xE250, 2400), (0xE301, 30 / 1.001)])
def test_smpte_ticks_are_parts_of_a_second(ticks, second):
    notes = read_midi(header(ticks=ticks) + chunk(PLAIN))
    assert np.allclose(notes["onset_s"], np.arange(4) * 480 / second)
    assert np.allclose(bar_lines(header(ticks=ticks) + chunk(PLAIN), beats=True)[:2], [0, 0.5], atol=1 / second)


def test_a_file_of_one_tick_a_beat(tmp_path):
    (tmp_path / "one.mid").write_bytes(
        header(ticks=1) + chunk(b"".join(b"\0\x90%c\x50\1\x80%c\0" % (p, p) for p in C_D_E_F * 2) + END)
    )
    score = read_score(tmp_path / "one.mid")
    assert score.bar_s.tolist() == [0, 2] and score.beats(3.0) == 6 and score.place(2.5) == "bar 2, beat 2"


@pytest.mark.parametrize(
    "data, message",
    [
        (header() + chunk(tune(60))[:-1], "cut off"),
        (header() + chunk(PLAIN)[:-5], "cut off"),
        (header(2) + chunk(PLAIN) + b"MTrk\0", "cut off"),
        (header(2) + chunk(PLAIN) + b"MTr", "cut off"),
        (header(), "cut off"),
        (header()[:-1], "cut off"),
        (header() + chunk(b"\0\x3c\x50" + PLAIN), "a message of no kind"),
        (header() + chunk(b"\x81\x80\x80\x80\0\x90\x3c\x50" + PLAIN), "more than four bytes"),
        (header() + chunk(b"\0\xff\3\xff\xff\xff\xff\0" + PLAIN), "more than four bytes"),
        (header() + chunk(b"\0\xff\3\x60" + PLAIN), "cut off"),
        (b"MThd\0\0\0\2\0\1" + bytes(9), "header has 2 bytes"),
        (header(ticks=0xE700) + chunk(PLAIN), "0 ticks a second"),
        (b"RIFF\0\0\0\0WAVEfmt ", "not a MIDI file"),
        (bytes(300) + header() + chunk(PLAIN), "not a MIDI file"),
    ],
)
def test_what_is_beyond_repair_is_one_line(data, message):
    with pytest.raises(UserError, match=message) as e:
        read_midi(data)
    assert "\n" not in str(e.value)


def test_notes_after_twelve_hours_are_refused():
    late = lambda hours: header(ticks=1) + chunk(variable_length(hours * 7200) + b"\x90\x3c\x50\1\x80\x3c\0" + END)
    assert read_midi(late(11))["onset_s"].tolist() == [11 * 3600]
    with pytest.raises(UserError, match="a note at 12.0 h: files of up to 12 h"):
        read_midi(late(12))


def test_what_is_no_ordinary_or_no_small_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    import os

    os.mkfifo(tmp_path / "pipe.mid")
    with pytest.raises(UserError, match="no ordinary file"):
        parse_midi(tmp_path / "pipe.mid")
    with pytest.raises(UserError, match="null"):
        parse_midi("a\0b.mid")
    monkeypatch.setattr(midi_parsing, "LARGEST_BYTES", 100)
    for size in (100, 101):
        (tmp_path / "large.mid").write_bytes(header() + chunk(PLAIN) + bytes(size - 14 - 8 - len(PLAIN)))
        if size == 101:
            with pytest.raises(UserError, match="more than"):
                parse_midi(tmp_path / "large.mid")
        else:
            assert parse_midi(tmp_path / "large.mid").messages


def test_the_last_value_that_counts_and_the_first_that_does_not():
    odd = [
        (0, 0, 0xB0, 128, 128),
        (0, 0, 0x9F, 127, 128),
        (0, 0, 0x90, 128, 0),
        (0, 0, 0x8F, 128, 9),
        (0, 0, 0xAF, 128, 9),
    ]
    kept, words = midi_parsing.within_range(odd)
    assert kept == [(0, 0, 0xB0, 127, 127), (0, 0, 0x9F, 127, 127)] and len(words) == 1
    assert midi_parsing.within_range([(0, 0, 0x90, 127, 127)]) == ([(0, 0, 0x90, 127, 127)], [])
    sign = lambda *content: midi_parsing.meta_events([(5, 0, META, 0x58, bytes(content))])[1]
    assert (
        sign(4, 7) == [(5, 4, 128)] and not sign(4, 8) and sign(1, 0) == [(5, 1, 1)] and not sign(0, 2) and not sign(4)
    )


def test_a_meta_event_longer_than_the_data_is_cut_off():
    assert midi_parsing.read_system(b"\3\2ab", 0, META) == (3, b"ab", 4)
    for status, data in ((META, b"\3\3ab"), (0xF0, b"\3ab"), (0xF2, b"\1")):
        with pytest.raises(IndexError):
            midi_parsing.read_system(data, 0, status)


many = st.lists(
    st.tuples(st.integers(0, 2**28 - 1), st.sampled_from([0x80, 0x90, 0x93, 0xA0, 0xB0, 0xC0, 0xD5, 0xE0]), st.integers(0, 127), st.integers(0, 127)),
    max_size=12,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(many, min_size=1, max_size=4), st.integers(1, 32767))
def test_messages_are_those_of_mido(tracks, ticks):
    file = mido.MidiFile(type=1, ticks_per_beat=ticks)
    for messages in tracks:
        rows = [
            mido.Message.from_bytes([s, a, b][: 2 if s in (0xC0, 0xD5) else 3]).copy(time=d) for d, s, a, b in messages
        ]
        file.tracks.append(mido.MidiTrack(rows))
    buffer = io.BytesIO()
    file.save(file=buffer)
    expected = []
    for i, messages in enumerate(tracks):
        tick = 0
        for delta, status, a, b in messages:
            tick += delta
            expected.append((tick, i, status, a, 0 if status in (0xC0, 0xD5) else b))
    midi = parse_midi(buffer.getvalue())
    assert midi.messages == sorted(expected, key=lambda m: m[0]) and not midi.words and midi.ticks_per_beat == ticks


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([b"XFIH", b"abcd", b"    ", b"MThx"]), max_size=6), st.randoms(), st.integers(1, 5))
def test_chunks_may_stand_in_any_order(aliens, random, n):
    chunks = [(chunk(bytes(random.randrange(256) for _ in range(random.randrange(20))), name), None) for name in aliens]
    chunks += [(chunk(tune(60 + i) + END), 60 + i) for i in range(n)]
    random.shuffle(chunks)
    midi = parse_midi(header(n) + b"".join(c for c, _ in chunks))
    assert not midi.words and [m[3] for m in midi.messages if m[2] == 0x90] == [p for _, p in chunks if p]


@settings(max_examples=400, deadline=None)
@given(
    st.binary(max_size=200),
    st.sampled_from([b"", header(), header(3), header() + b"MTrk\0\0\0\x40", b"RIFF" + header()]),
)
def test_random_bytes_raise_nothing_but_user_errors(tail, head):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for reader in (read_midi, bar_lines):
            try:
                reader(head + tail)
            except UserError as e:
                assert "\n" not in str(e)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**28 - 1))
def test_numbers_come_back(n):
    assert read_number(b"\x80" + variable_length(n) + b"\1", 1) == (n, 1 + len(variable_length(n)))


FAR = variable_length(2**28 - 1)
LATE = {
    "end of track": tune(*C_D_E_F) + FAR + END[1:],
    "controller": tune(*C_D_E_F) + FAR + b"\xb0\x07\x50" + END,
    "controller after no beats": b"\0\xff\x58\4\0\2\x18\x08" + tune(*C_D_E_F) + FAR + b"\xb0\x07\x50" + END,
    "signature": tune(*C_D_E_F) + FAR + b"\xff\x58\4\1\7\x18\x08" + END,
    "text": tune(*C_D_E_F) + b"".join(FAR + b"\xff\1\0" for _ in range(99)) + END,
}


@pytest.mark.parametrize("what", LATE)
def test_what_comes_long_after_the_last_note_makes_no_bars(what, tmp_path):
    (tmp_path / "late.mid").write_bytes(header() + chunk(LATE[what]))
    score = read_score(tmp_path / "late.mid")
    assert score.notes["offset_s"].max() == 2 and score.bar_s.tolist() == [0] and len(score.beat_s) < 5
    assert bar_lines(tmp_path / "late.mid", beats=True).tolist() == [0, 0.5, 1, 1.5]


def test_a_note_never_let_go_ends_ten_seconds_after_the_last_key_at_most():
    held = lambda delta: read_midi(header() + chunk(tune(60) + b"\0\x90\x3e\x50" + delta + END[1:]))["offset_s"][1]
    assert held(b"\x83\x60") == 1.0 and held(FAR) == 10.5
    pedal = header() + chunk(b"\0\xb0\x40\x7f" + tune(60) + FAR + END[1:])
    assert read_midi(pedal, pedal=True)["offset_s"].tolist() == [10.5] and PEDAL_DOWN == 64


def in_bounds(reader, *args):
    """CPU seconds and new megabytes (at most) of a call, whatever it raises of UserError."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            reader(*args)
        except UserError as e:
            assert "\n" not in str(e)
    return time.process_time() - start, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


TRACK = chunk(b"\0\x90\x3c\x50" + END)
BOMBS = {
    "stacked": header() + chunk(b"\1\x90\x3c\x50" + b"\1\x3c\x50" * 100_000 + b"\1\x3c\0" * 100_000 + END),
    "all notes off": header() + chunk(b"".join(b"\0\x90%c\x50" % p for p in range(128)) + b"\0\xb0\x7b\0" + b"\0\x7b\0" * 150_000 + END),
    "programs": header() + chunk(b"\0\xc0\1" + b"\1\1" * 150_000 + b"\0\x90\x3c\x50" + b"\1\x3c\x50\1\x3c\0" * 50_000 + END),
    "tracks": header(40_000) + TRACK * 40_000,
    "tracks without an end": header() + chunk(b"\0\x90\x3c\x50", length=4) * 30_000 + b"\1",
    "tracks over each other": header() + b"".join(chunk(b"\0\x90\x3c\x50" + END + b"\0\x90\1", length=(30_000 - i) * 20 - 8) for i in range(30_000)),
    "tracks of great length": header() + chunk(b"\0\x90\x3c\x50" + END, length=2**32 - 1) * 30_000,
    "tracks of no length": header() + (chunk(b"\0\x90\x3c\x50", length=4) + b"\1") * 30_000,
    "signatures": header() + chunk(b"\1\xff\x58\4\4\2\x18\x08" * 60_000 + PLAIN),
    "tiny bars": header() + chunk(b"\0\xff\x58\4\1\7\x18\x08" + FAR + PLAIN),
    "fast tempo": header() + chunk(b"\0\xff\x51\3\0\0\1" + FAR + PLAIN),
    "far notes": header() + chunk((FAR + b"\x90\x3c\x50") * 50_000 + END),
    "pedals": header() + chunk(b"\0\xb0\x40\x7f" + b"\1\x40\0\1\x40\x7f" * 60_000 + PLAIN),
    "tempos": header() + chunk(b"\1\xff\x51\3\7\xa1\x20" * 60_000 + PLAIN),
    "long text": header() + chunk(b"\0\xff\1" + variable_length(900_000) + bytes(900_000) + PLAIN),
    "long tempo": header() + chunk(b"\0\xff\x51" + variable_length(900_000) + b"\xff" * 900_000 + PLAIN),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_no_small_file_takes_long_or_much(name, tmp_path):
    assert len(BOMBS[name]) <= 1_100_000
    (tmp_path / "bomb.mid").write_bytes(BOMBS[name])
    for reader, args in (
        (read_midi, (BOMBS[name], True)),
        (read_score, (tmp_path / "bomb.mid",)),
        (bar_lines, (BOMBS[name], True)),
    ):
        seconds, megabytes = in_bounds(reader, *args)
        assert seconds < 8 and megabytes < 500


def test_many_notes_of_one_key_are_written_rolled_and_read_in_time():
    stacked = N.as_notes(np.zeros(100_000), 100 + np.arange(100_000) / 100, 60)
    assert in_bounds(midi_bytes, stacked)[0] < 8
    start = time.process_time()
    assert N.to_roll(stacked)[:, 60 - 21].all() and time.process_time() - start < 2


def test_words_are_few_however_odd_the_file():
    midi = parse_midi(header() + chunk(b"\0\xff\x58\4\0\2\x18\x08" * 50 + PLAIN))
    assert len(midi.words) == 6 and midi.words[-1] == "45 more such remarks" and META == 255


def test_bars_are_counted_before_they_are_made():
    def at(tick, before=b""):
        waits = [2**28 - 1] * (tick // (2**28 - 1)) + [tick % (2**28 - 1)]
        return header() + chunk(
            before + b"".join(variable_length(w) + b"\xff\1\0" for w in waits) + b"\0\x90\x3c\x50" + END
        )

    assert len(bar_lines(at(500_000 * 1920))) == 500_000
    with pytest.raises(UserError, match="more than 500000 bars"):
        bar_lines(at(500_000 * 1920 + 1))
    assert len(bar_lines(at(2**28, FAR + b"\xff\x58\4\4\2\x18\x08"))) == 2 * 139_811
    eighths = header(ticks=1) + chunk(b"\0\xff\x58\4\1\3\x18\x08\0\x90\x3c\x50\4\x80\x3c\0" + END)
    assert bar_lines(eighths).tolist() == [0, 0.5, 1, 1.5]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (tune(60, 62), ()),
        (tune(60) + b"\0\x99\x23\x50\0\x99\x24\x50", ("2 notes of drums (channel 10) left out",)),
        (
            b"\0\x90\x3c\x50\x83\x60\x90\x3c\x50",
            ("2 notes never let go: the next of the key ends such a note, or the piece",),
        ),
        (b"\0\x90\x3c\x50\0\x90\x40\x50\x83\x60\xb0\x7b\0", ()),  # all notes off
        (tune(0, 60), ("outside the keyboard (A0 to C8), not listened for: 1",)),
    ],
)
def test_a_score_says_which_of_its_notes_are_not_played_as_they_stand(body, said, tmp_path):
    (tmp_path / "a.mid").write_bytes(header() + chunk(body + END))
    assert read_score(tmp_path / "a.mid").words == said


def test_a_score_without_a_note_says_why(tmp_path):
    (tmp_path / "a.mid").write_bytes(header() + chunk(b"\0\x99\x23\x50" + END))
    with pytest.raises(UserError, match=r"no note on the keyboard.*\(1 note of drums \(channel 10\) left out\)"):
        read_score(tmp_path / "a.mid")
