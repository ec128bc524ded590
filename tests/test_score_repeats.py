"""The order of bars: what is well formed is played out, what is not is said and ends all the same."""

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st

from amt_nb.workshop.musicxml import read_musicxml
from amt_nb.workshop.repeats import bars_in_order, Mark
from amt_nb.workshop.settings import UserError

FORWARD, BACKWARD, FINAL = Mark("forward"), Mark("backward"), Mark("final", late=True)
DA_CAPO, FINE, SEGNO, CODA = Mark("dacapo", late=True), Mark("fine", late=True), Mark("segno"), Mark("coda")
TO_CODA, DAL_SEGNO, STOP = Mark("tocoda", late=True), Mark("dalsegno", late=True), Mark("ending stop", late=True)


def words(text):
    return Mark("words", text, True)


def ending(number, *more):
    """Marks of a bar that is an ending of its own."""
    return [Mark("ending start", number), STOP, *more]


def order(*bars):
    """Bars played, as letters: 'ABAB'."""
    return "".join("ABCDEFGHIJKLMNOPQRSTUVWXYZ"[i] for i in bars_in_order([list(b) for b in bars])[0])


def said(*bars):
    """What is not well formed, without bars."""
    return [text for text, _ in bars_in_order([list(b) for b in bars])[1]]


_ = ()
PLAYED = {
    "no signs": ([_, _, _], "ABC"),
    "a repeat": ([_, [FORWARD], [BACKWARD], _], "ABCBCD"),
    "backward alone goes to the beginning": ([_, [BACKWARD], _], "ABABC"),
    "and then to where the last section ended": ([[BACKWARD], _, [BACKWARD], [BACKWARD]], "AABCBCDD"),
    "a forward sign inside takes over": ([[FORWARD], [FORWARD], [BACKWARD], [BACKWARD]], "ABCBCDD"),
    "one bar, both signs": ([[FORWARD, BACKWARD], [FORWARD, BACKWARD]], "AABB"),
    "four times": ([_, [Mark("backward", "4")], _], "ABABABABC"),
    "once, says the sign": ([_, [Mark("backward", "1")], _], "ABC"),
    "two endings": ([_, ending("1", BACKWARD), ending("2"), _], "ABACD"),
    "a third one": ([_, ending("1", BACKWARD), ending("2", BACKWARD), ending("3"), _], "ABACADE"),
    "one ending for two passes": ([_, ending("1, 2", BACKWARD), ending("3"), _], "ABABACD"),
    "1-3 and 4": ([_, ending("1.-3.", BACKWARD), ending("4.")], "ABABABAC"),
    "1, 3 and 2": ([_, ending("1, 3", BACKWARD), ending("2", BACKWARD), _], "ABACABD"),
    "second ending closed by dots": ([_, ending("1", BACKWARD), ending("2", BACKWARD), _], "ABACD"),
    "only the first is drawn": ([_, ending("1", BACKWARD), _, _], "ABACD"),
    "no numbers": ([_, ending("", BACKWARD), ending(" "), _], "ABACD"),
    "no stop": ([_, [Mark("ending start", "1"), BACKWARD], [Mark("ending start", "2")], _], "ABACD"),
    "long endings": (
        [_, [Mark("ending start", "1")], [STOP, BACKWARD], [Mark("ending start", "2")], [STOP], _],
        "ABCADEF",
    ),
    "a stop too early, and again": (
        [_, [Mark("ending start", "1"), STOP], [STOP, BACKWARD], [Mark("ending start", "2"), STOP], [STOP], _],
        "ABCADEF",
    ),
    "two groups without forward signs": (
        [_, ending("1", BACKWARD), ending("2"), _, ending("1", BACKWARD), ending("2")],
        "ABACDEDF",
    ),
    "a repeat after endings": ([_, ending("1", BACKWARD), ending("2"), _, [BACKWARD]], "ABACDEDE"),
    "a repeat that begins under the last ending": (
        [_, ending("1", BACKWARD), [FORWARD, *ending("2", BACKWARD)], _],
        "ABACCD",
    ),
    "a section after a final bar line": ([_, [FINAL], _, [BACKWARD]], "ABCDCD"),
    "da capo": ([_, _, [DA_CAPO]], "ABCABC"),
    "da capo al fine": ([_, [FINE], _, [DA_CAPO]], "ABCDAB"),
    "da capo in words": ([_, [words("FINE")], _, [words("D. C. al Fine")]], "ABCDAB"),
    "da capo to a minuet that ends in a final line": ([_, [FINAL], _, [DA_CAPO]], "ABCDAB"),
    "after a da capo no repeats": ([[BACKWARD], [FINE], [FORWARD, BACKWARD], [DA_CAPO]], "AABCCDAB"),
    "but with repeats where it says so": ([[BACKWARD], [FINE], _, [words("D.C. con rep. al Fine")]], "AABCDAAB"),
    "after a da capo the last ending": (
        [_, ending("1", BACKWARD), ending("2", FINE), _, [DA_CAPO]],
        "ABACDEAC",
    ),
    "a repeat before its own da capo": ([[FINE], [FORWARD], [BACKWARD, DA_CAPO]], "ABCBCA"),
    "dal segno al fine": ([_, [SEGNO], [FINE], [DAL_SEGNO]], "ABCDBC"),
    "dal segno with endings": (
        [_, [SEGNO], ending("1", BACKWARD), ending("2"), [FINE], [DAL_SEGNO]],
        "ABCABDEFBDE",
    ),
    "the segno with its label": (
        [[Mark("segno", "a")], [Mark("segno", "b")], [FINE], [Mark("dalsegno", "a", True)]],
        "ABCDABC",
    ),
    "a segno at the end of a bar is the next": ([_, [Mark("segno sign", "", True)], [FINE], [DAL_SEGNO]], "ABCDC"),
    "dal segno al coda": ([_, [SEGNO], [TO_CODA], _, [DAL_SEGNO], [CODA]], "ABCDEBCF"),
    "coda drawn twice": (
        [_, [Mark("coda sign", "", True)], [words("D.C. al Coda")], [Mark("coda sign")]],
        "ABCABD",
    ),
    "coda in words": ([_, [words("To Coda")], [words("Da Capo al Coda")], [words("Coda")]], "ABCABD"),
    "a title 'Coda' is no sign": ([_, [words("Coda")], _], "ABC"),
    "data goes before words": ([_, [words("Fine")], [FINE], [words("D.C."), DA_CAPO]], "ABCDABC"),
    "two jumps": ([[SEGNO], [DAL_SEGNO], _, [DA_CAPO]], "ABABCDABCD"),
    "a pass that no ending names": ([_, ending("1", BACKWARD), ending("3"), _], "ABACD"),
    "a second movement has its own da capo": (
        [_, [FINAL], [Mark("first")], [FINE], [DA_CAPO]],
        "ABCDECD",
    ),
    "after a Fine the next movement": ([[FINE], [DA_CAPO, FINAL], [Mark("first")], _], "ABACD"),
    "the same sign in two parts": ([_, [BACKWARD, BACKWARD], _], "ABABC"),
}  # fmt: skip


