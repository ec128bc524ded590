"""The corridor of the refinement: what moves on by more than its width, once an IndexError of long recordings on pages."""

import numpy as np
import pytest

from amt_nb.alignment.refinement import corridor_path


@pytest.mark.parametrize("leap", [-40, -6, -5, -4, 4, 6, 7, 40])
def test_a_corridor_may_leap(leap):
    """Where the corridor moves by less than its width the best path is exact, where by more it is left and entered anew."""
    rng, half = np.random.default_rng(0), 2
    where = np.r_[np.arange(60, 90), np.arange(90, 120) + leap]
    score = rng.normal(size=(200, 30)).astype(np.float32)
    centre = where + rng.integers(-1, 2, len(where))
    path = corridor_path(score[where] + 0.1 * rng.normal(size=(60, 30)).astype(np.float32), score, centre, half)
    assert (np.abs(path - centre) <= half).all()
    near = np.abs(np.arange(60) - 30) > 4  # at the leap itself a path has to take its steps
    assert np.array_equal(path[near], where[near])
