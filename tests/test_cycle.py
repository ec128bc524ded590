"""Chapter 13: every term against NumPy or by hand, no work twice, exact resume of pools, nothing supervised without pairs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings as hypothesis_settings, strategies as st
from torch import nn

from amt_nb.transcription import cycle
from amt_nb.transcription.cycle import CycleConfig, CycleObjective
from amt_nb.transcription.discriminators import DiscriminatorConfig, ImagePool, LatentDiscriminator
from amt_nb.transcription.discriminators import LatentDiscriminatorConfig, SpectrogramDiscriminator
from amt_nb.transcription.score_vae import ScoreVAE, VAEConfig
from amt_nb.workshop.settings import UserError
from amt_nb.transcription.translators import AudioToLatent, LatentToAudio, TranslatorConfig

torch.set_num_threads(1)


class Affine(nn.Module):
    """a x + b, counting the examples it saw."""

    def __init__(self, a, b):
        super().__init__()
        self.a, self.b, self.seen = nn.Parameter(torch.tensor(a)), b, 0

    def forward(self, x):
        self.seen += len(x)
        return self.a * x + self.b


class ToyVAE(nn.Module):
    """Latent = roll / 2 with standard deviation 0.1; decoding multiplies by 4."""

    def encode(self, roll):
        return roll / 2, torch.full_like(roll, 2 * np.log(0.1))

    def sample(self, mean, logvar, noise):
        return mean + (logvar / 2).exp() * noise

    def decode(self, z):
        return 4 * z


class ToyDiscriminator(nn.Module):
    """Two scales, two features and a score map each: a |x|, 2 a x, a x mean | 3 a x, x, -a x."""

    def __init__(self, a):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a))

    def forward(self, x):
        return [[self.a * x.abs(), 2 * self.a * x, self.a * x], [3 * self.a * x, x, -self.a * x]]


def toy():
    """Models and a batch small enough for NumPy."""
    models = {
        "vae": ToyVAE(),
        "G": Affine(0.5, 0.1),
        "F": Affine(1.5, -0.2),
        "D_X": ToyDiscriminator(0.7),
        "D_Z": ToyDiscriminator(-0.3),
    }
    g = torch.Generator().manual_seed(3)
    batch = {
        k: torch.randn(n, 1, 4, 6, generator=g)
        for k, n in (("audio", 3), ("score", 3), ("paired_audio", 2), ("paired_score", 2))
    }
    return models, batch


def expected(batch, models, step, config):
    """All terms once more in NumPy, from the formulas of [A, objective]."""
    z = {k: v.numpy() for k, v in cycle.add_latents(models, batch, step, config).items()}
    G, F = (lambda x: 0.5 * x + 0.1), (lambda x: 1.5 * x - 0.2)
    adv = lambda x, a: ((a * x - 1) ** 2).mean() + ((-a * x - 1) ** 2).mean()
    match = lambda r, f, a: np.mean(
        [
            abs(a) * np.abs(np.abs(r) - np.abs(f)).mean(),
            2 * abs(a) * np.abs(r - f).mean(),
            3 * abs(a) * np.abs(r - f).mean(),
            np.abs(r - f).mean(),
        ]
    )
    l1 = lambda a, b: np.abs(a - b).mean()
    x, lat, xs, zs = z["audio"], z["latent"], z["paired_audio"], z["paired_latent"]
    return {
        "adv_latent": adv(G(x), -0.3),
        "adv_audio": adv(F(lat), 0.7),
        "cycle_audio": l1(F(G(x)), x),
        "cycle_latent": l1(G(F(lat)), lat),
        "match_audio": match(x, F(G(x)), 0.7),
        "match_latent": match(lat, G(F(lat)), -0.3),
        "sup_latent": l1(G(xs), zs),
        "sup_audio": l1(F(zs), xs),
    }


@pytest.mark.parametrize("step", [0, 123, 500, 9000])
@pytest.mark.parametrize("lambda_fm", [0.1, 1.0])
def test_every_term_against_numpy(step, lambda_fm):
    (models, batch), config = toy(), CycleConfig(lambda_fm=lambda_fm)
    found, want = cycle.generator_loss(models, batch, step, config), expected(batch, models, step, config)
    for name, value in want.items():
        assert float(found[name].detach()) == pytest.approx(value, abs=1e-5), name
    w = min(1, 0.1 + 0.9 * step / 500)
    total = (
        w * (want["adv_latent"] + want["adv_audio"] + lambda_fm * (want["match_audio"] + want["match_latent"]))
        + 5 * (want["cycle_audio"] + want["cycle_latent"])
        + want["sup_latent"]
        + want["sup_audio"]
    )
    assert float(found["total"].detach()) == pytest.approx(total, abs=1e-4)


def test_discriminator_against_numpy():
    (models, batch), config = toy(), CycleConfig()
    full = {k: v.detach().numpy() for k, v in cycle.add_fakes(models, batch, 4, config).items()}
    found = cycle.discriminator_loss(models, batch, 4, config)
    for side, a, real, fake in (
        ("latent", -0.3, full["latent"], full["latent_fake"]),
        ("audio", 0.7, full["audio"], full["audio_fake"]),
    ):
        assert float(found[f"real_{side}"].detach()) == pytest.approx(
            ((a * real - 1) ** 2 + (-a * real - 1) ** 2).mean(), abs=1e-5
        )
        assert float(found[f"fake_{side}"].detach()) == pytest.approx(2 * ((a * fake) ** 2).mean(), abs=1e-5)
    assert float(found["total"].detach()) == pytest.approx(
        sum(float(v.detach()) for k, v in found.items() if k != "total"), abs=1e-5
    )


def test_decoded_supervision_against_numpy():
    (models, batch), config = toy(), CycleConfig(lambda_roll=3.0)
    found = cycle.decoded_supervised_loss(models, batch, 1, config)
    logits, truth = 4 * (0.5 * batch["paired_audio"].numpy() + 0.1), batch["paired_score"].numpy() > 0
    p = 1 / (1 + np.exp(-logits))
    assert float(found["sup_roll"].detach()) == pytest.approx(-np.log(np.where(truth, p, 1 - p)).mean(), abs=1e-5)
    assert float(found["total"].detach()) == pytest.approx(
        3 * float(found["sup_roll"].detach()) + float(found["sup_audio"].detach()), abs=1e-5
    )
    found["total"].backward()
    assert models["G"].a.grad.abs() > 0


def test_without_pairs_nothing_is_supervised():
    models, batch = toy()
    batch = {k: v for k, v in batch.items() if not k.startswith("paired")}
    never = lambda *_: pytest.fail("a supervised loss was asked for")
    terms = cycle.generator_loss(models, batch, 0, CycleConfig(), supervised=never)
    assert not [k for k in terms if k.startswith("sup")]
    CycleObjective(supervised=never).generator_loss(models, batch, 0)
    for loss in (cycle.supervised_loss, cycle.decoded_supervised_loss, cycle.paired_only_loss):
        with pytest.raises(UserError, match="paired"):
            loss(models, batch, 0, CycleConfig())


def test_paired_only_sees_nothing_unpaired():
    (models, batch), config = toy(), CycleConfig()
    alone = {k: v for k, v in batch.items() if k.startswith("paired")}
    assert torch.equal(
        cycle.paired_only_loss(models, batch, 0, config)["total"],
        cycle.paired_only_loss(models, alone, 0, config)["total"],
    )
    models["G"].seen = 0
    cycle.paired_only_loss(models, batch, 0, config)
    assert models["G"].seen == 2


def test_missing_side_is_borrowed_from_the_pairs():
    models, batch = toy()
    audio_only = {k: v for k, v in batch.items() if k != "score"}
    terms = cycle.generator_loss(models, audio_only, 0, CycleConfig())
    assert {"cycle_audio", "cycle_latent", "sup_latent"} <= set(terms) and terms["total"].isfinite()
    with pytest.raises(UserError, match="score"):
        cycle.generator_loss(models, {"audio": batch["audio"]}, 0, CycleConfig())


def test_terms_are_pure():
    (models, batch), config = toy(), CycleConfig()
    before = {k: v.clone() for k, v in batch.items()}
    a, b = (cycle.generator_loss(models, batch, 9, config)["total"] for _ in range(2))
    assert torch.equal(a, b) and batch.keys() == before.keys() and all(torch.equal(batch[k], before[k]) for k in batch)


def test_zero_weight_terms_are_not_computed():
    (models, batch), config = toy(), CycleConfig(lambda_fm=0.0)
    assert "match_audio" not in cycle.generator_loss(models, batch, 0, config)


def test_gradients_reach_the_right_nets():
    models, batch = toy()
    for p in (*models["D_X"].parameters(), *models["D_Z"].parameters()):
        p.requires_grad_(False)
    objective = CycleObjective()
    objective.generator_loss(models, batch, 0)["total"].backward()
    assert models["G"].a.grad is not None and models["F"].a.grad is not None and models["D_X"].a.grad is None
    for m in models.values():
        m.requires_grad_(True)
    models["G"].a.grad = models["F"].a.grad = None
    objective.discriminator_loss(models, batch, 0)["total"].backward()
    assert models["D_X"].a.grad is not None and models["D_Z"].a.grad is not None and models["G"].a.grad is None


def test_real_side_of_matching_has_no_gradient():
    real, again = (torch.randn(4, requires_grad=True) for _ in range(2))
    cycle.feature_distance([[real, real]], [[again, again]]).backward()
    assert real.grad is None and again.grad is not None


def test_objective_translates_each_example_once():
    models, batch = toy()
    objective = CycleObjective(CycleConfig(pool_size=8))
    for step in range(3):
        models["G"].seen = models["F"].seen = 0
        objective.generator_loss(models, batch, step)
        objective.discriminator_loss(models, batch, step)
        assert models["G"].seen == models["F"].seen == 3 + 2 + 3
    objective.discriminator_loss(models, batch, 99)  # on its own: the fakes are made
    assert models["G"].seen == 8 + 3 + 2


def test_objective_equals_the_pure_functions_without_a_pool():
    (models, batch), config = toy(), CycleConfig(pool_size=0)
    objective = CycleObjective(config)
    assert torch.equal(
        objective.generator_loss(models, batch, 5)["total"], cycle.generator_loss(models, batch, 5, config)["total"]
    )
    assert torch.equal(
        objective.discriminator_loss(models, batch, 5)["total"],
        cycle.discriminator_loss(models, batch, 5, config)["total"],
    )


def test_noise_belongs_to_the_sample():
    """Part of a batch, or a later one, draws what the whole would."""
    models, batch = toy()
    four = {k: torch.cat([v, v[:1]])[:2].repeat(2, 1, 1, 1) for k, v in batch.items()}
    whole = cycle.add_latents(models, four | {"number": 3}, 0, CycleConfig(seed=5))
    for part in (0, 1):
        half = {k: v[2 * part : 2 * part + 2] for k, v in four.items()} | {"number": 2 * 3 + part}
        drawn = cycle.add_latents(models, half, 7, CycleConfig(seed=5))
        for k in ("latent", "paired_latent"):
            assert torch.equal(drawn[k], whole[k][2 * part : 2 * part + 2])
    pairs = {k: v for k, v in four.items() if k.startswith("paired")} | {"number": 3}
    alone = cycle.translated_pairs(models, pairs, 0, CycleConfig(seed=5))
    assert torch.equal(alone["paired_latent"], whole["paired_latent"])
    kept = cycle.add_latents(models, four | {"latent": four["audio"]}, 3, CycleConfig(seed=5))
    assert kept["latent"] is four["audio"] and torch.equal(kept["paired_latent"], whole["paired_latent"])


def test_objective_resumes_exactly():
    models, batch = toy()
    first, second = (CycleObjective(CycleConfig(pool_size=4, seed=2)) for _ in range(2))
    for step in range(5):
        first.generator_loss(models, batch, step), first.discriminator_loss(models, batch, step)
    second.load_state_dict(first.state_dict())
    for step in range(5, 9):
        totals = []
        for objective in (first, second):
            objective.generator_loss(models, batch, step)
            totals.append(objective.discriminator_loss(models, batch, step)["total"])
        assert torch.equal(*totals)


def test_a_fresh_pool_takes_the_state_of_a_fresh_pool():
    a, b = ImagePool(4, seed=1), ImagePool(4, seed=9)
    b.load_state_dict(a.state_dict())
    for x in torch.arange(24.0).reshape(8, 3):
        assert torch.equal(a.query(x), b.query(x))


@hypothesis_settings(max_examples=25, deadline=None)
@given(
    size=st.integers(1, 12),
    batch=st.integers(1, 12),
    rounds=st.integers(1, 8),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_pool_loses_and_invents_nothing(size, batch, rounds, share, seed):
    pool, given_out, put_in = ImagePool(size, share, seed), [], []
    halves = ImagePool(size, share, seed)
    for r in range(rounds):
        x = torch.arange(r * batch, (r + 1) * batch).float()
        out = pool.query(x)
        assert torch.equal(torch.cat([halves.query(part) for part in x.split(max(1, batch // 2))]), out)
        assert out.shape == x.shape
        put_in += x.tolist()
        given_out += out.tolist()
    filled = min(size, len(put_in))
    assert len(pool.images) == filled and len(set(pool.images.tolist())) == filled
    assert set(given_out) | set(pool.images.tolist()) == set(put_in)
    swapped = given_out[size:]
    if share == 0:
        assert given_out == put_in
    assert all(v <= i + size for i, v in enumerate(swapped))  # nothing from the future
    assert torch.equal(halves.images, pool.images)


def test_pool_does_not_touch_what_it_was_given_or_the_global_dice():
    pool, x = ImagePool(4, 1.0), torch.arange(4.0)
    state = torch.get_rng_state()
    pool.query(x)
    pool.query(torch.arange(4.0, 8.0))
    assert x.tolist() == [0, 1, 2, 3] and torch.equal(state, torch.get_rng_state())


def test_whole_step_with_real_networks_in_bfloat16():
    torch.manual_seed(0)
    t = TranslatorConfig(width=4, multipliers=(1, 1, 1, 1, 1), blocks=(0, 0, 0, 0, 1), heads=1, head_width=4)
    models = {
        "vae": ScoreVAE(
            VAEConfig(width=4, multipliers=(1, 1, 1, 1), blocks=(0, 0, 0, 0), heads=1, head_width=4)
        ).requires_grad_(False),
        "G": AudioToLatent(t),
        "F": LatentToAudio(t),
        "D_X": SpectrogramDiscriminator(DiscriminatorConfig(width=2)),
        "D_Z": LatentDiscriminator(LatentDiscriminatorConfig(width=2)),
    }
    batch = {"audio": torch.rand(2, 1, 16, 352) * 2 - 1, "score": torch.rand(2, 1, 16, 88).round() * 2 - 1}
    batch |= {f"paired_{k}": v[:1] for k, v in batch.items()}
    for supervised in (cycle.supervised_loss, cycle.decoded_supervised_loss):
        objective = CycleObjective(CycleConfig(pool_size=4), supervised)
        with torch.autocast("cpu", torch.bfloat16):
            total = objective.generator_loss(models, batch, 0)["total"]
            total = total + objective.discriminator_loss(models, batch, 0)["total"]
        assert total.dtype == torch.float32
        total.backward()
        for name in ("G", "F", "D_X", "D_Z"):
            assert all(p.grad is not None and p.grad.isfinite().all() for p in models[name].parameters()), name
            models[name].zero_grad()
