"""Scores: what chapters have no room for. Three other readers, recordings laid on scores, the command, planted pickles."""

import csv
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from written_music import document, measures_of, note_xml, pitch_xml, RandomScore

from amt_nb.alignment.align import align, retimed
from amt_nb.metrics import note_f1
from amt_nb.notes import as_notes
from amt_nb.workshop.cli import main
from amt_nb.workshop.cli_score import COLUMNS, tempo_words
from amt_nb.workshop.midi import file_bytes, track_bytes, write_midi
from amt_nb.workshop.scores import read_score
from amt_nb.workshop.settings import UserError
from amt_nb.workshop.synth import render

HEAD = (
    "<attributes><divisions>4</divisions><time><beats>4</beats><beat-type>4</beat-type></time>"
    "<staves>2</staves></attributes>"
)


# Three readers


def by_music21(path):
    """(onset, pitch) of all notes, as music21 reads them; grace notes left out."""
    music21 = pytest.importorskip("music21")
    score = music21.converter.parse(str(path), forceSource=True).toSoundingPitch()
    parts = [part.stripTies().flatten().notes for part in score.parts]
    return sorted((float(n.offset), p.midi) for notes in parts for n in notes for p in n.pitches)


def by_partitura(path):
    """The same as partitura reads them."""
    partitura = pytest.importorskip("partitura")
    notes = [n for part in partitura.load_musicxml(str(path)).parts for n in part.note_array()]
    return sorted((float(n["onset_quarter"]), int(n["pitch"])) for n in notes)


def by_verovio(path):
    """The same as verovio reads them."""
    verovio = pytest.importorskip("verovio")
    kit = verovio.toolkit()
    kit.setInputFrom("musicxml")
    assert kit.loadData(path.read_text())
    moments = kit.renderToTimemap({"includeRests": False})
    played = [(m["qstamp"], kit.getMIDIValuesForElement(i)["pitch"]) for m in moments for i in m.get("on", [])]
    return sorted((float(onset), int(pitch)) for onset, pitch in played)


def plain_score(seed):
    """A piece for voice and piano that every reader understands: chords, rests, a backup, no ties and no signs."""
    rng = np.random.default_rng(seed)
    key = lambda: int(rng.integers(48, 84))
    kind = "<type>quarter</type>"
    song, piano = [], []
    for i in range(4):
        head = HEAD.replace("<staves>2</staves>", "") if i == 0 else ""
        song.append(head + "".join(note_xml(key() if rng.random() < 0.8 else "rest", 4, after=kind) for _ in range(4)))
        right = "".join(
            note_xml(key(), 4, after=kind) + note_xml(key() + 24, 4, chord=True, after=kind) for _ in range(4)
        )
        left = note_xml(key() - 24, 16, voice=5, staff=2, after="<type>whole</type>")
        piano.append((HEAD if i == 0 else "") + right + "<backup><duration>16</duration></backup>" + left)
    return document({"P1": song, "P2": piano})


@pytest.mark.parametrize("reader", [by_music21, by_partitura, by_verovio])
def test_another_reader_finds_the_same_notes(reader, tmp_path):
    for seed in range(3):
        path = tmp_path / f"{seed}.musicxml"
        path.write_text('<?xml version="1.0" encoding="UTF-8"?>' + plain_score(seed))
        score = read_score(path)
        ours = sorted(zip(score.layout["onset"].tolist(), score.notes["pitch"].tolist()))
        assert ours == reader(path)


# Recordings


def melody(rng, n=4):
    """Pitches of a tune that repeats no key at once."""
    keys = [int(rng.integers(66, 84))]
    while len(keys) < n:
        keys.append(int(rng.choice([k for k in range(66, 84) if k != keys[-1]])))
    return keys


def cross_staff(rng):
    """Piano, each bar's tune goes to the lower staff before its end; the whole is repeated."""
    bars = []
    for i in range(10):
        tune = "".join(note_xml(k, 4, staff=1 if j < 2 else 2) for j, k in enumerate(melody(rng)))
        bass = note_xml(int(rng.integers(40, 52)), 16, voice=5, staff=2)
        end = '<barline><repeat direction="backward"/></barline>' if i == 9 else ""
        bars.append((HEAD if i == 0 else "") + tune + "<backup><duration>16</duration></backup>" + bass + end)
    return document({"P": bars})


def offsets_past_the_bar(rng):
    """Two parts, a dynamic in every second bar of the upper one stands behind the bar line."""
    mark = "<direction><direction-type><dynamics><p/></dynamics></direction-type><offset>2</offset></direction>"
    upper = ["".join(note_xml(k, 4) for k in melody(rng)) + mark * (i % 2) for i in range(16)]
    lower = ["".join(note_xml(int(rng.integers(40, 56)), 8) for _ in range(2)) for _ in range(16)]
    return document({"A": [HEAD + upper[0], *upper[1:]], "B": [HEAD + lower[0], *lower[1:]]})


