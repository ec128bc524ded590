"""Metrics against independent definitions: loops, brute force, closed forms."""

import inspect
import itertools

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from amt_nb import metrics as M
from amt_nb.workshop import statistics as statistics_module
from amt_nb.notes import as_notes, empty_notes, to_roll, to_rolls
from amt_nb.workshop.settings import UserError

FAST = settings(max_examples=60, deadline=None)


def random_rolls(seed, shape=(40, 88), density=0.05):
    rng = np.random.default_rng(seed)
    truth = rng.random(shape) < density
    return truth ^ (rng.random(shape) < density / 3), truth


def slow_f1(pred, truth, empty=1.0):
    """Oracle: sets of cells."""
    p, t = ({tuple(c) for c in np.argwhere(x)} for x in (pred, truth))
    if not p and not t:
        return empty
    precision, recall = len(p & t) / max(len(p), 1), len(p & t) / max(len(t), 1)
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


@FAST
@given(st.integers(0, 9999), st.floats(0, 0.3))
def test_frame_f1_equals_sets_of_cells(seed, density):
    pred, truth = random_rolls(seed, (12, 88), density)
    score = M.frame_score(pred, truth)
    assert np.isclose(score.f1, slow_f1(pred, truth))
    assert np.isclose(M.frame_f1(truth, pred), score.f1) and np.isclose(
        M.frame_score(truth, pred).precision, score.recall
    )
    assert M.frame_f1(pred * 2.0 - 1, truth * 1.0) == M.frame_f1(pred, truth)  # {-1, 1} and {0, 1} rolls


@FAST
@given(st.integers(0, 9999), st.integers(1, 60))
def test_means(seed, chunk):
    pairs = [random_rolls(seed + i, (int(n), 88), d) for i, (n, d) in enumerate([(50, 0.02), (7, 0.1), (33, 0.0)])]
    preds, truths = zip(*pairs)
    assert np.isclose(M.frame_f1_mean(preds, truths), np.mean([slow_f1(p, t) for p, t in pairs]))
    assert np.isclose(M.frame_f1_pooled(preds, truths), slow_f1(np.vstack(preds), np.vstack(truths)))
    chunks = [slow_f1(p[t : t + chunk], q[t : t + chunk], 0.0) for p, q in pairs for t in range(0, len(p), chunk)]
    assert np.isclose(M.frame_f1_chunk_mean(preds, truths, chunk), np.mean(chunks))


@FAST
@given(st.integers(0, 9999))
def test_instruments(seed):
    pred, truth = random_rolls(seed, (4, 9, 88))
    truth[2] = False
    each = [slow_f1(pred[i], truth[i]) for i in (0, 1, 3)]
    got = M.instrument_f1([pred], [truth])
    assert np.allclose(got[[0, 1, 3]], each) and np.isnan(got[2])
    assert np.isclose(M.frame_f1_macro([pred], [truth]), np.mean(each))
    assert np.isclose(M.frame_f1_channel_mean([pred], [truth]), np.sum(each) / 4)
    assert np.isclose(M.frame_f1_pooled([pred], [truth]), slow_f1(pred, truth))
    twice = M.instrument_f1([pred, truth], [truth, truth])
    assert np.isclose(twice[0], slow_f1(np.vstack([pred[0], truth[0]]), np.vstack([truth[0], truth[0]])))
    assert np.isnan(M.frame_f1_macro([pred * 0], [truth * 0]))


