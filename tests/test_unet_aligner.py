"""The U-Net aligner: its symmetry, its bands, its gradients, its weights files, and paths through its probabilities."""

import numpy as np
import pytest
import torch

from amt_nb.alignment.unet_aligner import unet_model, UNET_MODELS, unet_scores, UNetAligner, UNetJumpDTW
from amt_nb.alignment.unet_aligner import load_unet_aligner, MARGIN, UpBlock
from amt_nb.notes import as_notes
from amt_nb.alignment.sasa_aligner import aligner_loss, AlignerConfig, closeness, load_aligner, predict
from amt_nb.workshop.settings import UserError
from amt_nb.alignment.similarity import cross_similarity, score_chroma
from amt_nb.workshop.weights import save_weights

SMALL = dict(cells=64, widths=(4, 4, 8, 8), heads=2, extent=3)


def small(name="UA_CE", seed=0, **changes):
    """A small network with random weights, and norms that have seen something."""
    torch.manual_seed(seed)
    net = unet_model(name, "demo", **SMALL | changes)
    for _ in range(3):
        net(torch.rand(2, 1, 64, 64))
    return net.eval()


def features(n, seed):
    """Random features (n, 12) of length 1."""
    x = np.random.default_rng(seed).random((n, 12)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


class Oracle(UNetAligner):
    """Scores each cell by its distance: an oracle without training."""

    def __init__(self, sharp=400.0):
        super().__init__(AlignerConfig(**SMALL))
        self.sharp = sharp

    def scores(self, x):
        return self.sharp * x[:, 0]


@pytest.mark.parametrize("name", UNET_MODELS)
@pytest.mark.parametrize("shape", [(16, 16), (32, 80), (112, 16)])
def test_any_multiple_of_the_unit_goes_in_and_comes_out(name, shape):
    out = small(name)(torch.rand(2, 1, *shape))
    assert out.shape == ((2, *shape) if name.endswith("CE") else (2, shape[0]))
    assert torch.isfinite(out).all()
    if name.endswith("custom"):
        assert (out >= 0).all() and (out <= shape[1] - 1).all()


@pytest.mark.parametrize(
    "bad", [torch.zeros(1, 64, 64), torch.zeros(1, 2, 64, 64), torch.zeros(1, 1, 64, 60), torch.zeros(1, 1, 8, 64)]
)
def test_other_shapes_are_refused(bad):
    with pytest.raises(UserError, match="multiples of 16"):
        small().scores(bad)


@pytest.mark.parametrize("name", ["UA_CE", "UD_CE"])
@pytest.mark.parametrize("down, right", [(16, 0), (0, 16), (32, 48)])
def test_moved_distances_move_the_scores(name, down, right):
    """Away from the borders, exactly: nothing in the network knows a row's or a column's number."""
    net, x = small(name), torch.randn(1, 1, 256, 256)
    with torch.inference_mode():
        here, there = net.scores(x)[0], net.scores(torch.roll(x, (down, right), (2, 3)))[0]
    inner = slice(96, 112)
    moved = there[96 + down : 112 + down, 96 + right : 112 + right]
    assert (here[inner, inner] - moved).abs().max() < 1e-4


@pytest.mark.parametrize("name", ["UA_CE", "UD_CE", "UA_custom"])
def test_no_output_looks_further_than_the_margin(name):
    net, x = unet_model(name).eval(), torch.randn(1, 1, 352, 32)
    y = x.clone()
    y[..., : 176 - MARGIN, :] += 3
    y[..., 176 + MARGIN :, :] -= 3
    with torch.inference_mode():
        assert torch.equal(net.scores(x)[:, 176], net.scores(y)[:, 176])


@pytest.mark.parametrize("n, m", [(1, 1), (15, 33), (64, 64), (130, 47), (333, 20)])
def test_bands_make_no_difference(n, m):
    net, a, b = small(), features(n, 1), features(m, 2)
    whole = unet_scores(net, a, b, 1024)
    for rows in (16, 48, 256):
        assert np.abs(unet_scores(net, a, b, rows) - whole).max() < 1e-4
    assert whole.shape == (n, m) and np.abs(np.exp(whole.astype(float)).sum(1) - 1).max() < 1e-5


def test_scores_of_a_piece_are_those_of_the_network():
    """Far from the edges, whole and padded matrices agree with the network called directly."""
    net, a, b = small(), features(416, 3), features(64, 4)
    x = torch.from_numpy(cross_similarity(a, b))[None, None]
    with torch.inference_mode():
        direct = net.scores(closeness(x))[0].log_softmax(-1)
    assert np.abs(unet_scores(net, a, b)[176:240] - direct[176:240].numpy()).max() < 1e-3


def test_bands_of_odd_size_are_refused():
    for rows in (0, 8, 100):
        with pytest.raises(UserError, match="multiple of 16"):
            unet_scores(small(), features(20, 0), features(20, 1), rows)


@pytest.mark.parametrize("name", UNET_MODELS)
def test_every_weight_gets_a_finite_gradient(name):
    torch.manual_seed(0)
    net = unet_model(name, "demo", **SMALL).train()
    batch = {"square": torch.rand(2, 1, 64, 64), "indices": torch.linspace(0, 63, 64).expand(2, -1).contiguous()}
    aligner_loss({"net": net}, batch)["total"].backward()
    for key, p in net.named_parameters():
        assert p.grad is not None and torch.isfinite(p.grad).all(), key
    assert sum(float(p.grad.abs().sum()) > 0 for p in net.parameters()) > 0.8 * len(list(net.parameters()))


def test_up_blocks_put_values_where_they_came_from():
    step = UpBlock(1, 1, 1)
    torch.nn.init.ones_(step.thin.weight)
    step.convolution.weight.data[:] = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)  # the unfolded map alone
    step.eval()
    beside = torch.tensor([[0.0, 5, 0, 0], [0, 0, 0, 7]])[None, None]
    small_map, places = torch.nn.functional.max_pool2d(beside, 2, return_indices=True)
    assert (step(small_map, places, beside) - beside).abs().max() < 1e-3


