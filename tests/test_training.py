"""Training: kills, races, damaged files, several processes. One server process imports torch once for all children."""

import json, multiprocessing, os, random, signal, socket, warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from amt_nb.transcription import training
from amt_nb.workshop.settings import UserError
from amt_nb.workshop.checkpoints import FolderLock, load_checkpoint
from amt_nb.workshop.weights import load_weights
from amt_nb.workshop.prefetch import Meter, prefetch
from amt_nb.transcription.training import fit, make_fabric, TrainConfig, Turn

torch.set_num_threads(1)
CHILDREN = multiprocessing.get_context("forkserver")
CHILDREN.set_forkserver_preload(["amt_nb.training", "lightning_fabric", "safetensors.torch", "tqdm"])
CONFIG = TrainConfig(
    steps=24,
    warmup_steps=4,
    learning_rate=0.02,
    ema_start=6,
    ema_every=2,
    record_every=5,
    validate_every=8,
    best="-error",
    checkpoint_every_s=0.0,
    accelerator="cpu",
)


class Pool:
    """A memory of fakes with state, as an image pool has."""

    def __init__(self):
        self.kept = torch.zeros(4, 1)

    def __call__(self, x):
        self.kept = torch.cat([self.kept[1:], x.detach()[:1]])
        return self.kept

    def state_dict(self):
        return {"kept": self.kept, "array": np.arange(3)}

    def load_state_dict(self, s):
        self.kept = s["kept"]


def batches(n):
    g = torch.Generator().manual_seed(n)
    x = torch.randn(8, 3, generator=g)
    return {"x": x, "y": x.sum(1, keepdim=True)}


def players(seed=0, event=lambda step: None):
    """Models, turns and pool of an adversarial toy that draws from every random generator."""
    torch.manual_seed(seed)
    models = {
        "G": nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 1)),
        "D": nn.Linear(1, 1),
        "frozen": nn.Linear(1, 1),
    }
    pool = Pool()

    def g(m, b, step):
        event(step)
        out = m["G"](b["x"]) + 0.01 * random.random() + 0.01 * np.random.rand()
        error, fooled = (out - b["y"]).abs().mean(), (m["D"](m["frozen"](out)) - 1).square().mean()
        return {"error": error, "fooled": fooled, "total": error + 0.1 * fooled}

    def d(m, b, step):
        with torch.no_grad():
            fake = m["frozen"](m["G"](b["x"]))
        return {"total": m["D"](pool(fake)).square().mean() + (m["D"](b["y"]) - 1).square().mean()}

    return models, [Turn("G", ("G",), g), Turn("D", ("D",), d, learning_rate=0.01)], pool


def validate(models, step):
    torch.rand(1)  # a validation may draw random numbers too
    b = batches(10**6)
    return {"error": (models["G"](b["x"]) - b["y"]).abs().mean()}


def run(folder, event=lambda step: None, config=CONFIG, **more):
    models, turns, pool = players(event=event)
    history = fit(models, turns, batches, config, folder, validate, state=[pool], **more)
    return history, models, pool


def at(step, action):
    return lambda now: action() if now == step else None


def child_kill(folder, when):
    if when == "in a step":
        event = at(13, lambda: os.kill(os.getpid(), signal.SIGKILL))
    elif when == "between two renames":
        replace, count = os.replace, [0]

        def event(step):
            pass

        def killer(a, b):
            if str(b).endswith("previous.pt"):
                count[0] += 1
                if count[0] == 9:
                    os.kill(os.getpid(), signal.SIGKILL)
            replace(a, b)

        os.replace = killer
    else:
        write, count = os.fsync, [0]

        def event(step):
            pass

        def killer(fd):
            count[0] += 1
            if count[0] == 25:
                os.kill(os.getpid(), signal.SIGKILL)
            write(fd)

        os.fsync = killer
    run(folder, event)


def child_signal(folder, number):
    run(folder, at(9, lambda: os.kill(os.getpid(), number)), config=NEVER)