def partly_tied(rng):
    """Chords of which the lower note lasts four bars while the upper one is struck in each."""
    bars = []
    for i in range(16):
        tie = {0: "start", 3: "stop"}.get(i % 4, "start stop")
        low, high = note_xml(52 + i // 4, 16, tie=tie), note_xml(melody(rng)[0] + i % 2, 16, chord=True)
        bars.append((HEAD if i == 0 else "") + low + high)
    return document({"P": bars})


def sections(rng):
    """Five sections of two bars, each repeated, without a forward sign."""
    line = '<barline><repeat direction="backward"/></barline>'
    bars = ["".join(note_xml(k, 4) for k in melody(rng)) + line * (i % 2) for i in range(10)]
    return document({"P": [HEAD + bars[0], *bars[1:]]})


@pytest.mark.parametrize("writing", [cross_staff, offsets_past_the_bar, partly_tied, sections])
def test_a_recording_of_a_score_is_laid_on_it_to_the_note(writing, tmp_path):
    """Map and onsets right for all notes, whatever the way of writing."""
    (tmp_path / "a.musicxml").write_text(writing(np.random.default_rng(4)))
    score = read_score(tmp_path / "a.musicxml")
    found = align(render(score.notes, 16000), score, 16000)
    at = np.unique(score.notes["onset_s"])
    rows = np.minimum(np.searchsorted(found.map.recording_s, at + 0.05), len(found.map.score_s) - 1)
    assert np.abs(found.map.score_s[rows] - 0.05 - at).max() < 0.1
    assert note_f1(retimed(found), score.notes) == 1


# The command


def test_the_command_tells_what_is_read_and_writes_the_table(tmp_path, capsys):
    signs = {3: ("", '<barline><repeat direction="backward"/></barline>')}
    flute = document({"Flute": measures_of(signs=signs), "Harp": measures_of(n=2)})
    (tmp_path / "a.musicxml").write_text(
        flute.replace('<score-part id="Harp"><part-name>Harp</part-name></score-part>', "")
    )
    assert main(["score", str(tmp_path / "a.musicxml"), "-o", str(tmp_path / "new" / "a.csv")]) == 0
    words = capsys.readouterr().out
    assert "2 parts, 8 bars, 12 notes" in words and "lacks Harp" in words and "4 bars are printed, 8 played" in words
    with open(tmp_path / "new" / "a.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(COLUMNS) and len(rows) == 12
    again = [row for row in rows if row["onset_quarter"] == "16"]
    assert {row["part"] for row in again} == {"Flute", "Harp"} and {row["measure"] for row in again} == {"1"}
    assert [row["pitch"] for row in rows if row["part"] == "Flute"] == ["60", "61", "62", "63"] * 2


def test_the_command_reads_midi_and_refuses_in_one_line(tmp_path, capsys):
    write_midi(as_notes([0, 0.5], [0.5, 1], [60, 62]), tmp_path / "a.mid")
    assert main(["score", str(tmp_path / "a.mid"), "-o", str(tmp_path / "a.csv")]) == 0
    assert (tmp_path / "a.csv").read_text().splitlines()[2].startswith("1,1,0.5000,62,")
    (tmp_path / "b.xml").write_text("<html></html>")
    (tmp_path / "mine.csv").write_text("mine")
    capsys.readouterr()
    for words in (
        [tmp_path / "b.xml"],
        [tmp_path / "c.xml"],
        [tmp_path],
        [tmp_path / "a.mid", "-o", tmp_path / "mine.csv"],
    ):
        assert main(["score", *map(str, words)]) == 1
        assert capsys.readouterr().err.count("\n") == 1
    assert (tmp_path / "mine.csv").read_text() == "mine"


def midi_score(path, tracks, ticks_per_beat=480):
    """A MIDI file of tracks: (name or "", channel, program, pitches), each pitch a quarter long."""
    out = []
    for name, channel, program, pitches in tracks:
        events = [(0, bytes([0xFF, 3, len(name.encode())]) + name.encode())] * bool(name)
        events.append((0, bytes([0xC0 | channel, program])))
        for k, pitch in enumerate(pitches):
            events += [
                (480 * k, bytes([0x90 | channel, pitch, 80])),
                (480 * k + 480, bytes([0x80 | channel, pitch, 0])),
            ]
        out.append(track_bytes(events))
    path.write_bytes(file_bytes(out, ticks_per_beat))
    return path


def test_parts_of_midi_are_its_tracks_and_no_instrument_is_called_another(tmp_path, capsys):
    guitar, bass, choir = ("Guitar", 0, 24, [60, 62]), (" Bass\nline", 1, 32, [36, 38]), ("", 2, 52, [72, 74])
    midi_score(tmp_path / "a.mid", [guitar, bass, choir, ("Drums", 9, 0, [36])])
    assert main(["score", str(tmp_path / "a.mid"), "-o", str(tmp_path / "a.csv")]) == 0
    words = capsys.readouterr().out
    assert "3 parts" in words and "Guitar, Bass line, track 3\n" in words and "1 note of drums" in words
    with open(tmp_path / "a.csv", newline="") as file:
        found = [(row["part"], row["pitch"]) for row in csv.DictReader(file)]
    assert sorted(found) == sorted(
        [
            ("Guitar", "60"),
            ("Guitar", "62"),
            ("Bass line", "36"),
            ("Bass line", "38"),
            ("track 3", "72"),
            ("track 3", "74"),
        ]
    )


def test_one_track_of_several_programs_is_several_parts(tmp_path):
    events = [(0, bytes([0xC0 | c, 24 + c])) for c in (0, 1)]
    events += [(t, bytes([(0x90 if not t else 0x80) | c, 60 + c, 80])) for t in (0, 480) for c in (0, 1)]
    (tmp_path / "a.mid").write_bytes(file_bytes([track_bytes(events)], 480))
    score = read_score(tmp_path / "a.mid")
    assert [score.parts[i] for i in score.part] == ["program 25", "program 26"]


@pytest.mark.parametrize(
    "tracks, ticks_per_beat, said",
    [
        ([("A", 0, 0, [60, 62]), ("B", 0, 0, [60, 64])], 480, "1 note of a key that its channel begins to play"),
        ([("A", 0, 0, [60, 62])], 0xE728, "half a second is called a quarter"),
        ([("A", 0, 0, [60, 62]), ("B", 1, 0, [60, 62])], 480, ""),
    ],
)
def test_what_is_read_otherwise_than_it_stands_in_midi_is_said(tmp_path, tracks, ticks_per_beat, said):
    score = read_score(midi_score(tmp_path / "a.mid", tracks, ticks_per_beat))
    assert said in "; ".join(score.words) and bool(score.words) == bool(said)


@pytest.mark.parametrize(
    ("event", "said", "tempo"),
    [
        (b"\xe0\x00\x40", "", "120 quarters a minute, assumed: it says no tempo"),
        (b"\xe0\x7f\x7f", "1 pitch bend not followed", "120 quarters a minute, assumed: it says no tempo"),
        (b"\xff\x51\x03\x07\xa1\x20", "", "120 quarters a minute"),
        (b"\xff\x51\x03\x00\x00\x01", "obeyed: 1, first 60,000,000.0 quarters a minute", "6e+07 quarters a minute"),
    ],
)
def test_bends_and_tempos_that_are_odd_or_missing_are_said(tmp_path, event, said, tempo):
    track = track_bytes(
        [(0, event), (0, b"\x90\x3c\x40"), (480, b"\x80\x3c\x40"), (960, b"\x90\x3e\x40"), (1440, b"\x80\x3e\x40")]
    )
    (tmp_path / "a.mid").write_bytes(file_bytes([track], 480))
    score = read_score(tmp_path / "a.mid")
    assert said in "; ".join(score.words) and bool(score.words) == bool(said) and tempo_words(score) == tempo


def test_neither_reading_nor_aligning_loads_music21(tmp_path):
    (tmp_path / "a.musicxml").write_text(document({"P": measures_of()}))
    script = """
        import sys
        from amt_nb.workshop.cli import main
        assert main(["score", "a.musicxml"]) == 0
        import amt_nb.alignment.align
        print(*{"music21", "matplotlib", "torch", "numba", "scipy"} & set(sys.modules))
    """
    run = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


def test_a_planted_pickle_is_not_loaded(tmp_path):
    """music21 keeps pickles of the scores of its corpus in a folder that every user of a machine may write to."""
    pytest.importorskip("music21")
    script = """
        import os, pickle, zlib
        from music21 import converter, corpus
        class Evil:
            def __reduce__(self):
                return os.mkdir, ("loaded",)
        path = converter.PickleFilter(corpus.getWork("bach/bwv66.6")).getPickleFp(zipType="gz")
        path.write_bytes(zlib.compress(pickle.dumps(Evil())))
        from amt_nb.workshop.renderings import corpus_score
        assert len(corpus_score("bach/bwv66.6", "cache")) > 100
        assert not os.path.exists("loaded")
        assert path.read_bytes() == zlib.compress(pickle.dumps(Evil()))
    """
    run = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(run, cwd=tmp_path, env=os.environ | {"TMPDIR": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_one_note_off_the_keyboard_is_no_score(tmp_path):
    (tmp_path / "a.musicxml").write_text(document({"P": [note_xml(pitch_xml(12), 4)]}))
    with pytest.raises(UserError, match="no note on the keyboard"):
        read_score(tmp_path / "a.musicxml")


def test_notes_and_layout_are_rows_of_one_table(tmp_path):
    for seed in range(8):
        (tmp_path / "a.musicxml").write_text(RandomScore(seed).xml())
        score = read_score(tmp_path / "a.musicxml")
        assert np.allclose(score.beats(score.notes["onset_s"]), score.layout["onset"])
        ends = score.layout["onset"] + score.layout["duration"]
        assert np.allclose(score.beats(score.notes["offset_s"]), ends)
        begins = score.beats(score.bar_s[score.layout["bar"]])
        assert np.allclose(begins + score.layout["beat"] - 1, score.layout["onset"])