@pytest.mark.parametrize("name", PLAYED)
def test_a_player_obeys(name):
    bars, played = PLAYED[name]
    assert order(*bars) == played


@pytest.mark.parametrize(
    ("bars", "text"),
    [
        ([[FORWARD], _], "a repeat that is never closed"),
        ([[FORWARD], [FORWARD], [BACKWARD]], "a repeat that is never closed"),
        ([_, ending("1"), ending("2")], "an ending without a repeat sign"),
        ([_, ending("1", BACKWARD), ending("3")], "no ending for pass 2"),
        ([_, [DAL_SEGNO]], "a dal segno without a sign to go to"),
        ([[TO_CODA], [DA_CAPO]], "a way to the coda, and no coda"),
        ([[FINE], [DA_CAPO]], None),
        ([[SEGNO], [TO_CODA], [DAL_SEGNO], _, [CODA]], "bars that no sign leads to"),
    ],
)
def test_what_is_not_well_formed_is_said(bars, text):
    assert said(*bars) == ([text] if text else [])


def test_endings_without_a_repeat_sign_are_played_straight():
    assert order(_, ending("1"), ending("2"), _) == "ABCD"


MARKS = [
    FORWARD, BACKWARD, FINAL, DA_CAPO, FINE, SEGNO, CODA, TO_CODA, DAL_SEGNO, STOP, Mark("first"), Mark("coda sign"),
    Mark("ending start", "1"), Mark("ending start", "2"), Mark("ending start", ""), Mark("backward", "3"),
    Mark("segno sign", "", True), Mark("backward again"), words("D.S. al Coda"), words("con rep."),
]  # fmt: skip


