"""Soft-DTW against brute force, finite differences, an independent package, extremes and bad input."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from amt_nb.workshop.settings import UserError
from amt_nb.alignment.soft_dtw import barycentre, cost_matrix, dtw_path, expected_alignment, mean_cost_dtw
from amt_nb.alignment.soft_dtw import sharp_soft_dtw, soft_dtw, soft_dtw_divergence, stack
from amt_nb.workshop.soft_dtw_diagonals import CHUNK, COSTS, GROUP, STRIP
from amt_nb.workshop.compiled import spread
from amt_nb.workshop.soft_dtw_kernels import gradients, Pairs, values
from amt_nb.workshop.simd_lanes import LANES

NAMES = COSTS[:3]
few = settings(max_examples=25, deadline=None)


def paths(n, m):
    if (n, m) == (1, 1):
        return [[(0, 0)]]
    return [p + [(n - 1, m - 1)] for a, b in ((n - 1, m), (n, m - 1), (n - 1, m - 1)) if a and b for p in paths(a, b)]


def brute(C, gamma):
    """Value, expected alignment and expected cost by listing every path."""
    found = paths(*C.shape)
    costs = np.array([sum(C[c] for c in p) for p in found])
    low = costs.min()
    if gamma == 0:
        return low, None, None
    w = np.exp(-(costs - low) / gamma)
    E = np.zeros(C.shape)
    for p, share in zip(found, w / w.sum()):
        for c in p:
            E[c] += share
    return low - gamma * math.log(w.sum()), E, (costs * w).sum() / w.sum()


def reference(C, gamma):
    """Value and expected alignment by the plain recursion in float64, weights kept."""
    n, m = C.shape
    R, W = np.full((n + 1, m + 1), np.inf), np.zeros((n, m, 3))
    R[0, 0] = 0
    for i in range(n):
        for j in range(m):
            near = np.array([R[i, j + 1], R[i + 1, j], R[i, j]])
            e = np.exp(-(near - near.min()) / gamma)
            W[i, j] = e / e.sum()
            R[i + 1, j + 1] = C[i, j] + near.min() - gamma * math.log(e.sum())
    E = np.zeros((n + 1, m + 1))
    E[n, m] = 1
    for i in range(n, 0, -1):
        for j in range(m, 0, -1):
            for (a, b), w in zip(((i - 1, j), (i, j - 1), (i - 1, j - 1)), W[i - 1, j - 1]):
                E[a, b] += E[i, j] * w
    return R[n, m], E[1:, 1:]


@pytest.mark.parametrize("cost", NAMES)
@pytest.mark.parametrize("gamma", [0, 0.01, 0.5, 3.0, 1e6])
def test_equals_brute_force_over_all_paths(cost, gamma):
    rng = np.random.default_rng(1)
    for n, m, d in ((1, 1, 1), (1, 5, 2), (5, 1, 1), (4, 5, 1), (5, 5, 3)):
        x, y = rng.normal(size=(n, d)), rng.normal(size=(m, d))
        C = cost_matrix(torch.tensor(x)[None], torch.tensor(y)[None], cost)[0].numpy()
        value, E, sharp = brute(C, gamma)
        tolerance = 1e-12 * max(1, gamma * 10)
        assert abs(soft_dtw(x, y, gamma, cost) - value) < tolerance
        assert abs(soft_dtw(None, None, gamma, C) - value) < tolerance
        path = dtw_path(x, y, cost)
        assert abs(C[tuple(path.T)].sum() - brute(C, 0)[0]) < 1e-12
        if gamma:
            assert np.abs(expected_alignment(x, y, gamma, cost) - E).max() < 1e-12
            assert abs(sharp_soft_dtw(x, y, gamma, cost) - sharp) < 1e-11
            even = brute(np.zeros(C.shape), 1.0)[1]
            assert abs(mean_cost_dtw(x, y, 1.0, cost) - (even * C).sum()) < 1e-11


@pytest.mark.parametrize("cost", NAMES)
@pytest.mark.parametrize("of", [soft_dtw, sharp_soft_dtw, mean_cost_dtw, soft_dtw_divergence])
def test_gradcheck(cost, of):
    rng = np.random.default_rng(2)
    x, y = (torch.tensor(rng.normal(size=(3, n, 2)), requires_grad=True) for n in (6, 5))
    assert torch.autograd.gradcheck(lambda a, b: of(a, b, 0.7, cost, [6, 4, 1], [5, 5, 3]), (x, y))


def test_gradcheck_of_a_given_matrix():
    C = torch.rand(2, 6, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda c: soft_dtw(None, None, 0.3, c, [6, 3], [2, 5]), (C,))
    assert torch.autograd.gradcheck(lambda c: sharp_soft_dtw(None, None, 0.3, c, [6, 3], [2, 5]), (C,))


@pytest.mark.parametrize(
    "n, m",
    [
        (STRIP, STRIP),
        (STRIP + 1, 3),
        (3, STRIP + 1),
        (STRIP - 1, CHUNK + GROUP),
        (2 * STRIP, 1),
        (1, 2 * CHUNK + 1),
        (2 * STRIP + LANES + 1, 70),
        (70, 2 * CHUNK - 7),
    ],
)
def test_borders_of_strips_chunks_and_groups(n, m):
    rng = np.random.default_rng(n + m)
    x, y = rng.normal(size=n), rng.normal(size=m)
    C = (x[:, None] - y) ** 2
    value, E = reference(C, 0.4)
    for workers in (1, 3):
        p = Pairs(x[None, :, None], y[None, :, None], None, 0, 0.4, np.array([[n, m]]), workers=workers)
        assert abs(values(p, keep=True)[0] - value) < 1e-10
        gx, gy, matrix, _ = gradients(p, {"x", "y", "matrix"})
        assert np.abs(matrix[0] - E).max() < 1e-10
        assert np.abs(gx[0, :, 0] - (E * 2 * (x[:, None] - y)).sum(1)).max() < 1e-9
        assert np.abs(gy[0, :, 0] + (E * 2 * (x[:, None] - y)).sum(0)).max() < 1e-9


@few
@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.integers(1, 3),
    st.sampled_from(NAMES),
    st.floats(1e-3, 1e3),
    st.floats(1e-3, 1e4),
    st.integers(0, 99),
)
def test_any_shape_and_scale(n, m, d, cost, gamma, scale, seed):
    rng = np.random.default_rng(seed)
    x, y = scale * rng.normal(size=(1, n, d)), scale * rng.normal(size=(1, m, d))
    a, b = torch.tensor(x, requires_grad=True), torch.tensor(y, requires_grad=True)
    value = soft_dtw(a, b, gamma, cost)
    value.sum().backward()
    assert torch.isfinite(a.grad).all() and torch.isfinite(b.grad).all()
    hard, value = soft_dtw(x, y, 0, cost)[0], value.detach()
    assert hard - gamma * (n + m) * math.log(3) - 1e-9 * abs(hard) <= float(value) <= hard * (1 + 1e-12) + 1e-9
    flipped = soft_dtw(y, x, gamma, cost)[0]
    assert abs(flipped - float(value)) <= 1e-9 * max(1, abs(flipped))
    if cost != "sqeuclidean":  # moving both moves nothing
        assert (a.grad.sum((0, 1)) + b.grad.sum((0, 1))).abs().max() <= 1e-9 * max(1, float(a.grad.abs().sum()))


@few
@given(st.integers(1, 5), st.integers(0, 99))
def test_lengths_leave_no_trace_of_the_padding(batch, seed):
    rng = np.random.default_rng(seed)
    ns, ms = rng.integers(1, 200, batch), rng.integers(1, 200, batch)
    x, y = rng.normal(size=(batch, ns.max(), 2)), rng.normal(size=(batch, ms.max(), 2))
    for b in range(batch):
        x[b, ns[b] :], y[b, ms[b] :] = np.nan, np.inf
    a, c = torch.tensor(x, requires_grad=True), torch.tensor(y, requires_grad=True)
    together = soft_dtw(a, c, 0.5, x_lengths=ns, y_lengths=torch.tensor(ms))
    together.sum().backward()
    for b in range(batch):
        one, two = torch.tensor(x[b : b + 1, : ns[b]], requires_grad=True), torch.tensor(y[b : b + 1, : ms[b]])
        alone = soft_dtw(one, two, 0.5)
        alone.sum().backward()
        assert abs(alone.item() - together[b].item()) < 1e-12 * max(1, abs(alone.item()))
        assert (a.grad[b, : ns[b]] - one.grad[0]).abs().max() < 1e-12 and a.grad[b, ns[b] :].abs().sum() == 0


@few
@given(st.integers(2, 300), st.integers(2, 300), st.floats(1, 60), st.integers(0, 9))
def test_band_is_the_matrix_with_walls(n, m, width, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=n), rng.normal(size=m)
    centre = np.arange(n) * (m - 1) / (n - 1)
    allowed = np.abs(np.arange(m) - centre[:, None]) <= width + 1e-9
    walls = np.where(allowed, (x[:, None] - y) ** 2, 1e9)
    open_value = soft_dtw(None, None, 0.3, walls)
    if open_value > 1e8:
        with pytest.raises(UserError, match="band"):
            soft_dtw(x, y, 0.3, band=width)
        return
    assert abs(soft_dtw(x, y, 0.3, band=width) - open_value) < 1e-9
    E = expected_alignment(x, y, 0.3, band=width)
    assert E[~allowed].max(initial=0) == 0 and np.abs(E - expected_alignment(None, None, 0.3, walls)).max() < 1e-9
    path = dtw_path(x, y, band=width)
    assert allowed[tuple(path.T)].all()


def pair(kind, n, rng):
    x = np.arange(float(n))
    return {
        "warp": (x, (n - 1) * (x / (n - 1)) ** 1.3),
        "late": (x, np.maximum(0, x - 5)),
        "offset": (x, x + 300),
        "noise": (rng.normal(size=(n, 64)), rng.normal(size=(n, 64))),
    }[kind]


@pytest.mark.parametrize("kind", ["warp", "late", "offset", "noise"])
@pytest.mark.parametrize("gamma", [0.1, 1.0])
@pytest.mark.parametrize("n", [64, 2048])
def test_float32_keeps_its_digits(kind, gamma, n):
    """Issue 9: gradient within 1e-5 of float64 (relative L2), value within 1e-6, never NaN."""
    if kind == "noise":
        n = min(n, 512)
    x, y = (torch.tensor(a, dtype=torch.float32).reshape(1, n, -1) for a in pair(kind, n, np.random.default_rng(3)))
    a, b = x.clone().requires_grad_(), x.double().requires_grad_()
    low, high = soft_dtw(a, y, gamma), soft_dtw(b, y.double(), gamma)
    low.sum().backward()
    high.sum().backward()
    assert low.dtype == a.grad.dtype == torch.float32
    assert abs(low.item() - high.item()) <= 1e-6 * abs(high.item())
    assert float((a.grad - b.grad).norm() / b.grad.norm()) < 1e-5


def test_float64_truth_is_the_truth():
    x = np.arange(90.0)
    for y in (89 * (x / 89) ** 1.3, np.maximum(0, x - 5), x + 300):
        for gamma in (0.1, 1.0):
            value, E = reference((x[:, None] - y) ** 2, gamma)
            a = torch.tensor(x)[None, :, None].requires_grad_()
            found = soft_dtw(a, torch.tensor(y)[None, :, None], gamma)
            found.sum().backward()
            slope = (E * 2 * (x[:, None] - y)).sum(1)
            assert abs(found.item() - value) < 1e-12 * abs(value)
            assert np.linalg.norm(a.grad[0, :, 0].numpy() - slope) < 1e-9 * np.linalg.norm(slope)


def test_agrees_with_an_independent_package():
    tslearn = pytest.importorskip("tslearn.metrics")
    rng = np.random.default_rng(4)
    for n, m in ((20, 30), (150, 90)):
        x, y = rng.normal(size=(n, 2)), rng.normal(size=(m, 2))
        assert abs(soft_dtw(x, y, 0.8) - tslearn.soft_dtw(x, y, gamma=0.8)) < 1e-9


def test_extremes():
    x = np.arange(50.0)
    assert soft_dtw(x, x, 0) == 0 and soft_dtw(x, x, 1.0) < 0 and soft_dtw_divergence(x, x) == 0
    assert abs(soft_dtw(x, x + 1, 1e-9) - soft_dtw(x, x + 1, 0)) < 1e-6
    assert math.isfinite(soft_dtw(1e100 * x, x, 1.0)) and math.isfinite(soft_dtw(x, x, 1e12))
    a = torch.zeros(1, 4, 2, requires_grad=True)
    soft_dtw(a, torch.zeros(1, 5, 2), 1.0, "euclidean").sum().backward()
    assert (a.grad == 0).all()  # the Euclidean slope at distance 0
    assert soft_dtw(torch.zeros(0, 3, 1), torch.zeros(0, 4, 1)).shape == (0,)
    ints = soft_dtw(np.arange(5), np.array([0, 0, 1, 3, 4]), 0)
    assert ints == 1
    half = soft_dtw(
        torch.arange(5.0, dtype=torch.float16)[None, :, None], torch.arange(5.0, dtype=torch.float16)[None, :, None]
    )
    assert half.dtype == torch.float32


def test_divergence_facts():
    rng = np.random.default_rng(5)
    for _ in range(60):
        n, m = rng.integers(1, 12, 2)
        x, y, gamma = rng.normal(size=n) * 10 ** rng.uniform(-1, 1), rng.normal(size=m), 10 ** rng.uniform(-2, 1)
        for cost in ("absolute", "euclidean"):
            assert soft_dtw_divergence(x, y, gamma, cost) > -1e-12
    x = np.array([1.709, 1.358, 1.917, 0.845, -0.388, -1.652, -1.558, -1.701])
    y = np.array([1.663, 1.519, 1.613, 0.349, -0.883, -1.956, -1.397, -1.747])
    assert abs(soft_dtw_divergence(x, y) + 0.0434739267038) < 1e-12


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: soft_dtw([1.0, float("nan")], [1.0]), "x holds NaN"),
        (lambda: soft_dtw([1.0], [float("inf")]), "y holds NaN or infinity"),
        (lambda: soft_dtw([], [1.0]), "nothing to align"),
        (lambda: soft_dtw(np.ones((2, 3, 1)), np.ones((3, 3, 1))), "must agree"),
        (lambda: soft_dtw(np.ones((2, 3, 1)), np.ones((2, 3, 2))), "must agree"),
        (lambda: soft_dtw([1.0], [1.0], gamma=-1), "gamma"),
        (lambda: soft_dtw([1.0], [1.0], gamma=float("nan")), "gamma"),
        (lambda: soft_dtw([1.0], [1.0], cost="eucledian"), "euclidean"),
        (lambda: soft_dtw([1e200], [1.0]), "scale the data"),
        (lambda: soft_dtw([1.0], [1.0], band=-1), "band"),
        (lambda: soft_dtw(np.ones((1, 300, 1)), np.ones((1, 10, 1)), band=0), "band"),
        (lambda: soft_dtw(np.ones((2, 3, 1)), np.ones((2, 3, 1)), x_lengths=[3, 4]), "x_lengths"),
        (lambda: soft_dtw(np.ones((2, 3, 1)), np.ones((2, 3, 1)), y_lengths=[0, 2]), "y_lengths"),
        (lambda: soft_dtw(np.ones((2, 3, 1)), np.ones((2, 3, 1)), x_lengths=[3.0, 2.0]), "whole numbers"),
        (lambda: soft_dtw(np.ones((1, 2, 3, 4)), np.ones((1, 2, 3, 4))), "shape"),
        (lambda: soft_dtw_divergence(None, None, cost=np.ones((1, 2, 2))), "divergence"),
        (lambda: sharp_soft_dtw([1.0], [1.0], gamma=0), "sharp"),
        (lambda: dtw_path(np.ones((2, 3, 1)), np.ones((2, 3, 1))), "one pair"),
        (lambda: barycentre([[1.0], []], [1.0]), "empty"),
        (lambda: barycentre([[1.0], [2.0]], [1.0], weights=[1.0]), "weights"),
        (lambda: stack([np.ones((3, 1)), np.ones((3, 2))]), "dimensions"),
    ],
)
def test_bad_input_is_told_in_one_line(call, words):
    with pytest.raises(UserError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("of", [soft_dtw, sharp_soft_dtw, mean_cost_dtw, soft_dtw_divergence])
def test_single_precision_under_autocast(of):
    """A graphics card trains in bfloat16, in which column 1,023 is column 1,024."""
    make = torch.Generator().manual_seed(0)
    given = [1024 * torch.rand(2, n, 2, generator=make).sort(1)[0] for n in (11, 9)]

    def value_and_gradients(mixed):
        leaves = [t.clone().requires_grad_() for t in given]
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            out = of(*leaves, 1.0, "euclidean")
        return [out, *torch.autograd.grad(out.sum(), leaves)]

    for rounded, exact in zip(value_and_gradients(True), value_and_gradients(False), strict=True):
        assert (rounded - exact).abs().max() <= 1e-5 * max(1, exact.abs().max())
    half = [t.bfloat16() for t in given]  # coming from a network in bfloat16, computed as the float32 they stand for
    assert torch.equal(of(*half, 1.0, "euclidean"), of(*(t.float() for t in half), 1.0, "euclidean"))


def test_second_derivatives_are_refused():
    x = torch.randn(1, 5, 1, requires_grad=True)
    with pytest.raises(RuntimeError, match="second derivative"):
        torch.autograd.grad(soft_dtw(x, torch.zeros(1, 4, 1)).sum(), x, create_graph=True)


def test_no_checkpoints_without_a_gradient():
    p = Pairs(np.zeros((1, 4000, 1)), np.zeros((1, 4000, 1)), None, 0, 1.0, np.array([[4000, 4000]]), workers=2)
    values(p)
    assert p.rows is None and p.marks is None
    with torch.no_grad():
        assert not soft_dtw(torch.zeros(1, 3, 1, requires_grad=True), torch.zeros(1, 3, 1)).requires_grad


def test_progress_ends_at_one():
    told = []
    soft_dtw(np.zeros(1000), np.zeros(50), 0, progress=told.append)
    assert told == sorted(told) and told[-1] == 1 and len(told) == -(-1000 // STRIP)


def test_threads_do_not_change_the_result():
    rng = np.random.default_rng(6)
    x, y, size = rng.normal(size=(3, 500, 1)), rng.normal(size=(3, 400, 1)), np.array([[500, 400], [3, 400], [300, 20]])
    found = []
    for workers in (1, 2, 5):
        p = Pairs(x, y, None, 0, 1.0, size, workers=workers)
        found.append([values(p, keep=True), *gradients(p)[:2]])
    for other in found[1:]:
        assert (other[0] == found[0][0]).all()
        for a, b in zip(other[1:], found[0][1:]):
            assert np.abs(a - b).max() < 1e-12


def test_an_error_in_one_thread_ends_them_all():
    def job(i):
        if i == 1:
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        spread(job, 4, 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_survives_a_fork():
    code = (
        "import os, numpy as np, torch\ntorch.set_num_threads(2)\nfrom amt_nb.alignment.soft_dtw import soft_dtw\nx = np.zeros((4, 600, 1))\n"
        "soft_dtw(x, x)\npid = os.fork()\nif pid == 0:\n    soft_dtw(x, x)\n    os._exit(7)\nassert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_barycentre_lies_between():
    t = np.linspace(0, 6, 40)
    centre = barycentre([np.sin(t), np.sin(t**1.1 / 6**0.1)], np.zeros(40), 0.1, steps=30)
    assert centre.shape == (40,) and abs(np.abs(centre).max() - 1) < 0.15


def test_gpu_kernels_in_triton_s_interpreter():
    pytest.importorskip("triton")
    code = """
