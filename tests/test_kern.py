"""Humdrum kern: what each sign means, sections and ties as played, and files that are damaged, odd or made to harm."""

import time

import numpy as np
import pytest

from amt_nb.workshop.kern import kern_length, kern_pitch, kern_sheet, read_kern, written_kern
from amt_nb.workshop.repeats import bars_in_order
from amt_nb.workshop.scores import read_score
from amt_nb.workshop.settings import UserError
from amt_nb.workshop.written_scores import played


def kern(*lines, columns=1):
    """The text of a file: its lines, blanks for tabs ('~' for a blank within a token), between **kern and *-."""
    return (
        "\n".join("\t".join(line.split()).replace("~", " ") for line in [" ".join(["**kern"] * columns), *lines]) + "\n"
    )


def notes(text):
    """[(onset, pitch, length)] in quarters, as played."""
    written = written_kern(kern_sheet(text))
    order = bars_in_order(written.marks)[0] if written.order is None else written.order
    rows = played(written, order)
    return [
        (float(n["onset"] / written.ticks), int(n["pitch"]), float((n["end"] - n["onset"]) / written.ticks))
        for n in rows
    ]


@pytest.mark.parametrize(
    ("token", "quarters"),
    [
        ("4", 1),
        ("8..", 7 / 8),
        ("12", 1 / 3),
        ("0", 8),
        ("00", 16),
        ("000.", 48),
        ("3%2", 8 / 3),
        ("20%3.", 0.9),
        ("1024", 1 / 256),
    ],
)
def test_lengths(token, quarters):
    assert float(kern_length(token + "c")) == pytest.approx(quarters, abs=1e-12)


def test_all_pitches_of_the_keyboard():
    names = ["c", "c#", "d", "d#", "e", "f", "f#", "g", "g#", "a", "a#", "b"]
    for octave in range(-3, 5):
        for step, name in enumerate(names):
            letter = name[0] * (octave + 1) if octave >= 0 else name[0].upper() * -octave
            assert kern_pitch(f"(16{letter}{name[1:]}L]") == 60 + 12 * octave + step
    assert kern_pitch("4ee--") == 74 and kern_pitch("4B##") == 61 and kern_pitch("4gnX/") == 67
    assert kern_pitch("8BB^^-L<") == 46  # signs between a letter and its accidental


def test_chords_rests_graces_and_drawn_signs():
    text = kern("4c~4e-~4gg", "8ryy", "16ddq", "8ffQ", "8dT~f'", "4@16@b", "4RX", "4A<", "*-")
    assert notes(text) == [(0, 60, 1), (0, 63, 1), (0, 79, 1), (1.5, 62, 0.5), (1.5, 65, 0.5), (2, 71, 1), (4, 57, 1)]
    words = written_kern(kern_sheet(text)).words
    assert words == ["2 grace notes left out", "1 note without pitch left out"]


def test_voices_split_join_and_exchange():
    text = kern(
        "4C 4c", "* *^", "2D 4d 2f", ". 4e .", "* *v *v", "*x *x", "4g 4E", "*- *", "4F", "*-",
        columns=2,
    )  # fmt: skip
    expected = [
        (0, 48, 1),
        (0, 60, 1),
        (1, 50, 2),
        (1, 62, 1),
        (1, 65, 2),
        (2, 64, 1),
        (3, 67, 1),
        (3, 52, 1),
        (4, 53, 1),
    ]
    assert sorted(notes(text)) == sorted(expected)
    written = written_kern(kern_sheet(text))
    staff = {n.pitch: (n.part, n.voice) for n in written.notes}
    assert staff[48] == staff[50] == staff[52] == (1, "1") and staff[65] == (0, "2") and staff[67] == (0, "1")


def test_joins_of_two_staves_in_one_line_and_across_staves():
    two = kern("*^ *^", "4C 4E 4c 4e", "*v *v *v *v", "4D 4d", "*- *-", columns=2)
    assert [n[1] for n in notes(two)] == [48, 52, 60, 64, 50, 62]
    across = kern("*^ *", "4C 4E 4c", "* *v *v", "*v *v", "4D", "*-", columns=2)
    assert [n[1] for n in notes(across)] == [48, 52, 60, 50]


