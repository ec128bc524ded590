"""prepare, train and evaluate from the command line, on a data set of three short recordings in MAPS' packed layout."""

import csv
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from amt_nb.notes import as_notes
from amt_nb.transcription import unpaired
from amt_nb.transcription.conditions import check_changes
from amt_nb.transcription.unpaired import for_training, pools_of, validator
from amt_nb.workshop.cli_data import METRICS
from amt_nb.workshop.corpora import Features
from amt_nb.workshop.devices import rank_and_world
from amt_nb.workshop.pools import Batches, Pools
from amt_nb.workshop.runs import History
from amt_nb.workshop.settings import UserError
from amt_nb.workshop.synth import render

SMALL = [
    "condition_batch=1",
    "condition_paired_batch=1",
    "condition_crop_frames=32",
    "condition_vae_steps=2",
    "condition_vae_batch=1",
    "train_warmup_steps=1",
    "train_ema_start=1",
    "train_prefetch=0",
    "train_accelerator=cpu",
    "harmonic_width=8",
    "harmonic_memory=0",
    "harmonic_blocks=s",
    "vae_width=8",
    "g_width=4",
    "f_width=4",
    "dx_width=4",
    "dz_width=4",
    "cycle_pool_size=4",
]


def small(condition):
    """--set and what of SMALL the condition reads."""

    def read(item):
        key, _, value = item.partition("=")
        prefix, _, field = key.partition("_")
        try:
            check_changes(condition, changes={prefix: {field: value}})
        except UserError:
            return False
        return True

    return ["--set", *filter(read, SMALL)]


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """A folder with labels.zip and splits.csv as the book's other tests of MAPS have them: one recording a role."""
    folder = tmp_path_factory.mktemp("maps")
    with zipfile.ZipFile(folder / "labels.zip", "w") as labels, (folder / "splits.csv").open("w", newline="") as splits:
        table = csv.writer(splits)
        table.writerow("recording group piece composer title seconds role notes audio_lag_ms".split())
        for k, role in enumerate(["paired", "unpaired", "real_val"]):
            onset = np.arange(12) * 0.5 + 0.2
            notes = as_notes(onset, onset + 0.4, 48 + np.arange(12) * 5 % 24 + k, 80)
            name = f"MAPS_MUS-toy{k}_ENSTDkCl"
            soundfile.write(folder / f"{name}.ogg", render(notes, 16000, seconds=7.0), 16000)
            rows = "".join(f"{n['onset_s']:.4f}\t{n['offset_s']:.4f}\t{n['pitch']}\t{n['velocity']}\n" for n in notes)
            labels.writestr(f"{name}.tsv", "onset_s\toffset_s\tpitch\tvelocity\n" + rows)
            table.writerow([name, "ENSTDkCl", f"toy{k}", "nobody", "toy", 7.0, role, len(notes), 0])
    return folder


@pytest.mark.parametrize("condition", ["direct", "paired", "cycle"])
def test_from_recordings_to_metrics(condition, maps, tmp_path, shell):
    places = ["--data", f"maps={maps}", "--cache", tmp_path / "cache"]
    where = [*places, "--jobs", "1"]
    code, out, err = shell("prepare", *where)
    assert code == 0 and out.count("\n") == 4 and "3 recordings" in out
    code, out, err = shell(
        *("train", tmp_path / "run", "--condition", condition, *where, "--steps", "2", "--seed", "3"),
        *small(condition),
    )
    assert code == 0, err
    weights = tmp_path / "run" / "weights.safetensors"
    assert out.startswith(f"{weights}: condition {condition}, 2 steps") and weights.is_file()
    code, out, err = shell(
        "evaluate", *places, "--role", "validation", "--weights", weights, "--json", tmp_path / "f.json"
    )
    assert code == 0, err
    told = json.loads((tmp_path / "f.json").read_text())
    assert len(told["recordings"]) == 1 and set(METRICS) <= set(told["mean"]) and "mean of 1" in out
    assert "taught these weights" not in err
    code, _, err = shell("evaluate", *places, "--role", "paired", "--weights", weights)
    assert code == 0 and "note: 1 of 1 recordings taught these weights, and are no test of them: " in err
    again = shell(
        *("train", tmp_path / "run", "--condition", condition, *where, "--steps", "2", "--seed", "3"),
        *small(condition),
    )
    assert again[0] == 0 and again[1].startswith(f"{weights}: condition {condition}, 2 steps")