import numpy as np, torch
from amt_nb.workshop.soft_dtw_gpu import GpuPairs
from amt_nb.workshop.soft_dtw_kernels import gradients, Pairs, values
rng = np.random.default_rng(0)
for kind, size, gamma, band in ((0, [[12, 9], [5, 12]], 0.5, None), (1, [[9, 12]], 1.0, 4), (2, [[9, 10]], 0.0, None), (3, [[9, 9]], 1.0, None)):
        size = np.array(size)
        x, y = torch.tensor(rng.normal(size=(len(size), *size.max(0)[:1], 2))), torch.tensor(rng.normal(size=(len(size), *size.max(0)[1:], 2)))
        given = ((x[:, :, None] - y[:, None]) ** 2).sum(-1)
        data = (None, None, given) if kind == 3 else (x, y, None)
        for b, (n, m) in enumerate(size): x[b, n:], y[b, m:] = 0, 0
        gpu, cpu = GpuPairs(*data, kind, gamma, size, band, strip=8, chunk=8), Pairs(*(d if d is None else d.numpy() for d in data), kind, gamma, size, band)
        assert np.abs(gpu.values(True).numpy() - values(cpu, True)).max() < 1e-10
        wants = {'matrix'} if kind == 3 else {'x', 'y', 'matrix'}
        for a, b in zip(gpu.gradients(wants), gradients(cpu, wants)):
            assert a is None or np.abs(a.numpy() - b).max() < 1e-10
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    if "only 0-dimensional arrays" in done.stderr:
        pytest.skip("Triton's interpreter cannot run with this numpy")
    assert done.returncode == 0, done.stderr[-2000:]