def test_a_column_that_begins_later_and_one_that_is_no_kern():
    text = kern("4c", "*+", "* **kern", "4d 4D", "* *-", "4e", "*-")
    assert notes(text) == [(0, 60, 1), (1, 50, 1), (1, 62, 1), (2, 64, 1)]
    lyrics = "**text\t**kern\t**dynam\nla\t4c\tp\n.\t.\tf\nli\t4d\t.\n*-\t*-\t*-\n"
    assert notes(lyrics) == [(0, 60, 1), (1, 62, 1)] and written_kern(kern_sheet(lyrics)).parts == ["part 1"]


def test_grace_notes_beside_a_note_and_in_chords_take_no_time():
    """A column has a grace note in the line in which another has a note: its main note, a line later, is of that moment."""
    text = kern("8C 4g", "8D .", "8E 8bq", ". 4a", "8F .", "8G ccq~4ee", ". 8c", "*- *-", columns=2)
    assert notes(text) == [
        (0, 48, 0.5), (0, 67, 1), (0.5, 50, 0.5), (1, 52, 0.5), (1, 69, 1), (1.5, 53, 0.5), (2, 55, 0.5), (2, 60, 0.5),
    ]  # fmt: skip


def test_a_column_that_joins_while_a_note_sounds_on():
    text = kern("* *^", "4C 4e 2g", "* *v *v", "4D 4f", "4E 4d", "*- *-", columns=2)
    assert notes(text) == [(0, 48, 1), (0, 64, 1), (0, 67, 2), (1, 50, 1), (1, 65, 1), (2, 52, 1), (2, 62, 1)]


def test_a_voice_that_pauses_without_a_rest():
    text = kern("*^", "4c 4e", "4d .", "4f 4g", "*v *v", "*-")
    assert notes(text) == [(0, 60, 1), (0, 64, 1), (1, 62, 1), (2, 65, 1), (2, 67, 1)]
    assert written_kern(kern_sheet(text)).words == [
        "voices do not meet in 1 places, first in line 5: the latest counts"
    ]


def test_ties_join_note_by_note_across_bars_staves_and_passes():
    assert notes(kern("[4c~4e", "=2", "2c_~4g", "8c]", "*-"))[0] == (0, 60, 3.5)
    endings = ("*>[A,A1,A,A2]", "*>A", "=1", "[1c", "*>A1", "=2", "1c]", "=3:|!", "*>A2", "1c]", "==", "*-")
    assert notes(kern(*endings)) == [(0, 60, 8), (8, 60, 8)]
    assert notes(kern("1c]", "*-")) == [(0, 60, 4)] and notes(kern("[1c", "1d", "*-")) == [(0, 60, 4), (4, 62, 4)]


def test_sections_go_before_signs_and_signs_count_without_them():
    signs = ("*>A", "=1", "4c", "4d", "=2:|!", "*>B", "4e", "4f", "==", "*-")
    pitches = lambda *lines: [n[1] for n in notes(kern(*lines))]
    assert pitches(*signs) == [60, 62, 60, 62, 64, 65]
    assert pitches("*>norep[A,B]", *signs) == [60, 62, 60, 62, 64, 65]
    assert pitches("*>[A,B,A]", "*>norep[A,B]", *signs) == [60, 62, 64, 65, 60, 62]
    assert pitches("*>[M,B,M]", "*>M[A,A]", *signs) == [60, 62, 60, 62, 64, 65, 60, 62, 60, 62]
    between = ("=1", "4c", "=2!|:", "4d", "=3:|!|:", "4e", "=4:|!", "4f", "*-")
    assert pitches(*between) == [60, 62, 62, 64, 64, 65]
    twice = written_kern(kern_sheet(kern("*>[A,B]", *signs[:-2], "*>A", "4g", "4a", "*-")))
    assert twice.order == [0, 1] and twice.words == ["two sections are called A: the first is played"]
    missing = written_kern(kern_sheet(kern("*>[A,X]", *signs)))
    assert missing.words == ["its order of sections names X, which it has not"]


