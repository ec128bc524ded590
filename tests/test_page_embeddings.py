"""Page embeddings: bands and windows, strips and snippets, the CCA layer and its gradient, ranks; each beside another way."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from amt_nb.sheet.page_embeddings import (
    BANDS,
    FRAMES,
    RATE,
    SR,
    STEPS,
    WINDOW,
    EmbeddingConfig,
    Piece,
    Polar,
    TwoTowers,
    cca_layer,
    chance,
    codes_of,
    embedding_loss,
    excerpt,
    filterbank,
    head_maps,
    note_maps,
    pair,
    pair_batches,
    pair_codes,
    pitch_steps,
    ranking_loss,
    ranks,
    refit,
    retrieval,
    snippet,
    sound_codes,
    spectrogram,
    step_similarity,
    strip_codes,
    system_strip,
    unroll,
)
from amt_nb.notes import as_notes
from amt_nb.transcription.training import TrainConfig, Turn, fit
from amt_nb.workshop.pages import BAR, HEAD, SIGN, STAFF, PageLayout, empty_page, page_table
from amt_nb.workshop.settings import UserError, fill
from amt_nb.workshop.weights import load_parts, save_weights

SMALL = EmbeddingConfig(widths=(4, 4, 4, 4), dimensions=6, batch=12)


# ---------------------------------------------------------------- the ear


def test_band_edges_lie_on_the_nearest_frequencies():
    """Each corner again, one by one, in a loop over the notes of a scale of 16 an octave."""
    corners, k = [], -80
    while (hz := 440 * 2 ** (k / 16)) <= 6000:
        bin_hz = SR / WINDOW
        nearest = min(range(WINDOW // 2), key=lambda b: abs(b * bin_hz - hz))
        if hz >= 30 and nearest not in corners:
            corners.append(nearest)
        k += 1
    bank = filterbank()
    assert len(corners) - 2 == len(bank) == BANDS == 92
    for row, (low, middle, high) in zip(bank, zip(corners, corners[1:], corners[2:])):
        assert np.flatnonzero(row).tolist() == list(range(low + 1, high)) and row.argmax() == middle
        for b in range(low, high + 1):
            height = (b - low) / (middle - low) if b <= middle else (high - b) / (high - middle)
            assert abs(row[b] / row[middle] - height) < 1e-5
    assert np.allclose(bank.sum(1), 1, atol=1e-6)


def test_the_bands_of_henkel_have_corners_of_their_own():
    assert len(filterbank(12, 60, 6000)) == 70  # 72 different corners; 78 where those that fall together are kept


def test_a_window_begins_at_its_time():
    wave = np.zeros(2 * SR, np.float32)
    wave[SR] = 0.5  # a click at 1 s
    loud = np.flatnonzero(spectrogram(wave, SR).max(1) > 1e-4)
    assert loud.tolist() == [n for n in range(40) if n / RATE < 1 < n / RATE + WINDOW / SR]


@pytest.mark.parametrize("sr", [8000, 16000, 22050, 44100])
def test_a_tone_has_its_band_at_any_rate(sr):
    wave = 0.3 * np.sin(2 * np.pi * 1000 * np.arange(sr) / sr)
    found = spectrogram(wave, sr)
    peaks_hz = filterbank().argmax(1) * SR / WINDOW
    assert found.shape == (20, 92) and abs(peaks_hz[found[10].argmax()] - 1000) < 30
    assert np.allclose(found[4:12], spectrogram(0.1 * wave, sr)[4:12], atol=1e-4)  # the level does not matter


def test_silence_and_almost_nothing():
    assert not spectrogram(np.zeros(1000, np.float32), 16000).any()
    assert spectrogram(np.full(10, 0.1, np.float32), 16000).shape == (1, 92)


def test_blocks_of_windows_are_seamless():
    rng = np.random.default_rng(0)
    wave = rng.uniform(-0.5, 0.5, 30 * SR).astype(np.float32)
    whole = spectrogram(wave, SR)
    window = wave[round(515 * SR / RATE) :][:WINDOW] / np.abs(wave).max() * np.hanning(WINDOW + 1)[:-1]
    assert np.allclose(whole[515], np.log10(1 + filterbank() @ np.abs(np.fft.rfft(window))[:-1]), atol=1e-5)


def test_excerpts_end_in_silence():
    spectrum = np.ones((50, BANDS), np.float32)
    assert excerpt(spectrum, 0)[:21].sum() == 0 and excerpt(spectrum, 0)[21:].all()
    assert excerpt(spectrum, 2.45).shape == (FRAMES, BANDS) and excerpt(spectrum, 2.45).sum() == 22 * BANDS
    assert not excerpt(spectrum, 60).any() and not excerpt(spectrum, -60).any()


# ---------------------------------------------------------------- the eye


def page_of(width=900, space=10, slope=0.0, systems=2):
    """(image, PageLayout) of systems of two staves, with a dot of ink at a head on each staff's middle line."""
    image, staves, heads = np.full((260 * systems, width), 255, np.uint8), [], []
    for s in range(systems):
        for k in range(2):
            top = 40 + 250 * s + 10 * space * k
            staves.append((s, k, 50, width - 50, top, top + 4 * space, slope))
            x = 200 + 100 * k
            y = top + 2 * space + slope * (x - width / 2)
            image[round(y) - 4 : round(y) + 5, x - 5 : x + 6] = 0
            heads.append((s, k, x, y, 34 - 12 * k, 0, 0, True, False))
    tables = page_table(STAFF, staves), page_table(BAR), page_table(HEAD, heads), page_table(SIGN)
    return image, PageLayout(width, len(image), *tables)


