"""Everything that is trained is trained on a device that is not the CPU, which a machine without a graphics card can do too (`elsewhere`)."""

from functools import partial

import numpy as np
import pytest
import torch
from test_unpaired import maps, small  # noqa: F401
from torch import nn

from amt_nb.transcription import training
from amt_nb.alignment.learnt_baselines import Dilated, dilated_batches, dilated_loss, DilatedCNN
from amt_nb.alignment.learnt_baselines import DilatedConfig, Siamese, siamese_batches, siamese_loss
from amt_nb.alignment.learnt_baselines import SiameseConfig, SiameseDTW
from amt_nb.workshop.streaming import cqt_magnitude
from amt_nb.alignment.unet_aligner import unet_model, UNET_MODELS, unet_scores
from amt_nb.transcription.direct import HarmonicConfig, HarmonicNet
from amt_nb.notes import as_notes
from amt_nb.alignment.sasa_aligner import SASAAligner, aligner_loss, evaluate_aligner
from amt_nb.alignment.structure import batches, example, ExampleConfig
from amt_nb.alignment.sasa_aligner import frame_loss, model_config, MODELS, predict
from amt_nb.alignment.structure import toy_pair
from amt_nb.workshop.sasa_kernels import local_attention
from amt_nb.transcription.collapse import TiedConfig, tied_models, tied_objective
from amt_nb.alignment.soft_dtw import soft_dtw, soft_dtw_divergence
from amt_nb.transcription.training import fit, TrainConfig, Turn
from amt_nb.workshop.devices import device_of, infer
from amt_nb.workshop.transcription_model import TranscriptionModel

try:
    import elsewhere
except ImportError:
    pytest.skip("this torch knows no devices written in Python", allow_module_level=True)
DEVICE = elsewhere.DEVICE
torch.set_num_threads(1)
EXAMPLES = ExampleConfig(8, 16)
PAIRS = [toy_pair(i) for i in range(3)]


def short(**changes):
    """Two steps, so that a second one meets what the first one left."""
    return TrainConfig(
        **{"steps": 2, "warmup_steps": 1, "record_every": 1, "validate_every": 1, "ema_start": 1, "prefetch": 1}
        | changes
    )


def trained(models, turns, make, validate=None):
    """The History of two steps elsewhere."""
    return fit(models, turns, make, short(), validate=validate, fabric=elsewhere.fabric())


def test_the_device_refuses_what_a_graphics_card_refuses():
    net = nn.Linear(3, 2).to(DEVICE)
    assert device_of(net) == DEVICE
    with pytest.raises(RuntimeError, match="on the CPU"):
        net(torch.zeros(1, 3))
    with pytest.raises((RuntimeError, TypeError)):
        net(torch.zeros(1, 3, device=DEVICE)).detach().numpy()


def test_infer_carries_question_and_answer():
    net = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.9))
    asked = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    at_home = infer(net, asked)
    assert torch.equal(infer(net.to(DEVICE), asked), at_home) and type(at_home) is torch.Tensor


def test_models_come_home_with_their_averages_and_go_on(tmp_path):
    def run(steps):
        torch.manual_seed(0)
        net = nn.Linear(1, 1)
        turn = Turn(
            "line", ("net",), lambda models, batch, step: {"total": (models["net"](batch["x"]) - 1).square().mean()}
        )
        history = fit(
            {"net": net},
            [turn],
            lambda n: {"x": torch.full((2, 1), float(n))},
            short(steps=4),
            tmp_path,
            fabric=elsewhere.fabric(),
            callbacks=[lambda step, record, average: step == steps],
        )
        return net, history

    run(2)
    net, history = run(4)
    assert history.step == 4 and device_of(net).type == device_of(history.models["net"]).type == "cpu"
    assert type(net.weight) is nn.Parameter and type(history.models["net"].weight) is nn.Parameter


@pytest.mark.parametrize("name", [*MODELS, *UNET_MODELS])
def test_networks_of_the_path(name):
    small = dict(cells=64, hidden=16)
    net = unet_model(name, **small) if name in UNET_MODELS else SASAAligner(model_config(name, **small))
    peek = [example(PAIRS[0], 64, i, EXAMPLES) for i in range(2)]
    history = trained(
        {"net": net},
        [Turn("path", ("net",), aligner_loss)],
        batches(PAIRS, 64, 2, 0, EXAMPLES),
        lambda models, step: {"median": float(np.median(np.concatenate(evaluate_aligner(models["net"], peek))))},
    )
    home = predict(net, peek[0].square)
    assert np.isfinite(history.curve("median")[1]).all() and np.allclose(
        predict(net.to(DEVICE), peek[0].square), home, atol=1e-3
    )


def test_every_cell_in_bands():
    net, (a, b) = unet_model("UA_CE"), np.random.default_rng(0).random((2, 40, 12))
    home = unet_scores(net, a, b, rows=16)
    assert np.allclose(unet_scores(net.to(DEVICE), a, b, rows=16), home, atol=1e-5)