def test_bars_parts_names_and_tempo(tmp_path):
    lines = (
        '*I"Cello *I"Oboe',
        "*staff2 *staff1",
        "*ITrd1c2 *",
        "*MM90 *MM90",
        "4r 4g",
        "=5 =5",
        "2C 2cc",
        "=6a =6a",
        "2D 2dd",
        "*- *-",
    )
    path = tmp_path / "duo.krn"
    path.write_text(kern(*lines, columns=2))
    written, score = read_kern(path), read_score(path)
    assert (
        written.parts == ["Oboe", "Cello"] and written.bar_name == ["4", "5", "6a"] and written.tempos == [(0, 0, 90)]
    )
    assert score.bar_s.tolist() == pytest.approx([0, 2 / 3, 2]) and score.place(2.0) == "bar 6a, beat 1"
    assert [int(n["pitch"]) for n in score.notes] == [67, 48, 72, 50, 74]  # as they sound, whatever *ITr says
    assert [int(row["part"]) for row in score.layout] == [0, 1, 0, 1, 0] and score.parts == ("Oboe", "Cello")


@pytest.mark.parametrize(
    ("mark", "tempo"),
    [
        ("*MM[quarter.]=60", 90),
        ("*MM[half] = 50", 100),
        ("*MM[eighth-dot]=80", 60),
        ("*MM60-66", 63),
        ("*MM[Allegro]", 132),
    ],
)
def test_a_tempo_mark_may_name_its_unit_and_two_bounds(mark, tempo):
    written = written_kern(kern_sheet("**kern\n" + mark + "\n4c\n*-\n"))
    assert written.tempos == [(0, 0, tempo)] and not any("mark" in words for words in written.words)


def test_a_tempo_mark_that_says_nothing_is_said():
    written = written_kern(kern_sheet("**kern\n*MM[wild]=60\n4c\n*-\n"))
    assert written.tempos == [] and "1, first '*MM[wild]=60' in line 2" in written.words[0]


