"""The conditioned U-Net: bands, targets, parts of pages, the memory of the sound, and names of published weights; each beside another way."""

import numpy as np
import pytest
import torch

from amt_nb.sheet.conditioned_unet import (
    BANDS,
    MASK,
    PLACE,
    THEIRS,
    ConditionedUNet,
    FilmConfig,
    PagePiece,
    chords_of,
    dice_loss,
    draw_masks,
    drawn_moments,
    film_loss,
    hear_all,
    mask_batches,
    mask_place,
    octave_bands,
    page_given_places,
    page_part,
    place_at,
    published_name,
    published_net,
    sequence,
    small_page,
    sound_bands,
    target_mask,
)
from amt_nb.sheet.page_embeddings import RATE, SR, WINDOW, filterbank
from amt_nb.transcription.training import TrainConfig, Turn, fit
from amt_nb.workshop.settings import UserError, fill

TINY = FilmConfig(filters=2, audio_widths=(2, 2, 2, 2), code=4, memory=5, sequence=3, rows=32, columns=48, batch=4)


def piece(seed=0, pages=2):
    rng = np.random.default_rng(seed)
    images = [(rng.random((70, 90)) < 0.1).astype(np.uint8) * 255 for _ in range(pages)]
    rows = [(p, x, y, y + 15) for p in range(pages) for y in (10, 40) for x in range(15, 85, 10)]
    onsets = 0.5 + 0.4 * np.arange(len(rows))
    heard = int(onsets[-1] * RATE) + 40
    return PagePiece(images, np.array(rows, PLACE), rng.random((heard, BANDS)).astype(np.float32), onsets)


def test_bands_are_those_of_the_towers_where_none_fall_together():
    """Where corners are different, both banks have the same triangles."""
    ours, theirs = octave_bands(12, 60, 6000), filterbank(12, 60, 6000)
    apart = [band for band in ours if any(np.allclose(band, other, atol=1e-6) for other in theirs)]
    assert len(ours) == 78 and len(theirs) == 70 and len(apart) >= 60
    bins = np.rint(440 * 2 ** (np.arange(-34, 46) / 12) * WINDOW / SR).astype(int)
    for band, low, high in zip(ours, bins, bins[2:]):
        inside = np.flatnonzero(band)
        assert inside.min() >= low and inside.max() < max(high, low + 1)


@pytest.mark.parametrize("sr", [16000, 22050, 44100])
def test_the_middle_of_a_window_is_at_its_time(sr):
    wave = np.zeros(2 * sr, np.float32)
    wave[sr] = 0.5
    assert sound_bands(wave, sr).shape == (40, 78) and sound_bands(wave, sr).sum(1).argmax() == 20


def test_a_page_of_any_size_has_the_same_staff_space():
    for space in (7.0, 9.0, 21.0):
        page = np.full((round(60 * space), round(40 * space)), 255, np.uint8)
        for line in range(40):
            page[round(line * space) : round(line * space) + max(1, round(space / 5))] = 0
        small, scale = small_page(page, space)
        assert abs(scale * space - 7 / 3) < 1e-9 and abs(small.shape[0] - 140) <= 1
        assert abs(small[:80].mean() - 255 / 5) < 15  # a fifth is ink
    with pytest.raises(UserError, match="no staff"):
        small_page(page, 0.0)


def test_targets_and_parts_move_together():
    rng, one = np.random.default_rng(1), piece()
    for _ in range(100):
        made = sequence(one, rng, TINY)
        mask = made["mask"][0]
        assert made["page"].shape == (1, 32, 48) and made["spectrum"].shape == (42, 78) and mask.shape == (32, 48)
        if mask.any():
            rows, columns = mask.any(1), mask.any(0)
            assert columns.sum() <= MASK and rows.sum() <= 15 and mask.sum() == rows.sum() * columns.sum()
    inside = [sequence(one, rng, FilmConfig(rows=32, columns=48, elsewhere=0.0))["mask"].sum() for _ in range(50)]
    assert min(inside) > 0


def test_the_target_is_the_chord_that_sounds_and_the_sound_ends_with_it():
    one = piece(pages=1)
    images = [np.zeros((70, 90), np.uint8)]
    one = PagePiece(
        images, one.places, np.zeros_like(one.spectrum) + np.arange(len(one.spectrum))[:, None] / 1000, one.onsets_s
    )
    whole = FilmConfig(sequence=3, drawn=3, rows=400, columns=500, elsewhere=0.0)
    for n in range(20):
        made = sequence(one, np.random.default_rng(n), whole)
        last = round(float(made["spectrum"][-1, 0]) * 1000)
        true = place_at(one, [(last - 2) / RATE, (last - 1) / RATE, last / RATE])
        shift = np.array([np.argwhere(m).mean(0) for m in made["mask"]]) - np.stack(
            [(true["y0"] + true["y1"]) / 2, true["x"]], 1
        )
        assert np.allclose(shift, shift[0])  # the part's corner, the same for all three


def test_a_part_has_paper_beyond_the_page():
    page = np.full((3, 4), 255, np.uint8)
    for top, left in ((-2, -2), (1, 2), (-5, 0), (3, 0), (0, 9), (0, -9)):
        padded = np.pad(page, 20)[20 + top : 25 + top, 20 + left : 26 + left] / 255
        assert (page_part(page, top, left, 5, 6) == padded).all()


