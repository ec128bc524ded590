"""MusicXML: what a chapter has no room for. Random scores whose notes are known, oddities of many programs, packings, bombs."""

import time
from fractions import Fraction

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st
from written_music import document, measures_of, note_xml, packed, pitch_xml, RandomScore

from amt_nb.workshop.musicxml import read_musicxml
from amt_nb.workshop.repeats import bars_in_order
from amt_nb.workshop.settings import UserError
from amt_nb.workshop.score_files import MAX_BYTES
from amt_nb.workshop.scores import read_score
from amt_nb.workshop.written_scores import played

DIVISIONS = "<attributes><divisions>2</divisions></attributes>"


def exact(path):
    """Sorted (onset, length, pitch) of all notes played, in quarters, as fractions."""
    written = read_musicxml(path)
    notes, t = played(written, bars_in_order(written.marks)[0]), written.ticks
    onset, end, pitch = (notes[c].tolist() for c in ("onset", "end", "pitch"))
    return sorted((Fraction(a, t), Fraction(b - a, t), p) for a, b, p in zip(onset, end, pitch))


def read(folder, text, name="a.musicxml"):
    """`exact` of a text or bytes written into a file."""
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return exact(folder / name)


def one_part(folder, *measures):
    """`exact` of a score of one part; the first measure has two divisions a quarter."""
    return read(folder, document({"P": [DIVISIONS + measures[0], *measures[1:]]}))


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    return tmp_path_factory.mktemp("é scores")


@hypothesis_settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**9))
def test_random_scores_are_read_to_the_note(here, seed):
    """Voices over backups, staves crossed, chords partly tied, marks past the bar, transposition, repeats, endings."""
    score = RandomScore(seed)
    assert read(here, score.xml()) == score.notes()


@hypothesis_settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**9))
def test_timewise_packed_and_other_encodings_are_the_same_score(here, seed):
    score = RandomScore(seed)
    text, wanted = score.xml(), score.notes()
    assert read(here, score.xml(timewise=True)) == wanted
    assert read(here, packed({"junk.xml": "<x/>", "s.xml": text}, "s.xml"), "a.mxl") == wanted
    assert read(here, text.replace("<score-partwise>", '<score-partwise xmlns="there">')) == wanted
    prefixed = text.replace("</", "\0").replace("<", "<m:").replace("\0", "</m:")
    assert read(here, prefixed.replace("<m:score-partwise>", '<m:score-partwise xmlns:m="there">')) == wanted
    assert read(here, ('<?xml version="1.0" encoding="UTF-16"?>' + text).encode("utf-16")) == wanted
    doctype = '<?xml version="1.0"?><!DOCTYPE score-partwise PUBLIC "-//x" "there.dtd">'
    assert read(here, doctype + text) == wanted


def test_parts_stay_in_step_where_a_bar_is_over_or_underfull(here):
    """Bar i begins in every part where the longest part ended bar i - 1."""
    whole, half = note_xml(60, 8), note_xml(48, 4)
    long = note_xml(48, 8) + note_xml("rest", 2)
    two = document({"A": [DIVISIONS + whole] + [whole] * 3, "B": [DIVISIONS + half, long, half, half]})
    onsets = sorted({onset for onset, *_ in read(here, two)})
    assert onsets == [0, 4, 9, 13]


@pytest.mark.parametrize(
    "mark",
    [
        "<direction><direction-type><words>x</words></direction-type><offset>99</offset></direction>",
        "<harmony><root><root-step>C</root-step></root><kind>major</kind><offset>99</offset></harmony>",
        '<sound tempo="90"><offset>99</offset></sound>',
        "<forward><duration>99</duration></forward>",
        "<figured-bass><figure/><duration>99</duration></figured-bass>",
        "<print/><bookmark/><link/><grouping/><listening/><unheard-of/>",
    ],
)
def test_what_is_no_note_lengthens_no_bar(here, mark):
    assert one_part(here, note_xml(60, 8) + mark, note_xml(62, 8)) == [(0, 4, 60), (4, 4, 62)]


