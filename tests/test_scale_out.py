"""A batch in parts, one after the other or on several processes, trains to the losses of the whole; also from a shell."""

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_unpaired import maps, small  # noqa: F401

from amt_nb.transcription.cycle import CycleConfig, CycleObjective
from amt_nb.transcription.discriminators import DiscriminatorConfig, LatentDiscriminator, LatentDiscriminatorConfig
from amt_nb.transcription.discriminators import SpectrogramDiscriminator
from amt_nb.transcription.score_vae import ScoreVAE, VAEConfig
from amt_nb.transcription.training import TrainConfig, Turn, fit, part_of, processes
from amt_nb.transcription.translators import AudioToLatent, LatentToAudio, TranslatorConfig
from amt_nb.workshop.settings import UserError

torch.set_num_threads(1)
BATCH = 4
ROOT = Path(__file__).resolve().parents[1]


def samples(name, channels, width, numbers):
    """(B, channels, 16, width): sample g of a kind is a function of its name and g."""
    return torch.stack(
        [torch.from_numpy(np.random.default_rng([len(name), g]).uniform(-1, 1, (channels, 16, width))) for g in numbers]
    )


def batches(size):
    """n -> batch of `size` samples, all of a cycle."""
    numbers = lambda n: range(n * size, (n + 1) * size)
    return lambda n: {
        name: (
            samples(name, 1, width, numbers(n)) if width == 352 else samples(name, 1, width, numbers(n)).sign()
        ).float()
        for name, width in (("audio", 352), ("score", 88), ("paired_audio", 352), ("paired_score", 88))
    }


def cycle_run(accumulate=1, **more):
    """The log of six steps of the whole cycle, image pools and posterior noise among it, in `accumulate` parts."""
    torch.manual_seed(0)
    t = TranslatorConfig(width=4, multipliers=(1, 1, 1, 1, 1), blocks=(0, 0, 0, 0, 1), heads=1, head_width=4)
    tiny = VAEConfig(width=4, multipliers=(1, 1, 1, 1), blocks=(0, 0, 0, 0), heads=1, head_width=4)
    models = {
        "vae": ScoreVAE(tiny).eval().requires_grad_(False),
        "G": AudioToLatent(t),
        "F": LatentToAudio(t),
        "D_X": SpectrogramDiscriminator(DiscriminatorConfig(width=2)),
        "D_Z": LatentDiscriminator(LatentDiscriminatorConfig(width=2)),
    }
    for net in models.values():
        net.double()
    objective = CycleObjective(CycleConfig(pool_size=6, warm_up_steps=2))
    config = TrainConfig(
        steps=6,
        warmup_steps=1,
        record_every=1,
        learning_rate=1e-3,
        accumulate=accumulate,
        accelerator="cpu",
        prefetch=0,
        **more,
    )
    turns = [Turn("G", ("G", "F"), objective.generator_loss), Turn("D", ("D_X", "D_Z"), objective.discriminator_loss)]
    return fit(models, turns, batches(part_of(BATCH, config)), config, state=[objective]).records


def furthest(one, other):
    """Largest difference of two logs, relative to what is above 1; both must tell of the same.

    Seconds are left out, and norms of gradients: that of |x| jumps at 0, so one element about there tells the runs apart.
    """
    assert [set(a) for a in one] == [set(b) for b in other]
    told = [(a[k], b[k]) for a, b in zip(one, other) for k in a if k != "seconds" and "grad_norm" not in k]
    return max(abs(a - b) / max(1, abs(a)) for a, b in told)