def test_weights_files(tmp_path):
    net = small()
    save_weights(tmp_path / "a net.safetensors", net, {"unet": net.config})
    again, x = (
        load_unet_aligner(tmp_path / "a net.safetensors"),
        np.random.default_rng(0).random((64, 64)).astype(np.float32),
    )
    assert np.abs(predict(again, x) - predict(net, x)).max() < 1e-6
    with pytest.raises(UserError, match="holds no SASAAligner"):
        load_aligner(tmp_path / "a net.safetensors")
    save_weights(tmp_path / "b.safetensors", net, {"sasa": net.config})
    with pytest.raises(UserError, match="holds no UNetAligner"):
        load_unet_aligner(tmp_path / "b.safetensors")
    with pytest.raises(UserError):
        load_unet_aligner(tmp_path / "none.safetensors")
    with pytest.raises(UserError, match="UA_CE"):
        unet_model("UA_EC")


def melody(seed, n=40):
    """Notes (n,) of a random walk, half a second apart."""
    rng = np.random.default_rng(seed)
    pitch = 60 + np.cumsum(rng.choice([-5, -3, -2, 2, 4, 7], n)) % 24
    return as_notes(np.arange(n) * 0.5, np.arange(n) * 0.5 + 0.45, pitch)


@pytest.mark.parametrize(
    "cuts",
    [[(0, 20)], [(0, 12), (4, 20)], [(0, 6), (14, 20)], [(8, 20), (0, 8)]],
    ids=["as played", "repeat", "skip", "order"],
)
def test_the_path_follows_what_was_played(cuts):
    score = score_chroma(melody(0), 50)
    played = np.concatenate([score[int(50 * a) : int(50 * b)] for a, b in cuts])
    truth = np.concatenate([np.arange(len(score))[int(50 * a) : int(50 * b)] for a, b in cuts]) / 50
    found = UNetJumpDTW(Oracle(), jump_penalty=40.0).align(played, score)
    t = (np.arange(len(played)) + 0.5) / 50
    assert (np.abs(found.at(t) - truth) < 0.15).mean() > 0.95


def test_one_row_one_column_and_silence():
    for a, b in (
        (features(1, 0), features(1, 1)),
        (features(500, 0), features(1, 1)),
        (np.full((50, 12), 12**-0.5, np.float32), features(50, 1)),
    ):
        found = UNetJumpDTW(small()).align(a, b)
        assert np.isfinite(found.score_s).all() and (found.score_s >= 0).all()
    with pytest.raises(UserError):
        UNetJumpDTW(small()).align(features(10, 0), np.full((10, 12), np.nan, np.float32))


def test_refinement_finds_the_strokes():
    from amt_nb.notes import sonify
    from amt_nb.transcription.transcribe import activations, load_model

    score = melody(3, 24)
    played = score.copy()
    for edge in ("onset_s", "offset_s"):
        played[edge] = score[edge] * 1.07 + 0.25
    model = load_model("align-12k")
    active = activations(sonify(played, 16000), 16000, model)
    for fps in (12.5, 20.0):  # rows of the network need not be whole numbers of frames
        found = UNetJumpDTW(Oracle(), jump_penalty=40.0, fps=fps).refine(
            score_chroma(played, 50),
            score_chroma(score, 50),
            active.frames,
            active.onsets,
            score,
            -model.decode.onset_shift_s,
        )
        assert np.median(np.abs(found.at(played["onset_s"] + 1e-3) - score["onset_s"])) < 0.03
