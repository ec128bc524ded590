"""Everything that only a graphics card can show of the aligners, in one run of under ten minutes; on a CPU the same at a smaller size.

    python benchmarks/gpu_check.py                 the machine's graphics card, or the CPU where there is none
    python benchmarks/gpu_check.py --device cpu    the CPU, about a minute

Parts, each in a process and with a time of its own: the soft-DTW kernels' tests; Triton's soft-DTW beside the CPU's (soft_dtw_bench.py gpu;
on a CPU Triton's interpreter, among the tests); one training of the SASA aligner on made-up music, whose loss must fall and whose weights must
stay finite, in bf16 on a card. Says at the end what held; the exit code is 1 when something did not.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def train(device: str, steps: int, size: str):
    """Trains CA_CE on `toy_piece`, rearranged anew for every example; prints losses and seconds a step as JSON."""
    import numpy as np
    import torch

    from amt_nb.alignment.sasa_aligner import SASAAligner, aligner_loss, model_config
    from amt_nb.alignment.similarity import score_chroma
    from amt_nb.alignment.structure import ExampleConfig, Pair, batches, toy_piece
    from amt_nb.transcription.training import TrainConfig, Turn, fit
    from amt_nb.workshop.settings import fill

    score, played, truth = toy_piece()
    chroma = [score_chroma(notes, 20.0).astype(np.float16) for notes in (played, score)]
    beats = truth.recording_s
    pair = Pair("toy", "toy", "toy", 20.0, *chroma, truth, beats[1:-1:4], beats[1:-1])
    torch.manual_seed(0)
    net = SASAAligner(model_config("CA_CE", size))
    config = fill(
        TrainConfig,
        size,
        "train",
        steps=steps,
        learning_rate=2e-3,
        warmup_steps=steps // 4,
        record_every=max(1, steps // 10),
        validate_every=10**6,
        best="",
        seed=0,
        accelerator=device,
        precision="bf16-mixed" if device == "cuda" else "32-true",
    )
    began = time.monotonic()
    examples = batches(
        [pair], net.config.cells, 8 if device == "cuda" else 2, 0, fill(ExampleConfig, size, "sasa_data")
    )
    history = fit({"net": net}, [Turn("path", ("net",), aligner_loss)], examples, config)
    losses = history.curve("path.total")[1]
    finite = all(bool(torch.isfinite(p).all()) for p in history.models["net"].parameters())
    facts = {"first": float(losses[0]), "last": float(losses[-1]), "finite": finite, "cells": net.config.cells}
    print(json.dumps(facts | {"s_a_step": round((time.monotonic() - began) / steps, 3)}))
    sys.exit(0 if finite and losses[-1] < losses[0] else 1)


def parts(device: str) -> list[tuple[str, list[str], int]]:
    """(name, command, seconds at most) of each part."""
    run, on_card = [sys.executable], device == "cuda"
    training = [
        __file__,
        "--device",
        device,
        "--train",
        "150" if on_card else "12",
        "--size",
        "gpu" if on_card else "demo",
    ]
    tests = [*run, "-m", "pytest", "-q", "-x", "tests/test_soft_dtw.py"]
    beside = (
        [("Triton's soft-DTW beside the CPU's", [*run, "benchmarks/soft_dtw_bench.py", "gpu"], 180)] if on_card else []
    )
    most_s = 180 if on_card else 1200  # a CPU is in no hurry, and may have others to serve
    return [("tests of the kernels", tests, most_s), *beside, ("one training", [*run, *training], most_s + 20)]


def main():
    """Runs the parts one by one and says what held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), help="default: the card where there is one")
    parser.add_argument("--train", type=int, metavar="STEPS", help="only the training, of so many steps")
    parser.add_argument("--size", default="demo", choices=("demo", "gpu", "paper"))
    given = parser.parse_args()
    import torch

    device = given.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("no graphics card here: give --device cpu")
    if given.train:
        train(device, given.train, given.size)
    said, failed = [], 0
    for name, command, most_s in parts(device):
        began = time.monotonic()
        try:
            done = subprocess.run(command, cwd=ROOT, timeout=most_s, capture_output=True, text=True)
            held, lines = done.returncode == 0, (done.stdout.strip() or done.stderr.strip()).splitlines()
        except subprocess.TimeoutExpired:
            held, lines = False, [f"was not done after {most_s} s"]
        failed += not held
        said.append(
            f"{'held  ' if held else 'FAILED'} {name}, {time.monotonic() - began:.0f} s: {lines[-1] if lines else ''}"
        )
        print("\n".join(lines if not held or "beside" in name else []), said[-1], sep="\n", flush=True)
    print(f"\non {torch.cuda.get_device_name() if device == 'cuda' else 'the CPU'}:", *said, sep="\n")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