def test_parts_of_a_batch_train_to_the_losses_of_the_whole(monkeypatch):
    """In double precision, so that the bound is a bound on the algorithm: no rounding turns the sign of an |x|."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    whole = cycle_run()
    for run in (cycle_run(2), cycle_run(4), cycle_run(channels_last="yes")):
        assert furthest(whole, run) < 1e-8


def test_a_batch_that_does_not_come_out_even_is_refused(monkeypatch):
    assert part_of(64, TrainConfig(devices=2, nodes=4, accumulate=2)) == 4
    with pytest.raises(UserError, match="multiple of 3"):
        part_of(64, TrainConfig(devices=3))
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("WORLD_SIZE", "16")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert processes(TrainConfig()) == (8, 2) and part_of(64, replace(TrainConfig(), accumulate=2)) == 2


def words(folder, maps, cache, steps=2, **more):  # noqa: F811
    """A command line that trains the score VAE and the cycle for so many steps each, in batches of two."""
    several = dict(condition_batch=2, condition_paired_batch=2, condition_vae_batch=2, condition_vae_steps=steps)
    settings = [s for s in small("cycle")[1:] if not s.startswith(tuple(several))]
    settings += [f"{k}={v}" for k, v in (several | {"train_record_every": 1} | more).items()]
    data = ["--data", f"maps={maps}", "--cache", str(cache), "--jobs", "1"]
    return [
        "train",
        str(folder),
        "--condition",
        "cycle",
        *data,
        "--steps",
        str(steps),
        "--seed",
        "3",
        "--set",
        *settings,
    ]


def environment(**more):
    """What a process on its own finds around it, and `more`."""
    ours = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "NODE_RANK")}
    return ours | {"OMP_NUM_THREADS": "1"} | more


def started(command, **more):
    """A process of `amt-nb` with these words."""
    python = [sys.executable, "-m", "amt_nb.workshop.cli", *command]
    return subprocess.Popen(
        python, env=environment(**more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )


def logs(folder):
    """What a run says of the score VAE and of the cycle."""
    parts = (folder / part / "log.jsonl" for part in ("vae", "cycle"))
    return [json.loads(line) for path in parts for line in path.read_text().splitlines()]


def test_two_processes_from_a_shell_train_to_the_losses_of_one(maps, tmp_path, shell):  # noqa: F811
    code, _, err = shell(*words(tmp_path / "one", maps, tmp_path / "cache"))
    assert code == 0, err
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = str(s.getsockname()[1])
    torchrun = dict(WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", GROUP_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    torchrun["TORCHELASTIC_RUN_ID"] = "test"
    for name in ("torchrun", "devices"):  # two commands as torchrun starts them; one that starts its own second process
        more = {"train_devices": 2} if name == "devices" else {}
        command = words(tmp_path / name, maps, tmp_path / "cache", **more)
        ranks = [torchrun | dict(RANK=r, LOCAL_RANK=r) for r in "01"] if name == "torchrun" else [{}]
        children = [started(command, **rank) for rank in ranks]
        told = [child.communicate(timeout=400) for child in children]
        assert all(child.returncode == 0 for child in children), told
        assert sum(out.count("condition cycle, 2 steps") for out, _ in told) == 1, "one process speaks"
        assert furthest(logs(tmp_path / "one"), logs(tmp_path / name)) < 1e-5


def killed_at(command, log, lines):
    """Runs a command until `log` has so many lines and kills it, without a word, with kill -9."""
    child, until = started(command), time.monotonic() + 300
    while not (log.exists() and log.read_text().count("\n") >= lines):
        assert child.poll() is None and time.monotonic() < until, child.communicate()
        time.sleep(0.01)
    child.kill()
    child.communicate()


def test_killed_in_the_score_vae_and_in_the_cycle_the_weights_are_the_same(maps, tmp_path, shell):  # noqa: F811
    given = dict(
        steps=8, train_checkpoint_every_s=0, train_validate_every=8, cycle_supervised="roll", cycle_lambda_fm=1
    )
    peace, killed = (words(tmp_path / name, maps, tmp_path / "cache", **given) for name in ("peace", "killed"))
    code, _, err = shell(*peace)
    assert code == 0, err
    for part, lines in (("vae", 3), ("cycle", 4)):
        killed_at(killed, tmp_path / "killed" / part / "log.jsonl", lines)
        assert not (tmp_path / "killed" / "weights.safetensors").exists()
    code, _, err = shell(*killed)
    assert code == 0, err
    weights = [load_file(tmp_path / name / "weights.safetensors") for name in ("peace", "killed")]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])
    assert furthest(logs(tmp_path / "peace"), logs(tmp_path / "killed")) == 0
    assert "G.sup_roll" in logs(tmp_path / "killed")[-2], "the loss of pairs that the settings name"
