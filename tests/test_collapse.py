"""Nets that are alike at every key: their layer at its limits, exact twins, and the table over runs."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from amt_nb.workshop.grids import BINS_PER_KEY, N_BINS, N_KEYS
from amt_nb.workshop.settings import UserError
from amt_nb.workshop.records import write_record
from amt_nb.transcription.collapse import recorded_models, show_tied_runs, tied_runs, tied_kernel, TiedConvolution
from amt_nb.transcription.collapse import TiedConfig, tied_models, TiedTranscriber, TiedRenderer, shifted_copy
from amt_nb.transcription.collapse import tied_objective


@pytest.mark.parametrize("reach", [1, 5, 24, 40, 87])
def test_a_slid_pattern_is_what_its_definition_says(reach):
    pattern = torch.randn(8 * reach + 1)
    laid = tied_kernel(pattern)
    k, b = np.meshgrid(np.arange(N_KEYS), np.arange(N_BINS), indexing="ij")
    d = b - BINS_PER_KEY * k
    inside = abs(d) <= BINS_PER_KEY * reach
    expected = np.where(inside, pattern.numpy()[np.clip(d + BINS_PER_KEY * reach, 0, 8 * reach)], 0)
    assert (laid.numpy() == expected).all()


@pytest.mark.parametrize("reach", [3, 24])
def test_a_tied_convolution_is_a_convolution_and_its_gradient_too(reach):
    layer, x = TiedConvolution(2, 3, reach).double(), torch.randn(2, 2, 4, N_BINS, dtype=torch.float64)
    conv = lambda w: F.conv2d(F.pad(x, (4 * reach, 4 * reach)), w.transpose(0, 1)[:, :, None], stride=(1, 4))[
        ..., :N_KEYS
    ]
    assert torch.allclose(layer(x), conv(layer.pattern), atol=1e-10)
    weight = torch.randn(2, 3, 4, N_KEYS, dtype=torch.float64)
    (ours,) = torch.autograd.grad((layer(x) * weight).sum(), layer.pattern)
    (theirs,) = torch.autograd.grad((conv(layer.pattern) * weight).sum(), layer.pattern)
    assert torch.allclose(ours, theirs, atol=1e-10)


@pytest.mark.parametrize("reach", [0, 88, -3])
def test_a_reach_beyond_the_keyboard_is_refused(reach):
    with pytest.raises(UserError, match="reach must lie in 1..87"):
        TiedConvolution(1, 1, reach)


@pytest.mark.parametrize("k", [-9, -1, 4, 9])
def test_twins_close_the_cycle_alike_and_write_k_higher(k):
    torch.manual_seed(0)
    config = TiedConfig(reach=24)
    models = {"G": TiedTranscriber(config).double(), "F": TiedRenderer(config).double()}
    for net in models.values():
        net.slide.pattern.data[..., :60] = net.slide.pattern.data[..., -60:] = 0
    x = torch.full((1, 1, 12, N_BINS), -1.0, dtype=torch.float64)
    x[..., 150:200] = torch.rand(1, 1, 12, 50, dtype=torch.float64) * 2 - 1
    other = shifted_copy(models, k)
    with torch.no_grad():
        y, z = models["G"](x), other["G"](x)
    inner = slice(25, 60)
    assert torch.allclose(z[..., 25 + k : 60 + k], y[..., inner], atol=1e-10)
    roll = torch.zeros(1, 1, 12, N_KEYS, dtype=torch.float64)
    roll[..., 40] = 1
    with torch.no_grad():
        difference = other["F"](torch.roll(roll, k, -1)) - models["F"](roll)
    assert difference[..., 100:250].abs().max() < 1e-10


def test_a_step_without_pairs_changes_both_translators_and_nothing_needs_a_pair():
    torch.manual_seed(0)
    models, objective = (
        tied_models(TiedConfig(reach=6, channels=2, render_channels=2, discriminator_channels=2)),
        tied_objective(TiedConfig(reach=6)),
    )
    batch = {
        "audio": torch.rand(2, 1, 16, N_BINS) * 2 - 1,
        "score": (torch.rand(2, 1, 16, N_KEYS) < 0.03).float() * 2 - 1,
    }
    objective.generator_loss(models, batch, 0)["total"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for name in ("G", "F") for p in models[name].parameters())
    notes = objective.left[0, None]["latent_sampled"]
    assert not notes.requires_grad and set(notes.unique().tolist()) <= {0.0, 1.0}


def test_silence_and_an_empty_score_give_finite_losses():
    torch.manual_seed(0)
    models, objective = tied_models(), tied_objective()
    batch = {"audio": torch.full((1, 1, 16, N_BINS), -1.0), "score": torch.full((1, 1, 16, N_KEYS), -1.0)}
    terms = objective.generator_loss(models, batch, 3)
    assert all(torch.isfinite(v) for v in terms.values()) and torch.isfinite(
        objective.discriminator_loss(models, batch, 3)["total"]
    )
    other = objective.discriminator_loss(models, batch, 4)[
        "total"
    ]  # no turn before it: its own fakes, without gradient
    assert torch.isfinite(other) and not objective.left


def test_recorded_weights_come_back(tmp_path):
    models = tied_models(TiedConfig(reach=6))
    np.savez(
        tmp_path / "a.npz",
        **{f"3.weights.{n}.{k}": v.numpy() for n in ("G", "F") for k, v in models[n].state_dict().items()},
    )
    back = recorded_models(np.load(tmp_path / "a.npz"), 3, TiedConfig(reach=6))
    x = torch.rand(1, 1, 4, N_BINS)
    with torch.no_grad():
        assert torch.equal(back["G"](x), models["G"](x))


def test_the_table_counts_what_ends_unshifted(tmp_path):
    f1 = {"frame_f1": 0.4, "note_f1": 0.2, "best_shift_f1": 0.4, "repaired_f1": 0.4, "repaired_note_f1": 0.2}
    runs = {
        f"tied_free_seed{s}": {
            "training": {"seed": s, "cycle": 0.3},
            "real_val": f1 | {"best_shift": 7 * s, "found_shift": 0, "confidence": 1.0},
        }
        for s in (0, 1)
    }
    write_record("tied_free", runs, {}, 0, folder=tmp_path)
    table = show_tied_runs(tmp_path, ("free", "support"))
    assert [v["real_val"]["best_shift"] for v in tied_runs(tmp_path, ("free", "support"))["free"]] == [0, 7]
    assert "1 of 2" in table.text and "40.0 ± 0.0 (2)" in table.text


@pytest.mark.parametrize("k", [-100, 100])
def test_a_twin_moved_beyond_its_reach_is_silent(k):
    models = tied_models(TiedConfig(reach=6))
    assert not shifted_copy(models, k)["G"].slide.pattern.any() and models["G"].slide.pattern.any()