def child_locked(folder, pipe):
    pipe.send("up")
    try:
        run(folder)
        pipe.send("ran")
    except UserError as e:
        pipe.send(str(e))


def child_lock_and_die(folder):
    FolderLock(folder).__enter__()
    os.kill(os.getpid(), signal.SIGKILL)


NEVER = TrainConfig(**{**CONFIG.__dict__, "checkpoint_every_s": 1e9})


def start(target, *args):
    p = CHILDREN.Process(target=target, args=args)
    p.start()
    return p


def wait(p, code):
    p.join(60)
    assert p.exitcode == code, f"{p.name} ended with {p.exitcode}"


def same(a, b):
    """Bit-equal states."""
    assert sorted(a) == sorted(b)
    for k in a:
        assert torch.equal(a[k], b[k]), k


def lines(folder):
    return [
        {k: v for k, v in json.loads(l).items() if k != "seconds"}
        for l in (folder / "log.jsonl").read_text().splitlines()
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("whole")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        history, models, pool = run(folder, config=NEVER)
    return folder, history, models, pool


def equal_to(whole, folder, history, models, pool):
    first, h, m, p = whole
    for name in m:
        same(m[name].state_dict(), models[name].state_dict())
    for name in ("G", "D"):
        same(h.models[name].state_dict(), history.models[name].state_dict())
    assert torch.equal(p.kept, pool.kept) and h.best == history.best and lines(first) == lines(folder)
    assert len(history.records) == len(h.records) and history.step == 24
    a, b = load_checkpoint(first), load_checkpoint(folder)
    for turn in a["turns"]:
        for i, s in a["turns"][turn]["state"].items():
            same(s, b["turns"][turn]["state"][i])
    same(load_weights(first / "best.safetensors")[0], load_weights(folder / "best.safetensors")[0])


@pytest.mark.parametrize("when", ["in a step", "between two renames", "in a write"])
def test_killed_run_goes_on_bit_equal(tmp_path, whole, when):
    wait(start(child_kill, tmp_path, when), -signal.SIGKILL)
    assert 0 < load_checkpoint(tmp_path)["step"] < 24
    equal_to(whole, tmp_path, *run(tmp_path))
    assert not list(tmp_path.glob("*.new.pt"))


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 1), (signal.SIGTERM, 143)])
def test_stopped_run_saves_and_goes_on_bit_equal(tmp_path, whole, number, code):
    wait(start(child_signal, tmp_path, number), code)
    assert load_checkpoint(tmp_path)["step"] == 10  # the step that was under way, finished
    equal_to(whole, tmp_path, *run(tmp_path, config=NEVER))


def test_ctrl_c_here_raises_and_restores_the_handler(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, at(3, lambda: os.kill(os.getpid(), signal.SIGINT)), config=NEVER)
    assert signal.getsignal(signal.SIGINT) is before and load_checkpoint(tmp_path)["step"] == 4


def test_second_process_is_refused_and_a_dead_one_is_not_in_the_way(tmp_path):
    here, there = CHILDREN.Pipe()
    with FolderLock(tmp_path):
        p = start(child_locked, tmp_path, there)
        assert here.poll(60) and here.recv() == "up" and here.poll(60)
        message = here.recv()
        wait(p, 0)
        assert "in use" in message and str(os.getpid()) in message
        with pytest.raises(UserError, match="in use"):
            run(tmp_path)
    wait(start(child_lock_and_die, tmp_path), -signal.SIGKILL)
    assert (tmp_path / "lock").exists()
    with FolderLock(tmp_path):
        pass


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text"])
def test_damaged_checkpoint_falls_back(tmp_path, whole, damage):
    run(tmp_path, callbacks=[lambda step, record, models: step >= 15])
    path = tmp_path / "checkpoint.pt"
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    path.write_bytes({"cut": data[:-100], "flip": data, "empty": b"", "text": b"hello"}[damage])
    with pytest.warns(UserWarning, match="damaged; going back"):
        state = load_checkpoint(tmp_path)
    assert state["step"] == 14
    with pytest.warns(UserWarning, match="damaged"):
        equal_to(whole, tmp_path, *run(tmp_path))


