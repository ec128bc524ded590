"""The older aligners: each kernel against its recursion as printed, each method against what it must and cannot do."""

import sys
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amt_nb.alignment import dtw_baselines as aligners
from amt_nb.alignment.dtw_baselines import (
    DTW,
    MATCH,
    NWTW,
    JumpDTW,
    audio_keys,
    border_frames,
    distance_blocks,
    match_cost,
    match_features,
    on_line,
    oracle_borders,
    score_keys,
    walk_back,
    warp,
)
from amt_nb.alignment.learnt_baselines import (
    DeepCTW,
    Dilated,
    DilatedCNN,
    DilatedConfig,
    Siamese,
    SiameseConfig,
    SiameseDTW,
    canonical,
    contrastive_loss,
    corner_maps,
    correlation,
    load_net,
    peaks,
    siamese_batches,
)
from amt_nb.alignment.similarity import Axes
from amt_nb.alignment.structure import carry
from amt_nb.alignment.table_one import Peer, SASAMethod
from amt_nb.notes import as_notes, sonify
from amt_nb.workshop.midi import midi_bytes
from amt_nb.workshop.scores import bar_length, bar_lines, sign_borders
from amt_nb.workshop.settings import UserError
from amt_nb.workshop.time_maps import TimeMap, points_to_map, spans_to_map
from amt_nb.workshop.weights import save_weights

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**31)
INF = float("inf")


def features(seed, low=1, high=40, width=4):
    """Two sequences of random features."""
    rng = np.random.default_rng(seed)
    return [rng.random((int(rng.integers(low, high)), width)).astype(np.float32) for _ in range(2)]


def cells(first, last):
    """All cells (i, j) of a path given by spans."""
    return [(i, j) for i, (p, q) in enumerate(zip(first, last)) for j in range(p, q + 1)]


def matrix(a, b):
    """All Euclidean distances, float64."""
    return np.sqrt(((a[:, None].astype(float) - b[None]) ** 2).sum(-1))


def naive_jump(C, leave, enter, penalty, diagonal):
    """Cost of the best path of JumpDTW, the recursion as printed."""
    n, m = C.shape
    D = np.full((n, m), INF)
    for i in range(n):
        jump = min([D[i - 1, j] for j in range(m) if leave[j]], default=INF) + penalty if i else INF
        for j in range(m):
            ways = [0.0 if i == j == 0 else INF]
            if i:
                ways.append(D[i - 1, j])
            if j:
                ways.append(D[i, j - 1])
            if i and j:
                ways.append(D[i - 1, j - 1] + (diagonal - 1) * C[i, j])
            if enter[j]:
                ways.append(jump)
            D[i, j] = C[i, j] + min(ways)
    return D[-1, -1]


def price(C, first, last, penalty, diagonal):
    """What a path costs, its jumps and diagonals counted; every step must be allowed."""
    total = C[0, : last[0] + 1].sum()
    for i in range(1, len(first)):
        step = first[i] - last[i - 1]
        total += C[i, first[i] : last[i] + 1].sum()
        if step == 1:
            total += min((diagonal - 1) * C[i, first[i]], penalty)
        elif step != 0:
            total += penalty
    return total


@few
@given(seeds, st.sampled_from([1.0, 1.5, 2.0]))
def test_warp_finds_the_cheapest_path(seed, diagonal):
    a, b = features(seed)
    C, no = matrix(a, b), np.zeros(len(b), bool)
    first, last = warp(a, b, diagonal=diagonal, rows=7)
    assert (
        first[0] == 0 and last[-1] == len(b) - 1 and (first <= last).all() and set(np.diff(first)) <= set(range(len(b)))
    )
    assert ((first[1:] - last[:-1] == 0) | (first[1:] - last[:-1] == 1)).all()
    assert price(C, first, last, INF, diagonal) == pytest.approx(naive_jump(C, no, no, 0, diagonal), abs=1e-4)