@pytest.mark.parametrize("rest", ['<rest measure="yes"/>', "<rest/>"])
def test_a_whole_rest_in_a_bar_of_three_is_as_long_as_the_bar(here, rest):
    time = "<attributes><divisions>2</divisions><time><beats>3</beats><beat-type>4</beat-type></time></attributes>"
    quiet = f"<note>{rest}<duration>8</duration></note>"
    text = document({"A": [time + note_xml(60, 6), note_xml(62, 6)], "B": [time + quiet, note_xml(50, 6)]})
    assert read(here, text) == [(0, 3, 60), (3, 3, 50), (3, 3, 62)]
    silent = document({"A": [time + quiet, note_xml(62, 6)], "B": [time + quiet]})
    assert read(here, silent) == [(3, 3, 62)]


def test_a_bar_rest_does_not_lengthen_a_pickup(here):
    time = "<attributes><divisions>2</divisions><time><beats>4</beats><beat-type>4</beat-type></time></attributes>"
    quiet = '<note><rest measure="yes"/><duration>8</duration></note>'
    text = document({"A": [time + note_xml(60, 2), note_xml(62, 8)], "B": [time + quiet, note_xml(50, 8)]})
    text = text.replace('number="1"', 'number="0" implicit="yes"')
    assert read(here, text) == [(0, 1, 60), (1, 4, 50), (1, 4, 62)]


def test_ties_belong_to_notes_and_not_to_chords(here):
    chord = lambda *keys: "".join(note_xml(p, 8, chord=i > 0, tie=t) for i, (p, t) in enumerate(keys))
    first, second = chord((60, "start"), (64, ""), (67, "start")), chord((60, "stop"), (64, ""), (67, ""))
    found = one_part(here, first, second)
    assert found == [(0, 4, 64), (0, 4, 67), (0, 8, 60), (4, 4, 64), (4, 4, 67)]


def test_a_tie_is_found_across_voices_staves_and_spellings(here):
    sharp = "<pitch><step>C</step><alter>1</alter><octave>4</octave></pitch>"
    flat = "<pitch><step>D</step><alter>-1</alter><octave>4</octave></pitch>"
    assert one_part(here, note_xml(sharp, 8, tie="start"), note_xml(flat, 8, voice=5, staff=2, tie="stop")) == [
        (0, 8, 61)
    ]
    drawn = ('<notations><tied type="start"/></notations>', '<notations><tied type="stop"/></notations>')
    assert one_part(here, note_xml(60, 8, after=drawn[0]), note_xml(60, 8, after=drawn[1])) == [(0, 8, 60)]
    assert one_part(here, note_xml(60, 8, tie="start"), note_xml(61, 8, tie="stop")) == [(0, 4, 60), (4, 4, 61)]


def test_of_two_voices_on_one_key_the_one_that_is_tied_goes_on(here):
    back = "<backup><duration>8</duration></backup>"
    first = note_xml(60, 8, voice=1) + back + note_xml(60, 8, voice=2, tie="start")
    second = note_xml(60, 4, voice=1) + note_xml(62, 4, voice=1) + back + note_xml(60, 8, voice=2, tie="stop")
    assert one_part(here, first, second) == [(0, 4, 60), (0, 8, 60), (4, 2, 60), (6, 2, 62)]


def test_a_tie_over_a_bar_that_one_part_leaves_short(here):
    short = [DIVISIONS + note_xml(48, 6, tie="start"), note_xml(48, 8, tie="stop")]
    text = document({"A": [DIVISIONS + note_xml(60, 8), note_xml(62, 8)], "B": short})
    assert (0, 8, 48) in read(here, text)


def test_a_note_before_two_endings_is_tied_into_both(here):
    one = (
        '<barline location="left"><ending number="1" type="start"/></barline>',
        ('<barline location="right"><ending number="1" type="stop"/><repeat direction="backward"/></barline>'),
    )
    two = '<barline location="left"><ending number="2" type="start"/></barline>'
    bars = [
        note_xml(60, 8, tie="start"),
        one[0] + note_xml(60, 8, tie="stop") + one[1],
        two + note_xml(60, 8, tie="stop"),
    ]
    assert one_part(here, *bars) == [(0, 8, 60), (8, 8, 60)]


