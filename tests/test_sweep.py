"""Whole tables: from raw files to the finished one, stopped and gone on with, on a cluster, on another device, with what is wrong said in one line."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import lookalikes
import pytest
import torch
from test_unpaired import maps  # noqa: F401

from amt_nb.transcription import learnt_renderer, tables
from amt_nb.transcription.conditions import CONDITIONS
from amt_nb.workshop.cli_sweep import OF_DATA, OF_TRAINING
from amt_nb.workshop.records import read_records
from amt_nb.workshop.settings import SIZES, UserError
from amt_nb.workshop.sweep import read_sweep, read_toml, results, shipped
from amt_nb.workshop.weights import load_weights

ROOT = Path(__file__).resolve().parents[1]
torch.set_num_threads(1)
SMALL = """
train_steps=2 train_warmup_steps=1 train_validate_every=2 train_record_every=1 train_prefetch=0 train_ema_start=1
condition_batch=1 condition_paired_batch=1 condition_vae_steps=2 condition_vae_batch=2 condition_validation_minutes=0.1
vae_width=4 vae_blocks=0,0,0,0 g_width=4 g_blocks=0,0,0,0,0 f_width=4 f_blocks=0,0,0,0,0 dx_width=4 dz_width=4
"""
DIRECT = """
title = "Small"
data = ["maps"]
evaluate = ["validation"]

[settings]
train_warmup_steps = 1
train_validate_every = 1000
train_checkpoint_every_s = 0
train_prefetch = 0
condition_paired_batch = 1
harmonic_width = 8
harmonic_blocks = "s"
harmonic_memory = 0
"""


@pytest.fixture(autouse=True)
def one_core(monkeypatch):
    """Features are prepared in the process itself."""
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Look-alikes of MAESTRO and GuitarSet, and a cache for their features."""
    root = tmp_path_factory.mktemp("data")
    lookalikes.maestro(root, train=4, validation=1, test=1)
    lookalikes.guitarset(root / "guitarset")
    return root


def places(data):
    """--data of the look-alikes."""
    return [f"maestro={data / 'maestro-v3.0.0'}", f"guitarset={data / 'guitarset'}"]


def table(path, grid, text=DIRECT):
    """A file with the grids in the text `grid`."""
    path.write_text(text + grid)
    return path


def weights(folder):
    """{run: its weights} below the folder of a sweep."""
    return {p.parent.name: load_weights(p)[0] for p in sorted(Path(folder).glob("*/weights.safetensors"))}


def same(a, b):
    """Bit-equal weights of the same runs."""
    assert a.keys() == b.keys() and a
    assert all(a[run].keys() == b[run].keys() for run in a)
    assert all(torch.equal(a[run][k], b[run][k]) for run in a for k in a[run])


# ---- from raw files to the table ------------------------------------------------------------------------------------


def test_maestro_from_raw_files_to_table_one(data, tmp_path, shell):
    words = ["sweep", "table1", "--size", "paper", "--data", places(data)[0], "-o", tmp_path / "t"]
    words += ["--cache", data / "cache", "--seeds", "3", "--ratio", "1:9", "0:1", "1:0", "--set", *SMALL.split()]
    code, out, err = shell(*words)
    assert code == 0, err
    assert "4 of 4 runs" in out and "Size paper, data maestro, 2 steps of 1 chunks" in out
    rows = {tuple(line.split()[:3]): line.split()[3:] for line in out.splitlines()}
    assert rows["1:9", "cycle", "test"][0] == "81.81" and rows["1:0", "paired", "test"][0] == "87.43"
    assert "68.90" in " ".join(rows["0:1", "cycle", "test"]) and rows["1:100", "cycle", "test"] == ["75.45", *"––––"]
    records = read_records(tmp_path / "t" / "records")
    assert [r["id"] for r in records] == [
        f"table1_{c}_{r}_seed3" for c, r in (("cycle", "0-1"), ("cycle", "1-9"), ("paired", "1-0"), ("paired", "1-9"))
    ]
    for record in records:
        (metrics,) = record["runs"][0]["metrics"].values()
        assert metrics["chunk_frame_f1"] != metrics["frame_f1"] and record["configuration"]["pool"]["seed"] == 3
    assert len({tuple(r["configuration"]["minutes"].items()) for r in records}) == 3
    assert len(list((tmp_path / "t").glob("vae-*/vae.safetensors"))) == 1
    code, out, err = shell(*words)
    assert code == 0 and "4 done before, 0 to do" in err and "4 of 4 runs" in out
    words[words.index(places(data)[0])] = f"maestro={data / 'nowhere'}"
    code, out, err = shell(*words)
    assert code == 1 and err.count("\n") == 1 and "nowhere" in err