@few
@given(seeds, st.sampled_from([0.0, 0.3]))
def test_jumps_find_the_cheapest_path(seed, penalty):
    a, b = features(seed, 3)
    rng = np.random.default_rng(seed)
    leave, enter = rng.random(len(b)) < 0.3, rng.random(len(b)) < 0.3
    first, last = warp(a, b, leave, enter, penalty=penalty, rows=5)
    assert price(matrix(a, b), first, last, penalty, 1.0) == pytest.approx(
        naive_jump(matrix(a, b), leave, enter, penalty, 1.0), abs=1e-4
    )
    away = np.flatnonzero((first[1:] - last[:-1] != 0) & (first[1:] - last[:-1] != 1))
    assert leave[last[:-1][away]].all() and enter[first[1:][away]].all()


def test_jumps_only_in_the_rows_that_may():
    a = np.eye(4, dtype=np.float32)[[0, 1, 0, 1, 2, 3]]
    b, every = np.eye(4, dtype=np.float32), np.ones(4, bool)
    assert warp(a, b, every, every)[0].tolist() == [0, 1, 0, 1, 2, 3]
    assert (np.diff(warp(a, b, every, every, may=np.arange(6) == 5)[0])[:3] >= 0).all()


def naive_gaps(C, gap):
    """Cost of the best path of NWTW, the recursion as printed."""
    n, m = C.shape
    D = np.zeros((n + 1, m + 1))
    D[:, 0], D[0] = gap * np.arange(n + 1), gap * np.arange(m + 1)
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            c = C[i - 1, j - 1]
            D[i, j] = min(
                D[i - 1, j - 1] + c,
                D[i - 1, j - 2] + C[i - 1, j - 2] + c if j > 1 else INF,
                D[i - 2, j - 1] + C[i - 2, j - 1] + c if i > 1 else INF,
                D[i - 1, j] + gap,
                D[i, j - 1] + gap,
            )
    return D[-1, -1]


@few
@given(seeds, st.sampled_from([0.1, 0.4, 1.0]))
def test_gaps_find_the_cheapest_path(seed, gap):
    a, b = features(seed)
    first, last, aligned = NWTW(gap=gap).rows(a, b)
    C = matrix(a, b)
    met = {(i, j) for i, j in cells(first, last) if aligned[i]}
    columns = {j for _, j in met}
    total = sum(C[i, j] for i, j in met) + gap * ((~aligned).sum() + len(b) - len(columns))
    assert total == pytest.approx(naive_gaps(C, gap), abs=1e-4)
    assert (np.diff(first) >= 0).all()