def test_a_chord_may_be_split_and_its_notes_last_unlike_long(here):
    words = "<direction><direction-type><words>x</words></direction-type></direction>"
    chord = note_xml(60, 8) + words + note_xml(64, 4, chord=True) + words + note_xml(67, 2, chord=True)
    assert one_part(here, chord, note_xml(62, 8)) == [(0, 1, 67), (0, 2, 64), (0, 4, 60), (4, 4, 62)]


def test_divisions_that_are_missing_are_told_by_the_drawn_notes(here):
    drawn = "<type>quarter</type>"
    text = document({"A": [note_xml(60, 6, after=drawn) + note_xml(62, 6, after=drawn)]})
    assert read(here, text) == [(0, 1, 60), (1, 1, 62)]
    assert read(here, text.replace("<measure number", "<measure  number").replace(drawn, "")) == [
        (0, 6, 60),
        (6, 6, 62),
    ]
    zero = text.replace('number="1">', 'number="1"><attributes><divisions>0</divisions></attributes>')
    assert read(here, zero) == [(0, 1, 60), (1, 1, 62)]


@pytest.mark.parametrize(
    ("divisions", "lengths"), [(1, ["0.5", "1.25"]), (10080, ["5040", "12600"]), ("2.0", ["1", "2.5"])]
)
def test_lengths_that_are_no_whole_divisions(here, divisions, lengths):
    head = f"<attributes><divisions>{divisions}</divisions></attributes>"
    text = document({"A": [head + note_xml(60, lengths[0]) + note_xml(62, lengths[1])]})
    assert read(here, text) == [(0, Fraction(1, 2), 60), (Fraction(1, 2), Fraction(5, 4), 62)]


def test_each_staff_and_part_is_transposed_by_its_own_interval(here):
    lower = '<transpose number="2"><chromatic>0</chromatic><octave-change>-1</octave-change></transpose>'
    head = f"<attributes><divisions>2</divisions><staves>2</staves>{lower}</attributes>"
    back = "<backup><duration>8</duration></backup>"
    text = document({"A": [head + note_xml(60, 8) + back + note_xml(60, 8, staff=2)]})
    assert read(here, text) == [(0, 4, 48), (0, 4, 60)]
    horn = "<attributes><transpose><chromatic>-7</chromatic></transpose></attributes>"
    assert one_part(here, note_xml(60, 8), horn + note_xml(60, 8)) == [(0, 4, 60), (4, 4, 53)]


def test_grace_cue_and_unpitched_notes_are_left_out_in_words(here):
    grace = f"<note><grace/>{pitch_xml(59)}</note><note><grace/><chord/>{pitch_xml(62)}</note>"
    drum = "<unpitched><display-step>E</display-step><display-octave>4</display-octave></unpitched>"
    cue = note_xml(72, 4, before="<cue/>")
    assert one_part(here, grace + note_xml(60, 4) + cue, note_xml(drum, 4) + note_xml(61, 4)) == [
        (0, 2, 60),
        (6, 2, 61),
    ]
    words = " ".join(read_score(here / "a.musicxml").words)
    assert "2 grace notes" in words and "1 cue note " in words and "1 note without pitch" in words


def test_notes_on_a_percussion_clef_have_no_pitch_whatever_the_file_says(here):
    clef = lambda sign, staff="": f"<attributes><clef{staff}><sign>{sign}</sign></clef></attributes>"
    assert one_part(here, clef("percussion") + note_xml(60, 4), clef("G") + note_xml(62, 4)) == [(2, 2, 62)]
    assert read_score(here / "a.musicxml").words == ("1 note without pitch left out",)
    below = ' number="2"'
    two = clef("percussion", below) + note_xml(60, 4) + "<backup><duration>4</duration></backup>"
    assert one_part(here, two + note_xml(48, 4, staff=2)) == [(0, 2, 60)]


def test_a_note_for_one_verse_sounds_in_that_alone(here):
    verse = note_xml(60, 8).replace("<note", '<note time-only="1"', 1) + "<backup><duration>8</duration></backup>"
    other = note_xml(62, 8).replace("<note", '<note time-only="2, 3"', 1)
    line = '<barline><repeat direction="backward"/></barline>'
    assert one_part(here, verse + other + line, note_xml(64, 8)) == [(0, 4, 60), (4, 4, 62), (8, 4, 64)]