# ---- stopped, killed, failed ----------------------------------------------------------------------------------------

LONG = '\n[[grid]]\ncondition = "direct"\nminutes = 0.1\nseed = [0, 1]\ntrain_steps = 60\n'


def sweeping(maps, file, out, cache, *more):  # noqa: F811
    """A process that runs `amt-nb sweep`."""
    command = [sys.executable, "-m", "amt_nb.workshop.cli", "sweep", file, "--data", f"maps={maps}", "-o", out]
    command += ["--cache", cache, *more]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    told = open(file.with_suffix(".err"), "w")
    return subprocess.Popen(list(map(str, command)), env=env, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=told)


def test_killed_and_interrupted_it_ends_with_the_same_weights(maps, tmp_path, shell):  # noqa: F811
    file = table(tmp_path / "t.toml", LONG)
    words = ["sweep", file, "--data", f"maps={maps}", "--cache", tmp_path / "cache", "-o"]
    code, out, err = shell(*words, tmp_path / "whole")
    assert code == 0, err
    for number, run in ((signal.SIGKILL, 0), (signal.SIGINT, 1)):
        process = sweeping(maps, file, tmp_path / "cut", tmp_path / "cache")
        there = tmp_path / "cut" / f"t_direct_6-s_seed{run}" / "checkpoint.pt"
        deadline = time.monotonic() + 120
        while not there.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(number)
        code = process.wait(timeout=60)
        assert code == (-9 if number == signal.SIGKILL else 130), file.with_suffix(".err").read_text()
        assert len(read_records(tmp_path / "cut" / "records")) == run
    code, out, err = shell(*words, tmp_path / "cut")
    assert code == 0 and "1 done before, 1 to do" in err, err
    same(weights(tmp_path / "cut"), weights(tmp_path / "whole"))


def test_one_error_does_not_lose_the_others(maps, tmp_path, shell):  # noqa: F811
    grid = '\n[[grid]]\ncondition = "direct"\nminutes = [99, 0.1]\ntrain_steps = 2\n'
    file = table(tmp_path / "t.toml", grid, 'thresholds = "chosen"\n' + DIRECT)
    words = ["sweep", file, "--data", f"maps={maps}", "--cache", tmp_path / "cache", "-o", tmp_path / "o"]
    for _ in range(2):
        code, out, err = shell(*words)
        assert code == 1 and "1 of 2 runs in" in out
        last = err.splitlines()[-1]
        assert last.startswith("amt-nb: t_direct_99-min_seed0: 99") and "error.txt" in last
    assert [r["id"] for r in read_records(tmp_path / "o" / "records")] == ["t_direct_6-s_seed0"]
    assert "Traceback" in (tmp_path / "o" / "t_direct_99-min_seed0" / "error.txt").read_text()


def test_a_killed_process_is_one_line(tmp_path):
    with pytest.raises(UserError, match="a process was killed"):
        list(results([(os._exit, (1,)), (os._exit, (1,))], n_jobs=2))


# ---- elsewhere ------------------------------------------------------------------------------------------------------


def test_a_cluster_makes_the_same(maps, tmp_path, shell):  # noqa: F811
    pytest.importorskip("distributed")
    file = table(tmp_path / "t.toml", LONG.replace("60", "3"))
    words = ["sweep", file, "--data", f"maps={maps}", "--cache", tmp_path / "cache", "-o"]
    for name, more in (("here", ()), ("cluster", ("--cluster", "local:2"))):
        code, out, err = shell(*words, tmp_path / name, *more)
        assert code == 0 and "2 of 2 runs" in out, err
    same(weights(tmp_path / "here"), weights(tmp_path / "cluster"))
    for address, what in (("tcp://127.0.0.1:9", "no Dask scheduler answers"), ("local:0", "write local:4")):
        code, out, err = shell(*words, tmp_path / "none", "--cluster", address)
        assert code == 1 and what in err.splitlines()[-1]


def test_a_cluster_of_several_threads_is_refused():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster:
        with pytest.raises(UserError, match="workers with 2 threads.*--nthreads 1"):
            list(results([(print, ())], cluster=cluster.scheduler_address))


