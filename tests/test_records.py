"""What a run leaves: whole files, weights and cards, results with their history, checkpoints. (Kills and several processes: test_training.py.)"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from amt_nb.workshop import checkpoints
from amt_nb.workshop.checkpoints import catch_stop, FolderLock, load_checkpoint, plain, rng_state
from amt_nb.workshop.checkpoints import save_checkpoint, set_rng_state
from amt_nb.workshop.files import atomic_write, checksum, DiskFull, jsonable
from amt_nb.workshop.records import by_condition, differences, read_record, read_records, records_fit, rounded
from amt_nb.workshop.records import runs_in, show_records, show_seeds, write_record
from amt_nb.workshop.weights import load_weights, part_of, save_weights
from amt_nb.workshop.settings import make, UserError
from amt_nb.transcription.training import TrainConfig

ROOT = Path(__file__).resolve().parents[1]
CONFIG = TrainConfig(steps=24, warmup_steps=4, learning_rate=0.02, checkpoint_every_s=0.0)
NEVER = TrainConfig(**{**CONFIG.__dict__, "checkpoint_every_s": 1e9})


def same(a, b):
    """Bit-equal states."""
    assert sorted(a) == sorted(b)
    for k in a:
        assert torch.equal(a[k], b[k]), k


def test_atomic_write_cleans_up(tmp_path, monkeypatch):
    atomic_write(tmp_path / "a", b"old")

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull, match="cannot write .*No space left on device"):
        atomic_write(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["a"]


def test_weights_round_trip_and_damage(tmp_path):
    torch.manual_seed(0)
    models = {
        "G": nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)),
        "D": nn.Linear(1, 1),
        "frozen": nn.Linear(1, 1),
    }
    path = save_weights(
        tmp_path / "w.safetensors", models, {"G": CONFIG}, {"licence": "CC0", "minutes": np.float32(10)}
    )
    state, config, card = load_weights(path)
    same(models["G"].state_dict(), part_of(state, "G"))
    assert card == {"licence": "CC0", "minutes": 10.0}
    assert make(TrainConfig, config["G"]) == CONFIG
    with pytest.raises(UserError, match=r"no model 'H'.*\['D', 'G', 'frozen'\]"):
        part_of(state, "H")
    tied = nn.ModuleList([nn.Linear(2, 2)])
    tied.append(tied[0])
    half = save_weights(tmp_path / "half", tied, dtype=torch.float16)
    state, config, _ = load_weights(half)
    assert config is None and state["0.weight"].dtype == torch.float32
    data = path.read_bytes()
    for bad in (data[:-10], data[:20], b"", b"{}"):
        path.write_bytes(bad)
        with pytest.raises(UserError, match="w.safetensors is not a whole weights file"):
            load_weights(path)
    with pytest.raises(UserError, match="no weights at"):
        load_weights(tmp_path / "none")


def test_records_hold_no_folder_and_know_their_configuration(tmp_path):
    path = write_record(
        "run-1",
        {"run-1": {"real_val": {"f1": np.float64(71.25), "loss": torch.tensor(0.5)}}},
        {"train": CONFIG},
        3,
        "amt-nb train /data/me/maps --out=~/a/b.mid --ratio 1/100 -j 2",
        checksum("x"),
        tmp_path,
        12.5,
        {"f1": np.arange(3)},
    )
    text = path.read_text()
    (record,) = read_records(tmp_path)
    assert (
        record["command"] == "amt-nb train …/maps --out=…/b.mid --ratio 1/100 -j 2" and socket.gethostname() not in text
    )
    assert record["runs"] == [{"id": "run-1", "metrics": {"real_val": {"f1": 71.25, "loss": 0.5}}}]
    assert np.array_equal(np.load(tmp_path / "run-1.npz")["f1"], [0, 1, 2])
    assert records_fit(record, {"train": CONFIG}) == []
    assert records_fit(record, {"train": NEVER}) == ["train.checkpoint_every_s: 0.0 then, 1000000000.0 now"]
    assert read_records(tmp_path, "run-", ("2", "1")) == [record] and read_records(tmp_path, "run-", ()) == []
    out = show_records(runs_in(record), [("real_val", "f1"), ("real_val", "none")], {"train": NEVER}).text
    assert "(older run)" in out and record["date"][:10] in out and record["commit"][:10] in out and "71.25" in out
    with pytest.raises(UserError, match="letters, digits"):
        write_record("../x", {}, {}, 0, folder=tmp_path)
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(UserError, match="bad.json is not a record"):
        read_records(tmp_path)


def test_a_record_names_the_source_that_was_loaded_and_not_what_came_after(tmp_path, monkeypatch):
    from amt_nb.workshop import records

    loaded = records.COMMIT
    monkeypatch.setattr(records, "_commit", lambda: "ffffffffff")  # as if someone had committed since
    assert (
        json.loads(write_record("late", {"a": {"b": {"c": 1.0}}}, {}, 0, folder=tmp_path).read_text())["commit"]
        == loaded
    )


def test_a_record_comes_apart_into_its_runs(tmp_path):
    metrics = {"CA_seed0": {"test": {"f1": 0.12344, "best shift": 3}}, "CA_seed1": {"test": {"f1": 0.5}}}
    write_record("both", rounded(metrics), {}, 0, folder=tmp_path)
    (record,) = read_records(tmp_path)
    first, second = runs_in(record)
    assert first["metrics"] == {"test": {"f1": 0.1234, "best shift": 3}} and second["metrics"] == {"test": {"f1": 0.5}}
    assert [r["id"] for r in (first, second)] == ["CA_seed0", "CA_seed1"] and first["record"] == "both"
    assert first["command"] == record["command"] and list(by_condition(runs_in(record))) == ["CA"]
    table = show_seeds(runs_in(record), {("test", "f1"): "F1", ("test", "best shift"): "shift"}, {"CA": "a net"}).text
    assert "31.2 ± 26.6 (2)" in table and "300.0" in table and "a net" in table


def test_every_record_on_the_page_is_what_its_file_says():
    """nbs/results/README.md is what tools/records_page.py makes of the records."""
    done = subprocess.run([sys.executable, str(ROOT / "tools" / "records_page.py"), "--check"])
    assert done.returncode == 0, "python tools/records_page.py writes the page anew"


def test_records_are_whole_and_their_commands_can_be_typed_today():
    """Ids and files agree; every papermill command names an experiment of today and parameters that it has."""
    import ast
    import shlex

    files = {p.name for p in (ROOT / "nbs" / "results").iterdir()}
    for path in sorted((ROOT / "nbs" / "results").glob("*.json")):
        record = read_record(path)
        assert record["id"] == path.stem and record.get("curves", path.name) in files
        assert record["runs"] and all(run["metrics"] for run in record["runs"]), path.name
        for run in record["runs"]:
            for role, metrics in run["metrics"].items():
                for k, v in metrics.items():
                    assert not (k.endswith("f1") or k.startswith("within_")) or 0 <= v <= 1, (path.name, role, k, v)
        words = shlex.split(record["command"])
        if words[0] != "papermill":
            continue
        notebook = json.loads((ROOT / words[1]).read_text(encoding="utf-8"))
        cell = next(c for c in notebook["cells"] if "parameters" in c["metadata"].get("tags", []))
        known = {t.id for n in ast.parse("".join(cell["source"])).body for t in n.targets}
        named = {words[i + 1] for i, word in enumerate(words) if word == "-p"}
        assert named <= known, f"{path.name}: {words[1]} has no parameter {sorted(named - known)}"


def test_checksum_tells_kind_shape_and_order(tmp_path):
    a = np.arange(6.0)
    (tmp_path / "f").write_bytes(b"abc")
    (tmp_path / "g").write_bytes(b"abc")
    assert checksum(a) == checksum(torch.arange(6.0, dtype=torch.float64)) != checksum(a.astype("f4"))
    assert len({checksum(a), checksum(a.reshape(2, 3)), checksum(a[::-1]), checksum(a, a)}) == 4
    assert checksum(tmp_path / "f") == checksum(str(tmp_path / "g"))


def test_jsonable_and_differences():
    assert jsonable({"a": (1, np.float32(0.5)), "b": np.arange(2), 3: torch.tensor(True)}) == {
        "a": [1, 0.5],
        "b": [0, 1],
        "3": True,
    }
    assert differences({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}) == ["a.c: absent then, 2 now"]
    assert differences(CONFIG, CONFIG) == [] and differences(CONFIG, NEVER) == [
        "checkpoint_every_s: 0.0 then, 1000000000.0 now"
    ]


class Pool:
    """An object that no checkpoint may hold."""


def test_foreign_objects_are_neither_saved_nor_loaded(tmp_path):
    with pytest.raises(UserError, match="not Pool"):
        save_checkpoint(tmp_path, {"x": Pool()})
    import io, hashlib

    torch.save({"x": Pool()}, buffer := io.BytesIO())
    data = buffer.getvalue()
    (tmp_path / "checkpoint.pt").write_bytes(data + checkpoints._MAGIC + hashlib.blake2b(data, digest_size=32).digest())
    with pytest.warns(UserWarning, match="not a checkpoint"), pytest.raises(UserError):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text", "gone"])
def test_the_one_before_is_found(tmp_path, damage):
    for step in (1, 2):
        save_checkpoint(tmp_path, {"step": step})
    path = tmp_path / "checkpoint.pt"
    data = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
        assert load_checkpoint(tmp_path)["step"] == 1
        return
    if damage == "flip":
        data[len(data) // 2] ^= 1
    path.write_bytes({"cut": data[:-100], "flip": data, "empty": b"", "text": b"hello"}[damage])
    with pytest.warns(UserWarning, match="damaged; going back"):
        assert load_checkpoint(tmp_path)["step"] == 1


def test_kill_between_the_renames_leaves_the_new_one(tmp_path):
    for step in (1, 2):
        save_checkpoint(tmp_path, {"step": step})
    os.replace(tmp_path / "checkpoint.pt", tmp_path / "checkpoint.new.pt")
    assert load_checkpoint(tmp_path)["step"] == 2 and load_checkpoint(tmp_path / "none") is None


def test_plain_keeps_numbers_and_copies_arrays():
    a = np.arange(3)
    out = plain({"a": a, "b": [np.int64(2), "x", None], "c": torch.nn.Parameter(torch.ones(1))})
    a[0] = 9
    assert out["a"].tolist() == [0, 1, 2] and out["b"] == [2, "x", None] and not out["c"].requires_grad


def test_random_state_goes_round_a_file(tmp_path):
    save_checkpoint(tmp_path, rng_state())
    first = torch.rand(2).tolist(), np.random.rand()
    set_rng_state(load_checkpoint(tmp_path))
    assert (torch.rand(2).tolist(), np.random.rand()) == first


def test_handlers_come_back_and_threads_are_left_alone(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with FolderLock(tmp_path), catch_stop():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
    seen = []

    def inside():
        with catch_stop() as caught:
            seen.append((caught, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [([], before)]