def test_parts_that_do_not_go_side_by_side_are_said(here):
    four, two = measures_of(), measures_of(n=2)
    text = document({"A": four, "B": two})
    read(here, text)
    assert read_score(here / "a.musicxml").words == ("1 parts end before the longest and are silent from there on",)
    last = text.rindex('number="2"')
    read(here, text[:last] + 'number="3"' + text[last + 10 :])
    assert read_score(here / "a.musicxml").words[0].startswith("1 bars are numbered otherwise than those of the first")
    read(here, document({"A": four, "B": four}))
    assert read_score(here / "a.musicxml").words == ()


def test_a_part_on_the_channel_of_drums_has_no_pitch(here):
    text = document({"A": measures_of(), "B": measures_of()})
    of = '<part-name>B</part-name><midi-instrument id="d"><midi-channel>{}</midi-channel></midi-instrument>'.format
    assert len(read(here, text.replace("<part-name>B</part-name>", of(9)))) == 8
    assert len(read(here, text.replace("<part-name>B</part-name>", of(10)))) == 4
    assert read_score(here / "a.musicxml").words == ("4 notes without pitch left out",)


def test_beats_that_are_not_written_out_are_said(here):
    style = '<attributes><measure-style><beat-repeat type="start" slashes="1"/></measure-style></attributes>'
    one_part(here, note_xml(60, 2) + style, note_xml(62, 8))
    assert "1 signs repeat beats that are not written" in read_score(here / "a.musicxml").words[0]


def test_a_metronome_mark_without_a_number_is_said(here):
    mark = "<metronome><beat-unit>half</beat-unit><beat-unit>quarter</beat-unit></metronome>"
    one_part(here, f"<direction><direction-type>{mark}</direction-type></direction>" + note_xml(60, 8))
    assert read_score(here / "a.musicxml").words == ("1 metronome marks give no number and are not obeyed",)
    told = f'<direction><direction-type>{mark}</direction-type><sound tempo="90"/></direction>'
    one_part(here, told + note_xml(60, 8))
    assert read_score(here / "a.musicxml").words == ()


def test_a_grace_note_of_cue_size_takes_no_time(here):
    """As MuseScore 2 writes them: grace, cue, and a drawn type, which is no length."""
    small = f"<note><grace/><cue/>{pitch_xml(59)}<type>eighth</type></note>"
    assert one_part(here, note_xml(60, 4) + small + small, note_xml(61, 4)) == [(0, 2, 60), (2, 2, 61)]


@pytest.mark.parametrize(
    ("pitch", "found"),
    [
        ("<pitch><step>B</step><alter>-0.5</alter><octave>4</octave></pitch>", 71),
        ("<pitch><step>C</step><alter>0.5</alter><octave>4</octave></pitch>", 60),
        ("<pitch><step>C</step><alter>odd</alter><octave>4</octave></pitch>", 60),
        ("<pitch><step>c</step><octave> 4 </octave></pitch>", 60),
    ],
)
def test_quarter_tones_and_odd_words_refuse_no_file(here, pitch, found):
    after = "<type>crotchet</type><accidental>slash-flat</accidental>"
    assert one_part(here, note_xml(pitch, 8, after=after)) == [(0, 4, found)]


@pytest.mark.parametrize("pitch", ["<pitch><step>H</step><octave>4</octave></pitch>", "<pitch/>"])
def test_a_pitch_that_cannot_be_read_is_said_and_the_rest_is_read(here, pitch):
    assert one_part(here, note_xml(pitch, 8), note_xml(60, 8)) == [(4, 4, 60)]
    assert "1 note whose pitch cannot be read" in " ".join(read_score(here / "a.musicxml").words)


def test_parts_that_the_list_lacks_are_read_and_said(here):
    text = document({"A": measures_of(), "B": measures_of()})
    text = text.replace('<score-part id="B"><part-name>B</part-name></score-part>', "")
    assert len(read(here, text)) == 8
    assert "lacks B" in read_score(here / "a.musicxml").words[0] and read_score(here / "a.musicxml").parts == ("A", "B")