# ---- the tables of the book and of others ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", shipped())
def test_the_tables_of_the_book(name):
    """Each can be made at every size it has, and at the largest has a run beside every printed number."""
    sizes = [size for size in SIZES if size in read_toml(shipped()[name])]
    assert {size.partition("-")[0] for size in sizes} == {"demo", "paper"}
    for size in sizes:
        sweep = read_sweep(name, size)
        tables.check_sweep(sweep)
        assert {r.condition for r in sweep.runs} <= set(CONDITIONS) and sweep.beside in tables.PAPER
    ours = {(r.row, r.condition, on) for r in sweep.runs for on in r.evaluate}
    if name == "table6":
        ours |= {(row, condition, f"{on}, by instrument") for row, condition, on in ours}
    assert {(p.row, p.condition, p.on) for p in tables.PAPER[sweep.beside]} <= ours


WRONG = {
    "colour = 1": "unknown key 'colour'",
    "data = 3": "data is a list",
    "[[grid]]\ncondition = 'direct'\nharmonic_wdth = 3": "no harmonic_wdth: did you mean 'harmonic_width'",
    "[[grid]]\ncondition = 'direct'\nharmonic_width = 'wide'": "harmonic_width = 'wide' is not a whole number",
    "[[grid]]\ncondition = 'direct'\ng_width = 4": "g_width is set, and none of its conditions reads it",
    "[[grid]]\ncondition = 'dirct'": "no condition 'dirct': did you mean 'direct'",
    "[[grid]]\ncondition = ['direct', 'direct']": "two runs are called",
    "[[grid]]\ncondition = 'direct'\nseed = 'one'": "both are numbers",
    "[[grid]]\ncondition = 'direct'\nteach = { asap = 'sound' }": "speaks of asap",
    "[[grid]]\ncondition = 'direct'\nteach = { maps = 'much' }": "teach maps = 'much'",
    "[[grid]]\ncondition = 'direct'\nminutes = [": "is no TOML",
    "[paper]\nsize = 'paper'": "says nothing of size 'demo'",
    "grid = [1]": "[[grid]] tables",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_with_a_file_is_one_line(text, tmp_path, shell):
    settings = "\n".join(line for line in DIRECT.splitlines() if "evaluate" in line or "data" in line)
    text = text if text.startswith("[") else f"{text}\n"
    file = tmp_path / "t.toml"
    file.write_text((settings if not text.startswith("data") else "evaluate = ['test']") + "\n" + text)
    code, out, err = shell("sweep", file, "-o", tmp_path / "o")
    assert code == 1 and err.count("\n") == 1 and WRONG[text.rstrip("\n")] in err, err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    "words, said",
    [
        (["--set", "nonsense=1"], "--set nonsense=1: settings.ini has no nonsense"),
        (["--vae", "gone.safetensors"], "no weights at gone.safetensors"),
        (["--vae", "text.safetensors"], "text.safetensors is not a whole weights file"),
        (["--vae", str(ROOT / "amt_nb" / "weights" / "clefs-14k.safetensors")], "holds no score VAE"),
    ],
)
@pytest.mark.parametrize("dry", [["--dry-run"], []])
def test_what_is_wrong_on_the_line_is_said_before_any_run(tmp_path, monkeypatch, shell, words, said, dry):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.safetensors").write_text("hello")
    code, out, err = shell("sweep", "table1", *words, *dry, "-o", tmp_path / "runs")
    assert code == 1 and said in err and err.count("\n") == 1 and ".toml" not in err
    assert not (tmp_path / "runs").exists()


def test_cost_is_estimated_without_training_the_table(maps, tmp_path, shell):  # noqa: F811
    file = table(tmp_path / "t.toml", LONG)
    code, out, err = shell("sweep", file, "--dry-run", "--data", f"maps={maps}", "-o", tmp_path / "o")
    assert code == 0 and "2 runs, about" in out and out.count("60") >= 4, out
    assert not (tmp_path / "o").exists()


def test_what_needs_unpaired_scores_has_a_cost_too(tmp_path, monkeypatch):
    """Two recordings of noise are a pair, a sound and a score; a renderer is hardly trained for an estimate."""
    text = DIRECT + "harmonic_hidden = 8\n[[grid]]\ncondition = 'rendered'\nminutes = 1\n"
    (tmp_path / "t.toml").write_text(text)
    (run,) = read_sweep(tmp_path / "t.toml").runs
    fitted, fit = [], learnt_renderer.fit_renderer
    monkeypatch.setattr(learnt_renderer, "fit_renderer", lambda *a: fitted.append(a[1].steps) or fit(*a))
    cost = tables.cost_of(run)
    assert cost["steps"] == 2000 and cost["pflop"] > 0 and cost["hours"] > 0 and fitted == [1, 1]


def test_settings_that_some_condition_reads_are_heeded():
    read = {prefix for condition in CONDITIONS.values() for prefix in condition.reads}
    assert set(OF_TRAINING) == read - set(OF_DATA) and set(tables.FEATURES) <= set(OF_DATA)
