"""Da capo as it is printed in minuets and songs: where it holds, where it ends, and which ending is played after it."""

import pytest

from amt_nb.workshop.repeats import Mark, bars_in_order


def marks(count, **signs):
    """Marks of `count` bars; signs: b3=('backward', ('words', 'Trio', False)) puts both on bar 3."""
    bars = [[] for _ in range(count)]
    for name, some in signs.items():
        for sign in some:
            bars[int(name[1:])].append(Mark(sign) if isinstance(sign, str) else Mark(*sign))
    return bars


def order(bars):
    return bars_in_order(bars)[0]


def words(text, late=False):
    return ("words", text, late)


@pytest.mark.parametrize("title", ["Trio", "TRIO I", "Menuetto II", "Minuet 2"])
def test_a_da_capo_without_fine_ends_where_the_trio_begins(title):
    bars = marks(
        6, b1=["backward"], b2=[words(title)], b3=["backward"], b5=["backward", words("Menuetto da capo", True)]
    )
    assert order(bars) == [0, 1, 0, 1, 2, 3, 2, 3, 4, 5, 4, 5, 0, 1]
    assert ("a da capo without Fine: it ends where the trio begins", 5) in bars_in_order(bars)[1]


def test_what_follows_the_trio_is_its_coda():
    bars = marks(6, b2=[words("Trio")], b3=[words("Menuetto D.C. e poi la coda", True)], b5=[words("Coda")])
    assert order(bars) == [0, 1, 2, 3, 0, 1, 4, 5]


def test_a_fine_goes_before_the_trio_and_a_title_in_front_is_none():
    bars = marks(4, b0=[words("Fine", True)], b2=[words("Trio")], b3=[words("D.C. al Fine", True)])
    assert order(bars) == [0, 1, 2, 3, 0]
    assert order(marks(3, b0=[words("Trio in G")], b2=[words("D.C.", True)])) == [0, 1, 2, 0, 1, 2]


def test_long_words_typed_before_the_closing_bar_hold_at_its_end():
    bars = marks(4, b0=["forward"], b2=[words("Menuetto D.C.")], b3=["backward"])
    assert order(bars) == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3]
    coda = marks(4, b1=["fine"], b2=[words("D.C. al Fine")], b3=[words("Coda"), "final"])
    assert order(coda)[:5] == [0, 1, 2, 0, 1]
    here = marks(3, b1=["backward", words("D.C.")], b2=["final"])
    assert order(here)[:6] == [0, 1, 0, 1, 0, 1]


def test_who_jumps_out_of_the_last_ending_comes_back_to_it():
    bars = marks(
        5, b1=[("ending start", "1"), ("ending stop", "1", True), "backward"], b2=[("ending start", "2"), words("D.C.")],
        b4=[("ending stop", "2", True)],
    )  # fmt: skip
    assert order(bars) == [0, 1, 0, 2, 0, 2, 3, 4]