def test_letters_on_a_percussion_clef_are_no_pitches():
    written = written_kern(
        kern_sheet(kern("*clefX *clefG2", "4c 4e", "4d 4f", "*clefF4 *", "4C 4g", "*- *-", columns=2))
    )
    assert [n.pitch for n in written.notes] == [64, 65, 48, 67] and written.words == ["2 notes without pitch left out"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(tmp_path, encoding, end):
    path = tmp_path / "a.krn"
    path.write_bytes(("!!!COM: Fauré\n" + kern("4c", "4d", "*-")).replace("\n", end).encode(encoding))
    assert [n.pitch for n in read_kern(path).notes] == [60, 62]


def test_blanks_at_the_ends_of_fields_and_lines_mean_nothing():
    text = kern('*I"Oboe *', "*^ *", "4c 4e 4C", "*v *v *", "=2:|! =2:|!", "2d 2D", "== ==", "*- *-", columns=2)
    plain, wide = (written_kern(kern_sheet(t)) for t in (text, text.replace("\t", " \t").replace("\n", "  \n ")))
    assert wide == plain and not plain.words and wide.parts == ["part 1", "Oboe"]


@pytest.mark.parametrize(
    "token",
    "0000c 04c 00000000000c 1%c 4c4 12345678901c -1c -c4 #4c c#- 4c#### 4ce 4cec 8FzF 4cC 4.....c 0004r 4r4 4@16@4c".split(),
)
def test_a_token_that_kern_has_not_is_said(token):
    try:
        words = written_kern(kern_sheet(kern("4g", token, "4a", token, "*-"))).words
    except UserError as error:
        assert str(error).startswith("line 3 has a note of")
    else:
        assert words[-1] == f"tokens that **kern has not: 2, first {token!r} in line 3: read as far as they go"


@pytest.mark.parametrize(
    "token", "000c 00r 4....c 4c. 3%2c# [4BB^^-L_] 4c---/ 4ggr 4rGG- 2@@32@@cc 8ffqJ 16%3dn (2..g-/L".split()
)
def test_a_token_that_kern_has_is_not(token):
    words = written_kern(kern_sheet(kern("4g", token, "*-"))).words
    assert not any("has not" in text for text in words)


def test_a_column_alone_neither_joins_nor_changes_places_and_a_cut_is_said():
    said = lambda *lines, columns=1: written_kern(kern_sheet(kern(*lines, columns=columns))).words
    assert said("4c", "*v", "4d", "*-") == [
        "tokens that **kern has not: 1, first '*v' in line 3: read as far as they go"
    ]
    assert said("4c 4e 4g", "*x * *x", "4d 4f 4a", "*- *- *-", columns=3)[0].startswith("tokens that **kern has not: 2")
    assert said("4c 4e", "*^ *", "4c 4d 4e", "*v *v *", "*x *x", "4c 4e", "*- *-", columns=2) == []
    assert said("4c", "4d") == ["its columns are not ended by *-: the rest of it may be missing"]
    assert said("4c 4d", "* *-", "4e", columns=2) == ["its columns are not ended by *-: the rest of it may be missing"]


def test_random_rhythms_keep_their_time():
    """Voices of random lengths, written moment by moment, come back with the onsets that they were made of."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        voices = [np.cumsum([0, *rng.choice([1, 2, 3, 4, 6], 12)]) for _ in range(3)]
        moments = sorted({int(t) for v in voices for t in v[:-1]})
        lines = []
        for t in moments:
            at = [np.flatnonzero(v[:-1] == t) for v in voices]
            lines.append(" ".join(f"48%{v[i[0] + 1] - t}c" if len(i) else "." for v, i in zip(voices, at)))
        found = notes(kern(*lines, "*- *- *-", columns=3))
        ends = max(v[-2] for v in voices)
        expected = sorted(t / 12 for v in voices for t in v[:-1])
        assert [n[0] for n in found] == pytest.approx(expected) and ends >= 0


BAD = {
    "empty": ("", "no \\*\\*kern column, but no column at all"),
    "prose": ("dear reader\nall is well\n", "line 1 stands where no column is open"),
    "other": ("**mens\nSc\n*-\n", "no \\*\\*kern column, but \\*\\*mens"),
    "short line": ("**kern\t**kern\n4c\t4e\n4d\n*-\t*-\n", "line 3 has 1 fields where 2 columns are open"),
    "long line": ("**kern\n4c\t4e\n*-\n", "line 2 has 2 fields where 1 columns are open"),
    "length": ("**kern\n1%999999999c\n*-\n", "line 2 has a note of"),
    "short length": ("**kern\n1000000000c\n*-\n", "line 2 has a note of 4e-08 quarters"),
    "signs without end": (
        f"**kern\n4c{'@' * 400_000}\n4c{'-' * 400_000}\n4c{'r' * 400_000}.\n0%2c\n*-\n",
        "line 5 has a length",
    ),
    "nothing below": ("**kern\n0%2c\n*-\n", "line 2 has a length that cannot be"),
    "order bomb": (
        kern("*>[B,B]", *(f"*>{a}[" + ",".join([b] * 50) + "]" for a, b in zip("BCDEFG", "CDEFGA")), "*>A", "4c", "*-"),
        "its order of sections is longer than",
    ),
    "order of itself": (kern("*>[M]", "*>M[M,A]", "*>A", "4c", "*-"), "its order of sections names itself: M, A"),
    "column bomb": ("**kern\n" + "\n".join("\t".join(["*^"] * 2**i) for i in range(12)) + "\n", "opens 2048 columns"),
    "lines": ("!\n" * 600_000, "at most 500,000 are read"),
    "binary": ("\x00\x01\x02\xff" * 100, "line 1 stands where no column is open"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_one_line(tmp_path, name):
    text, message = BAD[name]
    path = tmp_path / "bad.krn"
    path.write_text(text, encoding="latin-1")
    began = time.process_time()
    with pytest.raises(UserError, match=message) as caught:
        read_score(path)
    assert str(caught.value).startswith(f"{path} cannot be read as **kern: ") and "\n" not in str(caught.value)
    assert time.process_time() - began < 5
