"""Constant-Q of this book beside librosa and nnAudio: python benchmarks/cqt_speed.py [--seconds 10 60] [--rates 16000 44100] [--repeats 3]

Each measurement runs in a process of its own on one thread: CPU and wall seconds are the best of the repeats after one warm-up (filters,
compiled loops and plans made), `first` is the CPU time of that warm-up, imports included; peak memory is of the whole process. Agreement:
differences in dB of cells above -60 dB of the loudest, between the method and the defining sum in double precision.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

METHODS = ("ours, streamed", "ours, tensor", "librosa", "nnAudio")


def music(sr, seconds):
    """Decaying harmonics and a noise floor at -80 dB: (S,) float32, fixed by a seed."""
    import numpy as np

    rng, t = np.random.default_rng(0), np.arange(int(seconds * sr)) / sr
    x = 1e-5 * rng.standard_normal(len(t))
    for onset in np.arange(0.1, seconds - 0.1, 0.25):
        f, a = 440 * 2 ** ((rng.integers(24, 100) - 69) / 12), int(onset * sr)
        s = t[: min(len(t) - a, 4 * sr)]
        for h in range(1, 9):
            if f * h < 0.45 * sr:
                x[a : a + len(s)] += (
                    0.05 / h * np.exp(-2 * s) * np.minimum(s / 0.004, 1) * np.sin(2 * np.pi * f * h * s)
                )
    return x.astype(np.float32)


def definition(x, sr, scale):
    """The defining sum at every 2 s and every 8th bin: (frames, bins, values)."""
    import numpy as np
    from amt_nb.cqt import bin_hz, CQTConfig, kernel_s

    frames, bins = np.arange(7, len(x) * 50 // sr, 97), np.arange(0, 352, 8)
    out = np.zeros((len(frames), len(bins)))
    for j, (f, l) in enumerate(zip(bin_hz()[bins], kernel_s(CQTConfig(scale))[bins] * sr)):
        for i, t in enumerate(frames * sr / 50):
            n = np.arange(max(int(np.ceil(t - l / 2)), 0), min(int(t + l / 2) + 1, len(x)))
            out[i, j] = np.sqrt(l) * abs(
                (x[n] * (1 + np.cos(2 * np.pi * (n - t) / l)) / l * np.exp(-2j * np.pi * f * (n - t) / sr)).sum()
            )
    return frames, bins, out


def method(name, sr, scale):
    """The method as a function of a wave."""
    import numpy as np

    if name.startswith("ours"):
        from amt_nb.cqt import CQTConfig
        from amt_nb.workshop.streaming import cqt_magnitude, stream

        config = CQTConfig(scale)
        if name == "ours, streamed":
            return lambda x: np.concatenate([m for _, m in stream(x, sr, config)])
        import torch

        torch.set_num_threads(1)
        return lambda x: cqt_magnitude(torch.from_numpy(x).requires_grad_(), sr, config).detach().numpy()
    if name == "librosa":
        import librosa

        return lambda x: (
            np.abs(
                librosa.cqt(
                    x,
                    sr=sr,
                    hop_length=sr // 50,
                    fmin=27.5,
                    n_bins=352,
                    bins_per_octave=48,
                    filter_scale=scale,
                    sparsity=0,
                    pad_mode="constant",
                )
            ).T
        )
    import torch
    from nnAudio.features.cqt import CQT1992v2

    torch.set_num_threads(1)
    layer = CQT1992v2(
        sr=sr,
        hop_length=sr // 50,
        fmin=27.5,
        n_bins=352,
        bins_per_octave=48,
        filter_scale=scale,
        pad_mode="constant",
        output_format="Magnitude",
        verbose=False,
    )

    def run(x):
        with torch.no_grad():
            return layer(torch.from_numpy(x)[None])[0].numpy().T

    return run


def measure(name, sr, seconds, scale, repeats):
    """One row of the table as a dict."""
    import numpy as np

    x, start = music(sr, seconds), time.process_time()
    run = method(name, sr, scale)
    m, cpu, wall = run(x), [], []
    first = time.process_time() - start
    for _ in range(repeats):
        a, b = time.process_time(), time.perf_counter()
        run(x)
        cpu.append(time.process_time() - a)
        wall.append(time.perf_counter() - b)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    frames, bins, truth = definition(x, sr, scale)
    loud = truth > truth.max() * 1e-3
    d = np.abs(20 * np.log10(np.maximum(m[np.ix_(frames, bins)][loud], 1e-12) / truth[loud]))
    return dict(
        method=name,
        sr=sr,
        seconds=seconds,
        first=first,
        cpu=min(cpu),
        wall=min(wall),
        memory=memory,
        mean=d.mean(),
        p95=np.percentile(d, 95),
        worst=d.max(),
    )


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seconds", type=float, nargs="+", default=[10, 60])
    p.add_argument("--rates", type=int, nargs="+", default=[16000, 44100])
    p.add_argument("--filter_scale", type=float, default=1.0)
    p.add_argument("--repeats", type=int, default=3)
    p.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.one:
        print(json.dumps(measure(a.one[0], int(a.one[1]), float(a.one[2]), a.filter_scale, a.repeats)))
        return
    env = {
        **os.environ,
        **{k: "1" for k in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")},
    }
    print(
        f"{'method':16}{'rate':>7}{'s':>5}{'CPU s':>9}{'ms/s':>8}{'wall s':>8}{'first':>7}{'MB':>6}{'mean dB':>9}{'95 %':>6}{'worst':>7}{'x ours':>8}"
    )
    for sr in a.rates:
        for seconds in a.seconds:
            ours = None
            for name in METHODS:
                done = subprocess.run(
                    [
                        sys.executable,
                        __file__,
                        "--one",
                        name,
                        str(sr),
                        str(seconds),
                        "--filter_scale",
                        str(a.filter_scale),
                        "--repeats",
                        str(a.repeats),
                    ],
                    capture_output=True,
                    text=True,
                    env=env,
                )
                if done.returncode:
                    print(
                        f"{name:16}{sr:7}{seconds:5.0f}  not measured: {(done.stderr.strip().splitlines() or ['?'])[-1][:90]}"
                    )
                    continue
                r = json.loads(done.stdout.strip().splitlines()[-1])
                ours = ours or r["cpu"]
                print(
                    f"{name:16}{sr:7}{seconds:5.0f}{r['cpu']:9.4f}{1000 * r['cpu'] / seconds:8.2f}{r['wall']:8.3f}{r['first']:7.1f}{r['memory']:6.0f}"
                    f"{r['mean']:9.3f}{r['p95']:6.2f}{r['worst']:7.2f}{r['cpu'] / ours:8.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