def test_a_bar_repeat_sign_plays_the_bar_again(here):
    sign = lambda kind, n="1": (
        f'<attributes><measure-style><measure-repeat type="{kind}">{n}</measure-repeat></measure-style></attributes>'
    )
    quiet = '<note><rest measure="yes"/><duration>8</duration></note>'
    bars = [note_xml(60, 8), note_xml(62, 8), sign("start", 2) + quiet, quiet, sign("stop") + note_xml(64, 8)]
    assert [p for *_, p in one_part(here, *bars)] == [60, 62, 60, 62, 64]


def test_a_repeat_within_a_bar_cuts_it(here):
    line = '<barline location="middle"><repeat direction="backward"/></barline>'
    assert one_part(here, note_xml(60, 8), note_xml(62, 6) + line + note_xml(64, 2)) == [
        (0, 4, 60), (4, 3, 62), (7, 4, 60), (11, 3, 62), (14, 1, 64),
    ]  # fmt: skip


def test_a_repeat_at_the_wrong_side_of_its_bar_line(here):
    line = '<barline location="{}"><repeat direction="{}"/></barline>'.format
    bars = [note_xml(60 + i, 8) for i in range(4)]
    wanted = [60, 61, 62, 61, 62, 63]
    right = [bars[0], line("left", "forward") + bars[1], bars[2] + line("right", "backward"), bars[3]]
    wrong = [bars[0] + line("right", "forward"), bars[1], bars[2], line("left", "backward") + bars[3]]
    bare = [bars[0], line("right", "forward") + bars[1], bars[2] + line("right", "backward"), bars[3]]
    for writing in (right, wrong, bare):
        assert [p for *_, p in one_part(here, *writing)] == wanted


@pytest.mark.parametrize(
    ("mark", "bpm"),
    [
        ("<metronome><beat-unit>quarter</beat-unit><per-minute>c. 66</per-minute></metronome>", 66),
        ("<metronome><beat-unit>quarter</beat-unit><per-minute>60–66</per-minute></metronome>", 63),
        ("<metronome><beat-unit>eighth</beat-unit><per-minute>(120)</per-minute></metronome>", 60),
        ("<metronome><beat-unit>quarter</beat-unit><beat-unit-dot/><per-minute>60</per-minute></metronome>", 90),
        ("<metronome><beat-unit>quarter</beat-unit><beat-unit>eighth</beat-unit></metronome>", 120),
        ("<words>♪ = 96</words>", 48),
        ("<words>Adagio</words>", 60),
        ("<words>dolce</words>", 120),
    ],
)
def test_tempo_marks(here, mark, bpm):
    head = f"<direction><direction-type>{mark}</direction-type></direction>"
    one_part(here, head + note_xml(60, 8), note_xml(62, 8))
    assert read_score(here / "a.musicxml").notes["onset_s"].tolist() == pytest.approx([0, 240 / bpm])


def test_the_tempo_changes_where_the_score_says_and_comes_back_in_a_repeat(here):
    tempo = '<direction><direction-type><words>x</words></direction-type><sound tempo="{}"/></direction>'.format
    line = '<barline><repeat direction="backward"/></barline>'
    one_part(here, tempo(60) + note_xml(60, 8), note_xml(62, 4) + tempo(240) + note_xml(64, 4) + line)
    score = read_score(here / "a.musicxml")
    assert score.notes["onset_s"].tolist() == pytest.approx([0, 4, 6, 6.5, 10.5, 12.5])
    assert score.beats(score.notes["onset_s"]).tolist() == pytest.approx([0, 4, 6, 8, 12, 14])
    assert score.place(10.5) == "bar 2 (2nd time), beat 1"


def test_a_layout_says_where_each_note_stands(here):
    text = document({"Flute": measures_of(n=2), "Harp": measures_of(n=2, signs={1: ("", note_xml(40, 2, staff=2))})})
    read(here, text)
    score = read_score(here / "a.musicxml")
    last = score.layout[-1]
    assert (score.parts[last["part"]], last["staff"], score.bar_name[last["bar"]], last["beat"]) == ("Harp", 2, "2", 5)
    assert len(score.layout) == len(score.notes) == 5