@pytest.mark.parametrize("space", [6, 7, 10, 12])
@pytest.mark.parametrize("slope", [-0.02, 0, 0.02])
def test_heads_keep_their_place_at_any_size_and_tilt(space, slope):
    image, page = page_of(space=space, slope=slope)
    piece = unroll([image, image], [page, page])
    assert piece.ink.shape[0] == 160 and len(piece.systems) == 4 and piece.ink.dtype == np.uint8
    for p in (0, 1):
        for head in page.heads:
            column = piece.column(p, head["system"], head["x"])
            row = 79.5 + (-35 if head["staff"] == 0 else 35)  # staves ten spaces apart: their middle lines 70 pixels
            near = piece.ink[round(row) - 1 : round(row) + 2, round(column) - 1 : round(column) + 2]
            assert near.min() > 180, (p, head)


def test_an_unrolled_score_is_as_long_as_its_systems():
    image, page = page_of()
    piece = unroll([image], [page])
    assert piece.ink.shape[1] == 2 * round(800 * 0.7)
    assert piece.column(0, 1, 50) == 560 and piece.column(0, 0, [50, 150]).tolist() == [0, 70]
    ink, x0, scale = system_strip(image, page, 1)
    assert np.array_equal(ink, piece.ink[:, 560:]) and (x0, scale) == (50, 0.7)


def test_pages_without_music_are_passed_over_and_refused_alone():
    image, page = page_of()
    blank = np.full((10, 10), 255, np.uint8)
    assert unroll([blank, image], [empty_page(10, 10), page]).systems[:, 0].tolist() == [1, 1]
    with pytest.raises(UserError, match="no staff"):
        unroll([blank], [empty_page(10, 10)])
    with pytest.raises(UserError, match="page 2 has no system 3"):
        unroll([image], [page]).column(1, 2, 0.0)


def test_a_snippet_is_halved_ink():
    ink = np.random.default_rng(0).integers(0, 256, (160, 500)).astype(np.uint8)
    found = snippet(ink, 249.5)
    assert np.allclose(found[10, 20], ink[20:22, 190:192].mean() / 255) and found.dtype == np.float32
    assert not snippet(ink, -150).any() and snippet(ink, 249.5, 1.05, 5).shape == (80, 100)


