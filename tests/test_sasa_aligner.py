"""The attention layer against the equation written another way; models, losses, examples."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from amt_nb.notes import as_notes
from amt_nb.workshop.midi import write_midi
from amt_nb.alignment.sasa_aligner import align_square, SASAAligner, aligner_loss, AlignerConfig
from amt_nb.alignment.structure import asap_pair
from amt_nb.alignment.structure import batches, example, ExampleConfig
from amt_nb.alignment.sasa_aligner import beat_errors, class_loss, evaluate_aligner
from amt_nb.alignment.sasa_aligner import beat_metrics, frame_loss, indices, load_aligner, model_config, MODELS
from amt_nb.alignment.sasa_aligner import parameter_table, path_loss, predict
from amt_nb.alignment.structure import read_asap_beats, toy_pair, augment_chroma
from amt_nb.alignment.sasa_layer import SASA
from amt_nb.workshop.sasa_kernels import attend, attend_back, attention_weights, local_attention
from amt_nb.workshop.settings import UserError
from amt_nb.alignment.similarity import score_chroma
from amt_nb.transcription.training import fit, TrainConfig, Turn
from amt_nb.workshop.weights import save_weights

torch.set_num_threads(1)
few = settings(max_examples=15, deadline=None)
SMALL = dict(cells=64, widths=(4, 4, 8, 16), hidden=32, reduced=2, extent=3)


def dense_attention(q, k, v, rows, columns):
    """[B, attention] as one softmax over all pixels of the map, those outside the neighbourhood masked: no shifts, no loops over offsets."""
    B, N, d, H, W = q.shape
    e, half = rows.shape[2], rows.shape[1]
    y, x = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    dy, dx = (t.flatten()[None] - t.flatten()[:, None] for t in (y, x))
    inside = (dy.abs() <= e // 2) & (dx.abs() <= e // 2)
    r = torch.cat([rows[:, :, (dy + e // 2).clamp(0, e - 1)], columns[:, :, (dx + e // 2).clamp(0, e - 1)]], 1)
    Q, K, V = (t.flatten(3) for t in (q, k, v))
    s = torch.einsum("bncp,bncm->bnpm", Q, K) + torch.einsum("bncp,ncpm->bnpm", Q, r)
    p = s.masked_fill(~inside, -torch.inf).softmax(-1)
    assert half + columns.shape[1] == d
    return torch.einsum("bnpm,bncm->bncp", p, V).reshape(B, N, d, H, W)


def tensors(seed, B=2, N=2, d=4, H=5, W=7, e=3):
    g = torch.Generator().manual_seed(seed)
    r = lambda *s: torch.randn(*s, generator=g, dtype=torch.double, requires_grad=True)
    return r(B, N, d, H, W), r(B, N, d, H, W), r(B, N, d, H, W), r(N, d - d // 2, e), r(N, d // 2, e)


@few
@given(
    st.integers(0, 10**6),
    st.integers(1, 6),
    st.integers(1, 6),
    st.sampled_from([1, 3, 5, 7]),
    st.sampled_from([2, 4, 5]),
)
def test_the_layer_is_the_equation_with_all_gradients(seed, H, W, e, d):
    x = tensors(seed, H=H, W=W, e=e, d=d)
    a, b = local_attention(*x), dense_attention(*x)
    assert (a - b).abs().max() < 1e-10
    g = torch.randn(a.shape, dtype=torch.double)
    right = torch.autograd.grad(b, x, g)
    for one, other in zip(torch.autograd.grad(a, x, g), right):
        assert (one - other).abs().max() < 1e-9
    single = [t.detach().float().requires_grad_() for t in x]  # the compiled loops
    c = local_attention(*single)
    assert (c - b).abs().max() < 1e-4
    for one, other in zip(torch.autograd.grad(c, single, g.float()), right):
        assert (one - other).abs().max() < 1e-3 * (1 + other.abs().max())


def test_loops_and_shifted_tensors_say_the_same():
    x = [t.detach().float().requires_grad_() for t in tensors(5, B=2, N=3, d=5, H=4, W=9, e=5)]
    with torch.no_grad():
        out, level = attend(*x)
    wanted = local_attention(*x)
    g = torch.randn(out.shape)
    assert (out - wanted).abs().max() < 1e-5
    with torch.no_grad():
        found = attend_back(g, *x, out, level)
    for one, other in zip(found, torch.autograd.grad(wanted, x, g)):
        assert (one - other).abs().max() < 1e-4


def test_half_precision_comes_in_and_goes_out():
    x = [t.detach().float() for t in tensors(6)]
    y = local_attention(*(t.bfloat16() for t in x[:3]), *x[3:])
    assert y.dtype == torch.bfloat16 and (y.float() - local_attention(*x)).abs().max() < 0.1


def test_single_precision_under_autocast():
    x = [t.detach().float() for t in tensors(5, B=2, N=3, d=6, H=8, W=9, e=5)]
    g = torch.randn(x[2].shape, generator=torch.Generator().manual_seed(0))

    def shifted():  # what a graphics card computes
        out, level = attend(*x)
        return [out, *attend_back(g, *x, out, level)]

    def loops():
        leaves = [t.clone().requires_grad_() for t in x]
        out = local_attention(*leaves)
        return [out, *torch.autograd.grad(out, leaves, g)]

    for what in (shifted, loops):
        exact = what()
        with torch.autocast("cpu", torch.bfloat16):
            rounded = what()
        for one, other in zip(rounded, exact, strict=True):
            assert one.dtype == torch.float32 and (one - other).abs().max() < 1e-5 * max(1, other.abs().max())


def test_two_threads_say_the_same():
    x = [t.detach().float() for t in tensors(7, B=3, N=4, H=9, W=9)]
    one = local_attention(*x)
    torch.set_num_threads(2)
    try:
        assert torch.equal(local_attention(*x), one)
    finally:
        torch.set_num_threads(1)


def test_gradients_by_finite_differences():
    assert torch.autograd.gradcheck(local_attention, tensors(1, B=1, H=3, W=4))


def test_weights_sum_to_one_and_borders_do_not_exist():
    x = tensors(2, H=4, W=4)
    w = attention_weights(x[0], x[1], *x[3:])
    assert (w.sum((2, 3)) - 1).abs().max() < 1e-12
    assert w[:, :, 0, :, 0].abs().max() == 0 and w[:, :, :, 2, :, 3].abs().max() == 0
    out = local_attention(x[0], x[1], torch.ones_like(x[2]), *x[3:])
    assert (out - 1).abs().max() < 1e-12, "zero padding inside the softmax would pull the corners below 1"


def test_large_logits_do_not_overflow():
    q, k, v, r, c = (t.detach().float() for t in tensors(3))
    out = local_attention(q * 1e3, k * 1e3, v, r, c)
    assert (
        torch.isfinite(out).all()
        and (out - dense_attention(q.double() * 1e3, k.double() * 1e3, v.double(), r.double(), c.double())).abs().max()
        < 1e-3
    )


def test_what_the_layer_keeps_does_not_grow_with_the_neighbourhood():
    held = []
    for e in (3, 9):
        layer, kept = SASA(16, e), []
        x = torch.randn(1, 16, 24, 24, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
            layer(x)
        held.append(sum(kept))
    assert held[1] - held[0] < 0.05 * held[0]


@pytest.mark.parametrize("name", MODELS)
def test_models_learn_and_say_indices(name):
    torch.manual_seed(0)
    config = model_config(name, "demo", **SMALL)
    net = SASAAligner(config)
    x = torch.rand(4, 1, 64, 64)
    y = torch.rand(4, 1) * 20 + torch.linspace(0, 40, 64)
    said = net(x)
    assert said.shape == ((4, 64, 64) if name.endswith("CE") else (4, 64)) and indices(said).shape == (4, 64)
    optimiser, first = torch.optim.Adam(net.parameters(), 3e-3), None
    for _ in range(25):
        loss = aligner_loss({"net": net}, {"square": x, "indices": y})["total"]
        first = first or loss.item()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.85 * first
    assert sum(parameter_table(net).values()) == sum(p.numel() for p in net.parameters())


def test_attention_has_fewer_parameters_than_the_convolution_it_replaces():
    ca, cd = (parameter_table(SASAAligner(model_config(n, "demo"))) for n in ("CA_custom", "CD_custom"))
    assert ca["blocks"] < cd["blocks"] and {k: v for k, v in ca.items() if k != "blocks"} == {
        k: v for k, v in cd.items() if k != "blocks"
    }


def test_sizes_of_the_paper():
    config = model_config("CA_custom", "paper")
    assert (config.cells, len(config.widths), config.layers, config.heads, config.dropout) == (2048, 4, 2, 4, 0.4)
    with torch.device("meta"):
        net = SASAAligner(config)
        assert net(torch.zeros(1, 1, 2048, 2048)).shape == (1, 2048)


def test_losses():
    y = torch.linspace(5, 55, 64)[None]
    assert abs(float(path_loss(y, y))) < 1e-6 and float(path_loss(y + 2, y)) > 0 == float(frame_loss(y, y))
    logits = torch.full((1, 64, 64), -50.0)
    low = y.floor().long()
    share = y - low
    logits.scatter_(2, low[..., None], (1 - share).clamp(1e-9).log()[..., None]).scatter_(
        2, low[..., None] + 1, share.clamp(1e-9).log()[..., None]
    )
    assert (indices(logits) - y).abs().max() < 1e-2
    entropy = -((1 - share) * (1 - share).clamp(1e-9).log() + share * share.clamp(1e-9).log()).mean()
    assert abs(float(class_loss(logits, y) - entropy)) < 1e-3
    assert torch.isfinite(class_loss(torch.zeros(1, 64, 64), y * 100 - 500))


@few
@given(st.integers(0, 10**6))
def test_examples_are_exact_and_pure(seed):
    pair, config = toy_pair(0), ExampleConfig(8, 16, 0.8)
    a, b = example(pair, 64, seed, config), example(pair, 64, seed, config)
    assert (a.square == b.square).all() and (a.indices == b.indices).all()
    assert np.isfinite(a.square).all() and -0.51 <= a.indices.min() and a.indices.max() <= a.axes.columns - 0.49
    assert (beat_errors(a, a.indices) < 1.2 * a.axes.row_s).all() or len(a.time_map.jumps())
    columns = np.clip(np.round(a.indices).astype(int), 0, a.axes.columns - 1)
    along = a.square[np.arange(64), columns].mean()
    assert along < a.square[:, : a.axes.columns].mean(), "the truth runs where the distances are small"


def test_figures_of_the_truth_and_of_a_delay():
    made = [example(toy_pair(i), 128, i, ExampleConfig(8, 16, 0.0)) for i in range(4)]
    right = beat_metrics([beat_errors(e, e.indices) for e in made])
    late = beat_metrics([beat_errors(e, e.indices + 0.15 / e.axes.column_s) for e in made])
    assert right["within_50"] > 0.95 and late["within_50"] < 0.2 and late["within_200"] > 0.8


def test_a_run_through_fit(tmp_path):
    config = model_config("CA_custom", "demo", **SMALL)
    net, make = SASAAligner(config), batches([toy_pair(i) for i in range(3)], 64, 2, 0, ExampleConfig(8, 16))
    assert torch.equal(make(3)["square"], make(3)["square"])
    history = fit(
        {"net": net},
        [Turn("path", ("net",), aligner_loss)],
        make,
        TrainConfig(steps=3, warmup_steps=1, record_every=1, prefetch=0),
    )
    assert history.step == 3
    made = [example(toy_pair(0), 64, 0, ExampleConfig(8, 16))] * 2
    errors = evaluate_aligner(history.models["net"], made)
    assert np.allclose(*errors, atol=1e-4) and len(errors[0]) == len(made[0].beats)
    t, s = align_square(history.models["net"], toy_pair(0).recording, toy_pair(0).score, 20.0)
    assert t.shape == s.shape == (64,) and predict(net, made[0].square).shape == (64,)


def test_annotations_become_pairs(tmp_path):
    notes = as_notes(np.arange(24) * 0.5, np.arange(24) * 0.5 + 0.4, 60 + np.arange(24) % 12)
    write_midi(notes, tmp_path / "a.mid")
    text = "".join(f"{0.5 * i}\t{0.5 * i}\t{'db' if i % 4 == 0 else 'b'}\n" for i in range(24))
    pair = asap_pair(tmp_path / "a.mid", tmp_path / "a.mid", text, text, id="a", work="a", group="x")
    assert np.abs(pair.time_map.at(pair.beats) - pair.beats).max() < 1e-9 and pair.recording.shape[1] == 12
    with pytest.raises(UserError, match="beats played"):
        asap_pair(tmp_path / "a.mid", tmp_path / "a.mid", text, text[:40], id="a", work="a", group="x")
    with pytest.raises(UserError, match="annotation"):
        read_asap_beats("x y z")


def test_augmented_chroma_is_still_chroma():
    x = score_chroma(as_notes(np.arange(20) * 0.5, np.arange(20) * 0.5 + 0.4, 60 + np.arange(20) % 12), 20)
    y = augment_chroma(x, 20, np.random.default_rng(0))
    assert y.shape == x.shape and np.abs(np.linalg.norm(y, axis=1) - 1).max() < 1e-5
    assert (y[5:-5:10].argmax(1) == x[5:-5:10].argmax(1)).mean() > 0.6


def test_weights_come_back(tmp_path):
    net = SASAAligner(model_config("CD_CE", "demo", **SMALL)).eval()
    save_weights(tmp_path / "a.safetensors", net, {"sasa": net.config})
    square = np.random.default_rng(0).random((64, 64))
    assert np.abs(predict(load_aligner(tmp_path / "a.safetensors"), square) - predict(net, square)).max() < 1e-4
    save_weights(tmp_path / "b.safetensors", net, {"other": net.config})
    with pytest.raises(UserError, match="no SASAAligner"):
        load_aligner(tmp_path / "b.safetensors")


def test_no_augmentation_changes_nothing():
    x = score_chroma(as_notes([0, 1], [1, 2], [60, 64]), 20)
    assert np.abs(augment_chroma(x, 20, np.random.default_rng(0), 0.0) - x).max() < 1e-6


def test_bad_input():
    for changes, word in (
        ({"block": "attenton"}, "'attention'"),
        ({"head": "regresion"}, "'regression'"),
        ({"cells": 100}, "halved"),
        ({"dimensions": 3}, "1 or 2"),
    ):
        with pytest.raises(UserError, match=word):
            AlignerConfig(**changes)
    with pytest.raises(UserError, match="heads"):
        SASA(10, 3, 4)
    with pytest.raises(UserError, match="odd"):
        SASA(16, 4)
    with pytest.raises(UserError, match="takes"):
        SASAAligner(AlignerConfig(**SMALL))(torch.zeros(1, 1, 32, 32))
    with pytest.raises(UserError, match="'CA_CE'"):
        model_config("CA_C")