def test_no_whole_checkpoint_left_is_an_error(tmp_path):
    for n in ("checkpoint.pt", "checkpoint.previous.pt"):
        (tmp_path / n).write_bytes(b"x")
    with warnings.catch_warnings(), pytest.raises(UserError, match="no checkpoint .* whole"):
        warnings.simplefilter("ignore")
        run(tmp_path)


def test_other_configuration_is_named(tmp_path):
    stop = [lambda step, record, models: True]
    run(tmp_path, callbacks=stop, about={"width": 8})
    other = TrainConfig(**{**CONFIG.__dict__, "learning_rate": 0.03})
    with pytest.raises(UserError, match=r"train\.learning_rate: 0\.02 then, 0\.03 now"):
        run(tmp_path, config=other, about={"width": 8})
    with pytest.raises(UserError, match=r"about\.width: 8 then, 9 now"):
        run(tmp_path, about={"width": 9})
    models, turns, pool = players()
    models["D"] = nn.Linear(1, 1, bias=False)
    with pytest.raises(UserError, match=r"models\.D\.bias: \[1\] then, absent now"):
        fit(models, turns, batches, CONFIG, tmp_path, state=[pool], about={"width": 8})
    free = TrainConfig(**{**CONFIG.__dict__, "prefetch": 0, "record_every": 3, "checkpoint_every_s": 7.0})
    assert run(tmp_path, config=free, about={"width": 8})[0].step == 24


def test_finished_run_returns_at_once(tmp_path, whole):
    folder, h, m, p = whole
    history, models, _ = run(folder, at(0, lambda: pytest.fail("a step was taken")), config=NEVER)
    same(models["G"].state_dict(), m["G"].state_dict())
    assert history.records == h.records