@few
@given(seeds)
def test_match_with_a_wide_band_is_dtw(seed):
    a, b = features(seed, 1, 25)
    sums = a.sum(1), b.sum(1)
    C = np.array([[match_cost(a, b, i, j, *sums, 0.004) for j in range(len(b))] for i in range(len(a))])
    back = np.zeros((len(a), (len(b) + 1) // 2), np.uint8)
    on_line(a, b, *sums, 100, 3, 0.004, 2.0, back)
    first, last = walk_back(back, np.zeros(len(a), np.int64), len(a), len(b) - 1)
    no = np.zeros(len(b), bool)
    assert price(C, first, last, INF, 2.0) == pytest.approx(naive_jump(C, no, no, 0, 2.0), abs=1e-4)


@few
@given(seeds, st.integers(1, 12))
def test_match_with_any_band_gets_to_the_end(seed, band):
    a, b = features(seed, 1, 60, 5)
    back = np.zeros((len(a), (len(b) + 1) // 2), np.uint8)
    seen = on_line(a, b, a.sum(1), b.sum(1), band, 3, 0.005, 2.0, back)
    first, last = walk_back(back, np.zeros(len(a), np.int64), len(a), len(b) - 1)
    assert (
        first[0] == 0 and last[-1] == len(b) - 1 and ((first[1:] - last[:-1] == 0) | (first[1:] - last[:-1] == 1)).all()
    )
    assert (np.diff(seen) >= 0).all()


def test_match_distance():
    f, g = np.array([[0.5, 0.5], [0, 0]], np.float32), np.array([[0.5, 0.5], [1, 0]], np.float32)
    d = lambda i, j: match_cost(f, g, i, j, f.sum(1), g.sum(1), 0.002)
    w = (8 + np.log(2)) / 10
    assert (
        d(0, 0) == pytest.approx(0.002 / 2.002 * w)
        and d(0, 1) == pytest.approx(1.002 / 2.002 * w)
        and d(1, 1) == pytest.approx(0.8)
    )
    assert match_cost(f, f, 1, 1, f.sum(1), f.sum(1), 0.002) == 0


def test_match_features_are_those_of_any_sample_rate():
    notes = as_notes([0.1, 0.5, 0.9], [0.45, 0.85, 1.3], [60, 67, 72])
    a, b = (match_features(sonify(notes, sr), sr) for sr in (16000, 44100))
    assert a.shape == b.shape and np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.9


def test_distances():
    a, b = features(5, 3)
    got = {m: np.concatenate([c for _, c in distance_blocks(a, b, m, 4)]) for m in ("euclidean", "squared")}
    assert np.allclose(got["euclidean"], matrix(a, b), atol=1e-5) and np.allclose(
        got["squared"], matrix(a, b) ** 2 / 2, atol=1e-5
    )
    with pytest.raises(UserError, match="euclidean"):
        next(distance_blocks(a, b, "euklidean"))


def methods():
    """One of each, the networks untrained."""
    torch.manual_seed(0)
    return [
        DTW(),
        DTW(fps=20),
        MATCH(features="chroma"),
        MATCH(features="chroma", band_s=0.1),
        JumpDTW(borders_s=(0.5, 1.0)),
        NWTW(),
        DeepCTW(rounds=1, steps=2),
        SiameseDTW(Siamese()),
        DilatedCNN(Dilated(DilatedConfig(size=32)), threshold=0.01),
    ]


@pytest.mark.parametrize("method", methods(), ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("n, m", [(1, 1), (3, 200), (100, 120)])
def test_every_method_says_a_map(method, n, m):
    rng, width = np.random.default_rng(0), 88 if method.features == "keys" else 12
    said = method.align(rng.random((n, width)).astype(np.float32), rng.random((m, width)).astype(np.float32))
    assert (
        (np.diff(said.recording_s) >= 0).all()
        and 0 <= said.score_s.min()
        and said.score_s.max() <= m / 50
        and said.recording_s.max() <= n / 50 + 0.02
    )


def scale(n=16):
    """A scale, two notes a second."""
    return as_notes(np.arange(n) / 2, np.arange(n) / 2 + 0.45, 60 + np.arange(n) % 12)


@pytest.mark.parametrize(
    "method",
    [DTW(), MATCH(), MATCH(features="chroma"), NWTW(), JumpDTW(), DeepCTW(slow=10.0)],
    ids=lambda m: f"{type(m).__name__}-{m.features}",
)
def test_sound_against_its_own_score(method):
    said = method.align((sonify(scale(), 16000), 16000), scale())
    t = np.arange(0.5, 7.5, 0.5)  # onsets: inside a held note any path is as good
    assert np.median(np.abs(said.at(t) - t)) < 0.06


def test_a_slower_performance():
    slow = scale()
    for k in "onset_s", "offset_s":
        slow[k] *= 1.3
    said = DTW().align((sonify(slow, 16000), 16000), scale())
    t = np.arange(0.5, 7.5, 0.5) * 1.3
    assert np.median(np.abs(said.at(t) - t / 1.3)) < 0.06


@pytest.mark.parametrize(
    "recording, score, words",
    [
        (np.full((5, 12), np.nan), scale(), "NaN"),
        (np.zeros((0, 12)), scale(), "at least one frame"),
        (np.zeros((5, 11)), scale(), "11 features"),
        (np.zeros((5, 12)), scale()[:0], "no notes"),
        (np.zeros((5, 12)), np.zeros(12), "features"),
        ((np.full(8000, np.nan), 16000), scale(), "NaN"),
    ],
)
def test_bad_input(recording, score, words):
    with pytest.raises(UserError, match=words):
        DTW().align(recording, score)


def test_weights_that_are_none_or_others(tmp_path):
    x = np.zeros((9, 88), np.float32)
    with pytest.raises(UserError, match="no weights"):
        SiameseDTW(tmp_path / "none.safetensors").align(x, x)
    file = save_weights(tmp_path / "d.safetensors", Dilated(), DilatedConfig())
    with pytest.raises(UserError, match="no Siamese"):
        SiameseDTW(file).align(x, x)
    assert isinstance(load_net(Dilated, DilatedConfig, str(file)), Dilated)
    with pytest.raises(UserError, match="no SASAAligner"):
        SASAMethod(file).align(x[:, :12], x[:, :12])


def test_a_saved_network_says_the_same(tmp_path):
    torch.manual_seed(1)
    net = Siamese().eval()
    file = save_weights(tmp_path / "s.safetensors", net, SiameseConfig())
    rng = np.random.default_rng(0)
    a, b = (rng.random((n, 88)).astype(np.float32) for n in (40, 50))
    one, other = SiameseDTW(net).align(a, b), SiameseDTW(file).align(a, b)
    assert np.array_equal(one.score_s, other.score_s)


def test_peers_fail_in_one_line():
    sound = sonify(scale(2), 16000), 16000
    for peer, words in (
        (Peer("parangonar"), "no Python at"),
        (Peer("parangonar", sys.executable), "parangonar failed under"),
        (Peer("parangonar", sys.executable, timeout_s=0.001), "no answer within 0.001 s"),
        (Peer("abc"), "unknown program"),
    ):
        with pytest.raises(UserError, match=words) as e:
            peer.align(sound, scale())
        assert "\n" not in str(e.value)
    with pytest.raises(UserError, match="needs the sound"):
        Peer("synctoolbox", sys.executable).align(np.zeros((5, 12)), scale())


def test_maps_of_spans():
    said = spans_to_map([0, 1, 1, 90], [0, 1, 60, 90], 0.1, 0.1)
    assert np.allclose(said.jumps(), [[0.25, 0.15, 6.05], [0.3, 6.05, 9.05]])
    assert points_to_map([1.0], [2.0]).at([1.0]) == 2
    with pytest.raises(UserError):
        points_to_map([1.0, 2.0], [1.0])


def test_borders():
    straight = TimeMap(np.array([0.0, 10]), np.array([0.0, 20]))
    assert oracle_borders(carry(straight, [(0, 6), (2, 10)])) == (4.0, 12.0) and oracle_borders(straight) == ()
    leave, enter = border_frames((-5, 3.0, 999), 10, 0.5)
    assert np.flatnonzero(leave).tolist() == [5, 9] and np.flatnonzero(enter).tolist() == [0, 6]
    with pytest.raises(UserError):
        border_frames((float("nan"),), 10, 0.5)


def test_bar_lines_follow_signature_and_tempo():
    import io

    import mido

    midi = mido.MidiFile(ticks_per_beat=100)
    track = mido.MidiTrack(
        [
            mido.MetaMessage("time_signature", numerator=3, denominator=4),
            mido.MetaMessage("set_tempo", tempo=1_000_000),
            mido.Message("note_on", note=60, velocity=64),
            mido.MetaMessage("set_tempo", tempo=500_000, time=600),
            mido.MetaMessage("time_signature", numerator=6, denominator=8),
            mido.Message("note_off", note=60, time=600),
        ]
    )
    midi.tracks.append(track)
    midi.save(file=(out := io.BytesIO()))
    assert bar_lines(out.getvalue()).tolist() == [0, 3, 6, 7.5] and bar_lines(out.getvalue(), beats=True)[
        :4
    ].tolist() == [0, 1, 2, 3]
    assert bar_lines(midi_bytes(scale())).tolist() == [0, 2, 4, 6]


def test_signs_of_musicxml():
    from xml.etree import ElementTree

    note = lambda d, chord="": f"<note>{chord}<duration>{d}</duration></note>"
    measure = (
        "<measure><attributes><divisions>4</divisions></attributes>"
        + note(8)
        + note(8)
        + note(8, "<chord/>")
        + "<backup><duration>16</duration></backup>"
        + note(4)
        + "{}</measure>"
    )
    assert bar_length(ElementTree.fromstring(measure.format("")), 4) == 4
    xml = (
        "<score-partwise><part>"
        + "".join(
            measure.format(x)
            for x in (
                "",
                '<sound segno="s"/>',
                '<barline location="right"><bar-style>light-light</bar-style></barline>',
                '<barline location="left"><ending number="1"/></barline>',
                '<direction><sound dacapo="yes"/></direction>',
            )
        )
        + "</part></score-partwise>"
    )
    assert sign_borders(xml).tolist() == [4, 12, 20]
    with pytest.raises(UserError, match="part"):
        sign_borders("<score-partwise/>")


def test_corners():
    truth = carry(TimeMap(np.array([0.0, 100]), np.array([0.0, 100])), [(0, 60), (20, 100)])
    maps = corner_maps(truth, Axes(64, 140.0, 100.0), 32)
    assert [tuple(p[:2]) for m in maps for p in peaks(m)] == [(13, 13), (13, 4)]
    straight = corner_maps(TimeMap(np.array([0.0, 100]), np.array([0.0, 100])), Axes(64, 140.0, 100.0), 32)
    assert not straight.any()


def test_contrast():
    torch.manual_seed(0)
    a = torch.nn.functional.normalize(torch.randn(2, 40, 8), dim=-1)
    c = SiameseConfig()
    assert contrastive_loss(a, a, c) < contrastive_loss(a, a.flip(1), c) and contrastive_loss(a, -a, c) > 3.9
    batch = siamese_batches([(score_keys(scale()), scale())], 2, 3, 64)(5)
    again = siamese_batches([(score_keys(scale()), scale())], 2, 3, 64)(5)
    assert all(torch.equal(batch[k], again[k]) for k in batch) and batch["index"].max() < 128
    said = batch["score"].gather(1, batch["index"][..., None].expand(-1, -1, 88))
    near = torch.nn.functional.cosine_similarity(said, batch["recording"], dim=-1)
    assert near.median() > 0.9


def test_canonical_variates_do_not_care_for_linear_maps():
    torch.manual_seed(0)
    x, y = torch.randn(300, 4), torch.randn(300, 3)
    strength = lambda u, v: torch.linalg.svdvals(correlation(u, v, 1e-7)[0])
    assert torch.allclose(strength(x, y), strength(x @ torch.randn(4, 4) + 3, y), atol=1e-3)
    to_x, _ = canonical(x, y, 2)
    z = to_x(x)
    assert z.shape == (300, 2) and abs(float((z[:, 0] * z[:, 1]).mean())) < 1e-3


def test_learning_for_one_pair_leaves_the_random_numbers_alone():
    rng = np.random.default_rng(0)
    a, b = rng.random((80, 12)).astype(np.float32), rng.random((90, 12)).astype(np.float32)
    torch.manual_seed(3)
    before = torch.rand(1)
    torch.manual_seed(3)
    one, other = DeepCTW(rounds=1, steps=3).align(a, b), DeepCTW(rounds=1, steps=3).align(a, b)
    assert torch.equal(torch.rand(1), before) and np.array_equal(one.score_s, other.score_s)


def test_memory_is_half_a_byte_a_cell():
    a = np.random.default_rng(0).random((4000, 12)).astype(np.float32)
    warp(a[:9], a[:9])
    tracemalloc.start()
    warp(a, a)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * 4000 * 4000 + 12e6


def test_keys_of_sound_and_score_look_alike():
    heard, written = audio_keys(sonify(scale(), 16000), 16000), score_keys(scale())
    n = min(len(heard), len(written))
    mean = np.corrcoef(heard[:n].ravel(), written[:n].ravel())[0, 1]
    assert mean > 0.5 and aligners.FEATURES.keys() == {"chroma", "keys", "match"}