def test_chords_are_medians():
    places = np.array([(0, 10, 5, 20), (0, 12, 5, 20), (0, 14, 5, 20), (1, 30, 5, 20)], PLACE)
    chords, onsets = chords_of(places, [1.0, 1.0, 1.0, 0.5], [2.0, 2.1, 2.05, 1.0])
    assert chords["x"].tolist() == [30, 12] and onsets.tolist() == [1.0, 2.05] and chords["page"].tolist() == [1, 0]


def test_dice_is_the_formula():
    rng = np.random.default_rng(0)
    logits, target = rng.normal(size=(3, 5, 6)), (rng.random((3, 5, 6)) < 0.3).astype(float)
    p = 1 / (1 + np.exp(-logits))
    expected = 1 - 2 * (p * target).sum() / ((p**2).sum() + (target**2).sum())
    assert abs(dice_loss(torch.from_numpy(logits), torch.from_numpy(target)).item() - expected) < 1e-9
    nothing = dice_loss(torch.full((2, 3), -50.0), torch.zeros(2, 3))
    assert torch.isfinite(nothing)


def test_a_batch_is_a_function_of_its_number():
    some = [piece(0), piece(1)]
    a, b, other = mask_batches(some, TINY, 3)(5), mask_batches(some, TINY, 3)(5), mask_batches(some, TINY, 3)(6)
    assert all(torch.equal(a[k], b[k]) for k in a) and not torch.equal(a["mask"], other["mask"])
    assert drawn_moments(FilmConfig(sequence=5, drawn=5)).tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(UserError, match="no pieces"):
        mask_batches([], TINY)


def test_the_sound_is_heard_once_and_in_order():
    """What a moment's vector holds does not hang on what comes later, and does on what came long before."""
    torch.manual_seed(0)
    net, sound = ConditionedUNet(TINY), piece().spectrum[:150]
    whole = hear_all(net, sound)
    assert whole.shape == (150, 5) and torch.allclose(whole[:90], hear_all(net, sound[:90]), atol=1e-6)
    changed = sound.copy()
    changed[:20] += 1
    assert not torch.equal(hear_all(net, changed)[70], whole[70])  # further back than 40 windows: the LSTM
    padded = torch.from_numpy(np.concatenate([np.zeros((39, BANDS), np.float32), sound]))[None]
    assert torch.allclose(net.hear(padded)[0], whole, atol=1e-5)


def test_places_are_those_of_masks_on_the_page_that_is_given():
    torch.manual_seed(1)
    net, one = ConditionedUNet(TINY), piece()
    at_s, page = np.array([0.6, 3.0, 1.2]), np.array([0, 1, 1])
    rows, columns = page_given_places(net, one.spectrum, one.pages, page, at_s)
    vectors = hear_all(net, one.spectrum)
    for k, (s, p) in enumerate(zip(at_s, page)):
        (mask,) = draw_masks(net, one.pages[p], vectors[[int(s * RATE + 1e-6)]])
        assert np.allclose(mask_place(mask), (rows[k], columns[k]), atol=1e-3)
    assert mask_place(np.zeros((4, 4))) == (0, 0)
    bright = target_mask((50, 60), np.array((0, 30.0, 10.0, 20.0), PLACE))
    assert mask_place(bright) == (14.5, 29.5)


def test_published_weights_have_exactly_our_shapes(tmp_path):
    net = ConditionedUNet(THEIRS)
    names = [published_name(name) for name in net.state_dict()]
    assert len(set(names)) == len(names) == 156
    assert {n.split(".")[0] for n in names} == {
        "perf_encoder",
        "rnn",
        "encoder",
        "bottleneck_block",
        "decoder",
        "conv_out",
    }
    state = {published_name(name): x for name, x in net.state_dict().items()}
    torch.save(state, tmp_path / "theirs.pt")
    assert published_net(tmp_path / "theirs.pt").config == THEIRS
    state.pop("conv_out.bias")
    torch.save(state, tmp_path / "less.pt")
    with pytest.raises(UserError, match="conv_out.bias is on one side only"):
        published_net(tmp_path / "less.pt")


@pytest.mark.parametrize("size", ["demo", "paper"])
def test_both_sizes_draw(size):
    config = fill(FilmConfig, size, "film")
    with torch.inference_mode():
        logits = ConditionedUNet(config)(torch.rand(1, 1, 96, 64), torch.rand(1, 41, 78), torch.tensor([0, 1]))
    assert logits.shape == (1, 2, 96, 64) and torch.isfinite(logits).all()


def test_a_few_steps_lower_the_loss():
    torch.manual_seed(0)
    net, config = (
        ConditionedUNet(TINY),
        TrainConfig(
            steps=12,
            learning_rate=1e-2,
            warmup_steps=1,
            ema=0.5,
            ema_start=1,
            record_every=1,
            accelerator="cpu",
            prefetch=0,
        ),
    )
    history = fit({"net": net}, [Turn("masks", ("net",), film_loss)], mask_batches([piece()], TINY), config)
    loss = history.curve("masks.total")[1]
    assert np.mean(loss[-3:]) < np.mean(loss[:3])