# ---------------------------------------------------------------- CCA


def by_eigenvectors(x, y, ridge):
    """Cosines (N, N) of canonical variates, by symmetric roots and the eigenvectors of T Tᵀ, as the papers write it."""
    x, y = x - x.mean(0), y - y.mean(0)
    root = lambda s: (lambda w, v: v @ np.diag(w**-0.5) @ v.T)(*np.linalg.eigh(s + ridge * np.eye(len(s))))
    a, b = (root(z.T @ z / (len(z) - 1)) for z in (x, y))
    t = a @ (x.T @ y / (len(x) - 1)) @ b
    w, u = np.linalg.eigh(t @ t.T)
    v = t.T @ u / np.sqrt(w)
    x, y = x @ a @ u, y @ b @ v
    unit = lambda z: z / np.linalg.norm(z, axis=1, keepdims=True)
    return unit(x) @ unit(y).T


@pytest.mark.parametrize("ridge", [1e-6, 1e-3, 0.1])
def test_cosines_are_those_of_the_canonical_variates(ridge):
    rng = np.random.default_rng(1)
    common = rng.normal(size=(100, 8))
    x, y = common @ rng.normal(size=(8, 8)) + rng.normal(size=(100, 8)), common + 3 * rng.normal(size=(100, 8)) - 5
    a, b = (F.normalize(z, dim=1).numpy() for z in cca_layer(torch.from_numpy(x), torch.from_numpy(y), ridge))
    assert np.abs(a @ b.T - by_eigenvectors(x, y, ridge)).max() < 1e-8


def test_linear_maps_of_a_view_change_nothing():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(50, 5, generator=g).double(), torch.randn(50, 5, generator=g).double()
    m = torch.randn(5, 5, generator=g).double()
    cosines = lambda p, q: F.normalize(p, dim=1) @ F.normalize(q, dim=1).T
    plain, mixed = cosines(*cca_layer(x, y, 1e-12)), cosines(*cca_layer(x @ m + 3, y, 1e-12))
    assert (plain - mixed).abs().max() < 1e-6