@pytest.mark.parametrize("where", ["term", "gradient"])
def test_nan_stops_and_keeps_the_last_good_checkpoint(tmp_path, where):
    class Trap(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            return g * float("nan")

    models, turns, pool = players()

    def loss(m, b, step):
        out = turns[0].loss(m, b, step)
        if step == 12 and where == "term":
            out["fooled"] = out["fooled"] * float("nan")
            out["total"] = out["error"] + out["fooled"]
        if step == 12 and where == "gradient":
            out["total"] = Trap.apply(out["total"])
        return out

    name = {"term": r"G\.fooled", "gradient": r"G\.grad_norm"}[where]
    with pytest.raises(UserError, match=rf"{name} was not finite at step 12: .*{tmp_path.name}"):
        fit(models, [Turn("G", ("G",), loss), turns[1]], batches, CONFIG, tmp_path, state=[pool])
    state = load_checkpoint(tmp_path)
    assert state["step"] == 12 and all(v.isfinite().all() for v in state["models"]["G"].values())


@pytest.mark.skipif(os.name != "posix", reason="needs resource limits")
def test_full_disk_keeps_the_old_checkpoint(tmp_path):
    import resource

    run(tmp_path, callbacks=[lambda step, record, models: True])
    old = (tmp_path / "checkpoint.pt").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(old) // 2, hard))  # a write beyond this fails in the kernel
    try:
        with pytest.warns(UserWarning) as warned:
            run(tmp_path, callbacks=[lambda step, record, models: step >= 10])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [int(str(w.message).split()[4]) for w in warned if "training goes on" in str(w.message)] == [6, 7, 8, 9, 10]
    assert (tmp_path / "checkpoint.pt").read_bytes() == old and not list(tmp_path.glob("*.tmp"))


def test_fit_leaves_the_callers_world_alone():
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    expected = torch.rand(1).item(), np.random.rand(), random.random()
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    models, turns, pool = players(seed=5)
    torch.manual_seed(5)
    frozen = [p.clone() for p in models["frozen"].parameters()]
    models["G"][0].bias.requires_grad_(False)
    fit(models, turns, batches, CONFIG, state=[pool])
    assert (torch.rand(1).item(), np.random.rand(), random.random()) == expected
    assert all(torch.equal(a, b) for a, b in zip(frozen, models["frozen"].parameters()))
    grads = {n: p.requires_grad for n, p in models["G"].named_parameters()}
    assert not grads.pop("0.bias") and all(grads.values())


def test_bad_turns_are_named():
    models, turns, pool = players()
    with pytest.raises(UserError, match=r"turn 'G' trains \('H',\)"):
        fit(models, [Turn("G", ("H",), turns[0].loss)], batches, CONFIG)
    models["G"].requires_grad_(False)
    with pytest.raises(UserError, match="nothing to train"):
        fit(models, turns, batches, CONFIG)
    with pytest.raises(UserError, match="best = 'f1', but validate gave"):
        fit(players()[0], turns, batches, TrainConfig(**{**CONFIG.__dict__, "best": "f1"}), validate=validate)


def test_prefetch_order_error_and_end():
    made = []

    def make(n):
        made.append(n)
        if n == 5:
            raise OSError("disk gone")
        return {"n": torch.tensor(n), "name": str(n)}

    feed = prefetch(make, range(9), 3)
    assert [int(next(feed)["n"]) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(OSError, match="disk gone"):
        next(feed)
    feed = prefetch(make, range(2), 0)
    assert [b["name"] for b in feed] == ["0", "1"]
    import threading

    feed = prefetch(make, range(100, 200), 2)
    next(feed)
    feed.close()
    assert len(made) < 30 and not [t for t in threading.enumerate() if t.name.startswith("batch")]


def test_meter_names_the_first_bad_term():
    meter = Meter()
    meter.add(3, {"a": torch.tensor(1.0), "total": torch.tensor(1.0)})
    meter.add(4, {"a": torch.tensor(3.0), "b": 5.0, "total": torch.tensor(2.0)})
    other = Meter()
    other.load_state_dict(meter.state_dict())
    assert other.read() == ({"a": 2.0, "total": 1.5, "b": 5.0}, None)
    meter.add(7, {"total": torch.tensor(float("inf")), "b": torch.tensor(float("nan"))})
    assert meter.read()[1] == (7, "b")


def child_ddp(rank, port, folder, pipe):
    os.environ |= dict(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE="2",
        LOCAL_WORLD_SIZE="2",
        GROUP_RANK="0",
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        TORCHELASTIC_RUN_ID="test",
    )
    torch.set_num_threads(1)
    config = TrainConfig(**{**NEVER.__dict__, "devices": 2})
    fabric = make_fabric(config)
    fabric.launch()
    models, turns = plain(seed=rank)  # rank 1 begins elsewhere: rank 0's weights must win
    whole = fit(models, turns, batches, config, folder / "a", plain_validate, fabric=fabric)
    again, turns = plain(seed=rank)
    fit(
        again,
        turns,
        batches,
        config,
        folder / "b",
        plain_validate,
        fabric=fabric,
        callbacks=[lambda step, record, models: rank == 1 and step >= 10],
    )
    other, turns = plain(seed=rank)
    cut = fit(other, turns, batches, config, folder / "b", plain_validate, fabric=fabric)
    for a, b in zip(models["G"].parameters(), other["G"].parameters()):
        assert torch.equal(a, b)
    weights = {k: v.numpy().copy() for k, v in models["G"].state_dict().items()}
    try:
        fit(models, [Turn("G", ("G",), nan_on_rank_1)], batches, config, fabric=fabric)
    except UserError as e:
        problem = str(e)
    models, turns = plain()
    if rank == 1:
        turns[0] = Turn(
            "G",
            ("G",),
            lambda m, b, step: (
                at(3, lambda: os.kill(os.getpid(), signal.SIGTERM))(step) or plain()[1][0].loss(m, b, step)
            ),
        )
    try:
        fit(models, turns, batches, config, folder / "c", fabric=fabric)
        code = 0
    except SystemExit as e:
        code = e.code
    pipe.send((cut.step, whole.best, problem, weights, code))


def nan_on_rank_1(m, b, step):
    loss = m["G"](b["x"]).square().mean()
    return {"total": loss * (float("nan") if step == 7 and os.environ["RANK"] == "1" else 1.0)}


def plain(seed=0):
    """A model and turn without randomness of its own."""
    torch.manual_seed(seed)
    models = {"G": nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)), "D": nn.Linear(1, 1)}
    g = lambda m, b, step: {
        "total": (m["G"](b["x"]) - b["y"]).square().mean() + 0.1 * m["D"](m["G"](b["x"])).square().mean()
    }
    d = lambda m, b, step: {"total": (m["D"](m["G"](b["x"]).detach()) - b["y"]).square().mean()}
    return models, [Turn("G", ("G",), g), Turn("D", ("D",), d)]


