"""One step of the paper's training, as the formulas have it and as `fit` does it: losses, operations, time, share of peak, profile.

    python benchmarks/training_step.py                                       a chunk and a pair on one CPU core, minutes
    python benchmarks/training_step.py --device cuda --batch 64 --steps 30   a graphics card in bf16, under ten minutes

Rows: plain (each term from its own formula), shared (each translation once, the rest as plain), fast (`fit`). On a CPU the time is the
process's own, which other programs do not disturb; on a graphics card it is the wall's over many steps.
"""

import argparse
import json
import platform
import time
from dataclasses import replace
from pathlib import Path

import torch

from amt_nb.transcription.cycle import CycleConfig, CycleObjective
from amt_nb.transcription.step_speed import TURNS, RandomChunks, clock_of, count_steps, cycle_models, fast_train
from amt_nb.transcription.step_speed import plain_losses, plain_train
from amt_nb.transcription.training import TrainConfig, make_fabric


def arguments():
    """What to measure, from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="paper", choices=("demo", "gpu", "paper"))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--batch", type=int, default=1, help="unpaired chunks a step, and as many pairs")
    parser.add_argument("--frames", type=int, default=256, help="of a chunk; 256 is the paper's")
    parser.add_argument("--steps", type=int, default=4, help="measured, after two that are not")
    parser.add_argument(
        "--precision", choices=("32-true", "bf16-mixed"), help="default: bf16-mixed on cuda, else 32-true"
    )
    parser.add_argument("--threads", type=int, default=1, help="of a CPU")
    parser.add_argument("--channels", default="auto", choices=("auto", "yes", "no"), help="whether they lie last")
    parser.add_argument("--only", nargs="+", default=["plain", "shared", "fast"], choices=("plain", "shared", "fast"))
    parser.add_argument("--no-profile", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep what was measured")
    return parser.parse_args()


def peak_flop_s(device: str, precision: str) -> float:
    """Operations a second of a large product of matrices, the most that nets can hope for; a multiply-add counts as two."""
    n, kind = (8192, torch.bfloat16) if device == "cuda" else (2048, torch.float32)
    kind = torch.bfloat16 if precision == "bf16-mixed" else kind if device == "cpu" else torch.float32
    a, b, clock, best = torch.randn(n, n).to(device, kind), torch.randn(n, n).to(device, kind), clock_of(device), 1e9
    for _ in range(5):
        start = clock()
        a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, clock() - start)
    return 2 * n**3 / best


def shared_losses(config: CycleConfig) -> dict:
    """Losses for `plain_train`: every translation once, opponents frozen; encoder, optimiser, read-outs stay plain."""
    objective = CycleObjective(config)

    def alone(turn, loss):
        def with_frozen_opponents(models, batch, step):
            for other, names in TURNS.items():
                for name in names:
                    models[name].requires_grad_(other == turn)
            return loss(models, batch, step)

        return with_frozen_opponents

    return {"G": alone("G", objective.generator_loss), "D": alone("D", objective.discriminator_loss)}


def measured(name, args, config, every):
    """(losses by step, mean and least seconds a step) of one row; every chunk has been encoded before what is measured."""
    batches, cycle = RandomChunks(args.batch, 2 * args.batch, args.frames), CycleConfig(pool_size=2 * args.batch)
    models, steps = cycle_models(args.size), config.steps
    if name == "fast":
        losses, ends = fast_train(models, batches, config, cycle, make_fabric(config))
        whole, per = ends[1:], every
    else:
        of = plain_losses(cycle) if name == "plain" else shared_losses(cycle)
        losses, ends = plain_train(models, batches, config, of, steps, args.device)
        whole, per = ends[1::every] if every > 1 else ends[1:], every
    between = [(b - a) / per for a, b in zip(whole, whole[1:])]
    return losses, sum(between) / len(between), min(between)


def profile(args, config):
    """Where the time of a fast step goes: the ten operators that take longest."""
    activity = torch.profiler.ProfilerActivity
    kinds = [activity.CPU] + [activity.CUDA] * (args.device == "cuda")
    with torch.profiler.profile(activities=kinds) as found:
        measured("fast", args, replace(config, steps=3, record_every=1), 1)
    by = "self_cuda_time_total" if args.device == "cuda" else "self_cpu_time_total"
    return found.key_averages().table(sort_by=by, row_limit=12, max_name_column_width=40)


def waits(args, config) -> int:
    """How often the host waited for the graphics card in twenty fast steps that record nothing."""
    import warnings

    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        measured("fast", args, replace(config, steps=20, record_every=20), 20)
    torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(w.message) for w in seen)


def main():
    """Measures and prints."""
    args = arguments()
    torch.set_num_threads(args.threads)
    precision = args.precision or ("bf16-mixed" if args.device == "cuda" else "32-true")
    every = 1 if args.device == "cpu" else max(1, args.steps // 3)
    config = TrainConfig(
        steps=2 + args.steps if every == 1 else every * (2 + args.steps // every),
        warmup_steps=1,
        record_every=every,
        ema_start=0,
        ema_every=10,
        accelerator=args.device,
        precision=precision,
        channels_last=args.channels,
        prefetch=2 if args.device == "cuda" else 0,
    )
    machine = torch.cuda.get_device_name() if args.device == "cuda" else platform.processor() or platform.machine()
    counted = {k: sum(v.values()) for k, v in count_steps(args.size).items()}
    counted["shared"] = counted["fast"] + (0.0237 if args.size == "paper" else 0.0)
    peak = peak_flop_s(args.device, precision)
    print(f"{machine}, torch {torch.__version__}, {precision}, batch {args.batch}, {args.frames} frames, [{args.size}]")
    print(f"a product of matrices: {peak / 1e12:.3f} TFLOP/s")
    rows = {}
    for name in args.only:
        losses, mean_s, best_s = measured(name, args, config, every)
        tflop = counted[name] * args.batch * args.frames / 256
        rows[name] = dict(losses=losses, mean_s=mean_s, best_s=best_s, tflop=tflop, share=tflop * 1e12 / best_s / peak)
        told = (
            f"{mean_s:8.3f} s a step (least {best_s:.3f}), {tflop:.3f} TFLOP, {rows[name]['share']:.0%} of that product"
        )
        print(f"{name:6} {told}", flush=True)
    if every == 1 and len(rows) > 1:
        names = list(rows)
        pairs = [
            (a[k], b[k]) for n in names[1:] for a, b in zip(rows[names[0]]["losses"], rows[n]["losses"]) for k in "GD"
        ]
        print(
            f"totals of both turns over {config.steps} steps: at most {max(abs(a / b - 1) for a, b in pairs):.1e} apart"
        )
    if "fast" in rows:
        for name in rows:
            print(f"{name} / fast: {rows[name]['best_s'] / rows['fast']['best_s']:.2f}")
    if args.device == "cuda":
        print(
            f"most memory: {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB; waits in 20 steps: {waits(args, config)}"
        )
    if not args.no_profile:
        print(profile(args, config))
    if args.json:
        told = vars(args) | {"json": str(args.json), "machine": machine, "peak_flop_s": peak, "rows": rows}
        args.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    started = time.monotonic()
    main()
    print(f"{time.monotonic() - started:.0f} s in all")