def test_gradient_through_layer_and_loss():
    g = torch.Generator().manual_seed(0)
    x, y = (torch.randn(9, 3, generator=g, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda p, q: ranking_loss(*cca_layer(p, q), 0.7), (x, y))


def test_equal_correlations_have_a_gradient():
    """At K = 1 all correlations are equal: the singular vectors' own gradient is not finite there."""
    matrix = torch.eye(3, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (Polar.apply(matrix) * weights).sum().backward()
    assert torch.allclose(matrix.grad, (weights - weights.T) / 2)


def test_the_polar_factor_is_the_nearest_orthogonal_matrix():
    g = torch.Generator().manual_seed(2)
    matrix = torch.randn(4, 4, generator=g)
    q = Polar.apply(matrix)
    assert (q @ q.T - torch.eye(4)).abs().max() < 1e-5
    others = (torch.linalg.qr(torch.randn(4, 4, generator=g))[0] for _ in range(200))
    assert all((matrix - q).norm() <= (matrix - o).norm() + 1e-5 for o in others)


# ---------------------------------------------------------------- loss and ranks


def test_ranking_loss_is_its_double_sum():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(7, 4, generator=g), torch.randn(7, 4, generator=g)
    s = lambda a, b: float(a @ b / a.norm() / b.norm())
    terms = [max(0, 0.7 - s(x[i], y[i]) + s(x[i], y[j])) for i in range(7) for j in range(7) if i != j]
    assert abs(float(ranking_loss(x, y, 0.7)) - np.mean(terms)) < 1e-6


def test_ranking_loss_falls_along_its_gradient():
    x = torch.randn(10, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    y = torch.randn(10, 4, generator=torch.Generator().manual_seed(1))
    loss = ranking_loss(x, y)
    loss.backward()
    assert ranking_loss(x - 0.5 * x.grad, y) < loss


def test_ranks_by_hand():
    s = np.array([[5, 1, 2, 3], [9, 5, 9, 9], [0, 0, 0, 0], [1, 2, 3, 4.0]])
    assert ranks(s).tolist() == [1, 4, 4, 1]  # ties count against us
    assert retrieval(np.array([1, 1, 2, 6, 30]), 40) == {
        "recall_1": 0.4,
        "recall_5": 0.6,
        "recall_25": 0.8,
        "mrr": pytest.approx((1 + 1 + 1 / 2 + 1 / 6 + 1 / 30) / 5),
        "median_rank": 2.0,
        "among": 40,
    }
    assert retrieval(ranks(np.eye(50)), 50)["recall_1"] == 1 and ranks(np.zeros((9, 9))).tolist() == [9] * 9


def test_chance_is_what_random_similarities_reach():
    rng = np.random.default_rng(0)
    found = np.concatenate([ranks(rng.uniform(size=(100, 100))) for _ in range(400)])
    for name, value in retrieval(found, 100).items():
        assert value == pytest.approx(chance(100)[name], rel=0.15), name


# ---------------------------------------------------------------- towers and training


def pieces(n=2, moments=20):
    rng = np.random.default_rng(0)
    made = []
    for _ in range(n):
        ink = rng.integers(0, 256, (160, 900)).astype(np.uint8)
        spectrum = rng.uniform(0, 1, (400, BANDS)).astype(np.float32)
        made.append(Piece(ink, np.linspace(50, 850, moments), spectrum, np.linspace(1, 19, moments)))
    return made


def test_parameter_counts():
    by_hand = lambda w, d: (
        sum(9 * a * b + 2 * b for a, b in zip((1, *np.repeat(w, 2)[:-1]), np.repeat(w, 2))) + w[-1] * d + 2 * d
    )
    for size in ("demo", "gpu", "paper"):
        config = fill(EmbeddingConfig, size, "embedding")
        count = sum(p.numel() for p in TwoTowers(config).parameters())
        assert count == 2 * by_hand(config.widths, config.dimensions)
    assert count == 662_000


def test_batches_are_functions_of_their_number_and_hold_each_moment_once():
    config = EmbeddingConfig(widths=(2, 2, 2, 2), batch=40)
    make = pair_batches(pieces(), config, seed=3, augment=False)
    batch = make(5)
    assert torch.equal(batch["audio"], pair_batches(pieces(), config, 3, False)(5)["audio"])
    assert not torch.equal(batch["audio"], make(6)["audio"])
    assert len({tuple(row.flatten()[:99].tolist()) for row in batch["sheet"]}) == 40
    with pytest.raises(UserError, match="40 pairs are fewer than a batch of 41"):
        pair_batches(pieces(), EmbeddingConfig(batch=41))


def test_augmentation_stays_within_its_bounds():
    piece, rng = pieces(1)[0], np.random.default_rng(0)
    still = EmbeddingConfig(shift_px=0, scale=0, shift_frames=0)
    plain = pair(piece, 4)
    assert all(np.array_equal(a, b) for a, b in zip(plain, pair(piece, 4, rng, still)))
    moved = [pair(piece, 4, rng)[1] for _ in range(30)]
    assert {tuple(m[20]) for m in moved} == {tuple(plain[1][k]) for k in (19, 20, 21)}


def test_refit_gives_the_cosines_of_the_layer():
    torch.manual_seed(0)
    net, batch = TwoTowers(SMALL).eval(), pair_batches(pieces(), SMALL)(0)
    refit(net, [batch])
    with torch.inference_mode():
        x, y = net(batch["sheet"], batch["audio"])
        a, b = (F.normalize(z, dim=1) for z in cca_layer(x.double(), y.double(), SMALL.ridge))
        codes = [net.codes(side, batch[side]) for side in ("sheet", "audio")]
    assert (codes[0] @ codes[1].T - (a @ b.T)).abs().max() < 1e-4
    few = {k: v[:6] for k, v in batch.items()}
    with pytest.raises(UserError, match="6 dimensions needs more than 6 pairs"):
        refit(net, [few])


@pytest.mark.parametrize("layer", ["cca", "none"])
def test_training_lowers_the_loss_and_moves_every_weight(layer):
    torch.manual_seed(0)
    config = EmbeddingConfig(widths=(4, 4, 4, 4), dimensions=6, batch=12, layer=layer)
    net = TwoTowers(config)
    before = {k: v.clone() for k, v in net.named_parameters()}
    train = TrainConfig(
        steps=12, learning_rate=5e-3, warmup_steps=1, accelerator="cpu", prefetch=0, ema_start=1, ema=0.5
    )
    history = fit({"net": net}, [Turn("pairs", ("net",), embedding_loss)], pair_batches(pieces(), config), train)
    assert all(not torch.equal(before[k], v) for k, v in net.named_parameters())
    assert np.isfinite(history.curve("pairs.total")[1]).all()


def test_weights_travel_with_their_projection(tmp_path):
    torch.manual_seed(0)
    net, there = TwoTowers(SMALL), TwoTowers(SMALL)
    refit(net, [pair_batches(pieces(), SMALL)(n) for n in range(2)])
    save_weights(tmp_path / "towers.safetensors", net, SMALL)
    load_parts({"": there}, tmp_path / "towers.safetensors")
    some, rows = pieces(), [(0, 1), (1, 7)]
    for a, b in zip(pair_codes(net, some, rows), pair_codes(there, some, rows)):
        assert np.array_equal(a, b) and np.allclose(np.linalg.norm(a, axis=1), 1, atol=1e-5)


def test_codes_of_whole_pieces_are_those_of_their_parts():
    torch.manual_seed(0)
    net, piece = TwoTowers(SMALL), pieces(1)[0]
    sheet, sound = strip_codes(net, piece.ink), sound_codes(net, piece.spectrum)
    assert sheet.shape == (90, 6) and sound.shape == (200, 6)
    assert np.allclose(sheet[33], codes_of(net, "sheet", [snippet(piece.ink, 330)])[0], atol=1e-5)
    assert np.allclose(sound[70], codes_of(net, "audio", [excerpt(piece.spectrum, 7.0)])[0], atol=1e-5)


# ---------------------------------------------------------------- steps against steps


def test_steps_of_all_keys():
    steps = pitch_steps(np.arange(21, 109))
    assert steps.shape == (88, STEPS) and np.allclose(steps.sum(1), 1)
    white = [p for p in range(21, 109) if p % 12 in (0, 2, 4, 5, 7, 9, 11)]
    assert pitch_steps(white).argmax(1).tolist() == list(range(5, 57))


def test_the_tempo_is_found_and_the_tune_told_from_another():
    rng = np.random.default_rng(0)
    steps = 28 + rng.integers(0, 14, (5, 40))
    semitones = np.array([0, 2, 4, 5, 7, 9, 11])
    columns = 25.0 * np.arange(40)
    heads = np.stack([head_maps(columns, s, 500.0) for s in steps])
    for seconds in (0.15, 0.3, 0.5):  # a note
        tunes = [
            as_notes(seconds * np.arange(40), seconds * np.arange(1, 41), 12 * (s // 7 + 1) + semitones[s % 7])
            for s in steps
        ]
        sounds = np.stack([note_maps(n, 20 * seconds) for n in tunes])
        assert ranks(step_similarity(heads, sounds)).tolist() == [1] * 5


def test_nothing_is_like_nothing():
    empty = as_notes([], [], [])
    maps = head_maps(np.zeros(0), np.zeros(0, int), 0.0), note_maps(empty, 1.0)
    assert not maps[0].any() and not maps[1].any() and maps[0].shape == maps[1].shape == (5, 1260)