def plain_validate(models, step):
    b = batches(10**6)
    return {"error": (models["G"](b["x"]) - b["y"]).abs().mean()}


def test_two_processes_equal_one_with_twice_the_batch(tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    pipes = [CHILDREN.Pipe() for _ in range(2)]
    ranks = [start(child_ddp, r, port, tmp_path, pipes[r][1]) for r in range(2)]
    models, turns = plain()
    twice = lambda n: {k: torch.cat([batches(2 * n)[k], batches(2 * n + 1)[k]]) for k in ("x", "y")}
    history = fit(models, turns, twice, NEVER, validate=plain_validate)
    assert all(here.poll(90) for here, _ in pipes)
    (step, best, problem, weights, code), (_, _, problem1, _, code1) = [here.recv() for here, _ in pipes]
    for p in ranks:
        wait(p, 0)
    for k, v in models["G"].state_dict().items():
        np.testing.assert_allclose(weights[k], v.numpy(), atol=2e-5, rtol=0)
    assert code == code1 == 143 and load_checkpoint(tmp_path / "c")["step"] == 5  # rank 1 alone was told to stop
    assert step == 24 and best["step"] == history.best["step"] and abs(best["value"] - history.best["value"]) < 1e-4
    assert problem == problem1 and "G.total was not finite at step 7" in problem
    two = [json.loads(l) for l in (tmp_path / "b" / "log.jsonl").read_text().splitlines()]
    assert [r["step"] for r in two] == [r["step"] for r in history.records]  # no line twice, one process writes
    for a, b in zip(two, history.records):
        if "G.total" in a:
            assert abs(a["G.total"] - b["G.total"]) < 1e-4


def test_importing_training_leaves_heavy_modules_out():
    import ast

    top = [
        n for n in ast.parse(Path(training.__file__).read_text()).body if isinstance(n, (ast.Import, ast.ImportFrom))
    ]
    names = {a.name.split(".")[0] for n in top if isinstance(n, ast.Import) for a in n.names} | {
        n.module.split(".")[0] for n in top if isinstance(n, ast.ImportFrom)
    }
    assert not names & {"lightning", "lightning_fabric", "matplotlib", "tqdm", "safetensors"} and "torch" in names


@pytest.mark.parametrize("times, said", [(46.0, True), (0.7, False)])
def test_bfloat16_that_a_processor_imitates_is_said(monkeypatch, times, said):
    """A step took twelve seconds instead of one, and nothing told why."""
    monkeypatch.setattr(training, "bfloat16_slowdown", lambda: times)
    with warnings.catch_warnings(record=True) as words:
        warnings.simplefilter("always")
        make_fabric(TrainConfig(accelerator="cpu", precision="bf16-mixed"))
        make_fabric(TrainConfig(accelerator="cpu", precision="32-true"))
    told = [str(w.message) for w in words if "imitates bfloat16" in str(w.message)]
    assert told == (
        [
            "train_precision bf16-mixed: this processor imitates bfloat16: a product takes 46 times as long as with 32-true"
        ]
        * said
    )
