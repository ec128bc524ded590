"""Random notes and rolls for the property tests of several chapters."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from amt_nb import notes as N
from amt_nb.workshop.grids import N_INSTRUMENTS

FAST = settings(max_examples=60, deadline=None)


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
