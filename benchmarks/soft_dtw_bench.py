"""Soft-DTW beside every public package that can be imported: accuracy, speed, memory, and one very long pair.

    python benchmarks/soft_dtw_bench.py accuracy          errors of value and gradient in float32, against extended precision
    python benchmarks/soft_dtw_bench.py speed             CPU and wall seconds, extra memory, forward and backward
    python benchmarks/soft_dtw_bench.py long              plain DTW of 100,000 x 100,000 frames
    python benchmarks/soft_dtw_bench.py gpu               accuracy and time of the GPU kernels (needs a GPU and Triton)

Packages: pip install pysdtw tslearn ddtw. From GitHub, on PYTHONPATH: soft_dtw_cuda.py (Maghoumi/pytorch-softdtw-cuda), softdtw_cuda
(BGU-CS-VIL/sdtw-cuda-torch), sdtw_div (google-research/soft-dtw-divergences), sdtw (mblondel/soft-dtw, built in place).
One that cannot be imported is named and left out. The record goes to nbs/results/soft_dtw_<part>.json.
"""

import argparse
import ctypes
import datetime
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
import traceback
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
warnings.filterwarnings("ignore")

import numpy as np
import torch

# ---- what is compared: name -> (module that must be importable, float type, maker of run(x, y, gamma, cost_exact) -> (value of pair 0, dx of all))


def torch_run(call):
    def run(x, y, gamma):
        a = x.clone().requires_grad_()
        out = call(a, y, gamma)
        value = out.sum() if out.ndim else out * len(x)
        value.backward()
        return value.detach().item(), a.grad

    return run


def ours():
    from amt_nb.alignment.soft_dtw import soft_dtw

    return torch_run(lambda x, y, g: soft_dtw(x, y, g))


def exact_cost(x, y):
    return ((x[:, :, None] - y[:, None]) ** 2).sum(-1)


def pysdtw_default():
    import pysdtw

    return torch_run(lambda x, y, g: pysdtw.SoftDTW(gamma=g, use_cuda=x.is_cuda)(x, y))


def pysdtw_exact():
    import pysdtw

    return torch_run(lambda x, y, g: pysdtw.SoftDTW(gamma=g, dist_func=exact_cost, use_cuda=x.is_cuda)(x, y))


def maghoumi():
    from soft_dtw_cuda import SoftDTW

    return torch_run(lambda x, y, g: SoftDTW(use_cuda=x.is_cuda, gamma=g)(x, y))


def tslearn():
    from tslearn.metrics import SoftDTWLossPyTorch

    return torch_run(lambda x, y, g: SoftDTWLossPyTorch(gamma=g)(x, y))


def bgu():
    from softdtw_cuda import SoftDTW

    return torch_run(lambda x, y, g: SoftDTW(gamma=g)(x, y))


def ddtw():
    from ddtw import SDTW

    return torch_run(lambda x, y, g: SDTW(gamma=g, normalization="none")(x, y))  # returns the mean of the batch


def sdtw_div():
    from sdtw_div.numba_ops import sdtw_value_and_grad

    def run(x, y, gamma):
        found = [
            sdtw_value_and_grad(a.double().numpy(), b.double().numpy(), gamma=gamma / 2) for a, b in zip(x, y)
        ]  # its cost is half
        return 2 * sum(f[0] for f in found), torch.as_tensor(2 * np.stack([f[1] for f in found]))

    return run


def mblondel():
    from sdtw import SoftDTW
    from sdtw.distance import SquaredEuclidean

    def run(x, y, gamma):
        total, grads = 0.0, []
        for a, b in zip(x.double().numpy(), y.double().numpy()):
            d = SquaredEuclidean(a, b)
            s = SoftDTW(d, gamma=gamma)
            total += s.compute()
            grads.append(d.jacobian_product(s.grad()))
        return total, torch.as_tensor(np.stack(grads))

    return run


PACKAGES = {
    "this book": ("amt_nb", ours),
    "pysdtw": ("pysdtw", pysdtw_default),
    "pysdtw, exact cost": ("pysdtw", pysdtw_exact),
    "Maghoumi": ("soft_dtw_cuda", maghoumi),
    "tslearn": ("tslearn", tslearn),
    "BGU": ("softdtw_cuda", bgu),
    "ddtw": ("ddtw", ddtw),
    "sdtw_div (float64)": ("sdtw_div", sdtw_div),
    "mblondel (float64)": ("sdtw", mblondel),
}