BOMBS = {
    "tempo": document({"A": ['<sound tempo="0.01"/>' + m for m in measures_of()]}),
    "duration": document({"A": measures_of()}).replace("<duration>4<", "<duration>1000000000<", 1),
    "digits": document({"A": measures_of()}).replace("<duration>4<", f"<duration>{'9' * 400}<", 1),
    "times": document({"A": measures_of()[:3] + ['<barline><repeat direction="backward" times="10000"/></barline>']}),
    "more times": document({"A": ['<barline><repeat direction="backward" times="999999999"/></barline>']}),
    "variations": document({"A": [note_xml(60, 4) + '<barline><repeat direction="backward"/></barline>'] * 2000}),
    "da capo": document({"A": [note_xml(60, 4) + '<sound dacapo="yes"/>'] * 2000}),
    "numbers": document({"A": [f'<barline><ending number="1-999" type="start"/></barline>{note_xml(60, 4)}'] * 500}),
    "laughs": '<!DOCTYPE s [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY a{i} "{"&a;" * 10}">'.replace("&a;", f"&a{i - 1 or ''};") for i in range(1, 10))
    + "]>"
    + document({"A": measures_of()}).replace(">A<", ">&a9;<"),
    "outside": '<!DOCTYPE s [<!ENTITY a SYSTEM "file:///etc/hostname">]>'
    + document({"A": measures_of()}).replace(">A<", ">&a;<"),
    "deep": document({"A": ["<a>" * 5000 + "</a>" * 5000]}),
    "one bar": document({"A": ["<note/>" * 1_500_000]}),
    "no root": "<html></html>",
    "opus": "<opus/>",
    "cut": document({"A": measures_of()})[:400],
    "nothing": "",
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_would_take_for_ever_is_read_or_refused_in_one_line(here, name):
    (here / "bomb.musicxml").write_text(BOMBS[name])
    before = time.process_time()
    try:
        score = read_score(here / "bomb.musicxml")
        assert not any("root:" in part or "localhost" in part for part in score.parts)
    except UserError as error:
        assert "bomb.musicxml" in str(error) and "\n" not in str(error)
    assert time.process_time() - before < 10


def test_archives_that_are_none_or_too_large(here):
    blanks = packed({"s.xml": b" " * (MAX_BYTES + 1)})
    for data, said in ((blanks, "unpacks to more than 128 MB"), (b"PK\x03\x04junk", "damaged archive")):
        (here / "bomb.mxl").write_bytes(data)
        with pytest.raises(UserError, match=said):
            read_score(here / "bomb.mxl")
    (here / "bomb.mxl").write_bytes(packed({"s.xml": document({"A": measures_of()})})[:-40])
    with pytest.raises(UserError, match="bomb.mxl"):
        read_score(here / "bomb.mxl")
    elsewhere = packed({"b.xml": "<x/>", "in/my song.xml": document({"A": measures_of()})}, "in\\My%20Song.xml")
    (here / "bomb.mxl").write_bytes(elsewhere)
    assert len(read_score(here / "bomb.mxl").notes) == 4
    wrong = packed({"a.xml": document({"A": measures_of()}), "b.xml": "<x/>"}, "gone.xml")
    (here / "bomb.mxl").write_bytes(wrong)
    assert "gone.xml" in read_score(here / "bomb.mxl").words[0]


def test_a_long_quartet_takes_less_than_a_second(here):
    bar = "".join(note_xml(60 + i, 1, after="<type>eighth</type><stem>up</stem>") for i in range(8))
    bars = [f"<attributes><divisions>2</divisions></attributes>{bar}"] + [bar] * 311
    (here / "quartet.musicxml").write_text(document({p: bars for p in "ABCD"}))
    spent = []
    for _ in range(3):
        before = time.process_time()
        assert len(read_score(here / "quartet.musicxml").notes) == 9984
        spent.append(time.process_time() - before)
    assert min(spent) < 1


def test_a_part_doubled_at_the_octave_is_read_once_and_said(here):
    transpose = (
        "<attributes><transpose><chromatic>0</chromatic><octave-change>-1</octave-change>{}</transpose></attributes>"
    )
    for double, said in (("<double/>", ("1 times a part is doubled at the octave: it is read once",)), ("", ())):
        assert one_part(here, transpose.format(double) + note_xml(60, 2)) == [(0, 1, 48)]
        assert read_score(here / "a.musicxml").words == said