def test_mistakes_are_told_in_one_line(maps, tmp_path, shell):
    places = ["--data", f"maps={maps}", "--cache", tmp_path]
    where = [*places, "--jobs", "1"]
    for words, hint in (
        (["prepare", "--data", "mops"], "maps"),
        (["prepare", "--data", "maps=/nowhere"], "nowhere"),
        (["train", tmp_path / "r", *where, "--set", "train_stepps=3"], "train_steps"),
        (["train", tmp_path / "r", *where, "--ratio", "half"], "ratio"),
        (["evaluate", *places, "--role", "test"], "no labelled recording of role test"),
    ):
        code, out, err = shell(*words)
        assert code in (1, 2) and hint in err.splitlines()[-1] and "Traceback" not in err


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "WORLD_SIZE"])
def test_what_no_launcher_says_is_one_line(maps, tmp_path, shell, monkeypatch, name):
    """Lightning ended on such a variable; and a lone process of rank 1 trained and told nobody where its weights are."""
    monkeypatch.setenv(name, "three")
    code, _, err = shell("train", tmp_path / "r", "--data", f"maps={maps}", "--cache", tmp_path / "c")
    assert code == 1 and f"{name}=three in the environment is no number" in err.splitlines()[-1]


@pytest.mark.parametrize("told", [{"RANK": "1"}, {"RANK": "1", "WORLD_SIZE": "1"}, {"RANK": "1", "WORLD_SIZE": "4"}])
def test_a_process_alone_is_the_first(monkeypatch, told):
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    for name, text in told.items():
        monkeypatch.setenv(name, text)
    assert rank_and_world() == (0, 1)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    assert rank_and_world() == ((1, 4) if told.get("WORLD_SIZE") == "4" else (0, 1))


def test_labels_of_the_unpaired_reach_nothing():
    one = Features("a", "a", "", "unpaired", 512, "maps", "a.cqt", "a.roll")
    judges = [replace(one, id=r, piece=r, role=r) for r in ("real_test", "real_val", "validation", "test")]
    taught = for_training([one, *judges])
    assert len(taught) == 1 and taught[0].roll_path is None and taught[0].notes_path is None
    assert validator([one], None) is None


def test_named_pairs_are_all_pairs():
    pair = Features("p", "p", "", "paired", 2560, "maps", "p.cqt", "p.roll", "p.notes")
    lone = Features("u", "u", "", "unpaired", 5120, "maps", "u.cqt", "u.roll", "u.notes")
    pools = pools_of([pair, lone])
    assert len(pools.paired) == 10 and len(pools.audio) == 20 and len(pools.score) == 0
    assert len(pools_of([pair, lone], minutes=0.43).paired) == 5


class Silent(Features):
    """A recording whose sound nobody may read."""

    def cqt(self, *place):
        raise AssertionError("a spectrogram was read")

    def roll(self, start, frames, onsets=False):
        return np.full((frames, 88), start // 256 % 2, bool)


def test_the_score_vae_reads_every_score_and_no_sound(monkeypatch):
    """Its batch has the size asked for, whatever the pairs' share; its optimiser is Adam, whatever the translators'."""
    pair = Silent("p", "p", "", "paired", 512, "maps", "p.cqt", "p.roll", "p.notes")
    lone = Silent("s", "s", "", "score", 4096, "maps", None, "s.roll", "s.notes")
    queue = lambda i, n: np.array([(i, 256 * k) for k in range(n)])
    pools = Pools((pair, lone), queue(0, 2), np.zeros((0, 2), int), queue(1, 16))
    batches = unpaired.score_batches(pools, 3)
    drawn = [batches(n)["score"] for n in range(6)]
    assert all(len(batch) == 3 for batch in drawn)
    heap, seen = unpaired.only_scores(pools), Batches(unpaired.only_scores(pools), 3)
    rows = [tuple(row) for n in range(6) for row in seen.rows("score", n)]
    assert len(heap.score) == 18 and sorted(set(rows)) == sorted(
        map(tuple, heap.score.tolist())
    )  # each once in an epoch
    given = []
    monkeypatch.setattr(unpaired, "fit", lambda *a, **k: given.append((a, k)) or History(models=a[0]))
    monkeypatch.setattr(Pools, "identity", {})
    changes = {
        "train": {"weight_decay": 0.5, "schedule": "constant"},
        "condition": {"vae_steps": 0, "vae_epochs": 7, "vae_batch": 4},
    }
    unpaired.train_vae(pools, None, "paper", changes, 1)
    (_, turns, made, config, _), _ = given[0]
    assert (config.beta1, config.beta2, config.weight_decay, config.schedule) == (0.9, 0.999, 0, "cosine")
    assert config.steps == 7 * 5 and config.learning_rate == 2e-4 and config.warmup_steps == 35 // 4
    assert made(0)["score"].shape == (4, 1, 256, 88) and made(0)["noise"].shape == (4, 8, 32, 11)