@hypothesis_settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(st.sampled_from(MARKS), max_size=3), max_size=12))
def test_any_marks_come_to_an_end(bars):
    played, odd = bars_in_order(bars)
    assert set(played) <= set(range(len(bars))) and len(played) < 5000
    assert all(0 <= bar < len(bars) for _, bar in odd)
    missing = set(range(len(bars))) - set(played)
    assert not missing or any(text == "bars that no sign leads to" for text, _ in odd)


def naive(sections):
    """(marks of each bar, order) of [(bars, times, endings)]: sections written one after the other, played by hand."""
    bars, played = [], []
    for length, times, endings in sections:
        body = list(range(len(bars), len(bars) + length))
        bars += [[] for _ in body]
        if times > 1 or endings:
            bars[body[0]] = [FORWARD]
        if endings:
            for k in range(endings):
                bars.append(ending(str(k + 1), *[BACKWARD] * (k < endings - 1)))
                played += [*body, len(bars) - 1]
            continue
        if times > 1:
            bars[body[-1]] = [*bars[body[-1]], Mark("backward", str(times))]
        played += body * times
    return bars, played


SECTION = st.tuples(st.integers(1, 3), st.integers(1, 4), st.sampled_from([0, 0, 2, 3]))


@hypothesis_settings(max_examples=100, deadline=None)
@given(st.lists(SECTION, max_size=5), st.booleans())
def test_sections_are_played_as_by_hand(sections, signs):
    """Also without forward signs, as long as every section is repeated: each then begins where the last one ended."""
    bars, played = naive(sections)
    if not signs and all(times > 1 or endings for _, times, endings in sections):
        bars = [[m for m in marks if m.kind != "forward"] for marks in bars]
    assert bars_in_order(bars) == (played, [])


def test_endless_repeats_are_refused_before_they_are_played():
    with pytest.raises(UserError, match="more than 200,000 bars"):
        bars_in_order([[Mark("backward", "999999999")]])


MOVEMENTS = {
    "behind a Fine the next movement, whatever its number": ([[FINE], [DA_CAPO], _, _], "ABACD"),
    "brackets without any repeat sign": ([_, ending("1, 2"), ending("3"), _], "ABCD"),
    "a second ending without a first": ([_, [BACKWARD], ending("2"), _], "ABABCD"),
    "and closed by dots": ([_, [BACKWARD], ending("2", BACKWARD), _], "ABABCD"),
    "two second endings and no repeat sign": ([_, ending("2"), ending("2"), _], "ABCD"),
    "a bracket that means nothing": ([_, ending("1, 2"), _, [BACKWARD], _], "ABCDCDE"),
    "after a jump the ending with the Fine": (
        [_, ending("1", BACKWARD), ending("2", FINE, BACKWARD), ending("3"), [DA_CAPO]],
        "ABACADEAC",
    ),
    "a jump in place of a repeat sign": ([_, ending("1", DA_CAPO), ending("2"), _], "ABACD"),
    "a final bar line within an ending": (
        [_, ending("1", BACKWARD), [Mark("ending start", "2"), FINAL], [STOP], _],
        "ABACDE",
    ),
}


@pytest.mark.parametrize("name", MOVEMENTS)
def test_what_whole_works_brought(name):
    bars, played = MOVEMENTS[name]
    assert order(*bars) == played


@pytest.mark.parametrize(
    ("sign", "bars", "text"),
    [
        ('direction="backward"', "AABB", None),
        ('direction="backward" times="3"', "AAABBB", None),
        ('direction="backward" times="1"', "AB", None),
        ('direction="backward" times=" 2.0 "', "AABB", None),
        *(
            (f'direction="backward" times="{n}"', "AABB", "2 repeat signs give no whole number")
            for n in ("-1", "0", "1.5", "x", "")
        ),
        ('direction="up"', "AABB", "2 repeat signs have no direction"),
        ("", "AABB", "2 repeat signs have no direction"),
    ],
)
def test_a_number_of_times_that_is_none_is_said(tmp_path, sign, bars, text):
    """MusicXML: `times` is how often a section is played, two without it."""
    note = "<note><pitch><step>C</step><octave>4</octave></pitch><duration>1</duration></note>"
    bar = (
        f"<measure><attributes><divisions>1</divisions></attributes>{note}<barline><repeat {sign}/></barline></measure>"
    )
    path = tmp_path / "a.musicxml"
    path.write_text(f"<score-partwise><part-list/><part id='P1'>{bar * 2}</part></score-partwise>")
    written = read_musicxml(path)
    assert order(*written.marks) == bars
    said = [word for word in written.words if "repeat" in word]
    assert [word[: len(text or "")] for word in said] == ([text] if text else [])