def present():
    names = [n for n, (module, _) in PACKAGES.items() if importlib.util.find_spec(module)]
    for n in PACKAGES:
        if n not in names:
            print(f"{n}: not importable, left out")
    return names


# ---- data and truth


def pair(kind, n, dims=1, batch=1, seed=0):
    """x, y (batch, n, dims) float32."""
    rng, i = np.random.default_rng(seed), np.arange(float(n))
    x, y = {
        "warp": lambda: (i, (n - 1) * (i / (n - 1)) ** 1.3),
        "late by 5": lambda: (i, np.maximum(0, i - 5)),
        "offset 300": lambda: (i, i + 300),
        "noise, 64-dim": lambda: (rng.normal(size=(n, 64)), rng.normal(size=(n, 64))),
        "noise": lambda: (rng.normal(size=(n, dims)), rng.normal(size=(n, dims))),
    }[kind]()
    return tuple(
        torch.tensor(np.broadcast_to(a.reshape(1, n, -1), (batch, n, a.size // n)).copy(), dtype=torch.float32)
        for a in (x, y)
    )


def truth(x, y, gamma):
    """Value and dx of one pair by the logarithmic recursion, weights kept, in extended precision, anti-diagonal by anti-diagonal."""
    real = np.longdouble
    x, y = (t[0].double().numpy() for t in (x, y))
    n, m = len(x), len(y)
    C = np.zeros((n, m))
    for d in range(x.shape[1]):
        C += (x[:, d, None] - y[None, :, d]) ** 2
    R, W = np.full((3, n + 1), np.inf, real), np.zeros((n + m + 1, 3, n + 2))
    R[0, 0] = 0  # R[k % 3, i]: row i (1-based) of anti-diagonal i + j = k
    for k in range(2, n + m + 1):
        i = np.arange(max(1, k - m), min(n, k - 1) + 1)
        now, one, two = R[k % 3], R[(k - 1) % 3], R[(k - 2) % 3]
        near = np.stack([one[i - 1], one[i], two[i - 1]])
        low = near.min(0)
        e = np.exp(-(near - low) / real(gamma))
        z = e.sum(0)
        W[k][:, i] = e / z
        now[:] = np.inf
        now[i] = C[i - 1, k - i - 1] + low - real(gamma) * np.log(z)
        if k == 2:
            R[0, 0] = np.inf
    value, E, dx = float(R[(n + m) % 3, n]), np.zeros((3, n + 2)), np.zeros_like(x)
    for k in range(n + m, 1, -1):
        i = np.arange(max(1, k - m), min(n, k - 1) + 1)
        e = E[k % 3]
        e[:] = 0
        if k == n + m:
            e[n] = 1
        else:
            one, two = E[(k + 1) % 3], E[(k + 2) % 3] if k + 2 <= n + m else np.zeros(n + 2)
            wo, wt = W[k + 1], W[k + 2] if k + 2 <= n + m else np.zeros((3, n + 2))
            e[i] = one[i + 1] * wo[0, i + 1] + one[i] * wo[1, i] + two[i + 1] * wt[2, i + 1]
        dx[i - 1] += 2 * e[i, None] * (x[i - 1] - y[k - i - 1])
    return value, dx


def measured(runs, name, role, **metrics):
    """Add metrics of one package at one size to runs (package -> role -> metric -> number), as records hold them."""
    runs.setdefault(name, {}).setdefault(role, {}).update(metrics)


def record(part, table, runs, **more):
    """Print the table and write nbs/results/soft_dtw_<part>.json."""
    commit = (
        subprocess.run(
            ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True
        ).stdout.strip()
        or "unknown"
    )
    cpu = next(
        (line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    gpu = f", {torch.cuda.get_device_name(0)}" if torch.cuda.is_available() else ""
    data = {
        "id": f"soft_dtw_{part}",
        "date": datetime.date.today().isoformat(),
        "commit": commit,
        "command": "python benchmarks/soft_dtw_bench.py " + " ".join(sys.argv[1:]),
        "hardware": f"{cpu}, {len(os.sched_getaffinity(0))} cores{gpu}; Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}",
        "configuration": {},
        "runs": [{"id": name, "metrics": metrics} for name, metrics in runs.items()],
        "table": table,
        **more,
    }
    path = ROOT / "nbs" / "results" / f"soft_dtw_{part}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1) + "\n")
    print("\n".join(table), f"\n-> {path}")


def aligned(rows):
    """Rows of cells as lines of equal columns."""
    widths = [max(len(r[c]) for r in rows) for c in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(w) if c == 0 else cell.rjust(w) for c, (cell, w) in enumerate(zip(r, widths))).rstrip()
        for r in rows
    ]


# ---- parts


def accuracy(options):
    lengths = options.lengths or [64, 256, 1024, 2048]
    cases = [
        ("warp", 1.0),
        ("late by 5", 1.0),
        ("offset 300", 1.0),
        ("warp", 0.1),
        ("late by 5", 0.1),
        ("noise, 64-dim", 1.0),
        ("noise, 64-dim", 0.1),
    ]
    packages, table, runs = {n: PACKAGES[n][1]() for n in present()}, [], {}
    table.append(
        "relative error of the value / relative L2 error of dx; float32 input unless said; truth in extended precision"
    )
    for kind, gamma in cases:
        rows = [[f"{kind}, gamma {gamma:g}"] + [f"N = {n}" for n in lengths]] + [[name] for name in packages]
        for n in lengths:
            if "64" in kind and n > 1024:
                for r in rows[1:]:
                    r.append("-")
                continue
            x, y = pair(kind, n)
            value, dx = truth(x, y, gamma)
            for row, (name, run) in zip(rows[1:], packages.items()):
                try:
                    v, g = run(x, y, gamma)
                    g = g[0].double().numpy()
                    bad = int(np.isnan(g).sum())
                    errors = abs(v - value) / abs(value), float(np.linalg.norm(g - dx) / np.linalg.norm(dx))
                    row.append(f"{errors[0]:.0e} / " + (f"{bad} NaN of {g.size}" if bad else f"{errors[1]:.0e}"))
                    role = f"{kind}, gamma {gamma:g}, N = {n}"
                    told = {"gradient_nans": bad} if bad else {"gradient_error": errors[1]}
                    measured(runs, name, role, value_error=errors[0], **told)
                except Exception as error:
                    row.append(type(error).__name__)
            print(kind, gamma, n, "done", flush=True)
        table += [""] + aligned(rows)
    record("accuracy", table, runs)


def status_mb(field):
    """Resident memory of this process, now (VmRSS) or at its highest since `forget_peak` (VmHWM)."""
    return int(next(line for line in open("/proc/self/status") if line.startswith(field)).split()[1]) / 1024


def forget_peak():
    """Give freed memory back and start a new high-water mark, so that a run is charged with all that it touches."""
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")


def one_speed(options):
    """All sizes of one package in a process of its own, small ones first; prints a line of JSON for each."""
    torch.set_num_threads(options.threads)
    try:
        import numba

        numba.set_num_threads(min(options.threads, numba.config.NUMBA_NUM_THREADS))
    except ImportError:
        pass
    run = PACKAGES[options.package][1]()
    run(*pair("warp", 32, batch=2), 1.0)
    per_cell, per_mb = 0.0, 0.0
    for n, b in sorted(sizes_of(options), key=lambda s: s[0] ** 2 * s[1]):
        count, found = n * n * b, {"n": n, "b": b}
        free = int(next(line.split()[1] for line in open("/proc/meminfo") if line.startswith("MemAvailable"))) / 1024
        if per_cell * count * options.repeats > options.seconds:
            found["why"] = "too long"
        elif per_mb * count > 0.7 * free:
            found["why"] = "too large"
        else:
            try:
                x, y = pair("warp", n, batch=b)
                forget_peak()
                before, cpu, wall = status_mb("VmRSS"), [], []
                for _ in range(options.repeats):
                    c, w = time.process_time(), time.perf_counter()
                    run(x, y, 1.0)
                    cpu.append(time.process_time() - c)
                    wall.append(time.perf_counter() - w)
                found.update(cpu=min(cpu), wall=min(wall), mb=status_mb("VmHWM") - before)
                per_cell, per_mb = min(cpu) / count, max(0.0, found["mb"]) / count if count > 10**6 else 0.0
            except Exception as error:
                found["why"] = f"{type(error).__name__}: {error}"[:40]
        print(json.dumps(found), flush=True)


def sizes_of(options):
    return [(n, b) for n in (options.lengths or [256, 1024, 2048, 8192]) for b in (options.batches or [1, 8, 32])]


def speed(options):
    """One process a package; a size that would take too long or too much memory is named so and left out."""
    names, cells = [n for n in present() if n != "pysdtw, exact cost"], {}
    for name in names:
        command = [
            sys.executable,
            __file__,
            "one_speed",
            "--package",
            name,
            "--repeats",
            str(options.repeats),
            "--threads",
            str(options.threads),
            "--seconds",
            str(options.seconds),
        ]
        for flag, given in (("--lengths", options.lengths), ("--batches", options.batches)):
            if given:
                command += [flag, *map(str, given)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                if not line.startswith('{"n"'):
                    continue
                found = json.loads(line)
                cells[f"{found['n']}|{found['b']}|{name}"] = found
                print(name, found, flush=True)
    table = [
        f"forward and backward, float32, 1-D warp, gamma 1, {options.threads} threads, least of {options.repeats}; load of the machine {os.getloadavg()[1]:.0f}"
    ]
    for n, b in sizes_of(options):
        rows, base = (
            [[f"N = {n}, batch {b}", "CPU s", "wall s", "extra MB", "CPU ratio", "wall ratio"]],
            cells.get(f"{n}|{b}|this book", {}),
        )
        for name in names:
            f = cells.get(f"{n}|{b}|{name}", {"why": "ended early"})
            if "why" in f:
                rows.append([name, f["why"], "", "", "", ""])
            else:
                rows.append(
                    [name, f"{f['cpu']:.3f}", f"{f['wall']:.3f}", f"{f['mb']:.0f}"]
                    + (
                        [f"{f['cpu'] / base['cpu']:.1f}", f"{f['wall'] / base['wall']:.1f}"]
                        if "cpu" in base
                        else ["", ""]
                    )
                )
        table += [""] + aligned(rows)
    runs = {}
    for found, name in ((f, key.split("|")[2]) for key, f in cells.items() if "why" not in f):
        role = f"N = {found['n']}, batch {found['b']}"
        measured(runs, name, role, cpu_s=found["cpu"], wall_s=found["wall"], extra_mb=found["mb"])
    record("speed", table, runs, load=os.getloadavg())


def long(options):
    """Plain DTW (gamma 0), absolute cost, of two noisy walks."""
    from amt_nb.alignment.soft_dtw import soft_dtw

    n = (options.lengths or [100_000])[0]
    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    x, y = np.cumsum(rng.normal(size=n)), np.cumsum(rng.normal(size=n))
    soft_dtw(x[:300], y[:300], 0, "absolute")
    shown = [0.0]

    def progress(share):
        if share >= shown[0] + 0.1 or share == 1:
            shown[0] = share
            print(f"{share:4.0%}", flush=True)

    forget_peak()
    c, w, before = time.process_time(), time.perf_counter(), status_mb("VmRSS")
    value = soft_dtw(x, y, 0, "absolute", progress=progress)
    cpu, wall, mb = time.process_time() - c, time.perf_counter() - w, status_mb("VmHWM") - before
    whole, strip = soft_dtw(x[:3000], y[:3000], 0, "absolute"), np.full(3001, np.inf)
    strip[0] = 0  # the same by rows of numpy, on a corner of it
    for i in range(3000):
        cost, before = np.abs(x[i] - y[:3000]), np.minimum(strip[1:], strip[:-1])
        sums = np.cumsum(cost)
        strip = np.concatenate([[np.inf], sums + np.minimum.accumulate(before - np.concatenate([[0], sums[:-1]]))])
    assert abs(whole - strip[-1]) < 1e-6 * whole, (whole, strip[-1])
    record(
        "long",
        aligned(
            [
                ["plain DTW, absolute cost", "value", "CPU s", "wall s", "extra MB", "a full float32 matrix, MB"],
                [
                    f"{n:,} x {n:,}",
                    f"{value:.2f}",
                    f"{cpu:.1f}",
                    f"{wall:.1f}",
                    f"{mb:.0f}",
                    f"{n * n * 4 / 2**20:,.0f}",
                ],
            ]
        ),
        {"this book": {f"plain DTW, N = {n}": {"value": value, "cpu_s": cpu, "wall_s": wall, "extra_mb": mb}}},
        load=os.getloadavg(),
    )


# ---- GPU


def popular_on_gpu(x, y, gamma):
    """The recipe of the public packages as whole-tensor operations: R in float32, anti-diagonals, weights from differences of R."""
    b, n, m = len(x), x.shape[1], y.shape[1]
    C = ((x[:, :, None] - y[:, None]) ** 2).sum(-1)
    R, E = C.new_full((b, n + 2, m + 2), float("inf")), C.new_zeros(b, n + 2, m + 2)
    R[:, 0, 0] = 0
    pad = torch.nn.functional.pad(C, (1, 1, 1, 1))
    lines = [(torch.arange(max(1, k - m), min(n, k - 1) + 1, device=x.device), k) for k in range(2, n + m + 1)]
    for i, k in lines:
        near = torch.stack([R[:, i - 1, k - i], R[:, i, k - i - 1], R[:, i - 1, k - i - 1]])
        R[:, i, k - i] = pad[:, i, k - i] - gamma * torch.logsumexp(-near / gamma, 0)
    R[:, -1], R[:, :, -1] = -float("inf"), -float("inf")
    E[:, n, m] = 1
    for i, k in lines[-2::-1]:
        j = k - i
        E[:, i, j] = sum(
            E[:, i + a, j + c] * torch.exp((R[:, i + a, j + c] - R[:, i, j] - pad[:, i + a, j + c]) / gamma)
            for a, c in ((1, 0), (0, 1), (1, 1))
        )
    E = E[:, 1:-1, 1:-1]
    return R[:, n, m], 2 * (E.sum(2, keepdim=True) * x - E @ y)


def gpu(options):
    """Self-checking: every length against this book's float64 CPU kernel, then times; each part survives the failure of another."""
    began = time.time()
    if not torch.cuda.is_available():
        sys.exit("no GPU here")
    import triton
    from amt_nb.workshop import soft_dtw_gpu
    from amt_nb.workshop import soft_dtw_kernels as kernels
    from amt_nb.alignment.soft_dtw import expected_alignment, soft_dtw

    device, table, runs, failed = torch.device("cuda"), [f"Triton {triton.__version__}"], {}, 0

    def compare(x, y, gamma, **more):
        a, b = x.to(device).requires_grad_(), x.double().requires_grad_()
        low = soft_dtw(a, y.to(device), gamma, **more)
        low.sum().backward()
        high = soft_dtw(b, y.double(), gamma, **more)
        high.sum().backward()
        g, t = a.grad.cpu().double(), b.grad
        return float(((low.cpu().double() - high.detach()).abs() / high.detach().abs().clamp_min(1e-30)).max()), float(
            (g - t).norm() / t.norm().clamp_min(1e-30)
        )

    rows = [["accuracy against float64 on the CPU", "value", "gradient"]]
    trials = [
        (k, n, g, {})
        for k in ("warp", "offset 300", "noise")
        for n in (37, 64, 65, 500, 1024, 2048, 4096)
        for g in (0.1, 1.0)
    ]
    trials += [
        ("noise, 64-dim", 300, 1.0, {}),
        ("noise", 700, 1.0, {"cost": "euclidean"}),
        ("noise", 700, 1.0, {"cost": "absolute"}),
        ("noise", 700, 0.0, {}),
        ("noise", 700, 1.0, {"band": 100.0}),
        ("noise", 9000, 1.0, {}),
    ]
    worst = [0.0, 0.0]
    for kind, n, gamma, more in trials:
        if time.time() - began > 50:
            break
        try:
            errors = compare(*pair(kind, n), gamma, **more)
            ok = errors[0] < 1e-6 and errors[1] < 1e-5
            failed += not ok
            worst = [max(a, b) for a, b in zip(worst, errors)]
            role = f"{kind}, gamma {gamma:g}, N = {n} {more or ''}".strip()
            measured(runs, "this book", role, value_error=errors[0], gradient_error=errors[1])
            if n in (37, 2048, 4096, 9000) or more or not ok:
                rows.append(
                    [
                        f"{kind}, N = {n}, gamma {gamma:g} {more or ''}{'' if ok else '  FAILED'}",
                        f"{errors[0]:.0e}",
                        f"{errors[1]:.0e}",
                    ]
                )
        except Exception:
            failed += 1
            traceback.print_exc()
            rows.append([f"{kind}, N = {n}, gamma {gamma:g} {more or ''}", "error", "error"])
        print(rows[-1], f"{time.time() - began:.0f} s", flush=True)
        if failed >= 4:
            break
    rows.append([f"worst of {len(runs.get('this book', {}))}", f"{worst[0]:.0e}", f"{worst[1]:.0e}"])
    try:
        x, y = pair("noise", 300, batch=3)
        x[1, 100:], y[2, 7:] = float("nan"), float("nan")
        lengths = dict(x_lengths=[300, 100, 300], y_lengths=[300, 300, 7])
        difference = (
            (soft_dtw(x.to(device), y.to(device), 1.0, **lengths).cpu() - soft_dtw(x, y, 1.0, **lengths)).abs().max()
        )
        rows.append(["lengths in one batch, NaN behind them", f"{float(difference):.0e}", ""])
        C = exact_cost(*pair("noise", 200)).double()
        rows.append(
            [
                "a given matrix, expected alignment",
                "",
                f"{float((expected_alignment(None, None, 1.0, C.to(device)).cpu() - expected_alignment(None, None, 1.0, C)).abs().max()):.0e}",
            ]
        )
    except Exception:
        traceback.print_exc()
    table += aligned(rows)

    def seconds(call, least=2):
        call()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before, best = torch.cuda.memory_allocated(), 9e9
        for _ in range(least):
            t = time.perf_counter()
            call()
            torch.cuda.synchronize()
            best = min(best, time.perf_counter() - t)
        return best, (torch.cuda.max_memory_allocated() - before) / 2**20

    def forward_backward(x, y):
        a = x.clone().requires_grad_()
        soft_dtw(a, y, 1.0).sum().backward()
        return a.grad

    rows = [["forward and backward, 1-D warp, gamma 1", "ms", "MB", "popular recipe, ms", "MB", "its gradient error"]]
    for n, b in ((256, 1), (256, 32), (1024, 8), (2048, 1), (2048, 8), (2048, 32), (8192, 1), (8192, 8), (8192, 32)):
        if time.time() - began > 75:
            break
        try:
            x, y = (t.to(device) for t in pair("warp", n, batch=b))
            t, mb = seconds(lambda: forward_backward(x, y))
            row = [f"N = {n}, batch {b}", f"{t * 1e3:.1f}", f"{mb:.0f}", "-", "-", "-"]
            if n * n * b <= 2048**2 * 32 and n <= 2048 and time.time() - began < 65:
                grad = popular_on_gpu(x, y, 1.0)[1]
                g = forward_backward(x, y)
                tp, mbp = seconds(lambda: popular_on_gpu(x, y, 1.0), 1)
                row[3:] = [f"{tp * 1e3:.0f}", f"{mbp:.0f}", f"{float((grad - g).norm() / g.norm()):.0e}"]
            measured(runs, "this book", f"N = {n}, batch {b}", seconds=t, extra_mb=mb)
            rows.append(row)
        except Exception:
            traceback.print_exc()
            rows.append([f"N = {n}, batch {b}", "error", "", "", "", ""])
        print(rows[-1], f"{time.time() - began:.0f} s", flush=True)
    table += [""] + aligned(rows)
    rows = [["tile (rows x diagonals, warps), N = 2048, batch 8", "ms"]]
    for strip, chunk, warps in ((32, 64, 1), (64, 64, 1), (64, 64, 2), (128, 64, 4), (64, 128, 1)):
        if time.time() - began > 82:
            break
        try:
            x, y = (t.to(device) for t in pair("warp", 2048, batch=8))
            size = np.full((8, 2), 2048)

            def both():
                p = soft_dtw_gpu.GpuPairs(x, y, None, 0, 1.0, size, None, strip, chunk, warps)
                p.values(True)
                return p.gradients()

            rows.append([f"{strip} x {chunk}, {warps}", f"{seconds(both)[0] * 1e3:.1f}"])
        except Exception:
            traceback.print_exc()
            rows.append([f"{strip} x {chunk}, {warps}", "error"])
    table += [""] + aligned(rows) + ["", f"{failed} failures, {time.time() - began:.0f} s"]
    record("gpu", table, runs, failures=failed)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["accuracy", "speed", "long", "gpu", "one_speed"])
    parser.add_argument("--lengths", type=int, nargs="*", help="lengths instead of the usual ones")
    parser.add_argument("--batches", type=int, nargs="*", help="batch sizes instead of 1 8 32")
    parser.add_argument(
        "--threads",
        type=int,
        default=len(os.sched_getaffinity(0)),
        help="threads each package may use (default: all cores)",
    )
    parser.add_argument("--repeats", type=int, default=3, help="measured runs of which the least counts (default 3)")
    parser.add_argument(
        "--seconds", type=float, default=240, help="CPU seconds a package may take for one size (default 240)"
    )
    parser.add_argument("--package", help=argparse.SUPPRESS)
    options = parser.parse_args()
    globals()[options.part](options)