def most_matches(notes, truth, tolerance, offset):
    """Oracle: the largest matching, tried over all orders of the truth (few notes only)."""

    def ok(n, t):
        end = not offset or round(abs(n["offset_s"] - t["offset_s"]), 4) <= max(
            0.05, 0.2 * (t["offset_s"] - t["onset_s"])
        )
        return n["pitch"] == t["pitch"] and round(abs(n["onset_s"] - t["onset_s"]), 4) <= tolerance and end

    best = 0
    for order in itertools.permutations(range(len(notes)), min(len(notes), len(truth))):
        for places in itertools.combinations(range(len(truth)), len(order)):
            best = max(best, sum(ok(notes[i], truth[j]) for i, j in zip(order, places)))
    return best


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 9999), st.integers(0, 3), st.integers(0, 3), st.booleans())
def test_note_f1_equals_the_best_matching(seed, n, m, offset):
    rng = np.random.default_rng(seed)

    def some(k):
        onset = rng.integers(0, 20, k) / 100
        return as_notes(onset, onset + rng.integers(5, 40, k) / 100, rng.integers(60, 62, k)) if k else empty_notes()

    notes, truth = some(n), some(m)
    expected = M.score_from_counts(most_matches(notes, truth, 0.05, offset) if n and m else 0, n, m)
    assert np.allclose(M.note_score(notes, truth, offset=offset), expected)


def test_note_edges():
    truth = as_notes(1.0, 2.0, 60)
    assert M.note_f1(as_notes(1.05, 2.0, 60), truth) == 1 and M.note_f1(as_notes(1.0502, 2.0, 60), truth) == 0
    assert M.note_f1(as_notes(1.02, 2.0, 60), truth, onset_tol_s=0.01) == 0
    assert (
        M.note_f1(as_notes(1.0, 2.19, 60), truth, offset=True) == 1
        and M.note_f1(as_notes(1.0, 2.21, 60), truth, offset=True) == 0
    )
    assert M.note_f1(as_notes(1.0, 2.0, 61), truth) == 0 and M.note_f1(empty_notes(), empty_notes()) == 1


def test_evaluate_and_its_length():
    truth, pred = as_notes([0, 1], [0.5, 2], [60, 109]), as_notes([0, 3], [0.5, 4], [60, 64])
    result = M.evaluate(pred, truth)
    assert np.isclose(result["frame_f1"], 2 * 25 / (25 + 75)) and result["note_f1"] == 0.5
    assert M.evaluate(pred, truth, n_frames=50)["frame_f1"] == 1.0
    assert set(result) == {"frame_f1", "frame_p", "frame_r", "note_f1", "note_p", "note_r", "note_offset_f1"}
    assert all(type(v) is float for v in result.values())
    assert set(M.evaluate(empty_notes(), empty_notes()).values()) == {1.0}
    with pytest.raises(UserError):
        M.mean_scores([])
    rows = [{"f": 1.0}, {"f": 0.0}, {"f": 0.5}]
    assert M.grouped_scores("all", rows, "bab") == {"all": {"f": 0.5}, "all a": {"f": 0.0}, "all b": {"f": 0.75}}
    with pytest.raises(ValueError):
        M.grouped_scores("all", rows, "ba")


def test_multi_instrument_notes_reach_the_rolls():
    notes = as_notes([0, 0], [0.1, 0.1], [60, 60], instrument=[0, 3])
    swapped = as_notes([0, 0], [0.1, 0.1], [60, 60], instrument=[0, 4])
    assert M.frame_f1(to_roll(notes), to_roll(swapped)) == 1 and M.frame_f1(to_rolls(notes), to_rolls(swapped)) == 0.5


@FAST
@given(st.lists(st.lists(st.floats(-1, 1), min_size=1, max_size=20), min_size=1, max_size=5), st.floats(0.001, 0.5))
def test_alignment_accuracy(errors, tolerance):
    shares = []
    for piece in errors:
        shares.append(sum(1 for e in piece if -tolerance < e < tolerance) / len(piece))
    assert np.isclose(M.alignment_accuracy(errors, tolerance), sum(shares) / len(shares))


losses = st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=3, max_size=30)


@FAST
@given(losses)
def test_diebold_mariano_with_horizon_one_is_the_paired_t_test(pairs):
    stats = pytest.importorskip("scipy.stats")
    a, b = np.array(pairs).T
    if np.std(a - b) < 1e-3:
        return
    theirs, ours = stats.ttest_rel(a, b), statistics_module.diebold_mariano(a, b)
    assert np.isclose(ours.statistic, theirs.statistic) and np.isclose(ours.p_value, theirs.pvalue)
    interval = theirs.confidence_interval(0.9)
    mine = statistics_module.paired_difference(a, b, 0.9)
    assert np.allclose((mine.low, mine.high), (interval.low, interval.high)) and np.isclose(
        mine.spread, np.std(a - b, ddof=1)
    )


