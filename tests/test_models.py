"""Networks of chapters 10 to 12: sizes, shapes, any length, precision, faults, mirror properties."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings as hypothesis_settings, strategies as st

from amt_nb.transcription.discriminators import DiscriminatorConfig, half, LatentDiscriminator
from amt_nb.transcription.discriminators import LatentDiscriminatorConfig, SpectrogramDiscriminator
from amt_nb.transcription.score_vae import ChannelNorm, DepthToSpace, focal_loss, kl_to_normal
from amt_nb.transcription.score_vae import linear_attention, LinearAttention, ScoreVAE, SpaceToDepth
from amt_nb.transcription.score_vae import vae_loss, VAEConfig
from amt_nb.workshop.settings import fill, UserError
from amt_nb.transcription.translators import AudioToLatent, LatentToAudio, spread_partials, TranslatorConfig

torch.set_num_threads(1)
VAE = VAEConfig(width=8, multipliers=(1, 1, 2, 2), blocks=(0, 1, 0, 1), heads=1, head_width=4)
SMALL = TranslatorConfig(width=4, multipliers=(1, 1, 2, 2, 2), blocks=(0, 1, 0, 1, 1), heads=1, head_width=4)


def parameters(net):
    return sum(p.numel() for p in net.parameters())


def test_reference_sizes():
    with torch.device("meta"):
        vae = ScoreVAE(fill(VAEConfig, "paper", "vae"))
        found = [
            parameters(n)
            for n in (
                vae,
                vae.encoder,
                ScoreVAE(VAEConfig(instruments=11)),
                AudioToLatent(fill(TranslatorConfig, "paper", "g")),
                LatentToAudio(fill(TranslatorConfig, "paper", "f")),
                SpectrogramDiscriminator(fill(DiscriminatorConfig, "paper", "dx")),
                LatentDiscriminator(fill(LatentDiscriminatorConfig, "paper", "dz")),
            )
        ]
    assert found == [4_801_617, 2_400_976, 4_813_147, 3_715_464, 3_492_961, 1_632_582, 1_358_340]


@pytest.mark.parametrize("size", ["demo", "gpu", "paper"])
def test_shapes_at_every_size(size):
    with torch.device("meta"):
        vae, g = ScoreVAE(fill(VAEConfig, size, "vae")), AudioToLatent(fill(TranslatorConfig, size, "g"))
        f = LatentToAudio(fill(TranslatorConfig, size, "f"))
        x, y = torch.empty(3, 1, 256, 352), torch.empty(3, 1, 256, 88)
        z = g(x)
        assert z.shape == vae.encode(y)[0].shape == (3, 8, 32, 11)
        assert f(z).shape == x.shape and vae.decode(z).shape == y.shape


@pytest.mark.parametrize("frames", [8, 24, 264])
def test_any_multiple_of_eight(frames):
    x = torch.rand(1, 1, frames, 352) * 2 - 1
    z = AudioToLatent(SMALL)(x)
    assert z.shape == (1, 8, frames // 8, 11) and LatentToAudio(SMALL)(z).shape == x.shape
    assert ScoreVAE(VAE).decode(z).shape == (1, 1, frames, 88)


def test_eleven_instruments():
    vae = ScoreVAE(VAEConfig(instruments=11, width=4, multipliers=(1, 1, 1, 1), blocks=(0, 0, 0, 0)))
    roll = torch.rand(2, 11, 16, 88).round() * 2 - 1
    logits, mean, logvar = vae(roll)
    assert logits.shape == roll.shape and mean.shape == logvar.shape == (2, 8, 2, 11)
    assert vae_loss({"vae": vae}, {"score": roll})["total"].isfinite()
    with pytest.raises(UserError, match="11"):
        vae.encode(roll[:, :1])


@pytest.mark.parametrize(
    "make",
    [
        lambda: ScoreVAE(VAEConfig(blocks=(1, 1))),
        lambda: TranslatorConfig(blocks=(1, 1)),
        lambda: TranslatorConfig(strides=((1, 2),) * 5),
        lambda: AudioToLatent(TranslatorConfig(partials=(0.0,))),
        lambda: AudioToLatent(SMALL)(torch.zeros(1, 1, 12, 352)),
        lambda: AudioToLatent(SMALL)(torch.zeros(1, 1, 0, 352)),
        lambda: ScoreVAE(VAE).encode(torch.zeros(1, 1, 12, 88)),
        lambda: ScoreVAE(VAE).decode(torch.zeros(1, 7, 2, 11)),
        lambda: LatentToAudio(SMALL)(torch.zeros(8, 2, 11)),
        lambda: LatentDiscriminator(LatentDiscriminatorConfig(width=2))(torch.zeros(1, 1, 8, 11)),
    ],
)
def test_faults_are_one_clear_line(make):
    with pytest.raises(UserError) as fault:
        make()
    assert "\n" not in str(fault.value) and len(str(fault.value)) > 20


@hypothesis_settings(max_examples=15, deadline=None)
@given(d=st.integers(1, 6), n=st.integers(1, 40), seed=st.integers(0, 999))
def test_linear_attention_is_the_product_of_the_table(d, n, seed):
    q, k, v = torch.randn(3, d, n, generator=torch.Generator().manual_seed(seed)).double().unbind()
    eq, ek = np.exp(q.numpy()), np.exp(k.numpy())
    table = (eq / eq.sum(0) / np.sqrt(d)).T @ (ek / ek.sum(1, keepdims=True))
    assert np.abs(linear_attention(q, k, v).numpy() - v.numpy() @ table.T).max() < 1e-5


def test_attention_does_not_depend_on_where():
    layer, x = LinearAttention(8, 2, 4), torch.randn(1, 8, 4, 6)
    places = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    mixed = layer(x.flatten(2)[..., places].unflatten(2, (4, 6)))
    assert torch.allclose(mixed.flatten(2), layer(x).flatten(2)[..., places], atol=1e-5)


@pytest.mark.parametrize("stride", [(2, 2), (1, 2), (2, 1)])
def test_patches_go_there_and_back(stride):
    x = torch.randn(2, 3, 8, 12)
    folded = SpaceToDepth(stride)(x)
    assert folded.shape == (2, 3 * stride[0] * stride[1], 8 // stride[0], 12 // stride[1])
    assert torch.equal(DepthToSpace(stride)(folded), x)


def test_norm_has_length_one_in_both_precisions():
    x = torch.randn(2, 16, 4, 4) * 30
    y = ChannelNorm(16)(x)
    assert torch.allclose(y.square().mean(1), torch.ones(2, 4, 4), atol=1e-4)
    rough = ChannelNorm(16)(x.bfloat16())
    assert rough.dtype == torch.bfloat16 and (rough.float() - y).abs().max() < 0.05


def test_bfloat16_keeps_outputs_and_gradients_finite():
    torch.manual_seed(0)
    g, x = AudioToLatent(SMALL), torch.rand(1, 1, 16, 352) * 2 - 1
    with torch.autocast("cpu", torch.bfloat16):
        z = g(x)
        loss = z.float().abs().mean()
    loss.backward()
    assert z.dtype == torch.bfloat16 and all(p.grad.isfinite().all() for p in g.parameters())
    with torch.no_grad():
        assert (g(x) - z.float()).abs().mean() / g(x).abs().mean() < 0.05


def test_linear_attention_is_of_single_precision_under_autocast():
    make = torch.Generator().manual_seed(0)
    given = [3 * torch.randn(2, 2, 16, 400, generator=make) for _ in range(3)]

    def value_and_gradients(mixed):
        leaves = [t.clone().requires_grad_() for t in given]
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            out = linear_attention(*leaves)
        return [out, *torch.autograd.grad(out.square().sum(), leaves)]

    for rounded, exact in zip(value_and_gradients(True), value_and_gradients(False), strict=True):
        assert rounded.dtype == torch.float32 and (rounded - exact).abs().max() < 1e-5 * max(1, exact.abs().max())


def test_silence_has_finite_gradients():
    g = AudioToLatent(SMALL)
    g(torch.full((1, 1, 8, 352), -1.0)).sum().backward()
    assert all(p.grad.isfinite().all() for p in g.parameters())


def test_items_of_a_batch_do_not_meet():
    torch.manual_seed(0)
    x = torch.rand(3, 1, 16, 352)
    for net in (AudioToLatent(SMALL).eval(), SpectrogramDiscriminator(DiscriminatorConfig(width=2))):
        whole, alone = net(x), net(x[1:2])
        whole, alone = (whole, alone) if torch.is_tensor(whole) else (whole[2][-1], alone[2][-1])
        assert torch.allclose(whole[1:2], alone, atol=1e-5)


def test_every_parameter_learns():
    torch.manual_seed(0)
    nets = (
        (AudioToLatent(SMALL), torch.rand(1, 1, 16, 352)),
        (LatentToAudio(SMALL), torch.randn(1, 8, 2, 11)),
        (ScoreVAE(VAE).decoder, torch.randn(1, 8, 2, 11)),
    )
    for net, x in nets:
        net(x).square().mean().backward()
        silent = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert not silent, silent


def test_discriminators_can_be_copied_and_stored():
    d = LatentDiscriminator(LatentDiscriminatorConfig(width=4))
    x, twin = torch.randn(1, 8, 8, 11), copy.deepcopy(d)
    other = LatentDiscriminator(LatentDiscriminatorConfig(width=4))
    other.load_state_dict(d.state_dict())
    assert torch.equal(d(x)[0][-1], twin(x)[0][-1]) and torch.equal(d(x)[1][-1], other(x)[1][-1])


def test_half_is_the_mean_of_what_exists():
    x = np.random.default_rng(0).normal(size=(6, 9)).astype(np.float32)
    expected = np.array(
        [[x[max(2 * i - 1, 0) : 2 * i + 3, max(2 * j - 1, 0) : 2 * j + 3].mean() for j in range(4)] for i in range(3)]
    )
    assert np.allclose(half(torch.from_numpy(x)[None, None])[0, 0], expected, atol=1e-6)


def test_one_partial_changes_nothing():
    x = torch.randn(2, 1, 4, 352)
    assert torch.equal(spread_partials(x, [0]), x)


def test_focal_and_kl_against_numpy():
    random = np.random.default_rng(0)
    logits, target = random.normal(size=(5, 7)), random.integers(0, 2, (5, 7))
    p = 1 / (1 + np.exp(-logits))
    pt, at = np.where(target, p, 1 - p), np.where(target, 0.6, 0.4)
    expected = (at * (1 - pt) ** 3 * -np.log(pt)).mean()
    assert abs(float(focal_loss(torch.tensor(logits), torch.tensor(target), 3.0, 0.6)) - expected) < 1e-6
    mean, logvar = random.normal(size=(2, 3, 4, 5))
    expected = 0.5 * (mean**2 + np.exp(logvar) - 1 - logvar).sum((1, 2)).mean()
    assert abs(float(kl_to_normal(torch.tensor(mean), torch.tensor(logvar))) - expected) < 1e-9


def test_focal_loss_of_extreme_logits_is_finite():
    logits = torch.tensor([-200.0, 200.0], requires_grad=True)
    focal_loss(logits, torch.tensor([1.0, 0.0])).backward()
    assert logits.grad.isfinite().all()


def test_posterior_sample_is_reproducible_with_given_noise():
    vae, roll = ScoreVAE(VAE), torch.rand(2, 1, 16, 88).round() * 2 - 1
    noise = torch.randn(2, 8, 2, 11)
    assert torch.equal(vae(roll, noise)[0], vae(roll, noise)[0])
    assert (vae.encode(roll)[1] < -2).all()  # near deterministic from the start