def test_learnt_aligners():
    keys = np.random.default_rng(0).random((400, 88)).astype(np.float32)
    notes = as_notes(np.arange(16) * 0.5, np.arange(16) * 0.5 + 0.4, 48 + np.arange(16), 80)
    twins, found = Siamese(SiameseConfig(widths=(4, 4, 4))), Dilated(DilatedConfig(size=64))
    trained({"net": twins}, [Turn("twins", ("net",), siamese_loss)], siamese_batches([(keys, notes)], 2, 0, 32))
    trained(
        {"net": found},
        [Turn("corners", ("net",), dilated_loss)],
        dilated_batches(lambda i: example(PAIRS[0], 64, i, EXAMPLES), 2, 64),
    )
    for method, seen in ((partial(SiameseDTW, twins), keys), (partial(DilatedCNN, found), keys[:, :12])):
        home = method().spans(seen, seen)
        for net in (twins, found):
            net.to(DEVICE)
        assert all(np.array_equal(x, y) for x, y in zip(method().spans(seen, seen), home))
        for net in (twins, found):
            net.cpu()


def test_tied_nets_and_their_discriminators():
    config = TiedConfig()
    objective, make = tied_objective(config), torch.Generator().manual_seed(0)
    batch = {
        "audio": torch.rand(2, 1, 64, 352, generator=make) * 2 - 1,
        "score": (torch.rand(2, 1, 64, 88, generator=make) > 0.95) * 2.0 - 1,
    }
    history = trained(
        tied_models(config),
        [Turn("G", ("G", "F"), objective.generator_loss), Turn("D", ("D_Z", "D_X"), objective.discriminator_loss)],
        lambda n: batch,
    )
    assert np.isfinite([r[k] for r in history.records for k in r if k.startswith(("G.", "D."))]).all()


@pytest.mark.parametrize("condition", ["direct", "paired", "cycle"])
def test_from_recordings_to_weights(condition, maps, tmp_path, shell, monkeypatch):  # noqa: F811
    monkeypatch.setattr(training, "make_fabric", elsewhere.fabric)
    code, out, err = shell(
        "train",
        tmp_path / "run",
        "--condition",
        condition,
        "--data",
        f"maps={maps}",
        "--cache",
        tmp_path / "cache",
        "--jobs",
        "1",
        "--steps",
        "2",
        *small(condition),
    )
    assert code == 0, err
    assert (tmp_path / "run" / "weights.safetensors").is_file()


def test_a_listener_may_live_anywhere():
    net = HarmonicNet(HarmonicConfig(width=8, memory=0, blocks="s"))
    values = np.random.default_rng(0).uniform(-1, 1, (64, 352))
    home = TranscriptionModel(net).activations(values)
    there = TranscriptionModel(net.to(DEVICE)).activations(values)
    assert set(home) == set(there) and all(np.allclose(there[k], home[k], atol=1e-5) for k in home)


def test_layers_and_losses_agree_with_the_cpu():
    make = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.rand(*shape, generator=make)
    x, y = draw(2, 9, 3), draw(2, 7, 3)
    q, k, v, rows, columns = draw(1, 2, 4, 6, 5), draw(1, 2, 4, 6, 5), draw(1, 2, 4, 6, 5), draw(2, 2, 3), draw(2, 2, 3)
    wave = draw(1, 16000) - 0.5
    for what, given in (
        (soft_dtw, (x, y)),
        (soft_dtw_divergence, (x, y)),
        (local_attention, (q, k, v, rows, columns)),
        (frame_loss, (7 * draw(2, 8), 7 * draw(2, 8))),
        (lambda w: cqt_magnitude(w, 16000), (wave,)),
    ):

        def value_and_gradients(device):
            leaves = [t.to(device).detach().requires_grad_() for t in given]
            out = what(*leaves)
            out.square().sum().backward()
            return [out.detach().cpu(), *(t.grad.cpu() for t in leaves if t.grad is not None)]

        for at_home, away in zip(value_and_gradients("cpu"), value_and_gradients(DEVICE), strict=True):
            assert type(away) is torch.Tensor and torch.allclose(at_home, away, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", [n for n in (*MODELS, *UNET_MODELS) if n.endswith("custom")])
def test_points_keep_their_digits_in_mixed_precision(name):
    """A graphics card trains in bfloat16, in which the columns from 128 on lie half a column apart."""
    torch.manual_seed(0)
    net = (unet_model(name) if name in UNET_MODELS else SASAAligner(model_config(name))).eval()
    square = torch.from_numpy(example(PAIRS[0], 256, 0, EXAMPLES).square)[None, None]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        mixed = net(square)
    assert mixed.dtype == torch.float32 and (mixed - infer(net, square)).abs().max() < 0.15