@FAST
@given(losses, st.integers(1, 5))
def test_diebold_mariano_equals_the_sums_written_out(pairs, horizon):
    a, b = np.array(pairs).T
    n, d = len(a), a - b
    if horizon >= n or np.std(d) < 1e-3:
        return
    variance = 0.0
    for k in range(-horizon + 1, horizon):
        gamma = sum((d[i] - d.mean()) * (d[i - abs(k)] - d.mean()) for i in range(abs(k), n)) / n
        variance += (1 - abs(k) / horizon) * gamma
    got = statistics_module.diebold_mariano(a, b, horizon)
    if variance < 1e-9:
        return
    factor = (n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n
    assert np.isclose(got.statistic, d.mean() / np.sqrt(variance / n) * np.sqrt(factor))
    assert (
        np.isclose(statistics_module.diebold_mariano(b, a, horizon).statistic, -got.statistic) and 0 <= got.p_value <= 1
    )


def test_diebold_mariano_edges():
    assert statistics_module.diebold_mariano([1, 1], [1, 1]) == (0, 0, 1, 2)
    sure = statistics_module.diebold_mariano([2, 3, 4], [1, 2, 3])
    assert (
        sure.p_value == 0
        and sure.statistic == np.inf
        and statistics_module.diebold_mariano([1, 2, 3], [2, 3, 4]).statistic == -np.inf
    )
    for a, b, h in (
        ([1], [2], 1),
        ([1, 2], [1, np.nan], 1),
        ([1, 2], [1, 2], 2),
        ([1, 2], [1, 3], 0),
        ([[1, 2]], [[1, 3]], 1),
    ):
        with pytest.raises(UserError):
            statistics_module.diebold_mariano(a, b, h)


@FAST
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_equals_the_closed_testing_definition(p):
    """Oracle: Holm's adjusted p is the largest Bonferroni p among the hypotheses that are not more significant."""
    got = statistics_module.holm(p)
    for i, own in enumerate(p):
        candidates = []
        for other in p:
            if other <= own:
                candidates.append(min(1.0, other * sum(1 for q in p if q >= other)))
        assert np.isclose(got[i], max(candidates))


def test_bootstrap_equals_all_draws_written_out():
    values, works = np.array([1.0, 2.0, 6.0, 4.0]), ["a", "a", "b", "c"]
    groups = [[1.0, 2.0], [6.0], [4.0]]
    means = [np.mean(sum((groups[i] for i in draw), [])) for draw in itertools.product(range(3), repeat=3)]
    got = statistics_module.bootstrap(values, works, n_draws=20_000, level=0.8)
    low, high = np.quantile(means, [0.1, 0.9])
    assert np.allclose(got, (3.25, low, high), atol=0.26)
    assert statistics_module.bootstrap(values, works, seed=3) == statistics_module.bootstrap(values, works, seed=3)
    for v, w in (([], []), ([1, 2], ["a"])):
        with pytest.raises(UserError):
            statistics_module.bootstrap(v, w)


def test_wrong_shapes_are_named():
    for pred, truth in (
        (np.zeros((5, 88)), np.zeros((6, 88))),
        (np.zeros((5, 87)), np.zeros((5, 87))),
        (np.zeros(88), np.zeros(88)),
        (np.zeros((2, 5, 88)), np.zeros((5, 88))),
    ):
        with pytest.raises(UserError, match="shape"):
            M.frame_f1(pred, truth)


def test_public_names_have_docstrings():
    for name, thing in vars(M).items():
        if getattr(thing, "__module__", "") == M.__name__ and callable(thing):
            assert inspect.getdoc(thing), name
